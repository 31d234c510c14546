"""A slide as lazy arrays for a viewer: its own levels, and coarser ones computed on demand.

A viewer reads the coarsest level in full, for its thumbnail and when zoomed out. Slides without a
pyramid, or with a last level of more than `COARSEST` pixels a side, get levels that are computed
from the blocks of the level below, block by block, and kept while there is room.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import SlideError

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

    from napari_plimseg.slides.slide import Slide

_logger = logging.getLogger(__name__)

COARSEST = 1024
"""Longer side of a level that a viewer may always read whole, in pixels; up to twice as many."""
UNREADABLE_COLOR = (231, 150, 190)
"""A flat pink that no tissue has: this part of the slide can't be read."""
_BLOCK = 512
_WIDEST = 2048
_CACHE_BYTES = 192 << 20
_SAMPLED_FROM = 3
"""Computed levels from which on very large or sparse slides are sampled: 16 pixels become one."""
_openings = itertools.count()


class LevelArray:
    """One level as an array (h, w, 3) of uint8 that reads what is sliced from it.

    Damaged parts never raise: an exception while drawing leaves a viewer unusable.

    Parameters
    ----------
    levels : DisplayLevels
        Of the slide.
    index : int
        Which of them.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, levels: DisplayLevels, index: int) -> None:
        self._levels = levels
        self._index = index
        self.shape = (*levels.shapes[index], 3)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[np.uint8]:
        spans = [range(n)[k] for n, k in zip(self.shape, key, strict=True)]
        (top, height), (left, width) = ((s[0], len(s)) if s else (0, 0) for s in spans[:2])
        if any(s.step != 1 for s in spans if s) or not (height and width):
            whole = self._levels.read(self._index, 0, 0, *self.shape[:2])
            return whole[key]
        return self._levels.read(self._index, top, left, height, width)[:, :, key[2]]


class DisplayLevels:
    """All levels that a viewer gets: those of the file and those computed from the last of them.

    Computed level `n + 1` has the mean of 2 x 2 pixels of level `n`.

    Parameters
    ----------
    slide : Slide
        Stays open as long as its layer.
    """

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self._is_sampled = slide.is_sampled()
        self.shapes = [level.shape for level in slide.levels]
        while max(self.shapes[-1]) > 2 * COARSEST:
            height, width = self.shapes[-1]
            self.shapes.append((-(-height // 2), -(-width // 2)))
        self._cache: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()
        self._warned = False

    def chunks(self, index: int) -> tuple[int, int]:
        """Return pixels (y, x) of the blocks in which level `index` is best read."""
        own = self._slide.levels
        tile = own[index].tile_shape if index < len(own) else (_BLOCK, _BLOCK)
        tall, wide = (side * -(-_BLOCK // side) for side in tile)
        height, width = self.shapes[index]
        # very large tiles and wide strips are cut: a viewer reads only what it shows
        tall = tall if tall <= _WIDEST else _BLOCK
        return min(tall, height), min(wide, width, _WIDEST)

    def read(self, index: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a window inside a level as (height, width, 3); unreadable parts are flat pink."""
        if index < len(self._slide.levels):
            return self._own(index, y, x, height, width)
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // _BLOCK, (y + height - 1) // _BLOCK + 1):
            top, bottom = max(row * _BLOCK, y), min((row + 1) * _BLOCK, y + height)
            for column in range(x // _BLOCK, (x + width - 1) // _BLOCK + 1):
                left, right = max(column * _BLOCK, x), min((column + 1) * _BLOCK, x + width)
                block = self._computed(index, row, column)
                out[top - y : bottom - y, left - x : right - x] = block[
                    top - row * _BLOCK : bottom - row * _BLOCK,
                    left - column * _BLOCK : right - column * _BLOCK,
                ]
        return out

    def _own(self, index: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        try:
            return self._slide.read_level(index, y, x, height, width)
        except SlideError as error:
            if not self._warned:
                self._warned = True
                _logger.warning("%s Parts that can't be read are shown in flat pink.", error)
            return np.full((height, width, 3), UNREADABLE_COLOR, np.uint8)

    def _computed(self, index: int, row: int, column: int) -> NDArray[np.uint8]:
        key = index, row, column
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        below_height, below_width = self.shapes[index - 1]
        top, left = 2 * row * _BLOCK, 2 * column * _BLOCK
        tall, wide = min(2 * _BLOCK, below_height - top), min(2 * _BLOCK, below_width - left)
        if self._is_sampled and index - len(self._slide.levels) >= _SAMPLED_FROM:
            block = self._overview(index, row, column, -(-tall // 2), -(-wide // 2))
        else:
            block = halved(self.read(index - 1, top, left, tall, wide))
        with self._lock:
            if key not in self._cache:
                self._cache[key] = block
                self._cached_bytes += block.nbytes
            while self._cached_bytes > _CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return block

    def _overview(
        self, index: int, row: int, column: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        steps = index - len(self._slide.levels) + 1
        downsample = self._slide.levels[-1].downsample * 2**steps
        try:
            return self._slide.read_overview(
                downsample, row * _BLOCK, column * _BLOCK, height, width
            )
        except SlideError:
            return np.full((height, width, 3), UNREADABLE_COLOR, np.uint8)

    def dask_arrays(self) -> list[da.Array]:
        """Return the levels as lazy arrays, the finest first."""
        import dask.array as da

        # the number keeps two openings of the same file apart in dask's caches
        opening = next(_openings)
        return [
            da.from_array(
                LevelArray(self, index),
                chunks=(*self.chunks(index), 3),
                name=f"plimseg-slide-{opening}-{index}",
                lock=False,
                asarray=False,
                meta=np.empty((0, 0, 0), np.uint8),
            )
            for index in range(len(self.shapes))
        ]


def halved(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rounded means of 2 x 2 pixels of (h, w, 3); odd edges repeat their last pixel."""
    odd = [(0, side % 2) for side in fine.shape[:2]]
    even: NDArray[Any] = np.pad(fine, (*odd, (0, 0)), "edge") if (0, 1) in odd else fine
    sums = even[::2, ::2].astype(np.uint16)
    for part in (even[1::2, ::2], even[::2, 1::2], even[1::2, 1::2]):
        sums += part
    means: NDArray[np.uint8] = ((sums + 2) // 4).astype(np.uint8)
    return means


def display_levels(slide: Slide) -> list[da.Array]:
    """Return a slide's levels and computed coarser ones as lazy (h, w, 3) arrays.

    Takes milliseconds whatever the size of the slide; pixels are read when a viewer asks.

    Parameters
    ----------
    slide : Slide
        Must stay open as long as the arrays are shown; afterwards they are flat pink.
    """
    return DisplayLevels(slide).dask_arrays()
