"""SAM's prompt encoder and mask decoder (Kirillov et al. 2023), with one additional token.

Why not the classes of transformers: the bundled promptable model must run without that package,
which is an optional dependency; WSI-SAM adds a token to SAM's own ones; and the SAM-HQ decoder of
transformers 5.23 upscales the image map that enters its transformer instead of the one that
leaves it. Tensors have the names of transformers, so that its weights can be loaded directly.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.promptable.prompt_tensors import (
    ABSENT,
    BOX_END,
    GUIDES,
    NEGATIVE,
    NO_POINT,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_plimseg.models.promptable.prompt_tensors import HintTensors


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a dual decoder; the defaults are SAM's.

    Parameters
    ----------
    early_channels : int
        Of the encoder's early map: 160 for TinyViT, 768, 1024 or 1280 for ViT-B, L and H.
    embed_dim : int
        D, channels of the encoder's final map.
    early_scale : int
        How many times finer the cells of the early map are than those of the final map: 1, 2 or 4.
    heads, depth, mlp_dim : int
        Of the two-way transformer.
    more_masks : int
        Mask tokens that are never used; SAM's weights have 3.
    guides : int
        Similarity maps next to the mask of the hints: 0 for SAM, or `GUIDES`.
    """

    early_channels: int
    embed_dim: int = 256
    early_scale: int = 1
    heads: int = 8
    depth: int = 2
    mlp_dim: int = 2048
    more_masks: int = 3
    guides: int = 0

    def __post_init__(self) -> None:
        sizes = asdict(self)
        for name, value in sizes.items():
            least = 0 if name in ("more_masks", "guides") else 1
            most = 64 if name in ("depth", "more_masks") else 4096
            if type(value) is not int or not least <= value <= most:
                raise ModelError(f"a decoder whose '{name}' is {value!r} is impossible")
        if self.early_scale not in (1, 2, 4):
            raise ModelError(f"a decoder whose 'early_scale' is {self.early_scale} is impossible")
        if self.guides not in (0, GUIDES):
            raise ModelError(f"a decoder whose 'guides' is {self.guides} is impossible")
        if self.embed_dim % (2 * self.heads) or self.embed_dim % 32:
            raise ModelError(f"{self.embed_dim} channels don't divide into {self.heads} heads")

    def to_dict(self) -> dict[str, int]:
        """Return plain data for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DecoderShape:
        """Read plain data; anything unknown or missing is refused."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ModelError(f"its decoder's description is wrong ({error})") from error


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of maps (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(width, hidden)
        self.layers = nn.ModuleList([nn.Linear(hidden, hidden)])
        self.proj_out = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out)."""
        x = self.layers[0](self.proj_in(x).relu()).relu()
        found: Tensor = self.proj_out(x)
        return found


@dataclass(frozen=True)
class HintEmbedding:
    """Embedded hints, the input of SAM's decoder.

    Parameters
    ----------
    tokens : Tensor, shape (B, K, D)
        One per point.
    present : Tensor of bool, shape (B, K)
        False for padding.
    dense : Tensor, shape (B, D, h, w)
        Is added to the image's embedding.
    """

    tokens: Tensor
    present: Tensor
    dense: Tensor


class _Positions(nn.Module):
    """Random Fourier features (..., D) of positions (y, x) in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(2, width // 2))

    def forward(self, places: Tensor) -> Tensor:
        angles = 2 * math.pi * ((2 * places.flip(-1) - 1) @ self.positional_embedding)
        return torch.cat((angles.sin(), angles.cos()), -1)


class _MaskEmbedding(nn.Module):
    """Embed mask logits and guides (B, 1 + G, 4 h, 4 w) as (B, D, h, w)."""

    def __init__(self, width: int, guides: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1 + guides, 4, 2, 2)
        self.layer_norm1 = LayerNorm2d(4)
        self.conv2 = nn.Conv2d(4, 16, 2, 2)
        self.layer_norm2 = LayerNorm2d(16)
        self.conv3 = nn.Conv2d(16, width, 1)

    def forward(self, masks: Tensor) -> Tensor:
        x = F.gelu(self.layer_norm1(self.conv1(masks)))
        x = F.gelu(self.layer_norm2(self.conv2(x)))
        embedded: Tensor = self.conv3(x)
        return embedded


class HintEncoder(nn.Module):
    """SAM's prompt encoder: points and boxes become tokens, a mask becomes a map.

    Parameters
    ----------
    width : int
        D.
    guides : int
        Of `DecoderShape`.
    """

    def __init__(self, width: int = 256, guides: int = 0) -> None:
        super().__init__()
        self.shared_embedding = _Positions(width)
        self.point_embed = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask_embed = _MaskEmbedding(width, guides)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positional encoding of the cells of a map, (1, D, h, w)."""
        weight = self.shared_embedding.positional_embedding
        y, x = ((torch.arange(n, device=weight.device) + 0.5) / n for n in grid)
        places = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)
        encoded: Tensor = self.shared_embedding(places.to(weight.dtype))
        return encoded.permute(2, 0, 1)[None]

    def forward(
        self,
        hints: HintTensors,
        side: int,
        grid: tuple[int, int],
        guided: Tensor | None = None,
    ) -> HintEmbedding:
        """Encode hints in a patch of `side` pixels, whose image map has `grid` cells.

        Parameters
        ----------
        hints : HintTensors
        side : int
        grid : (int, int)
        guided : Tensor, shape (B, 1 + G, 4 h, 4 w), optional
            The masks of the hints with guides; replaces the masks.

        Returns
        -------
        HintEmbedding
            With one token per point, and two per box (its corners).
        """
        kinds = hints.kinds
        tokens = self.shared_embedding(hints.points / side)  # (B, K, D)
        tokens = torch.where((kinds <= NO_POINT)[..., None], self.not_a_point_embed.weight, tokens)
        learned = torch.cat([*self.point_embed.parameters()])  # (4, D)
        own = learned[kinds.clamp(NEGATIVE, BOX_END)] * (kinds >= NEGATIVE)[..., None]
        none = self.no_mask_embed.weight[..., None, None]  # (1, D, 1, 1)
        if hints.masks is None:
            dense = none.expand(len(hints), -1, *grid)
        else:
            dense = self.mask_embed(hints.masks if guided is None else guided)
            if hints.has_mask is not None:
                dense = torch.where(hints.has_mask[:, None, None, None], dense, none)
        return HintEmbedding(tokens + own, kinds != ABSENT, dense)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, present: Tensor | None = None
    ) -> Tensor:
        """Return (B, N, D); keys (B, M, D) that are not `present` (B, M) are ignored."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in (
                (self.q_proj, query), (self.k_proj, key), (self.v_proj, value),
            )
        )  # fmt: skip
        mask = None if present is None else present[:, None, None]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(-2))
        return out


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lin2(self.lin1(x).relu())
        return out


