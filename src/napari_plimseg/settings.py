"""Choices that the docks remember between sessions, and how each of them is shown.

A setting is one field of a frozen dataclass. Its `Option` holds the label, tooltip and allowed
values; the docks build their forms from it, and the dataclass checks itself against it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_plimseg.files import user_data_dir, write_json
from napari_plimseg.reading import UnreadableError, read_json
from napari_plimseg.training_runs import EFFORTS, LABEL_SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_plimseg.inference import RunSettings
    from napari_plimseg.slides import TissueMaskSettings


_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """One of several values of a setting.

    Parameters
    ----------
    value : object
    text : str
        As shown.
    tooltip : str
        For this choice alone; empty for the tooltip of the setting.
    """

    value: Any
    text: str
    tooltip: str = ""


@dataclass(frozen=True)
class Option:
    """How a setting is shown, and which values it accepts. Free of any GUI.

    The type of the default decides the control: a check box for a bool, a box with arrows for a
    number, a line of text for a str.

    Parameters
    ----------
    label : str
        Beside the control.
    tooltip : str
    choices : tuple of Choice
        A list to choose from, in place of the control of the type.
    more_choices : bool
        Whether the program adds choices that depend on the computer.
    radio : bool
        Show the choices as buttons side by side instead of a drop-down list.
    low, high, step : float
        Range and step of a number.
    low_text : str
        Shown in place of the lowest number, such as "automatic".
    is_folder : bool
        Whether the text is the path of a folder; `low_text` is shown while it is empty.
    needs : str
        Name of a bool setting that must be on for this one to have an effect.
    """

    label: str
    tooltip: str
    choices: tuple[Choice, ...] = ()
    more_choices: bool = False
    radio: bool = False
    low: float | None = None
    high: float | None = None
    step: float | None = None
    low_text: str = ""
    is_folder: bool = False
    needs: str = ""

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is one that the setting accepts."""
        if self.choices and not self.more_choices:
            return any(choice.value == value for choice in self.choices)
        if self.low is not None and value < self.low:
            return False
        return self.high is None or bool(value <= self.high)


_OPTION = "option"


def option(default: Any, label: str, tooltip: str, **how: Any) -> Any:
    """Return a dataclass field for a setting that a form shows; `how` goes to `Option`."""
    return dataclasses.field(
        default=default, metadata={_OPTION: Option(label=label, tooltip=tooltip, **how)}
    )


def options_of(settings: Any) -> dict[str, Option]:
    """Return the options of a settings dataclass or object by field, in order."""
    return {
        field.name: field.metadata[_OPTION]
        for field in dataclasses.fields(settings)
        if _OPTION in field.metadata
    }


def _check(settings: Any) -> None:
    """Replace values of a wrong type or out of range by the defaults."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        # not isinstance: True is no number of tiles
        good = type(value) is type(field.default)
        if good and _OPTION in field.metadata:
            good = field.metadata[_OPTION].allows(value)
        if not good:
            object.__setattr__(settings, field.name, field.default)


@dataclass(frozen=True)
class DockSettings:
    """What a user chose last in the dock *PLIMSeg*.

    A settings file may be old, new or edited by hand, so an unusable value is not an error: the
    default takes its place.

    Parameters
    ----------
    model : str
        Name of the model in the library; the first one when empty.
    device : str
        "auto" or a device of `available_devices`.
    tile_size : int
        Side of a tile in pixels at the model's resolution.
    batch_size : int
        Tiles per batch; 0 chooses by device.
    precision : str
        Of the numbers inside the model: "auto", "float32" or "bfloat16".
    tissue_only : bool
        Whether glass is skipped.
    tissue_threshold : float
        Optical density from which a pixel counts as tissue; smaller finds paler tissue.
    remove_pen : bool
        Whether pen marks are left out of the tissue.
    keep_probabilities : bool
        Whether the probability of each class is stored for the overlay.
    load_early : bool
        Whether the model is loaded in the background when a slide opens.
    overview_map : bool
        Whether a map of large slides is shown in the corner of the window.
    results_folder : str
        Where results are saved; the user's data folder when empty.
    export_folder, slide_folder : str
        Folders of the last file dialogs.
    """

    model: str = ""
    device: str = option(
        "auto",
        "Device",
        "The processor that runs the model. Automatic takes the fastest one.",
        choices=(Choice("auto", "Automatic"),),
        more_choices=True,
    )
    tile_size: int = option(
        512,
        "Tile size",
        "Side of the image tiles that the model sees, in pixels. Smaller tiles show results sooner "
        "and need less memory. The mask does not depend on it.",
        choices=tuple(Choice(size, f"{size} px") for size in (256, 512, 1024, 2048)),
    )
    batch_size: int = option(
        0,
        "Batch size",
        "Tiles that the model processes together. Automatic fits the device.",
        low=0,
        high=64,
        step=1,
        low_text="automatic",
    )
    precision: str = option(
        "auto",
        "Precision",
        "Of the numbers inside the model on a CPU. Automatic takes the fastest whose mask agrees "
        "with float32 on 99.5 % of the checked tissue.",
        choices=(
            Choice("auto", "Automatic"),
            Choice("float32", "float32", "The numbers that models are trained with."),
            Choice(
                "bfloat16",
                "bfloat16",
                "Half as many bits, and up to twice as fast on CPUs with instructions for it; some "
                "pixels get another class.",
            ),
        ),
    )
    tissue_only: bool = option(
        True, "Tissue only", "Leave out glass: faster, and no class where there is no tissue."
    )
    tissue_threshold: float = option(
        0.055,
        "Tissue threshold",
        "How dark a pixel must be to count as tissue (optical density). Lower it for pale stains.",
        low=0.01,
        high=0.12,
        step=0.005,
        needs="tissue_only",
    )
    remove_pen: bool = option(
        True,
        "Ignore pen marks",
        "Leave out blue, green, black and red felt pen.",
        needs="tissue_only",
    )
    keep_probabilities: bool = option(
        True,
        "Keep class probabilities",
        "Save the probability of each class for the overlay. Needs about one byte per class and "
        "mask pixel on disk.",
    )
    results_folder: str = option(
        "",
        "Save results in",
        "Where masks are saved. An interrupted run continues from there, and a finished one opens "
        "at once.",
        is_folder=True,
        low_text="your user folder",
    )
    load_early: bool = option(
        True,
        "Load the model when a slide opens",
        "Load the model in the background, so that the first run starts sooner.",
    )
    overview_map: bool = option(
        True,
        "Overview map",
        "Show a small map of a large slide, with the part in view, in the corner of the window.",
    )
    export_folder: str = ""
    slide_folder: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def results_path(self) -> Path:
        """Where results are saved."""
        return Path(self.results_folder) if self.results_folder else user_data_dir() / "results"

    def tissue_settings(self) -> TissueMaskSettings:
        """Return how tissue is found."""
        from napari_plimseg.slides import TissueMaskSettings

        weak = self.tissue_threshold
        strong = max(TissueMaskSettings.strong, weak)
        return TissueMaskSettings(weak=weak, strong=strong, remove_pen=self.remove_pen)

    def run_settings(self) -> RunSettings:
        """Return the engine's settings."""
        from napari_plimseg.inference import RunSettings

        return RunSettings(
            tile_size=self.tile_size,
            batch_size=self.batch_size,
            device=self.device,
            threads=max(1, (os.cpu_count() or 2) - 1),  # one core for the window
            precision=self.precision,
            probabilities=self.keep_probabilities,
            tissue=self.tissue_settings() if self.tissue_only else None,
        )


