"""What a slide gets in any window: with a dock, without one, and when one is opened later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager

from napari_plimseg._widgets.open_in_viewer import cmu_1_small_region, get_reader
from napari_plimseg._widgets.viewer import canvas_size, get_camera, get_scale_bar
from napari_plimseg._widgets.viewer.layer_guard import STAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
WAIT = 20_000


@pytest.fixture
def open_like_napari(
    make_napari_viewer_proxy: Callable, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Returns a function that opens a file as napari's command line does, without any dock."""
    viewer = make_napari_viewer_proxy(show=True)

    def read(name: str, height: int = 600, width: int = 900) -> Any:
        pixels = np.full((height, width, 3), 200, np.uint8)
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", resolution=(20_000, 20_000),
                         resolutionunit="CENTIMETER")  # fmt: skip
        reader = get_reader(str(tmp_path / name))
        assert reader is not None
        ((data, facts, _),) = reader(str(tmp_path / name))
        return viewer.add_image(data, **facts)

    read.viewer = viewer  # type: ignore[attr-defined]
    yield read
    for layer in viewer.layers:
        layer.metadata["plimseg_slide"].close()


def height_share(viewer: Any, layer: Any) -> float:
    height = float(np.ptp(layer.extent.world[:, 0]))
    return height * get_camera(viewer).zoom / canvas_size(viewer)[0]


def width_share(viewer: Any, layer: Any) -> float:
    width = float(np.ptp(layer.extent.world[:, 1]))
    return width * get_camera(viewer).zoom / canvas_size(viewer)[1]


def is_fitted(viewer: Any, layer: Any) -> bool:
    shares = height_share(viewer, layer), width_share(viewer, layer)
    return max(shares) == pytest.approx(0.95, abs=0.01)


def test_a_slide_without_a_dock_is_fitted_and_stays_in_place(
    open_like_napari: Callable[..., Any], qtbot: Any
) -> None:
    viewer = open_like_napari.viewer  # type: ignore[attr-defined]
    layer = open_like_napari("slide.tif")
    viewer.window.resize(1300, 500)  # as when the window opens after its slides
    assert layer.interpolation2d == "linear"
    assert get_scale_bar(viewer).visible
    qtbot.waitUntil(lambda: is_fitted(viewer, layer), timeout=WAIT)
    notification_manager.records.clear()
    layer.mode = "transform"
    assert str(layer.mode) == "pan_zoom"
    layer.affine = [[1, 0, 5], [0, 1, 7], [0, 0, 1]]
    assert np.array_equal(layer.affine.affine_matrix[-3:, -3:], np.eye(3))
    assert [record.message for record in notification_manager.records] == [STAYS, STAYS]
    get_scale_bar(viewer).visible = False
    second = open_like_napari("other.tif", 2400, 900)
    assert not get_scale_bar(viewer).visible  # it was switched off
    qtbot.waitUntil(lambda: is_fitted(viewer, second), timeout=WAIT)


def test_a_view_that_somebody_chose_stays(open_like_napari: Callable[..., Any], qtbot: Any) -> None:
    viewer = open_like_napari.viewer  # type: ignore[attr-defined]
    open_like_napari("slide.tif")
    get_camera(viewer).center = (10.0, 20.0)
    get_camera(viewer).zoom = 7.0
    open_like_napari("other.tif", 2400, 900)
    qtbot.wait(500)
    assert (*get_camera(viewer).center[-2:], get_camera(viewer).zoom) == (10.0, 20.0, 7.0)


def test_a_dock_opened_later_shows_the_messages_in_place_of_napari(
    open_like_napari: Callable[..., Any], model: fakes.ColorModel, qtbot: Any
) -> None:
    from napari_plimseg._widgets.generate.dock import PlimsegDock

    viewer = open_like_napari.viewer  # type: ignore[attr-defined]
    layer = open_like_napari("slide.tif")
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    assert dock.slides.slide is layer.metadata["plimseg_slide"]
    notification_manager.records.clear()
    layer.mode = "transform"
    assert dock.banner.text == STAYS
    assert not notification_manager.records
    qtbot.waitUntil(lambda: is_fitted(viewer, layer), timeout=WAIT)
    viewer.window.remove_dock_widget(dock)
    layer.mode = "transform"
    assert [record.message for record in notification_manager.records] == [STAYS]


def test_samples_of_the_menu_get_the_same(make_napari_viewer_proxy: Callable) -> None:
    viewer = make_napari_viewer_proxy()
    ((data, facts, _),) = cmu_1_small_region()
    layer = viewer.add_image(data, **facts)
    assert get_scale_bar(viewer).visible
    layer.mode = "transform"
    assert str(layer.mode) == "pan_zoom"
    layer.metadata["plimseg_slide"].close()
