"""Every keyboard shortcut that people may use here, in one table; docks add theirs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shortcut:
    """One line of the help panel.

    Parameters
    ----------
    keys : str
        As they stand on the keyboard, several with commas.
    what : str
        What they do.
    """

    keys: str
    what: str


SHORTCUTS: dict[str, tuple[Shortcut, ...]] = {
    "Looking": (
        Shortcut("Mouse wheel", "zoom"),
        Shortcut("Drag", "move the slide"),
        Shortcut("Space", "move the slide while a tool is in hand"),
        Shortcut("Ctrl+R", "show everything"),
        Shortcut("V", "show or hide the selected layer"),
    ),
    "Painting on a mask layer": (
        Shortcut("E", "eraser"),
        Shortcut("P", "brush"),
        Shortcut("F", "fill"),
        Shortcut("L", "pick the class under the cursor"),
        Shortcut("Z", "move and zoom"),
        Shortcut("[ and ]", "smaller and larger brush"),
        Shortcut("Alt+drag", "size of the brush"),
        Shortcut("Ctrl+Z", "undo"),
        Shortcut("Ctrl+Shift+Z", "redo"),
        Shortcut("B", "keep what is painted already"),
    ),
    "napari": (
        Shortcut("Ctrl+O", "open files"),
        Shortcut("Ctrl+Shift+P", "find any command by name"),
        Shortcut("Ctrl+F", "whole screen"),
        Shortcut("Ctrl+Alt+/", "every key of napari"),
    ),
}
"""By group, in the order in which they are shown."""
