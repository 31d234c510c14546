"""Connected components of large masks by their horizontal runs: little memory, no recursion.

A mask of 16,384 x 16,384 pixels has some million runs of equal value, so labels that would take
a gigabyte as a picture fit into a few arrays. benchmarks/NOTES.md compares this with libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray


Connectivity = Literal[4, 8]
_ROWS_AT_ONCE = 1024
_NODES_AT_ONCE = 2**16


@dataclass(frozen=True, eq=False)
class RunLengthMask:
    """The horizontal runs of equal value that a picture is made of, in reading order.

    Parameters
    ----------
    shape : tuple of int
        Of the picture (h, w).
    begin, length : ndarray of int64, shape (n,)
        First pixel of each run, counted through all rows, and its number of pixels.
    value : ndarray, shape (n,)
        The value of its pixels.
    """

    shape: tuple[int, int]
    begin: NDArray[np.int64]
    length: NDArray[np.int64]
    value: NDArray[Any]

    @classmethod
    def of(cls, picture: NDArray[Any]) -> Self:
        """Return the runs of a picture (h, w)."""
        height, width = picture.shape
        begins, values = [], []
        for top in range(0, height, _ROWS_AT_ONCE):
            rows = picture[top : top + _ROWS_AT_ONCE]
            begins_here = np.ones(rows.shape, np.bool_)
            np.not_equal(rows[:, 1:], rows[:, :-1], out=begins_here[:, 1:])
            begin = np.flatnonzero(begins_here)
            begins.append(begin + top * width)
            values.append(rows[begin // width, begin % width])
        begin = np.concatenate(begins)
        length = np.diff(begin, append=height * width)
        return cls((height, width), begin, length, np.concatenate(values))

    @property
    def row(self) -> NDArray[np.int64]:
        """Row of each run, (n,)."""
        return self.begin // self.shape[1]

    @property
    def start(self) -> NDArray[np.int64]:
        """First column of each run, (n,)."""
        return self.begin % self.shape[1]

    @property
    def stop(self) -> NDArray[np.int64]:
        """Column after the last of each run, (n,)."""
        return self.start + self.length

    @property
    def at_rim(self) -> NDArray[np.bool_]:
        """Whether each run touches the rim of the picture, (n,)."""
        height, width = self.shape
        row = self.row
        start = self.start
        rim: NDArray[np.bool_] = (row == 0) | (row == height - 1) | (start == 0)
        rim |= start + self.length == width
        return rim

    def at(self, pixel: NDArray[np.int64] | int) -> Any:
        """Return the number of the run that holds a pixel, counted through all rows."""
        return np.searchsorted(self.begin, pixel, "right") - 1

    def components(self, connectivity: Connectivity = 4) -> NDArray[np.int32]:
        """Return the connected component of each run, (n,), counted from 0."""
        width = self.shape[1]
        upper, lower = self._pairs()
        if connectivity == 8:
            over = np.flatnonzero(self.begin < (self.shape[0] - 1) * width)
            left = over[self.start[over] > 0]
            right = over[self.stop[over] < width]
            upper = np.concatenate([upper, left, right])
            below_left = self.at(self.begin[left] + width - 1)
            below_right = self.at(self.begin[right] + self.length[right] + width)
            lower = np.concatenate([lower, below_left, below_right])
        same = self.value[upper] == self.value[lower]
        return _components(upper[same], lower[same], len(self.begin))

    def votes(
        self, subject: NDArray[np.int32], count: int, values: NDArray[Any]
    ) -> NDArray[np.int64]:
        """Count the values around groups of runs.

        Parameters
        ----------
        subject : ndarray of int32, shape (n,)
            The group of each run, -1 for none.
        count : int
            Number of groups.
        values : ndarray, shape (v,)
            Sorted; neighbors of other values are not counted.

        Returns
        -------
        ndarray of int64, shape (count, v)
            Length of the border that each group shares with each value.
        """
        upper, lower = self._pairs()
        shared = np.minimum(self.stop[upper], self.stop[lower]) - np.maximum(
            self.start[upper], self.start[lower]
        )
        beside = np.flatnonzero(self.start[1:] > 0)  # a run and the next one in its row
        first = np.concatenate([upper, beside])
        second = np.concatenate([lower, beside + 1])
        weight = np.concatenate([shared, np.ones(len(beside), np.int64)])
        out = np.zeros(count * len(values), np.int64)
        column = np.searchsorted(values, self.value).clip(max=len(values) - 1)
        known = values[column] == self.value
        for inner, outer in ((first, second), (second, first)):
            counts = (subject[inner] >= 0) & (subject[inner] != subject[outer]) & known[outer]
            cell = subject[inner[counts]].astype(np.int64) * len(values) + column[outer[counts]]
            out += np.bincount(cell, weight[counts], minlength=len(out)).astype(np.int64)
        return out.reshape(count, len(values))

    def picture(self, chosen: NDArray[np.bool_]) -> tuple[int, int, NDArray[np.bool_]]:
        """Return top, left and a picture (h, w) that is True in the chosen runs, cut to them.

        At least one run must be chosen.
        """
        row, start, length = self.row[chosen], self.start[chosen], self.length[chosen]
        top, left = int(row[0]), int(start.min())
        height, width = int(row[-1]) + 1 - top, int((start + length).max()) - left
        begin = (row - top) * width + start - left
        inside = np.zeros(height * width + 1, np.int8)
        inside[begin] = 1
        inside[begin + length] -= 1
        np.add.accumulate(inside, out=inside)  # unlike np.repeat it lets other threads run
        return top, left, inside[:-1].view(np.bool_).reshape(height, width)

    def pixels(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the pixels of the chosen runs, counted through all rows."""
        begin, length = self.begin[chosen], self.length[chosen]
        first = np.cumsum(length) - length
        pixels: NDArray[np.int64] = np.arange(int(length.sum())) + np.repeat(begin - first, length)
        return pixels

    def _pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return all pairs of runs that share a border between two rows, each pair once."""
        width = self.shape[1]
        over = np.flatnonzero(self.begin < (self.shape[0] - 1) * width)
        under = np.flatnonzero(self.begin >= width)
        below = self.at(self.begin[over] + width)
        above = self.at(self.begin[under] - width)
        later = self.begin[above] + width < self.begin[under]  # else found from above already
        return np.concatenate([over, above[later]]), np.concatenate([below, under[later]])


def _components(
    first: NDArray[np.int64], second: NDArray[np.int64], count: int
) -> NDArray[np.int32]:
    """Return the connected component of each of `count` nodes, (count,), by its edges (n,).

    SciPy holds Python's lock during the call, which would freeze napari's window, so it gets the
    nodes in parts: first the edges within each part, then the edges between their components.
    """
    labels = np.empty(count, np.int32)
    part, known = first // _NODES_AT_ONCE, 0
    inner = part == second // _NODES_AT_ONCE
    for begin in range(0, count, _NODES_AT_ONCE):
        end = min(count, begin + _NODES_AT_ONCE)
        edges = inner & (part == begin // _NODES_AT_ONCE)
        number, found = _connected(first[edges] - begin, second[edges] - begin, end - begin)
        labels[begin:end] = found + known
        known += number
    outer = ~inner
    if outer.any():
        labels = _connected(labels[first[outer]], labels[second[outer]], known)[1][labels]
    return labels


def _connected(
    first: NDArray[Any], second: NDArray[Any], count: int
) -> tuple[int, NDArray[np.int32]]:
    graph = sparse.coo_array((np.ones(len(first), np.bool_), (first, second)), (count, count))
    found: tuple[int, NDArray[np.int32]] = sparse.csgraph.connected_components(
        graph, directed=False
    )
    return found
