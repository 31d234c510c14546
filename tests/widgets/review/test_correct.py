"""Correcting a mask by mouse and keys, within limits, undoable."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_plimseg._reader import mask_layer
from napari_plimseg._widgets.common import background_job
from napari_plimseg._widgets.review.correct import edit_queue, edit_region, painter, section
from napari_plimseg._widgets.review.correct.cleanup_panel import CleanupOperation
from napari_plimseg._widgets.review.dock import ReviewDock
from napari_plimseg._widgets.viewer import label_history
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg.results.editing.operations import connected_region
from napari_plimseg.results.export.formats import FORMATS
from tests.support.review import SHAPE, WAIT, Review

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.viewer.mask_layer import MaskView
    from napari_plimseg.results.editing.operations import Part

pytestmark = pytest.mark.gui


@pytest.fixture
def review(make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot):  # type: ignore[no-untyped-def]
    viewer = make_napari_viewer_proxy(show=True)
    made = Review(viewer, tmp_path, qtbot)
    yield made
    made.wait_done()


def test_a_button_restores_discarded_corrections(review: Review) -> None:
    row, view = review.correct.controls.discarded, review.view
    assert not row.isVisibleTo(review.dock)
    review.layer.data_setitem((np.array([5, 6]), np.array([5, 6])), np.array([2, 2], np.uint8))
    view.recorder.commit_all()
    painted = review.layer.data.copy()
    view.corrections.discard()
    view.recorder.follow()
    review.correct.refresh_state()
    np.testing.assert_array_equal(review.layer.data, review.model)
    assert row.isVisibleTo(review.dock)
    assert row.button.isEnabled()
    view.show_corrections(False)
    review.correct.refresh_state()
    assert "hidden" in row.button.toolTip()
    assert not row.button.isEnabled()
    view.show_corrections(True)
    review.correct.refresh_state()
    row.button.click()
    np.testing.assert_array_equal(review.layer.data, painted)
    assert "2 pixels" in review.dock.banner.text
    assert not row.isVisibleTo(review.dock)


def brush(review: Review) -> None:
    review.correct.choose_tool("brush")
    review.layer.brush_size = 11
    review.drag([(60, 60), (60, 90), (60, 140), (120, 140)])


def fill(review: Review) -> None:
    review.correct.choose_tool("fill")
    review.click(50, 150)
    review.wait_done()


def polygon(review: Review) -> None:
    review.correct.choose_tool("polygon")
    for y, x in [(40, 60), (40, 140), (130, 140)]:
        review.click(y, x)
    place = review.at(130, 60)
    review.qtbot.mouseMove(review.canvas, place)
    review.qtbot.mouseDClick(review.canvas, Qt.MouseButton.LeftButton, pos=place)


def grow(review: Review) -> None:
    review.correct.controls.cleanup.numbers[CleanupOperation.GROW].setValue(12.0)  # µm: 3 pixels
    review.correct.controls.cleanup.buttons[CleanupOperation.GROW].click()
    review.wait_done()


TOOLS = [brush, fill, polygon, grow]
MODES = ("paint", "erase", "fill", "polygon", "pick", "pan_zoom")


def test_without_a_mask_the_dock_says_what_to_do(make_napari_viewer_proxy: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock = ReviewDock(make_napari_viewer_proxy())
    qtbot.addWidget(dock)
    assert "Generate a mask in the PLIMSeg dock" in dock.no_mask.text()
    assert not any(fold.isVisibleTo(dock) for fold in dock._folds)
    correct = dock.correct
    for control in (
        *correct.controls.tools.values(),
        correct.controls.undo_button,
        correct.controls.brush_size,
    ):
        assert not control.isEnabled()
        assert "Generate a mask" in control.toolTip()
    for name in correct.controls.tools:
        correct.choose_tool(name)  # harmless
    correct.undo()


def test_a_tool_changes_the_mask_in_one_undoable_step(review: Review) -> None:
    review.correct.choose_class(1)
    for tool in TOOLS:
        tool(review)
        changed = review.layer.data != review.model
        assert changed.any(), review.dock.banner.text
        assert (review.layer.data[changed] == 1).all()
        assert review.correct.controls.undo_button.isEnabled()
        assert not review.correct.controls.redo_button.isEnabled()
        painted = review.layer.data.copy()
        review.correct.controls.undo_button.click()
        np.testing.assert_array_equal(review.layer.data, review.model)
        assert not review.correct.controls.undo_button.isEnabled()
        review.correct.controls.redo_button.click()
        np.testing.assert_array_equal(review.layer.data, painted)
        review.layer.undo()  # what napari's own key calls
        np.testing.assert_array_equal(review.layer.data, review.model)


def test_a_protected_class_stays(review: Review) -> None:
    review.layer.data[50:58, 120:130] = 3
    review.layer.data[90:100, 95:105] = 1
    before = review.layer.data.copy()
    review.correct.choose_class(1)
    review.correct.controls.chips.chips[2].lock.click()
    assert review.correct.painter.protected == {3}
    for tool in TOOLS:
        tool(review)
        after = review.layer.data.copy()
        assert (after != before).any()
        np.testing.assert_array_equal(after == 3, before == 3)
        review.correct.undo()
        np.testing.assert_array_equal(review.layer.data, before)
        review.correct.redo()
        np.testing.assert_array_equal(review.layer.data, after)
        review.correct.undo()
    review.correct.controls.chips.chips[2].lock.click()
    assert review.correct.painter.protected == set()


def test_only_within_tissue(review: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    review.correct.choose_class(1)
    review.correct.controls.only_tissue.setChecked(True)
    qtbot.waitUntil(lambda: review.correct.painter.tissue is not None, timeout=WAIT)
    for tool in TOOLS:
        tool(review)
        changed = review.layer.data != review.model
        assert changed.any()
        assert not changed[122:].any()  # glass, but for the margin around tissue
        review.correct.undo()
        np.testing.assert_array_equal(review.layer.data, review.model)


CLEFT = slice(40, 70), slice(20, 60)  # 120 by 160 µm
GAP = slice(90, 94), slice(30, 34)


@pytest.fixture
def cleft(review: Review) -> Review:
    """Glass inside the tissue, and a hole of the mask where there is tissue."""
    (top, bottom), (left, right) = ((s.start * 8, s.stop * 8) for s in CLEFT)
    review.slide.pixels[top:bottom, left:right] = 244
    for hole in (CLEFT, GAP):
        review.layer.data[hole] = review.model[hole] = 3
    review.layer.refresh()
    review.correct.choose_class(1)
    return review


def test_glass_in_a_cleft_is_not_tissue(cleft: Review) -> None:
    cleft.correct.controls.only_tissue.click()
    cleft.qtbot.waitUntil(lambda: cleft.correct.painter.tissue is not None, timeout=WAIT)
    cleft.correct.choose_class(2)
    cleft.correct.choose_tool("brush")
    cleft.layer.brush_size = 30
    cleft.drag([(55, 5), (55, 40), (55, 75)])
    inner = cleft.layer.data[CLEFT][3:-3, 3:-3]
    assert (inner == 3).all()
    assert (cleft.layer.data[50:60, 5:15] == 2).all()


def test_holes_of_glass_are_not_filled(cleft: Review) -> None:
    panel = cleft.correct.controls.cleanup
    panel.numbers[CleanupOperation.HOLES].setValue(1.0)  # mm²
    panel.buttons[CleanupOperation.HOLES].click()
    cleft.wait_done()
    assert (cleft.layer.data[GAP] == 1).all()
    assert (cleft.layer.data[CLEFT] == 3).all()
    assert cleft.dock.banner.text == "Fill holes: 256 µm² changed. Holes of glass stay."
    panel.scope.setCurrentIndex(1)
    panel.buttons[CleanupOperation.HOLES].click()
    cleft.click(20, 195 + 30)  # beside the slide
    assert cleft.dock.banner.text == "That point is outside the slide. Click a region."


def test_until_the_tissue_is_known_nothing_is_painted(review: Review) -> None:
    painter = review.correct.painter
    painter.only_tissue = True
    review.layer.paint((50, 50), 2)
    np.testing.assert_array_equal(review.layer.data, review.model)
    assert "Still looking for tissue" in review.dock.banner.text


def test_erasing_brings_the_model_back(review: Review) -> None:
    review.correct.choose_class(2)
    brush(review)
    assert (review.layer.data != review.model).any()
    review.correct.choose_tool("erase")
    review.layer.brush_size = 60
    review.drag([(60, 50), (60, 100), (60, 150)])
    np.testing.assert_array_equal(review.layer.data[40:80], review.model[40:80])
    assert (review.layer.data > 0).all()


def test_picking_takes_the_class_under_the_cursor(review: Review) -> None:
    review.correct.choose_tool("pick")
    review.click(130, 20)
    assert review.layer.selected_label == 3
    assert [chip.button.isChecked() for chip in review.correct.controls.chips.chips] == [
        False,
        False,
        True,
    ]


def test_a_region_too_large_for_a_click_is_filled_in_a_thread(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painter, "QUICK_SIDE", 16)
    review.correct.choose_class(1)
    review.correct.choose_tool("fill")
    review.click(50, 150)
    assert review.correct.is_working
    review.layer.brush_size = 9
    review.layer.paint((20, 150), 3)  # meanwhile
    review.wait_done()
    assert (review.layer.data[:112, :100] == 1).all()
    assert review.layer.data[20, 150] == 3
    assert review.layer.data[90, 150] == 1
    assert "Fill:" in review.dock.banner.text


def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every edit a large one, of which little is done at a time."""
    monkeypatch.setattr(painter, "QUICK_SIDE", 16)
    monkeypatch.setattr(edit_queue, "PIECE_SIDE", 16)
    monkeypatch.setattr(label_history, "_LARGE_PIXELS", 0)
    monkeypatch.setattr(background_job, "_BUDGET_SECONDS", 0)


