"""Names, licenses and files of the encoders, without torch.

An encoder's files are always looked for in one folder, whether they were downloaded or copied
there by hand. An offline computer is therefore set up by copying that folder.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from napari_plimseg.errors import ModelError, user_path
from napari_plimseg.files import user_data_dir
from napari_plimseg.models.downloads import PART_SUFFIX

BUNDLED = "bundled"
SMALL = "small"
"""EfficientNet-Lite0 trained on ImageNet, which ships with this package. Earlier versions named
the network of distilled students so, whose weights are always inside their model files."""
SMALL_ARCHITECTURE = "tf_efficientnet_lite0"
SMALL_WEIGHTS_FILE = "small.safetensors"
RANDOM = "random:densenet121"
"""The bundled architecture with initial weights, as a control."""
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
BUNDLED_WEIGHTS_FILE = "open_clip_model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "vocab.txt")
"""In which the words of a BERT are."""
TISSUE_FILE = "tissue.safetensors"
SKIN_FILE = "skin.safetensors"
_ANY_ARCHITECTURE, _REPOSITORY = "ARCHITECTURE", "ORG/REPO"


@dataclass(frozen=True)
class NameForm:
    """Which parts the names of one scheme have; `str` gives a template for error messages.

    Parameters
    ----------
    scheme : str
        What comes before the colon.
    architecture : str
        "ARCHITECTURE" where a name holds one, the only possible architecture where there is just
        one, "" where the files themselves define it.
    place : str
        What the weights are loaded from: "FILE", "FOLDER", "ORG/REPO" (of the hub) or "".
    """

    scheme: str
    architecture: str = ""
    place: str = ""

    def __post_init__(self) -> None:
        if not self.scheme or ":" in self.scheme or "=" in self.scheme:
            raise ValueError(f"'{self.scheme}' can't be the scheme of a name")
        if self.place not in ("", "FILE", "FOLDER", _REPOSITORY):
            raise ValueError(f"'{self.place}' is not a place that weights are loaded from")

    def __str__(self) -> str:
        rest = "=".join(part for part in (self.architecture, self.place) if part)
        return f"{self.scheme}:{rest}" if rest else self.scheme


SCHEMES: dict[str, NameForm] = {
    form.scheme: form
    for form in (
        NameForm(BUNDLED),
        NameForm("random", architecture="densenet121"),
        NameForm("hf-hub", place=_REPOSITORY),
        NameForm("local-dir", place="FOLDER"),
        NameForm("conch", place="FOLDER"),
        NameForm("keep", place="FOLDER"),
        NameForm("open_clip", architecture=_ANY_ARCHITECTURE, place="FILE"),
        NameForm("timm", architecture=_ANY_ARCHITECTURE, place="FILE"),
        NameForm(SMALL),
        # only for `promptable.sam_weights.load_sam`
        NameForm("sam", place="FOLDER"),
    )
}
"""The known schemes. `encoders.loading.register_scheme` adds one."""


@dataclass(frozen=True)
class EncoderName:
    """An encoder's name in its parts.

    A name without its place is valid, because that is what a model file stores when the weights
    are inside. Only a complete name can be loaded.

    Parameters
    ----------
    scheme : str
        A key of `SCHEMES`.
    architecture : str
        As open_clip or timm name it.
    place : str
        A file, a folder or a repository of the hub.

    Raises
    ------
    ModelError
        When there is no such scheme, or its names don't have these parts.

    Examples
    --------
    >>> EncoderName.parse("timm:vit_small_patch16_224=/data/vit.pt").architecture
    'vit_small_patch16_224'
    """

    scheme: str
    architecture: str = ""
    place: str = ""

    def __post_init__(self) -> None:
        form = SCHEMES.get(self.scheme)
        if form is None:
            raise _no_name(self.scheme)
        fits = (
            not self.architecture
            if not form.architecture
            else form.architecture in (_ANY_ARCHITECTURE, self.architecture)
            or not self.architecture
        )
        needs_architecture = bool(self.place) and form.architecture == _ANY_ARCHITECTURE
        if not fits or (self.place and not form.place):
            raise _no_name(str(self))
        if (needs_architecture and not self.architecture) or "=" in self.architecture:
            raise _no_name(str(self))

    @classmethod
    def parse(cls, text: str) -> EncoderName:
        """Return the parts of a name.

        Raises
        ------
        ModelError
            When it is not a name.
        """
        scheme, colon, rest = text.partition(":")
        form = SCHEMES.get(scheme)
        if form is None or bool(colon) != bool(rest):
            raise _no_name(text)
        if not form.architecture:
            return cls(scheme, place=rest)  # a folder may contain "="
        architecture, equals, place = rest.partition("=")
        if bool(equals) != bool(place):
            raise _no_name(text)
        return cls(scheme, architecture, place)

    def __str__(self) -> str:
        rest = "=".join(part for part in (self.architecture, self.place) if part)
        return f"{self.scheme}:{rest}" if rest else self.scheme

    @property
    def form(self) -> NameForm:
        """Which parts names of its scheme have."""
        return SCHEMES[self.scheme]

    @property
    def is_complete(self) -> bool:
        """Whether it says where the weights are, so that it can be loaded."""
        return bool(self.place) or not self.form.place

    @property
    def is_on_hub(self) -> bool:
        """Whether the weights are those of a hub repository, wherever its files are stored."""
        return self.form.place == _REPOSITORY

    @property
    def path(self) -> Path | None:
        """File or folder of the weights; None when the name doesn't hold one."""
        return user_path(self.place) if self.place and not self.is_on_hub else None

    @property
    def weights(self) -> Path:
        """File or folder of the weights.

        Raises
        ------
        ModelError
            When the name doesn't hold one.
        """
        if self.path is None:
            raise ModelError(f"'{self}' does not say where its weights are")
        return self.path

    @property
    def without_path(self) -> EncoderName:
        """The name without the path of its weights, which may contain a person's name."""
        return self if self.path is None else replace(self, place="")

    def at(self, path: str | Path) -> EncoderName:
        """Return the name of the same encoder with its weights in this file or folder."""
        return replace(self, place=str(path))


