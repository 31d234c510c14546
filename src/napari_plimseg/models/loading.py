"""Load a model by its name or from its file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError, user_path
from napari_plimseg.files import access_errors
from napari_plimseg.models.encoders import BUNDLED, CARDS, bundled_folder, is_encoder_name
from napari_plimseg.models.library import (
    HINT_MODEL_FILE,
    SHIPPED_FILES,
    list_models,
    list_promptable_models,
    models_folder,
    shipped_file,
)
from napari_plimseg.models.tensor_file import fits_into_memory
from napari_plimseg.tissue import COLORECTAL, TissueClasses

if TYPE_CHECKING:
    from napari_plimseg.models.promptable import WsiSam
    from napari_plimseg.models.segmentation import DenseModel


def load_model(
    name_or_path: str | Path = BUNDLED, classes: TissueClasses | None = None
) -> DenseModel:
    """Load a model that segments tissue classes.

    Parameters
    ----------
    name_or_path : str or Path
        A name of `list_models`, an encoder's name (`load_encoder`) or a model file.
    classes : TissueClasses, optional
        For models that read text: the classes to segment, described by their names and prompts;
        the nine colorectal classes when None. A model file has its own classes; only their names
        are accepted, for example with other colors.

    Raises
    ------
    ModelError
        When it does not exist, can't be read, or can't segment these classes.
    """
    name = str(name_or_path)
    if is_encoder_name(name):
        with fits_into_memory(Path(name)):
            return _zero_shot(name, classes)
    path = shipped_file(name) if name in SHIPPED_FILES else _file_of(name)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(
            f"there is no model '{path.name or name}'",
            remedy=f"Known: {', '.join(e.name for e in list_models() if e.available)}; "
            "or give the path of a .safetensors model file.",
        )
    with fits_into_memory(path):
        return _from_file(path, classes)


def _file_of(name: str) -> Path:
    """Return the path of a model: the name itself, or the user's model of that name."""
    path, own = user_path(name), models_folder() / f"{name}.safetensors"
    with access_errors(path, ModelError):
        return own if not path.is_file() and own.is_file() else path


def _zero_shot(name: str, classes: TissueClasses | None) -> DenseModel:
    from napari_plimseg.models.encoders import ImageTextEncoder, load_encoder
    from napari_plimseg.models.segmentation import ZeroShotModel

    encoder = load_encoder(name)
    if not isinstance(encoder, ImageTextEncoder):
        raise ModelError(
            f"'{name}' is a vision-only encoder and can't segment before it is trained",
            remedy="Choose an image-text model, or train a model with it.",
        )
    title = next((card.title for card in CARDS if str(card.name) == name), name)
    return ZeroShotModel(encoder, classes or COLORECTAL, name=title)


def _from_file(path: Path, classes: TissueClasses | None) -> DenseModel:
    from napari_plimseg.models.model_file import read_header

    header = read_header(path)
    if classes is not None and classes.names != header.classes.names:
        raise ModelError(
            "it was made for other classes and can't segment these",
            path=path,
            remedy=f"Its classes are {', '.join(header.classes.names)}.",
        )
    if header.kind == "hints":
        raise ModelError(
            "it segments objects from points and boxes, not classes",
            path=path,
            remedy="Choose it as the model of Smart select.",
        )
    if header.kind == "cams":
        raise ModelError(
            "it holds the CAMs of a stage 1 and makes no masks",
            path=path,
            remedy="Show them with Show CAM, or choose the model of that training.",
        )
    if header.kind == "segmentation":
        from napari_plimseg.models.segmentation import load_segmentation_model

        return load_segmentation_model(path, classes)
    return _from_prototypes(path, classes)


def _from_prototypes(path: Path, classes: TissueClasses | None) -> DenseModel:
    from napari_plimseg.models.encoders import (
        ImageTextEncoder,
        check_hash,
        find_encoder,
        load_encoder,
        without_path,
    )
    from napari_plimseg.models.model_file import load_model_file
    from napari_plimseg.models.segmentation import ZeroShotModel

    header, tensors = load_model_file(path)
    encoder = load_encoder(
        find_encoder(header.encoder, header.encoder_sha256, header.encoder_identity, path=path)
    )
    digest = getattr(encoder, "digest", "")
    check_hash(header.encoder, digest, header.encoder_sha256, path=path)
    if encoder.identity != header.encoder_identity or not isinstance(encoder, ImageTextEncoder):
        raise ModelError(
            f"it belongs to other weights of its encoder '{without_path(header.encoder)}'",
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


def load_promptable_model(name_or_path: str | Path = BUNDLED) -> WsiSam:
    """Load a model that segments objects from points and boxes.

    Parameters
    ----------
    name_or_path : str or Path
        "bundled", a name of `list_promptable_models`, a model file of kind "hints", or a SAM's
        name for `load_sam`: `sam:FOLDER`, `sam:FILE` or `hf-hub:ORG/REPO`.

    Raises
    ------
    ModelError
        When it does not exist, can't be read, or is another kind of model.
    """
    name = str(name_or_path)
    if name == BUNDLED:
        return _bundled_promptable_model()
    if is_encoder_name(name):
        from napari_plimseg.models.promptable import WsiSam, load_sam

        return WsiSam.on_sam(load_sam(name), source=name).requires_grad_(False)
    path = _file_of(name)
    if not path.is_file():
        known = ", ".join(entry.name for entry in list_promptable_models() if entry.available)
        raise ModelError(
            f"there is no promptable model '{path.name}'",
            remedy=f"Known: {known}; or give the path of a .safetensors model file, or sam:FOLDER.",
        )
    from napari_plimseg.models.promptable import load_hint_model

    with fits_into_memory(path):
        return load_hint_model(path)


@functools.cache
def _bundled_promptable_model() -> WsiSam:
    from napari_plimseg.models.promptable import load_hint_model

    return load_hint_model(bundled_folder() / HINT_MODEL_FILE)
