"""How a training goes: its stage, its curves and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.banner import FlowText
from napari_plimseg._widgets.curves import Curve, CurvePlot
from napari_plimseg._widgets.run_panel import BUTTON_STYLE, duration
from napari_plimseg._widgets.tooltips import TOOLTIPS
from napari_plimseg.training_runs.process import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtpy.QtGui import QMouseEvent, QResizeEvent

    from napari_plimseg._widgets.train_state import TrainDockState
    from napari_plimseg.training_runs.history import Point, RunHistory

_COLORS = {"stage1": "#4d9de0", "stage2": "#e08a3c"}
_NAMES = {"stage1": "tags", "stage2": "masks"}
_BAR_STEPS = 1000
_NO_MASKS = "No image held out has an expert mask, so mIoU can't be measured."


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
        return "Stopping after this step, then saving…"
    if history.seconds_left is not None:
        parts.append(f"{duration(history.seconds_left)} left in this stage")
    if history.memory_mb:
        parts.append(f"{history.memory_mb / 1000:.1f} GB")
    return " · ".join(parts)


class TrainPanel(QWidget):
    """The big button, and while a training runs its bar and how to stop it.

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
        self.start_button = QPushButton("Start training")
        self.start_button.setStyleSheet(BUTTON_STYLE)
        self.start_button.clicked.connect(lambda: self.startRequested.emit())
        self.resume_button = QPushButton("Resume")
        self.resume_button.setStyleSheet(BUTTON_STYLE)
        self.resume_button.clicked.connect(lambda: self.resumeRequested.emit())
        self.stop_button = QPushButton("Stop and keep")
        self.stop_button.clicked.connect(lambda: self.stopRequested.emit())
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
        """Show what can be pressed, why not, and how far the training is."""
        running = state.is_training
        for button, control, visible in (
            (self.start_button, "start", not running),
            (self.resume_button, "resume", not running and state.can_resume),
            (self.stop_button, "stop", running),
        ):
            why_not = state.why_not(control)
            button.setVisible(visible)
            button.setEnabled(not why_not)
            button.setToolTip(why_not or TOOLTIPS[f"train_{control}"])
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
    """Loss and mIoU of both stages."""

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
        """Draw in the text colour of the theme."""
        self.loss.set_ink(color)
        self.miou.set_ink(color)

    def show_history(self, history: RunHistory) -> None:
        """Show the curves of a training; the second stage follows the first on the x axis."""
        if history.stage in _COLORS:
            self._epochs[history.stage] = history.epochs
        first = self._epochs.get("stage1") or _last(history.losses.get("stage1", ()))
        both = first + (self._epochs.get("stage2") or _last(history.losses.get("stage2", ())))
        self.loss.show_curves(
            _curves(history.losses, first), both, "The curve begins with the first step."
        )
        measured = any(history.mious.values())
        later = history.epoch > 1 or history.stage not in ("", "stage1")
        empty = _NO_MASKS if later else "Measured after each epoch, where there are masks."
        percent = {
            stage: [(x, 100 * y) for x, y in points] for stage, points in history.mious.items()
        }
        self.miou.show_curves(_curves(percent, first), both, "" if measured else empty)

    def forget(self) -> None:
        """Show the curves of another training next."""
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
    """One picture of a training after the other; the newest by itself until one is chosen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.paths: list[str] = []
        self._versions: dict[str, int] = {}
        self.position = 0
        self._pixmap = QPixmap()
        self.picture = _Clickable()
        self.picture.setToolTip(TOOLTIPS["train_pictures"])
        self.picture.clicked.connect(self.enlarge)
        self.label = QLabel()
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
        """Show pictures by path; those with another number were drawn anew."""
        if pictures == self._versions:
            return
        shown = self.paths[self.position] if self.paths else ""
        again = shown in pictures and pictures[shown] != self._versions.get(shown)
        # their order must not change under the fingers: new ones come last
        self.paths = [p for p in self.paths if p in pictures]
        self.paths += [p for p in pictures if p not in self.paths]
        self._versions = dict(pictures)
        self.setVisible(bool(self.paths))
        if shown not in self.paths or again or not shown:
            self.position = self.paths.index(shown) if shown in self.paths else 0
            self._read()
        self._show_label()

    def go(self, step: int) -> None:
        """Show the next picture, or the one before."""
        if self.paths:
            self.position = (self.position + step) % len(self.paths)
            self._read()
            self._show_label()

    def enlarge(self) -> QDialog | None:
        """Show the picture at its own size in a window."""
        if self._pixmap.isNull():
            return None
        window = QDialog(self)
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.setWindowTitle(Path(self.paths[self.position]).stem)
        label = QLabel()
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
        self.picture.clear()  # a file that can't be read must not leave the last one there
        self._fit()

    def _show_label(self) -> None:
        self.label.setText(f"{self.position + 1} of {len(self.paths)}")

    def _fit(self) -> None:
        if not self._pixmap.isNull() and self.width() > 40:
            width = min(self.width(), self._pixmap.width())
            smooth = Qt.TransformationMode.SmoothTransformation
            self.picture.setPixmap(self._pixmap.scaledToWidth(width, smooth))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the picture to the dock."""
        super().resizeEvent(event)
        self._fit()


class _Clickable(QLabel):
    """A label that is pressed like a button and never widens its dock."""

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
