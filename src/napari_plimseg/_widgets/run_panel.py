"""The big button, the progress bar and the line under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_plimseg._widgets.banner import FlowText
from napari_plimseg._widgets.dock_state import DockState, Phase
from napari_plimseg._widgets.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from napari_plimseg.inference.engine import Progress

BUTTON_STYLE = (
    "QPushButton {background: #2e7d4f; color: white; font-weight: bold; padding: 8px;"
    " border-radius: 4px;}"
    "QPushButton:hover {background: #38965f;}"
    "QPushButton:pressed {background: #25663f;}"
    "QPushButton:disabled {background: rgba(128, 128, 128, 70); color: rgb(140, 140, 140);}"
)


def duration(seconds: float) -> str:
    """Return a time for people: "8 s", "3 min", "2 h 10 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def progress_line(progress: Progress) -> str:
    """Return one line: tiles, speed, time left and device."""
    if not progress.tiles_total:
        return f"{progress.message}…"
    parts = [f"{progress.tiles_done:,} / {progress.tiles_total:,} tiles"]
    if progress.tiles_per_second:
        parts.append(f"{progress.tiles_per_second:.1f} tiles/s")
    if progress.seconds_left is not None and progress.tiles_done < progress.tiles_total:
        parts.append(f"{duration(progress.seconds_left)} left")
    parts.append(progress.device)
    if progress.message.startswith("Out of memory"):
        parts.append(progress.message)
    return " · ".join(parts)


def finished_text(progress: Progress) -> str:
    """Return what a run has done, in one or two sentences."""
    if not progress.tiles_total:
        return "Done: there is no tissue here."
    text = f"Done: {progress.tiles_done:,} tiles in {duration(progress.seconds)}."
    if progress.unreadable_tiles:
        text += f" {progress.unreadable_tiles} tiles can't be read (magenta)."
    return text


class RunPanel(QWidget):
    """Starts and stops a run and shows how far it is.

    Attributes
    ----------
    startRequested, cancelRequested : Signal()
        A button was pressed.
    """

    startRequested = Signal()
    cancelRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton("Generate pseudo masks")
        self.button.setStyleSheet(BUTTON_STYLE)
        self.button.clicked.connect(lambda: self.startRequested.emit())
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.clicked.connect(lambda: self.cancelRequested.emit())
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.line = FlowText()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.button)
        layout.addLayout(row)
        layout.addWidget(self.line)
        self.show_state(DockState())

    def show_state(self, state: DockState) -> None:
        """Show what can be pressed, and why not."""
        running = state.phase is not Phase.IDLE
        why_not = state.why_not("generate")
        self.button.setVisible(not running)
        self.button.setText(state.generate_text)
        self.button.setEnabled(not why_not)
        usual = TOOLTIPS["continue" if state.stopped else "generate"]
        self.button.setToolTip(why_not or usual)
        self.bar.setVisible(running)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(not state.why_not("cancel"))
        self.cancel_button.setToolTip(state.why_not("cancel") or TOOLTIPS["cancel"])
        if running:
            self.line.setVisible(True)
        else:
            self.line.setText(why_not)
            self.line.setVisible(bool(why_not))

    def show_stage(self, text: str) -> None:
        """Show that something without known length goes on."""
        self.bar.setRange(0, 0)
        self.line.setText(text)

    def show_progress(self, progress: Progress) -> None:
        """Show how far the run is."""
        if progress.tiles_total:
            self.bar.setRange(0, progress.tiles_total)
            self.bar.setValue(progress.tiles_done)
        else:
            self.bar.setRange(0, 0)
        self.line.setText(progress_line(progress))
