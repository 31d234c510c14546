"""Image encoders that give maps of several blocks and can be trained, and frozen matchers.

`load_backbone` and `load_matcher` are the only doors. Names are those of `encoders.load_encoder`
and `random:densenet121` or, for a matcher, `random`: freshly initialised, for controls.
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
    """What turns tiles into dense vectors, independent of how the slide is tiled.

    `mpp`, `alignment` and `halo` mean what they mean in `DenseModel`; `stride` is the number of
    input pixels per vector and side.
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
    """An encoder whose dense vectors have unit length and share their space with texts."""

    logit_scale: float

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""


TRAINABLE = ("none", "last", "all")
SMALLEST_SIDE = 32
Color = tuple[float, float, float]


class Backbone(nn.Module, ABC):
    """An image encoder as a chain of stages, each of which gives one map.

    Normalisation statistics of batches and dropout are never active: a backbone stays in
    evaluation mode, also while it is trained.

    Parameters
    ----------
    name : str
        What `load_backbone` takes.
    spec : mapping
        Plain data from which `empty_backbone` builds the same network without its weights.
    digest : str
        Of the weights.
    mpp : float
        Micrometres per pixel of the images it was made for.
    block_channels, strides : sequence of int
        Of the maps, finest first: channels, and image pixels per cell and side.
    mean, std : sequence of float
        Normalisation of RGB in [0, 1].

    Attributes
    ----------
    identity : str
        Hex digest of everything that changes what the untrained backbone gives.
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
        settings = json.dumps([digest, self.spec, "v1"], sort_keys=True)
        self.identity = hashlib.sha256(settings.encode()).hexdigest()
        self._first_trainable = len(self.strides)

    @abstractmethod
    def stage(self, index: int, x: Any) -> tuple[Tensor, Any]:
        """Return the map (B, C, h, w) of a stage, and what the next stage takes."""

    @abstractmethod
    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        """Return the weights that a stage uses; no two stages share one."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the blocks, finest first.

        Stages before the first trainable one run without a graph: they cost no memory and no
        backward pass.

        Parameters
        ----------
        images : Tensor of float, shape (B, 3, H, W)
            RGB in [0, 1]; sides of 32 or more.

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
        for index, stride in enumerate(self.strides):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._needs_graph(index)):
                found, x = self.stage(index, x)
            maps.append(found[:, :, : cells(height, stride), : cells(width, stride)])
        return maps

    def set_trainable(self, which: str) -> None:
        """Choose what training may change: "none", "last" (the later half of the stages), "all".

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
    def normalisation(self) -> tuple[Color, Color]:
        """Mean and standard deviation that RGB in [0, 1] is brought to."""
        (r, g, b), (sr, sg, sb) = self._mean.flatten().tolist(), self._std.flatten().tolist()
        return (r, g, b), (sr, sg, sb)

    @property
    def is_trainable(self) -> bool:
        """Whether `set_trainable` has freed any weight."""
        return self._first_trainable < len(self.strides)

    def parameter_groups(self, lr: float, decay: float = 1.0) -> list[dict[str, Any]]:
        """Return groups for an optimizer, without what is frozen.

        Parameters
        ----------
        lr : float
            Learning rate of the last stage.
        decay : float
            Every stage before another gets this share of its learning rate.

        Returns
        -------
        list of dict
            With `params`, `lr` and, for biases and scales, a `weight_decay` of 0.
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
        """Stay in evaluation mode: statistics of small batches would spoil the encoder."""
        return super().train(False)


class Matcher(nn.Module, ABC):
    """A frozen image-text model that judges images; gradients flow through to the images.

    Attributes
    ----------
    name : str
    embedding_size : int
        D, the width of the space shared by images and texts.
    logit_scale : float
        What the model multiplies a cosine with.
    """

    name: str
    embedding_size: int
    logit_scale: float

    @abstractmethod
    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, h, w) of the places of RGB images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D) of whole RGB images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""

    def train(self, mode: bool = True) -> Matcher:
        """Stay in evaluation mode."""
        return super().train(False)
