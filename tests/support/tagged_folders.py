"""Small tagged folders for tests: noise pictures, no two alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

_rng = np.random.default_rng(7)


def picture(path: Path, size: tuple[int, int] = (40, 48), mode: str = "RGB") -> Path:
    """Write a noise picture of (height, width) that no other call writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = _rng.integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def mask(path: Path, values: np.ndarray, palette: list[int] | None = None) -> Path:
    """Write a mask of class numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette is not None:
        image = image.convert("P")
        image.frombytes(values.astype(np.uint8).tobytes())
        image.putpalette(palette)
    image.save(path)
    return path


def named_folder(root: Path, tags: list[str], suffix: str = ".png") -> Path:
    """Write one patch for each tag text, of four slides."""
    for i, text in enumerate(tags):
        picture(root / f"{1000 + i % 4}-{10 * i}-{20 * i}-{text}{suffix}")
    return root


def csv_folder(root: Path, table: str, files: int = 6, encoding: str = "utf-8") -> Path:
    """Write `0.png` to `5.png` and a table."""
    for i in range(files):
        picture(root / f"{i}.png")
    (root / "tags.csv").write_bytes(table.encode(encoding))
    return root


def good_rows(files: int = 6) -> str:
    """Return rows for `csv_folder` with two classes."""
    return "".join(f"{i}.png,{i % 2},{1 - i % 2}\n" for i in range(files))
