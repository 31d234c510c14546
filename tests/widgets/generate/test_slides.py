"""Several slides in one viewer: each with its own masks and regions; deleting their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from napari_plimseg._sample_data import MODEL_KEY
from napari_plimseg._widgets.docks import open_dock, open_main_dock
from napari_plimseg._widgets.generate.dock import PlimsegDock
from napari_plimseg._widgets.viewer import (
    RunOn,
    ViewerSlides,
    find_region_layer,
    get_camera,
    get_scale_bar,
    mask_views,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.viewer import MaskView
    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
WAIT = 60_000


def generate(dock: PlimsegDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock.start()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=WAIT)
    assert dock.view is not None


def seen(dock: PlimsegDock) -> set[str]:
    return {layer.name for layer in dock._viewer.layers if layer.visible}


def draw(dock: PlimsegDock, y: float, x: float, side: float) -> None:
    dock.draw_region()
    layer = find_region_layer(dock._viewer, dock.slides.layer)
    assert layer is not None
    layer.add_rectangles([[y, x], [y, x + side], [y + side, x + side], [y + side, x]])


def test_a_slide_is_shown_with_its_own_layers_only(
    dock: PlimsegDock, add_slide: Callable, qtbot, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    add_slide(name="first.tif")
    generate(dock, qtbot)
    first_mask = dock.view.layer.name  # type: ignore[union-attr]
    draw(dock, 0, 0, 400)
    first = seen(dock)
    assert {"first", first_mask} < first
    add_slide(800, 1200, name="second.tif")
    assert seen(dock) == {"second"}
    assert dock.view is None
    assert dock.state.shape_count == 0  # the region is of the other slide
    dock.run_on.choose(RunOn.WHOLE)
    generate(dock, qtbot)
    second_mask = dock.view.layer.name  # type: ignore[union-attr]
    assert seen(dock) == {"second", second_mask}
    dock.slides.choose(0)
    assert seen(dock) == first
    assert dock.state.shape_count == 1
    # what was hidden by hand stays hidden
    dock._viewer.layers[first_mask].visible = False
    dock.slides.choose(1)
    assert seen(dock) == {"second", second_mask}
    dock.slides.choose(0)
    assert seen(dock) == first - {first_mask}
    # selecting a mask in the list of layers shows its slide
    dock._viewer.layers.selection.active = dock._viewer.layers[second_mask]
    assert seen(dock) == {"second", second_mask}
    assert dock.slides.slide.path.name == "second.tif"
    dock.tools.export("csv", tmp_path / "out.csv")
    qtbot.waitUntil(lambda: not dock.tools.is_busy, timeout=WAIT)
    text = (tmp_path / "out.csv").read_text("utf-8")
    assert "second.tif" in text
    assert "first.tif" not in text


def test_two_slides_with_two_masks_each_stay_apart(
    dock: PlimsegDock, add_slide: Callable, qtbot, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    words = {"first": ("ant", "bee"), "second": ("cow", "dog")}
    masks: dict[str, list[MaskView]] = {}
    for position, (name, classes) in enumerate(words.items()):
        add_slide(1200, 1600 + 400 * position, name=f"{name}.tif")
        for word in classes:
            if dock.class_list.legend is not None:
                dock.class_list.change_button.click()
            dock.class_list.table.item(0, 2).setText(word)
            generate(dock, qtbot)
            masks.setdefault(name, []).append(dock.view)  # type: ignore[arg-type]
            view = masks[name][-1]
            view.edit_classes(view.edits.renamed(view.info.classes.names[0], f"{word} of {name}"))
    assert len(mask_views(dock._viewer)) == 4
    for position, name in ((0, "first"), (1, "second"), (0, "first")):
        dock.slides.choose(position)
        older, newer = masks[name]
        assert seen(dock) == {name, newer.layer.name}
        assert dock.class_list.legend.names[0] == f"{words[name][1]} of {name}"  # type: ignore[union-attr]
        newer.layer.visible, older.layer.visible = False, True  # the older one by hand
        assert dock.view is older
        assert dock.class_list.legend.names[0] == f"{words[name][0]} of {name}"  # type: ignore[union-attr]
        newer.layer.visible, older.layer.visible = True, False
    for position, name in enumerate(words):
        dock.slides.choose(position)
        for view, word in zip(masks[name], words[name], strict=True):
            for each in masks[name]:
                each.layer.visible = each is view
            folder = tmp_path / f"{name} {word}"
            folder.mkdir()
            with qtbot.waitSignal(dock.tools.exported, timeout=WAIT):
                dock.tools.export("all", folder)
            files = sorted(folder.iterdir())
            assert [path.name.split(".")[0] for path in files] == [name] * len(files)
            text = b"".join(path.read_bytes() for path in files if path.suffix != ".png")
            mine = f"{word} of {name}".encode()
            others = {f"{w} of {n}".encode() for n, both in words.items() for w in both} - {mine}
            assert mine in text
            assert not [other for other in others if other in text]
            other_slide = "second" if name == "first" else "first"
            assert f"{other_slide}.tif".encode() not in text
            qtbot.waitUntil(lambda: not dock.tools.is_busy, timeout=WAIT)


def test_a_slide_suggests_its_model_once(dock: PlimsegDock, add_slide: Callable) -> None:
    for name in ("first", "second"):
        add_slide(name=f"{name}.tif")
    for layer in dock.slides.layers:
        layer.metadata[MODEL_KEY] = f"model of {layer.name}"
    slides = ViewerSlides(dock._viewer, lambda: None, lambda: None)
    suggested = []
    for position in (0, 1, 0, 1):
        slides.choose(position)
        suggested.append(slides.new_suggestion())
    slides.disconnect()
    assert suggested == ["model of first", "model of second", "", ""]


def test_choosing_a_slide_fits_it(dock: PlimsegDock, add_slide: Callable) -> None:
    add_slide(400, 400, name="small.tif")
    add_slide(2000, 3000, name="large.tif")
    camera = get_camera(dock._viewer)
    dock.slides.choose(0)
    near = camera.zoom
    assert np.allclose(camera.center[-2:], 100, atol=1)
    dock.slides.choose(1)
    assert np.allclose(camera.center[-2:], (500, 750), atol=1)
    assert near > 3 * camera.zoom
    assert get_scale_bar(dock._viewer).visible


def test_a_run_on_regions_uses_those_of_its_slide(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide(name="first.tif")
    draw(dock, 0, 0, 100)
    add_slide(name="second.tif")
    dock.run_on.choose(RunOn.SHAPES)
    assert "No regions drawn" in dock.state.why_not("generate")
    draw(dock, 200, 400, 100)
    generate(dock, qtbot)
    computed = np.argwhere(dock.view.layer.data)  # type: ignore[union-attr]
    pixel = dock.view.info.napari_scale[0]  # type: ignore[union-attr]
    assert computed.min(0) * pixel == pytest.approx((100, 200), abs=2 * pixel)
    assert computed.max(0) * pixel == pytest.approx((150, 250), abs=2 * pixel)


def test_a_dock_opened_again_takes_up_the_masks_that_are_there(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    generate(dock, qtbot)
    view = dock.view
    again = PlimsegDock(dock._viewer)
    qtbot.addWidget(again)
    assert again.view is view
    qtbot.wait(300)
    assert len(mask_views(dock._viewer)) == 1
    again.start()
    qtbot.waitUntil(lambda: not again.is_running, timeout=WAIT)
    assert mask_views(dock._viewer) == [view]


def test_docks_opened_later_know_what_is_hidden(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    for name in ("first", "second"):
        add_slide(name=f"{name}.tif")
    dock.slides.choose(0)
    assert seen(dock) == {"first"}
    train = open_dock(dock._viewer, "train")
    assert seen(dock) == {"first"}
    assert train.slides.slide is dock.slides.slide
    dock.parentWidget().destroyOnClose()
    again = open_main_dock(dock._viewer)
    assert again.slides.slide.path.name == "first.tif"
    assert seen(again) == {"first"}
    again.slides.choose(1)
    assert seen(again) == {"second"}
    assert train.slides.slide is again.slides.slide


def test_the_main_dock_opened_again_by_the_menu_is_a_tab(
    make_napari_viewer_proxy: Callable,
    model: fakes.ColorModel,
    qtbot,  # type: ignore[no-untyped-def]
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    review = open_dock(viewer, "review").parentWidget()
    frame, _ = viewer.window.add_plugin_dock_widget("napari-plimseg", "PLIMSeg")
    window = review.parentWidget()
    qtbot.waitUntil(lambda: frame in window.tabifiedDockWidgets(review), timeout=WAIT)
    assert frame.windowTitle() == "Generate"


@pytest.mark.parametrize("which", ["mask", "slide"])
def test_deleting_a_layer_of_a_run_stops_it(
    dock: PlimsegDock,
    add_slide: Callable,
    model: fakes.ColorModel,
    qtbot,  # type: ignore[no-untyped-def]
    which: str,
) -> None:
    add_slide(2400, 3200)
    model.gate.clear()
    model.tiles_before_gate = 1
    dock.start()
    qtbot.waitUntil(lambda: dock.view is not None, timeout=WAIT)
    layer = dock.view.layer if which == "mask" else dock.slides.layer  # type: ignore[union-attr]
    name = layer.name
    dock._viewer.layers.remove(layer)
    model.gate.set()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=WAIT)
    assert f"'{name}' was deleted" in dock.banner.text
    qtbot.wait(200)
    assert layer not in dock._viewer.layers
    if which == "mask":
        assert not mask_views(dock._viewer)


def test_progress_names_the_slide_while_another_one_is_shown(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide(2400, 3200, name="first.tif")
    model.gate.clear()
    model.tiles_before_gate = 2
    dock.start()
    qtbot.waitUntil(lambda: dock.controller.last_progress is not None, timeout=WAIT)
    add_slide(name="second.tif")
    model.gate.set()
    qtbot.waitUntil(lambda: dock.run_panel.line.text().startswith("first.tif · "), timeout=WAIT)
    qtbot.waitUntil(lambda: not dock.is_running, timeout=WAIT)


def test_a_mask_of_a_slide_that_is_not_shown_stays_hidden(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    first = add_slide(name="first.tif")
    add_slide(name="second.tif")
    dock.slides.choose(0)
    dock.start()
    dock.slides.choose(1)  # while the model is loaded
    qtbot.waitUntil(lambda: not dock.is_running, timeout=WAIT)
    (view,) = mask_views(dock._viewer)
    assert view.slide is first
    assert seen(dock) == {"second"}
    assert dock.slides.slide.path.name == "second.tif"
    assert dock._viewer.layers.selection.active.name == "second"
    dock.slides.choose(0)
    assert seen(dock) == {"first", view.layer.name}


def test_the_scale_bar_has_the_unit_of_the_slide_shown(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    def units() -> set[str]:
        found = dock._viewer.layers.extent.units
        return set() if found is None else {str(unit) for unit in found}

    add_slide(name="known.tif")
    generate(dock, qtbot)
    mask = dock.view.layer  # type: ignore[union-attr]
    add_slide(name="unknown.tif", mpp=None)
    assert units() == {"pixel"}
    assert dock.slides.um_per_screen_pixel is None
    dock.slides.choose(0)
    assert units() == {"micrometer"}
    assert {str(unit) for unit in mask.units} == {"micrometer"}
    dock.slides.choose(1)
    assert units() == {"pixel"}
    dock._on_mpp(0.5)
    assert units() == {"micrometer"}
    dock.slides.choose(0)
    assert units() == {"micrometer"}
    assert np.allclose(mask.scale, dock.view.placement()["scale"])  # type: ignore[union-attr]


def test_areas_are_in_pixels_where_there_is_no_size() -> None:
    from napari_plimseg._widgets.common import measure_areas
    from tests.support.masks import info_for

    mask = np.full((10, 10), 1, np.uint8)
    rows, unit = measure_areas(mask, info_for(mask, mpp=None), 1)
    assert (rows[0].area, unit) == ("100", "px")


def test_the_results_of_a_slide_are_listed_opened_and_deleted(
    dock: PlimsegDock,
    add_slide: Callable,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = dock.slide_section.history
    assert not history.isEnabled()
    add_slide()
    history.list_results()
    assert [a.text() for a in history.menu_of_results.actions()] == ["No result yet"]
    generate(dock, qtbot)
    first = dock.view.store.path  # type: ignore[union-attr]
    dock.class_list.table.item(0, 2).setText("violet")  # other words: another result
    generate(dock, qtbot)
    second = dock.view.store.path  # type: ignore[union-attr]
    assert first != second
    history.list_results()
    titles = [action.text() for action in history.menu_of_results.actions()]
    assert len(titles) == 2
    assert all(title.startswith("color · ") for title in titles)
    assert [title.endswith("shown") for title in titles].count(True) == 1
    other = next(a for a in history.menu_of_results.actions() if not a.text().endswith("shown"))
    other.menu().actions()[0].trigger()
    qtbot.waitUntil(lambda: dock.view.store.path == first, timeout=WAIT)  # type: ignore[union-attr]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Discard)
    history.ask_and_delete(second, "the second")
    assert not second.exists()
    assert [view.store.path for view in mask_views(dock._viewer)] == [first]
    assert f"Deleted {second.name}." in dock.banner.text


def test_a_result_is_recomputed_from_the_list(
    dock: PlimsegDock,
    add_slide: Callable,
    model: fakes.ColorModel,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = dock.slide_section.history
    add_slide()
    generate(dock, qtbot)
    first = dock.view
    dock.class_list.table.item(0, 2).setText("violet")
    generate(dock, qtbot)
    history.list_results()
    other = next(a for a in history.menu_of_results.actions() if not a.text().endswith("shown"))
    (again,) = (action for action in other.menu().actions() if action.text() == "Recompute")
    seen_before = model.seen
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        again.trigger()
    assert dock.view is first
    assert model.seen > seen_before
    assert list(model.classes.names) == ["purple", "pink", "background"]
    monkeypatch.setattr(type(dock.state), "why_not", lambda self, control: f"no {control}")
    dock.recompute()
    assert dock.banner.text == "no generate"
    dock.mask_classes._follows = False
    dock.recompute()
    assert "another model or other classes" in dock.banner.text


def test_the_status_bar_shows_magnification_and_micrometers(
    dock: PlimsegDock, add_slide: Callable
) -> None:
    add_slide()
    get_camera(dock._viewer).zoom = 1.25  # of a micrometer: 0.8 um per pixel of the screen
    dock._viewer.cursor.position = (300.0, 1200.0)
    assert dock.cursor_status.text == "12.5x · x 1,200 y 300 µm"
    add_slide(name="unknown.tif", mpp=None)
    dock._viewer.cursor.position = (30.0, 120.0)
    assert dock.cursor_status.text == ""


@pytest.mark.parametrize("moved", [False, True])
def test_a_slide_that_was_there_before_the_dock_is_fitted_unless_the_view_was_moved(
    make_napari_viewer_proxy: Callable,
    model: fakes.ColorModel,
    qtbot,  # type: ignore[no-untyped-def]
    moved: bool,
) -> None:
    from napari_plimseg._sample_data import cmu_1_small_region

    viewer = make_napari_viewer_proxy(show=True)
    data, facts, _ = cmu_1_small_region()[0]
    layer = viewer.add_image(data, **facts)
    camera = get_camera(viewer)
    camera.zoom = 20 * camera.zoom  # as before the window has its size
    if moved:
        camera.center = (100.0, 100.0)
    zoom, height = camera.zoom, float(np.ptp(layer.extent.world[:, 0]))
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    qtbot.waitUntil(lambda: dock.slide_section._has_appeared, timeout=WAIT)
    qtbot.wait(500)
    if moved:
        assert camera.zoom == zoom
    else:
        from napari_plimseg._widgets.viewer.napari_private import canvas_size

        assert 0.5 < height * camera.zoom / canvas_size(viewer)[0] <= 1
    layer.metadata["plimseg_slide"].close()
