"""Buttons that ask the state of their dock whether they can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qtpy.QtWidgets import QPushButton

from napari_plimseg._widgets.common.tooltips import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget


class DockStateLike(Protocol):
    """The state of any dock."""

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now; empty when it can."""


class ActionButton(QPushButton):
    """A button of a dock; a new one is a line in the dock and a reason in its state.

    Parameters
    ----------
    text : str
    control : str
        What the state of the dock calls it: `why_not(control)` enables the button or is its
        tooltip.
    tooltip : str
        What the button does, shown while it is enabled.
    slot : callable
        Called without arguments when the button is pressed.
    """

    def __init__(self, text: str, control: str, tooltip: str, slot: Callable[[], object]) -> None:
        super().__init__(text)
        self.control = control
        self.usual_tooltip = tooltip
        self.setToolTip(plain(tooltip))
        self.clicked.connect(lambda: slot())  # Qt would pass whether it is checked

    def show_state(self, state: DockStateLike) -> None:
        """Enable the button, or say why it can't be used."""
        why_not = state.why_not(self.control)
        self.setEnabled(not why_not)
        self.setToolTip(plain(why_not or self.usual_tooltip))


def show_actions(dock: QWidget, state: DockStateLike) -> None:
    """Enable the action buttons of a dock, or of a part of it, as its state says."""
    for button in dock.findChildren(ActionButton):
        button.show_state(state)
