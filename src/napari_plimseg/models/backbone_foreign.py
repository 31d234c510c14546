"""Encoders of open_clip, CONCH and timm as backbones, and those that read text as matchers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models import timm_networks
from napari_plimseg.models.backbone_cnn import ClipResNetBackbone, TimmCnnBackbone
from napari_plimseg.models.backbone_vit import TransformerBackbone
from napari_plimseg.models.backbones import Backbone, Matcher
from napari_plimseg.models.conch import build_trunk
from napari_plimseg.models.encoders import load_encoder
from napari_plimseg.models.open_clip_encoder import OpenClipEncoder
from napari_plimseg.models.torchvision_remedy import make_torchvision_importable
from napari_plimseg.models.vit_tokens import accept_any_size, is_timm_transformer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

_SMALLEST_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def timm_backbone(architecture: str, path: Path) -> Backbone:
    """Return one of timm's networks with the weights of a file."""
    built = timm_networks.load(architecture, path)
    return _of_tower(built.network, f"timm:{architecture}={path}", built.digest, built.spec)


def clip_backbone(name: str) -> Backbone:
    """Return the image tower of an encoder that reads text."""
    encoder = _open_clip_encoder(name)
    spec = {**encoder.config, "mean": list(encoder.mean), "std": list(encoder.std)}
    return _of_tower(encoder.network.visual, name, encoder.digest, spec)


def empty_foreign_backbone(spec: Mapping[str, Any]) -> Backbone:
    """Return what `timm_backbone` or `clip_backbone` made, without meaningful weights."""
    architecture = str(spec.get("architecture"))
    try:
        if architecture == "timm":
            return _of_tower(timm_networks.build(spec).network, "timm", "", spec)
        if architecture == "conch":
            return _of_tower(build_trunk(spec["trunk"]), "conch", "", spec)
        if architecture == "open_clip":
            return _of_tower(_open_clip_tower(spec), "open_clip", "", spec)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"its image encoder can't be built ({error})") from error
    raise ModelError(f"its image encoder '{architecture}' is not known to this version")


def _open_clip_tower(spec: Mapping[str, Any]) -> Any:
    make_torchvision_importable()
    import open_clip

    vision = dict(spec["vision_cfg"])
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # or timm would fetch weights
    network: Any = open_clip.CLIP(
        int(spec["embed_dim"]), vision, dict(_SMALLEST_TEXT), quick_gelu=bool(spec["quick_gelu"])
    )
    return network.visual


def _of_tower(tower: Any, name: str, digest: str, spec: Mapping[str, Any]) -> Backbone:
    kind = type(tower).__name__
    if kind in {"TimmModel", "ConchVisual"}:
        tower = tower.trunk
        if is_timm_transformer(tower):
            accept_any_size(tower)
    if kind == "ModifiedResNet":
        return ClipResNetBackbone(tower, name=name, digest=digest, spec=spec)
    if is_timm_transformer(tower) or hasattr(tower, "transformer"):
        return TransformerBackbone(tower, name=name, digest=digest, spec=spec)
    return TimmCnnBackbone(tower, name=name, digest=digest, spec=spec)


def _open_clip_encoder(name: str) -> OpenClipEncoder:
    encoder = load_encoder(name)
    if not isinstance(encoder, OpenClipEncoder):
        raise ModelError(f"'{name}' is not an image-text model")
    return encoder


class ClipMatcher(Matcher):
    """An image-text model of open_clip, or CONCH.

    The vector of an image is the model's own pooled one, of the image squeezed to the size that
    the model was trained for. Vectors of places are those of zero-shot maps (`dense_paths`).

    Parameters
    ----------
    name : str
        For `load_encoder`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._encoder = _open_clip_encoder(name)
        self.network = self._encoder.network  # registered, so that it moves with the matcher
        self.logit_scale = self._encoder.logit_scale
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
        # what is no weight follows the weights, wherever `to` has brought them
        self._encoder.to(next(self.network.parameters()).device)
