"""Frozen image encoders of promptable models: SAM's ViT, MobileSAM's TinyViT, any backbone.

SAM's ViT comes from transformers (the extra `sam`), TinyViT from timm. Their sizes follow from the
weights.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import (
    Allowed,
    check_settings,
    empty_backbone,
    sam_vision_encoder,
    tiny_vit,
)
from napari_plimseg.models.promptable.dual_decoder import Encoded
from napari_plimseg.models.promptable.sam_decoder import LayerNorm2d

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_plimseg.models.encoders import Backbone


MEAN, STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""SAM's normalization of RGB in [0, 1]."""
STRIDE = 16
TINY_VIT_SIDE = 1024
_LEAST_CELLS = 2
_LARGEST = 8192


class PatchEncoder(nn.Module, ABC):
    """An image encoder with a final and an early map of square patches.

    Its pretrained part stays frozen and in evaluation mode.

    Attributes
    ----------
    side : int
        Of its patches, in pixels.
    embed_dim, early_channels : int
        Channels of the maps.
    early_scale : int
        How many times finer the cells of the early map are than those of the final map.
    """

    side: int
    embed_dim: int
    early_channels: int
    early_scale: int = 1

    @abstractmethod
    def frozen_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pretrained part's output for RGB patches (B, 3, side, side) in [0, 1].

        It is the same in every epoch of a training, so it can be cached.
        """

    @abstractmethod
    def encoded(self, maps: tuple[Tensor, Tensor]) -> Encoded:
        """Return final and early map from the output of `frozen_maps`."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return plain data for `empty_encoder`."""

    def forward(self, images: Tensor) -> Encoded:
        """Return final and early map of RGB patches (B, 3, side, side) in [0, 1]."""
        if images.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"patches {tuple(images.shape)} for an encoder of {self.side} pixels")
        with torch.no_grad():
            maps = self.frozen_maps(images)
        return self.encoded(maps)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the trainable weights."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


class SamEncoder(PatchEncoder):
    """SAM's own image encoders; they are never trained."""

    _mean: Tensor
    _std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def encoded(self, maps: tuple[Tensor, Tensor]) -> Encoded:
        """Return the maps as they are."""
        return Encoded(*maps)

    def frozen_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return final and early map."""
        return self.maps((images - self._mean) / self._std)

    @abstractmethod
    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return final and early map of normalized patches."""


