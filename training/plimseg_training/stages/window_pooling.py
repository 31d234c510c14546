"""Pooling of maps over windows, and the classes that windows' tags allow at a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from napari_plimseg.models import SHARPNESS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


Pooling = Literal["mean", "smooth_max"]


class WindowPooling:
    """Pools maps over windows; cells on a window's edge count by their overlap.

    Parameters
    ----------
    windows : ndarray of int, shape (N, 4)
        y, x, height, width in pixels; the image and its maps share the upper left corner.
    cells : tuple of int
        Number of rows and columns of the maps.
    stride : int
        Pixels per cell.
    """

    def __init__(self, windows: NDArray[np.int32], cells: tuple[int, int], stride: int) -> None:
        self.stride = stride
        self._rows = _shares(windows[:, 0], windows[:, 2], cells[0], stride)  # (N, h)
        self._columns = _shares(windows[:, 1], windows[:, 3], cells[1], stride)  # (N, w)

    def to(self, device: torch.device) -> WindowPooling:
        """Move to a device and return self."""
        self._rows, self._columns = self._rows.to(device), self._columns.to(device)
        return self

    def mean(self, maps: Tensor) -> Tensor:
        """Return the means of (K, h, w) maps over the windows, (N, K)."""
        if maps.dtype != torch.float64:
            maps = maps.float()
        rows, columns = self._rows.to(maps.dtype), self._columns.to(maps.dtype)
        # mixed precision would round means that are then compared with each other
        with torch.autocast(maps.device.type, enabled=False):
            return torch.einsum("nh,khw,nw->nk", rows, maps, columns)

    def smooth_max(self, logits: Tensor, sharpness: float = SHARPNESS) -> Tensor:
        """Return `log(mean(exp(r z))) / r` of (C, h, w) logits over the windows, (N, C).

        Between the mean and the maximum (Pinheiro and Collobert, CVPR 2015): a window is tagged
        with a class as soon as the class fills a small part of it, which a mean would miss.
        """
        # far below the image's peak, exp() underflows to zero in single precision
        wide = logits.float() if logits.device.type == "mps" else logits.double()
        peak = wide.detach().amax((1, 2), keepdim=True)  # (C, 1, 1)
        mean = self.mean((sharpness * (wide - peak)).exp())
        floor = torch.finfo(mean.dtype).tiny
        return (mean.clamp_min(floor).log() / sharpness + peak.flatten()).float()

    def pool(self, logits: Tensor, how: Pooling) -> Tensor:
        """Return logits (C, h, w) pooled over the windows, (N, C)."""
        return self.mean(logits) if how == "mean" else self.smooth_max(logits)


def _shares(
    starts: NDArray[np.int32], lengths: NDArray[np.int32], cells: int, stride: int
) -> Tensor:
    """Return the share of each window's side in every cell, (N, cells); rows add up to 1."""
    edges = np.arange(cells) * stride
    ends = starts + lengths
    covered = np.minimum(ends[:, None], edges + stride) - np.maximum(starts[:, None], edges)
    shares = covered.clip(min=0) / lengths[:, None]
    return torch.from_numpy(shares / shares.sum(1, keepdims=True)).float()


def allowed_classes(
    windows: NDArray[np.int32], tags: NDArray[np.uint8], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the classes that the tags allow at each pixel.

    A class is allowed where every window over the pixel is tagged with it. Tags omit classes that
    cover only a few percent of a window, so windows can contradict each other; then only the
    class with most tags is allowed. Pixels without a window allow all classes.

    Parameters
    ----------
    windows : ndarray of int, shape (N, 4)
        y, x, height, width.
    tags : ndarray of uint8, shape (N, C)
    size : tuple of int
        Height and width of the image.

    Returns
    -------
    ndarray of bool, shape (C, H, W)
        At least one class is allowed everywhere.
    """
    classes = tags.shape[1]
    votes = np.zeros((classes + 1, size[0] + 1, size[1] + 1), np.int32)
    amounts = np.concatenate([tags, np.ones((len(tags), 1), np.uint8)], 1).astype(np.int32)
    for (y, x, height, width), amount in zip(windows, amounts, strict=True):
        votes[:, y, x] += amount
        votes[:, y + height, x] -= amount
        votes[:, y, x + width] -= amount
        votes[:, y + height, x + width] += amount
    votes = votes.cumsum(1).cumsum(2)[:, :-1, :-1]
    counted, asked = votes[:-1], votes[-1]
    allowed = counted == asked
    none = ~allowed.any(0)
    allowed[:, none] = counted[:, none] == counted[:, none].max(0)
    return np.asarray(allowed)


def flipped(
    windows: NDArray[np.int32], size: tuple[int, int], *, rows: bool, columns: bool
) -> NDArray[np.int32]:
    """Return windows (N, 4) in the coordinates of the flipped image."""
    turned = windows.copy()
    if rows:
        turned[:, 0] = size[0] - windows[:, 0] - windows[:, 2]
    if columns:
        turned[:, 1] = size[1] - windows[:, 1] - windows[:, 3]
    return turned


def inside(
    windows: NDArray[np.int32], tags: NDArray[np.uint8], crop: tuple[int, int, int, int]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the windows entirely inside a crop (y, x, height, width), in its coordinates."""
    y, x, height, width = crop
    moved = windows - np.array([y, x, 0, 0], windows.dtype)
    kept = (
        (moved[:, 0] >= 0)
        & (moved[:, 1] >= 0)
        & (moved[:, 0] + moved[:, 2] <= height)
        & (moved[:, 1] + moved[:, 3] <= width)
    )
    return moved[kept], tags[kept]
