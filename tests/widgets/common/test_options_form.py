"""A form made from a frozen dataclass of settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_plimseg._widgets.common.options_form import OptionsForm
from napari_plimseg.settings import DockSettings, TrainSettings, option, options_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gui


@dataclass(frozen=True)
class OneMore(DockSettings):
    """A setting more than the dock has."""

    overlap: int = option(16, "Overlap", "Pixels.", low=0, high=32, step=2, low_text="none")


@pytest.fixture
def form(qtbot: Any) -> OptionsForm[OneMore]:
    form = OptionsForm(OneMore(model="m"), apart=("device",))
    qtbot.addWidget(form)
    return form


def test_a_new_setting_is_one_field(form: OptionsForm[OneMore]) -> None:
    box = form.controls["overlap"]
    assert "Overlap" in [label.text() for label in form.findChildren(QLabel)]
    assert box.toolTip() == "Pixels."
    box.setValue(30)
    assert form.settings == OneMore(model="m", overlap=30)
    box.setValue(99)
    assert form.settings.overlap == 32
    box.setValue(0)
    assert box.text() == "none"


def test_every_option_has_a_control_that_changes_it(form: OptionsForm[OneMore], qtbot: Any) -> None:
    changes = {
        "tile_size": 1024, "batch_size": 7, "tissue_only": False, "tissue_threshold": 0.1,
        "remove_pen": False, "keep_probabilities": False, "load_early": False,
        "overview_map": False, "results_folder": "/somewhere", "overlap": 2,
        "precision": "float32",
    }  # fmt: skip
    assert {*changes, "device"} == set(form.controls) == set(options_of(OneMore))
    for name, value in changes.items():
        with qtbot.waitSignal(form.changed):
            form.choose(name, value)
    assert form.settings == OneMore(model="m", **changes)
    kinds = {f.name: type(f.default) for f in dataclasses.fields(OneMore)}
    assert all(type(getattr(form.settings, name)) is kind for name, kind in kinds.items())


def test_it_says_why_not(form: OptionsForm[OneMore]) -> None:
    form.set_enabled("A run is in progress.")
    assert not any(control.isEnabled() for control in form.controls.values())
    assert form.controls["batch_size"].toolTip() == "A run is in progress."
    assert form.folder("results_folder").choose_button.tooltip == "A run is in progress."
    form.choose("tissue_only", False)  # from code, while nothing can be changed by hand
    assert not form.controls["tile_size"].isEnabled()
    form.set_enabled("")
    assert form.controls["tile_size"].isEnabled()
    assert form.controls["tissue_threshold"].toolTip() == "Needs 'Tissue only', which is off."
    form.choose("tissue_only", True)
    assert form.controls["tissue_threshold"].isEnabled()


def test_some_settings_can_always_be_changed(qtbot: Any) -> None:
    form = OptionsForm(TrainSettings())
    qtbot.addWidget(form)
    form.set_enabled("A training is running.", always=("keep_on",))
    assert form.controls["keep_on"].isEnabled()
    form.controls["keep_on"].setChecked(True)
    assert form.controls["keep_on"].isEnabled()
    assert not form.controls["effort"].isEnabled()
    assert form.buttons("effort")["best"].toolTip() == "A training is running."


def test_choices_of_the_computer_keep_what_was_chosen(qtbot: Any) -> None:
    form = OptionsForm(DockSettings(device="cuda:1"))
    qtbot.addWidget(form)
    assert form.settings.device == "cuda:1"  # before the devices are known
    form.show_choices("device", [("Automatic (CPU)", "auto"), ("NVIDIA GPU 1", "cuda:1")])
    assert form.controls["device"].currentText() == "NVIDIA GPU 1"
    form.show_choices("device", [("Automatic (CPU)", "auto"), ("CPU", "cpu")])
    assert form.settings.device == "auto"  # that one is not in this computer any more


def test_a_folder_is_chosen_and_given_back(
    form: OptionsForm[OneMore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = form.folder("results_folder")
    folder.default = "/usual"
    started: list[str] = []

    def choose(_: object, __: str, start: str) -> str:
        started.append(start)
        return str(tmp_path)

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", choose)
    folder.choose_button.native.click()
    assert form.settings.results_folder == str(tmp_path)
    assert str(tmp_path) in folder.line.native.toolTip()
    folder.choose_button.native.click()
    assert started == ["/usual", str(tmp_path)]
    folder.default_button.native.click()
    assert form.settings.results_folder == ""
    assert folder.line.native.isReadOnly()


def test_radio_buttons_have_their_own_tooltips(qtbot: Any) -> None:
    form = OptionsForm(TrainSettings())
    qtbot.addWidget(form)
    buttons = form.buttons("effort")
    assert list(buttons) == ["quick", "balanced", "best"]
    assert buttons["balanced"].isChecked()
    assert len({button.toolTip() for button in buttons.values()}) == 3
    buttons["best"].setChecked(True)
    assert form.settings.effort == "best"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [("tile_size", 300, False), ("batch_size", 65, False), ("batch_size", True, False),
     ("device", "cuda:7", True), ("tissue_threshold", 0.12, True)],
)  # fmt: skip
def test_settings_check_themselves_against_their_options(
    name: str, value: object, kept: bool
) -> None:
    made = DockSettings(**{name: value})
    assert (getattr(made, name) == value and made != DockSettings()) == kept