class VitEncoder(SamEncoder):
    """SAM's vision transformer; the early map follows its first global attention.

    Parameters
    ----------
    sizes : mapping
        From `vit_sizes`.
    """

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self._sizes = check_vit_sizes(sizes)
        self.network: Any = sam_vision_encoder(self._sizes)
        self.requires_grad_(False).eval()
        self.side = sizes["image_size"]
        self.embed_dim, self.early_channels = sizes["output_channels"], sizes["hidden_size"]
        self._early = min(sizes["global_attn_indexes"])

    def spec(self) -> dict[str, Any]:
        """Return plain data for `empty_encoder`."""
        return {"architecture": "sam-vit", **self._sizes}

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return final and early map of normalized patches."""
        x = self.network.patch_embed(images)  # (B, h, w, C)
        if self.network.pos_embed is not None:
            x = x + self.network.pos_embed
        early = x
        for index, layer in enumerate(self.network.layers):
            x = layer(x)
            if index == self._early:
                early = x
        return self.network.neck(x), early.permute(0, 3, 1, 2)


class TinyVitEncoder(SamEncoder):
    """MobileSAM's TinyViT; the early map is the input of its third stage.

    Parameters
    ----------
    sizes : mapping
        From `tiny_vit_sizes`.
    """

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self._sizes = check_settings(
            dict(sizes), _TINY_VIT_SIZES, inside="patch_encoder", needed=tuple(_TINY_VIT_SIZES)
        )
        self.side, self.embed_dim = sizes["side"], sizes["output_channels"]
        dims = sizes["embed_dims"]
        self.early_channels = dims[2]
        self.network: Any = tiny_vit(self._sizes)
        # MobileSAM omits the last downsampling of TinyViT: cells stay at 16 pixels
        self.network.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(dims[3], self.embed_dim, 1, bias=False),
            LayerNorm2d(self.embed_dim),
            nn.Conv2d(self.embed_dim, self.embed_dim, 3, padding=1, bias=False),
            LayerNorm2d(self.embed_dim),
        )
        self.requires_grad_(False).eval()

    def spec(self) -> dict[str, Any]:
        """Return plain data for `empty_encoder`."""
        return {"architecture": "tiny-vit", **self._sizes}

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return final and early map of normalized patches."""
        first, second, third, fourth = self.network.stages
        early = third.downsample(second(first(self.network.patch_embed(images))))
        x = third.blocks(early.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.neck(fourth(x)), early


class BackboneEncoder(PatchEncoder):
    """A backbone with trained projections, as in the bundled model.

    Parameters
    ----------
    backbone : Backbone
        With cells of 16 pixels or finer; it is frozen, not copied.
    side : int
        Of the patches, a multiple of 16.
    embed_dim : int
        Channels of the final map.
    early_block : int
        Index of the backbone's map used as the early one; its cells have 4, 8 or 16 pixels.
    early_dim : int
        Channels to which a trained projection reduces the early map before 2 x 2 cells are merged
        into one. 0 keeps the map as it is, which takes 8 MB per patch instead of 0.5 MB for the
        first block of a DenseNet.
    """

    def __init__(
        self,
        backbone: Backbone,
        side: int,
        *,
        embed_dim: int = 256,
        early_block: int = 0,
        early_dim: int = 0,
    ) -> None:
        super().__init__()
        if side % STRIDE or side < STRIDE * _LEAST_CELLS:
            raise ModelError(f"patches of {side} pixels are impossible")
        strides = backbone.strides
        if not 0 <= early_block < len(strides) or strides[early_block] not in (4, 8, 16):
            raise ModelError(f"the backbone has no early map at block {early_block}")
        self.side, self.embed_dim, self.early_block = side, embed_dim, early_block
        self.early_channels = backbone.block_channels[early_block]
        self.early_scale = STRIDE // strides[early_block]
        self.early_dim = early_dim
        if early_dim:
            if not 0 < early_dim <= self.early_channels or self.early_scale == 1:
                raise ModelError(f"an early map reduced to {early_dim} channels is impossible")
            self.reduce = nn.Conv2d(self.early_channels, early_dim, 1, bias=False)
            self.early_channels, self.early_scale = 4 * early_dim, self.early_scale // 2
        self.backbone = backbone
        self._fused = tuple(i for i, stride in enumerate(strides) if 4 < stride <= STRIDE)
        channels = sum(backbone.block_channels[i] for i in self._fused)
        self.backbone.requires_grad_(False)
        self.project = nn.Conv2d(channels, embed_dim, 1, bias=False)
        self.norm = LayerNorm2d(embed_dim)
        self.eval()

    def frozen_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the backbone's maps, concatenated at cells of 16 pixels, and its early map."""
        maps = self.backbone(images)
        size = (self.side // STRIDE, self.side // STRIDE)
        fused = torch.cat([F.adaptive_avg_pool2d(maps[i], size) for i in self._fused], 1)
        return fused, maps[self.early_block]

    def encoded(self, maps: tuple[Tensor, Tensor]) -> Encoded:
        """Return the projected map and the early one."""
        fused, early = maps
        if self.early_dim:
            early = F.pixel_unshuffle(self.reduce(early), 2)
        return Encoded(self.norm(self.project(fused)), early)

    def spec(self) -> dict[str, Any]:
        """Return plain data for `empty_encoder`."""
        return {
            "architecture": "backbone", "backbone": self.backbone.spec, "side": self.side,
            "embed_dim": self.embed_dim, "early_block": self.early_block,
            "early_dim": self.early_dim,
        }  # fmt: skip


def empty_encoder(spec: Mapping[str, Any]) -> PatchEncoder:
    """Build an encoder from its `spec`, for weights that are loaded afterwards.

    Raises
    ------
    ModelError
        When this version can't build it.
    """
    rest = dict(spec)
    architecture = rest.pop("architecture", None)
    try:
        if architecture == "sam-vit":
            return VitEncoder(rest)
        if architecture == "tiny-vit":
            return TinyVitEncoder(rest)
        if architecture == "backbone":
            return encoder_on(empty_backbone(rest.pop("backbone", {})), rest)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ModelError(f"its encoder's description is wrong ({error})") from error
    raise ModelError(
        f"encoders of architecture '{str(architecture)[:60]}' are not known to this version"
    )


def encoder_on(backbone: Backbone, sizes: Mapping[str, Any]) -> BackboneEncoder:
    """Build the encoder on a backbone from the other sizes of its `spec`.

    Raises
    ------
    ModelError
        When these sizes are impossible.
    """
    known = check_settings(
        dict(sizes), _ON_BACKBONE, inside="patch_encoder",
        needed=("side", "embed_dim", "early_block"),
    )  # fmt: skip
    return BackboneEncoder(backbone, known.pop("side"), **known)


_SIDE, _WIDTH, _MOST_LAYERS = Allowed(16, _LARGEST), Allowed(1, _LARGEST), 128
_VIT_SIZES = {
    "hidden_size": _WIDTH, "output_channels": _WIDTH, "num_hidden_layers": Allowed(1, _MOST_LAYERS),
    "num_attention_heads": Allowed(1, 256), "image_size": _SIDE, "patch_size": Allowed(2, 128),
    "mlp_dim": Allowed(1, 4 * _LARGEST), "window_size": Allowed(0, 512),
}  # fmt: skip
_TINY_VIT_SIZES = {
    "embed_dims": Allowed(1, 2048, length=4), "depths": Allowed(1, 64, length=4),
    "num_heads": Allowed(1, 128, length=4), "window_sizes": Allowed(1, 128, length=4),
    "output_channels": _WIDTH, "side": _SIDE,
}  # fmt: skip
_ON_BACKBONE = {
    "side": _SIDE, "embed_dim": _WIDTH, "early_block": Allowed(0, 64),
    "early_dim": Allowed(0, 4096),
}  # fmt: skip


def check_vit_sizes(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of SAM's vision transformer after checking each.

    Raises
    ------
    ModelError
        When a size is unknown, missing or impossible.
    """
    rest = dict(sizes)
    everywhere = rest.pop("global_attn_indexes", None)
    check_settings(rest, _VIT_SIZES, inside="patch_encoder", needed=tuple(_VIT_SIZES))
    layers = rest["num_hidden_layers"]
    right = isinstance(everywhere, list) and 0 < len(everywhere) <= layers
    if not right or not all(type(i) is int and 0 <= i < layers for i in everywhere or ()):
        raise ModelError("its vision transformer has no global attention")
    if rest["hidden_size"] % rest["num_attention_heads"] or rest["image_size"] % rest["patch_size"]:
        raise ModelError("its encoder's sizes are impossible")
    return {**rest, "global_attn_indexes": everywhere}


def vit_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sizes for `VitEncoder`, from tensors with transformers' names.

    Raises
    ------
    ModelError
        When these are not the weights of SAM's vision transformer.
    """
    try:
        hidden, _, _, patch = tensors["patch_embed.projection.weight"].shape
        cells = tensors["pos_embed"].shape[1]
        spans = [
            (tensors[f"layers.{i}.attn.rel_pos_h"].shape[0] + 1) // 2
            for i in range(_count(tensors, r"layers\.(\d+)\."))
        ]
        head_width = tensors["layers.0.attn.rel_pos_h"].shape[1]
        mlp_dim = tensors["layers.0.mlp.lin1.weight"].shape[0]
        output = tensors["neck.conv1.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(
            f"these are not the weights of a SAM with a vision transformer ({error})"
        ) from error
    everywhere = [i for i, span in enumerate(spans) if span == cells]
    if not everywhere or hidden % head_width:
        raise ModelError("its vision transformer has no global attention")
    return {
        "hidden_size": hidden, "output_channels": output, "num_hidden_layers": len(spans),
        "num_attention_heads": hidden // head_width, "image_size": cells * patch,
        "patch_size": patch, "mlp_dim": mlp_dim, "window_size": min(spans),
        "global_attn_indexes": everywhere,
    }  # fmt: skip


def tiny_vit_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sizes for `TinyVitEncoder`, from tensors with timm's names.

    Raises
    ------
    ModelError
        When these are not the weights of MobileSAM's TinyViT.
    """
    try:
        dims = [tensors["network.patch_embed.conv2.conv.weight"].shape[0]]
        heads, windows = [2], [7]  # the first stage has no attention
        depths = [_count(tensors, r"network\.stages\.0\.blocks\.(\d+)\.")]
        for stage in (1, 2, 3):
            prefix = f"network.stages.{stage}."
            dims.append(tensors[f"{prefix}downsample.conv3.conv.weight"].shape[0])
            biases = tensors[f"{prefix}blocks.0.attn.attention_biases"]
            heads.append(biases.shape[0])
            windows.append(math.isqrt(biases.shape[1]))
            depths.append(_count(tensors, re.escape(prefix) + r"blocks\.(\d+)\."))
        output = tensors["neck.0.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"these are not the weights of a MobileSAM ({error})") from error
    return {
        "embed_dims": dims, "depths": depths, "num_heads": heads, "window_sizes": windows,
        "output_channels": output, "side": TINY_VIT_SIDE,
    }  # fmt: skip


def _count(names: Iterable[str], pattern: str) -> int:
    """Return how many different numbers a pattern matches in names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})
