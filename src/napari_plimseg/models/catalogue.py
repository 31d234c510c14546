"""The models that a user can choose, and the one place that loads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError, PlimsegError
from napari_plimseg.files import user_data_dir
from napari_plimseg.models.encoders import (
    CARDS,
    SMALL,
    EncoderCard,
    weights_path,
    without_path,
)
from napari_plimseg.tissue import COLORECTAL, TissueClasses

if TYPE_CHECKING:
    from napari_plimseg.models.dense_model import DenseModel
    from napari_plimseg.models.model_file import ModelHeader

BUNDLED = "bundled"
BUNDLED_TISSUE = "bundled-tissue"
BUNDLED_MPP = 0.5
_TISSUE_LICENSE = "BSD-3-Clause; trained on CC-BY 4.0 data (Kather et al.); research use"
_SCHEMES = ("hf-hub:", "local-dir:", "open_clip:", "conch:", "timm:")


@dataclass(frozen=True)
class ModelInfo:
    """A model in the list of models.

    Parameters
    ----------
    name : str
        What `load_model` takes.
    title, description : str
        What people read.
    classes : TissueClasses
    mpp : float
        Micrometres per pixel at which it works.
    license, source : str
    size_bytes : int
        On disk; 0 when it is not there.
    available : bool
        Whether it can be loaded now.
    reason : str
        Why it can't, and what to do; empty when it can.
    """

    name: str
    title: str
    description: str
    classes: TissueClasses
    mpp: float
    license: str
    source: str
    size_bytes: int
    available: bool
    reason: str = ""


def models_folder() -> Path:
    """Return where the user's own model files lie; it may not exist yet."""
    return user_data_dir() / "models"


def list_models() -> list[ModelInfo]:
    """Return the bundled models, the user's own model files, and known ones that can be had.

    Models for hints are apart, in `hint_catalogue.list_hint_models`.
    """
    own = [path for path in sorted(models_folder().glob("*.safetensors")) if not for_hints(path)]
    cards = (_card_info(card) for card in CARDS if card.name != BUNDLED and card.reads_text)
    return [
        bundled_info(),
        tissue_info(),
        *(file_info(path) for path in own),
        *(info for info in cards if info is not None),
    ]


def load_model(
    name_or_path: str | Path = BUNDLED, classes: TissueClasses | None = None
) -> DenseModel:
    """Load a model that gives class maps.

    Parameters
    ----------
    name_or_path : str or Path
        A name of `list_models`, an encoder's name (`load_encoder`) or a model file.
    classes : TissueClasses, optional
        For models that read text: the user's own classes, told by their names and prompts. The
        nine colorectal classes when None. A model file keeps its own; other ones are refused.

    Raises
    ------
    ModelError
        When it is not there, can't be read, or can't make maps of these classes.
    """
    name = str(name_or_path)
    if name == BUNDLED or name.startswith(_SCHEMES):
        from napari_plimseg.models.encoders import ImageTextEncoder, load_encoder
        from napari_plimseg.models.zero_shot import ZeroShotModel

        encoder = load_encoder(name)
        if not isinstance(encoder, ImageTextEncoder):
            raise ModelError(
                f"'{name}' reads no text, so it has no class maps before it is trained",
                remedy="Choose an image-text model, or train with it.",
            )
        return ZeroShotModel(encoder, classes or COLORECTAL, name=_title(name))
    path = tissue_file() if name == BUNDLED_TISSUE else Path(name_or_path)
    if not path.is_file() and (models_folder() / f"{name}.safetensors").is_file():
        path = models_folder() / f"{name}.safetensors"
    if path.suffix not in {".safetensors"} or not path.is_file():
        raise ModelError(
            f"there is no model '{path.name}'",
            remedy=f"Known: {', '.join(i.name for i in list_models() if i.available)}; "
            "or give the path of a .safetensors model file.",
        )
    return _from_file(path, classes)


def _from_file(path: Path, classes: TissueClasses | None) -> DenseModel:
    from napari_plimseg.models.model_file import read_header

    header = read_header(path)
    if classes is not None and classes.names != header.classes.names:
        raise ModelError(
            "it was made for other classes and can't be told new ones",
            path=path,
            remedy=f"Its classes are {', '.join(header.classes.names)}.",
        )
    if header.kind == "hints":
        raise ModelError(
            "it finds objects from points and boxes, and no classes",
            path=path,
            remedy="Choose it as the model for hints.",
        )
    if header.kind == "segmentation":
        from napari_plimseg.models.seg_model import load_segmentation_model

        return load_segmentation_model(path, classes)
    return _from_prototypes(path, classes)


def _from_prototypes(path: Path, classes: TissueClasses | None) -> DenseModel:
    from napari_plimseg.models.encoders import ImageTextEncoder, load_encoder
    from napari_plimseg.models.model_file import load_model_file
    from napari_plimseg.models.zero_shot import ZeroShotModel

    header, tensors = load_model_file(path)
    encoder = load_encoder(header.encoder)
    if encoder.identity != header.encoder_identity or not isinstance(encoder, ImageTextEncoder):
        raise ModelError(
            f"it belongs to other weights of its encoder '{header.encoder}'",
            path=path,
            remedy="Use the version of napari-plimseg that made it, or make it again.",
        )
    width = encoder.encode_text(["tissue"]).shape[1]
    if tensors["prototypes"].shape[1] != width:
        raise ModelError(
            f"its vectors have {tensors['prototypes'].shape[1]} values and its encoder's {width}",
            path=path,
        )
    return ZeroShotModel(
        encoder,
        classes or header.classes,
        name=header.title or path.stem,
        prototypes=tensors["prototypes"],
    )


