"""Windows over an image, and their tags made from a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import TagError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowRule:
    """How to cut an image with a mask into tagged windows.

    Parameters
    ----------
    side : int
        Window side in pixels; 0 means the whole image.
    stride : int
        Step between windows; one more window ends at the border where the steps do not.
    minimum : float
        The fraction of a window that a class must cover to be tagged.
    strictly : bool
        Whether the fraction must exceed `minimum` (as OEEM cuts GlaS), not just reach it.
    """

    side: int
    stride: int
    minimum: float
    strictly: bool = False

    def __post_init__(self) -> None:
        if self.side < 0 or (self.side > 0 and self.stride < 1):
            raise TagError(
                f"windows of {self.side} px every {self.stride} px can't be cut",
                remedy="Give a side and a stride of at least one pixel.",
            )
        if not 0 <= self.minimum < 1:
            raise TagError(
                f"the minimum fraction {self.minimum} is not between 0 and 1",
                remedy="A usual value is 0.05.",
            )

    def windows(self, size: tuple[int, int]) -> NDArray[np.int32]:
        """Return the windows of an image of `size` (height, width), shape (N, 4)."""
        side = self.side or max(size)
        return window_grid(size, side, self.stride or side)

    def tags(self, mask: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
        """Return the tags of every window of a mask.

        Parameters
        ----------
        mask : ndarray of uint8, shape (h, w)
            Mask ids; 1 to `classes` can be tagged.
        classes : int
            C, the number of classes without background.

        Returns
        -------
        ndarray of uint8, shape (N, C)
        """
        fractions = class_fractions(mask, self.windows((mask.shape[0], mask.shape[1])), classes)
        reached = fractions > self.minimum if self.strictly else fractions >= self.minimum
        return (reached & (fractions > 0)).astype(np.uint8)


def window_grid(size: tuple[int, int], side: int, stride: int) -> NDArray[np.int32]:
    """Return overlapping windows that cover a whole image.

    Parameters
    ----------
    size : tuple of int
        Height and width of the image in pixels.
    side, stride : int
        Window side and step in pixels. Windows are limited to the size of the image.

    Returns
    -------
    ndarray of int32, shape (N, 4)
        y, x, height and width, row by row.
    """
    rows, columns = (_starts(length, side, stride) for length in size)
    height, width = (min(side, length) for length in size)
    return np.array([(y, x, height, width) for y in rows for x in columns], np.int32)


def _starts(length: int, side: int, stride: int) -> list[int]:
    if length <= side:
        return [0]
    starts = list(range(0, length - side + 1, stride))
    if starts[-1] != length - side:
        starts.append(length - side)
    return starts


def class_fractions(
    mask: NDArray[np.uint8], windows: NDArray[np.int32], classes: int
) -> NDArray[np.float64]:
    """Return the fraction of each window that each class covers.

    Parameters
    ----------
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    windows : ndarray of int, shape (N, 4)
        y, x, height, width, inside the mask.
    classes : int
        Number of mask ids, from 1 on, to count.

    Returns
    -------
    ndarray of float64, shape (N, classes)
        Fractions of the whole window: unscored pixels count as none of the classes.
    """
    top, left = windows[:, 0], windows[:, 1]
    bottom, right = top + windows[:, 2], left + windows[:, 3]
    fractions = np.zeros((len(windows), classes))
    for mask_id in range(1, classes + 1):
        sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
        sums[1:, 1:] = (mask == mask_id).cumsum(0, dtype=np.int64).cumsum(1)
        pixels = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        fractions[:, mask_id - 1] = pixels / (windows[:, 2] * windows[:, 3])
    return fractions
