"""Which files an encoder of the catalogue needs, and the folder where they are looked for.

Downloads and files that a person puts there by hand lie in the same place, so that an offline
computer is served by copying a folder.
"""

from __future__ import annotations

import importlib.resources
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from napari_plimseg.files import user_data_dir
from napari_plimseg.models.downloads import PART_SUFFIX

SMALL = "small"
"""The encoder of fast students, always inside their files."""
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


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


def weights_path(name: str) -> Path | None:
    """Return where an encoder's name says that its weights lie; None for `bundled` and the hub."""
    scheme, _, rest = name.partition(":")
    place = rest if scheme in {"local-dir", "conch"} else rest.partition("=")[2]
    return Path(place) if place else None


def without_path(name: str) -> str:
    """Return an encoder's name without the place of its weights, which may tell of people."""
    scheme = name.partition(":")[0]
    return scheme if scheme in {"local-dir", "conch"} else name.partition("=")[0]


WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_OPEN_CLIP = ((CONFIG_FILE,), WEIGHT_FILES)
_TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class EncoderFiles:
    """The files of one encoder.

    Parameters
    ----------
    repository : str
        On the hub; empty when it is not there.
    needed : tuple of tuple of str
        Names, each with those that do as well; the weights last, so that what is incomplete is
        never taken for a model.
    optional : tuple of str
        Taken along when the repository has them.
    by_hand : tuple of str
        Needed, but not in the repository.
    """

    repository: str
    needed: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


_FILES = {
    "QuiltNet B-32": EncoderFiles("wisdomik/QuiltNet-B-32", _OPEN_CLIP),
    "QuiltNet B-16": EncoderFiles("wisdomik/QuiltNet-B-16", _OPEN_CLIP),
    "BiomedCLIP": EncoderFiles(
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", _OPEN_CLIP, _TOKENIZER
    ),
    "OpenAI CLIP ViT-B-16": EncoderFiles("timm/vit_base_patch16_clip_224.openai", _OPEN_CLIP),
    "OpenAI CLIP RN50": EncoderFiles("timm/resnet50_clip.openai", _OPEN_CLIP),
    "PathGen-CLIP": EncoderFiles("", (("pathgen-clip.pt",),)),
    "PathCLIP": EncoderFiles("", (("pathclip.pt",),)),
    "PLIP": EncoderFiles("vinid/plip", (("pytorch_model.bin",),)),
    "CONCH": EncoderFiles(
        "MahmoodLab/CONCH", (("pytorch_model.bin", "model.safetensors"),),
        by_hand=("conch_byte_level_bpe_uncased.json",),
    ),
    "UNI": EncoderFiles("MahmoodLab/UNI", (("config.json",), _TIMM_WEIGHTS[::-1])),
    "Virchow2": EncoderFiles("paige-ai/Virchow2", (("config.json",), _TIMM_WEIGHTS)),
    "Phikon-v2": EncoderFiles("owkin/phikon-v2", (("preprocessor_config.json",), _TIMM_WEIGHTS)),
    "H-optimus-0": EncoderFiles("bioptimus/H-optimus-0", (("config.json",), _TIMM_WEIGHTS)),
    "Hibou-B": EncoderFiles("histai/hibou-b", (("preprocessor_config.json",), _TIMM_WEIGHTS)),
}  # fmt: skip


def files_of(card: EncoderCard) -> EncoderFiles:
    """Return which files an encoder of the catalogue needs; the bundled one has none here."""
    return _FILES[card.title]


def encoders_folder() -> Path:
    """Return the folder of all encoders that were fetched or put there; it may not exist yet."""
    return user_data_dir() / "encoders"


def folder_of(card: EncoderCard) -> Path:
    """Return the folder of an encoder's files; it may not exist yet."""
    return encoders_folder() / (files_of(card).repository or card.title).replace("/", "--")


def hub_folder(repository: str) -> Path | None:
    """Return the folder with the whole of a hub repository's encoder, None when it is not here."""
    card = next((c for c in CARDS if c.name == f"hf-hub:{repository}"), None)
    if card is None or missing_files(card):
        return None
    return folder_of(card)


def missing_files(card: EncoderCard) -> tuple[str, ...]:
    """Return the names of the files that are not in an encoder's folder yet."""
    folder, files = folder_of(card), files_of(card)
    missing = [names[0] for names in files.needed[:-1] if not _one_of(folder, names)]
    if _weights(card) is None:
        missing.append(files.needed[-1][0])
    return (*missing, *(name for name in files.by_hand if not (folder / name).is_file()))


def loadable_name(card: EncoderCard) -> str | None:
    """Return what `load_encoder` takes for an encoder's folder, None when that can't be loaded."""
    if damage(card):
        return None
    if card.on_hub:
        return None if missing_files(card) else card.name
    weights = _weights(card)
    if weights is None or missing_files(card):
        return None
    return card.name.replace("FILE", str(weights)).replace("FOLDER", str(weights.parent))


def damage(card: EncoderCard) -> str:
    """Return what is wrong with an encoder's files, as a sentence; looks at their ends only."""
    weights = _weights(card)
    if weights is not None and not _is_whole(weights):
        return f"'{weights.name}' is damaged or cut off: remove it and fetch it again."
    for names in files_of(card).needed[:-1]:
        for name in names:
            path = folder_of(card) / name
            if path.is_file() and not _is_json(path):
                return f"'{name}' is damaged: remove it and fetch it again."
    return ""


def bytes_here(card: EncoderCard) -> int:
    """Return how many bytes of an encoder are in its folder, begun downloads included."""
    return sum(p.stat().st_size for p in folder_of(card).glob("*") if p.is_file())


def is_begun(card: EncoderCard) -> bool:
    """Whether a download was begun and is not finished."""
    return any(folder_of(card).glob(f"*{PART_SUFFIX}"))


def _weights(card: EncoderCard) -> Path | None:
    folder = folder_of(card)
    for name in files_of(card).needed[-1]:
        if (folder / name).is_file():
            return folder / name
    if card.name.endswith("FILE"):  # what a person puts there may have any name
        found = sorted(p for p in folder.glob("*") if p.suffix in WEIGHT_SUFFIXES)
        return found[0] if found else None
    return None


def _one_of(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def _is_whole(weights: Path) -> bool:
    if weights.suffix != ".safetensors":
        # a zip's directory stands at its end; torch's older format has none and can't be told
        with weights.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return zipfile.is_zipfile(weights) if is_zip else weights.stat().st_size > 0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "np"):
            return True
    except (SafetensorError, OSError, ValueError):
        return False


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


BUNDLED_WEIGHTS_FILE = "open_clip_model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TISSUE_FILE = "tissue.safetensors"


def bundled_folder() -> Path:
    """Return the folder of the shipped weights."""
    return Path(str(importlib.resources.files("napari_plimseg.models") / "bundled"))
