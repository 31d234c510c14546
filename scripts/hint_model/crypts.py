"""Scenes of real crypts: tiles of LC25000 side by side, with outlines of 198 crypts.

`crypts.json` has each crypt as a closed line of (x, y) in pixels of its tile (224 px). An ellipse
was drawn around each by eye, and then fitted to the outer edge of the dark rim of nuclei: the best
closed path through 72 rays, smooth from ray to ray. Tiles of other tissue, and glass, are between.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hint_model.scenes import IDS_STEP, SIDE, scene_of
from PIL import Image, ImageDraw

from plimseg_training.stages import stain_jitter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hint_model.scenes import Scene
    from numpy.typing import NDArray

OUTLINES = Path(__file__).with_name("crypts.json")
TILE = 224
SCALES = (0.7, 1.0, 1.0, 1.4)  # scene pixels per tile pixel, which is about 1 um
CRYPTS, OTHERS = 0.8, 0.1  # shares of the cells; the rest is glass
FEW = 0.4  # share of scenes that are mostly glass, as at the edge of a section
_MOST = 255


def crypts(folder: Path, count: int, random: np.random.Generator) -> Iterator[Scene]:
    """Yield scenes of tiles from the folders `colon_n` and `colon_aca` of LC25000.

    Parameters
    ----------
    folder : Path
        LC25000.
    count : int
        Number of scenes.
    random : Generator
    """
    outlines = json.loads(OUTLINES.read_text("utf-8"))
    known = [(_tile(folder / "colon_n" / name), lines) for name, lines in outlines.items()]
    others = [_tile(path) for path in sorted((folder / "colon_aca").iterdir())]
    for _ in range(count):
        yield _scene(known, others, random)


def _tile(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _scene(
    known: list[tuple[Image.Image, list[list[tuple[int, int]]]]],
    others: list[Image.Image],
    random: np.random.Generator,
) -> Scene:
    side = 2 * SIDE
    cell = round(TILE * float(random.choice(SCALES)))
    field = Image.new("RGB", (side, side), (int(random.integers(225, 250)),) * 3)
    ids = np.zeros((side, side), np.uint8)
    few = random.random() < FEW
    start = -int(random.integers(0, cell))
    corners = range(start, side, cell)
    number = 0
    for y in corners:
        for x in corners:
            middle = max(abs(y + cell / 2 - SIDE), abs(x + cell / 2 - SIDE))
            if few and middle > max(cell, SIDE / 2):
                continue
            draw = random.random()
            if draw >= CRYPTS + OTHERS:
                continue
            lines: list[list[tuple[int, int]]] = []
            if draw < CRYPTS:
                tile, lines = known[int(random.integers(len(known)))]
            else:
                tile = others[int(random.integers(len(others)))]
            turns, mirrored = int(random.integers(4)), bool(random.random() < 0.5)
            pixels = _moved(np.asarray(tile.resize((cell, cell))), turns, mirrored)
            field.paste(Image.fromarray(pixels), (x, y))
            labels = _moved(_labels(lines, cell), turns, mirrored)
            labels = np.where(labels > 0, labels + number, 0)
            window, cut = _inside(y, x, cell, side)
            if labels.max() <= _MOST:
                ids[window] = labels[cut]
                number += len(lines)
    unit = torch.from_numpy(np.asarray(field).copy()).permute(2, 0, 1).float() / 255
    pixels = (stain_jitter(unit, random) * 255).round().byte().permute(1, 2, 0).numpy()
    return scene_of(pixels, ids[None, ::IDS_STEP, ::IDS_STEP].copy(), "crypts")


def _labels(lines: list[list[tuple[int, int]]], cell: int) -> NDArray[np.intp]:
    """Return the labels of the crypts (cell, cell), from 1 on."""
    image = Image.new("I", (cell, cell))
    drawing = ImageDraw.Draw(image)
    for number, line in enumerate(lines, 1):
        drawing.polygon([(x * cell / TILE, y * cell / TILE) for x, y in line], fill=number)
    return np.asarray(image).astype(np.intp)


def _moved(pixels: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    turned = np.rot90(pixels, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _inside(
    y: int, x: int, cell: int, side: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return a cell's position in the field, and its visible part."""
    spans = [(max(0, start), min(side, start + cell)) for start in (y, x)]
    window = tuple(slice(a, b) for a, b in spans)
    cut = tuple(slice(a - start, b - start) for (a, b), start in zip(spans, (y, x), strict=True))
    return (window[0], window[1]), (cut[0], cut[1])
