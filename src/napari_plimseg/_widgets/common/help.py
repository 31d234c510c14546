"""A help window that stays open while working: keys, first steps, and *Copy report*."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QDialog,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common.error_report import error_report
from napari_plimseg._widgets.common.tooltips import TOOLTIPS, FlowText, PlainLabel
from napari_plimseg.settings import remember, remembered

if TYPE_CHECKING:
    from collections.abc import Callable


STEPS = (
    ("Open a slide.", "Drop a file on the window, or press Sample slide."),
    ("Generate pseudo masks.", "Choose the tissue classes, then press Generate pseudo masks."),
    ("Correct and export.", "Paint on the mask layer, then export for QuPath or a spreadsheet."),
)
_SEEN = "first_run_seen"


def wants_first_run() -> bool:
    """Whether the card was not yet dismissed on this computer."""
    return not remembered(_SEEN, False)


class FirstRunCard(QFrame):
    """Shows the first steps until *Got it* is pressed; never again afterwards.

    Attributes
    ----------
    dismissed : Signal()
        The card was hidden for good.
    """

    dismissed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("FirstRunCard")
        self.setStyleSheet(
            "#FirstRunCard {border: 1px solid #2e7d4f; border-radius: 6px;"
            " background: rgba(46, 125, 79, 40);}"
            "#FirstRunCard QLabel {background: transparent;}"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(4)
        for number, (what, how) in enumerate(STEPS, start=1):
            label = FlowText(f"{number}. <b>{what}</b> {how}")
            label.setTextFormat(Qt.TextFormat.RichText)
            layout.addWidget(label)
        self.button = QPushButton("Got it")
        self.button.setToolTip(TOOLTIPS["first_run"])
        self.button.clicked.connect(self.dismiss)
        row = QHBoxLayout()
        note = PlainLabel("Research use only.")
        note.setEnabled(False)
        row.addWidget(note, 1)
        row.addWidget(self.button)
        layout.addLayout(row)
        self.setVisible(wants_first_run())

    def dismiss(self) -> None:
        """Hide the card for good."""
        remember(_SEEN, True)
        self.hide()
        self.dismissed.emit()


@dataclass(frozen=True)
class Shortcut:
    """One line of the help panel.

    Parameters
    ----------
    keys : str
        As labeled on the keyboard, separated by commas.
    what : str
        What they do.
    """

    keys: str
    what: str


SHORTCUTS: dict[str, tuple[Shortcut, ...]] = {
    "Viewing": (
        Shortcut("Mouse wheel", "zoom"),
        Shortcut("Drag", "move the slide"),
        Shortcut("Space", "move the slide while another tool is active"),
        Shortcut("Ctrl+R", "show the whole slide"),
        Shortcut("V", "show or hide the selected layer"),
    ),
    "Correcting (any layer of PLIMSeg selected)": (
        Shortcut("1 to 9", "select the class"),
        Shortcut("B or P", "brush"),
        Shortcut("E", "eraser: remove corrections"),
        Shortcut("F", "fill: set the clicked region to the selected class"),
        Shortcut("G", "polygon; double-click to close it"),
        Shortcut("L", "pick the class under the cursor"),
        Shortcut("Z", "move and zoom"),
        Shortcut("[ and ]", "smaller and larger brush"),
        Shortcut("Alt+mouse", "size of the brush: move left or right"),
        Shortcut("Ctrl+Z", "undo"),
        Shortcut("Ctrl+Shift+Z", "redo"),
        Shortcut("Esc", "cancel an operation that waits for a click"),
    ),
    "Smart select (one of its tools active)": (
        Shortcut("P", "point inside the object"),
        Shortcut("Shift+P", "point outside the object; or hold Shift and click"),
        Shortcut("X", "box around the object"),
        Shortcut("M", "refine a region of the mask"),
        Shortcut("Enter", "accept: assign the selected class"),
        Shortcut("Esc", "discard; press again to deactivate the tool"),
        Shortcut("Backspace", "remove the last point or box"),
        Shortcut("Z", "deactivate the tool"),
    ),
    "Inspecting (the same, PLIMSeg Review open)": (
        Shortcut("O", "outlines or fill"),
        Shortcut("N", "next uncertain region"),
        Shortcut("R", "mark the region as reviewed"),
        Shortcut("Shift+R", "mark the current view as reviewed"),
    ),
    "Tagging images": (
        Shortcut("1 to 9", "add or remove a tag"),
        Shortcut("Space, →", "next image"),
        Shortcut("←, Backspace", "previous image"),
        Shortcut("U", "next image without tags"),
        Shortcut("=", "same tags as the previous image"),
        Shortcut("0", "none of the classes"),
        Shortcut("?", "unsure"),
        Shortcut("Home, End", "first and last image"),
        Shortcut("Ctrl+Z", "undo"),
    ),
    "napari": (
        Shortcut("Ctrl+O", "open files"),
        Shortcut("Tab", "the next control of a dock; folded parts are skipped"),
        Shortcut("Ctrl+Shift+P", "find any command by name"),
        Shortcut("Ctrl+F", "full screen"),
        Shortcut("Ctrl+Alt+/", "all keyboard shortcuts of napari"),
    ),
}
"""By group, in the order in which they are shown."""


Failure = tuple[str, BaseException | None, str]
"""Message and exception (if known) of the last error, and the device."""


def help_html() -> str:
    """Return the first steps and the table of keys."""
    steps = "".join(f"<li><b>{escape(what)}</b> {escape(how)}</li>" for what, how in STEPS)
    groups = "".join(
        f"<tr><td colspan='2'><br><b>{escape(group)}</b></td></tr>"
        + "".join(
            f"<tr><td style='padding-right: 12px;'><code>{escape(s.keys)}</code></td>"
            f"<td>{escape(s.what)}</td></tr>"
            for s in shortcuts
        )
        for group, shortcuts in SHORTCUTS.items()
    )
    return f"<h3>First steps</h3><ol>{steps}</ol><h3>Keys</h3><table>{groups}</table>"


class HelpPanel(QDialog):
    """Shows help without blocking the window behind it.

    Parameters
    ----------
    parent : QWidget
        The dock it belongs to.
    last_failure : callable, optional
        Returns a `Failure`, for the report.
    """

    def __init__(
        self, parent: QWidget, last_failure: Callable[[], Failure] = lambda: ("", None, "")
    ) -> None:
        super().__init__(parent)
        self._last_failure = last_failure
        self.setWindowTitle("PLIMSeg help")
        self.setModal(False)
        self.text = QTextBrowser()
        self.text.setHtml(help_html())
        self.report_button = QPushButton("Copy report")
        self.report_button.setToolTip(TOOLTIPS["copy_report"])
        self.report_button.clicked.connect(self.copy_report)
        self.done_label = PlainLabel()
        close = QPushButton("Close")
        close.setToolTip(TOOLTIPS["close_help"])
        close.clicked.connect(self.close)
        row = QHBoxLayout()
        row.addWidget(self.report_button)
        row.addWidget(self.done_label, 1)
        row.addWidget(close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text, 1)
        layout.addLayout(row)
        self.resize(420, 560)

    def copy_report(self) -> None:
        """Copy the report to the clipboard and show it, so that people see what they send."""
        sentence, error, device = self._last_failure()
        report = error_report(sentence, error, device=device)
        QGuiApplication.clipboard().setText(report)
        self.text.setPlainText(report)
        self.done_label.setText("Copied.")

    def show_help(self) -> None:
        """Show the help in front of the window."""
        self.text.setHtml(help_html())
        self.done_label.clear()
        self.show()
        self.raise_()
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
