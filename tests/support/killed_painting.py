"""Paints into a journal of corrections, is killed at random moments, and looks what is left.

    python killed_painting.py FOLDER KILLS

Every painter is a fork, so that nothing is imported twice. It paints strokes one after another and
says through a pipe how many of them a flush has put on the disk. All painters use one journal,
small enough a limit makes it be written anew again and again. Prints one JSON line a kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from napari_plimseg.results.corrections import journal
from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.slides.slide import Region
from napari_plimseg.tissue import COLORECTAL

SHAPE = (1500, 1300)
INFO = MaskInfo(
    slide_name="slide.svs",
    slide_fingerprint="c0ffee" * 10,
    slide_shape=(6000, 5200),
    bounds=Region(0, 0, 6000, 5200),
    mpp=0.5,
    shape=SHAPE,
    downsample=4.0,
    classes=COLORECTAL,
)
MAX_STROKES = 4000


def stroke(seed: int, number: int) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Return corner, ids and pixels of a stroke; one in eight takes corrections back."""
    rng = np.random.default_rng((seed, number))
    height, width = rng.integers(2, 120, 2)
    y, x = rng.integers(0, SHAPE[0] - height), rng.integers(0, SHAPE[1] - width)
    mask_id = 0 if number % 8 == 7 else 1 + number % len(COLORECTAL)
    block = np.full((height, width), mask_id, np.uint8)
    return int(y), int(x), block, rng.random((height, width)) < 0.7


def paint(folder: Path, seed: int, pipe: int) -> None:
    """Paint until killed."""
    rng = random.Random(seed)  # noqa: S311
    corrections = Corrections.open(folder, INFO)
    for number in range(MAX_STROKES):
        y, x, block, where = stroke(seed, number)
        corrections.write(y, x, block, where)
        if rng.random() < 0.3:
            corrections.flush()
            os.write(pipe, (number + 1).to_bytes(4, "little"))
        if rng.random() < 0.02:
            corrections.flush_and_release()
        time.sleep(rng.random() * 0.002)


def killed(folder: Path, seed: int, delay: float) -> int:
    """Let a painter go on for a while after its first flush, kill it; return what it had saved."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            paint(folder, seed, writing)
        except BaseException:  # noqa: BLE001 - a fork must not go on in the parent's code
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    said = os.read(reading, 4)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    while more := os.read(reading, 1 << 16):
        said += more
    os.close(reading)
    if not os.WIFSIGNALED(status):
        sys.exit("the painter ended before it was killed")
    return int.from_bytes(said[len(said) // 4 * 4 - 4 :][:4], "little")


def left(folder: Path) -> np.ndarray:
    """Return what is there on opening."""
    journal._open_journals.clear()
    corrections = Corrections.open(folder, INFO)
    if corrections.note():
        sys.exit(f"the journal says: {corrections.note()}")
    return corrections.read(slice(0, SHAPE[0]), slice(0, SHAPE[1]))


def strokes_in(found: np.ndarray, before: np.ndarray, seed: int, least: int) -> int | None:
    """Return how many strokes give what was found, at least so many; None when none do."""
    state = before.copy()
    for number in range(MAX_STROKES):
        if number >= least and np.array_equal(state, found):
            return number
        if number > least + 200:
            return None
        y, x, block, where = stroke(seed, number)
        part = state[y : y + block.shape[0], x : x + block.shape[1]]
        np.copyto(part, block, where=where)
    return None


def experiment(folder: Path, kills: int) -> None:
    """Kill painters one after another on the same journal."""
    journal.COMPACT_BYTES = 300_000
    rng = random.Random(kills)  # noqa: S311
    before = np.zeros(SHAPE, np.uint8)
    for seed in range(kills):
        saved = killed(folder, seed, rng.random() * 0.15)
        found = left(folder)
        there = strokes_in(found, before, seed, saved)
        sys.stdout.write(json.dumps({"saved": saved, "there": there}) + "\n")
        before = found


if __name__ == "__main__":
    experiment(Path(sys.argv[1]), int(sys.argv[2]))
