"""Kill napari while it is painting, generating and training, and count what is lost.

    scripts/with_screen.sh python benchmarks/kill_napari.py [--kills 20] [--what painting ...]

A real napari paints on a mask with brush strokes, polygons, the eraser and undo at random rates,
and logs the layer and the time after each step. It is killed with SIGKILL at a random moment. Then
the corrections are opened: a pixel painted more than two seconds earlier must be as painted, a
newer one as at some moment since. The next napari opens the same result.

While generating, each tile reported to the dock two seconds before the kill must be in the result.
While training, each kill happens some time after the first step since napari was opened: every
second time the training is killed too, otherwise it keeps running. The next napari attaches to it
or resumes it, and must not repeat a step before its last checkpoint.

"closing" kills nothing: it closes a napari that generates and trains at once, at a random moment,
and measures how long the process goes on. It must end within five seconds every time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import killed_runs
import numpy as np
from event_loop import tagged_folder
from painted_log import PROMISE_SECONDS, PaintedLog, judge

from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.results import Corrections, MaskInfo, MaskStore, StoreLayout
from napari_plimseg.slides import open_slide
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import COLORECTAL

DOWNSAMPLE = 1.5
SAMPLE = Path(__file__).parents[1] / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"


def make_store(folder: Path) -> MaskStore:
    """Create a finished result of the sample slide that contains every class."""
    with open_slide(SAMPLE) as slide:
        shape = tuple(int(np.ceil(side / DOWNSAMPLE)) for side in slide.shape)
        info = MaskInfo(
            slide_name=slide.name,
            slide_fingerprint=fingerprint(SAMPLE),
            slide_shape=slide.shape,
            bounds=slide.bounds,
            mpp=slide.mpp,
            shape=(shape[0], shape[1]),
            downsample=DOWNSAMPLE,
            classes=COLORECTAL,
        )
    layout = StoreLayout((256, 256), 512, has_probabilities=False, recipe="kill")
    store = MaskStore.create(folder / "sample.plimseg", info, layout)
    rows, columns = (-(-side // 256) for side in info.shape)
    for row in range(rows):
        for column in range(columns):
            window = Window(
                row * 256,
                column * 256,
                min(256, info.shape[0] - row * 256),
                min(256, info.shape[1] - column * 256),
            )
            ids = np.full((window.height, window.width), 1 + (row + column) % len(COLORECTAL))
            ids = ids.astype(np.uint8)
            store.write_tile((row, column), window, ids, ids, None)
    store.close()
    return store


class Painter:
    """Steps of a person on the layer of a mask."""

    def __init__(self, layer: Any, log: Path, seed: int) -> None:
        self.layer = layer
        self.rng = random.Random(seed)  # noqa: S311
        self.log = PaintedLog(layer, log)
        self.stroke = contextlib.ExitStack()
        self.left = 0
        self.place = [0.0, 0.0]

    def step(self) -> None:
        rng, layer = self.rng, self.layer
        height, width = layer.data.shape
        if self.left:
            self.left -= 1
            self.place = [p + rng.uniform(-30, 30) for p in self.place]
            layer.paint(self.place, layer.selected_label)
            if not self.left:
                self.stroke.close()
        else:
            kind = rng.random()
            self.place = [rng.uniform(0, height - 1), rng.uniform(0, width - 1)]
            layer.selected_label = rng.randint(0, len(COLORECTAL))
            if kind < 0.15:
                layer.undo()
            elif kind < 0.2:
                layer.redo()
            elif kind < 0.3 and layer.selected_label:
                y, x = self.place
                layer.paint_polygon(
                    [[y, x], [y + 80, x + 10], [y + 20, x + 90]], layer.selected_label
                )
            else:
                layer.brush_size = rng.randint(5, 60)
                self.stroke.enter_context(layer.block_history())
                self.left = rng.randint(1, 40)
        self.log.note()


def paint(folder: Path, seed: int) -> None:
    """Open the result in napari and paint until killed."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_plimseg._reader import read_slides
    from napari_plimseg._widgets.viewer import MaskView

    viewer = napari.Viewer(show=True)
    for data, facts, _ in read_slides(str(SAMPLE)):
        viewer.add_image(data, **facts)
    store = MaskStore.open(folder / "sample.plimseg")
    slide = open_slide(SAMPLE)
    view = MaskView(
        viewer, slide, store, store.read_classes(), store.info.classes, slide_stem="sample"
    )
    painter = Painter(view.layer, folder / f"painted-{seed}.log", seed)
    timer = QTimer()

    def tick() -> None:
        painter.step()
        timer.start(painter.rng.choice([0, 5, 16, 16, 40, 200]))

    timer.setSingleShot(True)
    timer.timeout.connect(tick)
    timer.start(0)
    napari.run()


