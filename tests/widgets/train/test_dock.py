"""The training dock, with a program that stands for the training package."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt

from napari_plimseg._widgets.train import jobs, result_section
from napari_plimseg._widgets.train.dock import brief
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.results.analysis.comparison import DISAGREE
from napari_plimseg.tissue import GLAS, TissueClass
from napari_plimseg.training_runs.process import LABEL_SOURCES, TrainingProcess, TrainingState
from napari_plimseg.training_runs.run_folder import RunFolder, runs_folder
from plimseg_training.config.shipped import chosen_recipe
from tests.support import widgets as fakes
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg._widgets.train.dock import TrainDock

pytestmark = pytest.mark.gui
WAIT = 60_000
PROGRAM = (sys.executable, str(ROOT / "tests" / "support" / "fake_training.py"))


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    folder = tmp_path / "my patches"
    folder.mkdir()
    for number in range(4):
        pixels = np.full((40, 40, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def make_dock(
    make_napari_viewer_proxy: Callable, model: fakes.ColorModel, qtbot: object
) -> Iterator[Callable[[], TrainDock]]:
    from napari_plimseg._widgets.train.dock import TrainDock

    docks: list[TrainDock] = []

    def make() -> TrainDock:
        viewer = make_napari_viewer_proxy()
        dock = TrainDock(viewer)
        dock._program = PROGRAM
        viewer.window.add_dock_widget(dock, name="PLIMSeg Train", area="right")
        docks.append(dock)
        return dock

    yield make
    for dock in docks:
        if dock.process is not None:
            dock.process.kill()


@pytest.fixture
def dock(make_dock: Callable[[], TrainDock], monkeypatch: pytest.MonkeyPatch) -> TrainDock:
    monkeypatch.setenv("FAKE_TRAINING", "good")
    return make_dock()


def chosen(dock: TrainDock, folder: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock.choose_folder(folder)
    assert "being checked" in dock.panel.start_button.toolTip()
    qtbot.waitUntil(lambda: not dock.state.checking, timeout=WAIT)


def ready(dock: TrainDock, folder: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    chosen(dock, folder, qtbot)
    dock.folder_section.mpp_edit.setText("0,5")
    dock.folder_section.mpp_edit.editingFinished.emit()
    assert dock.panel.start_button.isEnabled(), dock.panel.start_button.toolTip()


def ended(dock: TrainDock, qtbot) -> TrainingState:  # type: ignore[no-untyped-def]
    qtbot.waitUntil(lambda: not dock.process.state.is_alive, timeout=WAIT)
    qtbot.waitUntil(lambda: not dock.keeper._timer.isActive(), timeout=WAIT)
    return dock.process.state


def test_an_empty_dock_says_what_to_do(dock: TrainDock) -> None:
    assert "Choose a folder" in dock.panel.line.text()
    assert not dock.panel.start_button.isEnabled()
    assert not dock.panel.stop_button.isVisibleTo(dock)
    assert not dock.result.isVisibleTo(dock)
    assert "No slide with a mask" in dock.folder_section.slides_button.toolTip()


def test_what_values_of_masks_mean_is_typed(
    dock: TrainDock,
    patches: Path,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_TRAINING", "odd masks")
    section = dock.folder_section
    chosen(dock, patches, qtbot)
    assert not dock.facts.usable
    assert section.masks_row.isVisibleTo(dock)
    qtbot.keyClicks(section.masks_edit, "3=stroma")
    qtbot.keyClick(section.masks_edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: dock.facts is not None and dock.facts.usable, timeout=WAIT)
    assert section.masks_row.isVisibleTo(dock)  # it can be changed
    arguments = dock.request().arguments(patches / "run")
    assert arguments[-2:] == ["--map", "3=stroma"]
    other = patches.with_name("other")
    patches.rename(other)
    chosen(dock, other, qtbot)
    assert section.mask_values == ""


def test_what_cutting_left_out_is_shown(
    dock: TrainDock,
    patches: Path,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = [
        {"kind": "cut", "patches": 4, "notes": ["outlines that have no area: 2, left out"]},
        {"kind": "cut", "patches": 4, "notes": []},
    ]
    monkeypatch.setattr(jobs, "cut_slides", lambda *_: iter(printed))
    view = mock.Mock(full_mask=lambda pixels: pixels)
    view.slide.path = patches / "a.svs"
    view.info.classes = GLAS
    pixels = np.zeros((4, 4), np.uint8)
    dock._begin_check(
        lambda: jobs.cut_open_slides([(view, pixels), (view, pixels)], patches, PROGRAM)
    )
    qtbot.waitUntil(lambda: not dock.state.checking, timeout=WAIT)
    notes = dock.folder_section.notes
    assert notes.isVisibleTo(dock)
    assert notes.text() == "Note: a.svs: outlines that have no area: 2, left out"
    chosen(dock, patches, qtbot)
    assert not notes.isVisibleTo(dock)


def test_a_folder_is_shown(dock: TrainDock, patches: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    chosen(dock, patches, qtbot)
    assert dock.folder_section.summary.text() == (
        "4 images · 2 slides or patients · a table of tags"
    )
    assert dock.folder_section.mpp_row.isVisibleTo(dock)
    assert "Pixel size unknown" in dock.panel.line.text()
    assert dock.setup.name_edit.text() == "my patches"
    assert dock.class_list.classes.names == ("tumour", "stroma", "background")
    ready(dock, patches, qtbot)
    qtbot.waitUntil(lambda: "Roughly" in dock.setup.cost.text(), timeout=WAIT)
    assert dock.setup.cost.text().startswith("Roughly 2 min · 0.9 GB of memory · CPU, 2 cores")
    dock.setup.efforts["quick"].setChecked(True)
    assert dock.setup.cost.text().startswith("Roughly 30 s")


def test_what_labels_the_pixels_is_as_in_the_recipe_until_chosen(
    dock: TrainDock, patches: Path, qtbot
) -> None:  # type: ignore[no-untyped-def]
    ready(dock, patches, qtbot)
    assert dock.request().label_source == chosen_recipe(patches).pseudo_masks.source
    sources = dock.setup.form.buttons("source")
    assert list(sources) == list(LABEL_SOURCES)
    sources["words"].setChecked(True)
    assert dock.request().label_source == "words"


def test_a_wrong_folder_says_what_stops(dock: TrainDock, tmp_path: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    chosen(dock, tmp_path / "empty", qtbot)
    assert "1 error must be fixed first" in dock.folder_section.summary.text()
    assert "there are no images. Choose another folder." in dock.folder_section.problems.text()
    assert "has errors" in dock.panel.line.text()


@pytest.mark.parametrize(("typed", "problem"), [("much", "'much' is not a pixel size"), ("", "")])
def test_a_wrong_pixel_size(
    dock: TrainDock, patches: Path, typed: str, problem: str, qtbot
) -> None:  # type: ignore[no-untyped-def]
    chosen(dock, patches, qtbot)
    dock.folder_section.mpp_edit.setText(typed)
    dock.folder_section.mpp_edit.editingFinished.emit()
    assert problem in dock.banner.text
    assert not dock.panel.start_button.isEnabled()


def test_a_training_from_start_to_report(dock: TrainDock, patches: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    ready(dock, patches, qtbot)
    dock.panel.start_button.click()
    assert dock.state.is_training
    assert not dock.folder_section.folder_button.isEnabled()
    assert "stop it first" in dock.folder_section.folder_button.toolTip()
    assert not dock.panel.start_button.isVisibleTo(dock)
    assert ended(dock, qtbot) is TrainingState.FINISHED
    assert "finished" in dock.banner.text
    assert "mIoU (A) 51.5 %" in dock.result.scores.text()
    assert [c.name for c in dock.curves.loss.curves] == ["tags", "masks"]
    assert dock.curves.miou.curves[-1].points[-1] == (5.0, pytest.approx(30.0))
    assert dock.result.report_button.isEnabled()
    qtbot.waitUntil(lambda: dock.earlier.runs.count() == 1, timeout=WAIT)
    assert "finished" in dock.earlier.runs.itemText(0)
    # the model of the stand-in was never copied to the list
    assert "no trained model" in dock.result.use_button.toolTip()


def test_stop_keeps_and_resume_goes_on(
    dock: TrainDock, patches: Path, monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("FAKE_STEP", "0.1")
    ready(dock, patches, qtbot)
    dock.start()
    qtbot.waitUntil(lambda: bool(dock.process.history.losses), timeout=WAIT)
    assert "epoch 1 of 2" in dock.panel.line.text()
    assert not dock.pictures.picture.pixmap().isNull()
    dock.panel.stop_button.click()
    assert dock.panel.stop_button.text() == "Stop now"
    assert ended(dock, qtbot) is TrainingState.STOPPED
    assert dock.banner.kind == "info"
    assert dock.panel.resume_button.isVisibleTo(dock)
    monkeypatch.setenv("FAKE_STEP", "0.01")
    dock.panel.resume_button.click()
    assert dock.state.is_training
    assert ended(dock, qtbot) is TrainingState.FINISHED
    assert dock.pictures.paths


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_killed_training_offers_to_go_on(
    dock: TrainDock, patches: Path, monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("FAKE_STEP", "0.1")
    ready(dock, patches, qtbot)
    dock.start()
    qtbot.waitUntil(lambda: bool(dock.process.history.losses), timeout=WAIT)
    os.kill(int((dock.process.files.root / "pid").read_text()), signal.SIGKILL)
    assert ended(dock, qtbot) is TrainingState.FAILED
    assert "stopped unexpectedly" in dock.banner.text
    assert dock.panel.resume_button.isEnabled()


def test_a_failure_has_its_sentence(
    dock: TrainDock, patches: Path, monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    ready(dock, patches, qtbot)
    monkeypatch.setenv("FAKE_TRAINING", "refuses")
    dock.start()
    assert ended(dock, qtbot) is TrainingState.FAILED
    assert dock.banner.text == "the folder is wrong. Correct it."
    assert not dock.panel.resume_button.isVisibleTo(dock)


def test_another_day_the_unfinished_training_is_offered(
    make_dock: Callable[[], TrainDock], qtbot
) -> None:  # type: ignore[no-untyped-def]
    files = RunFolder(runs_folder() / "glands")
    files.root.mkdir(parents=True)
    files.recipe.write_text("name: glands\n")
    files.progress.write_text(
        '{"kind": "start"}\n{"kind": "step", "stage": "stage1", "epoch": 1, "epochs": 2, '
        '"step": 1, "steps": 2, "losses": {"loss": 1.5}}\n'
    )
    dock = make_dock()
    qtbot.waitUntil(lambda: dock.process is not None, timeout=WAIT)
    assert ended(dock, qtbot) is TrainingState.FAILED
    assert "press Resume" in dock.banner.text
    assert dock.panel.resume_button.isEnabled()
    assert dock.curves.loss.curves


def test_edited_classes_go_into_the_request(dock: TrainDock, patches: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    from napari_plimseg._widgets.common.class_list import NAME

    ready(dock, patches, qtbot)
    assert dock.request().classes is None
    dock.class_list.table.item(0, NAME).setText("carcinoma")
    request = dock.request()
    assert request.mpp == 0.5
    # the files say the old name, so it stays as the last word
    assert request.classes[0].name == "carcinoma"
    assert request.classes[0].prompts == ("carcinoma", "tumour")


def test_classes_of_masks_bring_their_words(dock: TrainDock, patches: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    ready(dock, patches, qtbot)
    words = dock.facts.classes.replaced("tumour", TissueClass("tumour", (1, 2, 3), ("carcinoma",)))
    dock._on_checked(words)
    assert dock.request().classes == words
    dock._on_checked(words.without("stroma"))  # of other classes: left alone
    assert dock.request().classes == words


def test_tagging_ends_in_the_folder_looked_through(dock: TrainDock, patches: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock.tagging.open(patches, ["tumour", "stroma"])
    gallery = dock.tagging.gallery
    gallery.toggle("tumour")
    gallery.close()
    assert dock.tagging.gallery is None
    qtbot.waitUntil(lambda: dock.facts is not None, timeout=WAIT)
    assert dock.folder == patches
    assert (patches / "tags.csv").read_text() == "file,tumour,stroma\n0.png,1,0\n"


def test_a_removed_dock_asks_its_training_to_stop(
    dock: TrainDock, patches: Path, monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("FAKE_STEP", "0.1")
    ready(dock, patches, qtbot)
    dock.start()
    process: TrainingProcess = dock.process
    qtbot.waitUntil(lambda: bool(process.history.losses), timeout=WAIT)
    viewer, gone = dock._viewer, []
    dock.destroyed.connect(lambda *_: gone.append(True))
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.waitUntil(lambda: bool(gone), timeout=WAIT)

    def is_over() -> bool:
        process.poll()
        return not process.state.is_alive

    qtbot.waitUntil(is_over, timeout=WAIT)
    assert process.state is TrainingState.STOPPED
    qtbot.waitUntil(
        lambda: not any(t.name == "plimseg-job" for t in threading.enumerate()), timeout=WAIT
    )
    viewer.theme = "light"


@pytest.fixture
def trained(dock: TrainDock, tmp_path: Path, model: fakes.ColorModel, qtbot) -> TrainDock:  # type: ignore[no-untyped-def]
    """A trained model to compare on an open slide."""
    from tests.support import widgets as fakes

    pixels = fakes.tissue_pixels(600, 800)
    slide = fakes.ArraySlide(tmp_path / "slide.tif", pixels, 0.5)
    dock._viewer.add_image(
        [slide.pixels, slide.pixels[::4, ::4]], rgb=True, multiscale=True, scale=(0.5, 0.5),
        units=("um", "um"), metadata={"plimseg_slide": slide},
    )  # fmt: skip
    process = TrainingProcess(tmp_path / "run")
    process.listed_as = "color"
    process.state = TrainingState.FINISHED
    dock._show_process(process)
    process.state = TrainingState.FINISHED
    qtbot.waitUntil(lambda: dock.outcome.has("color"), timeout=WAIT)
    dock.result.other.addItem("color again", "color")
    dock.refresh_state()
    return dock


def test_a_comparison_is_cancelled(trained: TrainDock, model: fakes.ColorModel, qtbot) -> None:  # type: ignore[no-untyped-def]
    assert not trained.result.cancel_button.isVisibleTo(trained)
    model.gate.clear()
    model.tiles_before_gate = model.seen
    trained.result.compare_button.click()
    qtbot.waitUntil(lambda: model.seen > model.tiles_before_gate, timeout=WAIT)
    assert trained.result.cancel_button.isVisibleTo(trained)
    trained.result.cancel_button.click()
    model.gate.set()
    qtbot.waitUntil(lambda: not trained.outcome.is_comparing, timeout=WAIT)
    assert trained.result.stage.text() == "Comparison cancelled."
    assert not trained.result.cancel_button.isVisibleTo(trained)
    assert trained.outcome.layers.layers == []
    assert ENGINE.owner == ""


def test_a_model_that_is_refused_is_not_said_to_be_used(
    trained: TrainDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def choose_model(self, name: str) -> bool:
            return False

    monkeypatch.setattr(result_section, "open_main_dock", lambda _: Refusing())
    trained.result.use_button.click()
    assert trained.banner.kind == "warning"
    assert "can't be selected now" in trained.banner.text


def test_a_warning_with_a_table_names_its_first_problem() -> None:
    table = "Problems in the folder:\n       file   problem\nnote   a.png  it is gray\nnote   b  x"
    assert brief(table) == "Problems in the folder: a.png it is gray, and 1 more"
    assert brief("The disk is nearly full.") == "The disk is nearly full."


def test_two_models_are_compared_on_the_view(trained: TrainDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock = trained
    with qtbot.waitSignal(dock.outcome.compared, timeout=WAIT) as found:
        dock.result.compare_button.click()
    (result,) = found.args
    assert result.result.agreement.pixel_accuracy == 1.0
    assert not (result.result.map == DISAGREE).any()
    assert not result.left_out
    layers = dock.outcome.layers.layers
    assert [layer.visible for layer in layers] == [True, False, False]
    assert dock.result.table.item(0, 1).text() == "100 %"
    dock.result.shownChosen.emit(2)
    assert [layer.visible for layer in layers] == [False, False, True]
    # they go with their slide
    slides = dock.slides
    path, pixels = slides.slide.path.with_name("other.tif"), np.zeros((64, 64, 3), np.uint8)
    other = fakes.ArraySlide(path, pixels, 0.5)
    dock._viewer.add_image(other.pixels, rgb=True, metadata={"plimseg_slide": other})
    assert not any(layer.visible for layer in layers)
    slides.choose(0)
    assert [layer.visible for layer in layers] == [False, False, True]
