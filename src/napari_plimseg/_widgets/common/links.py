"""Rich text with links that can be read on every theme.

Qt's own blue has a contrast of 1.5 to 1 on napari's dark theme. Here the color of links is chosen
for the background that the widget has now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QTextBrowser

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

READABLE = 4.5
"""Least contrast of text, of the Web Content Accessibility Guidelines 2.2."""
_BLUES = ("#1558b0", "#4ea1ff", "#8cc4ff", "#c4e0ff")


def contrast(first: QColor, second: QColor) -> float:
    """Return the contrast of two colors: 1 for equal ones, 21 for black on white."""
    bright, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(color: QColor) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (color.redF(), color.greenF(), color.blueF())
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def link_color(widget: QWidget) -> str:
    """Return a blue that can be read on a widget, or else the color of its text."""
    palette = widget.palette()
    background = palette.color(widget.backgroundRole())
    for blue in _BLUES:
        if contrast(QColor(blue), background) >= READABLE:
            return blue
    return palette.color(widget.foregroundRole()).name()


class LinkBrowser(QTextBrowser):
    """Shows rich text and opens its links in other programs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._html = ""
        self.setOpenExternalLinks(True)

    @property
    def color(self) -> str:
        """The color of its links, as "#rrggbb"."""
        return link_color(self.viewport())

    def show_html(self, html: str) -> None:
        """Show rich text."""
        self._html = html
        self.document().setDefaultStyleSheet(f"a {{color: {self.color};}}")
        self.setHtml(html)

    def changeEvent(self, event: QEvent) -> None:
        """Choose the color again when the theme has changed."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self._html:
            self.show_html(self._html)
