"""Choices that the dock remembers from one day to the next."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.files import user_data_dir, write_json

if TYPE_CHECKING:
    from napari_plimseg.inference.plan import RunSettings
    from napari_plimseg.slides.tissue_mask import TissueMaskSettings

_logger = logging.getLogger(__name__)

TILE_SIZES = (256, 512, 1024, 2048)


@dataclass(frozen=True)
class DockSettings:
    """What a user chose last. Values that make no sense are replaced by the defaults.

    Parameters
    ----------
    model : str
        Name of the model in the catalogue; the first one when empty.
    device : str
        "auto" or a device of `available_devices`.
    tile_size : int
        Side of a tile in working pixels, one of `TILE_SIZES`.
    batch_size : int
        Tiles given to the model at once; 0 chooses by device.
    tissue_only : bool
        Whether glass is left out.
    tissue_threshold : float
        Optical density of colour from which a pixel is tissue; smaller finds paler tissue.
    remove_pen : bool
        Whether pen strokes are left out of the tissue.
    keep_probabilities : bool
        Whether the probability of each class is kept for the overlay.
    results_folder : str
        Where results are kept; the user's data folder when empty.
    export_folder, slide_folder : str
        Where the last file dialog was.
    """

    model: str = ""
    device: str = "auto"
    tile_size: int = 512
    batch_size: int = 0
    tissue_only: bool = True
    tissue_threshold: float = 0.055
    remove_pen: bool = True
    keep_probabilities: bool = True
    results_folder: str = ""
    export_folder: str = ""
    slide_folder: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not type(field.default) or not _allowed(field.name, value):
                object.__setattr__(self, field.name, field.default)

    @property
    def results_path(self) -> Path:
        """Where results are kept."""
        return Path(self.results_folder) if self.results_folder else user_data_dir() / "results"

    def tissue_settings(self) -> TissueMaskSettings:
        """Return how tissue is found."""
        from napari_plimseg.slides.tissue_mask import TissueMaskSettings

        weak = self.tissue_threshold
        strong = max(TissueMaskSettings.strong, weak)
        return TissueMaskSettings(weak=weak, strong=strong, remove_pen=self.remove_pen)

    def run_settings(self) -> RunSettings:
        """Return the engine's settings."""
        from napari_plimseg.inference.plan import RunSettings

        return RunSettings(
            tile_size=self.tile_size,
            batch_size=self.batch_size,
            device=self.device,
            threads=max(1, (os.cpu_count() or 2) - 1),  # one core for the window
            probabilities=self.keep_probabilities,
            tissue=self.tissue_settings() if self.tissue_only else None,
        )


def _allowed(name: str, value: object) -> bool:
    if name == "tile_size":
        return value in TILE_SIZES
    if name == "batch_size":
        return isinstance(value, int) and 0 <= value <= 64
    if name == "tissue_threshold":
        return isinstance(value, float) and 0.01 <= value <= 0.12
    return True


def settings_path() -> Path:
    """Return the file that holds the choices; it may not exist yet."""
    return user_data_dir() / "dock_settings.json"


def load_settings() -> DockSettings:
    """Return the remembered choices, or the defaults when there are none or they are damaged."""
    try:
        content = json.loads(settings_path().read_text("utf-8"))
    except (OSError, ValueError):
        return DockSettings()
    if not isinstance(content, dict):
        return DockSettings()
    known = {field.name for field in dataclasses.fields(DockSettings)}
    return DockSettings(**{key: value for key, value in content.items() if key in known})


def save_settings(settings: DockSettings) -> None:
    """Remember the choices; a disk that refuses costs nothing but the memory."""
    try:
        write_json(settings_path(), dataclasses.asdict(settings))
    except OSError as error:
        _logger.warning("the dock's settings can't be saved: %s", error)


def choices_path() -> Path:
    """Return the file that holds what other docks remember; it may not exist yet."""
    return user_data_dir() / "choices.json"


def remembered(name: str, default: Any) -> Any:
    """Return what was remembered under a name, `default` when it is missing or of another type."""
    value = _choices().get(name, default)
    return value if type(value) is type(default) else default


def remember(name: str, value: Any) -> None:
    """Remember plain data under a name; a disk that refuses costs nothing but the memory."""
    try:
        write_json(choices_path(), {**_choices(), name: value})
    except OSError as error:
        _logger.warning("the docks' choices can't be saved: %s", error)


def _choices() -> dict[str, Any]:
    try:
        content = json.loads(choices_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
