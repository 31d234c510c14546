#!/usr/bin/env python3
"""Measure how long napari's window freezes during inference, training and painting.

Usage: python benchmarks/event_loop.py [--slide FILE] [--seconds N] [--phases idle run ...]

Without a screen: scripts/with_screen.sh python benchmarks/event_loop.py
A timer ticks every 5 ms in the event loop of a real napari. The output is the longest time between
two ticks, the 99th percentile, the longest time in which the main thread itself was busy ("own
work": on a busy machine the rest is other programs), and the stack of the main thread in the
longest gap. "idle" and "look" are baselines: the same window with nothing to do, and the same
zooming as in "zoom" without the engine. On a quiet machine the longest gap should stay under
100 ms and the 99th percentile under 30 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

TICK_MS = 5
_LOOK_SECONDS = 0.004
_WORTH_A_LOOK = 0.03
SAMPLE = Path(__file__).parents[1] / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"


class Gaps:
    """Ticks of the event loop, and a thread that samples the main thread's stack in between."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.name = ""
        self.gaps: dict[str, list[tuple[float, float]]] = {}
        self.stacks: dict[str, tuple[float, list[str]]] = {}
        self._last = time.perf_counter(), time.thread_time()
        self._main = threading.get_ident()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def begin(self, name: str) -> None:
        self.name = name
        self.gaps[name] = []
        self.stacks[name] = (0.0, [])
        self._last = time.perf_counter(), time.thread_time()

    def end(self) -> None:
        self._ended.set()
        self._watcher.join()
        self._timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter(), time.thread_time()
        if self.name:
            self.gaps[self.name].append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            gap, name = time.perf_counter() - self._last[0], self.name
            if name and gap > max(_WORTH_A_LOOK, self.stacks[name][0]):
                self.stacks[name] = (gap, _places(self._main))


def _places(thread: int) -> list[str]:
    """Return a thread's stack as text, without keeping references to it.

    A frame keeps what its function made: a QPainter that outlives its paintEvent ends the program.
    """
    frame: FrameType | None = sys._current_frames().get(thread)
    places = []
    while frame is not None:
        places.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    named = [f"{Path(file).name}:{line} {function}" for file, line, function in reversed(places)]
    return [place for place in named if not place.startswith("event_loop.py")][-7:]


def tagged_folder(folder: Path) -> Path:
    """Cut tagged patches from the sample slide for a training."""
    from PIL import Image

    from napari_plimseg.slides import Region, open_slide

    folder.mkdir()
    lines = ["file,epithelium,stroma"]
    with open_slide(SAMPLE) as slide:
        height, width = slide.shape
        for number in range(24):
            y, x = divmod(number, 6)
            place = Region(y * (height - 448) / 3, x * (width - 448) / 5, 448, 448)
            Image.fromarray(slide.read(place, slide.mpp)).save(folder / f"{number}.png")
            lines.append(f"{number}.png,{number % 2},{1 - number % 2}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")
    return folder


