"""A mask at other resolutions than its own: ids are voted or picked, never mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.results.measure import iter_bands
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_plimseg.results.measure import MaskArray


def half_size(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask at half the size: of each 2 x 2 pixels the id that is there most often.

    Parameters
    ----------
    mask : ndarray of uint8, shape (y, x)
        Odd sides are continued by their last row and column.

    Returns
    -------
    ndarray of uint8, shape (ceil(y / 2), ceil(x / 2))
    """
    even = np.pad(mask, [(0, side % 2) for side in mask.shape], mode="edge")
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    # a unless two of the other three agree and a agrees with none of them
    others = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    voted: NDArray[np.uint8] = np.where((a == b) | (a == c) | (a == d), a, others)
    return voted


class LabelPyramid:
    """A mask at resolutions that are not its own, tile by tile.

    Parameters
    ----------
    mask : array of uint8, shape (y, x)
        Read in bands of rows; the coarser levels, a third of its size, are held in memory.
    downsample : float
        Level-0 pixels per mask pixel and side.
    """

    def __init__(self, mask: MaskArray, downsample: float) -> None:
        self.downsample = downsample
        self.levels: list[MaskArray] = [mask]

    def _level(self, number: int) -> MaskArray:
        while len(self.levels) <= number:
            # bands of an even number of rows, so that halving them halves the whole
            halves = [half_size(band) for band in iter_bands(self.levels[-1])]
            self.levels.append(np.concatenate(halves))
        return self.levels[number]

    def iter_tiles(
        self, downsample: float, shape: tuple[int, int], tile: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the tiles of a level, row by row.

        Parameters
        ----------
        downsample : float
            Level-0 pixels per pixel of the level. Where it is coarser than the mask, the coarser
            level next below it is voted; from there ids are picked at the centres of pixels.
        shape : tuple of int
            Pixels (y, x) of the level; what the mask does not cover is "not computed".
        tile : int
            Side of a tile; every tile is given whole.
        """
        ratio = downsample / self.downsample
        number = max(0, int(np.floor(np.log2(ratio * (1 + 1e-9)))))
        source = self._level(number)
        ratio /= 2**number
        columns, inside = _picked(ratio, 0, -(-shape[1] // tile) * tile, source.shape[1])
        inside[shape[1] :] = False
        for top in range(0, shape[0], tile):
            rows, row_inside = _picked(ratio, top, tile, source.shape[0])
            row_inside[max(0, shape[0] - top) :] = False
            first, last = int(rows[0]), int(rows[-1])
            band = np.asarray(source[first : last + 1])
            for left in range(0, shape[1], tile):
                part = slice(left, left + tile)
                picked = band[np.ix_(rows - first, columns[part])]
                picked[~(row_inside[:, None] & inside[part])] = NOT_COMPUTED
                yield picked


def _picked(
    ratio: float, start: int, count: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    centres = (np.arange(start, start + count) + 0.5) * ratio
    index = np.floor(centres).astype(np.int64)
    return np.minimum(index, limit - 1), index < limit