def _no_name(text: str) -> ModelError:
    return ModelError(
        f"'{without_folders(text)}' is not the name of an encoder",
        remedy=f"Names look like {', '.join(map(str, SCHEMES.values()))}.",
    )


def without_folders(text: str) -> str:
    """Return a text meant as an encoder's name with the last part of its path only, for messages.

    Folders may be named for patients or users.
    """
    return re.sub(r"(?<=[:=]).*[/\\](?=[^/\\])", "", text)


def is_encoder_name(text: str) -> bool:
    """Whether a text is meant as an encoder's name, rather than as that of a model or a file.

    A scheme needs its colon here, so that a user's model may be called "timm".
    """
    scheme, colon, _ = text.partition(":")
    return text == BUNDLED or (bool(colon) and scheme in SCHEMES)


def without_path(stored: str) -> str:
    """Return a stored encoder's name without its path; any other text is returned as it is."""
    try:
        return str(EncoderName.parse(stored).without_path)
    except ModelError:
        return stored


def hash_outside(text: str, digest: str) -> str:
    """Return the SHA-256 of an encoder's weight file, for the header of a model file.

    Parameters
    ----------
    text : str
        The encoder's name.
    digest : str
        Of its weights.

    Returns
    -------
    str
        "" when there is no such file, because the weights come with this package.
    """
    try:
        has_file = bool(EncoderName.parse(text).form.place)
    except ModelError:
        has_file = False
    return digest if has_file and re.fullmatch(r"[0-9a-f]{64}", digest) else ""


