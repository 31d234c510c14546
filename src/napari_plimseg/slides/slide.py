"""`Slide`: levels of pixels, a pixel size, and reading at any resolution."""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix

from napari_plimseg import limits
from napari_plimseg.errors import SlideError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray


def resampling_weights(ratio: float, start: int, count: int) -> tuple[csr_matrix, int, int]:
    """Return weights with which outputs average fine pixels along one axis, and the fine window.

    Outputs at least as large as the inputs average by overlap; smaller ones interpolate linearly.
    The weights of an output pixel depend on its own global position only.

    Parameters
    ----------
    ratio : float
        Fine pixels per output pixel.
    start, count : int
        The outputs, in pixels of the output.

    Returns
    -------
    weights : csr_matrix of float32, shape (count, fine_count)
    fine_start, fine_count : int
        The fine pixels that take part.
    """
    index = np.arange(start, start + count, dtype=np.float64)
    if ratio >= 1:
        lower, upper = index * ratio, (index + 1) * ratio
        first = np.floor(lower + 1e-9).astype(np.int64)
        reach = int(np.ceil(ratio)) + 1
        taps = first[:, None] + np.arange(reach)
        weights = np.minimum(taps + 1, upper[:, None]) - np.maximum(taps, lower[:, None])
        weights = np.clip(weights, 0, None)
    else:
        center = (index + 0.5) * ratio - 0.5
        first = np.floor(center).astype(np.int64)
        taps = first[:, None] + np.arange(2)
        weights = np.clip(1 - np.abs(center[:, None] - taps), 0, None)
    weights /= weights.sum(1, keepdims=True)
    fine_start = int(taps.min())
    fine_count = int(taps.max()) - fine_start + 1
    rows = np.repeat(np.arange(count), taps.shape[1])
    matrix = csr_matrix(
        (weights.ravel().astype(np.float32), (rows, (taps - fine_start).ravel())),
        shape=(count, fine_count),
    )
    return matrix, fine_start, fine_count


MPP_RANGE = (0.05, 20.0)
"""Pixel sizes in um/px outside this range count as unknown, such as the dpi of printers."""
WHITE = 255
UNSCANNED = 8
"""The brightest channel of parts that were not scanned and are stored as black; some compress it
with loss. Stained tissue is never as dark, nor are dust and pens."""
_MOSTLY = 0.5
_SNAP = 0.10
_SAME = 1e-3
_SAME_MPP = 0.02  # people type 0.25 for 0.2527
_READ_LIMIT = 32_000_000
_DARK = 40
_STAINED_BRIGHTEST, _STAINED_DARKEST = 100, 60
_FEW_PIXELS = 16
_SMALL_LEVEL = 8_000_000
_LARGE = 100_000_000
_SPARSE = 0.5


@dataclass(frozen=True)
class Region:
    """A rectangle in level-0 pixels.

    Parameters
    ----------
    y, x : float
        Upper left corner.
    height, width : float
        Size; both above zero.
    """

    y: float
    x: float
    height: float
    width: float

    def __post_init__(self) -> None:
        if not (self.height > 0 and self.width > 0):
            raise SlideError(f"the region {self} is empty", remedy="Give a height and a width.")


@dataclass(frozen=True)
class Level:
    """One level of a slide's pyramid.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    downsample : float
        Level-0 pixels per pixel of this level, at least 1; not always an integer.
    tile_shape : tuple of int
        The block (y, x) that the file decodes as a whole; reading whole blocks is fastest.
    """

    shape: tuple[int, int]
    downsample: float
    tile_shape: tuple[int, int] = (512, 512)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.downsample < 1:
            raise SlideError(f"a level of {self.shape} pixels at downsample {self.downsample}")


class PixelSizeConflict(SlideError):
    """The user and the file name different pixel sizes."""


