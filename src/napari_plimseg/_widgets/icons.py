"""Small pictures drawn from code, in the colours of the theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

if TYPE_CHECKING:
    from napari_plimseg.tissue import Color

_SIZE = 32


def swatch(color: Color) -> QIcon:
    """Return a square of a class's colour with a gray rim that shows on any ground."""
    picture, painter = _canvas()
    painter.setPen(QPen(QColor(128, 128, 128), 2))
    painter.setBrush(QColor(*color))
    painter.drawRoundedRect(QRectF(3, 3, _SIZE - 6, _SIZE - 6), 5, 5)
    painter.end()
    return QIcon(picture)


def eye(is_open: bool, color: QColor) -> QIcon:
    """Return an open eye, or one struck through and pale."""
    picture, painter = _canvas()
    if not is_open:
        color = QColor(color)
        color.setAlpha(120)
    painter.setPen(QPen(color, 2.5))
    outline = QPainterPath(QPointF(2, 16))
    outline.quadTo(QPointF(16, 0), QPointF(30, 16))
    outline.quadTo(QPointF(16, 32), QPointF(2, 16))
    painter.drawPath(outline)
    painter.setBrush(color)
    painter.drawEllipse(QPointF(16, 16), 4.5, 4.5)
    if not is_open:
        painter.drawLine(QPointF(5, 28), QPointF(27, 4))
    painter.end()
    return QIcon(picture)


def arrow(is_down: bool, color: QColor) -> QIcon:
    """Return the arrow of a part that can be opened: down when it is open, else to the right."""
    picture, painter = _canvas()
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(color)
    corners = ((6, 11), (26, 11), (16, 23)) if is_down else ((11, 6), (11, 26), (23, 16))
    painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
    painter.end()
    return QIcon(picture)


def _canvas() -> tuple[QPixmap, QPainter]:
    picture = QPixmap(_SIZE, _SIZE)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    return picture, painter
