"""Tokens of vision transformers at any image size: positions are interpolated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]


def clip_tokens(visual: Any, x: Tensor) -> tuple[Tensor, Grid]:
    """Return what open_clip's `VisionTransformer` gives its first block, and the patches' grid.

    Parameters
    ----------
    visual : open_clip.transformer.VisionTransformer
    x : Tensor of float, shape (B, 3, H, W)
        Normalised; sides are multiples of the patch.

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
    """Return position embeddings (1 + h * w, width), interpolated; the class token's is kept."""
    if tuple(old) == new:
        return positions
    squares = positions[1:].T.reshape(1, -1, *old).float()  # (1, width, h, w)
    fitted = F.interpolate(squares, new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((positions[:1], fitted[0].flatten(1).T.to(positions.dtype)))


def is_timm_transformer(network: Any) -> bool:
    """Return whether a timm network is a plain vision transformer."""
    return type(network).__name__ == "VisionTransformer" and hasattr(network, "patch_embed")


def accept_any_size(trunk: Any) -> None:
    """Make a timm `VisionTransformer` interpolate its positions, as if it were built so."""
    from timm.layers import Format

    trunk.dynamic_img_size = True
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC


def timm_tokens(trunk: Any, x: Tensor) -> tuple[Tensor, Grid]:
    """Return what a timm `VisionTransformer` gives its first block, and the patches' grid.

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
