"""Pictures of images on disk: the large one, the strip of thumbnails, and their loader."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from qtpy.QtCore import QObject, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_plimseg._widgets.common import BackgroundJob
from napari_plimseg.reading import UnreadableError, open_picture, orientation_of, upright

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent, QPaintEvent, QResizeEvent, QWheelEvent

    from napari_plimseg.training_runs import State


THUMB = 68
_GAP = 6
_STATE_COLORS = {"tagged": "#3fa66a", "unsure": "#e0a030", "nothing": "#8a8f98"}
_MARKS = {"unsure": "?", "nothing": "–"}


class PictureView(QWidget):
    """One picture, scaled to fit, or a text in its place."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.image: QImage | None = None
        self.text = ""
        self.setMinimumSize(240, 200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Return a size at which tissue can be recognized."""
        return QSize(560, 460)

    def show_picture(self, image: QImage | None, text: str = "") -> None:
        """Show a picture, or the text if there is none."""
        self.image = image
        self.text = text
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the picture in the center."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(30, 30, 32))
        if self.image is None:
            painter.setPen(QColor(210, 210, 210))
            flags = int(Qt.AlignmentFlag.AlignCenter.value | Qt.TextFlag.TextWordWrap.value)
            painter.drawText(self.rect().adjusted(20, 20, -20, -20), flags, self.text)
            painter.end()
            return
        scale = min(self.width() / self.image.width(), self.height() / self.image.height())
        width, height = self.image.width() * scale, self.image.height() * scale
        left, top = (self.width() - width) / 2, (self.height() - height) / 2
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QRectF(left, top, width, height), self.image)
        painter.end()


class ThumbStrip(QWidget):
    """Thumbnails around the current image; a click or the mouse wheel goes to another one.

    Only visible thumbnails are drawn, so ten thousand images are as fast as ten.

    Parameters
    ----------
    state_of : callable
        Returns the state of the image at a position.
    picture_of : callable
        Returns its thumbnail; None if it was not read yet or can't be.

    Attributes
    ----------
    picked : Signal(int)
        Position of the image to go to.
    seen : Signal()
        Other images are visible and need their thumbnails.
    """

    picked = Signal(int)
    seen = Signal()

    def __init__(
        self,
        state_of: Callable[[int], State],
        picture_of: Callable[[int], QImage | None],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._state_of = state_of
        self._picture_of = picture_of
        self._count = 0
        self.current = 0
        self.setFixedHeight(THUMB + 2 * _GAP)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_position(self, current: int, count: int) -> None:
        """Show another image in the middle."""
        self.current, self._count = current, count
        self.update()
        self.seen.emit()

    @property
    def positions(self) -> Sequence[int]:
        """Positions of the visible images."""
        fitting = max(1, self.width() // (THUMB + _GAP))
        first = min(max(0, self.current - fitting // 2), max(0, self._count - fitting))
        return range(first, min(self._count, first + fitting + 1))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Request the thumbnails that became visible."""
        super().resizeEvent(event)
        self.seen.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the thumbnails with a mark for the state of each."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for place, position in enumerate(self.positions):
            box = QRectF(_GAP + place * (THUMB + _GAP), _GAP, THUMB, THUMB)
            picture = self._picture_of(position)
            painter.fillRect(box, QColor(60, 60, 64))
            if picture is not None:
                side = min(picture.width(), picture.height())
                middle = QRectF(
                    (picture.width() - side) / 2, (picture.height() - side) / 2, side, side
                )
                painter.drawImage(box, picture, middle)
            self._draw_state(painter, box, position)
        painter.end()

    def _draw_state(self, painter: QPainter, box: QRectF, position: int) -> None:
        state = self._state_of(position)
        if state != "untagged":
            painter.fillRect(
                QRectF(box.left(), box.bottom() - 7, box.width(), 7), QColor(_STATE_COLORS[state])
            )
        if state in _MARKS:
            painter.setPen(QColor(255, 255, 255))
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter.value), _MARKS[state])
        if position == self.current:
            painter.setPen(QPen(QColor("#4da3ff"), 3))
            painter.drawRect(box.adjusted(-1.5, -1.5, 1.5, 1.5))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the image that was clicked."""
        place = int((event.position().x() - _GAP) // (THUMB + _GAP))
        positions = self.positions
        if 0 <= place < len(positions):
            self.picked.emit(positions[place])

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Go to the next or the previous image."""
        step = -1 if event.angleDelta().y() > 0 else 1
        if 0 <= self.current + step < self._count:
            self.picked.emit(self.current + step)


_KEPT_BYTES = 256 << 20


@dataclass(frozen=True)
class Wanted:
    """A picture at a size.

    Parameters
    ----------
    path : Path
    side : int
        Longest side in pixels; smaller pictures are not enlarged.
    """

    path: Path
    side: int


def read_picture(path: Path, side: int) -> NDArray[np.uint8] | None:
    """Return a picture (h, w, 3), scaled down to `side`; None when it can't be read."""
    try:
        with open_picture(path, UnreadableError) as image:
            image.draft("RGB", (side, side))
            opened: Image.Image = image
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
                opened = Image.alpha_composite(ground, image.convert("RGBA"))
            if max(opened.size) > side:
                opened.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
            return upright(np.asarray(opened.convert("RGB")), orientation_of(image))
    except (UnreadableError, OSError, ValueError, SyntaxError, MemoryError):
        return None


class PictureLoader(QObject):
    """Reads pictures in the background and caches them.

    Attributes
    ----------
    loaded : Signal(object)
        A `Wanted` that was read; `picture` returns it.
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
        """Return a picture from the cache; None if it was not read yet or can't be."""
        found = self._kept.get(wanted)
        if found is not None:
            self._kept.move_to_end(wanted)
        return found

    def is_unreadable(self, wanted: Wanted) -> bool:
        """Whether reading a picture has failed."""
        return wanted in self._kept and self._kept[wanted] is None

    def want(self, pictures: Iterable[Wanted]) -> None:
        """Read these next, in this order; earlier requests that were not read yet are dropped."""
        self._queue = deque(one for one in pictures if one not in self._kept)
        self._begin()

    def stop(self) -> None:
        """Stop reading."""
        self._queue = deque()
        self._job.stop()

    def _begin(self) -> None:
        if self._queue and not self._job.is_running:
            self._job.start(self._read_all)

    def _read_all(self) -> Generator[tuple[Wanted, NDArray[np.uint8] | None], None, None]:
        while True:
            try:
                wanted = self._queue.popleft()  # `want` may have replaced the queue
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
    # the copy owns its pixels; the first image only refers to the array, which is freed
    return QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
