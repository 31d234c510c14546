"""Backbones from the image towers of open_clip, CONCH and timm, with weights or empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_plimseg.models.encoders import timm
from napari_plimseg.models.encoders.cnn import ClipResNetBackbone, TimmCnnBackbone
from napari_plimseg.models.encoders.conch import build_trunk
from napari_plimseg.models.encoders.vit import (
    TransformerBackbone,
    accept_any_size,
    is_timm_transformer,
)
from napari_plimseg.models.torchvision_compat import make_torchvision_importable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_plimseg.models.encoders.base import Backbone
    from napari_plimseg.models.encoders.open_clip import OpenClipEncoder


# open_clip builds image and text tower together; the text tower of a backbone is thrown away
_SMALLEST_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


def clip_backbone(encoder: OpenClipEncoder, name: str) -> Backbone:
    """Return the image tower of a CLIP model."""
    spec = {**encoder.config, "mean": list(encoder.mean), "std": list(encoder.std)}
    return _of_tower(encoder.network.visual, name, encoder.digest, spec)


def timm_backbone(architecture: str, path: Path, name: str) -> Backbone:
    """Return one of timm's networks with the weights of a file."""
    built = timm.load(architecture, path)
    return _of_tower(built.network, name, built.digest, built.spec)


def rebuilt_clip(spec: Mapping[str, Any]) -> Backbone:
    """Return a backbone of open_clip without meaningful weights."""
    make_torchvision_importable()
    import open_clip

    vision = dict(spec["vision_cfg"])
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # otherwise timm would download weights
    network: Any = open_clip.CLIP(
        int(spec["embed_dim"]), vision, dict(_SMALLEST_TEXT), quick_gelu=bool(spec["quick_gelu"])
    )
    return _of_tower(network.visual, "open_clip", "", spec)


def rebuilt_conch(spec: Mapping[str, Any]) -> Backbone:
    """Return CONCH's backbone without meaningful weights."""
    return _of_tower(build_trunk(spec["trunk"]), "conch", "", spec)


def rebuilt_timm(spec: Mapping[str, Any]) -> Backbone:
    """Return a backbone of timm without meaningful weights."""
    return _of_tower(timm.build(spec).network, "timm", "", spec)


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
