"""Keys and drags on any layer of the plugin act on the mask; slides and masks stay in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_plimseg._widgets.viewer.layer_guard import LEGEND_COLORS, STAYS
from napari_plimseg._widgets.viewer.mask_keys import HIDDEN_MASK, NO_MASK_HERE, SEVERAL_SLIDES
from napari_plimseg._widgets.viewer.mask_layer import label_colors, show_tissue
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg._widgets.viewer.regions import add_region_layer
from napari_plimseg.slides.tissue_mask import tissue_mask
from tests.support import widgets as fakes
from tests.support.review import Review

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image, Layer

    from napari_plimseg._widgets.generate.dock import PlimsegDock

pytestmark = pytest.mark.gui


class WithSlide(Review):
    """The dock with the layer of the slide, too."""

    def __init__(self, viewer, folder: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
        super().__init__(viewer, folder, qtbot)
        self.slide_layer: Image = unwrapped(
            viewer.add_image(
                [self.slide.pixels, self.slide.pixels[::4, ::4]],
                rgb=True,
                multiscale=True,
                scale=(0.5, 0.5),
                units=("um", "um"),
                metadata={"plimseg_slide": self.slide},
            )
        )
        self.viewer.layers.move(self.viewer.layers.index(self.slide_layer), 0)
        self.select(self.slide_layer)

    def select(self, layer: Layer) -> None:
        self.viewer.layers.selection.active = layer

    def press(self, *keys: Qt.Key, **options) -> None:  # type: ignore[no-untyped-def]
        for key in keys:
            self.qtbot.keyClick(self.canvas, key, **options)

    @property
    def drag_moves_view(self) -> bool:
        # vispy's camera needs a graphics card to find what was dragged
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        return bool(camera.mouse_pan)


@pytest.fixture
def review(make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot):  # type: ignore[no-untyped-def]
    made = WithSlide(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    yield made
    made.wait_done()


def places(layer: Layer) -> list[np.ndarray]:
    return [np.asarray(layer.affine), np.asarray(layer.scale), np.asarray(layer.translate)]


DRAG = [(60, 30), (60, 60), (80, 90)]


def test_no_digit_and_drag_moves_a_layer(review: WithSlide) -> None:
    panel = review.dock.inspect.show_panel
    panel.uncertainty.click()
    review.qtbot.waitUntil(lambda: panel.overlay is not None)
    layers = [review.slide_layer, review.view.layer, panel.overlay.layer]
    before = [places(one) for one in layers]
    for layer in layers:
        for key in (Qt.Key.Key_2, Qt.Key.Key_7):
            review.select(layer)
            review.press(key)
            review.drag(DRAG)
            for one, known in zip(layers, before, strict=True):
                assert str(one.mode) != "transform"
                for now, was in zip(places(one), known, strict=True):
                    np.testing.assert_allclose(now, was)
            assert review.layer.selected_label == 2
        assert review.dock.banner.text == "This mask has no class 7."
        review.dock.banner.hide()


def test_keys_and_strokes_act_on_the_mask_while_several_layers_are_selected(
    review: WithSlide,
) -> None:
    layers = review.viewer.layers
    layers.selection = {review.slide_layer, review.view.layer}
    assert layers.selection.active is None
    review.press(Qt.Key.Key_2)
    assert review.layer.selected_label == 2
    layers.selection = {review.slide_layer, review.view.layer}
    review.press(Qt.Key.Key_B)
    assert str(review.layer.mode) == "paint"
    layers.selection = {review.slide_layer, review.view.layer}
    before = review.layer.data.copy()
    review.drag(DRAG)
    assert (review.layer.data != before).any()
    layers.selection.clear()
    review.press(Qt.Key.Key_1)
    assert review.layer.selected_label == 1
    foreign = review.viewer.add_image(np.zeros((4, 4)))
    layers.selection = {foreign}
    review.press(Qt.Key.Key_2)
    assert review.layer.selected_label == 1  # not ours to decide


def test_layers_of_several_slides_get_no_keys_and_it_is_said(
    review: WithSlide, tmp_path: Path
) -> None:
    other = fakes.ArraySlide(tmp_path / "other.tif", fakes.tissue_pixels(400, 400), 0.5)
    layer = review.viewer.add_image(
        other.pixels, rgb=True, scale=(0.5, 0.5), metadata={"plimseg_slide": other}
    )
    review.layer.selected_label = 3
    review.viewer.layers.selection = {layer, review.view.layer}
    review.press(Qt.Key.Key_2)
    assert review.layer.selected_label == 3
    assert review.dock.banner.text == SEVERAL_SLIDES
    layer.visible = False
    review.press(Qt.Key.Key_2)
    assert review.layer.selected_label == 2  # the one that is seen


def test_napari_s_transform_tool_is_refused(review: WithSlide) -> None:
    for layer in (review.slide_layer, review.view.layer):
        review.select(layer)
        refuses_to_move(review, layer)


def refuses_to_move(review: WithSlide, layer: Layer) -> None:
    before = places(layer)
    layer.mode = "transform"
    assert str(layer.mode) == "pan_zoom"
    assert review.dock.banner.text == STAYS
    review.dock.banner.hide()
    for name, value in (
        ("affine", [[1, 0, 19], [0, 1, 48], [0, 0, 1]]),
        ("translate", (3.0, 4.0)),
        ("scale", (2.0, 2.0)),
        ("rotate", 5.0),
    ):
        setattr(layer, name, value)  # as napari's menu pastes it from another layer
        assert review.dock.banner.text == STAYS, name
        review.dock.banner.hide()
        np.testing.assert_allclose(np.asarray(layer.rotate), np.eye(2))
        for now, was in zip(places(layer), before, strict=True):
            np.testing.assert_allclose(now, was)


def test_another_pixel_size_is_no_move(review: WithSlide) -> None:
    review.slide.mpp = 0.25
    review.slide_layer.scale = (0.25, 0.25)
    review.view.set_mpp(0.25)
    np.testing.assert_allclose(review.slide_layer.scale, 0.25)
    np.testing.assert_allclose(review.view.layer.scale, 2.0)
    assert review.dock.banner.text == ""


def test_keys_on_every_layer_act_on_the_mask(review: WithSlide) -> None:
    show_tissue(review.viewer, review.slide_layer, tissue_mask(review.slide), "tissue")
    review.dock.inspect.show_panel.outlines.click()
    regions = add_region_layer(review.viewer, review.slide_layer)
    regions.add_rectangles(np.array([[10, 10], [10, 90], [90, 90], [90, 10]]))
    mask = review.view.layer
    keys = Qt.Key
    for layer in [one for one in review.viewer.layers if one is not mask]:
        drawn = len(regions.data)
        for key, mode in (
            (keys.Key_B, "paint"),
            (keys.Key_E, "erase"),
            (keys.Key_F, "fill"),
            (keys.Key_G, "polygon"),
        ):
            review.select(layer)
            review.press(key)
            assert mask.mode == mode, layer.name
            assert review.viewer.layers.selection.active is mask
        for key, mask_id in ((keys.Key_3, 3), (keys.Key_1, 1), (keys.Key_2, 2)):
            review.select(layer)
            review.press(key)
            assert mask.selected_label == mask_id, layer.name
        assert len(regions.data) == drawn
    review.select(review.slide_layer)
    review.press(keys.Key_L)
    assert mask.mode == "pick"
    review.select(review.slide_layer)
    review.press(keys.Key_Z)
    assert mask.mode == "pan_zoom"
    review.select(review.slide_layer)
    review.press(keys.Key_O)
    assert not review.dock.inspect.show_panel.outlines.isChecked()


def test_a_drag_on_the_slide_paints_while_a_tool_is_pressed(review: WithSlide) -> None:
    review.correct.choose_class(2)
    review.correct.choose_tool("brush")
    review.select(review.slide_layer)
    assert review.correct.controls.tools["brush"].isChecked()
    review.drag(DRAG)
    changed = review.view.layer.data != review.model
    assert changed.any()
    assert (review.view.layer.data[changed] == 2).all()
    assert not review.drag_moves_view
    review.select(review.slide_layer)
    review.press(Qt.Key.Key_Z, modifier=Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(review.view.layer.data, review.model)


def test_without_a_tool_a_drag_on_the_slide_moves_the_view(review: WithSlide) -> None:
    review.drag(DRAG)
    assert review.drag_moves_view
    np.testing.assert_array_equal(review.view.layer.data, review.model)
    assert review.viewer.layers.selection.active is review.slide_layer


def test_space_moves_the_view_though_a_tool_is_pressed(review: WithSlide) -> None:
    review.correct.choose_tool("brush")
    review.select(review.slide_layer)
    review.qtbot.keyPress(review.canvas, Qt.Key.Key_Space)
    review.drag(DRAG)
    assert review.drag_moves_view
    review.qtbot.keyRelease(review.canvas, Qt.Key.Key_Space)
    np.testing.assert_array_equal(review.view.layer.data, review.model)
    assert review.view.layer.mode == "paint"


def test_a_hidden_mask_is_no_target(review: WithSlide) -> None:
    review.correct.choose_tool("brush")
    review.view.layer.visible = False  # napari takes its tool away
    review.select(review.slide_layer)
    assert review.correct.controls.tools["move"].isChecked()
    review.drag(DRAG)
    assert review.dock.banner.text == ""
    review.view.layer.cursor = "cross"  # a tool that waits for a click
    review.drag(DRAG)
    assert review.dock.banner.text == HIDDEN_MASK
    np.testing.assert_array_equal(review.view.layer.data, review.model)


def test_a_smart_select_click_on_the_slide_goes_to_the_mask(review: WithSlide) -> None:
    review.view.layer.cursor = "cross"  # what a tool that waits for a click sets
    review.select(review.slide_layer)
    review.click(60, 60)
    assert review.viewer.layers.selection.active is review.view.layer


def test_shuffled_colors_come_back(review: WithSlide) -> None:
    review.dock.inspect.show_panel.outlines.click()
    layer = review.view.layer
    review.select(layer)
    layer.new_colormap()  # what napari's button calls
    assert review.dock.banner.text == LEGEND_COLORS
    for mask_id, color in label_colors(fakes.CLASSES).items():
        np.testing.assert_allclose(layer.colormap.color_dict[mask_id], color)
    review.view.hide_classes({"pink"})  # the plugin's own change
    assert layer.colormap.color_dict[2][3] == 0
    layer.new_colormap()
    assert layer.colormap.color_dict[2][3] == 0


def test_without_a_mask_and_without_the_review_dock(dock: PlimsegDock, add_slide, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    viewer = unwrapped(dock._viewer)
    layer = viewer.layers[0]
    viewer.layers.selection.active = layer
    viewer.window._qt_viewer.canvas._key_map_handler.press_key("2")
    assert str(layer.mode) == "pan_zoom"
    assert dock.banner.text == NO_MASK_HERE
    layer.mode = "transform"
    assert str(layer.mode) == "pan_zoom"
    assert dock.banner.text == STAYS