def start_napari(what: str, folder: Path, seed: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a napari with a task, and return once it works on it."""
    arguments = ["--child", what, "--folder", str(folder), "--seed", str(seed)]
    napari = subprocess.Popen([sys.executable, __file__, *arguments])
    while not log.exists():
        if napari.poll() is not None:
            sys.exit(f"napari ended before it was {what}")
        time.sleep(0.01)
    return napari


def kill_after(napari: subprocess.Popen[bytes], seconds: float) -> float:
    """Wait, kill, and return the time of the kill."""
    time.sleep(seconds)
    killed = time.time()
    napari.send_signal(signal.SIGKILL)
    napari.wait()
    return killed


def kill_painting(folder: Path, kills: int, seed: int, rng: random.Random) -> None:
    store = make_store(folder)
    model = store.read_classes()
    before, lost_kills = model.copy(), 0
    print("kill  after s  steps  changed px  lost px (older than 2 s)")
    for number in range(kills):
        log = folder / f"painted-{seed * 1000 + number}.log"
        after = rng.uniform(0.2, 8)
        killed = kill_after(start_napari("painting", folder, seed * 1000 + number, log), after)
        found = model.copy()
        Corrections.open(folder, store.info).apply(found)
        steps, painted, lost = judge(before, found, model, log, killed)
        lost_kills += lost > 0
        print(f"{number + 1:4d}  {after:7.1f}  {steps:5d}  {painted:10,d}  {lost:,d}", flush=True)
        before = found
    print(f"kills that lost corrections older than two seconds: {lost_kills}")


def kill_generating(folder: Path, kills: int, seed: int, rng: random.Random) -> None:
    lost_kills = 0
    print("kill  after s  tiles seen  lost tiles (older than 2 s)")
    for number in range(kills):
        log = folder / f"generating-{number}.log"
        after = rng.uniform(0.2, 6)
        killed = kill_after(start_napari("generating", folder, seed, log), after)
        told, lost = killed_runs.lost_tiles(folder, log, killed - PROMISE_SECONDS)
        lost_kills += lost > 0
        print(f"{number + 1:4d}  {after:7.1f}  {told:10d}  {lost:d}", flush=True)
    print(f"kills that lost finished tiles: {lost_kills}")


def kill_training(folder: Path, kills: int, seed: int, rng: random.Random) -> None:
    tagged_folder(folder / "patches")
    print("kill  after s  with the training  checkpoints so far  not resumed from")
    lost_of_finished = 0
    for number in range(kills):
        log = folder / "training.log"
        log.unlink(missing_ok=True)
        after = rng.uniform(0.2, 15)
        kill_after(start_napari("training", folder, seed, log), after)
        both = number % 2 == 0
        if both:
            killed_runs.end_training(folder)
        known, lost = killed_runs.steps_taken_back(folder)
        if killed_runs.put_away_finished(folder):
            lost_of_finished += lost
        print(f"{number + 1:4d}  {after:7.1f}  {both!s:>17}  {known:18d}  {lost:d}", flush=True)
    killed_runs.end_training(folder)
    lost = lost_of_finished + killed_runs.steps_taken_back(folder)[1]
    print(f"starts that lost a checkpoint: {lost}")


def close_both(folder: Path, kills: int, seed: int, rng: random.Random) -> None:
    tagged_folder(folder / "patches")
    print("round  run under way  tiles  training under way  napari ended after s")
    late = 0
    for number in range(kills):
        log = folder / f"closing-{number}.log"
        for old in ("results", killed_runs.RUNS):
            shutil.rmtree(folder / old, ignore_errors=True)
        (folder / "training.log").unlink(missing_ok=True)
        napari = start_napari("closing", folder, rng.randrange(10**6), log)
        training = killed_runs.is_training(folder)
        began, running, tiles = json.loads(log.read_text())
        try:
            napari.wait(_HANGS_SECONDS)
        except subprocess.TimeoutExpired:
            napari.kill()
        seconds = time.time() - began
        late += seconds > _ENDS_WITHIN
        print(f"{number + 1:5d}  {running!s:>13}  {tiles:5d}  {training!s:>18}  {seconds:5.1f}",
              flush=True)  # fmt: skip
        killed_runs.end_training(folder)
    print(f"rounds in which napari went on for more than {_ENDS_WITHIN:g} s: {late}")


_ENDS_WITHIN, _HANGS_SECONDS = 5.0, 60.0
WHAT = {
    "painting": kill_painting,
    "generating": kill_generating,
    "training": kill_training,
    "closing": close_both,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=WHAT, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "painting":
        paint(options.folder, options.seed)
    elif options.child == "generating":
        number = len(list(options.folder.glob("generating-*.log")))
        killed_runs.generate(options.folder, options.folder / f"generating-{number}.log")
    elif options.child == "training":
        killed_runs.train(options.folder, options.folder / "training.log")
    elif options.child == "closing":
        number = len(list(options.folder.glob("closing-*.log")))
        log = options.folder / f"closing-{number}.log"
        killed_runs.close(options.folder, log, options.seed)
    else:
        rng = random.Random(options.seed)  # noqa: S311
        for what in options.what:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
                os.environ["PLIMSEG_DATA_DIR"] = name
                WHAT[what](Path(name), options.kills, options.seed, rng)


if __name__ == "__main__":
    main()