class Story:
    """A napari with docks, and the phases of the benchmark."""

    def __init__(self, slide: Path, folder: Path, gaps: Gaps) -> None:
        import napari

        from napari_plimseg._widgets.generate import PlimsegDock

        self.slide, self.folder, self.gaps = slide, folder, gaps
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1366, 768)
        self.dock = PlimsegDock(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="PLIMSeg", area="right")

    def spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        from qtpy.QtCore import QEventLoop, QTimer

        loop, end = QEventLoop(), time.monotonic() + seconds
        watch = QTimer()

        def look() -> None:
            if until() or time.monotonic() > end:
                loop.quit()

        watch.timeout.connect(look)
        watch.start(20)
        loop.exec()
        watch.stop()

    def idle(self, seconds: float) -> None:
        self.spin(seconds)

    def open(self, seconds: float) -> None:
        self.dock.open_slide(str(self.slide))
        self.spin(seconds)
        if self.dock.slides.slide.mpp is None:
            self.dock.slide_section.mpp_row.typed.emit(0.5)

    def first(self, seconds: float) -> None:
        """Press *Generate* the first time: model, store and layers, until the first tile."""
        self.dock.start()
        controller = self.dock.controller
        self.spin(180, lambda: getattr(controller.last_progress, "tiles_done", 0) > 0)

    def run(self, seconds: float) -> None:
        """Let the mask grow."""
        self.started()
        self.spin(seconds, lambda: not self.dock.controller.is_running)

    def zoom(self, seconds: float) -> None:
        """Zoom and pan while the mask grows."""
        self.started()
        self.look_around(seconds, lambda: self.dock.controller.is_running)

    def look(self, seconds: float) -> None:
        """Zoom and pan without the engine, as the baseline of drawing."""
        self.look_around(seconds, lambda: True)

    def started(self) -> None:
        if not self.dock.controller.is_running:
            self.dock.start()

    def stopped(self) -> None:
        if self.dock.controller.is_running:
            self.dock.cancel()
            self.spin(60, lambda: not self.dock.controller.is_running)

    def look_around(self, seconds: float, while_: Callable[[], bool]) -> None:
        camera = getattr(self.viewer, "scene", self.viewer).camera
        end = time.monotonic() + seconds
        while while_() and time.monotonic() < end:
            self.spin(1.0)
            camera.zoom *= 1.3 if camera.zoom < 2 else 0.3

    def paint(self, seconds: float) -> None:
        view = self.dock.view
        assert view is not None
        layer, rng = view.layer, np.random.default_rng(0)
        place = np.array(layer.data.shape) / 2
        layer.brush_size = 40
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with layer.block_history():
                for _ in range(20):
                    step = np.clip(place + rng.integers(-15, 16, 2), 30, np.array(layer.data.shape))
                    layer._draw(1 + int(rng.integers(3)), place, step)
                    place = step
                    self.spin(0.02)
            self.spin(0.2)

    def train(self, seconds: float) -> None:
        from napari_plimseg._widgets.train import TrainDock

        dock = TrainDock(self.viewer)
        self.viewer.window.add_dock_widget(dock, name="PLIMSeg Train", area="right", tabify=True)
        dock.choose_folder(tagged_folder(self.folder / "patches"))
        self.spin(180, lambda: not dock.state.checking)
        dock.folder_section.mpp_edit.setText("0.5")
        dock.folder_section.mpp_edit.editingFinished.emit()
        dock.setup.efforts["quick"].setChecked(True)
        dock.start()
        if dock.process is None:
            sys.exit(f"the training does not start: {dock.banner.text} {dock.panel.line.text()}")
        self.spin(180, lambda: bool(dock.process.history.losses) or not dock.state.is_training)
        self.spin(seconds, lambda: not dock.state.is_training)
        dock.process.kill()
        self.spin(10, lambda: not dock.state.is_training)


PHASES = ("open", "idle", "first", "run", "zoom", "look", "paint", "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, default=SAMPLE)
    parser.add_argument("--seconds", type=float, default=10, help="duration of each phase")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLIMSEG_DATA_DIR"] = folder
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    from napari._qt.qt_event_loop import get_qapp

    application = get_qapp()
    gaps = Gaps()
    story = Story(options.slide, folder, gaps)
    story.spin(2)
    for name in options.phases:
        gaps.name = ""
        if name not in ("run", "zoom"):
            story.stopped()  # between phases, so that stopping counts in none of them
        gaps.begin(name)
        getattr(story, name)(options.seconds)
    gaps.name = ""
    gaps.end()
    story.stopped()
    story.viewer.close()
    application.processEvents()
    print("\n".join(report(gaps)))


def report(gaps: Gaps) -> Iterator[str]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    yield f"milliseconds; load of the machine {load:.1f} on {os.cpu_count()} cores"
    yield f"{'':8}{'ticks':>8}{'p99':>9}{'longest':>9}{'own work: p99':>15}{'longest':>9}"
    for name, ticks in gaps.gaps.items():
        wall, work = (1000 * np.array([t[i] for t in ticks]) for i in (0, 1))
        yield (
            f"{name:8}{len(ticks):8,d}{np.quantile(wall, 0.99):9.1f}{wall.max():9.1f}"
            f"{np.quantile(work, 0.99):15.1f}{work.max():9.1f}"
        )
    for name, (gap, places) in gaps.stacks.items():
        if places:
            yield f"\n{name}: where the main thread was in a gap of {1000 * gap:.0f} ms or more"
            yield from (f"  {place}" for place in places)


if __name__ == "__main__":
    main()
