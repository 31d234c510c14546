"""CLIP models of open_clip as encoders: vectors of patches from the last block's values."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import CONFIG_FILE, WEIGHT_FILES
from napari_plimseg.models.torchvision_remedy import make_torchvision_importable
from napari_plimseg.models.weights import load_checked
from napari_plimseg.models.windows import WindowGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WORKING_MPP = 0.5
"""Pathology CLIP models were trained on patches near 20x; their files don't say."""


class OpenClipEncoder:
    """An open_clip model with a vision transformer or a ResNet as image tower.

    Dense vectors follow MaskCLIP (Zhou et al. 2022): the last attention's value projection is
    applied to every patch by itself, without attention, residual and feed-forward, and then what
    the pooled vector would go through.

    Parameters
    ----------
    network : torch.nn.Module
        As open_clip makes it, with its weights loaded.
    tokenize : callable
        From strings to token ids (N, T).
    name : str
    digest : str
        SHA-256 of the weight file.
    """

    mpp = WORKING_MPP

    def __init__(
        self,
        network: Any,
        tokenize: Callable[[list[str]], Tensor],
        *,
        name: str,
        digest: str,
    ) -> None:
        self.name = name
        self._network = network.eval().requires_grad_(False)
        self._tokenize = tokenize
        visual: Any = network.visual
        self._dense, self.stride = _dense_path(visual)
        side = visual.image_size
        self._grid = WindowGrid(side if isinstance(side, int) else side[0], self.stride)
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        self.logit_scale = math.exp(float(network.logit_scale))
        preprocessing = visual.preprocess_cfg
        self._mean = torch.tensor(preprocessing["mean"]).view(3, 1, 1)
        self._std = torch.tensor(preprocessing["std"]).view(3, 1, 1)
        settings = [digest, preprocessing["mean"], preprocessing["std"], self._grid.window, "v1"]
        self.identity = hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()

    @classmethod
    def from_file(cls, architecture: str, path: Path) -> Self:
        """Build one of open_clip's named architectures with the weights of a file."""
        make_torchvision_importable()
        import open_clip

        if architecture not in open_clip.list_models():
            raise ModelError(
                f"open_clip has no architecture '{architecture}'",
                path=path,
                remedy="Names look like ViT-B-16 or ViT-B-32-quickgelu.",
            )
        return cls._build(architecture, path, f"open_clip:{architecture}")

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
        try:
            content = json.loads(config.read_text("utf-8"))
            known = isinstance(content["model_cfg"], dict)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError("is not an open_clip configuration", path=config) from error
        if not known:
            raise ModelError("is not an open_clip configuration", path=config)
        return cls._build(f"local-dir:{folder}", weights, name)

    @classmethod
    def _build(cls, source: str, weights: Path, name: str) -> Self:
        make_torchvision_importable()
        import open_clip

        try:
            network = open_clip.create_model(
                source, pretrained=None, load_weights=False, pretrained_text=False
            )
            tokenize = open_clip.get_tokenizer(source)
        except (RuntimeError, OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ModelError(
                f"open_clip can't build it ({type(error).__name__}: {error})", path=weights
            ) from error
        digest = load_checked(network, weights)
        return cls(network, tokenize, name=name, digest=digest)

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self._network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""
        scaled = (images.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        return F.normalize(self._grid.dense(scaled, self._unit_vectors), dim=1)

    def _unit_vectors(self, windows: Tensor) -> Tensor:
        return F.normalize(self._dense(windows), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        tokens = self._tokenize(list(texts)).to(self._mean.device)
        vectors: Tensor = self._network.encode_text(tokens, normalize=True)
        return vectors


def _dense_path(visual: Any) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return the function from windows to (N, D, h, w), and its stride."""
    kind = type(visual).__name__
    if kind == "VisionTransformer" and visual.attn_pool is None:
        return lambda x: _transformer_patches(visual, x), int(visual.patch_size[0])
    if kind == "ModifiedResNet":
        return lambda x: _resnet_locations(visual, x), 32
    if kind == "TimmModel" and hasattr(visual.trunk, "patch_embed"):
        patch = visual.trunk.patch_embed.patch_size[0]
        return lambda x: _timm_patches(visual, x), int(patch)
    raise ModelError(
        f"dense vectors of the image tower {kind} are not supported",
        remedy="Use a CLIP with a plain vision transformer or ResNet.",
    )


def _transformer_patches(visual: Any, x: Tensor) -> Tensor:
    rows, columns = (side // p for side, p in zip(x.shape[2:], visual.patch_size, strict=True))
    tokens = visual._embeds(x)  # (N, 1 + h * w, width)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    width = tokens.shape[-1]
    attention = last.attn
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    values = F.linear(last.ln_1(tokens), weight, bias)
    patches = visual.ln_post(attention.out_proj(values))[:, 1:]
    if visual.proj is not None:
        patches = patches @ visual.proj
    return patches.transpose(1, 2).unflatten(2, (rows, columns))  # type: ignore[no-any-return]


def _timm_patches(visual: Any, x: Tensor) -> Tensor:
    trunk = visual.trunk
    held: list[Tensor] = []
    hook = trunk.blocks[-1].norm1.register_forward_hook(lambda _m, _i, out: held.append(out))
    try:
        trunk.forward_features(x)
    finally:
        hook.remove()
    attention = trunk.blocks[-1].attn
    width = held[0].shape[-1]
    bias = attention.qkv.bias
    values = F.linear(
        held[0], attention.qkv.weight[2 * width :], None if bias is None else bias[2 * width :]
    )
    patches = trunk.norm(attention.proj(values))[:, trunk.num_prefix_tokens :]
    patches = visual.head(patches)
    rows, columns = trunk.patch_embed.grid_size
    return patches.transpose(1, 2).unflatten(2, (rows, columns))  # type: ignore[no-any-return]


def _resnet_locations(visual: Any, x: Tensor) -> Tensor:
    x = visual.stem(x)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    pool = visual.attnpool
    locations = pool.c_proj(pool.v_proj(x.permute(0, 2, 3, 1)))  # (N, h, w, D)
    return locations.permute(0, 3, 1, 2)  # type: ignore[no-any-return]
