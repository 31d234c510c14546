"""PNG, JPEG, WebP and BMP pictures: one level, decoded whole at the first read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import SlideError
from napari_plimseg.reading import open_picture, orientation_of, upright
from napari_plimseg.slides.color import ColorTable, refuse
from napari_plimseg.slides.slide import Level, Slide

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image


_REMEDY = (
    "Convert it to a tiled pyramidal TIFF, for example with: "
    "vips tiffsave in.png out.tif --tile --pyramid --compression jpeg."
)
_TABLES = {
    "RGB": ColorTable("rgb"),
    "RGBX": ColorTable("rgbx"),
    "RGBA": ColorTable("rgba"),
    "RGBa": ColorTable("rgba premultiplied"),
    "L": ColorTable("gray"),
    "1": ColorTable("gray", 1),
    "LA": ColorTable("gray alpha"),
    "I;16": ColorTable("gray", 16),
    "I;16L": ColorTable("gray", 16),
    "I;16B": ColorTable("gray", 16),
    "I;16N": ColorTable("gray", 16),
}
_REASONS = {
    "CMYK": "its colors are CMYK, for printing",
    "LAB": "its colors are CIELab",
    "HSV": "its colors are HSV",
    "F": "its samples are floating-point numbers, which have no fixed black and white",
    "I": "its samples have 32 bits; up to 16 are known",
}


class PictureSlide(Slide):
    """A picture without levels and without a pixel size: dpi is for printers.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        PNG, JPEG, WebP or BMP.
    notes : tuple of str
        What is odd about the file.
    """

    def __init__(self, path: Path, kind: str, *, notes: tuple[str, ...] = ()) -> None:
        with _opened(path) as image:
            width, height = image.size
            has_palette = image.mode in ("P", "PA")
            # a palette may hold transparent colors
            mode = "RGBA" if image.mode == "PA" or "transparency" in image.info else image.mode
            self._mode = "RGB" if mode == "P" else mode
            frames = getattr(image, "n_frames", 1)
            self._stored_shape = height, width
            self._orientation = orientation_of(image)
        if self._mode not in _TABLES:
            raise refuse(
                path,
                _REASONS.get(self._mode, f"its color mode is {self._mode}"),
                "Save it as 8-bit RGB.",
            )
        self._table = _TABLES[self._mode]
        self._pixels: NDArray[np.uint8] | None = None
        self._decode_lock = threading.Lock()
        if has_palette:
            notes += ColorTable("palette").notes
        shape = (width, height) if self._orientation >= 5 else (height, width)
        if self._orientation > 1:
            notes += ("Its EXIF says that it was turned; it is shown upright.",)
        if frames > 1:
            notes += (f"The first of {frames} frames is shown.",)
        super().__init__(
            path,
            (Level(shape, 1.0, shape),),
            mpp=None,
            format_name=f"{kind} picture",
            notes=(*notes, *self._table.notes),
        )

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        with self._decode_lock:
            if self._pixels is None:
                self._pixels = self._decoded()
        return self._pixels[y : y + height, x : x + width].copy()

    def _decoded(self) -> NDArray[np.uint8]:
        with _opened(self.path) as image:
            image.load()
            if image.size != self._stored_shape[::-1]:
                raise SlideError("it changed after it was opened", path=self.path)
            samples: NDArray[Any] = np.asarray(
                image if image.mode == self._mode else image.convert(self._mode)
            )
        pixels = self._table.to_rgb(samples.reshape(*self._stored_shape, -1))
        return np.ascontiguousarray(upright(pixels, self._orientation))

    def _close(self) -> None:
        self._pixels = None


def _opened(path: Path) -> Image.Image:
    formats = ("PNG", "JPEG", "WEBP", "BMP")
    return open_picture(path, SlideError, formats=formats, becomes_rgb=True, remedy=_REMEDY)
