"""Masks and their descriptions for the tests of measures and exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.slides.slide import Level, Region, Slide
from napari_plimseg.tissue import COLORECTAL, TissueClasses

if TYPE_CHECKING:
    from numpy.typing import NDArray

AWKWARD = {
    "one pixel": ["1"],
    "one row": ["1120"],
    "one column": ["1", "2", "2"],
    "all one class": ["33", "33"],
    "nothing computed": ["00", "00"],
    "hole": ["1111", "1001", "1021", "1111"],
    "two holes that touch at a corner": ["11111", "10111", "11011", "11111"],
    "diagonal pixels": ["101", "010", "101"],
    "diagonal of two classes": ["12", "21"],
    "hole at the border": ["110", "101", "111"],
    "unreadable": ["1#1", "###", "921"],
    "ring in a ring": ["1111111", "1000001", "1011101", "1010101", "1011101", "1000001", "1111111"],
    "staircase": ["1000", "1100", "0110", "0011"],
}
"""Masks drawn with digits; '#' is 255."""


def drawn(rows: list[str]) -> NDArray[np.uint8]:
    return np.array([[255 if c == "#" else int(c) for c in row] for row in rows], np.uint8)


def info_for(
    mask: NDArray[np.uint8],
    *,
    downsample: float = 4.0,
    mpp: float | None = 0.25,
    corner: tuple[float, float] = (0, 0),
    classes: TissueClasses = COLORECTAL,
    slide_shape: tuple[int, int] | None = None,
    name: str = "case 7.svs",
) -> MaskInfo:
    height, width = slide_shape or tuple(int(np.ceil(n * downsample)) for n in mask.shape)
    return MaskInfo(
        slide_name=name,
        slide_fingerprint="f00d",
        slide_shape=(height, width),
        bounds=Region(*corner, height, width),
        mpp=mpp,
        shape=(mask.shape[0], mask.shape[1]),
        downsample=downsample,
        classes=classes,
        model_name="small model",
        model_identity="beef",
    )


def blobs(shape: tuple[int, int], seed: int = 0, *, count: int = 9) -> NDArray[np.uint8]:
    """Return smooth regions of `count` classes."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    coarse = (shape[0] // 8 + 2, shape[1] // 8 + 2)
    fields = [ndimage.gaussian_filter(rng.standard_normal(coarse), 2) for _ in range(count)]
    fine = [ndimage.zoom(f, 8, order=1)[: shape[0], : shape[1]] for f in fields]
    return (np.argmax(fine, axis=0) + 1).astype(np.uint8)


class PaintedSlide(Slide):
    """A white slide, or one of the given pixels."""

    def __init__(
        self, pixels: NDArray[np.uint8], *, mpp: float | None = 0.25, path: str = "painted.svs"
    ) -> None:
        super().__init__(
            Path(path), (Level(pixels.shape[:2], 1.0),), mpp=mpp, format_name="painted"
        )
        self.pixels = pixels

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        return self.pixels[y : y + height, x : x + width]

    def _close(self) -> None:
        pass
