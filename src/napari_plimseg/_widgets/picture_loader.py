"""Reads pictures from files in a thread, those first that are wanted most."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QImage

from napari_plimseg._widgets.background_job import BackgroundJob

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

_KEPT_BYTES = 256 << 20


@dataclass(frozen=True)
class Wanted:
    """A picture at a size.

    Parameters
    ----------
    path : Path
    side : int
        Longest side in pixels that is wanted; smaller pictures stay as they are.
    """

    path: Path
    side: int


def read_picture(path: Path, side: int) -> NDArray[np.uint8] | None:
    """Return a picture as (h, w, 3), no side longer than `side`; None when it can't be read."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            opened: Image.Image = image
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
                opened = Image.alpha_composite(ground, image.convert("RGBA"))
            if max(opened.size) > side:
                opened.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
            return np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError):
        return None


class PictureLoader(QObject):
    """Keeps pictures that were read, and reads the ones wanted now.

    Attributes
    ----------
    loaded : Signal(object)
        A `Wanted` was read; `picture` gives it.
    """

    loaded = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._kept: OrderedDict[Wanted, QImage | None] = OrderedDict()
        self._bytes = 0
        self._queue: deque[Wanted] = deque()
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_read)
        self._job.finished.connect(lambda _: self._begin())

    def picture(self, wanted: Wanted) -> QImage | None:
        """Return a picture that was read; None when it was not yet, or can't be."""
        found = self._kept.get(wanted)
        if found is not None:
            self._kept.move_to_end(wanted)
        return found

    def is_unreadable(self, wanted: Wanted) -> bool:
        """Whether a picture was tried and can't be read."""
        return wanted in self._kept and self._kept[wanted] is None

    def want(self, pictures: Iterable[Wanted]) -> None:
        """Read these next, in this order; what was wanted before and is not read is forgotten."""
        self._queue = deque(one for one in pictures if one not in self._kept)
        self._begin()

    def stop(self) -> None:
        """Read nothing more."""
        self._queue = deque()
        self._job.stop()

    def _begin(self) -> None:
        if self._queue and not self._job.is_running:
            self._job.start(self._read_all)

    def _read_all(self) -> Generator[tuple[Wanted, NDArray[np.uint8] | None], None, None]:
        while True:
            try:
                wanted = self._queue.popleft()  # the queue of now: it may be replaced meanwhile
            except IndexError:
                return
            yield wanted, read_picture(wanted.path, wanted.side)

    def _on_read(self, found: tuple[Wanted, NDArray[np.uint8] | None]) -> None:
        wanted, pixels = found
        if wanted not in self._kept:
            self._kept[wanted] = None if pixels is None else _image_of(pixels)
            self._bytes += 0 if pixels is None else pixels.nbytes
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= 0 if dropped is None else dropped.sizeInBytes()
        self.loaded.emit(wanted)


def _image_of(pixels: NDArray[np.uint8]) -> QImage:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels)
    # the copy owns its memory; the first image only looks at the array
    return QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
