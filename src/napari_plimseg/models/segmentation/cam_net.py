"""Stage 1: class activation maps (CAMs) from an image encoder and text prototypes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models.layers import to_stride

if TYPE_CHECKING:
    from collections.abc import Sequence


GROUPS = 8
FIRST_SCALE = 10.0
"""Initial factor of a cosine; it is trained."""
_APART, _SOFTNESS = 0.5, 0.1
"""Learnt prototypes: length of what is added to a text's vector, and softness of their maximum."""


class CamNet(nn.Module):
    """A cosine classifier on text prototypes, applied to every position of the image.

    The blocks are reduced to `width` channels, concatenated on one of their grids, mixed, and
    projected to the space of the prototypes. The CAM of class k is the cosine with its prototype,
    times a trained scale, plus a trained bias. Everything works position by position: a head with
    a larger receptive field learns less well where in a window its tags come from.

    Parameters
    ----------
    block_channels, strides : sequence of int
        Of the blocks for `forward`, finest first.
    prototypes : Tensor of float, shape (C, D)
        One vector per class; they are not trained.
    learnt : int
        Trained prototypes of each class, started near its vector; 0 uses that vector alone. The
        CAM is then the soft maximum of the cosines with them, so that each can stand for another
        look of the class.
    width : int
        Channels of the hidden layers, a multiple of 8.
    stride : int, optional
        One of `strides`, the grid of the CAMs; the finest when None.

    Attributes
    ----------
    stride : int
        Image pixels per cell of the CAMs.
    """

    prototypes: Tensor

    def __init__(
        self,
        block_channels: Sequence[int],
        strides: Sequence[int],
        prototypes: Tensor,
        width: int = 96,
        stride: int | None = None,
        learnt: int = 0,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.width = width
        self.stride = min(self.strides) if stride is None else stride
        self.reduce = nn.ModuleList(nn.Conv2d(c, width, 1) for c in block_channels)
        fused = width * len(self.strides)
        self.mix = nn.Sequential(
            nn.GroupNorm(GROUPS, fused), nn.ReLU(), nn.Dropout2d(0.2),
            nn.Conv2d(fused, width, 1),
            nn.GroupNorm(GROUPS, width), nn.ReLU(),
        )  # fmt: skip
        self.project = nn.Conv2d(width, prototypes.shape[1], 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.bias = nn.Parameter(torch.zeros(len(prototypes), 1, 1))
        self.register_buffer("prototypes", F.normalize(prototypes.detach().float(), dim=1))
        self.bank: nn.Parameter | None = None
        if learnt:
            apart = torch.randn(len(prototypes), learnt, prototypes.shape[1])
            started = self.prototypes[:, None] + _APART * F.normalize(apart, dim=2)
            self.bank = nn.Parameter(started)

    def embedded(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return unit vectors (B, D, h, w) in the space of the prototypes."""
        height, width = blocks[self.strides.index(self.stride)].shape[2:]
        fused = [
            to_stride(reduce(block), stride, self.stride, (height, width))
            for reduce, block, stride in zip(self.reduce, blocks, self.strides, strict=True)
        ]
        return F.normalize(self.project(self.mix(torch.cat(fused, 1))), dim=1)

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return the CAMs before any activation.

        Parameters
        ----------
        blocks : sequence of Tensor of float
            (B, block_channels[i], h_i, w_i), of a `Backbone`.

        Returns
        -------
        Tensor of float, shape (B, C, h, w)
            On the grid of `stride`.
        """
        embedded = self.embedded(blocks)
        if self.bank is None:
            cosine = torch.einsum("bdhw,cd->bchw", embedded, self.prototypes)
        else:
            each = torch.einsum("bdhw,cpd->bcphw", embedded, F.normalize(self.bank, dim=2))
            cosine = nearest(each, 2)
        return cosine * self.log_scale.exp() + self.bias

    def likeness(self) -> Tensor:
        """Return the mean squared cosine between two learnt prototypes of a class; 0 without.

        As a loss it keeps them diverse: else all would become the same vector.
        """
        if self.bank is None or self.bank.shape[1] < 2:
            return self.bias.sum() * 0
        unit = F.normalize(self.bank, dim=2)
        cosines = unit @ unit.transpose(1, 2)  # (C, P, P)
        count = unit.shape[1]
        others = ~torch.eye(count, dtype=torch.bool, device=unit.device)
        return cosines[:, others].square().mean()


def nearest(cosines: Tensor, dim: int) -> Tensor:
    """Return the soft maximum of the cosines with several prototypes of a class, along `dim`."""
    return ((cosines / _SOFTNESS).logsumexp(dim) - math.log(cosines.shape[dim])) * _SOFTNESS
