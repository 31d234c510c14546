"""A thin bar with the colors of a map of values, for a napari without a color bar of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence


_GAP = 6


class ValueBar(QWidget):
    """Draws colors from left to right between the lowest and the highest value.

    Attributes
    ----------
    limits : tuple of str
        The two values as text.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colors: list[tuple[float, float, float]] = []
        self.limits = ("", "")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.hide()

    def show_colors(
        self, found: tuple[Sequence[tuple[float, float, float]], float, float] | None
    ) -> None:
        """Show colors (red, green and blue, 0 to 1), lowest and highest value; None hides it."""
        if found is None:
            self.hide()
            return
        colors, low, high = found
        self._colors, self.limits = list(colors), (f"{low:.3g}", f"{high:.3g}")
        self.setAccessibleDescription(f"Colors from {self.limits[0]} to {self.limits[1]}")
        self.show()
        self.update()

    def sizeHint(self) -> QSize:
        """Return the height of a line of text."""
        return QSize(200, self.fontMetrics().height() + 4)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the lowest value, the colors and the highest value."""
        painter = QPainter(self)
        height = self.height()
        left, right = (self.fontMetrics().horizontalAdvance(t) + _GAP for t in self.limits)
        box = QRectF(left, 2, max(1, self.width() - left - right), height - 4)
        gradient = QLinearGradient(box.topLeft(), box.topRight())
        for number, color in enumerate(self._colors):
            gradient.setColorAt(number / max(1, len(self._colors) - 1), QColor.fromRgbF(*color))
        painter.fillRect(box, gradient)
        painter.setPen(self.palette().windowText().color())
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, 0, left, height), middle, self.limits[0])
        place = QRectF(self.width() - right, 0, right, height)
        painter.drawText(place, middle | Qt.AlignmentFlag.AlignRight, self.limits[1])
