"""The image-text model that ships with the package: DenseNet121 and MiniLM in one space.

It is this small because it must fit into a wheel and segment a slide on a laptop's CPU. Large
matrices and kernels are stored in int8 with one scale per row, which makes the file four times
smaller than float32; they are converted back when it is read, so that speed and results don't
depend on int8 kernels of the CPU.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError, is_out_of_memory
from napari_plimseg.models.acceleration import Network
from napari_plimseg.models.encoders.cards import (
    BUNDLED_WEIGHTS_FILE,
    CONFIG_FILE,
    TOKENIZER_FILE,
    bundled_folder,
)
from napari_plimseg.models.encoders.densenet import DenseNet121
from napari_plimseg.models.encoders.text_tower import TextTower
from napari_plimseg.models.weights import check_weights, dequantized, read_weights
from napari_plimseg.models.windows import WindowCache, WindowGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_plimseg.models.acceleration import Engine


_REINSTALL = "Install napari-plimseg again."
SHIPPED_IDENTITY = "dc8ee5415f2d06d4d910b5e8363332ac4dde6d649076b92c02ef642aa51f1391"
"""Of the model in the package; `scripts/build_bundled_model.py` prints that of a new one."""


class DenseImageTower(nn.Module):
    """DenseNet121 and a linear projection of its fused blocks: one vector per 16 pixels."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.trunk = DenseNet121(last_dilation=2)
        self.project = nn.Conv2d(512 + 1024 + 1024, embedding_size, 1)

    def fused(self, images: Tensor) -> Tensor:
        """Return blocks 2 (averaged to stride 16), 3 and 4 as (B, 2560, H / 16, W / 16)."""
        _, second, third, fourth = self.trunk(images)
        return torch.cat((F.avg_pool2d(second, 2), third, fourth), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / 16, W / 16) of RGB images in [0, 1]."""
        projected: Tensor = self.project(self.fused(images))
        return F.normalize(projected, dim=1)


class BundledClip(nn.Module):
    """Image tower, text tower and the scale of their cosine similarity.

    Parameters
    ----------
    tokenizer_file : Path
        The text tower's tokenizer.
    embedding_size : int
        D, the dimension of the shared space.
    """

    def __init__(self, tokenizer_file: Path, embedding_size: int) -> None:
        super().__init__()
        self.visual = DenseImageTower(embedding_size)
        self.text = TextTower(tokenizer_file, embedding_size)
        self.logit_scale = nn.Parameter(torch.zeros(()))  # log of the scale, as in open_clip


class BundledEncoder:
    """The bundled model as an encoder: dense image vectors and text vectors.

    Parameters
    ----------
    folder : Path
        Holds configuration, weights and tokenizer.

    Raises
    ------
    ModelError
        When a file is missing or doesn't match the configuration.
    """

    name = "bundled"
    stride = 16

    def __init__(self, folder: Path) -> None:
        config, weights = _read(folder)
        own = config["plimseg"]
        self.mpp = float(own["mpp"])
        self.window = int(own["window"])
        self._grid = WindowGrid(self.window, self.stride, int(own["step"]))
        self.alignment, self.halo = self._grid.alignment, self._grid.halo
        self._seen = WindowCache()
        self.network = BundledClip(folder / TOKENIZER_FILE, int(config["model_cfg"]["embed_dim"]))
        state = dequantized(weights)
        check_weights(state, self.network.state_dict(), path=folder / BUNDLED_WEIGHTS_FILE)
        self.network.load_state_dict(state)
        self.network.eval().requires_grad_(False)
        self.logit_scale = float(self.network.logit_scale.exp())
        self.identity = bundled_identity(folder, own)
        if folder == bundled_folder():
            check_shipped(self.identity)
        self._image = Network(self.network.visual, self.window, self.identity)

    def running_on(self, engine: Engine) -> Self:
        """Return a copy that shares the weights and whose images are computed by an engine.

        Raises
        ------
        EngineError
            When the engine can't.
        """
        other = copy.copy(self)
        other._image = self._image.on(engine)
        other._seen = WindowCache()  # outputs of another engine are other numbers
        return other

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""
        self.network.to(device)
        return self

    def dense(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D, H / 16, W / 16) of uint8 images (B, H, W, 3)."""
        pixels = images.permute(0, 3, 1, 2)
        return F.normalize(self._grid.dense(pixels, self._image, cache=self._seen), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        vectors: Tensor = self.network.text(texts)
        return vectors


def bundled_identity(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the digest of a bundled model's settings, weights and tokenizer."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in (BUNDLED_WEIGHTS_FILE, TOKENIZER_FILE):
        digest.update((folder / file).read_bytes())
    return digest.hexdigest()


def check_shipped(identity: str) -> None:
    """Refuse a shipped model with a changed byte: a flipped bit moves the borders of tissue."""
    if identity != SHIPPED_IDENTITY:
        raise ModelError(
            "the bundled model is damaged: its content does not match its checksum",
            path=bundled_folder() / BUNDLED_WEIGHTS_FILE,
            remedy=_REINSTALL,
        )


@functools.cache
def bundled_encoder() -> BundledEncoder:
    """Return the shipped encoder; it is read only once."""
    return BundledEncoder(bundled_folder())


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        weights = read_weights(folder / BUNDLED_WEIGHTS_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the bundled model can't be read ({type(error).__name__})",
            path=folder / CONFIG_FILE,
            remedy=_REINSTALL,
        ) from error
    except ModelError as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"the bundled model: {error.problem}", path=error.path, remedy=_REINSTALL
        ) from error
    return config, weights
