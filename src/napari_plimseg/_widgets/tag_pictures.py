"""The pictures of the gallery: the one that is tagged, and the strip of its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtpy.QtGui import QImage, QMouseEvent, QPaintEvent, QResizeEvent, QWheelEvent

    from napari_plimseg.training_runs.tag_table import State

THUMB = 68
_GAP = 6
_STATE_COLORS = {"tagged": "#3fa66a", "unsure": "#e0a030", "nothing": "#8a8f98"}
_MARKS = {"unsure": "?", "nothing": "–"}


class PictureView(QWidget):
    """One picture, as large as fits, or a sentence in its place."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.image: QImage | None = None
        self.text = ""
        self.setMinimumSize(240, 200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Return a size at which tissue can be judged."""
        return QSize(560, 460)

    def show_picture(self, image: QImage | None, text: str = "") -> None:
        """Show a picture; the sentence is shown where there is none."""
        self.image = image
        self.text = text
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the picture in the middle."""
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
    """The neighbours of the current image; a click goes to one, the wheel moves on.

    Only what is seen is drawn, so ten thousand images are as quick as ten.

    Parameters
    ----------
    state_of : callable
        Returns the state of the image at a position.
    picture_of : callable
        Returns its small picture, or None while it is not read or can't be.

    Attributes
    ----------
    picked : Signal(int)
        An image was clicked.
    seen : Signal()
        Other images are seen: their pictures are wanted.
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
        """Put another image in the middle."""
        self.current, self._count = current, count
        self.update()
        self.seen.emit()

    @property
    def positions(self) -> Sequence[int]:
        """Positions of the images that are seen."""
        fitting = max(1, self.width() // (THUMB + _GAP))
        first = min(max(0, self.current - fitting // 2), max(0, self._count - fitting))
        return range(first, min(self._count, first + fitting + 1))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Want the pictures that came into sight."""
        super().resizeEvent(event)
        self.seen.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the pictures with a mark for what became of each."""
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
        """Go to the next or the last image."""
        step = -1 if event.angleDelta().y() > 0 else 1
        if 0 <= self.current + step < self._count:
            self.picked.emit(self.current + step)
