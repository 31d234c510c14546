"""The backbone catalogue: which encoders there are, their licences, and how one is loaded.

A name is `bundled`; `hf-hub:ORG/REPO` or `local-dir:FOLDER`, both with open_clip's configuration
and weights; `open_clip:ARCHITECTURE=FILE`; `conch:FOLDER` with CONCH's weights and tokenizer; or
`timm:ARCHITECTURE=FILE` for an encoder without text. Nothing is downloaded unless
`allow_download` is set, and then never under `HF_HUB_OFFLINE`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from napari_plimseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


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


@dataclass(frozen=True)
class EncoderCard:
    """What is known of an encoder before it is there.

    Parameters
    ----------
    name : str
        What `load_encoder` takes.
    title, architecture, license : str
    source : str
        Where it comes from.
    gated : bool
        Whether its authors ask for an agreement before a download.
    reads_text : bool
        Whether it can make class maps from words.
    """

    name: str
    title: str
    architecture: str
    license: str
    source: str
    gated: bool = False
    reads_text: bool = True


CARDS = (
    EncoderCard("bundled", "Bundled colorectal model", "DenseNet121 + MiniLM",
                "MIT, Apache-2.0 and research-use data", "ships with napari-plimseg"),
    EncoderCard("hf-hub:wisdomik/QuiltNet-B-32", "QuiltNet B-32", "ViT-B-32", "MIT",
                "wisdomik/QuiltNet-B-32"),
    EncoderCard("hf-hub:wisdomik/QuiltNet-B-16", "QuiltNet B-16", "ViT-B-16", "MIT",
                "wisdomik/QuiltNet-B-16"),
    EncoderCard("hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "BiomedCLIP",
                "ViT-B-16 (timm)", "MIT",
                "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"),
)  # fmt: skip


def load_encoder(name: str, *, allow_download: bool = False) -> ImageEncoder:
    """Load an encoder by name.

    Parameters
    ----------
    name : str
        See the module's first lines.
    allow_download : bool
        Whether a `hf-hub:` model that is not on this computer may be fetched.

    Raises
    ------
    ModelError
        When it is not on this computer, can't be read, or is not what it claims to be.
    """
    if name == "bundled":
        from napari_plimseg.models.bundled_clip import bundled_encoder

        return bundled_encoder()
    scheme, _, rest = name.partition(":")
    if scheme == "hf-hub" and rest:
        return _from_folder(_hub_folder(rest, allow_download), name)
    if scheme == "local-dir" and rest:
        return _from_folder(Path(rest), name)
    if scheme == "conch" and rest:
        from napari_plimseg.models.conch import load_conch

        return load_conch(Path(rest), name)
    architecture, _, file = rest.partition("=")
    if scheme == "open_clip" and file:
        from napari_plimseg.models.open_clip_encoder import OpenClipEncoder

        return OpenClipEncoder.from_file(architecture, Path(file))
    if scheme == "timm" and file:
        from napari_plimseg.models.timm_encoder import TimmEncoder

        return TimmEncoder(architecture, Path(file))
    raise ModelError(
        f"'{name}' is not the name of an encoder",
        remedy="Use bundled, hf-hub:ORG/REPO, local-dir:FOLDER, conch:FOLDER, "
        "open_clip:ARCHITECTURE=FILE or timm:ARCHITECTURE=FILE.",
    )


def _from_folder(folder: Path, name: str) -> ImageTextEncoder:
    from napari_plimseg.models.open_clip_encoder import OpenClipEncoder

    return OpenClipEncoder.from_folder(folder, name)


def _hub_folder(repository: str, allow_download: bool) -> Path:
    """Return the local copy of a hub repository; it is fetched only when that is allowed."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    offline = not allow_download or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE"}
    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            local_files_only=offline,
            allow_patterns=["*.json", "*.txt", *WEIGHT_FILES],
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"'{repository}' is not on this computer",
            remedy=f"Put its {CONFIG_FILE} and {WEIGHT_FILES[0]} into a folder and choose "
            "local-dir:FOLDER, or allow the download.",
        ) from error
    return Path(folder)