def begin_fill(review: Review) -> None:
    review.correct.choose_class(1)
    review.correct.choose_tool("fill")
    review.click(50, 150)


def test_what_is_painted_in_the_middle_of_a_large_edit_comes_after_it(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_pieces(monkeypatch)
    messages: list[str] = []
    review.correct.messageEmitted.connect(lambda _, text: messages.append(text))
    begin_fill(review)
    pieces = review.correct.painter.pieces
    review.qtbot.waitUntil(lambda: pieces.is_running, timeout=WAIT)
    part = np.count_nonzero(review.layer.data != review.model)
    assert 0 < part < 112 * 100
    review.correct.choose_tool("brush")
    review.layer.brush_size = 9
    review.layer.paint((20, 150), 3)
    assert not pieces.is_running
    filled = np.where(review.model == 2, 1, review.model)
    painted = review.layer.data == 3
    assert 50 < painted[:112].sum() < 100
    np.testing.assert_array_equal(np.where(painted, 1, review.layer.data)[:112], filled[:112])
    assert "0.179 mm² changed" in messages[-1]
    assert not review.dock.banner.isVisibleTo(review.dock)  # it is not the last edit any more
    review.correct.undo()
    np.testing.assert_array_equal(review.layer.data, filled)
    review.correct.undo()
    assert pieces.is_running  # it goes back in pieces, too
    review.correct.redo()
    review.wait_done()
    np.testing.assert_array_equal(review.layer.data, filled)
    recorder = review.view.recorder
    review.qtbot.waitUntil(lambda: recorder.is_saved, timeout=WAIT)
    assert review.view.corrections.pixels == 11_200
    review.correct.undo()
    review.wait_done()
    np.testing.assert_array_equal(review.layer.data, review.model)
    review.qtbot.waitUntil(lambda: recorder.is_saved, timeout=WAIT)
    assert review.view.corrections.pixels == 0
    assert not review.correct.controls.undo_button.isEnabled()


def test_a_large_edit_is_completed_when_its_layer_is_released(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_pieces(monkeypatch)
    begin_fill(review)
    painter, layer = review.correct.painter, review.layer
    review.qtbot.waitUntil(lambda: painter.pieces.is_running, timeout=WAIT)
    review.correct.set_target(None)
    assert not painter.pieces.is_running
    assert (layer.data[:112] == 1).all()


def test_undo_cancels_an_edit_that_is_still_computed(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_pieces(monkeypatch)
    look = threading.Event()

    def slow(mask: np.ndarray, y: int, x: int) -> Part:
        assert look.wait(30)
        return connected_region(mask, y, x)

    monkeypatch.setattr(section, "connected_region", slow)
    begin_fill(review)
    assert "Press Undo to cancel" in review.dock.banner.text
    assert review.correct.controls.undo_button.isEnabled()
    review.correct.controls.undo_button.click()
    look.set()
    assert review.dock.banner.text == "Fill: cancelled."
    review.wait_done()
    np.testing.assert_array_equal(review.layer.data, review.model)
    assert not review.correct.controls.undo_button.isEnabled()
    begin_fill(review)
    review.wait_done()
    assert (review.layer.data[:112] == 1).all()


def test_a_label_without_a_class_is_not_painted(review: Review) -> None:
    review.layer.paint((50, 50), 77)
    np.testing.assert_array_equal(review.layer.data, review.model)
    assert "Label 77 is not a class" in review.dock.banner.text


def test_keys_choose_class_and_tool(review: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    review.correct.choose_tool("brush")
    review.canvas.setFocus()
    for key, mask_id in (("1", 1), ("3", 3), ("2", 2)):
        qtbot.keyClick(review.canvas, key)
        assert review.layer.selected_label == mask_id
        assert str(review.layer.mode) == "paint"  # napari's own meaning of the key rests
    for key, mode in zip("befglz", MODES, strict=True):
        review.layer.mode = "transform"
        qtbot.keyClick(review.canvas, key)
        assert str(review.layer.mode) == mode
        assert sum(button.isChecked() for button in review.correct.controls.tools.values()) == 1
        assert not review.layer.preserve_labels


def test_choosing_a_class_leaves_the_eraser(review: Review) -> None:
    review.correct.choose_tool("erase")
    review.correct.controls.chips.chips[1].button.click()
    assert str(review.layer.mode) == "paint"
    assert review.layer.selected_label == 2


def test_cleaning_up_a_class(review: Review) -> None:
    shrunk = _put(_put(review.model.copy(), 0, 99, 112, 2, 1), 111, 0, 1, 3, 99)
    for operation, number, drawn, wanted, may_differ in (
        (CleanupOperation.HOLES, 0.0005, (40, 40, 5, 2), review.model, 0),
        (CleanupOperation.SMALL, 0.0005, (40, 140, 5, 1), review.model, 0),
        (CleanupOperation.SMOOTH, 20.0, (40, 100, 1, 1, 12), review.model, 5),
        (CleanupOperation.SHRINK, 4.0, (0, 0, 1, 1), shrunk, 1),
    ):
        review.layer.data[...] = _put(review.model.copy(), *drawn)
        review.correct.choose_class(1)
        cleanup = review.correct.controls.cleanup
        cleanup.numbers[operation].setValue(number)
        cleanup.buttons[operation].click()
        review.wait_done()
        differs = np.argwhere(review.layer.data != wanted)
        assert len(differs) <= may_differ, (operation, differs)
        assert "µm² changed" in review.dock.banner.text


def _put(
    mask: np.ndarray, y: int, x: int, height: int, value: int, width: int | None = None
) -> np.ndarray:
    mask[y : y + height, x : x + (height if width is None else width)] = value
    return mask


def test_cleaning_up_a_clicked_region(review: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    data = review.layer.data
    data[20:30, 20:30] = data[60:70, 60:70] = 2
    review.correct.controls.cleanup.scope.setCurrentIndex(1)
    button = review.correct.controls.cleanup.buttons[CleanupOperation.SMALL]
    button.click()
    assert button.isChecked()
    assert "Click a region" in review.dock.banner.text
    review.drag([(80, 20), (80, 60)])  # moves the slide, cleans up nothing
    assert not review.correct.is_working
    review.click(25, 25)
    review.wait_done()
    assert (data[20:30, 20:30] == 1).all()
    assert (data[60:70, 60:70] == 2).all()
    review.canvas.setFocus()
    qtbot.keyClick(review.canvas, Qt.Key.Key_Escape)
    assert not button.isChecked()
    assert review.dock.banner.text == "Remove small: cancelled."
    review.click(65, 65)
    assert (data[60:70, 60:70] == 2).all()


def test_hidden_corrections_can_t_be_painted_on(review: Review) -> None:
    review.view.show_corrections(False)
    assert not review.correct.controls.tools["brush"].isEnabled()
    assert "hidden" in review.correct.controls.tools["brush"].toolTip()
    review.correct.choose_tool("brush")
    assert str(review.layer.mode) == "pan_zoom"
    review.view.show_corrections(True)
    assert review.correct.controls.tools["brush"].isEnabled()


def test_the_section_shows_when_everything_is_saved(review: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    review.layer.paint((50, 50), 2)
    qtbot.waitUntil(lambda: review.correct.controls.saved_text.text() == "Saving…", timeout=WAIT)
    qtbot.waitUntil(
        lambda: review.correct.controls.saved_text.text() == "All corrections saved", timeout=WAIT
    )
    assert review.view.corrected_pixels == (review.layer.data != review.model).sum() > 0


def test_an_exported_mask_can_be_painted_too(review: Review, tmp_path: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mask.ome.tif"
    FORMATS["ome-tiff"].write(path, review.model, review.info, review.slide, "mask")
    data, facts, _ = mask_layer(path)
    layer = unwrapped(review.viewer.add_labels(np.array(data), **facts))
    qtbot.waitUntil(lambda: review.layer is layer, timeout=WAIT)
    assert review.dock.choice.count() == 2
    assert review.correct.controls.saved_text.text() == "Not recorded"
    assert not review.correct.controls.only_tissue.isEnabled()
    review.correct.choose_class(2)
    layer.brush_size = 9
    layer.paint((50, 50), 2)
    assert layer.data[50, 50] == 2
    review.dock.choice.setCurrentIndex(0)
    review.dock.choice.activated.emit(0)
    assert review.layer is review.view.layer
    review.viewer.layers.remove(layer)
    assert review.dock.choice.count() == 1


def test_release_leaves_the_layer_as_it_was(review: Review) -> None:
    layer = review.layer
    bound = {str(key): act for key, act in layer.keymap.items()}
    callbacks = len(layer.mouse_drag_callbacks)
    review.correct.set_view(None)
    assert not {"paint", "paint_polygon", "fill", "undo", "redo"} & set(vars(layer))
    left = {str(key): act for key, act in layer.keymap.items()}
    assert not [key for key in ("1", "2", "3", "B", "G", "Z") if left.get(key) is bound[key]]
    assert len(layer.mouse_drag_callbacks) == callbacks - 1
    assert not review.correct.controls.tools["brush"].isEnabled()


def test_a_dock_that_is_destroyed_leaves_the_layer_alone(review: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    layer = review.layer
    with qtbot.waitSignal(review.correct.destroyed):
        review.viewer.window.remove_dock_widget(review.dock)
        review.dock.deleteLater()
    assert "paint" not in vars(layer)
    layer.paint((50, 50), 2)
    assert layer.data[50, 50] == 2
    review.wait_done = lambda: None  # type: ignore[method-assign]


def test_removing_the_layer_leaves_no_target(review: Review) -> None:
    review.viewer.layers.remove(review.view.layer)
    assert review.correct.target is None
    assert review.dock.no_mask.isVisibleTo(review.dock)


@pytest.fixture
def coarse(make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot):  # type: ignore[no-untyped-def]
    made = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot, max_side=100)
    assert made.view.step == 2
    yield made
    made.wait_done()


def corrections_of(view: MaskView) -> np.ndarray:
    return view.corrections.read(slice(0, SHAPE[0]), slice(0, SHAPE[1]))


def test_a_region_is_edited_at_full_resolution(coarse: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    assert coarse.correct.controls.region_button.isVisibleTo(coarse.dock)
    coarse.correct.controls.region_button.click()
    layer = coarse.layer
    assert layer is not coarse.view.layer, coarse.dock.banner.text
    opened = coarse.correct.region._open
    height, width = layer.data.shape
    where = slice(opened.y, opened.y + height), slice(opened.x, opened.x + width)
    np.testing.assert_array_equal(layer.data, coarse.model[where])
    # its corners lie where the mask's pixels do
    np.testing.assert_allclose(
        layer.data_to_world((0, 0)),
        np.array(coarse.info.napari_translate)
        + np.array([opened.y, opened.x]) * coarse.info.napari_scale,
    )
    coarse.correct.choose_class(2)
    layer.brush_size = 5
    layer.paint((50 - opened.y, 51 - opened.x), 2)
    qtbot.waitUntil(lambda: bool(corrections_of(coarse.view).any()), timeout=WAIT)
    painted = np.zeros(SHAPE, np.uint8)
    painted[where] = np.where(layer.data != coarse.model[where], layer.data, 0)
    np.testing.assert_array_equal(corrections_of(coarse.view), painted)
    recorder = coarse.view.recorder
    qtbot.waitUntil(lambda: recorder.is_saved, timeout=WAIT)
    layer.undo()
    qtbot.waitUntil(lambda: not corrections_of(coarse.view).any(), timeout=WAIT)
    layer.redo()
    coarse.correct.controls.done_button.click()
    np.testing.assert_array_equal(corrections_of(coarse.view), painted)
    assert coarse.layer is coarse.view.layer
    assert coarse.view.layer.visible
    assert layer not in coarse.viewer.layers
    assert coarse.view.layer.data[25, 25] == 2


def test_discarding_a_region_puts_back_what_was_there(coarse: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    coarse.view.corrections.write(40, 40, np.full((4, 4), 3, np.uint8))
    before = corrections_of(coarse.view)
    coarse.correct.open_region()
    layer = coarse.layer
    layer.brush_size = 15
    layer.paint((40, 40), 2)
    qtbot.waitUntil(lambda: not np.array_equal(corrections_of(coarse.view), before), timeout=WAIT)
    coarse.correct.controls.discard_button.click()
    np.testing.assert_array_equal(corrections_of(coarse.view), before)
    assert coarse.view.layer.data[21, 21] == 3


def test_deleting_the_layer_of_a_region_keeps_what_was_painted(coarse: Review) -> None:
    coarse.correct.open_region()
    layer = coarse.layer
    layer.brush_size = 5
    opened = coarse.correct.region._open
    layer.paint((40, 40), 2)
    coarse.viewer.layers.remove(layer)
    assert corrections_of(coarse.view)[40 + opened.y, 40 + opened.x] == 2
    assert coarse.view.layer.visible


def test_a_view_too_wide_is_refused(coarse: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_region, "MAX_SIDE", 64)
    coarse.correct.open_region()
    assert "Zoom in" in coarse.dock.banner.text
    assert coarse.layer is coarse.view.layer


def test_what_is_about_to_be_written_into_is_shown(review: Review) -> None:
    layer, correct = review.layer, review.correct
    for name, button in correct.controls.tools.items():
        layer.visible = False
        review.viewer.layers.selection.active = None
        button.click()
        assert layer.visible, name
        assert review.viewer.layers.selection.active is layer, name
    cleanup = correct.controls.cleanup
    layer.visible = False
    cleanup.numbers[CleanupOperation.GROW].setValue(12.0)
    cleanup.buttons[CleanupOperation.GROW].click()
    review.wait_done()
    assert layer.visible
    layer.visible = False
    cleanup.scope.setCurrentIndex(1)  # waits for a click on a region
    cleanup.buttons[CleanupOperation.SMALL].click()
    assert layer.visible
    for name, button in review.dock.prompts.controls.tools.items():
        layer.visible = False
        button.click()
        assert layer.visible or not button.isChecked(), name
