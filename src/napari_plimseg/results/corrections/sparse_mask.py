"""`SparseMask`: a large mask that is mostly empty, in memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


CHUNK = 512
"""Side of a chunk in pixels: it takes memory as soon as one of its pixels is not 0."""


class SparseMask:
    """A uint8 array that takes memory only where something was written; any thread may use it.

    Parameters
    ----------
    shape : tuple of int
        Pixels (y, x).
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._chunks: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._counts: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._lock = threading.RLock()

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Return a copy of a part (h, w) inside the array; slices have no steps."""
        out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        with self._lock:
            for key, outer, inner in _parts(rows, columns):
                chunk = self._chunks.get(key)
                if chunk is not None:
                    out[outer] = chunk[inner]
        return out

    def pick(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the pixels where rising rows (h,) and rising columns (w,) cross, as (h, w)."""
        out = np.zeros((len(rows), len(columns)), np.uint8)
        if not out.size:
            return out
        with self._lock:
            for row, column in self._chunks:
                y = slice(*np.searchsorted(rows, (row * CHUNK, (row + 1) * CHUNK)))
                x = slice(*np.searchsorted(columns, (column * CHUNK, (column + 1) * CHUNK)))
                inner = np.ix_(rows[y] - row * CHUNK, columns[x] - column * CHUNK)
                out[y, x] = self._chunks[row, column][inner]
        return out

    def write(
        self, y: int, x: int, block: NDArray[np.uint8], where: NDArray[np.bool_] | None = None
    ) -> None:
        """Write a block (h, w) with its corner at (y, x), or only its pixels in `where`."""
        height, width = block.shape
        with self._lock:
            for key, outer, inner in _parts(slice(y, y + height), slice(x, x + width)):
                values = block[outer]
                mask = None if where is None else where[outer]
                chunk = self._chunks.get(key)
                if chunk is None:
                    written = values if mask is None else values[mask]
                    if not written.any():
                        continue
                    chunk = self._chunks[key] = np.zeros((CHUNK, CHUNK), np.uint8)
                if mask is None:
                    chunk[inner] = values
                else:
                    np.copyto(chunk[inner], values, where=mask)
                self._counts.pop(key, None)
                if not chunk.any():
                    del self._chunks[key]

    def counts(self) -> NDArray[np.int64]:
        """Return how often each value but 0 occurs, (256,); recounts only changed chunks."""
        total = np.zeros(256, np.int64)
        with self._lock:
            keys = list(self._chunks)
        for key in keys:
            with self._lock:  # one count at a time; painting does not wait for it
                chunk = self._chunks.get(key)
                if chunk is None:
                    continue
                if key not in self._counts:
                    self._counts[key] = np.bincount(chunk.ravel(), minlength=256)
                total += self._counts[key]
        total[0] = 0
        return total

    def windows(self) -> list[Window]:
        """Return the parts that hold something, from top to bottom."""
        height, width = self.shape
        with self._lock:
            keys = sorted(self._chunks)
        return [
            Window(
                row * CHUNK,
                column * CHUNK,
                min(CHUNK, height - row * CHUNK),
                min(CHUNK, width - column * CHUNK),
            )
            for row, column in keys
        ]


def _parts(
    rows: slice, columns: slice
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the chunks that a part touches: key, slices of the part, slices of the chunk."""
    for row in range(rows.start // CHUNK, -(-rows.stop // CHUNK)):
        top, bottom = max(rows.start, row * CHUNK), min(rows.stop, (row + 1) * CHUNK)
        for column in range(columns.start // CHUNK, -(-columns.stop // CHUNK)):
            left = max(columns.start, column * CHUNK)
            right = min(columns.stop, (column + 1) * CHUNK)
            outer = (
                slice(top - rows.start, bottom - rows.start),
                slice(left - columns.start, right - columns.start),
            )
            inner = (
                slice(top - row * CHUNK, bottom - row * CHUNK),
                slice(left - column * CHUNK, right - column * CHUNK),
            )
            yield (row, column), outer, inner
