"""A region of a mask that gets a better outline, and the classes of the pixels that it loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_plimseg.errors import ConfigError
from napari_plimseg.results.editing.operations import Edit, Part, connected_region
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Mask = NDArray[np.uint8]
    Pixels = NDArray[np.bool_]


SIDE = 1024
"""Side of the window in which a region is refined, in mask pixels; the rest stays unchanged."""


@dataclass(frozen=True, eq=False)
class RegionToRefine:
    """A region around a place of a mask.

    Parameters
    ----------
    part : Part
        The region, as far as the window shows it.
    left_to : ndarray of uint8, shape of `part.inside`
        The mask id that each pixel takes when it leaves the region; 0 where none is known, and the
        pixel stays.
    is_cut : bool
        Whether the region continues outside the window.
    """

    part: Part
    left_to: Mask
    is_cut: bool = False

    def __post_init__(self) -> None:
        if self.left_to.shape != self.part.inside.shape:
            raise ConfigError(
                f"{self.left_to.shape} pixels are left of a region of {self.part.inside.shape}"
            )

    def outlined(self, mask: Mask, top: int, left: int, inside: Pixels) -> Edit:
        """Return the edit that gives the region another outline, before protections.

        Parameters
        ----------
        mask : ndarray of uint8, shape (H, W)
            As it is now; pixels of the region that have another class by now keep it, unless
            they are inside the new outline.
        top, left : int
            Where the window of the outline begins in the mask.
        inside : ndarray of bool, shape (h, w)
            The pixels that the region is to have.
        """
        part = self.part
        y0, x0 = min(top, part.top), min(left, part.left)
        y1 = max(top + inside.shape[0], part.top + part.inside.shape[0])
        x1 = max(left + inside.shape[1], part.left + part.inside.shape[1])
        old = np.asarray(mask[y0:y1, x0:x1])
        new = old.copy()
        own = _window(part.top - y0, part.left - x0, part.inside)
        given_up = part.inside & (old[own] == part.mask_id) & (self.left_to != NOT_COMPUTED)
        new[own][given_up] = self.left_to[given_up]
        new[_window(top - y0, left - x0, inside)][inside] = part.mask_id
        return Edit.between(y0, x0, old, new, np.ones(old.shape, np.bool_)).cropped()


def region_to_refine(
    mask: Mask,
    y: int,
    x: int,
    *,
    model: Callable[[slice, slice], Mask] | None = None,
    background: int | None = None,
    side: int = SIDE,
) -> RegionToRefine:
    """Return the region of equal pixels around a pixel, as far as a window around it shows it.

    Pixels that leave the region get the model's class back where that is another one, elsewhere
    the nearest class, and background where there is none.

    Parameters
    ----------
    mask : ndarray of uint8, shape (H, W)
        Mask ids; only the window is read.
    y, x : int
        The pixel.
    model : callable, optional
        Returns the model's output in rows and columns, without corrections.
    background : int, optional
        Mask id of the background class.
    side : int
        Of the window.

    Raises
    ------
    ConfigError
        When there is no class at the pixel.
    """
    height, width = mask.shape
    if not (0 <= y < height and 0 <= x < width) or not _has_class(mask[y, x]):
        raise ConfigError(
            "there is no region of the mask here", remedy="Click one that has a color."
        )
    rows, columns = (
        slice(max(0, at - side // 2), min(length, at + side // 2))
        for at, length in ((y, height), (x, width))
    )
    ids = np.array(mask[rows, columns])
    part = connected_region(ids, y - rows.start, x - columns.start)
    inside = part.inside
    top, left = part.top + rows.start, part.left + columns.start
    bottom, right = top + inside.shape[0], left + inside.shape[1]
    is_cut = (
        (0 < top == rows.start and inside[0].any())
        or (0 < left == columns.start and inside[:, 0].any())
        or (height > bottom == rows.stop and inside[-1].any())
        or (width > right == columns.stop and inside[:, -1].any())
    )
    left_to = _nearest_other(ids, part)
    if background is not None and background != part.mask_id:
        left_to[left_to == NOT_COMPUTED] = background
    if model is not None:
        predicted = model(slice(top, bottom), slice(left, right))
        np.copyto(left_to, predicted, where=_has_class(predicted) & (predicted != part.mask_id))
    return RegionToRefine(Part(top, left, inside, part.mask_id), left_to, bool(is_cut))


def _nearest_other(ids: Mask, part: Part) -> Mask:
    """Return the nearest class that is another one for each pixel of a region; 0 without any."""
    height, width = part.inside.shape
    # one pixel more, since the next class may begin just beyond the region's own window
    top, left = max(0, part.top - 1), max(0, part.left - 1)
    values = ids[top : part.top + height + 1, left : part.left + width + 1]
    others = _has_class(values) & (values != part.mask_id)
    if not others.any():
        return np.zeros(part.inside.shape, np.uint8)
    nearest: NDArray[np.int32] = ndimage.distance_transform_edt(
        ~others, return_distances=False, return_indices=True
    )
    y, x = part.top - top, part.left - left
    found: Mask = values[tuple(nearest[:, y : y + height, x : x + width])]
    return found


def _has_class(ids: Mask | np.uint8) -> Pixels:
    has_class: Pixels = (ids != NOT_COMPUTED) & (ids != UNREADABLE)
    return has_class


def _window(top: int, left: int, pixels: Pixels) -> tuple[slice, slice]:
    height, width = pixels.shape
    return slice(top, top + height), slice(left, left + width)
