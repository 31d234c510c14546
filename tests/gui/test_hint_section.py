"""Points and boxes on the slide become objects of the mask, undoably and within its limits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import fakes
import numpy as np
import pytest
from tests.gui.test_correct_section import WAIT, Review
from tests.inference.hint_cases import DarkModel

from napari_plimseg._widgets.hint_layers import BOXES, POINTS, PREVIEW
from napari_plimseg._widgets.hint_tools import Draft, edit_of, level_0_of, pixel_of
from napari_plimseg.files import fingerprint
from napari_plimseg.inference.hint_geometry import HintMask
from napari_plimseg.models import hint_catalogue
from napari_plimseg.models.bundled_files import bundled_folder
from napari_plimseg.models.catalogue import ModelInfo
from napari_plimseg.slides.slide import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.gui
OBJECT = Region(400.0, 480.0, 200.0, 160.0)  # level-0 pixels; 8 to a pixel of the mask
INSIDE = (slice(50, 75), slice(60, 80))  # in the mask
"""Of class 1, so the hints are put into class 2."""


class Gate(DarkModel):
    """A model whose encoder waits until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, images: Any) -> Any:
        assert self.gate.wait(WAIT / 1000)
        return super().encode(images)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    model = Gate()
    info = ModelInfo(
        "bundled", "Finds what is dark", "", fakes.CLASSES, 1.0, "none", "tests", 0, True
    )
    monkeypatch.setattr(hint_catalogue, "list_hint_models", lambda: [info])
    monkeypatch.setattr(hint_catalogue, "load_hints", lambda name: model)
    yield model
    model.gate.set()


def paint_object(review: Review) -> None:
    """Make one dark object on a slide that is bright elsewhere."""
    pixels = review.slide.pixels
    pixels[:] = 230
    y, x, h, w = (int(v) for v in (OBJECT.y, OBJECT.x, OBJECT.height, OBJECT.width))
    pixels[y : y + h, x : x + w] = 40


@pytest.fixture
def review(
    model: Gate,
    make_napari_viewer_proxy: Callable,
    tmp_path: Path,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Review]:
    monkeypatch.setenv("PLIMSEG_CACHE_DIR", str(tmp_path / "cache"))
    made = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    paint_object(made)
    made.dock.show()
    made.correct.choose_class(2)
    yield made
    model.gate.set()
    settle(made)


def settle(review: Review) -> None:
    hints = review.dock.hints
    review.qtbot.waitUntil(lambda: not hints.is_working, timeout=WAIT)


def press(review: Review, key: str) -> None:
    """Do what a key does on the selected layer."""
    keymap = {str(bound): act for bound, act in review.layer.keymap.items()}
    keymap[key](review.layer)


def ours(review: Review) -> set[str]:
    names = {layer.name for layer in review.viewer.layers}
    return names & {PREVIEW, POINTS, BOXES}


def overlap(found: np.ndarray) -> float:
    truth = np.zeros(found.shape, bool)
    truth[INSIDE] = True
    return float((truth & found).sum() / (truth | found).sum())


def draw_box(review: Review) -> None:
    review.dock.hints.choose_tool("box")
    review.drag([(47, 57), (60, 70), (78, 83)])
    settle(review)


def click_inside(review: Review) -> None:
    review.dock.hints.choose_tool("point_in")
    review.click(62, 70)
    settle(review)


@pytest.mark.parametrize("point_at", [draw_box, click_inside])
def test_a_hint_is_previewed_accepted_and_undone(review: Review, point_at: Callable) -> None:
    hints = review.dock.hints
    point_at(review)
    assert PREVIEW in ours(review), hints.state.text()
    assert hints.state.text().endswith("Enter accepts.")
    np.testing.assert_array_equal(review.layer.data, review.model)
    assert review.viewer.layers.selection.active is review.layer
    press(review, "Enter")
    changed = review.layer.data != review.model
    assert overlap(changed) > 0.8
    assert (review.layer.data[changed] == 2).all()
    assert not ours(review)
    assert "pixels are now" in review.dock.banner.text
    review.correct.undo_button.click()
    np.testing.assert_array_equal(review.layer.data, review.model)


def test_corrections_are_recorded(review: Review) -> None:
    draw_box(review)
    review.dock.hints.accept_button.click()
    review.view.recorder.settle_all()
    rows, columns = INSIDE
    assert (review.view.corrections.read(rows, columns) == 2).mean() > 0.8


def test_escape_leaves_nothing_and_then_puts_the_tool_down(review: Review) -> None:
    hints = review.dock.hints
    before = {str(key) for key in review.layer.keymap}
    draw_box(review)
    hints.add_point(700, 500, positive=False)
    settle(review)
    assert ours(review) == {PREVIEW, POINTS, BOXES}
    press(review, "Escape")
    assert not ours(review)
    assert hints.tool == "box"
    press(review, "Escape")
    assert hints.tool == ""
    assert {str(key) for key in review.layer.keymap} == before
    assert review.layer.mouse_pan
    np.testing.assert_array_equal(review.layer.data, review.model)


def test_a_point_outside_takes_away_and_backspace_brings_back(review: Review) -> None:
    hints = review.dock.hints
    draw_box(review)
    whole = hints.answers[0].mask.area
    hints.add_point(500, 560, positive=False)
    settle(review)
    assert hints.answers[0].mask.area < whole
    press(review, "Backspace")
    settle(review)
    assert hints.answers[0].mask.area == whole


