"""Stage 2: a feature pyramid from an image encoder's blocks to class logits at stride 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_plimseg.models.layers import cells, to_stride

if TYPE_CHECKING:
    from collections.abc import Sequence


PYRAMID_WIDTH = 64
COARSEST_STRIDE = 8
"""Of the logits: blocks of transformers, which are all coarser, are enlarged to it."""
_GROUPS = 8


def pyramid_stride(strides: Sequence[int]) -> int:
    """Return the stride of the logits, from the strides of the blocks."""
    finest = min(strides)
    return finest if finest <= COARSEST_STRIDE else max(COARSEST_STRIDE, finest // 2)


class PyramidNet(nn.Module):
    """Add the blocks of an image encoder from coarse to fine, then classify.

    A feature pyramid (Lin et al., CVPR 2017) whose result is the finest level alone. On GlaS, with
    the same pseudo masks, the grid of stride 4 and an encoder that is trained with it gained nine
    points of mIoU over `SegNet` on a frozen one.

    Parameters
    ----------
    block_channels, strides : sequence of int
        Of the blocks for `forward`, finest first.
    classes : int
        Channels of the result, including background.
    width : int
        Channels of the pyramid, a multiple of 8.

    Attributes
    ----------
    stride : int
        Image pixels per cell of the logits.
    width : int
    """

    stride_of_logits = staticmethod(pyramid_stride)

    def __init__(
        self,
        block_channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        width: int = PYRAMID_WIDTH,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.stride, self.width = pyramid_stride(self.strides), width
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in block_channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width), nn.ReLU(),
        )  # fmt: skip
        self.classify = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Dropout(0.1),
            nn.Conv2d(width, classes, 1),
        )  # fmt: skip

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return class logits.

        Parameters
        ----------
        blocks : sequence of Tensor of float
            (B, block_channels[i], h_i, w_i), of a `Backbone`.

        Returns
        -------
        Tensor of float, shape (B, classes, h, w)
            At `stride`, over the area of the finest block.
        """
        levels = [lateral(block) for lateral, block in zip(self.lateral, blocks, strict=True)]
        *finer, added = zip(self.strides, levels, strict=True)
        stride, maps = added
        for fine_stride, level in reversed(finer):
            maps = level + to_stride(maps, stride, fine_stride, (level.shape[2], level.shape[3]))
            stride = fine_stride
        if stride != self.stride:
            height, width = (side * stride for side in maps.shape[2:])
            size = (cells(height, self.stride), cells(width, self.stride))
            maps = to_stride(maps, stride, self.stride, size)
        logits: Tensor = self.classify(self.smooth(maps))  # (B, classes, h, w)
        return logits
