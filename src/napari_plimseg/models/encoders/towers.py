"""Backbones from the image towers of open_clip, CONCH and timm, with weights or empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import timm
from napari_plimseg.models.encoders.base import Backbone
from napari_plimseg.models.encoders.conch_keep import build_trunk
from napari_plimseg.models.encoders.external import clip_tower
from napari_plimseg.models.encoders.specs import TimmSpec, TowerSpec, check_colors, read_trunk
from napari_plimseg.models.encoders.vit import (
    MPP,
    TransformerBackbone,
    accept_any_size,
    is_timm_transformer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from napari_plimseg.models.encoders.open_clip import OpenClipEncoder


STAGES = 4


class ClipResNetBackbone(Backbone):
    """CLIP's ResNet before its attention pooling: four stages at strides 4 to 32.

    Parameters
    ----------
    network : open_clip.modified_resnet.ModifiedResNet
        Its attention pooling is removed.
    name, digest, spec
        As in `Backbone`; the spec holds `mean` and `std`.
    """

    def __init__(self, network: Any, *, name: str, digest: str, spec: Mapping[str, Any]) -> None:
        layers = [network.layer1, network.layer2, network.layer3, network.layer4]
        super().__init__(
            name=name, spec=spec, digest=digest, mpp=MPP, mean=spec["mean"], std=spec["std"],
            block_channels=[layer[-1].conv3.out_channels for layer in layers],
            strides=(4, 8, 16, 32),
        )  # fmt: skip
        network.attnpool = None
        self.network = network
        self.set_trainable("none")
        self.eval()

    def stage(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of a layer, which is the input of the next."""
        if index == 0:
            x = self.network.stem(x)
        found: Tensor = getattr(self.network, f"layer{index + 1}")(x)
        return found, found

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights of a layer; those of the stem belong to the first."""
        own = list(getattr(self.network, f"layer{index + 1}").parameters())
        if index == 0:
            own += [p for n, p in self.network.named_parameters() if not n.startswith("layer")]
        return own


class TimmCnnBackbone(Backbone):
    """A convolutional network of timm: the last four of its feature maps.

    timm computes all maps in one call, so the first stage computes them and the others pass them
    on. Autograd keeps no graph before the first trainable weight anyway.

    Parameters
    ----------
    network : torch.nn.Module
        Its layers after the last map are removed.
    name, digest, spec
        As in `Backbone`; the spec holds `mean` and `std`.

    Raises
    ------
    ModelError
        When timm can't return the maps of its stages.
    """

    def __init__(self, network: Any, *, name: str, digest: str, spec: Mapping[str, Any]) -> None:
        if not hasattr(network, "forward_intermediates") or len(network.feature_info) < 2:
            raise ModelError(f"'{name}' gives no maps of its blocks")
        maps = list(network.feature_info)[-STAGES:]
        super().__init__(
            name=name, spec=spec, digest=digest, mpp=MPP, mean=spec["mean"], std=spec["std"],
            block_channels=[int(m["num_chs"]) for m in maps],
            strides=[int(m["reduction"]) for m in maps],
        )  # fmt: skip
        self._ends = [str(m["module"]) for m in maps]
        network.prune_intermediate_layers(len(maps), prune_norm=True, prune_head=True)
        self.network = network
        self.set_trainable("none")
        self.eval()

    def stage(self, index: int, x: Any) -> tuple[Tensor, list[Tensor]]:
        """Return one of the maps that the first stage has computed."""
        if index == 0:
            # depthwise convolutions are up to three times as fast in this order on a CPU
            x = x.contiguous(memory_format=torch.channels_last)
            x = self.network.forward_intermediates(
                x, indices=len(self.strides), intermediates_only=True
            )
        return x[index], x

    def _needs_graph(self, index: int) -> bool:
        return self.is_trainable

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights from the end of the previous stage to the end of this one."""
        named = list(self.network.named_parameters())
        ends = [
            max((i + 1 for i, (n, _) in enumerate(named) if n.startswith(f"{end}.")), default=0)
            for end in self._ends
        ]
        ends[-1] = len(named)
        return [p for _, p in named[([0, *ends])[index] : ends[index]]]


def clip_backbone(encoder: OpenClipEncoder, name: str) -> Backbone:
    """Return the image tower of a CLIP model."""
    return _of_tower(encoder.network.visual, name, encoder.digest, encoder.tower_spec)


def timm_backbone(architecture: str, path: Path, name: str) -> Backbone:
    """Return one of timm's networks with the weights of a file."""
    built = timm.load(architecture, path)
    return _of_tower(built.network, name, built.digest, built.spec)


def rebuilt_clip(spec: Mapping[str, Any]) -> Backbone:
    """Return a backbone of open_clip without meaningful weights."""
    return _of_tower(clip_tower(TowerSpec.from_dict(dict(spec))), "open_clip", "", spec)


def rebuilt_conch(spec: Mapping[str, Any]) -> Backbone:
    """Return CONCH's backbone without meaningful weights."""
    if set(spec) != {"architecture", "trunk", "mean", "std"}:
        raise ModelError("its image encoder is not CONCH's")
    check_colors(spec)
    return _of_tower(build_trunk(read_trunk(spec["trunk"])), "conch", "", spec)


def rebuilt_timm(spec: Mapping[str, Any]) -> Backbone:
    """Return a backbone of timm without meaningful weights."""
    built = timm.build(TimmSpec.from_dict(dict(spec)))
    return _of_tower(built.network, "timm", "", built.spec)


def _of_tower(tower: Any, name: str, digest: str, spec: Mapping[str, Any]) -> Backbone:
    kind = type(tower).__name__
    if kind in {"TimmModel", "ConchVisual", "KeepVisual"}:
        tower = tower.trunk
        if is_timm_transformer(tower):
            accept_any_size(tower)
    if kind == "ModifiedResNet":
        return ClipResNetBackbone(tower, name=name, digest=digest, spec=spec)
    if is_timm_transformer(tower) or hasattr(tower, "transformer"):
        return TransformerBackbone(tower, name=name, digest=digest, spec=spec)
    return TimmCnnBackbone(tower, name=name, digest=digest, spec=spec)
