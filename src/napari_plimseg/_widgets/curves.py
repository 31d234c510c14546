"""Curves of a training, drawn small: axes with numbers, one line a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QPaintEvent

_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 20, 20
_HEIGHT = 120


@dataclass(frozen=True)
class Curve:
    """One line.

    Parameters
    ----------
    name : str
        In the legend.
    color : str
        "#rrggbb", one that shows on light and dark ground.
    points : tuple of (float, float)
        x and y, x rising.
    """

    name: str
    color: str
    points: tuple[tuple[float, float], ...]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers from `low` to `high`, at most `most` of them and at least one."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20, 50) if span / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    found = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
    return found[:most] or [low]


class CurvePlot(QWidget):
    """A small plot with a title, axes and a legend.

    Parameters
    ----------
    title : str
        What the y axis measures.
    x_label : str
        What the x axis counts.
    from_zero_to : float, optional
        Upper end of the y axis, whose lower one is 0; by default what the curves need.
    """

    def __init__(
        self,
        title: str,
        x_label: str,
        *,
        from_zero_to: float | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._title = title
        self._x_label = x_label
        self._top_value = from_zero_to
        self.curves: tuple[Curve, ...] = ()
        self.empty_text = ""
        self._x_end = 1.0
        self._ink = QColor(160, 160, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)

    def sizeHint(self) -> QSize:
        """Return a size that fits a dock."""
        return QSize(300, _HEIGHT)

    def set_ink(self, color: str) -> None:
        """Draw text and axes in the text colour of the theme."""
        self._ink = QColor(color)
        self.update()

    def show_curves(self, curves: Sequence[Curve], x_end: float, empty_text: str = "") -> None:
        """Show other curves.

        Parameters
        ----------
        curves : sequence of Curve
        x_end : float
            Where the x axis ends, reached or not.
        empty_text : str
            Shown where there are no points.
        """
        self.curves = tuple(curve for curve in curves if curve.points)
        self._x_end = max(x_end, 1.0)
        self.empty_text = empty_text
        self.update()

    @property
    def y_range(self) -> tuple[float, float]:
        """Lower and upper end of the y axis."""
        values = [y for curve in self.curves for _, y in curve.points]
        if self._top_value is not None or not values:
            return 0.0, self._top_value or 1.0
        ordered = sorted(values)
        high = ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))]  # one spike hides nothing
        return min(0.0, ordered[0]), max(high * 1.08, 1e-6)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw everything."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() * 0.85))
        painter.setFont(font)
        area = QRectF(_LEFT, _TOP, self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM)
        self._draw_axes(painter, area)
        self._draw_titles(painter, area)
        if not self.curves:
            painter.setPen(self._faint(170))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(area.adjusted(8, 0, -8, 0), int(flags), self.empty_text)
        painter.setClipRect(area.adjusted(-2, -2, 2, 2))
        for curve in self.curves:
            self._draw_curve(painter, area, curve)
        painter.end()

    def _faint(self, alpha: int) -> QColor:
        color = QColor(self._ink)
        color.setAlpha(alpha)
        return color

    def _at(self, area: QRectF, x: float, y: float) -> QPointF:
        low, high = self.y_range
        share = (min(y, high) - low) / (high - low)
        return QPointF(
            area.left() + x / self._x_end * area.width(), area.bottom() - share * area.height()
        )

    def _draw_axes(self, painter: QPainter, area: QRectF) -> None:
        low, high = self.y_range
        for value in ticks(low, high, 4):
            y = self._at(area, 0, value).y()
            painter.setPen(self._faint(45))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(self._faint(200))
            box = QRectF(0, y - 8, _LEFT - 5, 16)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignRight.value | 0x80), f"{value:g}")
        for value in ticks(0, self._x_end, 6):
            x = self._at(area, value, low).x()
            painter.setPen(self._faint(200))
            box = QRectF(x - 20, area.bottom() + 2, 40, 16)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignHCenter.value), f"{value:g}")
        painter.setPen(QPen(self._faint(140), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.drawLine(area.topLeft(), area.bottomLeft())

    def _draw_titles(self, painter: QPainter, area: QRectF) -> None:
        painter.setPen(self._ink)
        painter.drawText(QPointF(4, 13), f"{self._title} by {self._x_label}")
        metrics = painter.fontMetrics()
        right = area.right()
        for curve in reversed(self.curves):
            right -= metrics.horizontalAdvance(curve.name)
            painter.setPen(self._faint(220))
            painter.drawText(QPointF(right, 13), curve.name)
            painter.setPen(QPen(QColor(curve.color), 3))
            painter.drawLine(QPointF(right - 16, 9), QPointF(right - 5, 9))
            right -= 26

    def _draw_curve(self, painter: QPainter, area: QRectF, curve: Curve) -> None:
        color = QColor(curve.color)
        places = [self._at(area, x, y) for x, y in curve.points]
        painter.setPen(QPen(color, 1.8))
        painter.drawPolyline(QPolygonF(places))
        painter.setBrush(color)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawEllipse(places[-1], 2.8, 2.8)
        painter.setBrush(Qt.BrushStyle.NoBrush)