def test_the_second_hint_in_a_place_needs_no_encoder(review: Review, model: Gate) -> None:
    draw_box(review)
    encoded = model.encoded
    review.dock.hints.discard()
    draw_box(review)
    assert encoded == 2  # both resolutions
    assert model.encoded == encoded


def test_a_protected_class_stays(review: Review) -> None:
    review.layer.data[55:60, 60:80] = 3
    before = review.layer.data.copy()
    review.correct.chips.chips[2].lock.click()
    draw_box(review)
    review.dock.hints.accept()
    after = review.layer.data
    assert (after != before).any()
    np.testing.assert_array_equal(after == 3, before == 3)


def test_everything_of_the_class_in_view(review: Review, model: Gate) -> None:
    hints = review.dock.hints
    review.layer.data[:] = 1
    review.layer.data[45:80, 55:85] = 2  # roughly where it is
    hints.find_button.click()
    settle(review)
    assert len(hints.answers) == 1, hints.state.text()
    assert hints.answers[0].mask.area == pytest.approx(OBJECT.height * OBJECT.width, rel=0.2)


def test_while_it_looks_the_window_goes_on_and_a_later_hint_wins(
    review: Review, model: Gate
) -> None:
    hints = review.dock.hints
    model.gate.clear()
    hints.choose_tool("box")
    hints.add_box(OBJECT)
    review.qtbot.waitUntil(lambda: "Looking around" in hints.state.text(), timeout=WAIT)
    hints.add_point(500, 560, positive=False)
    model.gate.set()
    review.qtbot.waitUntil(lambda: bool(hints.answers), timeout=WAIT)
    assert hints.answers[0].draft.points == ((500, 560, False),)


def test_discarded_while_it_looks_nothing_appears(review: Review, model: Gate) -> None:
    hints = review.dock.hints
    model.gate.clear()
    hints.choose_tool("box")
    hints.add_box(OBJECT)
    press(review, "Escape")
    model.gate.set()
    settle(review)
    assert not ours(review)
    assert not hints.answers


def test_closing_in_mid_encoding(review: Review, model: Gate) -> None:
    model.gate.clear()
    hints = review.dock.hints
    hints.choose_tool("box")
    hints.add_box(OBJECT)
    layer = review.layer
    keys = {str(key) for key in layer.keymap}
    assert "Enter" in keys
    review.viewer.layers.remove(layer)
    review.qtbot.waitUntil(lambda: hints.tool == "", timeout=WAIT)
    model.gate.set()
    settle(review)
    assert not ours(review)
    assert "Enter" not in {str(key) for key in layer.keymap}


def test_without_a_model_it_says_which_file_is_missing(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = ModelInfo(
        "bundled", "", "", fakes.CLASSES, 1.0, "", "", 0, False, "Install napari-plimseg again."
    )
    monkeypatch.setattr(hint_catalogue, "list_hint_models", lambda: [info])
    hints = review.dock.hints
    hints.list_models()
    assert "hints.safetensors" in hints.state.text()
    for control in (*hints.tools.values(), hints.find_button, hints.accept_button):
        assert not control.isEnabled()
        assert "hints.safetensors" in control.toolTip()
    hints.choose_tool("box")
    assert hints.tool == ""


def test_beside_the_slide_it_says_so(review: Review) -> None:
    hints = review.dock.hints
    hints.choose_tool("point_in")
    hints.add_point(-50, -50, positive=True)
    settle(review)
    assert "beside the slide" in hints.state.text()
    assert "Place it on the tissue" in review.dock.banner.text


@pytest.mark.parametrize("origin", [(0, 0), (30, 40)])
def test_places_and_edits_of_a_window_of_a_mask(review: Review, origin: tuple[int, int]) -> None:
    from dataclasses import replace

    target = replace(review.correct.target, origin=origin)
    assert pixel_of(target, *level_0_of(target, 3.0, 4.0)) == (3.0, 4.0)
    mask = HintMask(50, 60, 8.0, np.ones((25, 20), np.bool_), 1.0)
    edit = edit_of(target, [mask], 2)
    assert edit.window == (
        slice(50 - origin[0], 75 - origin[0]), slice(60 - origin[1], 80 - origin[1])
    )  # fmt: skip
    assert edit.size == 500
    assert edit_of(target, [HintMask(900, 900, 8.0, mask.mask, 1.0)], 2).size == 0


def test_a_draft_needs_a_place() -> None:
    draft = Draft().with_point(5, 5, positive=False)
    assert not draft.is_ready
    assert draft.with_point(6, 6, positive=True).is_ready
    assert draft.without_last().is_empty


@pytest.mark.skipif(
    not (bundled_folder() / hint_catalogue.FILE).is_file(), reason="the model is not there"
)
def test_the_shipped_model(
    make_napari_viewer_proxy: Callable,
    tmp_path: Path,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLIMSEG_CACHE_DIR", str(tmp_path / "cache"))
    made = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    assert made.view.info.slide_fingerprint == fingerprint(made.slide.path)
    made.dock.show()
    made.correct.choose_class(2)
    draw_box(made)
    assert made.dock.hints.answers, made.dock.hints.state.text()
    made.dock.hints.accept()
    changed = made.layer.data != made.model
    assert changed.any()
    made.correct.undo()
    np.testing.assert_array_equal(made.layer.data, made.model)