@dataclass(frozen=True)
class EncoderCard:
    """What is known of an encoder before its files are on this computer.

    Parameters
    ----------
    name : EncoderName
        Complete for the bundled encoder and those of the hub. Others get their place once the
        user has the files.
    title, architecture, license : str
        For people.
    repository : str
        On the hub; "" when it can't be downloaded from there.
    source : str
        Where it comes from, for people; the repository when "".
    gated : bool
        Whether its authors require an agreement before the download.
    reads_text : bool
        Whether it can segment from text prompts.
    needed : tuple of tuple of str
        File names, each with its alternatives. The weights come last, so that an incomplete
        download is never mistaken for a model.
    optional : tuple of str
        Downloaded too when the repository has them.
    by_hand : tuple of str
        Needed, but not in the repository.
    megabytes : int
        Of its weights, about; asked from the hub before a download. 0 when nothing is downloaded.
    mpp : float
        Micrometers per pixel of the images that it was trained on.
    """

    name: EncoderName
    title: str
    architecture: str
    license: str
    repository: str = ""
    source: str = ""
    gated: bool = False
    reads_text: bool = True
    needed: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    megabytes: int = 0
    mpp: float = 0.5

    def __post_init__(self) -> None:
        if not (self.title and self.license and (self.repository or self.source)):
            raise ValueError(f"the card of '{self.name}' lacks a title, license or source")
        if not self.needed and not self.is_bundled:
            raise ValueError(f"the card of '{self.name}' names no files")
        if self.megabytes < 0 or self.mpp <= 0:
            raise ValueError(f"the card of '{self.name}' has an impossible size or pixel size")

    @property
    def is_bundled(self) -> bool:
        """Whether it ships with this package."""
        return self.name.scheme == BUNDLED

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        return self.source or self.repository


_NC_ND = "CC-BY-NC-ND-4.0"
_OPEN_CLIP = ((CONFIG_FILE,), WEIGHT_FILES)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def hub_clip(
    repository: str, title: str, architecture: str, terms: str, megabytes: int = 0, *,
    optional: tuple[str, ...] = (),
) -> EncoderCard:  # fmt: skip
    """Return the card of a CLIP model that open_clip can load from a hub repository.

    The size of the download, in megabytes, is told in the list; 0 where it is not known.
    """
    return EncoderCard(
        EncoderName("hf-hub", place=repository), title, architecture, terms, repository,
        needed=_OPEN_CLIP, optional=optional, megabytes=megabytes,
    )  # fmt: skip


def clip_file(
    architecture: str, file: str, title: str, terms: str, source: str, megabytes: int,
    repository: str = "",
) -> EncoderCard:  # fmt: skip
    """Return the card of a CLIP model whose weights are one file."""
    return EncoderCard(
        EncoderName("open_clip", architecture), title, architecture, terms, repository, source,
        needed=((file,),), megabytes=megabytes,
    )  # fmt: skip


def timm_encoder(
    model: str, title: str, architecture: str, terms: str, repository: str, megabytes: int, *,
    config: str = "config.json", weights: tuple[str, ...] = _TIMM_WEIGHTS, gated: bool = False,
) -> EncoderCard:  # fmt: skip
    """Return the card of a vision-only encoder that timm can build.

    `config` is "" for those without one, whose normalization is in `specs.TIMM_VARIANTS`.
    """
    return EncoderCard(
        EncoderName("timm", model), title, architecture, terms, repository, gated=gated,
        reads_text=False, needed=((config,), weights) if config else (weights,),
        megabytes=megabytes,
    )  # fmt: skip


