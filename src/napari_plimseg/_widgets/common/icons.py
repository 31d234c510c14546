"""Icons drawn by code, in the colors of the theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolButton

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_plimseg.tissue import Color


_SIZE = 32


def swatch(color: Color) -> QIcon:
    """Return a square in a class's color, with a gray rim visible on any background."""
    picture, painter = _canvas()
    painter.setPen(QPen(QColor(128, 128, 128), 2))
    painter.setBrush(QColor(*color))
    painter.drawRoundedRect(QRectF(3, 3, _SIZE - 6, _SIZE - 6), 5, 5)
    painter.end()
    icon = QIcon(picture)
    icon.addPixmap(picture, QIcon.Mode.Selected)  # else Qt tints it: another class's color
    return icon


def eye(is_open: bool, color: QColor) -> QIcon:
    """Return an open eye, or a pale one struck through."""
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
    """Return the arrow of a collapsible section: down when expanded, else to the right."""
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


CHOSEN_STYLE = (
    "QToolButton {border-radius: 3px; padding: 2px 1px;}"
    "QToolButton:checked {background: rgba(90, 130, 255, 110);}"
    "QToolButton:hover:!checked {background: rgba(128, 128, 128, 60);}"
)
"""Highlights the active tool and class; napari's theme draws checked buttons like others."""
_TOOL_SIZE = 48
_PEN = 3.0


def tool_icon(name: str, color: QColor) -> QIcon:
    """Return the icon of a tool, a key of `DRAWN`."""
    picture = QPixmap(_TOOL_SIZE, _TOOL_SIZE)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    pen = QPen(color, _PEN)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    DRAWN[name](painter, color)
    painter.end()
    return QIcon(picture)


def _points(corners: Sequence[tuple[float, float]]) -> QPolygonF:
    return QPolygonF([QPointF(x, y) for x, y in corners])


def _move(painter: QPainter, color: QColor) -> None:
    painter.drawLine(QPointF(24, 6), QPointF(24, 42))
    painter.drawLine(QPointF(6, 24), QPointF(42, 24))
    for tip, one, other in (
        ((24, 5), (18, 12), (30, 12)),
        ((24, 43), (18, 36), (30, 36)),
        ((5, 24), (12, 18), (12, 30)),
        ((43, 24), (36, 18), (36, 30)),
    ):
        painter.drawPolyline(_points([one, tip, other]))


def _brush(painter: QPainter, color: QColor) -> None:
    painter.drawPolygon(_points([(40, 5), (44, 9), (25, 30), (19, 24)]))
    painter.setBrush(color)
    painter.drawPolygon(_points([(16, 27), (22, 33), (17, 41), (5, 43), (8, 36)]))


def _erase(painter: QPainter, color: QColor) -> None:
    painter.drawPolygon(_points([(27, 7), (43, 21), (25, 40), (15, 40), (7, 32)]))
    painter.drawLine(QPointF(17, 18), QPointF(33, 32))
    painter.drawLine(QPointF(10, 43), QPointF(42, 43))


def _fill(painter: QPainter, color: QColor) -> None:
    painter.drawPolygon(_points([(20, 10), (37, 26), (22, 41), (6, 25)]))
    painter.drawLine(QPointF(14, 4), QPointF(24, 14))
    painter.setBrush(color)
    painter.drawPolygon(_points([(9, 27), (34, 27), (22, 40)]))
    painter.drawEllipse(QRectF(37, 32, 6, 10))


def _polygon(painter: QPainter, color: QColor) -> None:
    corners = [(9, 17), (27, 7), (41, 21), (34, 41), (13, 37)]
    painter.drawPolygon(_points(corners))
    painter.setBrush(color)
    for x, y in corners:
        painter.drawEllipse(QPointF(x, y), 3.5, 3.5)


def _pick(painter: QPainter, color: QColor) -> None:
    painter.drawPolygon(_points([(27, 16), (33, 22), (15, 40), (7, 42), (9, 34)]))
    painter.setBrush(color)
    painter.drawPolygon(_points([(24, 12), (37, 25), (40, 21), (42, 8), (28, 8)]))


def _undo(painter: QPainter, color: QColor) -> None:
    painter.drawArc(QRectF(10, 14, 30, 26), -60 * 16, 210 * 16)
    painter.setBrush(color)
    painter.drawPolygon(_points([(5, 18), (20, 9), (19, 25)]))


def _redo(painter: QPainter, color: QColor) -> None:
    painter.translate(_TOOL_SIZE, 0)
    painter.scale(-1, 1)
    _undo(painter, color)


def _lock(painter: QPainter, color: QColor) -> None:
    painter.drawArc(QRectF(15, 6, 18, 26), 0, 180 * 16)
    painter.setBrush(color)
    painter.drawRoundedRect(QRectF(10, 21, 28, 21), 3, 3)


def _open_lock(painter: QPainter, color: QColor) -> None:
    faint = QColor(color)
    faint.setAlpha(90)
    painter.setPen(QPen(faint, _PEN))
    painter.drawArc(QRectF(26, 6, 16, 26), 0, 180 * 16)
    painter.drawRoundedRect(QRectF(8, 21, 24, 21), 3, 3)


def _point_in(painter: QPainter, color: QColor) -> None:
    painter.drawEllipse(QPointF(24, 24), 17, 17)
    painter.drawLine(QPointF(24, 15), QPointF(24, 33))
    painter.drawLine(QPointF(15, 24), QPointF(33, 24))


def _point_out(painter: QPainter, color: QColor) -> None:
    painter.drawEllipse(QPointF(24, 24), 17, 17)
    painter.drawLine(QPointF(15, 24), QPointF(33, 24))


def _box(painter: QPainter, color: QColor) -> None:
    painter.drawRect(QRectF(7, 11, 34, 26))
    painter.setBrush(color)
    for y in (11, 37):
        for x in (7, 41):
            painter.drawRect(QRectF(x - 2, y - 2, 4, 4))


def _refine(painter: QPainter, color: QColor) -> None:
    outline = [(8, 26), (12, 12), (25, 7), (37, 13), (33, 24), (22, 28), (19, 40), (11, 38)]
    painter.drawPolygon(_points(outline))
    painter.drawLine(QPointF(35, 29), QPointF(35, 43))
    painter.drawLine(QPointF(28, 36), QPointF(42, 36))


DRAWN: dict[str, Callable[[QPainter, QColor], None]] = {
    "move": _move,
    "brush": _brush,
    "erase": _erase,
    "fill": _fill,
    "polygon": _polygon,
    "pick": _pick,
    "undo": _undo,
    "redo": _redo,
    "lock": _lock,
    "open_lock": _open_lock,
    "point_in": _point_in,
    "point_out": _point_out,
    "box": _box,
    "refine": _refine,
}
"""The function that draws each icon."""


def tool_button(text: str) -> QToolButton:
    """Return a button that activates a tool; its icon comes from `tool_icon`."""
    button = QToolButton()
    button.setText(text)
    button.setCheckable(True)
    button.setIconSize(QSize(20, 20))
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setStyleSheet(CHOSEN_STYLE + "QToolButton {font-size: 11px;}")
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button
