"""The map in the corner of the window: where the view is, and going elsewhere with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QPoint, Qt

from napari_plimseg._widgets.viewer import get_camera
from napari_plimseg._widgets.viewer.overview import LONGEST_SIDE, SMALL_SIDE, Overview, is_small

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.generate.dock import PlimsegDock

WAIT = 20_000
MAP = Overview.of(-0.5, -0.5, 999.5, 1999.5)


def test_the_map_has_the_shape_of_the_slide() -> None:
    assert (MAP.height, MAP.width) == (LONGEST_SIDE // 2, LONGEST_SIDE)
    assert Overview.of(0, 0, 5000, 1).width == 1  # a line, and no error


@pytest.mark.parametrize(
    ("center", "zoom", "window", "expected"),
    [
        ((499.5, 999.5), 0.5, (500, 1000), (0, 0, 90, 180)),  # all of it
        ((499.5, 999.5), 1.0, (500, 1000), (22.5, 45, 45, 90)),  # the middle
        ((-0.5, -0.5), 1.0, (500, 1000), (0, 0, 22.5, 45)),  # the corner
        ((499.5, 999.5), 100.0, (500, 1000), (42.5, 87.5, 5, 5)),  # too small to see otherwise
        ((-900.0, 9000.0), 1.0, (500, 1000), (0, 175, 5, 5)),  # beside the slide: at its edge
    ],
)
def test_the_box_is_what_the_window_shows(
    center: tuple[float, float], zoom: float, window: tuple[int, int], expected: tuple[float, ...]
) -> None:
    assert MAP.box(center, zoom, window) == pytest.approx(expected, abs=0.01)


def test_a_place_on_the_map_is_one_on_the_slide() -> None:
    assert MAP.place(45, 90) == pytest.approx((499.5, 999.5))
    assert MAP.place(-10, 500) == pytest.approx((-0.5, 1999.5))  # dragged beyond the edge
    y, x, height, width = MAP.box((100.0, 300.0), 2.0, (300, 400))
    assert MAP.place(y + height / 2, x + width / 2) == pytest.approx((100.0, 300.0))


def test_small_slides_and_small_windows_have_no_map() -> None:
    assert is_small((SMALL_SIDE, SMALL_SIDE))
    assert not is_small((100, SMALL_SIDE + 1))
    assert MAP.fits((300, 600))
    assert not MAP.fits((200, 600))


@pytest.mark.gui
def test_the_map_follows_the_view_and_moves_it(
    dock: PlimsegDock, add_slide: Callable, qtbot: Any
) -> None:
    viewer, shown = dock._viewer, dock.overview.map
    assert shown is not None
    viewer.window.resize(1400, 900)
    add_slide(1200, 1600, name="small.tif")
    add_slide(2000, 5000, name="large.tif")
    qtbot.waitUntil(lambda: shown.isVisibleTo(shown.parentWidget()), timeout=WAIT)
    assert shown.geometry().right() < shown.parentWidget().width()
    camera = get_camera(viewer)
    camera.zoom = 4.0
    qtbot.mouseClick(shown, Qt.MouseButton.LeftButton, pos=QPoint(shown.width() // 4, 10))
    assert camera.center[-2:] == pytest.approx(
        (1000 * 10.5 / shown.height(), 2500 / 4), abs=2500 / shown.width()
    )
    y, x, height, width = shown.box
    assert (y + height / 2, x + width / 2) == pytest.approx((10, shown.width() / 4), abs=1)
    qtbot.mousePress(shown, Qt.MouseButton.LeftButton, pos=QPoint(20, 20))
    assert camera.center[-1] == pytest.approx(2500 * 20 / shown.width(), abs=10)
    picture = shown.grab().toImage()
    row = round(shown.box[0] + shown.box[2] / 2)
    colors = {picture.pixelColor(x, row).name() for x in range(shown.width())}
    assert "#ffe000" in colors  # the frame
    assert "#78288c" in colors  # tissue in view, and elsewhere in the shade
    assert len(colors) > 3
    box = shown.box
    camera.zoom = 8.0
    assert shown.box[3] < box[3]
    dock.slides.choose(0)
    assert not shown.isVisibleTo(shown.parentWidget())  # small
    dock.slides.choose(1)
    assert shown.isVisibleTo(shown.parentWidget())
    dock.settings_form.controls["overview_map"].setChecked(False)
    assert not shown.isVisibleTo(shown.parentWidget())
    dock.settings_form.controls["overview_map"].setChecked(True)
    assert shown.isVisibleTo(shown.parentWidget())
    viewer.window.remove_dock_widget(dock)
    dock.close()
    dock.deleteLater()
    gone: list[bool] = []
    shown.destroyed.connect(lambda *_: gone.append(True))
    qtbot.waitUntil(lambda: bool(gone), timeout=WAIT)
