"""Vision transformers as backbones: normalized tokens of several blocks as maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_plimseg.models.encoders.base import Backbone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


Grid = tuple[int, int]


def clip_tokens(visual: Any, x: Tensor) -> tuple[Tensor, Grid]:
    """Return the input of the first block of open_clip's `VisionTransformer`, and the patch grid.

    Parameters
    ----------
    visual : open_clip.transformer.VisionTransformer
    x : Tensor of float, shape (B, 3, H, W)
        Normalized; sides are multiples of the patch size.

    Returns
    -------
    tokens : Tensor, shape (B, 1 + h * w, width)
    grid : tuple of int
        h and w.
    """
    patches = visual.conv1(x)  # (B, width, h, w)
    grid = (patches.shape[2], patches.shape[3])
    first = visual.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
    tokens = torch.cat((first, patches.flatten(2).transpose(1, 2)), 1)
    positions = resized_positions(visual.positional_embedding, visual.grid_size, grid)
    embedded: Tensor = visual.ln_pre(visual.patch_dropout(tokens + positions.to(tokens.dtype)))
    return embedded, grid


def resized_positions(positions: Tensor, old: Grid, new: Grid) -> Tensor:
    """Return position embeddings (1 + h * w, width), interpolated except for the class token."""
    if tuple(old) == new:
        return positions
    squares = positions[1:].T.reshape(1, -1, *old).float()  # (1, width, h, w)
    fitted = F.interpolate(squares, new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((positions[:1], fitted[0].flatten(1).T.to(positions.dtype)))


def is_timm_transformer(network: Any) -> bool:
    """Return whether a timm network is a plain vision transformer."""
    return type(network).__name__ == "VisionTransformer" and hasattr(network, "patch_embed")


def accept_any_size(trunk: Any) -> None:
    """Make a timm `VisionTransformer` interpolate its position embeddings.

    The same as building it with `dynamic_img_size=True`, which open_clip can't pass on.
    """
    from timm.layers import Format

    trunk.dynamic_img_size = True
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC


def timm_tokens(trunk: Any, x: Tensor) -> tuple[Tensor, Grid]:
    """Return the input of the first block of a timm `VisionTransformer`, and the patch grid.

    The transformer must accept any size (`accept_any_size`).
    """
    patches = trunk.patch_embed(x)  # (B, h, w, width)
    grid = (patches.shape[1], patches.shape[2])
    embedded: Tensor = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(patches)))
    return embedded, grid


def as_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Return the last h * w tokens as a map (B, width, h, w)."""
    patches = tokens[:, -grid[0] * grid[1] :].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], *grid)


TAPS = 4
MPP = 0.5
"""Pathology encoders were trained on patches near 20x; their files don't state it."""


def taps(depth: int) -> tuple[int, ...]:
    """Return the indices of the blocks whose tokens are used: 2, 5, 8 and 11 of 12."""
    stages = min(TAPS, depth)
    return tuple(round(depth * (i + 1) / stages) - 1 for i in range(stages))


class TransformerBackbone(Backbone):
    """A transformer's tokens after four of its blocks, all at the stride of its patch size.

    Parameters
    ----------
    network : torch.nn.Module
        open_clip's `VisionTransformer`, or timm's after `accept_any_size`. Its layers after the
        last norm are removed.
    name, digest, spec
        As in `Backbone`; the spec holds `mean` and `std`.
    """

    def __init__(self, network: Any, *, name: str, digest: str, spec: Mapping[str, Any]) -> None:
        from_clip = hasattr(network, "transformer")
        blocks = network.transformer.resblocks if from_clip else network.blocks
        norm = network.ln_post if from_clip else network.norm
        patch = network.patch_size if from_clip else network.patch_embed.patch_size
        last = taps(len(blocks))
        super().__init__(
            name=name, spec=spec, digest=digest, mpp=MPP, mean=spec["mean"], std=spec["std"],
            block_channels=[network.conv1.out_channels if from_clip else network.embed_dim]
            * len(last),
            strides=[int(patch[0])] * len(last),
        )  # fmt: skip
        if from_clip:
            network.proj = None
        self.network = network
        self._tokens = clip_tokens if from_clip else timm_tokens
        starts = (0, *(tap + 1 for tap in last[:-1]))
        self._chains = [
            list(blocks[start : end + 1]) for start, end in zip(starts, last, strict=True)
        ]
        self._norm = [norm]  # in a list, because it is registered already as a part of the network
        self.set_trainable("none")
        self.eval()

    def stage(self, index: int, x: Any) -> tuple[Tensor, tuple[Tensor, Grid]]:
        """Return the normalized tokens after the last block of a stage as a map, and the tokens."""
        tokens, grid = self._tokens(self.network, x) if index == 0 else x
        for block in self._chains[index]:
            tokens = block(tokens)
        return as_map(self._norm[0](tokens), grid), (tokens, grid)

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights of a stage's blocks.

        The embedding belongs to the first stage and the norm to the last.
        """
        chains = {id(p) for chain in self._chains for block in chain for p in block.parameters()}
        norm = {id(p) for p in self._norm[0].parameters()}
        found = [p for block in self._chains[index] for p in block.parameters()]
        if index == 0:
            found += [
                p for p in self.network.parameters() if id(p) not in chains and id(p) not in norm
            ]
        if index == len(self._chains) - 1:
            found += list(self._norm[0].parameters())
        return found
