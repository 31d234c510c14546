"""DenseNet121 with its batch norms folded: the bundled model's image tower.

Written here rather than taken from torchvision, whose DenseNet has no dilated last block and whose
batch norms would cost time in every layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROWTH = 32
BOTTLENECK = 128
DEPTHS = (6, 12, 24, 16)


class Affine(nn.Module):
    """A batch norm that could not be folded: one scale and one shift per channel, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return max(0, scale * x + shift)."""
        return torch.addcmul(self.shift, x, self.scale).relu_()


class DenseLayer(nn.Module):
    """Affine, ReLU, 1 x 1 reduction (its batch norm folded), ReLU, 3 x 3 convolution."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.affine = Affine(channels)
        self.reduce = nn.Conv2d(channels, BOTTLENECK, 1)
        self.grow = nn.Conv2d(
            BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the new channels, (B, 32, h, w)."""
        grown: Tensor = self.grow(self.reduce(self.affine(x)).relu_())
        return grown


class DenseBlock(nn.Module):
    """Layers that each see the outputs of all previous layers."""

    def __init__(self, channels: int, depth: int, dilation: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.out_channels = channels + depth * GROWTH
        self.layers = nn.ModuleList(
            DenseLayer(channels + i * GROWTH, dilation) for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with the new channels of every layer."""
        for layer in self.layers:
            x = torch.cat((x, layer(x)), 1)
        return x


class Transition(nn.Module):
    """Affine, ReLU, 2 x 2 mean, 1 x 1 convolution.

    The original convolves first. Both orders give the same result; this one needs a quarter of the
    multiplications.
    """

    def __init__(self, channels: int, pool: bool) -> None:
        super().__init__()
        self.affine = Affine(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.pool = pool

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's activated map and the input of the next block."""
        activated = self.affine(x)
        pooled = F.avg_pool2d(activated, 2) if self.pool else activated
        return activated, self.conv(pooled)


class DenseNet121(nn.Module):
    """The trunk of DenseNet121 (Huang et al. 2017) for inference.

    Parameters
    ----------
    last_dilation : int
        1 keeps block 4 at stride 32. 2 omits the last pooling and dilates block 4 by 2 instead,
        which gives stride 16 with the same weights.
    """

    def __init__(self, last_dilation: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        blocks, transitions, channels = [], [], 64
        for i, depth in enumerate(DEPTHS):
            block = DenseBlock(channels, depth, last_dilation if i == 3 else 1)
            blocks.append(block)
            channels = block.out_channels
            if i < 3:
                transitions.append(Transition(channels, pool=i < 2 or last_dilation == 1))
                channels //= 2
        self.blocks = nn.ModuleList(blocks)
        self.transitions = nn.ModuleList(transitions)
        self.last = Affine(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the activated maps of the four blocks.

        Parameters
        ----------
        x : Tensor of float, shape (B, 3, H, W)
            RGB in [0, 1].

        Returns
        -------
        list of Tensor
            (B, 256, H/4, W/4), (B, 512, H/8, W/8), (B, 1024, H/16, W/16) and
            (B, 1024, H/32, W/32); the last one at H/16 when `last_dilation` is 2.
        """
        x = F.max_pool2d(self.stem(x).relu_(), 3, 2, 1)
        maps = []
        for block, transition in zip(self.blocks, self.transitions, strict=False):
            activated, x = transition(block(x))
            maps.append(activated)
        maps.append(self.last(self.blocks[-1](x)))
        return maps
