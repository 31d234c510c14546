"""A mask steps back while maps of values are shown over it, and a bar explains their colors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg._widgets.viewer import value_layers
from napari_plimseg._widgets.viewer.mask_layer import BEHIND
from napari_plimseg._widgets.viewer.overlays import OverlayView
from tests.support.review import SHAPE, Review

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.gui


@pytest.fixture
def review(make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot) -> Review:  # type: ignore[no-untyped-def]
    return Review(make_napari_viewer_proxy(), tmp_path, qtbot)


def overlay(review: Review, title: str = "stroma") -> OverlayView:
    values = np.full(SHAPE, 255, np.uint8)
    values[0, 0] = 0
    return OverlayView(
        review.viewer, review.view, values, title=title, opacity=0.7, colormap="magma"
    )


def outlines(review: Review) -> list[str]:
    return [layer.name for layer in review.viewer.layers if layer.name.endswith("outlines")]


def test_the_mask_steps_back_and_comes_forward(review: Review) -> None:
    layers, mask = review.viewer.layers, review.view.layer
    mask.opacity = 0.6
    layers.selection.active = mask
    first = overlay(review)
    assert layers.index(first.layer) == layers.index(mask) - 1
    assert layers.selection.active is mask
    assert mask.opacity == pytest.approx(0.6 * BEHIND)
    assert len(outlines(review)) == 1
    second = overlay(review, "muscle")
    assert not first.layer.visible  # one map at a time
    assert mask.opacity == pytest.approx(0.6 * BEHIND)
    assert len(outlines(review)) == 1
    layers.remove(second.layer)
    assert mask.opacity == pytest.approx(0.6)
    assert not outlines(review)
    first.layer.visible = True
    assert mask.opacity == pytest.approx(0.6 * BEHIND)
    mask.visible = False
    assert not outlines(review)
    mask.visible = True
    assert len(outlines(review)) == 1
    layers.remove(first.layer)
    assert mask.opacity == pytest.approx(0.6)
    assert not outlines(review)


def test_an_opacity_chosen_meanwhile_stays(review: Review) -> None:
    layers, mask = review.viewer.layers, review.view.layer
    map_over = overlay(review)
    mask.opacity = 0.9  # in napari's controls
    layers.remove(map_over.layer)
    assert mask.opacity == pytest.approx(0.9)
    map_over = overlay(review)
    review.dock.inspect.show_panel.fill.setValue(40)  # of the mask in front
    assert mask.opacity == pytest.approx(0.4 * BEHIND)
    layers.remove(map_over.layer)
    assert mask.opacity == pytest.approx(0.4)


def test_outlines_follow_the_brush_and_the_slide(review: Review, qtbot) -> None:  # type: ignore[no-untyped-def]
    map_over = overlay(review)
    lines = review.view.maps.outlines.layer
    assert lines.metadata["plimseg_owner"] is review.slide
    before = lines.data.copy()
    review.view.layer.data_setitem((np.arange(40, 60), np.arange(40, 60)), 2)
    qtbot.waitUntil(lambda: not np.array_equal(lines.data, before), timeout=5000)
    review.viewer.layers.remove(map_over.layer)


def test_values_are_percent_and_napari_draws_their_bar(review: Review) -> None:
    layer = overlay(review).layer
    assert layer.name == "stroma, %"
    assert (layer.data.min(), layer.data.max()) == (0, 100)
    assert tuple(layer.contrast_limits) == (0, 100)
    assert layer.colorbar.visible
    assert value_layers.colors_of(layer) is None


def test_without_a_bar_of_napari_the_dock_has_one(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Image

    monkeypatch.setattr(Image, "colorbar", None)
    layer = overlay(review).layer
    assert not value_layers.show_color_bar(layer)
    found = value_layers.colors_of(layer)
    assert found is not None
    colors, low, high = found
    assert (low, high) == (0, 100)
    assert sum(colors[0]) < 0.1 < 2 < sum(colors[-1])  # magma
