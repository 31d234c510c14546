"""Networks of timm from an architecture's name and a weight file.

Pathology encoders are published as a timm name with keyword arguments, which users would have to
type. Most of them follow from the shapes of the weights, so they are read from there: layer scales,
register tokens, gated feed-forward layers, image size. Mean and standard deviation come from
a `config.json` (of timm) or a `preprocessor_config.json` (of transformers) next to the weights,
otherwise from timm's defaults for the name.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.base import backbone_identity
from napari_plimseg.models.encoders.external import (
    built_for,
    check_timm_name,
    shapes_of,
    tensors_of,
    timm_config,
    timm_network,
)
from napari_plimseg.models.encoders.specs import (
    MEAN_RANGE,
    STD_RANGE,
    TIMM_VARIANTS,
    TimmSpec,
)
from napari_plimseg.models.encoders.vit import accept_any_size, is_timm_transformer
from napari_plimseg.models.weights import load_checked, timm_names
from napari_plimseg.models.windows import WindowGrid
from napari_plimseg.reading import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_CLASSIFIERS = ("head.", "fc.", "classifier.", "head_dist.")


@dataclass(frozen=True)
class TimmNetwork:
    """A network without its classifier, and its properties.

    Parameters
    ----------
    network : torch.nn.Module
        A transformer accepts images of any multiple of its patch size.
    spec : dict
        Plain data for `build`.
    input_size : int
        Side of the images it was made for, in pixels.
    digest : str
        SHA-256 of the weight file; "" when there is none.
    """

    network: Any
    spec: dict[str, Any]
    input_size: int
    digest: str = ""


def build(spec: TimmSpec) -> TimmNetwork:
    """Build a network without its weights.

    Raises
    ------
    ModelError
        When timm has no such network, or not with these arguments.
    """
    network: Any = timm_network(spec)
    config = timm_config(network)
    side = config["input_size"][1]
    if is_timm_transformer(network):
        accept_any_size(network)
        side = network.patch_embed.img_size[0]  # of the weights, which may differ from the name's
    full = {
        "architecture": "timm", "name": spec.name, "arguments": dict(spec.arguments),
        "mean": list(spec.mean or config["mean"]), "std": list(spec.std or config["std"]),
    }  # fmt: skip
    return TimmNetwork(network.eval().requires_grad_(False), full, int(side))


def load(name: str, path: Path) -> TimmNetwork:
    """Build one of timm's networks with the weights of a file, without the classifier.

    Parameters
    ----------
    name : str
        In timm's own table, or in `TIMM_VARIANTS`.
    path : Path

    Raises
    ------
    ModelError
        When the file can't be read or belongs to another network.
    """
    if name not in TIMM_VARIANTS:
        check_timm_name(name, path)
    try:
        # only shapes so far: values are read once they are known to be those of this network
        spec = spec_for(name, tensors_of(path), _published(path))
    except ModelError as error:
        raise (
            error if error.path else ModelError(error.problem, path=path, remedy=error.remedy)
        ) from error
    wanted = shapes_of(lambda: timm_network(spec))

    def translate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename tensors and leave out the classifier."""
        named = timm_names(tensors)
        return {k: v for k, v in named.items() if k in wanted or not k.startswith(_CLASSIFIERS)}

    built = built_for(lambda: build(spec), path, translate, wanted)
    digest = load_checked(built.network, path, translate)
    return replace(built, digest=digest)


def spec_for(
    name: str, tensors: Mapping[str, Tensor], colors: Mapping[str, tuple[float, ...]] | None = None
) -> TimmSpec:
    """Return what a network is built from, by its name and the shapes of its weights.

    Parameters
    ----------
    name : str
        In timm's own table, or in `TIMM_VARIANTS`.
    tensors : mapping
        As published; only their shapes are read.
    colors : mapping, optional
        `mean` and `std` from a file beside the weights.

    Raises
    ------
    ModelError
        When the shapes are impossible.
    """
    known = TIMM_VARIANTS.get(name, TimmSpec(name))
    arguments = {**transformer_arguments(timm_names(dict(tensors))), **known.arguments}
    given = {"mean": known.mean, "std": known.std, **(colors or {})}
    return TimmSpec(known.name, arguments, **given)


