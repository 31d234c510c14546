"""What encoders, backbones and matchers have in common; `encoders.loading` makes them.

An *encoder* gives dense vectors for zero-shot maps. A *backbone* gives the maps of several blocks
and can be trained. A *matcher* is a frozen image-text model through which gradients flow.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models.layers import cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@runtime_checkable
class ImageEncoder(Protocol):
    """Turns tiles into dense vectors that don't depend on how the slide is tiled.

    `mpp`, `alignment` and `halo` are those of `DenseModel`; `stride` is the distance of two
    neighboring vectors in input pixels.
    """

    name: str
    identity: str
    mpp: float
    stride: int
    alignment: int
    halo: int

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""

    def dense(self, images: Tensor) -> Tensor:
        """Return vectors (B, D, H / stride, W / stride) of uint8 images (B, H, W, 3)."""


@runtime_checkable
class ImageTextEncoder(ImageEncoder, Protocol):
    """An encoder whose dense vectors have unit length and share a space with text vectors."""

    logit_scale: float

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""


TRAINABLE = ("none", "last", "all")
SMALLEST_SIDE = 32
Color = tuple[float, float, float]


def backbone_identity(digest: str, spec: Mapping[str, Any]) -> str:
    """Return the `identity` of a backbone with these weights."""
    settings = json.dumps([digest, dict(spec), "v1"], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()


class Backbone(nn.Module, ABC):
    """An image encoder as a chain of stages that each give one feature map.

    A backbone stays in evaluation mode while it is trained, without batch statistics and dropout:
    the statistics of small batches would spoil it.

    Parameters
    ----------
    name : str
        For `load_backbone`.
    spec : mapping
        Plain data, from which `empty_backbone` builds the same network without its weights.
    digest : str
        Of the weights.
    mpp : float
        Micrometers per pixel of the images it was made for.
    block_channels, strides : sequence of int
        Channels of the maps, and side of their cells in image pixels; finest first.
    mean, std : sequence of float
        Normalization of RGB in [0, 1].

    Attributes
    ----------
    digest : str
        As given.
    identity : str
        Hex digest of everything that changes the output of the untrained backbone.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        *,
        name: str,
        spec: Mapping[str, Any],
        digest: str,
        mpp: float,
        block_channels: Sequence[int],
        strides: Sequence[int],
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.name = name
        self.spec = dict(spec)
        self.mpp = mpp
        self.block_channels = tuple(block_channels)
        self.strides = tuple(strides)
        self.register_buffer("_mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.digest = digest
        self.identity = backbone_identity(digest, self.spec)
        self._first_trainable = len(self.strides)

    @abstractmethod
    def stage(self, index: int, x: Any) -> tuple[Tensor, Any]:
        """Return the map (B, C, h, w) of a stage, and the input of the next stage."""

    @abstractmethod
    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights of a stage; no two stages share one."""

    def forward(self, images: Tensor, stages: int | None = None) -> list[Tensor]:
        """Return the maps of the blocks, finest first.

        Stages before the first trainable one run without autograd, which saves their memory and
        backward pass.

        Parameters
        ----------
        images : Tensor of float, shape (B, 3, H, W)
            RGB in [0, 1]; sides of 32 or more.
        stages : int, optional
            How many of the finest maps are wanted; all by default.

        Returns
        -------
        list of Tensor of float
            (B, block_channels[i], ceil(H / strides[i]), ceil(W / strides[i])).
        """
        height, width = images.shape[2:]
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(f"images of {height} x {width} pixels are smaller than 32")
        coarsest = max(self.strides)
        x = F.pad(images, (0, -width % coarsest, 0, -height % coarsest), mode="reflect")
        x = (x - self._mean) / self._std
        maps = []
        for index, stride in enumerate(self.strides[:stages]):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._needs_graph(index)):
                found, x = self.stage(index, x)
            maps.append(found[:, :, : cells(height, stride), : cells(width, stride)])
        return maps

    def set_trainable(self, which: str) -> None:
        """Choose what training may change: "none", "last" (the last half of the stages) or "all".

        The gradient with respect to the images is lost unless everything is trainable.
        """
        if which not in TRAINABLE:
            raise ValueError(f"'{which}' is not one of {', '.join(TRAINABLE)}")
        stages = len(self.strides)
        self._first_trainable = {"none": stages, "last": stages // 2, "all": 0}[which]
        self.requires_grad_(False)
        for index in range(self._first_trainable, stages):
            for parameter in self.stage_parameters(index):
                parameter.requires_grad_(True)

    def _needs_graph(self, index: int) -> bool:
        return index >= self._first_trainable

    @property
    def normalization(self) -> tuple[Color, Color]:
        """Mean and standard deviation with which RGB in [0, 1] is normalized."""
        (r, g, b), (sr, sg, sb) = self._mean.flatten().tolist(), self._std.flatten().tolist()
        return (r, g, b), (sr, sg, sb)

    @property
    def is_trainable(self) -> bool:
        """Whether any weight is trainable."""
        return self._first_trainable < len(self.strides)

    def parameter_groups(self, lr: float, decay: float = 1.0) -> list[dict[str, Any]]:
        """Return parameter groups for an optimizer, without frozen weights.

        Parameters
        ----------
        lr : float
            Learning rate of the last stage.
        decay : float
            Factor of the learning rate from each stage to the one before it.

        Returns
        -------
        list of dict
            With `params` and `lr`; for biases and scales with a `weight_decay` of 0.
        """
        groups: list[dict[str, Any]] = []
        for index in range(self._first_trainable, len(self.strides)):
            rate = lr * decay ** (len(self.strides) - 1 - index)
            parameters = self.stage_parameters(index)
            kernels = [p for p in parameters if max(p.shape, default=1) < p.numel()]
            others = [p for p in parameters if max(p.shape, default=1) == p.numel()]
            groups.append({"params": kernels, "lr": rate})
            groups.append({"params": others, "lr": rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode."""
        return super().train(False)


class Matcher(nn.Module, ABC):
    """A frozen image-text model; gradients flow through it to the images.

    Attributes
    ----------
    name : str
    mpp : float
        Micrometers per pixel at which `dense` knows tissue best.
    embedding_size : int
        D, the dimension of the space shared by images and texts.
    logit_scale : float
        Factor of a cosine similarity.
    """

    name: str
    mpp: float
    embedding_size: int
    logit_scale: float

    @abstractmethod
    def dense(self, images: Tensor) -> Tensor:
        """Return dense unit vectors (B, D, h, w) of RGB images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of whole RGB images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""

    def train(self, mode: bool = True) -> Matcher:
        """Stay in evaluation mode."""
        return super().train(False)
