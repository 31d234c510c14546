"""Scenes from pictures with manually outlined objects, such as the glands of GlaS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hint_model.scenes import IDS_STEP, SIDE, scene_of
from PIL import Image

from napari_plimseg.slides import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hint_model.scenes import Scene

GLAS_MPP = 0.62
GLAS_VALIDATION = ("3", "5", "7")  # patients


def glas_pictures(folder: Path, *, validation: bool) -> list[tuple[Path, Path]]:
    """Return pictures and outlines of the training patients, or of the others."""
    rows = [line.split(",") for line in (folder / "Grade.csv").read_text("utf-8").splitlines()[1:]]
    names = [row[0] for row in rows if (row[1].strip() in GLAS_VALIDATION) == validation]
    found = []
    for name in names:
        picture = next((folder / "img").glob(f"{name}.*"), None)
        if picture is not None:
            found.append((picture, folder / "instances" / f"{name}.png"))
    return found


def outlined_scenes(
    pictures: Sequence[tuple[Path, Path]], mpp: float, each: int, random: np.random.Generator
) -> Iterator[Scene]:
    """Yield fields around random positions of pictures, white beyond their edges.

    Parameters
    ----------
    pictures : sequence of (Path, Path)
        Files of a picture and of its objects' ids.
    mpp : float
        Pixel size of both.
    each : int
        Fields per picture.
    random : Generator
    """
    for picture, outlines in pictures:
        ids = np.asarray(Image.open(outlines))
        with open_slide(picture) as slide:
            for _ in range(each):
                downsample = float(random.choice([0.7, 1.0, 1.0, 1.4])) / mpp
                y, x = (int(random.uniform(0.25, 0.75) * n / downsample) - SIDE for n in ids.shape)
                pixels = slide.read_at(downsample, y, x, 2 * SIDE, 2 * SIDE)
                rows, columns = (
                    ((np.arange(SIDE) * IDS_STEP + IDS_STEP / 2 + start) * downsample).astype(int)
                    for start in (y, x)
                )
                inside = np.logical_and.outer(
                    (rows >= 0) & (rows < ids.shape[0]), (columns >= 0) & (columns < ids.shape[1])
                )
                rows, columns = rows.clip(0, ids.shape[0] - 1), columns.clip(0, ids.shape[1] - 1)
                layer = np.where(inside, ids[np.ix_(rows, columns)], 0)
                yield scene_of(pixels, layer[None].astype(np.uint8), picture.name)
