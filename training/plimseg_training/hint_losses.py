"""Losses of masks from hints: cross-entropy and Dice where the network is unsure.

As in HQ-SAM and WSI-SAM, after PointRend (Kirillov et al. 2020): a mask's edge is where the points
are, and a large empty patch doesn't drown a small object.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class PointSampling:
    """How many points of a mask are compared, and where.

    Parameters
    ----------
    points : int
        A mask.
    oversample : float
        So many times as many are drawn at first.
    uncertain : float
        Share of the points that are the most uncertain of those; the rest is random.
    """

    points: int = 112 * 112
    oversample: float = 3.0
    uncertain: float = 0.75

    def __post_init__(self) -> None:
        if self.points < 1 or self.oversample < 1 or not 0 <= self.uncertain <= 1:
            raise ValueError(f"{self} is impossible")


def values_at(maps: Tensor, places: Tensor) -> Tensor:
    """Return bilinear values (B, N) of maps (B, 1, H, W) at places (B, N, 2).

    Parameters
    ----------
    maps : Tensor
    places : Tensor
        (x, y) as shares of the map's width and height, 0 to 1.
    """
    # "border": zeros around the map would make every border look uncertain
    found = F.grid_sample(
        maps, 2 * places[:, None] - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[:, 0, 0]


@torch.no_grad()
def uncertain_places(logits: Tensor, sampling: PointSampling) -> Tensor:
    """Return places (B, N, 2), mostly where logits (B, 1, H, W) are nearest to 0."""
    batch = len(logits)
    drawn = torch.rand(batch, int(sampling.points * sampling.oversample), 2, device=logits.device)
    kept = int(sampling.points * sampling.uncertain)
    order = values_at(logits, drawn).abs().topk(kept, dim=1, largest=False).indices  # (B, kept)
    chosen = drawn.gather(1, order[..., None].expand(-1, -1, 2))
    rest = torch.rand(batch, sampling.points - kept, 2, device=logits.device)
    return torch.cat((chosen, rest), 1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - Dice, smoothed by one point, of (B, N) logits and truth in [0, 1], averaged."""
    share = logits.sigmoid()
    both = 2 * (share * truth).sum(1) + 1
    return (1 - both / (share.sum(1) + truth.sum(1) + 1)).mean()


def mask_loss(logits: Tensor, truth: Tensor, sampling: PointSampling) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and Dice loss of a batch at uncertain points.

    Parameters
    ----------
    logits : Tensor, shape (B, 1, h, w)
    truth : Tensor of float, shape (B, 1, H, W)
        0 or 1, of the same patches at any resolution.
    sampling : PointSampling
    """
    logits = logits.float()
    places = uncertain_places(logits, sampling)
    found, wanted = values_at(logits, places), values_at(truth, places)
    return F.binary_cross_entropy_with_logits(found, wanted), dice_loss(found, wanted)
