"""Guides: where a patch looks like the places that hints point at.

SAM learns from a billion masks what belongs together. A decoder trained on some thousands of
objects is told instead how alike each place and the hinted ones are, in the frozen encoder's eyes:
the prototype comparison of few-shot segmentation (SG-One, Zhang et al. 2020). Our addition to
WSI-SAM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_plimseg.models.sam_hints import SURE

if TYPE_CHECKING:
    from torch import Tensor

GUIDES = 2
"""Maps of likeness: in the final and in the early map."""
_LEAST = 1e-3  # keeps the prototype of no hints at zero


def guided(final: Tensor, early: Tensor, drawn: Tensor) -> Tensor:
    """Return drawn hints and the likeness to them, as channels.

    Parameters
    ----------
    final : Tensor, shape (B, D, h, w)
    early : Tensor, shape (B, C, s h, s w)
        Of the image encoder.
    drawn : Tensor, shape (B, 1, 4 h, 4 w)
        Hints drawn as logits (`PatchHints.drawn`).

    Returns
    -------
    Tensor, shape (B, 1 + GUIDES, 4 h, 4 w)
        The drawing, with 1 for a sure pixel, and two maps in [-2, 2].
    """
    size = drawn.shape[2:]
    alike = [
        F.interpolate(likeness(maps, drawn), size, mode="bilinear", align_corners=False)
        for maps in (final, early)
    ]
    return torch.cat((drawn / SURE, *alike), 1)


def likeness(maps: Tensor, drawn: Tensor) -> Tensor:
    """Return the cosine with what lies inside the hints minus that with what lies outside.

    Parameters
    ----------
    maps : Tensor, shape (B, D, h, w)
        The mean of each patch is taken away first: it is what all places share.
    drawn : Tensor, shape (B, 1, H, W)
        Logits; how far above 0 is how much a place counts as inside, below as outside.

    Returns
    -------
    Tensor, shape (B, 1, h, w)
    """
    weights = F.interpolate(drawn, maps.shape[2:], mode="area")
    unit = F.normalize(maps - maps.mean((2, 3), keepdim=True), dim=1)
    alike = unit.new_zeros(weights.shape)
    for sign in (1, -1):
        share = (sign * weights).relu()  # (B, 1, h, w)
        total = share.sum((2, 3), keepdim=True) + _LEAST
        prototype = (unit * share).sum((2, 3), keepdim=True) / total  # (B, D, 1, 1)
        prototype = F.normalize(prototype, dim=1, eps=_LEAST)
        alike = alike + sign * (unit * prototype).sum(1, keepdim=True)
    return alike
