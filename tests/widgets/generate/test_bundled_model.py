"""The dock with the sample slide and the model that ships with the package."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QTimer

from napari_plimseg._widgets.viewer.regions import REGION_LAYER, RunOn
from napari_plimseg.models.library import list_models

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.gui,
    pytest.mark.slow,
    pytest.mark.skipif(
        not list_models()[0].available, reason="the bundled weights are not in this checkout"
    ),
]
WAIT = 240_000


def test_a_drawn_region_of_the_sample(make_napari_viewer_proxy: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    from napari_plimseg._widgets.generate.dock import PlimsegDock

    viewer = make_napari_viewer_proxy()
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg")
    dock.opener.open_sample()
    dock.draw_region()
    shapes = viewer.layers[f"{REGION_LAYER} · {dock.slides.layer.name}"]
    shapes.add_rectangles(np.array([[1200, 900], [1200, 1300], [1600, 1300], [1600, 900]]))
    assert dock.run_on.choice is RunOn.SHAPES
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)
    ticks: list[float] = []
    timer = QTimer(dock)
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(20)
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT) as blocker:
        dock.start()
    timer.stop()
    assert blocker.args == [True], dock.banner.text
    view = dock.view
    info = view.info
    assert info.slide_name == "CMU-1-Small-Region.svs"
    rows, columns = np.nonzero(view.layer.data)
    inside = 400 / info.downsample
    assert rows.min() == pytest.approx(1200 / info.downsample, abs=1.5)
    assert columns.min() == pytest.approx(900 / info.downsample, abs=1.5)
    assert rows.max() - rows.min() + 1 == pytest.approx(inside, abs=1.5)
    assert set(np.unique(view.layer.data)) <= set(range(len(info.classes) + 1))
    assert len(ticks) > 10  # the window went on answering while the model worked
