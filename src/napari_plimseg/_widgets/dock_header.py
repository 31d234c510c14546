"""The line on top of the main dock: ways to the other docks, and to the help."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

from napari_plimseg._widgets.other_docks import DOCKS
from napari_plimseg._widgets.tooltips import TOOLTIPS


class DockHeader(QWidget):
    """Small buttons that open the other docks and the help.

    Attributes
    ----------
    dockRequested : Signal(str)
        A key of `DOCKS`.
    helpRequested : Signal()
        The question mark was pressed.
    """

    dockRequested = Signal(str)
    helpRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: dict[str, QToolButton] = {}
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        for key, kind in DOCKS.items():
            button = self.buttons[key] = _button(kind.short)
            button.setToolTip(TOOLTIPS[f"open_{key}"])
            button.clicked.connect(lambda _=False, key=key: self.dockRequested.emit(key))
            line.addWidget(button)
        line.addStretch(1)
        self.help_button = _button("?")
        self.help_button.setToolTip(TOOLTIPS["help"])
        self.help_button.clicked.connect(lambda: self.helpRequested.emit())
        line.addWidget(self.help_button)


def _button(text: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setAutoRaise(True)
    return button
