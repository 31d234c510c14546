#!/usr/bin/env python3
"""Compare the speed of mask stores of this version with that of another one.

Usage: python benchmarks/stores.py [--other SRC] [--side PIXELS] [--tile PIXELS] [--rounds N]

`--other` is the `src` folder of another checkout (`git worktree add ../old 4f84b62`). The two take
turns, each round in a process of its own, so that a slow minute of the computer counts for both.
Prints medians in milliseconds and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

OURS = Path(__file__).resolve().parents[1] / "src"
CLASSES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, help="the src folder of another version")
    parser.add_argument("--side", type=int, default=6_000, help="mask pixels per side")
    parser.add_argument("--tile", type=int, default=256, help="mask pixels per side of a tile")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    versions = {"this version": OURS} | ({"other": options.other} if options.other else {})
    times: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    for _ in range(options.rounds):
        for name, source in versions.items():
            times[name].append(in_a_process(source.resolve(), options))
    print(f"mask {options.side:,} x {options.side:,}, tiles of {options.tile}; medians in ms")
    print(f"{'':28}" + "".join(f"{name:>14}" for name in versions) + f"{'ratio':>8}")
    for step in times["this version"][0]:
        medians = [statistics.median(t[step] for t in times[name]) for name in versions]
        ratio = f"{medians[0] / medians[1]:8.2f}" if len(medians) > 1 and medians[1] else ""
        print(f"{step:28}" + "".join(f"{m:14.2f}" for m in medians) + ratio)


def in_a_process(source: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [
        *(sys.executable, __file__, "--one", "--side", str(options.side)),
        *("--tile", str(options.tile)),
        *(["--probabilities"] if options.probabilities else []),
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Return milliseconds of each step."""
    from napari_plimseg.results import Corrections, MaskInfo, MaskStore, StoreLayout
    from napari_plimseg.slides import Region
    from napari_plimseg.tiling import Window
    from napari_plimseg.tissue import COLORECTAL

    side, tile = options.side, options.tile
    mask = made_mask(side)
    info = MaskInfo(
        slide_name="made.svs",
        slide_fingerprint="0" * 64,
        slide_shape=(4 * side, 4 * side),
        bounds=Region(0, 0, 4 * side, 4 * side),
        mpp=0.5,
        shape=mask.shape,
        downsample=4.0,
        classes=COLORECTAL,
    )
    layout = StoreLayout((tile, tile), 4 * tile, options.probabilities, "-")
    count = len(COLORECTAL)
    confidence = np.random.default_rng(1).integers(120, 256, (tile, tile), dtype=np.uint8)
    confidence = np.maximum.accumulate(confidence, 1)  # compresses about as well as a real one
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.plimseg"
        begin = time.perf_counter()
        store = MaskStore.create(path, info, layout)
        found["create"] = since(begin)
        writes = []
        for row, y in enumerate(range(0, side, tile)):
            for column, x in enumerate(range(0, side, tile)):
                window = Window(y, x, min(tile, side - y), min(tile, side - x))
                sure = confidence[: window.height, : window.width]
                every = np.stack([sure] * count) if options.probabilities else None
                begin = time.perf_counter()
                store.write_tile((row, column), window, mask[window.slices], sure, every)
                writes.append(since(begin))
        found["write a tile"] = statistics.median(writes)
        found["write all tiles"] = sum(writes)
        begin = time.perf_counter()
        store.flush()
        found["flush"] = since(begin)
        begin = time.perf_counter()
        store.close()
        found["close after a run"] = since(begin)

        begin = time.perf_counter()
        with MaskStore.open(path) as store:
            found["open"] = since(begin)
            begin = time.perf_counter()
            shown = store.read_classes()
            found["read the classes"] = since(begin)
            if not np.array_equal(shown, mask):
                raise SystemExit("the store holds another mask")
        begin = time.perf_counter()
        with MaskStore.open(path, writable=True) as store:
            store.forget_damaged()
        found["resume a finished run"] = since(begin)

        corrections = Corrections.open(path.parent, info)
        strokes = []
        for number in range(200):
            y, x = np.random.default_rng(number).integers(0, side - 64, 2)
            part = slice(y, y + 64), slice(x, x + 64)
            painted = shown[part].copy()
            painted[8:56, 8:56] = 1 + number % CLASSES
            begin = time.perf_counter()
            corrections.record(int(y), int(x), painted, mask[part])
            strokes.append(since(begin))
        found["record a stroke"] = statistics.median(strokes)
        begin = time.perf_counter()
        corrections.flush_and_release()
        found["save 200 strokes"] = since(begin)
    return found


def since(begin: float) -> float:
    """Return milliseconds since `begin`."""
    return 1000 * (time.perf_counter() - begin)


def made_mask(side: int) -> np.ndarray:
    """Return blobs of some classes, uint8 (side, side)."""
    from scipy import ndimage

    small = ndimage.gaussian_filter(
        np.random.default_rng(0).random((side // 16 + 1, side // 16 + 1)), 6
    )
    edges = np.quantile(small, np.linspace(0, 1, CLASSES + 1)[1:-1])
    coarse = (np.digitize(small, edges) + 1).astype(np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)[:side, :side]


if __name__ == "__main__":
    main()
