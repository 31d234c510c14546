"""PLIMSeg stage 1: blocks of an image encoder -> one space with the text -> cams."""

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
"""What a cosine is multiplied by before training has said better."""


class CamNet(nn.Module):
    """A cosine classifier on text prototypes, applied to every place of the image.

    The blocks are reduced to `width` channels, put together on one of their grids, mixed, and
    projected to where the prototypes live; there the cosine with class k's prototype, times a
    learned scale, plus a learned bias, is the cam of class k. All of it works place by place: a
    head that looks around learns less well where in a window its tags come from.

    Parameters
    ----------
    block_channels, strides : sequence of int
        Of the blocks that `forward` is given, finest first.
    prototypes : Tensor of float, shape (C, D)
        One vector a class; they stay as they are.
    width : int
        Channels between, a multiple of 8.
    stride : int, optional
        One of `strides`, on whose grid the blocks are put together; the finest when None.

    Attributes
    ----------
    stride : int
        Image pixels per cell of the cams.
    """

    prototypes: Tensor

    def __init__(
        self,
        block_channels: Sequence[int],
        strides: Sequence[int],
        prototypes: Tensor,
        width: int = 96,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
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

    def embedded(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return unit vectors (B, D, h, w) in the space of the prototypes."""
        height, width = blocks[self.strides.index(self.stride)].shape[2:]
        fused = [
            to_stride(reduce(block), stride, self.stride, (height, width))
            for reduce, block, stride in zip(self.reduce, blocks, self.strides, strict=True)
        ]
        return F.normalize(self.project(self.mix(torch.cat(fused, 1))), dim=1)

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return the cams before any activation.

        Parameters
        ----------
        blocks : sequence of Tensor of float
            (B, block_channels[i], h_i, w_i), as a `Backbone` gives them.

        Returns
        -------
        Tensor of float, shape (B, C, h, w)
            On the grid of `stride`.
        """
        cosine = torch.einsum("bdhw,cd->bchw", self.embedded(blocks), self.prototypes)
        return cosine * self.log_scale.exp() + self.bias