class Slide(ABC):
    """An opened slide: pyramid levels of 8-bit RGB.

    `open_slide` makes it. Several threads may read at once.

    Parameters
    ----------
    path : Path
        The file or folder.
    levels : tuple of Level
        Finest first.
    mpp : float or None
        Micrometers per pixel at level 0; None when the file has none. Never guessed.
    bounds : Region, optional
        The scanned part in level-0 pixels, the whole level when the file gives none.
    format_name : str
        Kind of file, for people.
    notes : tuple of str
        What was converted to get 8-bit RGB, and what else is unusual, as sentences for people.
    not_square : str or None
        A sentence when the file's pixels are not square; they have no single size then.
    """

    def __init__(
        self,
        path: Path,
        levels: tuple[Level, ...],
        *,
        mpp: float | None,
        format_name: str,
        bounds: Region | None = None,
        notes: tuple[str, ...] = (),
        not_square: str | None = None,
    ) -> None:
        self.path = path
        self.levels = levels
        self._file_mpp = usable_mpp(mpp)
        self._given_mpp: float | None = None
        self.format_name = format_name
        self.bounds = bounds or Region(0, 0, *levels[0].shape)
        if len(levels) == 1 and levels[0].shape[0] * levels[0].shape[1] > _LARGE:
            notes += ("It has no pyramid: showing the whole slide reads the whole file.",)
        self.notes = (*notes, not_square) if not_square else notes
        self._not_square = not_square
        self._file_says_brightfield: bool | None = None
        self._closed = False
        self._reading = 0
        self._idle = threading.Condition()

    @property
    def name(self) -> str:
        """File name without the folders; bytes in it that are no text appear as numbers."""
        return os.fsencode(self.path.name).decode("utf-8", "backslashreplace")

    @property
    def shape(self) -> tuple[int, int]:
        """Level-0 pixels (y, x)."""
        return self.levels[0].shape

    @property
    def mpp(self) -> float | None:
        """Micrometers per level-0 pixel: the user's value, else the file's, else None."""
        return self._given_mpp if self._given_mpp is not None else self._file_mpp

    @mpp.setter
    def mpp(self, value: float | None) -> None:
        if value is not None and usable_mpp(value) is None:
            low, high = MPP_RANGE
            raise SlideError(
                f"{value} um/px is not a pixel size between {low} and {high}", path=self.path
            )
        if value is not None and self._not_square:
            raise _no_size(self)
        self._given_mpp = value

    def give_mpp(self, mpp: float, *, override: bool = False) -> None:
        """Set the pixel size of a slide whose file has none.

        Parameters
        ----------
        mpp : float
            Micrometers per level-0 pixel.
        override : bool
            Whether it replaces another size in the file.

        Raises
        ------
        SlideError
            When it is out of range, or the file says otherwise and that is not overridden.
        """
        if override:
            self._not_square = None
            self.mpp = mpp
        elif self._file_mpp is None:
            self.mpp = mpp
        elif abs(mpp / self._file_mpp - 1) > _SAME_MPP:
            raise PixelSizeConflict(
                f"its file says {self._file_mpp:.4g} um per pixel, not {mpp:.4g}",
                path=self.path,
                remedy="Leave the pixel size out, or replace the file's "
                "(--override-mpp, override_mpp=True).",
            )

    @property
    def mpp_is_given(self) -> bool:
        """Whether the pixel size comes from the user and not from the file."""
        return self._given_mpp is not None

    @cached_property
    def is_brightfield(self) -> bool:
        """Whether this looks like light through a stained section, as models expect.

        False when the file names a fluorescence filter, or when a small thumbnail is black but
        for a few colored spots, not light ones. Such slides are for viewing only.
        """
        if self._file_says_brightfield is not None:
            return self._file_says_brightfield
        try:
            small = _small_picture(self)
        except SlideError:
            return True  # callers that need the pixels report what can't be read
        brightest, darkest = small.max(2), small.min(2)
        is_dark = np.median(brightest) < _DARK and np.percentile(darkest, 90) < 2 * _DARK
        return not is_dark or _is_stained(small)

    @abstractmethod
    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return (height, width, 3) RGB of a window inside the level."""

    def _stored_tiles(self, level: int) -> NDArray[np.bool_] | None:
        """Return which tiles (rows, columns) of a level the file holds; None when all."""
        return None

    @abstractmethod
    def _close(self) -> None:
        """Release files."""

    def read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Read a window of one level; pixels outside the slide are white.

        Parameters
        ----------
        level : int
            0 is the finest.
        y, x, height, width : int
            The window in pixels **of that level**.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)

        Raises
        ------
        SlideError
            When the slide is closed or its bytes can't be decoded, whatever the decoder raised.
        """
        with self._idle:
            if self._closed:
                raise SlideError("it is closed", path=self.path, remedy="Open it again.")
            self._reading += 1
        try:
            return self._read_over_white(level, y, x, height, width)
        finally:
            with self._idle:
                self._reading -= 1
                self._idle.notify_all()

    def _read_over_white(
        self, level: int, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        rows, columns = self.levels[level].shape
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + height, rows), min(x + width, columns)
        self._check_at_once(height, width)
        if bottom <= top or right <= left:
            return np.full((height, width, 3), WHITE, np.uint8)
        try:
            inside = self._read_level(level, top, left, bottom - top, right - left)
        except SlideError:
            raise
        except MemoryError as error:
            raise SlideError(
                "there is not enough memory to read a part of it",
                path=self.path,
                remedy="Close other programs.",
            ) from error
        except Exception as error:  # decoders raise anything; this is the boundary
            raise SlideError(
                f"a part at y={top}, x={left} of level {level} can't be read "
                f"({reason_of(error, self.path)})",
                path=self.path,
                remedy="The file may be damaged or incomplete; copy it again from the scanner.",
            ) from error
        if inside.shape[:2] == (height, width):
            return inside
        whole = np.full((height, width, 3), WHITE, np.uint8)
        whole[top - y : bottom - y, left - x : right - x] = inside
        return whole

    def _check_at_once(self, height: int, width: int) -> None:
        what = f"{height:,} x {width:,} pixels at once decode to"
        limits.check(SlideError, "slide-read-bytes", 3 * height * width, path=self.path, what=what)

    def read_at(
        self, downsample: float, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        """Read a window of the virtual level with any downsample.

        Pixel `k` of that level covers level-0 pixels `[k * downsample, (k + 1) * downsample)`, so
        its color does not depend on the window that it is read with.

        Parameters
        ----------
        downsample : float
            Level-0 pixels per pixel; below 1 magnifies.
        y, x, height, width : int
            The window in pixels of the virtual level.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
        """
        self._check_at_once(height, width)
        level, ratio = self._level_for(downsample)
        if abs(ratio - 1) <= _SAME:
            return self.read_level(level, y, x, height, width)
        window = [
            min(size, (start + count) * ratio) - max(0, start * ratio)
            for size, start, count in zip(
                self.levels[level].shape, (y, x), (height, width), strict=True
            )
        ]
        size = 3 * max(0, window[0]) * max(0, window[1])
        if ratio >= 2 and size > limits.get("slide-read-bytes") and self.is_sampled(level):
            return self.read_overview(downsample, y, x, height, width)
        rows_at_once = max(1, int(_READ_LIMIT / max(1.0, ratio * ratio * width)))
        strips = [
            self._resampled(level, ratio, y + start, x, min(rows_at_once, height - start), width)
            for start in range(0, height, rows_at_once)
        ]
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def _level_for(self, downsample: float) -> tuple[int, float]:
        """Return the level to read from, and its pixels per pixel of a virtual level and side."""
        level = max(
            (i for i, lv in enumerate(self.levels) if lv.downsample <= downsample * (1 + _SAME)),
            key=lambda i: self.levels[i].downsample,
            default=0,
        )
        return level, downsample / self.levels[level].downsample

    def read_overview(
        self, downsample: float, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        """Read a window as `read_at` does, in bounded time also where a level is missing.

        Of a level beyond the limit "slide-read-bytes", evenly spaced tiles are read, and the
        pixels between get the color of the nearest one. Parts that a sparse file does not hold are
        white and cost nothing.

        Parameters
        ----------
        downsample, y, x, height, width
            As of `read_at`.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
        """
        level, ratio = self._level_for(downsample)
        if ratio < 2 or not self.is_sampled(level):
            return self.read_at(downsample, y, x, height, width)
        stored = self._stored_tiles(level)
        return _sampled(self, level, stored, ratio, y, x, height, width)

    def overview_gap(self, downsample: float) -> float:
        """Return how far apart the tiles are that `read_overview` reads, in level-0 pixels."""
        level, ratio = self._level_for(downsample)
        if ratio < 2 or not self.is_sampled(level):
            return 0.0
        stored, tiles = self._stored_tiles(level), self.levels[level].tile_shape
        if stored is None:
            (rows, columns), (tall, wide) = self.levels[level].shape, tiles
            stored = np.ones((-(-rows // tall), -(-columns // wide)), np.bool_)
        steps = _steps(stored, tiles)
        gaps = [(step - 1) * side for step, side in zip(steps, tiles, strict=True)]
        return max(gaps) * self.levels[level].downsample

    def is_sampled(self, level: int = -1) -> bool:
        """Whether overviews from a level read a part of its tiles; the last level by default."""
        level %= len(self.levels)
        rows, columns = self.levels[level].shape
        stored = self._stored_tiles(level)
        share = 1.0 if stored is None else float(stored.mean())
        return 3 * rows * columns * share > limits.get("slide-read-bytes") or share < _SPARSE

    def _resampled(
        self, level: int, ratio: float, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        whole_ratio = round(ratio)
        if whole_ratio >= 2 and abs(ratio - whole_ratio) <= _SAME * ratio:
            k = whole_ratio
            fine = self.read_level(level, y * k, x * k, height * k, width * k)
            sums = fine.reshape(height, k, width, k, 3).sum((1, 3), dtype=np.uint32)
            averaged: NDArray[np.uint8] = ((sums + k * k // 2) // (k * k)).astype(np.uint8)
            return averaged
        rows, top, fine_height = resampling_weights(ratio, y, height)
        columns, left, fine_width = resampling_weights(ratio, x, width)
        fine = self.read_level(level, top, left, fine_height, fine_width)
        half = rows @ fine.reshape(fine_height, -1).astype(np.float32)  # (height, fine_width * 3)
        half = half.reshape(height, fine_width, 3).transpose(1, 0, 2).reshape(fine_width, -1)
        out = (columns @ half).reshape(width, height, 3).transpose(1, 0, 2)
        rounded: NDArray[np.uint8] = np.clip(np.rint(out), 0, 255).astype(np.uint8)
        return rounded

    def working_downsample(self, mpp: float) -> float:
        """Return the downsample at which to work for a model that wants `mpp`.

        A level, or a whole multiple of one, is used when it is within 10 % of the wanted one: its
        pixels need no resampling, so they stay sharp and reading is fast, and 10 % is within the
        variation between scanners.

        Raises
        ------
        SlideError
            When the slide's pixel size is unknown.
        """
        if self.mpp is None:
            raise _no_size(self)
        wanted = mpp / self.mpp
        fits = [lv.downsample for lv in self.levels if lv.downsample <= wanted * (1 + _SNAP)]
        if not fits:
            return wanted
        base = max(fits)
        snapped = base * max(1, round(wanted / base))
        return snapped if abs(snapped - wanted) <= _SNAP * wanted else wanted

    def read(self, region: Region, mpp: float | None = None) -> NDArray[np.uint8]:
        """Read a region of level-0 pixels at a resolution.

        Parameters
        ----------
        region : Region
            In level-0 pixels; may reach beyond the slide, where it is white.
        mpp : float, optional
            Wanted um/px; level 0 as it is when None.

        Returns
        -------
        ndarray of uint8, shape (h, w, 3)
        """
        if mpp is None:
            downsample = 1.0
        elif self.mpp is None:
            downsample = self.working_downsample(mpp)
        else:
            downsample = mpp / self.mpp
        y, x = round(region.y / downsample), round(region.x / downsample)
        height = max(1, round(region.height / downsample))
        width = max(1, round(region.width / downsample))
        return self.read_at(downsample, y, x, height, width)

    def thumbnail(self, max_side: int = 1024) -> NDArray[np.uint8]:
        """Return the whole slide, at most `max_side` pixels a side, as (h, w, 3) RGB."""
        downsample = max(1.0, max(self.shape) / max_side)
        height, width = (max(1, int(side / downsample)) for side in self.shape)
        return self.read_at(downsample, 0, 0, height, width)

    def close(self) -> None:
        """Close the file once no thread reads from it; closing twice does no harm."""
        with self._idle:
            if self._closed:
                return
            self._closed = True
            # a C library must not lose its handle during a read
            self._idle.wait_for(lambda: self._reading == 0)
        self._close()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # napari copies the metadata of a layer that is duplicated; one open file serves both
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        height, width = self.shape
        size = "unknown um/px" if self.mpp is None else f"{self.mpp:.4g} um/px"
        return f"<Slide {self.name}: {width} x {height}, {len(self.levels)} levels, {size}>"


def _sampled(
    slide: Slide,
    level: int,
    stored: NDArray[np.bool_] | None,
    ratio: float,
    y: int,
    x: int,
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Return a window of a virtual level from a bounded number of the tiles of a level."""
    (rows, columns), (tall, wide) = slide.levels[level].shape, slide.levels[level].tile_shape
    if stored is None:
        stored = np.ones((-(-rows // tall), -(-columns // wide)), np.bool_)
    down, across = _steps(stored, slide.levels[level].tile_shape)
    read = np.zeros_like(stored)
    read[down // 2 :: down, across // 2 :: across] = True
    read &= stored
    sums = np.zeros((height, width, 3))
    counts = np.zeros((height, width))
    first, last = (
        (int(max(0, start * ratio)) for start in (y, x)),
        (
            int(min(size, (start + count) * ratio))
            for size, start, count in ((rows, y, height), (columns, x, width))
        ),
    )
    (top, left), (bottom, right) = first, last
    for row, column in np.argwhere(read):
        window = (
            *(max(top, row * tall), max(left, column * wide)),
            *(min(bottom, (row + 1) * tall), min(right, (column + 1) * wide)),
        )
        y0, x0, y1, x1 = (int(side) for side in window)
        if y1 <= y0 or x1 <= x0:
            continue
        pixels = slide.read_level(level, y0, x0, y1 - y0, x1 - x0)
        # output pixels of the tile's rows and columns, and where each of them begins
        own_y, at_y, size_y = _groups(y0, y1, ratio, y, height)
        own_x, at_x, size_x = _groups(x0, x1, ratio, x, width)
        added = np.add.reduceat(pixels, at_y, axis=0, dtype=np.uint32)
        added = np.add.reduceat(added, at_x, axis=1)
        sums[np.ix_(own_y, own_x)] += added
        counts[np.ix_(own_y, own_x)] += np.outer(size_y, size_x)
    at_y = np.floor((np.arange(y, y + height) + 0.5) * ratio).astype(np.int64)
    at_x = np.floor((np.arange(x, x + width) + 0.5) * ratio).astype(np.int64)
    inside = np.outer((at_y >= 0) & (at_y < rows), (at_x >= 0) & (at_x < columns))
    there = stored[
        np.ix_(np.clip(at_y, 0, rows - 1) // tall, np.clip(at_x, 0, columns - 1) // wide)
    ]
    picture = np.full((height, width, 3), WHITE, np.uint8)
    known = counts > 0
    picture[known] = np.rint(sums[known] / counts[known][:, None])
    if known.any():
        nearest = ndimage.distance_transform_edt(
            ~known, return_distances=False, return_indices=True
        )
        between = inside & there & ~known
        picture[between] = picture[tuple(nearest[:, between])]
    return picture


def _steps(stored: NDArray[np.bool_], tile_shape: tuple[int, int]) -> tuple[int, int]:
    """Return every how many rows and columns of tiles are read, so that the limit holds."""
    size = 3 * stored.sum() * tile_shape[0] * tile_shape[1]
    too_many = float(size / limits.get("slide-read-bytes"))
    down = max(1, min(len(stored), int(np.ceil(np.sqrt(too_many)))))
    if stored.shape[1] == 1:  # strips
        down = max(1, int(np.ceil(too_many)))
    return down, max(1, int(np.ceil(too_many / down)))


def _groups(
    start: int, stop: int, ratio: float, first: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group fine pixels by the output pixel that holds their center: index, begin, size."""
    own = np.floor((np.arange(start, stop) + 0.5) / ratio).astype(np.int64) - first
    index, begins, sizes = np.unique(
        np.clip(own, 0, count - 1), return_index=True, return_counts=True
    )
    return index, begins, sizes


def _no_size(slide: Slide) -> SlideError:
    if slide._not_square:
        return SlideError(
            f"areas and models need square pixels. {slide._not_square}",
            path=slide.path,
            remedy="Save it with square pixels. If the file is wrong, give the size with "
            "--override-mpp or override_mpp=True.",
        )
    return SlideError(
        "its pixel size is unknown: the file has none",
        path=slide.path,
        remedy="Enter it in um/px (mpp=, --mpp, or the field in the dock); "
        "scans at 40x have about 0.25, at 20x about 0.5.",
    )


def looks_stained(slide: Slide) -> bool:
    """Whether what was scanned is light in every color, as no fluorescence image is."""
    try:
        return _is_stained(_small_picture(slide))
    except SlideError:
        return True  # callers that need the pixels report what can't be read


def _small_picture(slide: Slide) -> NDArray[np.uint8]:
    """Return (h, w, 3) pixels that represent the slide, without reading a huge level."""
    height, width = slide.levels[-1].shape
    if height * width <= _SMALL_LEVEL:
        return slide.thumbnail(256)
    picture = _windows(slide, 5, 256)
    if (picture.max(2) <= UNSCANNED).mean() < _MOSTLY:
        return picture
    return _windows(slide, 12, 128)  # the tissue may be a small part


def _windows(slide: Slide, count: int, side: int) -> NDArray[np.uint8]:
    """Return windows of the last level, `count` in each direction, at a quarter of its size."""
    height, width = slide.levels[-1].shape
    places = (np.arange(count) + 0.5) / count
    corners = [(int(y * max(0, height - side)), int(x * max(0, width - side)))
               for y in places for x in places]  # fmt: skip
    last = len(slide.levels) - 1
    windows = [slide.read_level(last, y, x, side, side) for y, x in corners]
    return np.concatenate(windows)[::4, ::4]


def _is_stained(picture: NDArray[np.uint8]) -> bool:
    """Whether the scanned part of a picture (h, w, 3) is light in all channels."""
    brightest, darkest = picture.max(2), picture.min(2)
    scanned = brightest > UNSCANNED
    return bool(
        scanned.sum() >= _FEW_PIXELS
        and np.median(brightest[scanned]) >= _STAINED_BRIGHTEST
        and np.percentile(darkest[scanned], 90) >= _STAINED_DARKEST
    )


def reason_of(error: Exception, path: Path) -> str:
    """Return the message of a library's exception without folders: they may name patients."""
    text = str(error)
    places = {path.parent, path.absolute().parent, path.resolve().parent}
    folders = {shown for place in places for shown in (str(place), repr(str(place))[1:-1])}
    for folder in sorted(folders - {".", os.sep}, key=len, reverse=True):
        # the short name of a relative folder is also a part of words
        begin = "" if Path(folder).is_absolute() else r"(?<![\w.~/\\-])"
        place = begin + re.escape(folder.rstrip("/\\"))
        text = re.sub(rf"{place}[/\\]+(?={re.escape(path.name)})", "", text)
        text = re.sub(rf"{place}(?=[/\\])", "...", text)
        if re.search(r"[/\\]", folder):
            text = re.sub(rf"{place}(?![\w.-])", "...", text)
    return f"{type(error).__name__}: {text}"


def usable_mpp(mpp: float | None) -> float | None:
    """Return `mpp`, or None when it is absent, not finite or outside `MPP_RANGE`."""
    if mpp is None or not np.isfinite(mpp) or not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        return None
    return float(mpp)