def _title(name: str) -> str:
    return next((card.title for card in CARDS if card.name == name), name)


def bundled_info() -> ModelInfo:
    """Return the shipped model."""
    from napari_plimseg.models.bundled_files import (
        CONFIG_FILE,
        TOKENIZER_FILE,
        WEIGHTS_FILE,
        bundled_folder,
    )

    card = next(card for card in CARDS if card.name == BUNDLED)
    weights = bundled_folder() / WEIGHTS_FILE
    files = (bundled_folder() / name for name in (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE))
    size = sum(file.stat().st_size for file in files if file.is_file())
    return ModelInfo(
        BUNDLED, card.title,
        "Nine colorectal tissue classes, or any words that you type. For research use only.",
        COLORECTAL, BUNDLED_MPP, card.license, card.source, size, weights.is_file(),
        "" if weights.is_file() else "Its weights are missing: install napari-plimseg again.",
    )  # fmt: skip


def tissue_file() -> Path:
    """Return where the shipped model lies that was trained from tags."""
    from napari_plimseg.models.bundled_files import TISSUE_FILE, bundled_folder

    return bundled_folder() / TISSUE_FILE


def tissue_info() -> ModelInfo:
    """Return the shipped model that was trained from tags; its file is not opened."""
    path = tissue_file()
    present = path.is_file()
    return ModelInfo(
        BUNDLED_TISSUE, "Colorectal tissue, from tags",
        "Nine colorectal tissue classes, trained from image-level tags. For research use only.",
        COLORECTAL, BUNDLED_MPP, _TISSUE_LICENSE, "napari-plimseg",
        path.stat().st_size if present else 0, present,
        "" if present else "Its weights are missing: install napari-plimseg again.",
    )  # fmt: skip


def file_info(path: Path) -> ModelInfo:
    """Return what a model file of the user's says about itself, or why it can't be used."""
    from napari_plimseg.models.model_file import read_header

    missing = ModelInfo(
        path.stem, path.stem, "A model file that can't be used.", COLORECTAL, BUNDLED_MPP, "",
        path.name, path.stat().st_size, False,
    )  # fmt: skip
    try:
        header: ModelHeader = read_header(path)
    except PlimsegError as error:
        return replace(missing, reason=str(error))
    encoder = weights_path(header.encoder)
    lost = encoder is not None and not encoder.exists()
    return ModelInfo(
        path.stem, header.title or path.stem, _description(header),
        header.classes, header.mpp, header.license, path.name, path.stat().st_size, not lost,
        "The weights of its encoder are not where they were: put them back, or train it again."
        if lost else "",
    )  # fmt: skip


def for_hints(path: Path) -> bool:
    """Whether a model file is one for points and boxes; False when it can't be read."""
    from napari_plimseg.models.model_file import read_header

    try:
        return read_header(path).kind == "hints"
    except PlimsegError:
        return False


def _description(header: ModelHeader) -> str:
    if header.kind == "hints":
        return f"Objects from points and boxes, on {without_path(header.encoder)}."
    how = "trained on" if header.kind == "segmentation" else "words on"
    text = f"Your own model, {how} {without_path(header.encoder)}"
    if header.encoder == SMALL:
        text = "Your own fast model, taught by a larger one"
    scores = ", ".join(f"{name} {value:.3g}" for name, value in header.scores.items())
    return f"{text}: {scores}." if scores else f"{text}."


def _card_info(card: EncoderCard) -> ModelInfo | None:
    from napari_plimseg.models.encoder_files import damage, folder_of, loadable_name

    name = loadable_name(card)
    if name is None and not card.on_hub:
        return None  # its name alone says nothing: it is listed once its files are here
    present = name is not None or is_cached(card.source)
    remedy = damage(card) or (
        "Not on this computer. Fetch it in PLIMSeg Models, or put its open_clip_config.json and "
        f"open_clip_model.safetensors into the folder {folder_of(card)}."
    )
    return ModelInfo(
        name or card.name, card.title, f"{card.architecture}: any words that you type.",
        COLORECTAL, BUNDLED_MPP, card.license, card.source, 0, present, "" if present else remedy,
    )  # fmt: skip


def is_cached(repository: str) -> bool:
    """Whether the hub's own cache, which other programs share, holds an encoder."""
    return cached_folder(repository) is not None


def cached_folder(repository: str) -> Path | None:
    """Return the folder of a repository in the hub's own cache, None when it is not there."""
    import huggingface_hub

    from napari_plimseg.models.encoders import CONFIG_FILE

    found = huggingface_hub.try_to_load_from_cache(repository, CONFIG_FILE)
    return Path(found).parent if isinstance(found, str) else None
