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

SMALL = "small"
"""The encoder of fast students, always inside their files."""
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
        What `load_encoder` takes, or that with `FILE` or `FOLDER` in the place of a path.
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

    @property
    def on_hub(self) -> bool:
        """Whether the name alone is enough to load it, once it has been fetched."""
        return self.name.startswith("hf-hub:")


_NC_ND = "CC-BY-NC-ND-4.0"
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
    EncoderCard("hf-hub:timm/vit_base_patch16_clip_224.openai", "OpenAI CLIP ViT-B-16",
                "ViT-B-16-quickgelu", "MIT", "timm/vit_base_patch16_clip_224.openai"),
    EncoderCard("hf-hub:timm/resnet50_clip.openai", "OpenAI CLIP RN50", "RN50-quickgelu", "MIT",
                "timm/resnet50_clip.openai"),
    EncoderCard("open_clip:ViT-B-16=FILE", "PathGen-CLIP", "ViT-B-16", "CC-BY-2.0",
                "pathgen-clip.pt of PathGen-1.6M"),
    EncoderCard("open_clip:ViT-B-16-quickgelu=FILE", "PathCLIP", "ViT-B-16-quickgelu",
                "CC-BY-NC-4.0", "PathCLIP of PathAsst"),
    EncoderCard("open_clip:ViT-B-32-quickgelu=FILE", "PLIP", "ViT-B-32-quickgelu", "none stated",
                "pytorch_model.bin of vinid/plip"),
    EncoderCard("conch:FOLDER", "CONCH", "ViT-B-16 with attention pooling", _NC_ND,
                "MahmoodLab/CONCH", gated=True),
    EncoderCard("timm:vit_large_patch16_224=FILE", "UNI", "ViT-L-16", _NC_ND, "MahmoodLab/UNI",
                gated=True, reads_text=False),
    EncoderCard("timm:vit_huge_patch14_224=FILE", "Virchow2", "ViT-H-14", _NC_ND,
                "paige-ai/Virchow2", gated=True, reads_text=False),
    EncoderCard("timm:vit_large_patch16_224=FILE", "Phikon-v2", "ViT-L-16",
                "Owkin non-commercial licence", "owkin/phikon-v2", reads_text=False),
    EncoderCard("timm:vit_giant_patch14_reg4_dinov2=FILE", "H-optimus-0", "ViT-g-14",
                "Apache-2.0", "bioptimus/H-optimus-0", reads_text=False),
    EncoderCard("timm:vit_base_patch14_reg4_dinov2=FILE", "Hibou-B", "ViT-B-14", "Apache-2.0",
                "histai/hibou-b", reads_text=False),
)  # fmt: skip
"""What is known to fit; `FILE` and `FOLDER` stand for where the user has put it."""


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


def weights_path(name: str) -> Path | None:
    """Return where an encoder's name says that its weights lie; None for `bundled` and the hub."""
    scheme, _, rest = name.partition(":")
    place = rest if scheme in {"local-dir", "conch"} else rest.partition("=")[2]
    return Path(place) if place else None


def without_path(name: str) -> str:
    """Return an encoder's name without the place of its weights, which may tell of people."""
    scheme = name.partition(":")[0]
    return scheme if scheme in {"local-dir", "conch"} else name.partition("=")[0]


def _from_folder(folder: Path, name: str) -> ImageTextEncoder:
    from napari_plimseg.models.open_clip_encoder import OpenClipEncoder

    return OpenClipEncoder.from_folder(folder, name)


def _hub_folder(repository: str, allow_download: bool) -> Path:
    """Return the local copy of a hub repository; it is fetched only when that is allowed."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from napari_plimseg.models.encoder_files import hub_folder

    own = hub_folder(repository)
    if own is not None:
        return own
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