_PREPROCESSOR = "preprocessor_config.json"
CARDS: list[EncoderCard] = [
    EncoderCard(EncoderName(BUNDLED), "Bundled colorectal model", "DenseNet121 + MiniLM",
                "MIT, Apache-2.0 and research-use data", source="ships with napari-plimseg"),
    hub_clip("wisdomik/QuiltNet-B-32", "QuiltNet B-32", "ViT-B-32", "MIT", 605),
    hub_clip("wisdomik/QuiltNet-B-16", "QuiltNet B-16", "ViT-B-16", "MIT", 599),
    hub_clip("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "BiomedCLIP",
             "ViT-B-16 (timm)", "MIT", 784, optional=_TOKENIZER),
    hub_clip("timm/vit_base_patch16_clip_224.openai", "OpenAI CLIP ViT-B-16",
             "ViT-B-16-quickgelu", "MIT", 599),
    hub_clip("timm/resnet50_clip.openai", "OpenAI CLIP RN50", "RN50-quickgelu", "MIT", 408),
    clip_file("ViT-B-16", "pathgen-clip.pt", "PathGen-CLIP", "CC-BY-2.0",
              "pathgen-clip.pt of PathGen-1.6M", 599),
    clip_file("ViT-B-16-quickgelu", "pathclip.pt", "PathCLIP", "CC-BY-NC-4.0",
              "PathCLIP of PathAsst", 599),
    clip_file("ViT-B-32-quickgelu", "pytorch_model.bin", "PLIP", "none stated",
              "pytorch_model.bin of vinid/plip", 605, "vinid/plip"),
    EncoderCard(EncoderName("conch"), "CONCH", "ViT-B-16 with attention pooling", _NC_ND,
                "MahmoodLab/CONCH", gated=True,
                needed=(("pytorch_model.bin", "model.safetensors"),),
                by_hand=("conch_byte_level_bpe_uncased.json",), megabytes=1580),
    EncoderCard(EncoderName("keep"), "KEEP", "ViT-L-16 with PubMedBERT", "MIT", "Astaxanthin/KEEP",
                needed=(TOKENIZER_FILES, _TIMM_WEIGHTS), megabytes=1660),
    timm_encoder("vit_large_patch16_224", "UNI", "ViT-L-16", _NC_ND, "MahmoodLab/UNI", 1213,
                 weights=_TIMM_WEIGHTS[::-1], gated=True),
    timm_encoder("uni2_h", "UNI2-h", "ViT-H-14", _NC_ND, "MahmoodLab/UNI2-h", 2725,
                 weights=_TIMM_WEIGHTS[::-1], gated=True),
    timm_encoder("conch_v1_5", "CONCH 1.5", "ViT-L-16", _NC_ND, "MahmoodLab/conchv1_5", 1213,
                 config="", weights=("pytorch_model_vision.bin",), gated=True),
    timm_encoder("vit_huge_patch14_224", "Virchow2", "ViT-H-14", _NC_ND, "paige-ai/Virchow2",
                 2525, gated=True),
    timm_encoder("vit_large_patch16_224", "Phikon-v2", "ViT-L-16", "Owkin non-commercial license",
                 "owkin/phikon-v2", 1213, config=_PREPROCESSOR),
    timm_encoder("vit_giant_patch14_reg4_dinov2", "H-optimus-0", "ViT-g-14", "Apache-2.0",
                 "bioptimus/H-optimus-0", 4540),
    timm_encoder("vit_giant_patch14_reg4_dinov2", "H-optimus-1", "ViT-g-14", _NC_ND,
                 "bioptimus/H-optimus-1", 4540, gated=True),
    timm_encoder("vit_base_patch14_reg4_dinov2", "H0-mini", "ViT-B-14", _NC_ND,
                 "bioptimus/H0-mini", 343, gated=True),
    timm_encoder("midnight", "Midnight-12k", "ViT-g-14", "MIT", "kaiko-ai/midnight", 4545),
    timm_encoder("vit_base_patch14_reg4_dinov2", "Hibou-B", "ViT-B-14", "Apache-2.0",
                 "histai/hibou-b", 343, config=_PREPROCESSOR),
]  # fmt: skip
"""Encoders known to work; append a card to offer another one."""


