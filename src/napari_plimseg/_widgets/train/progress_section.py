"""Progress of a training: the button and its bar, curves, and pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    ActionButton,
    FlowText,
    PlainLabel,
    show_actions,
)
from napari_plimseg._widgets.generate import BUTTON_STYLE, duration
from napari_plimseg.training_runs import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qtpy.QtGui import QMouseEvent, QPaintEvent, QResizeEvent

    from napari_plimseg._widgets.train.state import TrainDockState
    from napari_plimseg.training_runs import Point, RunHistory


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
        "#rrggbb", visible on light and dark backgrounds.
    points : tuple of (float, float)
        x and y, in the order of x.
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
        Upper end of a y axis that starts at 0; by default the axis fits the curves.
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
        """Draw text and axes in the text color of the theme."""
        self._ink = QColor(color)
        self.update()

    def show_curves(self, curves: Sequence[Curve], x_end: float, empty_text: str = "") -> None:
        """Show these curves.

        Parameters
        ----------
        curves : sequence of Curve
        x_end : float
            End of the x axis, which the curves may not have reached yet.
        empty_text : str
            Shown while there are no points.
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
        # a single spike must not flatten the rest
        high = ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))]
        return min(0.0, ordered[0]), max(high * 1.08, 1e-6)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw axes, title, legend and curves."""
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


_COLORS = {"stage1": "#4d9de0", "stage2": "#e08a3c"}
_NAMES = {"stage1": "tags", "stage2": "masks"}
_BAR_STEPS = 1000
_NO_MASKS = "mIoU needs validation images with expert masks."


def progress_line(history: RunHistory, state: TrainingState) -> str:
    """Return one line: stage, epoch, time left, memory."""
    if state is TrainingState.STARTING and not history.last_kind:
        return "Starting…"
    parts = [history.title]
    if history.epochs and history.stage != "pseudo_masks":
        parts.append(f"epoch {history.epoch} of {history.epochs}")
    if history.stage == "pseudo_masks" and history.steps:
        parts.append(f"{history.step} of {history.steps} images")
    if state is TrainingState.STOPPING:
        return "Finishing this step, then saving…"
    if history.seconds_left is not None:
        parts.append(f"{duration(history.seconds_left)} left in this stage")
    if history.memory_mb:
        parts.append(f"{history.memory_mb / 1000:.1f} GB")
    return " · ".join(parts)


class TrainPanel(QWidget):
    """The big button; during a training, the progress bar and the stop button.

    Attributes
    ----------
    startRequested, stopRequested, resumeRequested : Signal()
        A button was pressed.
    """

    startRequested = Signal()
    stopRequested = Signal()
    resumeRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.start_button, self.resume_button, self.stop_button = (
            ActionButton(text, control, TOOLTIPS[f"train_{control}"], signal.emit)
            for text, control, signal in (
                ("Start training", "start", self.startRequested),
                ("Resume", "resume", self.resumeRequested),
                ("Stop and save", "stop", self.stopRequested),
            )
        )
        self.start_button.setStyleSheet(BUTTON_STYLE)
        self.resume_button.setStyleSheet(BUTTON_STYLE)
        self.bar = QProgressBar()
        self.bar.setRange(0, _BAR_STEPS)
        self.line = FlowText()
        first, second = QHBoxLayout(), QHBoxLayout()
        first.setContentsMargins(0, 0, 0, 0)
        first.addWidget(self.start_button, 1)
        first.addWidget(self.resume_button, 1)
        second.setContentsMargins(0, 0, 0, 0)
        second.addWidget(self.bar, 1)
        second.addWidget(self.stop_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(first)
        layout.addLayout(second)
        layout.addWidget(self.line)

    def show_state(self, state: TrainDockState, history: RunHistory | None) -> None:
        """Show what can be used, why not the rest, and the progress of the training."""
        running = state.is_training
        show_actions(self, state)
        self.start_button.setVisible(not running)
        self.resume_button.setVisible(not running and state.can_resume)
        self.resume_button.setText(state.resume_text)
        self.stop_button.setVisible(running)
        self.stop_button.setText(state.stop_text)
        if state.stop_text == "Stop now" and self.stop_button.isEnabled():
            self.stop_button.setToolTip(TOOLTIPS["train_stop_now"])
        self.bar.setVisible(running)
        if running and history is not None and state.training is not None:
            self.line.setText(progress_line(history, state.training))
            known = history.fraction > 0
            self.bar.setRange(0, _BAR_STEPS if known else 0)
            self.bar.setValue(round(_BAR_STEPS * history.fraction))
        else:
            self.line.setText(state.why_not("start"))
        self.line.setVisible(bool(self.line.text()))


class CurvesPanel(QWidget):
    """Plots of loss and mIoU over both stages."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.loss = CurvePlot("Loss", "epoch")
        self.miou = CurvePlot("mIoU in %", "epoch", from_zero_to=100)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.loss)
        layout.addWidget(self.miou)
        self._epochs: dict[str, int] = {}

    def set_ink(self, color: str) -> None:
        """Draw in the text color of the theme."""
        self.loss.set_ink(color)
        self.miou.set_ink(color)

    def show_history(self, history: RunHistory) -> None:
        """Show the curves of a training; stage 2 follows stage 1 on the x axis."""
        if history.stage in _COLORS:
            self._epochs[history.stage] = history.epochs
        first = self._epochs.get("stage1") or _last(history.losses.get("stage1", ()))
        both = first + (self._epochs.get("stage2") or _last(history.losses.get("stage2", ())))
        self.loss.show_curves(_curves(history.losses, first), both, "Waiting for the first step.")
        measured = any(history.mious.values())
        later = history.epoch > 1 or history.stage not in ("", "stage1")
        empty = _NO_MASKS if later else "Measured after each epoch if there are expert masks."
        percent = {
            stage: [(x, 100 * y) for x, y in points] for stage, points in history.mious.items()
        }
        self.miou.show_curves(_curves(percent, first), both, "" if measured else empty)

    def forget(self) -> None:
        """Forget the lengths of the stages: the next curves belong to another training."""
        self._epochs = {}


