"""NDPI, MRXS, SCN, BIF, VMS, DICOM WSI, Philips TIFF: the formats that only OpenSlide reads."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.metadata import pyramid_of, square
from napari_plimseg.slides.slide import WHITE, Region, Slide, reason_of
from napari_plimseg.slides.validation import (
    KNOWN_FORMATS,
    NDPI_FILTER_SET,
    check_dicom,
    check_segment,
    dicom_files,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.slides.validation import Directory


_BLOCK = 4096
_NAMES = {
    "hamamatsu": "Hamamatsu", "mirax": "MIRAX", "leica": "Leica SCN", "ventana": "Ventana BIF",
    "dicom": "DICOM WSI", "philips": "Philips TIFF", "trestle": "Trestle", "sakura": "Sakura",
    "zeiss": "Zeiss CZI", "aperio": "Aperio SVS", "generic-tiff": "TIFF",
}  # fmt: skip


class OpenSlideSlide(Slide):
    """A slide that OpenSlide reads.

    Parameters
    ----------
    path : Path
        A file; TIFF dialects have been checked by `check_tiff`.
    directories : sequence of Directory
        What `check_tiff` found in a TIFF dialect.
    """

    def __init__(self, path: Path, *, directories: Sequence[Directory] = ()) -> None:
        import openslide

        try:
            handle = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise SlideError(
                "OpenSlide does not know it as a slide",
                path=path,
                remedy=f"Known: {KNOWN_FORMATS}.",
            ) from error
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"OpenSlide refuses it ({reason_of(error, path)})",
                path=path,
                remedy="Is it a whole-slide image, complete with all its files?",
            ) from error
        try:
            properties = handle.properties
            shapes = [(height, width) for width, height in handle.level_dimensions]
            tile_shapes = [_tile_shape(path, properties, i) for i in range(len(shapes))]
            indices, levels = pyramid_of(shapes, tile_shapes)
            mpp, not_square = square(
                _number(properties, "openslide.mpp-y"), _number(properties, "openslide.mpp-x")
            )
            filter_set = directories[0].text(NDPI_FILTER_SET).strip() if directories else ""
            vendor = properties.get("openslide.vendor", "")
            notes: list[str] = []
            if filter_set:
                notes.append(f"Fluorescence (filter set {filter_set}): for viewing only.")
            super().__init__(
                path,
                levels,
                mpp=mpp,
                format_name=_NAMES.get(vendor, vendor.capitalize()),
                bounds=_bounds(properties, shapes[0]),
                notes=tuple(notes),
                not_square=not_square,
            )
        except BaseException:
            handle.close()
            raise
        if filter_set:
            self._file_says_brightfield = False
        self._file = path  # of a folder of DICOM files, the one that was opened
        self._file_levels = indices
        self._file_downsamples = [float(handle.level_downsamples[i]) for i in indices]
        self._handle: Any = handle
        self._handle_lock = threading.Lock()

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        import openslide

        out = np.empty((height, width, 3), np.uint8)
        handle = self._handle
        try:
            for top in range(0, height, _BLOCK):
                for left in range(0, width, _BLOCK):
                    part = out[top : top + _BLOCK, left : left + _BLOCK]
                    part[...] = self._block(handle, level, y + top, x + left, part.shape)
        except openslide.OpenSlideError:
            # after one failed read an OpenSlide handle fails forever
            with self._handle_lock, contextlib.suppress(openslide.OpenSlideError):
                if self._handle is handle:
                    self._handle = openslide.OpenSlide(self._file)
            raise
        return out

    def _block(
        self, handle: Any, level: int, y: int, x: int, shape: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        downsample = self._file_downsamples[level]
        corner = round(x * downsample), round(y * downsample)
        image = handle.read_region(corner, self._file_levels[level], (shape[1], shape[0]))
        pixels = np.asarray(image)  # (h, w, 4), alpha not premultiplied
        alpha = pixels[..., 3:]
        if alpha.min() == WHITE:
            return pixels[..., :3]
        wide = alpha.astype(np.uint16)
        over = (pixels[..., :3] * wide + WHITE * (WHITE - wide) + 127) // 255
        return over.astype(np.uint8)

    def _close(self) -> None:
        self._handle.close()


def open_dicom_folder(folder: Path) -> OpenSlideSlide:
    """Open the whole-slide image whose DICOM files are in a folder.

    OpenSlide finds the other files of a slide. Labels and plain DICOM are skipped.

    Raises
    ------
    SlideError
        When no file in the folder opens as a slide.
    """
    reason: SlideError | None = None
    for path in dicom_files(folder):
        try:
            check_dicom(path)
            slide = OpenSlideSlide(path)
        except SlideError as error:
            reason = error
            continue
        slide.path = folder
        return slide
    raise SlideError(
        f"none of its DICOM files opens as a whole slide{f' ({reason.problem})' if reason else ''}",
        path=folder,
        remedy="Choose a folder with all files of one slide.",
    ) from reason


def _number(properties: Mapping[str, str], key: str) -> float | None:
    try:
        return float(properties[key])
    except (KeyError, ValueError):
        return None


def _tile_shape(path: Path, properties: Mapping[str, str], level: int) -> tuple[int, int]:
    height = int(_number(properties, f"openslide.level[{level}].tile-height") or 512)
    width = int(_number(properties, f"openslide.level[{level}].tile-width") or 512)
    if min(height, width) < 1:
        raise SlideError(f"level {level} is stored in tiles without pixels", path=path)
    what = f"level {level} is stored in tiles of {height} x {width} pixels, each of"
    check_segment(path, height * width * 4, what)
    return height, width


def _bounds(properties: Mapping[str, str], shape: tuple[int, int]) -> Region | None:
    sides = [_number(properties, f"openslide.bounds-{n}") for n in ("y", "x", "height", "width")]
    y, x, height, width = sides
    if y is None or x is None or not height or not width or min(height, width) <= 0:
        return None
    inside = y >= 0 and x >= 0 and y + height <= shape[0] and x + width <= shape[1]
    return Region(y, x, height, width) if inside else None
