"""A window or dock that closes in mid-run leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.generate.dock import PlimsegDock
    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
WAIT = 30_000


def job_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("plimseg")]


def start_and_wait_for_a_tile(dock: PlimsegDock, model: fakes.ColorModel, qtbot) -> None:  # type: ignore[no-untyped-def]
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)
    model.gate.clear()
    model.tiles_before_gate = 3
    dock.start()
    qtbot.waitUntil(
        lambda: (
            dock.controller.last_progress is not None
            and dock.controller.last_progress.tiles_done >= 1
        ),
        timeout=WAIT,
    )


def test_dock_removed_in_mid_run(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    start_and_wait_for_a_tile(dock, model, qtbot)
    viewer = dock._viewer
    gone: list[bool] = []
    dock.destroyed.connect(lambda *_: gone.append(True))
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.waitUntil(lambda: bool(gone), timeout=5000)
    model.gate.set()
    qtbot.waitUntil(lambda: not job_threads(), timeout=5000)
    # the viewer goes on without calling into the dock that is gone
    viewer.cursor.position = (10.0, 10.0)
    viewer.layers.selection.active = viewer.layers[0]
    viewer.theme = "light"
    del viewer.layers[-1]
    assert model.seen < 40


CLOSE_IN_MID_RUN = """
import sys, threading, time
from pathlib import Path
from tests.support import widgets as fakes
model = fakes.ColorModel()
for module, name, function in fakes.only_model(model):
    setattr(module, name, function)
import napari
from qtpy.QtCore import QTimer
from napari_plimseg._widgets.generate.dock import PlimsegDock

class Slow(fakes.ArraySlide):
    def _read_level(self, *where):
        time.sleep(0.05)
        return super()._read_level(*where)

viewer = napari.Viewer()
dock = PlimsegDock(viewer)
viewer.window.add_dock_widget(dock, name="PLIMSeg")
slide = Slow(Path(sys.argv[1]) / "slide.tif", fakes.tissue_pixels(6000, 8000), 0.5)
viewer.add_image(
    [slide.pixels, slide.pixels[::4, ::4]], multiscale=True, rgb=True,
    metadata={"plimseg_slide": slide},
)
dock.settings_form.controls["tile_size"].setCurrentIndex(0)
dock.start()
closed = []

def close(progress):
    if progress.tiles_done >= 2 and not closed:
        closed.append(time.monotonic())
        QTimer.singleShot(0, viewer.close)

dock.controller.progressed.connect(close)
del dock
napari.run()
while any(t.name.startswith("plimseg") for t in threading.enumerate()):
    time.sleep(0.02)
    if time.monotonic() - closed[0] > 5:
        sys.exit("a thread went on for five seconds after closing")
print("closed after", model.seen, "tiles")
"""


def test_window_closed_in_mid_run(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CLOSE_IN_MID_RUN, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Traceback" not in result.stderr
    assert "QThread" not in result.stderr
    tiles = int(result.stdout.split("closed after ")[1].split()[0])
    assert 2 <= tiles < 150


def test_a_finished_run_leaves_no_timer_and_no_thread(
    dock: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    from qtpy.QtCore import QTimer

    add_slide()
    with qtbot.waitSignal(dock.tools.measured, timeout=WAIT):
        dock.start()
    qtbot.waitUntil(lambda: not job_threads(), timeout=5000)
    # the one that looks whether another dock runs the engine stays
    timers = [timer for timer in dock.findChildren(QTimer) if timer.parent() is not dock.engine]
    qtbot.waitUntil(lambda: not any(timer.isActive() for timer in timers), timeout=5000)


WORK_AT_THE_END = """
import sys, time
import torch
from qtpy.QtCore import QCoreApplication, QObject
from napari_plimseg._widgets.common.background_job import BackgroundJob

application, parent = QCoreApplication([]), QObject()
started = []

def work():
    try:
        image, kernel = torch.rand(1, 64, 128, 128), torch.rand(64, 64, 3, 3)
        while True:
            image = torch.nn.functional.conv2d(image, kernel, padding=1).clamp(0, 1)
            started.append(1)
            yield 1
    finally:
        print("ended in order", flush=True)

for _ in range(2):
    BackgroundJob(parent).start(work)
while len(started) < 4:
    time.sleep(0.01)
"""


def test_a_script_that_ends_waits_for_its_threads() -> None:
    # without an event loop nothing tells the jobs to stop; torch in a thread that the interpreter
    # cuts off ends the process with "terminate called without an active exception"
    result = subprocess.run(
        [sys.executable, "-c", WORK_AT_THE_END],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr == ""
    # two threads write at once: a line may lie within the other, so only the count is certain
    assert result.stdout.count("ended in order") == 2
