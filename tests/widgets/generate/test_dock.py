"""The dock from an opened slide to a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg._widgets.common.jobs import ModelCache
from napari_plimseg._widgets.viewer.mask_layer import mask_views
from napari_plimseg._widgets.viewer.regions import (
    REGION_LAYER,
    RunOn,
    add_region_layer,
    visible_region,
)
from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.generate.dock import PlimsegDock
    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
WAIT = 30_000


def run_to_the_end(dock: PlimsegDock, qtbot) -> bool:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT) as blocker:
        dock.start()
    return bool(blocker.args[0])


def test_without_a_slide_the_button_says_why(dock: PlimsegDock) -> None:
    assert not dock.run_panel.button.isEnabled()
    assert "Open a slide first" in dock.run_panel.button.toolTip()
    assert "Open a slide first" in dock.run_panel.line.text()
    assert not dock.results.isVisibleTo(dock)


def test_a_slide_is_described(dock: PlimsegDock, add_slide: Callable) -> None:
    add_slide()
    assert dock.slide_section.combo.currentText() == "slide"
    size = dock.slide_section.size_label.text().replace("\u00a0", " ")
    assert size == "1,600 × 1,200 px · 0.8 × 0.6 mm · 0.5 µm/px"
    assert dock.run_panel.button.isEnabled()
    assert not dock.slide_section.mpp_row.isVisibleTo(dock)


@pytest.mark.parametrize(("typed", "mpp"), [("0.25", 0.25), ("0,5", 0.5)])
def test_unknown_pixel_size_is_asked_for(
    dock: PlimsegDock, add_slide: Callable, typed: str, mpp: float
) -> None:
    slide = add_slide(mpp=None)
    assert dock.slide_section.mpp_row.isVisibleTo(dock)
    assert "Pixel size unknown" in dock.run_panel.button.toolTip()
    dock.slide_section.mpp_edit.setText(typed)
    dock.slide_section.mpp_edit.editingFinished.emit()
    assert slide.mpp == mpp
    assert slide.mpp_is_given
    np.testing.assert_allclose(dock.slides.layer.scale, mpp)
    assert [str(unit) for unit in dock.slides.layer.units] == ["micrometer", "micrometer"]
    assert dock.run_panel.button.isEnabled()


@pytest.mark.parametrize("typed", ["much", "-1", "0.0001", "nan"])
def test_a_wrong_pixel_size_is_refused(dock: PlimsegDock, add_slide: Callable, typed: str) -> None:
    slide = add_slide(mpp=None)
    dock.slide_section.mpp_edit.setText(typed)
    dock.slide_section.mpp_edit.editingFinished.emit()
    assert slide.mpp is None
    assert typed in dock.banner.text


def test_a_run_fills_the_mask_layer(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    slide = add_slide()
    stages: list[str] = []
    progress = []
    dock.controller.staged.connect(stages.append)
    dock.controller.progressed.connect(progress.append)
    assert run_to_the_end(dock, qtbot)
    assert stages[0] == "Loading model…"
    assert progress[-1].tiles_done == progress[-1].tiles_total > 1
    view = dock.view
    assert view is not None
    mask = view.layer.data
    assert mask.shape == (150, 200)
    assert mask.dtype == np.uint8
    height, width = mask.shape
    assert (mask[: height // 2, : width // 2 - 2] == 1).all()
    assert (mask[: height // 2, width // 2 + 2 :] == 2).all()
    assert (mask[-10:] == 3).all()
    assert not (mask == 0).any()
    assert view.layer.editable
    assert view.layer.name.startswith("slide · color · ")  # model and date
    assert "Done" in dock.banner.text
    assert dock.run_panel.button.text() == "Generate pseudo masks"
    # the mask's outer corners are the slide's
    half_pixels = np.array([[-0.5], [0.5]])  # extents reach to the centres of the outer pixels
    np.testing.assert_allclose(
        view.layer.extent.world + half_pixels * view.layer.scale,
        dock.slides.layer.extent.world + half_pixels * slide.mpp,
    )


def test_only_what_was_filled_in_is_drawn(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    assert run_to_the_end(dock, qtbot)
    view = dock.view
    assert view is not None
    assert view.recorder is not None

    def drawn() -> np.ndarray:
        return np.array(view.layer._slice.image.view)

    parts: list[tuple[int, ...]] = []
    layer = view.layer
    layer.events.labels_update.connect(lambda e: parts.append((*e.offset, *e.data.shape)))
    view.fill(Window(0, 0, 40, 50), np.full((40, 50), 3, np.uint8))
    view.fill(Window(60, 70, 20, 20), np.full((20, 20), 2, np.uint8))
    view.draw_filled()
    np.testing.assert_array_equal(drawn(), layer.colormap._data_to_texture(layer.data))
    assert parts == [(0, 0, 40, 50), (60, 70, 20, 20)]
    assert view.recorder.is_saved  # nobody painted
    view.draw_filled()
    assert len(parts) == 2
    view.fill(Window(0, 0, 40, 50), np.full((40, 50), 2, np.uint8))
    layer.contour = 1  # outlines depend on their surroundings: all is drawn
    whole: list[object] = []
    layer.events.set_data.connect(whole.append)
    view.draw_filled()
    assert whole
    assert len(parts) == 2


def test_running_state(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    model.gate.clear()
    model.tiles_before_gate = 1
    dock.start()
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    for control in (
        dock.model_choice,
        dock.device,
        dock.class_list.add_button,
        dock.run_on.draw_button,
        *dock.run_on.buttons.values(),
        dock.settings_form.controls["tile_size"],
    ):
        assert not control.isEnabled()
        assert "cancel it first" in control.toolTip()
    assert dock.run_panel.cancel_button.isVisibleTo(dock)
    assert not dock.run_panel.button.isVisibleTo(dock)
    assert not dock.results.export_buttons["ome-tiff"].isEnabled()
    assert "is incomplete" in dock.results.export_buttons["ome-tiff"].toolTip()
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        model.gate.set()
    assert dock.model_choice.isEnabled()


def test_cancel_keeps_what_is_done_and_continue_does_the_rest(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)
    model.gate.clear()
    model.tiles_before_gate = 4
    dock.start()
    qtbot.waitUntil(
        lambda: (
            dock.controller.last_progress is not None
            and dock.controller.last_progress.tiles_done >= 1
        ),
        timeout=WAIT,
    )
    dock.cancel()
    assert "Stopping" in dock.run_panel.cancel_button.toolTip()
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT) as blocker:
        model.gate.set()
    assert blocker.args == [False]
    assert dock.banner.kind == "info"  # not an error
    assert "Cancelled" in dock.banner.text
    assert dock.run_panel.button.text() == "Continue"
    first = dock.view.layer.data
    done = int((first > 0).sum())
    assert 0 < done < first.size

    seen_before = model.seen
    model.tiles_before_gate = 1_000_000
    assert run_to_the_end(dock, qtbot)
    assert dock.view.layer.data is first
    assert (first > 0).all()
    total = dock.controller.last_progress.tiles_total
    assert model.seen - seen_before < total
    assert dock.run_panel.button.text() == "Generate pseudo masks"


def test_painting_survives_continuing(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    run_to_the_end(dock, qtbot)
    dock.view.layer.data[10:20, 10:20] = 2
    run_to_the_end(dock, qtbot)
    assert (dock.view.layer.data[10:20, 10:20] == 2).all()


def test_a_finished_result_opens_with_its_slide(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    run_to_the_end(dock, qtbot)
    mask = dock.view.layer.data.copy()
    dock._viewer.layers.clear()
    assert dock.view is None
    seen = model.seen
    add_slide()
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    np.testing.assert_array_equal(dock.view.layer.data, mask)
    assert "Loaded result of" in dock.banner.text
    assert dock.banner.kind == "info"
    assert model.seen == seen


def test_a_slide_unlike_the_training_tissue_is_said_before_and_after_the_run_and_when_it_is_opened(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    sentence = "This slide looks unlike the tissue that this model was trained on."
    model.familiarity, model.unlike = True, lambda windows: sentence
    add_slide()
    told = []
    dock.controller.progressed.connect(
        lambda progress: told.append((progress.tiles_done, dock.banner.text))
    )
    run_to_the_end(dock, qtbot)
    assert (0, sentence) in told
    assert dock.banner.kind == "warning"
    assert sentence in dock.banner.text
    dock._viewer.layers.clear()
    add_slide()
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    assert dock.banner.kind == "warning"
    assert sentence in dock.banner.text


def test_a_damaged_result_says_so_and_is_repaired(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    run_to_the_end(dock, qtbot)
    mask, labels = dock.view.layer.data.copy(), dock.view.store.path / "labels"
    for name in ("classes", "confidence"):
        file = labels / name / "0" / "c" / "0" / "0"
        file.write_bytes(file.read_bytes()[:-1])
    combo = dock.results.overlay
    combo.setCurrentIndex(combo.findData("confidence"))
    combo.activated.emit(combo.currentIndex())
    assert dock.banner.kind == "error"
    assert "of the confidence is damaged" in dock.banner.text
    assert dock.controller.overlay is None
    dock._viewer.layers.clear()
    add_slide()
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    assert dock.banner.kind == "warning"
    assert "Loaded result of" in dock.banner.text
    assert "of the classes is damaged" in dock.banner.text
    shown = dock.view.layer.data
    assert ((shown == mask) | (shown == 255)).all()
    assert (shown == 255).any()
    run_to_the_end(dock, qtbot)
    assert dock.banner.kind == "warning"
    assert "Damaged parts were computed again: " in dock.banner.text
    assert "nothing to compute" not in dock.banner.text
    assert "outside this area" not in dock.banner.text
    np.testing.assert_array_equal(dock.view.layer.data, mask)


def test_run_on_what_i_see(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide(2400, 3200)
    dock.run_on.choose(RunOn.VISIBLE)
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)
    layer = dock.slides.layer
    layer.data_level = 1
    layer.corner_pixels = np.array([[70, 90], [130, 170]])  # as napari sets it when it draws
    region = visible_region(layer)
    assert (region.y, region.x, region.height, region.width) == (280, 360, 244, 324)
    assert run_to_the_end(dock, qtbot)
    mask = dock.view.layer.data
    assert (mask[35:65, 45:85] > 0).all()
    assert mask[-1, 0] == mask[0, -1] == mask[-1, -1] == 0  # tiles that it does not touch


def test_run_on_drawn_shapes(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    dock.run_on.choose(RunOn.SHAPES)
    assert "No regions drawn" in dock.run_panel.button.toolTip()
    assert not dock.run_panel.button.isEnabled()
    dock.draw_region()
    shapes = dock._viewer.layers[f"{REGION_LAYER} · slide"]
    assert shapes.mode == "add_rectangle"
    shapes.visible = False
    dock._viewer.layers.selection.active = None
    dock.run_on.draw_button.click()
    assert shapes.visible
    assert dock._viewer.layers.selection.active.name == shapes.name
    shapes.add_rectangles(np.array([[79.5, 159.5], [79.5, 479.5], [399.5, 479.5], [399.5, 159.5]]))
    assert dock.run_panel.button.isEnabled()
    assert run_to_the_end(dock, qtbot)
    expected = np.zeros((150, 200), bool)
    expected[10:50, 20:60] = True  # 8 level-0 pixels to a mask pixel
    np.testing.assert_array_equal(dock.view.layer.data > 0, expected)


def test_a_failing_slide_shows_the_sentence(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    slide = add_slide()
    slide.broken = True
    with qtbot.waitSignal(dock.controller.failed, timeout=WAIT):
        dock.start()
    qtbot.waitUntil(lambda: not dock.controller.is_running, timeout=WAIT)
    assert dock.banner.kind == "error"
    assert "slide.tif" in dock.banner.text
    assert dock.run_panel.button.isEnabled()


def test_the_model_that_can_not_be_loaded_is_told(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    from napari_plimseg import models
    from napari_plimseg.errors import ModelError

    def refuse(name: str, classes: object = None) -> None:
        raise ModelError("is damaged", path="m.safetensors", remedy="Fetch it again.")

    monkeypatch.setattr(models, "load_model", refuse)
    add_slide()
    assert not run_to_the_end(dock, qtbot)
    assert dock.banner.text == "model 'm.safetensors': is damaged. Fetch it again."


def test_status_bar_names_the_class(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    run_to_the_end(dock, qtbot)
    viewer = dock._viewer
    viewer.cursor.position = (50.0, 50.0)
    assert shown(viewer.status).endswith("purple · 87 %")
    viewer.cursor.position = (50.0, 700.0)
    assert shown(viewer.status).endswith("pink · 87 %")
    assert "purple" not in shown(viewer.status)
    viewer.status = "[1, 2]: 3"  # as napari's own thread writes, at any time
    assert viewer.status.endswith("pink · 87 %")
    viewer.status = "Ready"  # as napari writes when the mouse leaves the slide
    assert viewer.status == "Ready"
    dock.view.layer.data[:20, :20] = 2
    viewer.cursor.position = (20.0, 20.0)
    assert shown(viewer.status).endswith("pink · painted")
    viewer.cursor.position = (-500.0, 20.0)
    assert "pink" not in shown(viewer.status)


def shown(status: object) -> str:
    return status["coordinates"] if isinstance(status, dict) else str(status)


def test_overlay(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    run_to_the_end(dock, qtbot)
    combo = dock.results.overlay
    active = dock._viewer.layers.selection.active.name
    combo.setCurrentIndex(combo.findData("pink"))
    combo.activated.emit(combo.currentIndex())
    overlay = dock.controller.overlay.layer
    assert overlay.data[10, 10] < 12 < 80 < overlay.data[10, -10] <= 100  # percent
    np.testing.assert_allclose(overlay.scale, dock.view.layer.scale)
    assert combo.currentData() == "pink"
    assert dock._viewer.layers.selection.active.name == active
    dock.results.opacity.setValue(30)
    assert overlay.opacity == pytest.approx(0.3)
    combo.setCurrentIndex(combo.findData("confidence"))
    combo.activated.emit(combo.currentIndex())
    assert (dock.controller.overlay.layer.data[:50] > 80).all()
    assert overlay not in dock._viewer.layers
    combo.setCurrentIndex(0)
    combo.activated.emit(0)
    assert dock.controller.overlay is None
    assert len(dock._viewer.layers) == 2


def test_without_a_color_bar_of_napari_the_dock_shows_one(
    dock: PlimsegDock,
    add_slide: Callable,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari.layers import Image

    monkeypatch.setattr(Image, "colorbar", None)
    add_slide()
    run_to_the_end(dock, qtbot)
    combo, bar = dock.results.overlay, dock.results.values
    assert not bar.isVisibleTo(dock)
    for row, is_shown in ((combo.findData("pink"), True), (0, False)):
        combo.setCurrentIndex(row)
        combo.activated.emit(row)
        assert bar.isVisibleTo(dock) == is_shown
    assert bar.limits == ("0", "100")


def test_areas_are_shown_and_follow_the_brush(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    with qtbot.waitSignal(dock.tools.measured, timeout=WAIT):
        run_to_the_end(dock, qtbot)
    table = dock.results.areas
    names = {table.item(row, 0).text(): row for row in range(table.rowCount())}
    assert {"purple", "pink"} <= set(names)
    before = float(table.item(names["pink"], 2).text())
    layer = dock.view.layer
    layer.selected_label = 2
    layer.brush_size = 60
    with qtbot.waitSignal(dock.tools.measured, timeout=WAIT):
        layer.paint((60, 40), 2)
        layer.events.paint(value=[])
    names = {table.item(row, 0).text(): row for row in range(table.rowCount())}
    assert float(table.item(names["pink"], 2).text()) > before


def test_while_a_mask_grows_the_areas_of_its_part_are_not_shown(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    with qtbot.waitSignal(dock.tools.measured, timeout=WAIT):
        run_to_the_end(dock, qtbot)
    assert dock.results.areas.rowCount() > 0
    dock.tools._measure()  # is under way when the run starts
    dock.view.set_growing(True)
    dock.tools.show_areas_of(dock.view)
    qtbot.waitUntil(lambda: not dock.tools._areas.is_running, timeout=WAIT)
    assert dock.results.areas.rowCount() == 0
    with qtbot.waitSignal(dock.tools.measured, timeout=WAIT):
        dock.view.set_growing(False)
        dock.tools.show_areas_of(dock.view)
    assert dock.results.areas.rowCount() > 0


def test_show_tissue(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    dock.settings_form.show_tissue.click()
    qtbot.waitUntil(lambda: "slide · tissue" in dock._viewer.layers, timeout=WAIT)
    tissue = dock._viewer.layers["slide · tissue"]
    assert 0.6 < tissue.data.mean() < 0.95
    dock.settings_form.show_tissue.click()
    qtbot.waitUntil(lambda: not dock.findChildren(type(dock.controller._job))[-1].is_running)
    assert sum("tissue" in layer.name for layer in dock._viewer.layers) == 1


def test_two_slides(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    first = add_slide(name="first.tif")
    second = add_slide(name="second.tif", height=800)
    assert dock.slides.slide is second
    dock._viewer.layers.selection.active = dock._viewer.layers["first"]
    assert dock.slides.slide is first
    dock.slide_section.combo.activated.emit(1)
    assert dock.slides.slide is second
    del dock._viewer.layers["second"]
    assert dock.slides.slide is first
    assert dock.slide_section.combo.count() == 1


def test_the_sample_slide_opens(dock: PlimsegDock) -> None:
    dock.slide_section.sample_button.click()
    assert dock.slides.slide.name == "CMU-1-Small-Region.svs"
    size = dock.slide_section.size_label.text().replace("\u00a0", " ")
    assert size.startswith("2,220 × 2,967 px · ")
    assert dock.run_panel.button.isEnabled()


def test_a_refused_file_is_told(dock: PlimsegDock, tmp_path: Path) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"II*\0 this is no slide")
    dock.open_slide(str(broken))
    assert dock.banner.kind == "error"
    assert "broken.svs" in dock.banner.text
    dock.opener.open_sample()
    assert dock.banner.text == ""


def test_napari_finds_the_dock(make_napari_viewer_proxy, model: fakes.ColorModel) -> None:  # type: ignore[no-untyped-def]
    viewer = make_napari_viewer_proxy()
    _, widget = viewer.window.add_plugin_dock_widget("napari-plimseg", "PLIMSeg")
    assert type(widget).__name__ == "PlimsegDock"
    assert widget.model_choice.currentText() == "Colour model"


def test_a_mask_says_that_it_grows(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot: object
) -> None:
    add_slide()
    model.gate.clear()
    model.tiles_before_gate = 0
    grown: list[bool] = []
    dock.controller.opened.connect(
        lambda: dock.view.grown.connect(lambda _: grown.append(dock.view.is_growing))
    )
    dock.start()
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    assert dock.view.is_growing
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        model.gate.set()
    assert grown == [False]


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the models loaded from now on."""
    from napari_plimseg import models

    load, loaded = models.load_model, []

    def counted(name: str, classes: object = None) -> object:
        loaded.append(name)
        return load(name, classes)

    monkeypatch.setattr(models, "load_model", counted)
    return loaded


