"""A colored message over the lower edge of what a dock shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from napari_plimseg._widgets.common.background_job import error_behind
from napari_plimseg._widgets.common.error_report import error_report
from napari_plimseg._widgets.common.tooltips import TOOLTIPS, PlainLabel, plain
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject


_IN_LONG_WORDS = re.compile(r"(?<=\S{8})[_.,=/\\-](?=\S{8})")
_IN_LONG_RUNS = re.compile(r"[^\s\u200b]{24}(?=[^\s\u200b]{8})")
_MARGIN = 4
_COLORS = {"error": "#a32020", "warning": "#8a5a00", "info": "#1f5c99", "good": "#22693a"}


class Banner(QFrame):
    """Shows one message on a colored background; the cross hides it.

    For an error it offers a report that can be posted in public. The colors do not depend on the
    theme, so the text is readable in dark and light ones.

    It lies over a widget, see `float_over`: a message in the layout would push the controls away
    from under the mouse.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = ""
        self._text = ""
        self.label = PlainLabel()
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._close = QToolButton()
        self._close.setText("✕")
        self._close.setToolTip(TOOLTIPS["dismiss"])
        self._close.clicked.connect(self.hide)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 4, 4, 4)
        self.offer_button = QToolButton()
        self.offer_button.clicked.connect(self._on_offer)
        self._offered: Callable[[], object] | None = None
        self.copy_button = QToolButton()
        self.copy_button.setText("Copy report")
        self.copy_button.setToolTip(TOOLTIPS["copy_error"])
        self.copy_button.clicked.connect(self.copy_report)
        layout.addWidget(self.label, 1)
        layout.addWidget(self.offer_button, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.copy_button, 0, Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self._close, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    @property
    def text(self) -> str:
        """The message shown, empty when hidden."""
        return "" if self.isHidden() else self._text

    def float_over(self, area: QWidget) -> None:
        """Show messages over the lower edge of a widget, such as the part that scrolls."""
        self.setParent(area)
        self.hide()
        area.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the size of the widget below."""
        if event.type() == QEvent.Type.Resize and watched is self.parentWidget():
            self._place()
        return super().eventFilter(watched, event)

    def _place(self) -> None:
        area, layout = self.parentWidget(), self.layout()
        if area is None or layout is None or area.layout() is not None:
            return  # part of a layout
        width = max(1, area.width() - 2 * _MARGIN)
        height = min(layout.totalHeightForWidth(width), area.height())
        self.setGeometry(_MARGIN, area.height() - height - _MARGIN, width, height)
        self.raise_()

    def show_message(self, kind: str, text: str) -> None:
        """Show a message.

        Parameters
        ----------
        kind : {"error", "warning", "info", "good"}
            Determines the color.
        text : str
            One or two sentences.
        """
        self.kind = kind
        self._text = text
        self.label.setText(breakable(text))
        self.offer_button.hide()
        self._offered = None
        self.copy_button.setText("Copy report")
        self.copy_button.setVisible(kind == "error")
        color = _COLORS[kind]
        self.setStyleSheet(
            f"Banner {{background: {color}; border-radius: 4px;}}"
            "QLabel {background: transparent; color: white;}"
            "QToolButton {background: transparent; color: white; border: none;"
            " text-decoration: underline;}"
        )
        self.show()
        self.updateGeometry()
        self._place()

    def offer(self, text: str, act: Callable[[], object]) -> None:
        """Add a button to the message; it disappears with the message."""
        self._offered = act
        self.offer_button.setText(text)
        self.offer_button.setToolTip(plain(TOOLTIPS["banner_offer"].format(what=text)))
        self.offer_button.show()
        self._place()

    def _on_offer(self) -> None:
        act, self._offered = self._offered, None
        self.clear()
        if act is not None:
            act()

    def copy_report(self) -> None:
        """Copy a report of the error to the clipboard."""
        sentence, error, device = failure_of(self)
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(error_report(sentence, error, device=device))
            self.copy_button.setText("Copied")

    def withdraw(self, text: str) -> None:
        """Hide a message whose cause is gone, unless another one is shown by now."""
        if self._text == text:
            self.clear()

    def retract(self, kind: str) -> None:
        """Hide a message of one kind, whose cause was removed."""
        if self.kind == kind:
            self.clear()

    def clear(self) -> None:
        """Forget the last message."""
        self.kind = ""
        self.hide()


def breakable(text: str) -> str:
    """Return a text whose long words, such as file names, can be broken into lines.

    Qt breaks lines between words only, and a longer word would be cut off at the edge.
    """
    for place in (_IN_LONG_WORDS, _IN_LONG_RUNS):
        text = place.sub("\\g<0>\u200b", text)
    return text


def failure_of(banner: Banner) -> tuple[str, BaseException | None, str]:
    """Return the error that a banner shows: message, exception if known, and device."""
    sentence = banner.text if banner.kind == "error" else ""
    return sentence, error_behind(sentence), load_settings().device