class _TwoWayBlock(nn.Module):
    """Tokens attend to each other and to the image, and the image to the tokens."""

    def __init__(self, shape: DecoderShape, *, first: bool) -> None:
        super().__init__()
        width, heads = shape.embed_dim, shape.heads
        self.first = first
        self.self_attn = _Attention(width, heads, width)
        self.cross_attn_token_to_image = _Attention(width, heads, width // 2)
        self.mlp = _FeedForward(width, shape.mlp_dim)
        self.cross_attn_image_to_token = _Attention(width, heads, width // 2)
        self.layer_norm1 = nn.LayerNorm(width)
        self.layer_norm2 = nn.LayerNorm(width)
        self.layer_norm3 = nn.LayerNorm(width)
        self.layer_norm4 = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, image: Tensor, token_places: Tensor, places: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens, present)
        else:
            placed = tokens + token_places
            tokens = tokens + self.self_attn(placed, placed, tokens, present)
        tokens = self.layer_norm1(tokens)
        found = self.cross_attn_token_to_image(tokens + token_places, image + places, image)
        tokens = self.layer_norm2(tokens + found)
        tokens = self.layer_norm3(tokens + self.mlp(tokens))
        found = self.cross_attn_image_to_token(
            image + places, tokens + token_places, tokens, present
        )
        return tokens, self.layer_norm4(image + found)


class _TwoWayTransformer(nn.Module):
    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        width = shape.embed_dim
        self.layers = nn.ModuleList(_TwoWayBlock(shape, first=i == 0) for i in range(shape.depth))
        self.final_attn_token_to_image = _Attention(width, shape.heads, width // 2)
        self.layer_norm_final_attn = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, image: Tensor, places: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        out = tokens
        for layer in self.layers:
            out, image = layer(out, image, tokens, places, present)
        found = self.final_attn_token_to_image(out + tokens, image + places, image)
        return self.layer_norm_final_attn(out + found), image


@dataclass(frozen=True)
class Decoded:
    """The output of SAM's decoder.

    Parameters
    ----------
    token : Tensor, shape (B, D)
        The additional token after the transformer.
    upscaled : Tensor, shape (B, D / 8, 4 h, 4 w)
        The upscaled image map.
    mask : Tensor, shape (B, 1, 4 h, 4 w)
        SAM's own mask, as logits.
    quality : Tensor, shape (B,)
        The predicted IoU of its own mask with the true one.
    """

    token: Tensor
    upscaled: Tensor
    mask: Tensor
    quality: Tensor


class SamDecoder(nn.Module):
    """SAM's mask decoder; only its first mask token is used.

    Parameters
    ----------
    shape : DecoderShape
    """

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        width, masks = shape.embed_dim, 1 + shape.more_masks
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(masks, width)
        self.transformer = _TwoWayTransformer(shape)
        self.upscale_conv1 = nn.ConvTranspose2d(width, width // 4, 2, 2)
        self.upscale_layer_norm = LayerNorm2d(width // 4)
        self.upscale_conv2 = nn.ConvTranspose2d(width // 4, width // 8, 2, 2)
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(width, width, width // 8) for _ in range(masks)
        )
        self.iou_prediction_head = Mlp(width, width, masks)

    def forward(
        self, image: Tensor, positions: Tensor, hints: HintEmbedding, token: Tensor
    ) -> Decoded:
        """Decode hints on an image map.

        Parameters
        ----------
        image : Tensor, shape (B, D, h, w)
        positions : Tensor, shape (1, D, h, w)
            From `HintEncoder.positions`.
        hints : HintEmbedding
        token : Tensor, shape (1, D)
            An additional token, placed between the mask tokens and the hints.
        """
        batch, _, *grid = image.shape
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight, token))  # (T, D)
        tokens = torch.cat((own.expand(batch, -1, -1), hints.tokens), 1)  # (B, T + K, D)
        always = hints.present.new_ones(batch, len(own))
        out, cells = self.transformer(
            tokens,
            (image + hints.dense).flatten(2).transpose(1, 2),  # (B, h w, D)
            positions.flatten(2).transpose(1, 2),
            torch.cat((always, hints.present), 1),
        )
        x = cells.transpose(1, 2).unflatten(2, grid)
        x = F.gelu(self.upscale_layer_norm(self.upscale_conv1(x)))
        upscaled = F.gelu(self.upscale_conv2(x))
        weights = self.output_hypernetworks_mlps[0](out[:, 1])  # (B, D / 8)
        return Decoded(
            token=out[:, len(own) - 1],
            upscaled=upscaled,
            mask=masked(weights, upscaled),
            quality=self.iou_prediction_head(out[:, 0])[:, 0],
        )


def masked(weights: Tensor, features: Tensor) -> Tensor:
    """Return mask logits (B, 1, H, W): the product of (B, C) and (B, C, H, W) over channels."""
    return torch.einsum("bc,bchw->bhw", weights, features)[:, None]
