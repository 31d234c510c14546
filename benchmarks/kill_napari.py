"""Kill napari in the middle of painting, again and again, and count what is lost.

    scripts/with_screen.sh python benchmarks/kill_napari.py [--kills 20]

A real napari paints with brush strokes, polygons, the eraser and undo at random rates on a mask,
and notes in a file of its own what the layer showed after each step, and when. It is killed with
SIGKILL at a random moment. Then the corrections are opened: a pixel whose painting is older than
two seconds must be as it was painted, a younger one as it was at some moment since. The next
napari opens what the last one left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_plimseg.files import fingerprint
from napari_plimseg.results.corrections import Corrections
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.results.mask_store import MaskStore
from napari_plimseg.results.store_files import StoreLayout
from napari_plimseg.slides import open_slide
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import COLORECTAL

DOWNSAMPLE = 1.5
PROMISE_SECONDS = 2.0
LOG_HEAD = struct.Struct("<dIIII")
SAMPLE = Path(__file__).parents[1] / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"


def make_store(folder: Path) -> MaskStore:
    """Make a finished result of the sample slide: every class somewhere."""
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
    """Steps that a person might take, on the layer of a mask."""

    def __init__(self, layer: Any, log: Path, seed: int) -> None:
        self.layer = layer
        self.rng = random.Random(seed)  # noqa: S311
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.stroke = contextlib.ExitStack()
        self.left = 0
        self.place = [0.0, 0.0]
        self.last = layer.data.copy()

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
        self.note()

    def note(self) -> None:
        changed = self.layer.data != self.last
        if not changed.any():
            return
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        block = self.layer.data[part].copy()
        self.last[part] = block
        os.write(self.log, LOG_HEAD.pack(time.time(), rows[0], columns[0], *block.shape))
        os.write(self.log, block.tobytes())


def paint(folder: Path, seed: int) -> None:
    """Open napari on the result and paint until killed."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_plimseg._reader import read_slides
    from napari_plimseg._widgets.layer_views import MaskView

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


def steps_of(log: Path) -> list[tuple[float, int, int, np.ndarray]]:
    """Return what the painter noted: when, where, and the mask ids there."""
    data, position, steps = log.read_bytes(), 0, []
    while position + LOG_HEAD.size <= len(data):
        when, y, x, height, width = LOG_HEAD.unpack_from(data, position)
        position += LOG_HEAD.size
        block = np.frombuffer(data[position : position + height * width], np.uint8)
        position += height * width
        if block.size == height * width:
            steps.append((when, y, x, block.reshape(height, width)))
    return steps


def judge(
    before: np.ndarray, found: np.ndarray, model: np.ndarray, log: Path, killed: float
) -> tuple[int, int, int]:
    """Return steps, pixels painted, and pixels older than promised that are not as painted."""
    state = before.copy()
    allowed = None
    steps = steps_of(log)
    for when, y, x, block in steps:
        if allowed is None and when > killed - PROMISE_SECONDS:
            allowed = found == state
        part = slice(y, y + block.shape[0]), slice(x, x + block.shape[1])
        # 0 is the eraser: the model's output comes back
        state[part] = np.where(block == 0, model[part], block)
        if allowed is not None:
            allowed[part] |= found[part] == state[part]
    allowed = found == state if allowed is None else allowed
    return len(steps), int((state != before).sum()), int((~allowed).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--paint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.paint:
        paint(options.paint, options.seed)
        return
    rng = random.Random(options.seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder)
        model = store.read_classes()
        before, lost_kills = model.copy(), 0
        print("kill  after s  steps  changed px  lost px (older than 2 s)")
        for number in range(options.kills):
            seed = options.seed * 1000 + number
            log = folder / f"painted-{seed}.log"
            arguments = ["--paint", str(folder), "--seed", str(seed)]
            with subprocess.Popen([sys.executable, __file__, *arguments]) as napari:
                while not log.exists():
                    if napari.poll() is not None:
                        sys.exit("napari ended before it painted")
                    time.sleep(0.01)
                after = rng.uniform(0.2, 8)
                time.sleep(after)
                killed = time.time()
                napari.send_signal(signal.SIGKILL)
            found = model.copy()
            Corrections.open(folder, store.info).apply(found)
            steps, painted, lost = judge(before, found, model, log, killed)
            lost_kills += lost > 0
            print(
                f"{number + 1:4d}  {after:7.1f}  {steps:5d}  {painted:10,d}  {lost:,d}", flush=True
            )
            before = found
        print(f"kills that lost corrections older than two seconds: {lost_kills}")


if __name__ == "__main__":
    main()
