"""The models for points and boxes that a user can choose, and the one place that loads them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError
from napari_plimseg.models import catalogue
from napari_plimseg.models.bundled_files import bundled_folder
from napari_plimseg.models.catalogue import BUNDLED, ModelInfo

if TYPE_CHECKING:
    from napari_plimseg.models.wsi_sam import WsiSam

FILE = "hints.safetensors"
_SAM_SCHEMES = ("sam:", "hf-hub:")


def list_hint_models() -> list[ModelInfo]:
    """Return the shipped model for hints and the user's own ones; SAMs are named, not listed."""
    own = sorted(catalogue.models_folder().glob("*.safetensors"))
    return [
        _bundled_info(),
        *(catalogue.file_info(path) for path in own if catalogue.for_hints(path)),
    ]


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
        return _bundled()
    if name.startswith(_SAM_SCHEMES):
        from napari_plimseg.models.sam_weights import load_sam
        from napari_plimseg.models.wsi_sam import WsiSam

        sam = load_sam(name, allow_download=allow_download)
        return WsiSam.on_sam(sam, source=name).requires_grad_(False)
    path = Path(name_or_path)
    if not path.is_file() and (catalogue.models_folder() / f"{name}.safetensors").is_file():
        path = catalogue.models_folder() / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(info.name for info in list_hint_models() if info.available)
        raise ModelError(
            f"there is no model for hints '{path.name}'",
            remedy=f"Known: {known}; or give the path of a .safetensors model file, or sam:FOLDER.",
        )
    from napari_plimseg.models.hint_model_file import load_hint_model

    return load_hint_model(path, allow_download=allow_download)


@functools.cache
def _bundled() -> WsiSam:
    from napari_plimseg.models.hint_model_file import load_hint_model

    return load_hint_model(bundled_folder() / FILE)


def _bundled_info() -> ModelInfo:
    path = bundled_folder() / FILE
    if path.is_file():
        found = catalogue.file_info(path)
        return ModelInfo(**{**vars(found), "name": BUNDLED, "source": "napari-plimseg"})
    shipped = catalogue.bundled_info()
    return ModelInfo(
        BUNDLED, "Points and boxes", "The model for points and boxes that comes along.",
        shipped.classes, 1.0, "", "napari-plimseg", 0, False,
        "Its weights are missing: install napari-plimseg again.",
    )  # fmt: skip
