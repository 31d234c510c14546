"""A small residual network as a backbone: fast on a CPU, trained from scratch."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.base import Backbone
from napari_plimseg.models.encoders.cards import SMALL
from napari_plimseg.models.layers import ChannelNorm

if TYPE_CHECKING:
    from collections.abc import Mapping


CHANNELS, DEPTHS = (32, 64, 128), (2, 2, 3)
"""Of the stages at strides 4, 8 and 16; a million weights in total."""
_MPP = 0.5
_LARGEST = {"channels": 1024, "depths": 32}


class ResidualBlock(nn.Module):
    """`x + conv(relu(conv(norm(x))))`, normalized over the channels of each position.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        # each block starts as the identity, which keeps the start of training stable
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        changed: Tensor = self.second(self.first(self.norm(x)).relu_())
        return x + changed


class SmallBackbone(Backbone):
    """Three stages of residual blocks at strides 4, 8 and 16.

    No norm depends on other positions, so that windows give the same output as the whole image.

    Parameters
    ----------
    channels : sequence of int
        Of the three stages.
    depths : sequence of int
        Blocks of each.
    """

    def __init__(
        self, channels: tuple[int, ...] = CHANNELS, depths: tuple[int, ...] = DEPTHS
    ) -> None:
        spec = {"architecture": SMALL, "channels": list(channels), "depths": list(depths)}
        super().__init__(
            name=SMALL, spec=spec, digest="", mpp=_MPP, block_channels=channels,
            strides=(4, 8, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
        )  # fmt: skip
        stem = nn.Sequential(
            nn.Conv2d(3, channels[0] // 2, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(channels[0] // 2, channels[0], 3, stride=2, padding=1),
        )  # fmt: skip
        down = [
            nn.Sequential(ChannelNorm(before), nn.Conv2d(before, after, 3, stride=2, padding=1))
            for before, after in itertools.pairwise(channels)
        ]
        self.enter = nn.ModuleList([stem, *down])
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
            for width, depth in zip(channels, depths, strict=True)
        )
        self.leave = nn.ModuleList(ChannelNorm(width) for width in channels)
        self.set_trainable("none")
        self.eval()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> SmallBackbone:
        """Build the network of a model file, without meaningful weights.

        Raises
        ------
        ModelError
            When such a network is impossible.
        """
        if set(spec) != {"architecture", *_LARGEST}:
            raise ModelError("its image encoder is not a small one of this version")
        sizes = []
        for name, largest in _LARGEST.items():
            values = spec.get(name)
            right = isinstance(values, list) and len(values) == len(CHANNELS)
            if not right or not all(type(v) is int and 1 < v <= largest for v in values or ()):
                raise ModelError(f"its image encoder's {name} {values} are impossible")
            sizes.append(tuple(values or ()))
        return cls(*sizes)

    def stage(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized map of a stage, and the input of the next stage."""
        x = self.blocks[index](self.enter[index](x))
        return self.leave[index](x), x

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights of a stage and of the downsampling before it."""
        modules = (self.enter[index], self.blocks[index], self.leave[index])
        return [parameter for module in modules for parameter in module.parameters()]


def fresh_small_backbone(seed: int) -> SmallBackbone:
    """Return a small backbone with initial weights, all trainable."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = SmallBackbone()
    backbone.set_trainable("all")
    return backbone
