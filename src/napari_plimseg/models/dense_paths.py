"""From a CLIP's image tower to vectors of places in the space shared with texts.

A tower was trained to give one vector an image. MaskCLIP (Zhou et al. 2022) applies the last
attention's value projection to every patch by itself, without attention, residual and
feed-forward, and then what the pooled vector would go through. With attention to `keys` the
values are averaged over patches with similar keys first (SCLIP, Wang et al. 2024; NACLIP,
Hajimiri et al. 2025, without its neighbourhood term).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.vit_tokens import (
    accept_any_size,
    as_map,
    clip_tokens,
    is_timm_transformer,
    timm_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ATTENTIONS = ("values", "keys")


def dense_path(visual: Any, attention: str) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return the function from normalised images to vectors (B, D, h, w), and its stride.

    Parameters
    ----------
    visual : torch.nn.Module
        An image tower of open_clip, or CONCH's.
    attention : str
        One of `ATTENTIONS`; a tower with attention pooling knows `values` only.

    Raises
    ------
    ModelError
        When the tower gives no vectors of places.
    """
    if attention not in ATTENTIONS:
        raise ValueError(f"'{attention}' is not one of {', '.join(ATTENTIONS)}")
    kind = type(visual).__name__
    if kind == "VisionTransformer" and visual.attn_pool is None:
        return lambda x: _clip_patches(visual, attention, x), int(visual.patch_size[0])
    if kind == "TimmModel" and is_timm_transformer(visual.trunk):
        accept_any_size(visual.trunk)
        patch = int(visual.trunk.patch_embed.patch_size[0])
        return lambda x: _timm_patches(visual, attention, x), patch
    if attention == "values" and kind == "ModifiedResNet":
        return lambda x: _resnet_locations(visual, x), 32
    if attention == "values" and kind == "ConchVisual":
        patch = int(visual.trunk.patch_embed.patch_size[0])
        return lambda x: _conch_patches(visual, x), patch
    raise ModelError(
        f"dense vectors of the image tower {kind} by its {attention} are not supported",
        remedy="Use a CLIP with a plain vision transformer or ResNet.",
    )


def _mixed(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, heads: int, attention: str
) -> Tensor:
    """Return the values (B, N, width) of tokens, each by itself or mixed by its keys."""
    width = tokens.shape[-1]
    if attention == "values":
        return F.linear(tokens, weight[2 * width :], None if bias is None else bias[2 * width :])
    both = F.linear(tokens, weight[width:], None if bias is None else bias[width:])
    # two of (B, heads, N, width / heads)
    keys, values = both.reshape(*tokens.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(keys, keys, values)
    return mixed.transpose(1, 2).flatten(2)


def _clip_patches(visual: Any, attention: str, x: Tensor) -> Tensor:
    tokens, grid = clip_tokens(visual, x)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    own = last.attn
    mixed = _mixed(
        last.ln_1(tokens), own.in_proj_weight, own.in_proj_bias, own.num_heads, attention
    )
    patches = visual.ln_post(own.out_proj(mixed))
    if visual.proj is not None:
        patches = patches @ visual.proj
    return as_map(patches, grid)


def _timm_patches(visual: Any, attention: str, x: Tensor) -> Tensor:
    trunk = visual.trunk
    tokens, grid = timm_tokens(trunk, x)
    *blocks, last = trunk.blocks
    for block in blocks:
        tokens = block(tokens)
    own = last.attn
    mixed = _mixed(last.norm1(tokens), own.qkv.weight, own.qkv.bias, own.num_heads, attention)
    return as_map(visual.head(trunk.norm(own.proj(mixed))), grid)


def _resnet_locations(visual: Any, x: Tensor) -> Tensor:
    x = visual.stem(x)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    pool = visual.attnpool
    locations = pool.c_proj(pool.v_proj(x.permute(0, 2, 3, 1)))  # (B, h, w, D)
    return locations.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def _conch_patches(visual: Any, x: Tensor) -> Tensor:
    tokens, grid = timm_tokens(visual.trunk, x)
    for block in visual.trunk.blocks:
        tokens = block(tokens)
    pool = visual.attn_pool_contrast
    own, width = pool.attn, pool.attn.embed_dim
    weight = own.v_proj_weight if own.in_proj_weight is None else own.in_proj_weight[2 * width :]
    values = F.linear(pool.ln_k(visual.trunk.norm(tokens)), weight, own.in_proj_bias[2 * width :])
    return as_map(visual.ln_contrast(own.out_proj(values)) @ visual.proj_contrast, grid)
