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
    "Correcting (a mask selected, PLIMSeg Review open)": (
        Shortcut("1 to 9", "choose the class"),
        Shortcut("B or P", "brush"),
        Shortcut("E", "eraser: back to what the model said"),
        Shortcut("F", "fill: the region that you click becomes the chosen class"),
        Shortcut("G", "polygon; a double click closes it"),
        Shortcut("L", "pick the class under the cursor"),
        Shortcut("Z", "move and zoom"),
        Shortcut("[ and ]", "smaller and larger brush"),
        Shortcut("Alt+mouse", "size of the brush: move left or right"),
        Shortcut("Ctrl+Z", "undo"),
        Shortcut("Ctrl+Shift+Z", "redo"),
        Shortcut("Esc", "call off a click that is waited for"),
    ),
    "Points and boxes (a hint tool in hand, PLIMSeg Review open)": (
        Shortcut("P", "point inside the object"),
        Shortcut("Shift+P", "point outside of it; holding Shift turns a point round, too"),
        Shortcut("X", "box around it"),
        Shortcut("M", "refine a region of the mask: click it first"),
        Shortcut("Enter", "accept into the chosen class"),
        Shortcut("Esc", "discard; a second time puts the tool down"),
        Shortcut("Backspace", "take the last hint back"),
        Shortcut("Z", "put the tool down"),
    ),
    "Judging (a mask selected, PLIMSeg Review open)": (
        Shortcut("O", "outlines or fill"),
        Shortcut("N", "next uncertain region"),
        Shortcut("R", "mark the region as reviewed"),
        Shortcut("Shift+R", "mark all that the window shows as reviewed"),
    ),
    "Tagging images": (
        Shortcut("1 to 9", "give or take a tag"),
        Shortcut("Space, →", "next image"),
        Shortcut("←, Backspace", "image before"),
        Shortcut("U", "next image without tags"),
        Shortcut("=", "same tags as the last image"),
        Shortcut("0", "nothing of these"),
        Shortcut("?", "unsure"),
        Shortcut("Home, End", "first and last image"),
        Shortcut("Ctrl+Z", "undo"),
    ),
    "napari": (
        Shortcut("Ctrl+O", "open files"),
        Shortcut("Ctrl+Shift+P", "find any command by name"),
        Shortcut("Ctrl+F", "whole screen"),
        Shortcut("Ctrl+Alt+/", "every key of napari"),
    ),
}
"""By group, in the order in which they are shown."""
