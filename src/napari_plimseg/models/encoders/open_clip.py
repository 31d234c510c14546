"""CLIP models of open_clip, and CONCH, as encoders and matchers."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.base import Matcher, backbone_identity
from napari_plimseg.models.encoders.cards import CONFIG_FILE, WEIGHT_FILES
from napari_plimseg.models.encoders.external import (
    built_for,
    clip_architecture,
    clip_cleaning,
    clip_network,
    clip_tokenizer,
)
from napari_plimseg.models.encoders.specs import BertText, ClipSpec
from napari_plimseg.models.encoders.tokenizer_files import bert_tokenizer
from napari_plimseg.models.encoders.vit import (
    accept_any_size,
    as_map,
    clip_tokens,
    is_timm_transformer,
    timm_tokens,
)
from napari_plimseg.models.weights import load_checked, open_clip_names
from napari_plimseg.models.windows import WindowGrid
from napari_plimseg.reading import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def dense_path(visual: Any) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return the function from normalized images to vectors (B, D, h, w), and its stride.

    A place's vector is what the last attention block would give for that place alone: its value,
    without mixing in the others. The usual output mixes in every place, so that the vectors of
    a whole image resemble each other (MaskCLIP, Zhou et al. 2022).

    Parameters
    ----------
    visual : torch.nn.Module
        An image tower of open_clip, or CONCH's.

    Raises
    ------
    ModelError
        When no dense vectors can be had from the tower.
    """
    kind = type(visual).__name__
    if kind == "VisionTransformer" and visual.attn_pool is None:
        return lambda x: _clip_patches(visual, x), int(visual.patch_size[0])
    if kind in {"TimmModel", "KeepVisual"} and is_timm_transformer(visual.trunk):
        accept_any_size(visual.trunk)
        patch = int(visual.trunk.patch_embed.patch_size[0])
        return lambda x: _timm_patches(visual, x), patch
    if kind == "ModifiedResNet":
        return lambda x: _resnet_locations(visual, x), 32
    if kind == "ConchVisual":
        patch = int(visual.trunk.patch_embed.patch_size[0])
        return lambda x: _conch_patches(visual, x), patch
    raise ModelError(
        f"dense vectors of the image tower {kind} are not supported",
        remedy="Use a CLIP with a plain vision transformer or ResNet.",
    )


