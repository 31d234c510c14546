"""CLIP models of open_clip, and what has their interface, as encoders."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.dense_paths import dense_path
from napari_plimseg.models.encoders import CONFIG_FILE, WEIGHT_FILES
from napari_plimseg.models.foreign_keys import open_clip_names
from napari_plimseg.models.torchvision_remedy import make_torchvision_importable
from napari_plimseg.models.weights import load_checked
from napari_plimseg.models.windows import WindowGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WORKING_MPP = 0.5
"""Pathology CLIP models were trained on patches near 20x; their files don't say."""


class OpenClipEncoder:
    """An open_clip model with a vision transformer or a ResNet as image tower, or CONCH.

    How dense vectors come about: see `dense_paths`.

    Parameters
    ----------
    network : torch.nn.Module
        As open_clip makes it, with its weights loaded.
    tokenize : callable
        From strings to token ids (N, T).
    name : str
    digest : str
        SHA-256 of the weight file.
    config : dict
        From which the image tower can be built again: `architecture`, and for open_clip's own
        `embed_dim`, `vision_cfg` and `quick_gelu`.
    attention : str
        One of `dense_paths.ATTENTIONS`.
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
        attention: str = "values",
    ) -> None:
        self.name = name
        self.digest = digest
        self.config = config
        self.network = network.eval().requires_grad_(False)
        self._tokenize = tokenize
        visual: Any = network.visual
        self._dense, self.stride = dense_path(visual, attention)
        side = visual.image_size
        self.window = side if isinstance(side, int) else int(side[0])
        self._grid = WindowGrid(self.window, self.stride)
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        self.logit_scale = math.exp(float(network.logit_scale))
        preprocessing = visual.preprocess_cfg
        self.mean, self.std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        self._mean = torch.tensor(self.mean).view(3, 1, 1)
        self._std = torch.tensor(self.std).view(3, 1, 1)
        settings = [digest, preprocessing["mean"], preprocessing["std"], self._grid.window, "v1"]
        if attention != "values":
            settings.append(attention)
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
        config = open_clip.get_model_config(architecture)
        return cls._build(architecture, path, f"open_clip:{architecture}", config)

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
        return cls._build(f"local-dir:{folder}", weights, name, content["model_cfg"])

    @classmethod
    def _build(cls, source: str, weights: Path, name: str, model: dict[str, Any]) -> Self:
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
        digest = load_checked(network, weights, open_clip_names)
        config = {
            "architecture": "open_clip", "embed_dim": model["embed_dim"],
            "vision_cfg": model["vision_cfg"], "quick_gelu": bool(model.get("quick_gelu")),
        }  # fmt: skip
        return cls(network, tokenize, name=name, digest=digest, config=config)

    def attending_to(self, attention: str) -> Self:
        """Return the same model with another way to dense vectors (`dense_paths.ATTENTIONS`)."""
        return type(self)(
            self.network, self._tokenize, name=self.name, digest=self.digest, config=self.config,
            attention=attention,
        ).to(self._mean.device)  # fmt: skip

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self.network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""
        scaled = images.permute(0, 3, 1, 2).float() / 255
        return F.normalize(self._grid.dense(scaled, self.unit_vectors), dim=1)

    def unit_vectors(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / stride, W / stride) of RGB images in [0, 1].

        Sides are multiples of the stride. Transformers interpolate their positions to them.
        """
        return F.normalize(self._dense((images - self._mean) / self._std), dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of RGB images (B, 3, H, W) in [0, 1], squeezed to a window."""
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
