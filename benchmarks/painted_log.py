"""What was painted on a layer, with its time, and what of it is lost after a kill.

For `kill_napari.py`, in a real napari, and for the campaign of kills in `tests/campaigns`, without
a window.
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Labels

PROMISE_SECONDS = 2.0
_HEAD = struct.Struct("<dIIII")


class PaintedLog:
    """Writes the changes of a layer to a file, as soon as each is noted."""

    def __init__(self, layer: Labels, path: Path) -> None:
        self._layer = layer
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._last = layer.data.copy()

    def note(self) -> None:
        """Write time, place and mask ids of what has changed since the last note."""
        changed = self._layer.data != self._last
        if not changed.any():
            return
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        block = self._layer.data[part].copy()
        self._last[part] = block
        head = _HEAD.pack(time.time(), rows[0], columns[0], *block.shape)
        os.write(self._file, head + block.tobytes())


def steps_of(log: Path) -> list[tuple[float, int, int, np.ndarray]]:
    """Return time, place and mask ids of each step in a log; none when there is no log."""
    data, position, steps = log.read_bytes() if log.exists() else b"", 0, []
    while position + _HEAD.size <= len(data):
        when, y, x, height, width = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        block = np.frombuffer(data[position : position + height * width], np.uint8)
        position += height * width
        if block.size == height * width:
            steps.append((when, y, x, block.reshape(height, width)))
    return steps


def judge(
    before: np.ndarray, found: np.ndarray, model: np.ndarray, log: Path, killed: float
) -> tuple[int, int, int]:
    """Return steps, painted pixels, and pixels that should have been saved but differ.

    A pixel painted more than `PROMISE_SECONDS` before the kill must be as painted, a newer one as
    at some moment since.
    """
    state = before.copy()
    allowed = None
    steps = steps_of(log)
    for when, y, x, block in steps:
        if allowed is None and when > killed - PROMISE_SECONDS:
            allowed = found == state
        part = slice(y, y + block.shape[0]), slice(x, x + block.shape[1])
        # 0 is the eraser, which restores the model's output
        state[part] = np.where(block == 0, model[part], block)
        if allowed is not None:
            allowed[part] |= found[part] == state[part]
    allowed = found == state if allowed is None else allowed
    return len(steps), int((state != before).sum()), int((~allowed).sum())
