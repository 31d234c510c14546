"""A bar for each tissue class, as long as its share of the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg._widgets.exports import AreaRow

_ROW = 22
_NAME_SHARE = 0.42
_GAP = 6


class AreaBars(QWidget):
    """Draws areas as horizontal bars in class colours, with mm² and percent.

    It takes text and colours from the palette, so it fits dark and light themes.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[AreaRow] = []
        self._unit = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_areas(self, rows: Sequence[AreaRow], unit: str) -> None:
        """Show areas, the largest first; `unit` stands behind each number."""
        self.rows, self._unit = list(rows), unit
        self.setAccessibleDescription(
            "; ".join(f"{r.name} {r.area} {unit}, {r.percent} percent" for r in self.rows)
        )
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Return the size of all bars, or of the line that says there are none."""
        return QSize(300, max(1, len(self.rows)) * _ROW)

    def minimumSizeHint(self) -> QSize:
        """Return a size that lets the dock be narrow."""
        return QSize(200, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bars."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        painter.setPen(text)
        middle = Qt.AlignmentFlag.AlignVCenter
        if not self.rows:
            painter.drawText(self.rect(), middle, "No tissue yet.")
            return
        metrics = painter.fontMetrics()
        numbers = [f"{row.area} {self._unit}  {row.percent} %" for row in self.rows]
        number_width = max(metrics.horizontalAdvance(number) for number in numbers)
        longest = max(metrics.horizontalAdvance(row.name) for row in self.rows) + 2
        name_width = min(longest, self.width() * _NAME_SHARE)
        bar_left = name_width + _GAP
        bar_room = max(10.0, self.width() - bar_left - number_width - 2 * _GAP)
        largest = max(float(row.percent or 0) for row in self.rows) or 1.0
        track = QColor(text)
        track.setAlpha(28)
        for i, (row, number) in enumerate(zip(self.rows, numbers, strict=True)):
            top = i * _ROW
            name = metrics.elidedText(row.name, Qt.TextElideMode.ElideRight, int(name_width))
            painter.setPen(text)
            painter.drawText(QRectF(0, top, name_width, _ROW), middle, name)
            box = QRectF(bar_left, top + 4, bar_room, _ROW - 8)
            painter.fillRect(box, track)
            length = max(2.0, bar_room * float(row.percent or 0) / largest)
            painter.setPen(QPen(QColor(128, 128, 128), 1))
            painter.setBrush(QColor(*row.color))
            painter.drawRect(QRectF(box.left(), box.top(), length, box.height()))
            painter.setPen(text)
            right = middle | Qt.AlignmentFlag.AlignRight
            painter.drawText(
                QRectF(self.width() - number_width - 1, top, number_width, _ROW), right, number
            )
