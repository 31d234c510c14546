"""What is painted on a mask's layer is on the disk soon, and is there again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg._widgets import correction_recorder
from napari_plimseg._widgets.layer_views import MaskView, mask_views
from napari_plimseg._widgets.napari_inside import unwrapped
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.results import corrections_journal
from napari_plimseg.results.corrections import Corrections
from napari_plimseg.results.mask_store import MaskStore
from napari_plimseg.results.store_files import StoreLayout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import fakes
    from napari.layers import Labels

    from napari_plimseg._widgets.main_dock import PlimsegDock

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
    kept = dict(corrections_journal._open_journals)
    corrections_journal._open_journals.clear()
    corrections = Corrections.open(view.store.path.parent, view.info)
    corrections_journal._open_journals.clear()
    corrections_journal._open_journals.update(kept)
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
