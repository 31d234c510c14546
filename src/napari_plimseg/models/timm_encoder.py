"""Vision encoders of timm: dense features without text, for training on top of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from napari_plimseg.models import timm_networks
from napari_plimseg.models.windows import WindowGrid

if TYPE_CHECKING:
    from pathlib import Path


class TimmEncoder:
    """A timm network whose last feature map is taken as it is.

    Parameters
    ----------
    architecture : str
        timm's name, such as vit_small_patch16_224.
    path : Path
        The weights; a classifier in them is ignored.
    """

    mpp = 0.5

    def __init__(self, architecture: str, path: Path) -> None:
        built = timm_networks.load(architecture, path)
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
