"""What is painted on a mask layer is saved soon, and shown again when it is reopened."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from napari_plimseg._widgets.viewer import correction_recorder, mask_layer
from napari_plimseg._widgets.viewer.corrections_panel import BUTTON
from napari_plimseg._widgets.viewer.mask_layer import MaskView, mask_view_of, mask_views
from napari_plimseg.results.corrections import journal
from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.tiling import Window
from tests.support import widgets as fakes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

    from napari_plimseg._widgets.generate.dock import PlimsegDock

pytestmark = pytest.mark.gui
WAIT = 30_000


@pytest.fixture
def masked(dock: PlimsegDock, add_slide: Callable, qtbot) -> PlimsegDock:  # type: ignore[no-untyped-def]
    add_slide()
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()
    return dock


def view_of(dock: PlimsegDock) -> MaskView:
    view = dock.view
    assert view is not None
    return view


def on_disk(view: MaskView) -> np.ndarray:
    """Return what another process would read."""
    kept = dict(journal._open_journals)
    journal._open_journals.clear()
    corrections = Corrections.open(view.store.path.parent, view.info)
    journal._open_journals.clear()
    journal._open_journals.update(kept)
    height, width = view.info.shape
    return corrections.read(slice(0, height), slice(0, width))


def wait_saved(view: MaskView, qtbot) -> None:  # type: ignore[no-untyped-def]
    recorder = view.recorder
    assert recorder is not None
    with qtbot.waitSignal(recorder.saved, timeout=WAIT):
        assert recorder.text == "Saving…"
    assert recorder.text == "All corrections saved"


def stroke(layer: Labels, value: int) -> None:
    layer.selected_label = value
    layer.brush_size = 9
    with layer.block_history():
        layer.paint((20, 20), value)
        layer.paint((20, 40), value)


def filled(layer: Labels, value: int) -> None:
    layer.fill((5, 5), value)


def polygon(layer: Labels, value: int) -> None:
    layer.paint_polygon(np.array([[10, 10], [10, 60], [50, 60]]), value)


def set_items(layer: Labels, value: int) -> None:
    layer.data_setitem((np.array([3, 90]), np.array([4, 150])), np.array([value, 3]))


@pytest.mark.parametrize("edit", [stroke, filled, polygon, set_items])
def test_every_kind_of_edit_is_saved_and_undone(masked: PlimsegDock, edit: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    view = view_of(masked)
    layer, model = view.layer, view.layer.data.copy()
    edit(layer, 2)
    wait_saved(view, qtbot)
    painted = layer.data.copy()
    changed = painted != model
    assert changed.any()
    np.testing.assert_array_equal(on_disk(view), np.where(changed, painted, 0))
    np.testing.assert_array_equal(view.store.read_classes(), model)  # never touched
    layer.undo()
    wait_saved(view, qtbot)
    np.testing.assert_array_equal(layer.data, model)
    assert not on_disk(view).any()
    layer.redo()
    wait_saved(view, qtbot)
    np.testing.assert_array_equal(on_disk(view), np.where(changed, painted, 0))


def test_a_long_stroke_is_saved_while_it_lasts(masked: PlimsegDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    view = view_of(masked)
    layer = view.layer
    layer.brush_size = 9
    layer._begin_stroke()
    layer.paint((20, 20), 2)
    wait_saved(view, qtbot)
    assert on_disk(view)[20, 20] == 2
    layer.paint((20, 60), 2)
    layer._abort_stroke()  # what napari does when the stroke is given up
    wait_saved(view, qtbot)
    assert not on_disk(view).any()


def test_erasing_brings_the_model_back(masked: PlimsegDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    view = view_of(masked)
    layer, model = view.layer, view.layer.data.copy()
    stroke(layer, 2)
    wait_saved(view, qtbot)
    painted = layer.data.copy()
    stroke(layer, 0)
    wait_saved(view, qtbot)
    np.testing.assert_array_equal(layer.data, model)
    assert not on_disk(view).any()
    layer.undo()
    wait_saved(view, qtbot)
    np.testing.assert_array_equal(layer.data, painted)
    np.testing.assert_array_equal(on_disk(view), np.where(painted != model, painted, 0))
    stroke(layer, 77)  # what is no class is no correction
    wait_saved(view, qtbot)
    np.testing.assert_array_equal(layer.data, model)


def test_the_row_in_the_dock(masked: PlimsegDock, qtbot, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    view, row = view_of(masked), masked.results.corrections_row
    layer, model = view.layer, view.layer.data.copy()
    assert not row.shown.isEnabled()
    assert "No corrections yet" in row.discard.toolTip()
    stroke(layer, 2)
    wait_saved(view, qtbot)
    painted = layer.data.copy()
    pixels = np.count_nonzero(painted != model)
    assert row.state.text() == f"All corrections saved ({pixels} pixels)"
    row.shown.click()
    np.testing.assert_array_equal(layer.data, model)
    assert not layer.editable
    assert "Show corrections to paint" in row.state.text()
    np.testing.assert_array_equal(view.full_mask(layer.data), model)
    view.recorder.commit_all()  # the model's output is not a correction
    row.shown.click()
    np.testing.assert_array_equal(layer.data, painted)
    assert layer.editable
    layer.undo()  # what could be undone before, still can
    np.testing.assert_array_equal(layer.data, model)
    layer.redo()
    wait_saved(view, qtbot)
    asked = []

    def answer(parent: object, title: str, text: str, *rest: object) -> object:
        asked.append(text)
        return answers.pop()

    answers = [QMessageBox.StandardButton.Discard, QMessageBox.StandardButton.Cancel]
    monkeypatch.setattr(QMessageBox, "question", answer)
    row.discard.click()
    np.testing.assert_array_equal(layer.data, painted)
    row.discard.click()
    assert f"({pixels} pixels)" in asked[0]
    np.testing.assert_array_equal(layer.data, model)
    assert f"'{BUTTON}' in PLIMSeg Review" in masked.banner.text
    assert not on_disk(view).any()
    assert not row.discard.isEnabled()
    stroke(layer, 2)
    wait_saved(view, qtbot)
    np.testing.assert_array_equal(on_disk(view), np.where(painted != model, painted, 0))


def test_a_new_run_leaves_corrections_on_top(masked: PlimsegDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    view = view_of(masked)
    layer = view.layer
    stroke(layer, 2)
    # not yet recorded when the tile comes
    view.fill(Window(0, 0, 60, 60), np.full((60, 60), 3, np.uint8))
    assert layer.data[20, 20] == 2
    assert layer.data[20, 45] == 3
    wait_saved(view, qtbot)
    assert on_disk(view)[20, 20] == 2
    layer.undo()  # the model says something else now
    wait_saved(view, qtbot)
    model = view.store.read_classes()
    assert layer.data[20, 20] == model[20, 20] == 1
    assert on_disk(view)[20, 20] == 1  # what undo brought back differs from the new output


def test_a_reopened_slide_shows_its_corrections(
    masked: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    view = view_of(masked)
    model = view.layer.data.copy()
    stroke(view.layer, 2)
    painted = view.layer.data.copy()
    viewer = masked._viewer
    viewer.layers.remove(view.layer)  # at once: nothing waits for a timer
    assert np.count_nonzero(on_disk(view)) == np.count_nonzero(painted != model)
    slide = masked.slides.slide
    masked._on_slides()
    qtbot.waitUntil(lambda: masked.view is not None, timeout=WAIT)
    assert masked.slides.slide is slide
    again = view_of(masked)
    assert again is not view
    np.testing.assert_array_equal(again.layer.data, painted)
    count = np.count_nonzero(painted != model)
    assert masked.banner.text.startswith("Loaded result of ")
    assert f"Your corrections were applied ({count} pixels)." in masked.banner.text
    np.testing.assert_array_equal(again.pixels.model, model)


def test_another_model_takes_corrections_over_by_name(
    masked: PlimsegDock, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    first = view_of(masked)
    stroke(first.layer, 2)  # pink
    wait_saved(first, qtbot)
    pink = first.layer.data[20, 20]
    first.layer.paint((80, 20), 3)
    renamed = fakes.TissueClasses(
        (fakes.CLASSES[1], fakes.TissueClass("fat", (1, 2, 3)), fakes.CLASSES[2])
    )
    masked.class_list.show_classes(renamed, fakes.CLASSES)
    with qtbot.waitSignal(masked.controller.finished, timeout=WAIT):
        masked.start()
    second = view_of(masked)
    assert second is not first
    assert pink == 2
    assert second.layer.data[20, 20] == 1  # pink has another id now
    assert second.layer.data[80, 20] == 3
    assert "Your corrections" in masked.banner.text
    # painting on one shows on the other, in its own ids
    second.layer.paint((120, 100), 1)
    second.recorder.commit_all()
    assert first.layer.data[120, 100] == 2
    second.layer.fill((5, 5), 2)  # fat: the first mask has no such class
    second.recorder.commit_all()
    assert first.layer.data[5, 5] == first.pixels.model[5, 5]
    assert "'fat'" in first.note
    wait_saved(second, qtbot)


def test_painting_on_a_decimated_mask(masked: PlimsegDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    old = view_of(masked)
    view = MaskView(
        masked._viewer,
        old.slide,
        old.store,
        old.store.read_classes(),
        old.info.classes,
        slide_stem="coarse",
        max_side=70,
    )
    assert view.step == 3
    assert mask_view_of(masked._viewer.layers[-1]) is view
    assert mask_views(masked._viewer) == [old, view]
    view.layer.brush_size = 1
    view.layer.paint((10, 12), 2)
    wait_saved(view, qtbot)
    expected = np.zeros(view.info.shape, np.uint8)
    expected[30:33, 36:39] = 2
    np.testing.assert_array_equal(on_disk(view), expected)
    np.testing.assert_array_equal(old.layer.data[30:33, 36:39], 2)
    np.testing.assert_array_equal(
        view.full_mask(view.layer.data), np.where(expected > 0, expected, old.pixels.model)
    )
    # a window edited at full resolution, as the dock does it
    view.corrections.write(61, 61, np.full((4, 4), 2, np.uint8))
    view.refresh_window(slice(61, 65), slice(61, 65))
    assert view.layer.data[21, 21] == 2
    assert view.layer.data[20, 20] == 1
    np.testing.assert_array_equal(old.layer.data[61:65, 61:65], 2)
    view.layer.undo()
    wait_saved(view, qtbot)
    assert np.count_nonzero(on_disk(view)) == 16


def test_a_disk_that_refuses_is_told_once_and_tried_again(
    masked: PlimsegDock, qtbot, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(correction_recorder, "RETRY_MS", 50)
    view = view_of(masked)
    real, tries = os.fsync, []

    def full(descriptor: int) -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told: list[str] = []
    view.recorder.failed.connect(told.append)
    stroke(view.layer, 2)
    qtbot.waitUntil(lambda: len(tries) >= 3, timeout=WAIT)
    assert len(told) == 1
    assert "No space left" in masked.banner.text
    assert "stays" in masked.banner.text
    assert "not saved yet" in masked.results.corrections_row.state.text()
    with qtbot.waitSignal(view.recorder.saved, timeout=WAIT):
        monkeypatch.setattr(os, "fsync", real)
    assert masked.banner.text == "All corrections are saved now."
    assert on_disk(view)[20, 20] == 2


def test_corrections_of_a_newer_version_leave_painting_alone(
    masked: PlimsegDock, qtbot, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    view = view_of(masked)
    stroke(view.layer, 2)
    wait_saved(view, qtbot)
    masked._viewer.layers.remove(view.layer)
    journal._open_journals.clear()
    monkeypatch.setattr("napari_plimseg.results.corrections.journal_file.FORMAT_VERSION", 0)
    masked._on_slides()
    qtbot.waitUntil(lambda: masked.view is not None, timeout=WAIT)
    again = view_of(masked)
    assert again.corrections is None
    assert "newer version" in masked.banner.text
    again.layer.paint((20, 20), 2)
    again.take(again.store.read_classes())
    assert again.layer.data[20, 20] == 2
    assert "newer version" in masked.results.corrections_row.discard.toolTip()


def test_events_cost_little_on_the_largest_mask(masked: PlimsegDock, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Counted, not timed: an event notes squares and reads no pixel."""
    view = view_of(masked)
    reads: list[object] = []
    record = view.pixels.record
    monkeypatch.setattr(view.pixels, "record", lambda *part: (reads.append(part), record(*part))[1])
    for x in range(10, 190, 3):
        view.layer.paint((50, x), 2)
    assert not reads
    assert len(view.recorder._dirty) == 1
    view.recorder.commit_all()
    assert len(reads) == 1
    assert mask_layer.MAX_SIDE // correction_recorder.CELL <= 64