def transformer_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return timm's arguments for a vision transformer with these weights, {} for others."""
    kernel, positions = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    first, second = tensors.get("blocks.0.mlp.fc1.weight"), tensors.get("blocks.0.mlp.fc2.weight")
    if kernel is None or positions is None or first is None or second is None:
        return {}
    if "blocks.0.attn.qkv.weight" not in tensors or positions.ndim != 3 or second.ndim != 2:
        return {}
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    arguments: dict[str, Any] = {}
    if "blocks.0.ls1.gamma" in tensors:
        arguments["init_values"] = 1e-5
    if registers:
        arguments["reg_tokens"] = registers
    for prefix in (0, 1 + registers, 1):
        side = math.isqrt(max(0, positions.shape[1] - prefix))
        if side and side * side == positions.shape[1] - prefix:
            arguments["img_size"] = side * int(kernel.shape[-1])
            arguments["no_embed_class"] = prefix == 0
            break
    width, hidden = int(kernel.shape[0]), int(first.shape[0])
    # timm rounds width * mlp_ratio down; 0.25 more makes sure that it gives `hidden` again
    arguments["mlp_ratio"] = (hidden + 0.25) / width
    if hidden == 2 * second.shape[1]:
        arguments["gated"] = True
    return arguments


def _published(path: Path) -> dict[str, tuple[float, ...]]:
    """Return mean and standard deviation from the hub's files next to the weights."""
    found: dict[str, tuple[float, ...]] = {}
    for name, prefix in (("preprocessor_config.json", "image_"), ("config.json", "")):
        file = path.parent / name
        if not file.exists():
            continue
        remedy = "Replace it by the one published with the weights, or remove it."
        content: dict[str, Any] = read_json(file, ModelError, limit="header-bytes", remedy=remedy)
        config = content.get("pretrained_cfg", content)
        for key, allowed in (("mean", MEAN_RANGE), ("std", STD_RANGE)):
            values = config.get(prefix + key) if isinstance(config, dict) else None
            if isinstance(values, list) and len(values) != 3:
                continue  # of an encoder for other than RGB images: its defaults are better
            if values is not None and not allowed.accepts(values):
                raise ModelError(
                    f"is not a configuration of timm or transformers ('{prefix}{key}')",
                    path=file,
                    remedy=remedy,
                )
            if values:
                found[key] = tuple(float(value) for value in values)
    return found


class TimmEncoder:
    """A vision-only encoder: the last feature map of a timm network.

    Parameters
    ----------
    architecture : str
        As timm names it, for example vit_small_patch16_224.
    path : Path
        The weights; their classifier is ignored.
    """

    mpp = 0.5

    def __init__(self, architecture: str, path: Path) -> None:
        built = load(architecture, path)
        self.name = f"timm:{architecture}"
        self._network: Any = built.network
        mean, std = built.spec["mean"], built.spec["std"]
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)
        info = self._network.feature_info[-1]
        self.stride = int(info["reduction"])
        self.embedding_size = int(info["num_chs"])
        self._grid = WindowGrid(built.input_size, self.stride)
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        settings = f"{architecture} {built.digest} {mean} {std} {self._grid.window}"
        self.identity = hashlib.sha256(settings.encode()).hexdigest()
        self.digest = built.digest
        self.identities = self.identity, backbone_identity(built.digest, built.spec)

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self._network.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def dense(self, images: Tensor) -> Tensor:
        """Return features (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""
        scaled = (images.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
        return self._grid.dense(scaled, self._last_map)

    def _last_map(self, windows: Tensor) -> Tensor:
        maps = self._network.forward_intermediates(windows, indices=1, intermediates_only=True)
        last: Tensor = maps[-1]
        return last
