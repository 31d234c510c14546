"""The Tab key: through the controls of a dock as they are seen, and out of every one of them.

Qt's own order is that in which controls were made, and a table keeps the key for its cells.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractScrollArea,
    QFrame,
    QGridLayout,
    QPlainTextEdit,
    QScrollArea,
    QSplitter,
    QTextEdit,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qtpy.QtGui import QShowEvent
    from qtpy.QtWidgets import QLayout


class TabOrdered(QWidget):
    """A widget whose controls the Tab key visits line by line, from left to right."""

    def showEvent(self, event: QShowEvent) -> None:
        """Order the controls before the key comes from outside."""
        super().showEvent(event)
        order_tabs(self)

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Move the focus; some controls may have appeared since the last time."""
        order_tabs(self)
        return super().focusNextPrevChild(forward)


def order_tabs(widget: QWidget) -> None:
    """Let the Tab key visit the controls of a widget in the order of its layout."""
    found = [*tab_stops(widget)]
    for view in widget.findChildren(QAbstractItemView):
        view.setTabKeyNavigation(False)
    for kind in (QTextEdit, QPlainTextEdit):
        for editor in widget.findChildren(kind):
            editor.setTabChangesFocus(True)
    for one, following in itertools.pairwise(found):
        QWidget.setTabOrder(one, following)


def tab_stops(widget: QWidget) -> Iterator[QWidget]:
    """Yield the controls inside a widget that take the Tab key, in the order of its layout.

    Hidden and disabled ones too: Qt skips these while they are.
    """
    if isinstance(widget, QScrollArea):
        content = widget.widget()
        if content is not None:
            yield from tab_stops(content)
    elif isinstance(widget, QSplitter):
        for place in range(widget.count()):
            part = widget.widget(place)
            if part is not None:
                yield from tab_stops(part)
    elif widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield widget
    else:
        layout = widget.layout()
        if layout is not None:
            yield from _in_layout(layout)
    if isinstance(widget, QAbstractScrollArea):
        for child in widget.children():  # messages lie over it and have no place in a layout
            if not isinstance(child, QFrame) or isinstance(child, QAbstractScrollArea):
                continue
            if not child.objectName().startswith("qt_"):
                yield from tab_stops(child)


def _in_layout(layout: QLayout) -> Iterator[QWidget]:
    places = [*range(layout.count())]
    if isinstance(layout, QGridLayout):
        grid: Any = layout
        places.sort(key=lambda place: grid.getItemPosition(place)[:2])
    for place in places:
        item = layout.itemAt(place)
        if item is None:
            continue
        widget, inner = item.widget(), item.layout()
        if widget is not None:
            yield from tab_stops(widget)
        elif inner is not None:
            yield from _in_layout(inner)