def card_titled(title: str) -> EncoderCard | None:
    """Return the card of an encoder that is not bundled; letter case does not matter."""
    wanted = title.casefold()
    cards = (card for card in CARDS if not card.is_bundled)
    return next((card for card in cards if card.title.casefold() == wanted), None)


def bundled_folder() -> Path:
    """Return the folder of the shipped weights."""
    return Path(str(importlib.resources.files("napari_plimseg.models") / "bundled"))


def encoders_folder() -> Path:
    """Return the folder of all downloaded or copied encoders; it may not exist yet."""
    return user_data_dir() / "encoders"


def folder_of(card: EncoderCard) -> Path:
    """Return the folder of an encoder's files; it may not exist yet."""
    return encoders_folder() / (card.repository or card.title).replace("/", "--")


def hub_folder(repository: str) -> Path | None:
    """Return the folder of a hub repository's encoder, None unless all its files are there."""
    wanted = EncoderName("hf-hub", place=repository)
    card = next((card for card in CARDS if card.name == wanted), None)
    if card is None or missing_files(card):
        return None
    return folder_of(card)


def missing_files(card: EncoderCard) -> tuple[str, ...]:
    """Return the names of the needed files that are not in an encoder's folder yet."""
    folder = folder_of(card)
    missing = [names[0] for names in card.needed[:-1] if not _one_of(folder, names)]
    if _weights(card) is None:
        missing.append(card.needed[-1][0])
    return (*missing, *(name for name in card.by_hand if not (folder / name).is_file()))


def loadable_name(card: EncoderCard) -> EncoderName | None:
    """Return what `load_encoder` takes for an encoder's folder, None when it can't be loaded."""
    weights = _weights(card)
    if weights is None or missing_files(card) or damage(card):
        return None
    if card.name.is_on_hub:
        return card.name
    return card.name.at(weights if card.name.form.place == "FILE" else weights.parent)


def damage(card: EncoderCard) -> str:
    """Return what is wrong with an encoder's files, as a sentence; "" when nothing is.

    Looks only at the parts of a file that a broken copy or download would lack, because the list
    of models must not take as long as reading gigabytes of weights.
    """
    weights = _weights(card)
    if weights is not None and not _is_whole(weights):
        return f"'{weights.name}' is damaged or cut off: remove it and download it again."
    for names in card.needed[:-1]:
        for name in names:
            path = folder_of(card) / name
            if path.suffix == ".json" and path.is_file() and not _is_json(path):
                return f"'{name}' is damaged: remove it and download it again."
    return ""


def bytes_here(card: EncoderCard) -> int:
    """Return how many bytes of an encoder are in its folder, unfinished downloads included."""
    return sum(p.stat().st_size for p in folder_of(card).glob("*") if p.is_file())


def is_begun(card: EncoderCard) -> bool:
    """Whether there is an unfinished download."""
    return any(folder_of(card).glob(f"*{PART_SUFFIX}"))


def _weights(card: EncoderCard) -> Path | None:
    folder = folder_of(card)
    for name in card.needed[-1]:
        if (folder / name).is_file():
            return folder / name
    if card.name.form.place == "FILE":  # a file copied there by hand may have any name
        # what begins with a dot is being written, or is macOS's
        copied = (p for p in folder.glob("[!.]*") if p.suffix in WEIGHT_SUFFIXES)
        found = sorted(p for p in copied if p.is_file())
        return found[0] if found else None
    return None


def _one_of(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def _is_whole(weights: Path) -> bool:
    if weights.suffix != ".safetensors":
        # A zip has its directory at the end, so a cut-off one is found at once. torch's older
        # pickle format has no directory: only reading all of it would tell.
        with weights.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return zipfile.is_zipfile(weights) if is_zip else weights.stat().st_size > 0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "np"):  # compares the header with the size of the file
            return True
    except (SafetensorError, OSError, ValueError):
        return False


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return True
