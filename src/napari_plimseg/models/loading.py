"""The models for points and boxes that a user can choose, and the one place that loads them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError
from napari_plimseg.models import library
from napari_plimseg.models.encoders.cards import (
    CARDS,
    bundled_folder,
)
from napari_plimseg.models.library import (
    BUNDLED,
    BUNDLED_TISSUE,
    ENCODER_SCHEMES,
    HINT_MODEL_FILE,
    list_hint_models,
    list_models,
    models_folder,
    tissue_file,
)
from napari_plimseg.tissue import COLORECTAL, TissueClasses

if TYPE_CHECKING:
    from napari_plimseg.models.promptable.wsi_sam import WsiSam
    from napari_plimseg.models.segmentation.base import DenseModel


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
    if name == BUNDLED or name.startswith(ENCODER_SCHEMES):
        from napari_plimseg.models.encoders.base import ImageTextEncoder
        from napari_plimseg.models.encoders.loading import load_encoder
        from napari_plimseg.models.segmentation.zero_shot import ZeroShotModel

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
        from napari_plimseg.models.segmentation.seg_model import load_segmentation_model

        return load_segmentation_model(path, classes)
    return _from_prototypes(path, classes)


def _from_prototypes(path: Path, classes: TissueClasses | None) -> DenseModel:
    from napari_plimseg.models.encoders.base import ImageTextEncoder
    from napari_plimseg.models.encoders.loading import load_encoder
    from napari_plimseg.models.model_file import load_model_file
    from napari_plimseg.models.segmentation.zero_shot import ZeroShotModel

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


_SAM_SCHEMES = ("sam:", "hf-hub:")


def load_hints(name_or_path: str | Path = BUNDLED, *, allow_download: bool = False) -> WsiSam:
    """Load a model for points and boxes.

    Parameters
    ----------
    name_or_path : str or Path
        "bundled", a name of `list_hint_models`, a model file of kind "hints", or a SAM's name for
        `load_sam`: `sam:FOLDER`, `sam:FILE` or `hf-hub:ORG/REPO`.
    allow_download : bool
        Whether weights that are not on this computer may be fetched.

    Raises
    ------
    ModelError
        When it is not there, can't be read, or is another kind of model.
    """
    name = str(name_or_path)
    if name == BUNDLED:
        return _bundled_hint_model()
    if name.startswith(_SAM_SCHEMES):
        from napari_plimseg.models.promptable.sam_weights import load_sam
        from napari_plimseg.models.promptable.wsi_sam import WsiSam

        sam = load_sam(name, allow_download=allow_download)
        return WsiSam.on_sam(sam, source=name).requires_grad_(False)
    path = Path(name_or_path)
    if not path.is_file() and (library.models_folder() / f"{name}.safetensors").is_file():
        path = library.models_folder() / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(info.name for info in list_hint_models() if info.available)
        raise ModelError(
            f"there is no model for hints '{path.name}'",
            remedy=f"Known: {known}; or give the path of a .safetensors model file, or sam:FOLDER.",
        )
    from napari_plimseg.models.promptable.model_file import load_hint_model

    return load_hint_model(path, allow_download=allow_download)


@functools.cache
def _bundled_hint_model() -> WsiSam:
    from napari_plimseg.models.promptable.model_file import load_hint_model

    return load_hint_model(bundled_folder() / HINT_MODEL_FILE)
