"""Choices that the training dock remembers from one day to the next."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass

from napari_plimseg.files import user_data_dir, write_json

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings:
    """What a user chose last; values of another type are replaced by the defaults.

    Parameters
    ----------
    folder : str
        The last folder of images.
    effort : str
    mpp : str
        Pixel size typed last, as it was typed.
    keep_on : bool
        Whether a training goes on after napari is closed.
    """

    folder: str = ""
    effort: str = "balanced"
    mpp: str = ""
    keep_on: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if type(getattr(self, field.name)) is not type(field.default):
                object.__setattr__(self, field.name, field.default)


def load_train_settings() -> TrainSettings:
    """Return the remembered choices, or the defaults when there are none or they are damaged."""
    try:
        content = json.loads((user_data_dir() / "train_settings.json").read_text("utf-8"))
    except (OSError, ValueError):
        return TrainSettings()
    if not isinstance(content, dict):
        return TrainSettings()
    known = {field.name for field in dataclasses.fields(TrainSettings)}
    return TrainSettings(**{key: value for key, value in content.items() if key in known})


def save_train_settings(settings: TrainSettings) -> None:
    """Remember the choices; a disk that refuses costs nothing but the memory."""
    try:
        write_json(user_data_dir() / "train_settings.json", dataclasses.asdict(settings))
    except OSError as error:
        _logger.warning("the training dock's settings can't be saved: %s", error)
