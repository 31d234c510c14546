"""Masks that follow the edges of the picture: pixel-adaptive refinement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

DILATIONS = (1, 2, 4, 8)
_SHARPNESS = 0.1
_FLOOR = 1e-8


@torch.inference_mode()
def refined(scores: Tensor, pixels: Tensor, iterations: int = 10) -> Tensor:
    """Return class scores that spread over pixels of like colour and stop at edges.

    Each pixel takes the mean of its neighbours' scores at several distances, weighted by how
    alike their colours are for the local contrast (PAMR; Araslanov and Roth, CVPR 2020).

    Parameters
    ----------
    scores : Tensor, shape (C, H, W)
        In [0, 1].
    pixels : Tensor, shape (3, H, W)
        RGB in [0, 1].
    iterations : int

    Returns
    -------
    Tensor, shape (C, H, W)
    """
    colors = _neighbours(pixels[:, None])  # (3, K, H, W)
    spread = torch.cat([colors, pixels[:, None]], 1).std(1, keepdim=True)  # (3, 1, H, W)
    distance = (colors - pixels[:, None]).abs() / (_FLOOR + _SHARPNESS * spread)
    weights = (-distance.mean(0)).softmax(0)  # (K, H, W)
    for _ in range(iterations):
        scores = (_neighbours(scores[:, None]) * weights).sum(1)
    return scores


def _neighbours(maps: Tensor) -> Tensor:
    """Return the eight neighbours at each distance, from (C, 1, H, W) to (C, K, H, W)."""
    kernel = torch.zeros(8, 1, 3, 3, dtype=maps.dtype, device=maps.device)
    for i, place in enumerate(place for place in range(9) if place != 4):
        kernel[i, 0, place // 3, place % 3] = 1
    found = []
    for dilation in DILATIONS:
        if min(maps.shape[2:]) > dilation:
            padded = F.pad(maps, (dilation,) * 4, mode="replicate")
            found.append(F.conv2d(padded, kernel, dilation=dilation))
    return torch.cat(found, 1)
