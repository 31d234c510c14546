"""The fold *Class activation map*: what it offers, why not, and its layer over slide and mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_plimseg._widgets.generate import cam_jobs, cams
from napari_plimseg._widgets.generate.cam_jobs import CamModel, CamOffer, CamState
from napari_plimseg.inference import ENGINE
from napari_plimseg.models.library import EntryState, Kind, ModelEntry
from napari_plimseg.settings import remembered
from napari_plimseg.tissue import TissueClass
from napari_plimseg.training_runs.run_folder import runs_folder
from tests.support import widgets as fakes
from tests.support.cams import WORDS, Colors, saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.generate.dock import PlimsegDock

pytestmark = pytest.mark.gui
WAIT = 30_000
STAGE_1 = CamModel("training:mine", "Stage 1 of mine", "mine", classes=fakes.CLASSES)
NO_CAMS = CamModel("training:old", "Stage 1 of old", "old", problem="It has no CAMs.")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Colors:
    source = Colors()
    monkeypatch.setattr(cams, "find_cam_models", lambda: [WORDS, STAGE_1, NO_CAMS])
    monkeypatch.setattr(cam_jobs.CamSources, "of", lambda self, model: source)
    return source


@pytest.fixture
def fold(dock: PlimsegDock, add_slide: Callable, source: Colors, qtbot: Any) -> cams.CamFold:
    """The open fold, with a slide and its mask."""
    add_slide(height=600, width=800)
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()
    dock.cams.expand(animate=False)
    qtbot.waitUntil(lambda: dock.cams.panel.model.count() == 3, timeout=WAIT)
    return dock.cams


def type_word(fold: cams.CamFold, word: str) -> None:
    field = fold.panel.what.lineEdit()
    field.selectAll()
    QTest.keyClicks(field, word)


def begin(fold: cams.CamFold, source: Colors, qtbot: Any) -> None:
    """Start a CAM of a source that waits for its gate."""
    source.gate.clear()
    type_word(fold, "gland")
    fold.panel.button.click()
    qtbot.waitUntil(lambda: fold.cam.layer is not None, timeout=WAIT)


def show(fold: cams.CamFold, what: str, qtbot: Any) -> None:
    type_word(fold, what)
    QTest.keyClick(fold.panel.what.lineEdit(), Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not fold.cam.is_running, timeout=WAIT)


def test_a_class_is_shown_over_slide_and_mask(
    fold: cams.CamFold, dock: PlimsegDock, source: Colors, qtbot: Any
) -> None:
    mask = dock.view.layer
    fold.panel.model.setCurrentIndex(1)
    show(fold, "Purple", qtbot)
    assert source.asked == ["class purple"]
    layer = fold.cam.layer
    assert layer.name == "Purple · CAM"
    layers = dock._viewer.layers
    assert layers.index(layer.name) == layers.index(mask.name) - 1
    assert layer.colorbar.visible
    assert mask.opacity < 0.2
    assert tuple(layer.contrast_limits) == (0, 1)
    # 600 x 800 pixels of 0.5 um: purple is left of 200 um, glass below 225 um
    value = layer.get_value((100.0, 50.0), world=True)
    assert value > 0.9
    assert layer.get_value((100.0, 350.0), world=True) < 0.1
    assert layer.get_value((280.0, 50.0), world=True) == 0
    assert "Purple: probability 0.00 to 1.00." in fold.panel.line.text()
    fold.panel.hide_button.click()
    assert fold.cam.layer is None
    assert mask.opacity == pytest.approx(0.5)
    assert not fold.panel.hide_button.isEnabled()


def test_a_typed_word_is_shown_and_remembered(
    fold: cams.CamFold, source: Colors, qtbot: Any
) -> None:
    show(fold, "  signet   ring cell ", qtbot)
    assert source.asked == ["word signet ring cell"]
    assert remembered("cam_word", "") == "signet ring cell"
    assert fold.panel.what.findText("signet ring cell") >= 0
    low, high = fold.cam.layer.contrast_limits
    assert (low, high) == (pytest.approx(0.6, abs=0.01), pytest.approx(0.8, abs=0.01))
    assert "signet ring cell: cosine 0.60 to 0.80." in fold.panel.line.text()
    assert cams.CamPanel().what.currentText() == "signet ring cell"  # of the next session


def test_one_map_at_a_time_beside_the_probabilities(
    fold: cams.CamFold, dock: PlimsegDock, qtbot: Any
) -> None:
    combo = dock.results.overlay
    combo.setCurrentIndex(combo.findData("pink"))
    combo.activated.emit(combo.currentIndex())
    probability = dock.controller.overlay.layer
    show(fold, "gland", qtbot)
    assert not probability.visible
    assert fold.cam.layer.visible
    dock.results.opacity.setValue(35)
    assert fold.cam.layer.opacity == pytest.approx(0.35)
    combo.activated.emit(combo.currentIndex())
    assert dock.controller.overlay.layer.visible
    assert not fold.cam.layer.visible
    assert dock.view.layer.opacity < 0.2


def test_it_can_be_cancelled_and_the_window_never_waits(
    fold: cams.CamFold, dock: PlimsegDock, source: Colors, qtbot: Any
) -> None:
    begin(fold, source, qtbot)
    assert fold.panel.cancel_button.isVisibleTo(fold.panel)
    assert fold.panel.bar.isVisibleTo(fold.panel)
    qtbot.waitUntil(lambda: bool(ENGINE.owner), timeout=WAIT)
    dock.engine.look()
    assert "wait for the CAM" in dock.run_panel.button.toolTip()
    fold.panel.cancel_button.click()
    source.gate.set()
    qtbot.waitUntil(lambda: not fold.cam.is_running, timeout=WAIT)
    assert not fold.panel.cancel_button.isVisibleTo(fold.panel)
    assert not ENGINE.owner
    assert dock.run_panel.button.isEnabled()


def test_deleting_its_layer_stops_it(
    fold: cams.CamFold, dock: PlimsegDock, source: Colors, qtbot: Any
) -> None:
    begin(fold, source, qtbot)
    dock._viewer.layers.remove(fold.cam.layer.name)
    source.gate.set()
    qtbot.waitUntil(lambda: not fold.cam.is_running, timeout=WAIT)
    assert fold.cam.layer is None
    assert dock.view.layer.opacity == pytest.approx(0.5)


def test_what_has_no_cam_says_why(fold: cams.CamFold, qtbot: Any) -> None:
    panel = fold.panel
    assert not panel.model.model().item(2).isEnabled()
    panel.model.setCurrentIndex(1)
    type_word(fold, "background")
    assert not panel.button.isEnabled()
    assert "finds no tissue class, so it has no CAM" in panel.line.text()
    assert panel.line.text() in panel.button.toolTip()
    type_word(fold, "unreadable")
    assert panel.button.isEnabled()
    show(fold, "unreadable", qtbot)
    assert "the text model is missing" in panel.line.text().lower()
    type_word(fold, "gland")
    assert not panel.line.text()


def test_the_color_of_a_class_is_not_shown_beside_a_word(fold: cams.CamFold) -> None:
    type_word(fold, "pink")
    assert fold.panel.what.currentIndex() == fold.panel.what.findText("pink")
    type_word(fold, "pinkish")
    assert fold.panel.what.currentIndex() == -1
    assert fold.panel.what.currentText() == "pinkish"


READY = CamState(True, True, "gland", None, WORDS)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (replace(READY, has_slide=False), "Open a slide"),
        (replace(READY, mpp_known=False), "Pixel size unknown"),
        (replace(READY, model=None), "No image-text model"),
        (replace(READY, model=NO_CAMS), "It has no CAMs."),
        (replace(READY, what=""), "type a word"),
        (replace(READY, engine_owner="the batch"), "wait for the batch"),
        (replace(READY, model=STAGE_1), ""),
        (replace(READY, model=STAGE_1, tissue_class=fakes.CLASSES[0]), ""),
        (
            replace(READY, model=STAGE_1, tissue_class=TissueClass("fat", (1, 1, 1))),
            "Stage 1 was not trained for 'fat'. It knows purple, pink.",
        ),
        (replace(READY, tissue_class=fakes.CLASSES[2]), ""),
        (READY, ""),
    ],
)
def test_the_state_says_why_not(state: CamState, reason: str) -> None:
    assert reason in state.why_not() if reason else not state.why_not()


def test_the_offer_has_the_classes_and_the_word_once() -> None:
    offer = CamOffer(fakes.CLASSES, "gland")
    assert [name for name, _ in offer.rows()] == ["purple", "pink", "background", "gland"]
    assert [name for name, _ in CamOffer(fakes.CLASSES, "PINK").rows()][-1] == "background"
    assert offer.class_called("PURPLE") is fakes.CLASSES[0]
    assert offer.class_called("gland") is None


def test_text_models_and_trainings_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(name: str, kind: Kind, state: EntryState = EntryState.READY) -> ModelEntry:
        reason = "" if state is EntryState.READY else "missing"
        return ModelEntry(name, name, name.title(), "", kind, state, reason)

    monkeypatch.setattr(
        "napari_plimseg.models.list_models",
        lambda: [
            entry("bundled", Kind.BUNDLED),
            entry("bundled-tissue", Kind.BUNDLED),
            entry("quilt", Kind.ENCODER),
            entry("plip", Kind.ENCODER, EntryState.NOT_HERE),
            entry("own", Kind.OWN),
        ],
    )
    for name in ("with", "without"):
        folder = runs_folder() / name
        folder.mkdir(parents=True)
        (folder / "progress.jsonl").write_text("")
        (folder / "recipe.yaml").write_text("")
    saved(runs_folder() / "with" / "cams.safetensors")
    found = {model.key: model for model in cam_jobs.find_cam_models()}
    assert list(found)[:2] == ["text:bundled", "text:quilt"]
    assert found["training:with"].classes.names[:2] == ("gland", "stroma")
    assert not found["training:with"].problem
    assert "without stage 1" in found["training:without"].problem
    assert len(found) == 4
    (runs_folder() / "with" / "cams.safetensors").write_bytes(b"no model")
    assert {m.key: m for m in cam_jobs.find_cam_models()}["training:with"].problem
