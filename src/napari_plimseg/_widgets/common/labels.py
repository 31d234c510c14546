"""Labels that show text as it is: names from files are never read as HTML.

Qt takes text that begins like HTML for HTML, in labels, tooltips and message boxes. A class, a
slide or a model may be called `<img src=...>`.
"""

from __future__ import annotations

import re

from qtpy.QtCore import QPoint, QRect, QSize, Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

_LIKE_HTML = re.compile(r"<(?!\u200b)|&(?=lt;)")


def plain(text: str) -> str:
    """Return a text that Qt shows as it is where a widget guesses the format.

    An invisible space of no width follows each `<`, so that nothing is a tag. For tooltips, message
    boxes and notifications; labels of our own are `PlainLabel`.
    """
    return _LIKE_HTML.sub("\\g<0>\u200b", text)


class PlainLabel(QLabel):
    """A label whose text is no HTML, unless `setTextFormat` says so.

    Parameters
    ----------
    text : str
    parent : QWidget, optional
    """

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)


class FlowText(PlainLabel):
    """A label whose long text wraps instead of widening the dock."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def minimumSizeHint(self) -> QSize:
        """Return a small width, so that the dock can be narrow."""
        box = QRect(QPoint(0, 0), QSize(max(self.width(), 120), 4000))
        flags = int(Qt.TextFlag.TextWordWrap.value)
        return QSize(60, self.fontMetrics().boundingRect(box, flags, self.text()).height())
