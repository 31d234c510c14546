#!/usr/bin/env python3
"""Measure painting on the largest editable mask, in a real window of napari.

Usage: python benchmarks/painting.py [--side PIXELS] [--brush PIXELS] [--rounds N]

Without a screen: scripts/with_screen.sh python benchmarks/painting.py
Prints milliseconds: the main thread's work on one mouse event ("work"), and the time until the
window is drawn again ("with drawing"; without a graphics card the processor draws). A stroke
should stay under a median of 16 ms and undo under 50 ms. For operations on the whole mask, it
prints their duration and the longest freezes of the window, measured as in `event_loop.py`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from event_loop import Gaps

if TYPE_CHECKING:
    from collections.abc import Callable

DOWNSAMPLE = 4.0
CLASSES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=16_384)
    parser.add_argument("--brush", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--places", action="store_true", help="print the main thread's stack in the longest gaps"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLIMSEG_DATA_DIR"] = folder
        measure(options, Path(folder))


def made_mask(side: int) -> np.ndarray:
    """Return blobs of some classes, uint8 (side, side)."""
    from scipy import ndimage

    small = ndimage.gaussian_filter(np.random.default_rng(0).random((side // 16, side // 16)), 6)
    edges = np.quantile(small, np.linspace(0, 1, CLASSES + 1)[1:-1])
    coarse = (np.digitize(small, edges) + 1).astype(np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)


def opened(viewer: Any, mask: np.ndarray, folder: Path) -> Any:
    """Return a mask view of a store without any written tile."""
    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import MaskInfo, MaskStore, StoreLayout
    from napari_plimseg.slides import Region
    from napari_plimseg.tissue import COLORECTAL

    side = mask.shape[0]
    level_0 = round(side * DOWNSAMPLE)
    info = MaskInfo(
        slide_name="made.svs",
        slide_fingerprint="0" * 64,
        slide_shape=(level_0, level_0),
        bounds=Region(0, 0, level_0, level_0),
        mpp=0.5,
        shape=mask.shape,
        downsample=DOWNSAMPLE,
        classes=COLORECTAL,
    )
    store = MaskStore.create(folder / "made.plimseg", info, StoreLayout((512, 512), 1, False, "-"))
    return MaskView(viewer, None, store, mask, COLORECTAL, slide_stem="made")


def measure(options: argparse.Namespace, folder: Path) -> None:
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_plimseg._widgets.review import ReviewDock
    from napari_plimseg.slides import TissueMask

    viewer = napari.Viewer()
    viewer.window.resize(1366, 768)
    dock = ReviewDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg Review", area="right")
    mask = made_mask(options.side)
    view = opened(viewer, mask, folder)
    viewer.reset_view()

    def settle(until: Callable[[], bool] = lambda: False, seconds: float = 1.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            QApplication.processEvents()
            time.sleep(0.002)

    settle(lambda: dock.correct.target is not None, 60)
    settle()
    layer, correct = view.layer, dock.correct
    painter = correct.painter
    layer.brush_size = options.brush
    layer.mode = "paint"
    scene = getattr(viewer, "scene", viewer)
    center = options.side // 2
    scene.camera.zoom = 1 / layer.scale[0]  # one mask pixel per screen pixel
    scene.camera.center = layer.data_to_world((center, center))
    settle()
    rng = np.random.default_rng(1)
    canvas = viewer.window._qt_viewer.canvas

    def timed(act: Callable[[], Any]) -> tuple[float, float]:
        begin = time.perf_counter()
        act()
        work = time.perf_counter() - begin
        canvas.native.repaint()
        QApplication.processEvents()
        return 1000 * work, 1000 * (time.perf_counter() - begin)

    rows: list[tuple[str, list[tuple[float, float]]]] = []

    def strokes(name: str) -> None:
        times, undos = [], []
        for number in range(options.rounds):
            place = center + rng.integers(-150, 150, 2)
            with layer.block_history():
                for _ in range(4):
                    step = place + rng.integers(-40, 40, 2)
                    act = lambda a=place, b=step, n=number: layer._draw(1 + n % CLASSES, a, b)  # noqa: E731
                    times.append(timed(act))
                    place = step
            undos.append(timed(layer.undo))
            settle(seconds=0.0)
        rows.append((f"piece of a stroke, {name}", times))
        rows.append((f"undo of a stroke, {name}", undos))

    rows.append(("nothing changes", [timed(lambda: None) for _ in range(options.rounds)]))
    strokes("no limits")
    tissue = np.ones((1024, 1024), np.bool_)
    tissue[:, 512:515] = False
    painter.tissue = TissueMask(tissue, options.side * DOWNSAMPLE / 1024)
    painter.only_tissue, painter.protected = True, frozenset({2})
    strokes("tissue only, a class protected")
    painter.only_tissue, painter.protected = False, frozenset()

    print(f"mask {options.side:,} x {options.side:,}, brush {options.brush}; milliseconds")
    print(f"{'':48} {'work':>8} {'p95':>8} {'with drawing':>13} {'p95':>8}")
    for name, times in rows:
        work, drawn = ([t[i] for t in times] for i in (0, 1))
        print(
            f"{name:48} {statistics.median(work):8.1f} {np.quantile(work, 0.95):8.1f} "
            f"{statistics.median(drawn):13.1f} {np.quantile(drawn, 0.95):8.1f}"
        )
    whole_mask(options, viewer, dock, view, settle)
    viewer.close()


def whole_mask(
    options: argparse.Namespace, viewer: Any, dock: Any, view: Any, settle: Callable[..., None]
) -> None:
    """Time operations on large parts of the mask, and the window's freezes."""
    from napari_plimseg._widgets.review import CleanupOperation

    layer, correct = view.layer, dock.correct
    rng = np.random.default_rng(2)
    gaps = Gaps()
    rows: list[tuple[str, float, float]] = []

    def phase(name: str, act: Callable[[], Any], until: Callable[[], bool]) -> None:
        settle()
        gaps.begin(name)
        begin = time.perf_counter()
        act()
        work = time.perf_counter() - begin
        settle(until, 600)
        rows.append((name, 1000 * work, 1000 * (time.perf_counter() - begin)))
        settle(lambda: view.recorder.is_saved, 60)
        gaps.name = ""

    def idle() -> bool:
        return not correct.is_working

    def fill() -> None:
        places = rng.integers(0, options.side, (1000, 2))
        y, x = next(place for place in places if layer.data[tuple(place)] == 2)
        layer.fill((y, x), 5)

    layer.data[layer.data == 3] = 2  # so that one region spans the whole mask
    layer.refresh()
    phase("nothing", lambda: settle(seconds=5.0), lambda: True)
    for number in (1, 2, 3):
        phase(f"relabel a huge region, {number}", fill, idle)
        phase(f"undo of it, {number}", correct.undo, idle)
    for operation in (CleanupOperation.SMALL, CleanupOperation.GROW):
        layer.selected_label = 1
        phase(f"{operation.value}: a class", lambda t=operation: correct._on_cleanup(t), idle)
        phase("undo of it: " + operation.value, correct.undo, idle)
    review = dock.inspect.review
    phase("worklist", review.search, lambda: review.regions is not None)
    gaps.end()
    print(f"\n{'':32} {'work':>9} {'in all':>9} {'p99 gap':>9} {'longest':>9} {'own work':>9}")
    for name, work, whole in rows:
        wall, own = (1000 * np.array([tick[i] for tick in gaps.gaps[name]]) for i in (0, 1))
        print(
            f"{name:32} {work:9.1f} {whole:9.1f} {np.quantile(wall, 0.99):9.1f} "
            f"{wall.max():9.1f} {own.max():9.1f}"
        )
        if options.places and gaps.stacks[name][1]:
            print("\n".join(f"    {place}" for place in gaps.stacks[name][1]))


if __name__ == "__main__":
    main()