def test_a_finished_result_needs_no_model_and_can_be_computed_again(
    dock: PlimsegDock,
    add_slide: Callable,
    model: fakes.ColorModel,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: object,
) -> None:
    add_slide()
    run_to_the_end(dock, qtbot)
    mask, tiles = dock.view.layer.data.copy(), model.seen
    dock.controller.keeper = ModelCache()  # as in another session
    loaded = count_loads(monkeypatch)
    run_to_the_end(dock, qtbot)
    assert loaded == []
    assert model.seen == tiles
    assert dock.banner.kind == "info"
    assert dock.banner.text == "Already segmented; nothing to compute."
    assert len(mask_views(dock._viewer)) == 1
    assert dock.banner.offer_button.isVisibleTo(dock)
    assert dock.banner.offer_button.text() == "Recompute"
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.banner.offer_button.click()
    assert model.seen > tiles
    assert dock.banner.kind == "good"
    assert not dock.banner.offer_button.isVisibleTo(dock)
    np.testing.assert_array_equal(dock.view.layer.data, mask)
    loaded.clear()  # other settings make another result
    dock.settings_form.controls["tissue_threshold"].setValue(0.1)
    run_to_the_end(dock, qtbot)
    assert not dock.banner.text.startswith("Already")


def test_a_finished_part_is_not_the_whole(
    dock: PlimsegDock, add_slide: Callable, monkeypatch: pytest.MonkeyPatch, qtbot: object
) -> None:
    add_slide(2400, 3200)
    shapes = add_region_layer(dock._viewer, dock.slides.layer)
    shapes.add_rectangles(np.array([[100, 100], [100, 700], [600, 700], [600, 100]]))
    dock.run_on.buttons[RunOn.SHAPES].click()
    run_to_the_end(dock, qtbot)
    dock.controller.keeper = ModelCache()
    loaded = count_loads(monkeypatch)
    run_to_the_end(dock, qtbot)
    assert dock.banner.text.startswith("Already segmented")
    assert loaded == []
    dock.run_on.buttons[RunOn.WHOLE].click()
    run_to_the_end(dock, qtbot)
    assert dock.banner.text.startswith("Done.")
    assert loaded == ["color"]


def test_the_model_is_loaded_when_a_slide_opens(
    dock: PlimsegDock, add_slide: Callable, monkeypatch: pytest.MonkeyPatch, qtbot: object
) -> None:
    loaded = count_loads(monkeypatch)
    add_slide(mpp=None)
    qtbot.wait(100)
    assert loaded == []  # the pixel size is asked for first
    dock.slide_section.mpp_edit.setText("0.5")
    dock.slide_section.mpp_edit.editingFinished.emit()
    qtbot.waitUntil(lambda: loaded == ["color"], timeout=WAIT)
    run_to_the_end(dock, qtbot)
    assert loaded == ["color"]  # the run uses it
    dock.settings_form.controls["load_early"].click()
    dock.controller.keeper = ModelCache()
    add_slide(name="other.tif", height=800)
    qtbot.wait(200)
    assert loaded == ["color"]