def _values(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the attention's values (B, N, width) of tokens, from its joint q, k, v weights."""
    width = tokens.shape[-1]
    return F.linear(tokens, weight[2 * width :], None if bias is None else bias[2 * width :])


def _clip_patches(visual: Any, x: Tensor) -> Tensor:
    tokens, grid = clip_tokens(visual, x)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    own = last.attn
    values = _values(last.ln_1(tokens), own.in_proj_weight, own.in_proj_bias)
    patches = visual.ln_post(own.out_proj(values))
    if visual.proj is not None:
        patches = patches @ visual.proj
    return as_map(patches, grid)


def _timm_patches(visual: Any, x: Tensor) -> Tensor:
    trunk = visual.trunk
    tokens, grid = timm_tokens(trunk, x)
    *blocks, last = trunk.blocks
    for block in blocks:
        tokens = block(tokens)
    own = last.attn
    values = _values(last.norm1(tokens), own.qkv.weight, own.qkv.bias)
    return as_map(visual.head(trunk.norm(own.proj(values))), grid)


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


WORKING_MPP = 0.5
"""Pathology CLIP models were trained on patches near 20x; their files don't state it."""


class OpenClipEncoder:
    """An open_clip model with a vision transformer or a ResNet as image tower, or CONCH.

    `dense_path` says how its dense vectors are made.

    Parameters
    ----------
    network : torch.nn.Module
        As open_clip builds it, with its weights.
    tokenize : callable
        Maps strings to token ids (N, T).
    name : str
    digest : str
        SHA-256 of the weight file.
    config : dict
        What the image tower can be rebuilt from: `architecture`, and for open_clip's own models
        `embed_dim`, `vision_cfg` and `quick_gelu`.
    """

    mpp = WORKING_MPP

    def __init__(
        self,
        network: Any,
        tokenize: Callable[[list[str]], Tensor],
        *,
        name: str,
        digest: str,
        config: dict[str, Any],
    ) -> None:
        self.name = name
        self.digest = digest
        self.config = config
        self.network = network.eval().requires_grad_(False)
        self._tokenize = tokenize
        visual: Any = network.visual
        self._dense, self.stride = dense_path(visual)
        side = visual.image_size
        self.window = side if isinstance(side, int) else int(side[0])
        self._grid = WindowGrid(self.window, self.stride)
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        self.logit_scale = math.exp(float(network.logit_scale))
        preprocessing = visual.preprocess_cfg  # checked with the specification
        self.mean, self.std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        self._mean = torch.tensor(self.mean).view(3, 1, 1)
        self._std = torch.tensor(self.std).view(3, 1, 1)
        settings = [digest, preprocessing["mean"], preprocessing["std"], self._grid.window, "v1"]
        self.identity = hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()

    @classmethod
    def from_file(cls, architecture: str, path: Path) -> Self:
        """Build one of open_clip's named architectures with the weights of a file."""
        config = clip_architecture(architecture)
        if config is None:
            raise ModelError(
                f"open_clip has no architecture '{architecture}'",
                path=path,
                remedy="Names look like ViT-B-16 or ViT-B-32-quickgelu.",
            )
        spec = ClipSpec.from_config(config, path=path)
        return cls._build(spec, path, f"open_clip:{architecture}")

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> Self:
        """Build from open_clip's configuration and weights in a folder."""
        weights = next((folder / f for f in WEIGHT_FILES if (folder / f).is_file()), None)
        config = folder / CONFIG_FILE
        if weights is None or not config.is_file():
            raise ModelError(
                f"the folder lacks {CONFIG_FILE} or {WEIGHT_FILES[0]}",
                path=folder,
                remedy="Put both files of the model there.",
            )
        content: dict[str, Any] = read_json(config, ModelError, limit="header-bytes")
        # what else the file says is not read
        spec = ClipSpec.from_config(
            content.get("model_cfg"), content.get("preprocess_cfg"), path=config
        )
        return cls._build(spec, weights, name)

    @classmethod
    def _build(cls, spec: ClipSpec, weights: Path, name: str) -> Self:
        text = spec.text
        if isinstance(text, BertText):
            tokenize: Callable[[list[str]], Tensor] = bert_tokenizer(
                weights.parent, text.context_length,
                lowercase=text.sizes.lowercase, vocabulary=text.sizes.vocab_size,
                clean=clip_cleaning(),
            )  # fmt: skip
        else:
            tokenize = clip_tokenizer(text.context_length)
        network = built_for(lambda: clip_network(spec), weights, _published_names)
        digest = load_checked(network, weights, _published_names)
        config = {
            "architecture": "open_clip", "embed_dim": spec.embed_dim,
            "vision_cfg": dict(spec.given), "quick_gelu": spec.quick_gelu,
        }  # fmt: skip
        return cls(network, tokenize, name=name, digest=digest, config=config)

    @property
    def tower_spec(self) -> dict[str, Any]:
        """The `spec` of its image tower as a backbone."""
        return {**self.config, "mean": list(self.mean), "std": list(self.std)}

    @property
    def identities(self) -> tuple[str, str]:
        """Its own identity, and that of its image tower as a backbone."""
        return self.identity, backbone_identity(self.digest, self.tower_spec)

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self.network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""
        pixels = images.permute(0, 3, 1, 2)
        return F.normalize(self._grid.dense(pixels, self.unit_vectors), dim=1)

    def unit_vectors(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of RGB images in [0, 1].

        Sides are multiples of the stride. Transformers interpolate their position embeddings.
        """
        return F.normalize(self._dense((images - self._mean) / self._std), dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of RGB images (B, 3, H, W) in [0, 1], resized to a window."""
        size = (self.window, self.window)
        if tuple(images.shape[2:]) != size:
            images = F.interpolate(
                images, size, mode="bilinear", antialias=True, align_corners=False
            )
        vectors = self.network.encode_image((images - self._mean) / self._std, normalize=True)
        found: Tensor = vectors
        return found

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        tokens = self._tokenize(list(texts)).to(self._mean.device)
        vectors: Tensor = self.network.encode_text(tokens, normalize=True)
        return vectors


def _published_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as open_clip names them, without those that were once stored by mistake."""
    named = open_clip_names(tensors)
    # transformers counted a BERT's positions as weights until version 4.31
    return {k: v for k, v in named.items() if k != "text.transformer.embeddings.position_ids"}


class ClipMatcher(Matcher):
    """An image-text model of open_clip, or CONCH.

    The vector of an image is the model's own pooled one, of the image resized to the size that
    the model was trained on. Dense vectors are those of zero-shot maps (`dense_path`).

    Parameters
    ----------
    encoder : OpenClipEncoder
    name : str
        For `load_matcher`.
    """

    def __init__(self, encoder: OpenClipEncoder, name: str) -> None:
        super().__init__()
        self.name = name
        self._encoder = encoder
        self.network = self._encoder.network  # registered, so that it moves with the matcher
        self.mpp, self.logit_scale = self._encoder.mpp, self._encoder.logit_scale
        self.requires_grad_(False)
        self.eval()
        self.embedding_size = int(self.encode_text(["tissue"]).shape[1])

    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, ceil(H / stride), ceil(W / stride))."""
        self._follow()
        stride = self._encoder.stride
        height, width = images.shape[2:]
        padding = (0, -width % stride, 0, -height % stride)
        return self._encoder.unit_vectors(F.pad(images, padding, mode="reflect"))

    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of whole images."""
        self._follow()
        return self._encoder.embed(images)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        self._follow()
        return self._encoder.encode_text(texts)

    def _follow(self) -> None:
        # mean and std are not parameters: `Module.to` does not move them with the network
        self._encoder.to(next(self.network.parameters()).device)
