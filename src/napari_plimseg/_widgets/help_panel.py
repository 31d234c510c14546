"""A window of help that stays open beside the work: keys, first steps, and *Copy report*."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QTextBrowser, QVBoxLayout

from napari_plimseg._widgets.error_report import error_report
from napari_plimseg._widgets.first_run import STEPS
from napari_plimseg._widgets.shortcuts import SHORTCUTS
from napari_plimseg._widgets.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

Failure = tuple[str, BaseException | None, str]
"""The last error's sentence, itself where it is known, and the device."""


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
        The dock that it belongs to.
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
        self.done_label = QLabel()
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
        """Put the report on the clipboard and show it, so that people see what they send."""
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