@dataclass(frozen=True)
class TrainSettings:
    """What a user chose last in the dock *PLIMSeg Train*; unusable values become the defaults.

    Parameters
    ----------
    folder : str
        The last folder of images.
    effort : str
        One of `training_runs.process.EFFORTS`.
    mpp : str
        Pixel size as it was typed last.
    keep_on : bool
        Whether a training continues after napari is closed.
    source : str
        What labels the pixels: one of `training_runs.process.LABEL_SOURCES`.
    """

    folder: str = ""
    effort: str = option(
        "balanced",
        "Effort",
        "How long to train.",
        choices=tuple(
            Choice(effort, effort, tooltip)
            for effort, tooltip in zip(
                EFFORTS,
                (
                    "A third of the usual number of epochs: a first test.",
                    "The usual number of epochs.",
                    "Two and a half times the usual number of epochs.",
                ),
                strict=True,
            )
        ),
        radio=True,
    )
    mpp: str = ""
    keep_on: bool = option(
        False,
        "Keep training after napari is closed",
        "The training continues in the background. This dock shows it again when you return.",
    )
    source: str = option(
        "auto",
        "Labels from",
        "How tags become labels of pixels.",
        choices=tuple(
            Choice(source, title, tooltip)
            for source, title, tooltip in zip(
                LABEL_SOURCES,
                ("automatic", "tags", "words", "both"),
                (
                    "The shipped model of colorectal tissue under the tags, if it predicts the "
                    "tags of your images well; else both tags and words.",
                    "A network learns the tags, and shows where in the images it sees them.",
                    "The text model finds the classes by their words; tags exclude the others. "
                    "For few images, or if nearly all have the same tags.",
                    "The mean of both; the one that predicts the tags better counts more.",
                ),
                strict=True,
            )
        ),
        radio=True,
    )

    def __post_init__(self) -> None:
        _check(self)


_Settings = TypeVar("_Settings", DockSettings, TrainSettings)


def settings_path() -> Path:
    """Return the file that holds the settings of the main dock; it may not exist yet."""
    return user_data_dir() / "dock_settings.json"


def _train_settings_path() -> Path:
    return user_data_dir() / "train_settings.json"


def load_settings() -> DockSettings:
    """Return the saved settings, or the defaults when there are none or the file is damaged."""
    return _load(DockSettings, settings_path())


def save_settings(settings: DockSettings) -> None:
    """Save the settings; a disk error is only logged, since nothing else depends on them."""
    _write(settings_path(), dataclasses.asdict(settings))


def load_train_settings() -> TrainSettings:
    """Return the saved settings, or the defaults when there are none or the file is damaged."""
    return _load(TrainSettings, _train_settings_path())


def save_train_settings(settings: TrainSettings) -> None:
    """Save the settings; a disk error is only logged, since nothing else depends on them."""
    _write(_train_settings_path(), dataclasses.asdict(settings))


def choices_path() -> Path:
    """Return the file that holds what the other docks remember; it may not exist yet."""
    return user_data_dir() / "choices.json"


def remembered(name: str, default: Any) -> Any:
    """Return what was saved under a name, `default` when it is missing or of another type."""
    value = _read(choices_path()).get(name, default)
    return value if type(value) is type(default) else default


def remember(name: str, value: Any) -> None:
    """Save plain data under a name; a disk error is only logged."""
    _write(choices_path(), {**_read(choices_path()), name: value})


def _load(kind: Callable[..., _Settings], path: Path) -> _Settings:
    content, fields = _read(path), {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    # a newer version may have saved settings that this one does not know
    return kind(**{key: value for key, value in content.items() if key in fields})


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path, UnreadableError))
    except UnreadableError:
        return {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_json(path, dict(content))
    except OSError as error:
        _logger.warning("%s can't be saved: %s", path.name, error)
