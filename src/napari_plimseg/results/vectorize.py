"""From a mask to outlines: lossless, with holes, one region at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from shapely import Polygon

    from napari_plimseg.results.measure import MaskArray


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of one connected region of one class.

    Parameters
    ----------
    mask_id : int
    rings : tuple of ndarray of int64, shape (N, 2)
        Corners (x, y) in mask pixels, first and last equal; the outer ring, then the holes. The
        pixel in column `j` spans `[j, j + 1]` in x.
    """

    mask_id: int
    rings: tuple[NDArray[np.int64], ...]

    @property
    def pixels(self) -> int:
        """Area in mask pixels: exactly the pixels of the region."""
        outer, *holes = (_twice_area(ring) for ring in self.rings)
        return (outer - sum(holes)) // 2

    def polygon(self) -> Polygon:
        """Return the outline as a shapely polygon in mask pixels."""
        from shapely import Polygon

        return Polygon(self.rings[0], self.rings[1:])


def iter_outlines(mask: MaskArray, mask_ids: Iterable[int]) -> Iterator[Outline]:
    """Yield the outlines of all 4-connected regions of the given ids.

    Regions that touch at a corner only are two, so every outline is a valid polygon; painting the
    outlines gives the mask back pixel by pixel.

    Parameters
    ----------
    mask : array of uint8, shape (y, x)
        Held in memory once, one byte a pixel, with one more byte while it is traced.
    mask_ids : iterable of int
        Ids to trace; everything else is left out.

    Raises
    ------
    ExportError
        When the mask is not 2-D uint8.
    """
    from rasterio.features import shapes

    pixels = np.asarray(mask[:])
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ExportError(f"a mask of {pixels.dtype} {pixels.shape} can't be traced")
    wanted = np.zeros(256, np.bool_)
    wanted[list(mask_ids)] = True
    traced = wanted[pixels]
    if not traced.any():
        return
    for geometry, value in shapes(pixels, mask=traced, connectivity=4):
        rings = tuple(np.asarray(ring, np.int64) for ring in geometry["coordinates"])
        yield Outline(int(value), rings)


def _twice_area(ring: NDArray[np.int64]) -> int:
    x, y = ring[:, 0], ring[:, 1]
    return abs(int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()))