def _last(points: Iterable[Point]) -> int:
    return max((-int(-x // 1) for x, _ in points), default=0)


def _curves(points: dict[str, list[Point]], first: int) -> list[Curve]:
    return [
        Curve(
            _NAMES[stage],
            _COLORS[stage],
            tuple((x + (first if stage == "stage2" else 0), y) for x, y in points[stage]),
        )
        for stage in _COLORS
        if points.get(stage)
    ]


class PicturesPanel(QWidget):
    """Pictures of a training, one at a time, with buttons to go through them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.paths: list[str] = []
        self._versions: dict[str, int] = {}
        self.position = 0
        self._pixmap = QPixmap()
        self.picture = _Clickable()
        self.picture.setToolTip(TOOLTIPS["train_pictures"])
        self.picture.clicked.connect(self.enlarge)
        self.label = PlainLabel()
        self.back = _step_button("◀", "train_picture_back", lambda: self.go(-1))
        self.forward = _step_button("▶", "train_picture_forward", lambda: self.go(1))
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.back)
        row.addWidget(self.label, 1)
        row.addWidget(self.forward)
        self.label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.picture)
        layout.addLayout(row)
        self.hide()

    def show_pictures(self, pictures: dict[str, int]) -> None:
        """Show pictures, by path; a changed number means that the file was written again."""
        if pictures == self._versions:
            return
        shown = self.paths[self.position] if self.paths else ""
        again = shown in pictures and pictures[shown] != self._versions.get(shown)
        # new ones go to the end: the order must not change while the user goes through them
        self.paths = [p for p in self.paths if p in pictures]
        self.paths += [p for p in pictures if p not in self.paths]
        self._versions = dict(pictures)
        self.setVisible(bool(self.paths))
        if shown not in self.paths or again or not shown:
            self.position = self.paths.index(shown) if shown in self.paths else 0
            self._read()
        self._show_label()

    def go(self, step: int) -> None:
        """Show the next (1) or the previous (-1) picture."""
        if self.paths:
            self.position = (self.position + step) % len(self.paths)
            self._read()
            self._show_label()

    def enlarge(self) -> QDialog | None:
        """Show the picture at full size in a window."""
        if self._pixmap.isNull():
            return None
        window = QDialog(self)
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.setWindowTitle(Path(self.paths[self.position]).stem)
        label = PlainLabel()
        label.setPixmap(self._pixmap)
        area = QScrollArea()
        area.setWidget(label)
        QVBoxLayout(window).addWidget(area)
        size = self._pixmap.size()
        window.resize(min(size.width() + 50, 1240), min(size.height() + 60, 680))
        window.show()
        return window

    def _read(self) -> None:
        self._pixmap = QPixmap(self.paths[self.position]) if self.paths else QPixmap()
        self.picture.clear()  # if the file can't be read, the previous picture must not stay
        self._fit()

    def _show_label(self) -> None:
        self.label.setText(f"{self.position + 1} of {len(self.paths)}")

    def _fit(self) -> None:
        if not self._pixmap.isNull() and self.width() > 40:
            width = min(self.width(), self._pixmap.width())
            smooth = Qt.TransformationMode.SmoothTransformation
            self.picture.setPixmap(self._pixmap.scaledToWidth(width, smooth))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the picture to the width of the dock."""
        super().resizeEvent(event)
        self._fit()


class _Clickable(PlainLabel):
    """A label that can be clicked like a button and never widens the dock."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def minimumSizeHint(self) -> QSize:
        return QSize(60, 60)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.clicked.emit()


def _step_button(text: str, tooltip: str, slot: object) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(TOOLTIPS[tooltip])
    button.clicked.connect(slot)
    return button
