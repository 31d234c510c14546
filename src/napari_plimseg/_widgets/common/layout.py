"""Small pieces that every dock is laid out with."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_plimseg._widgets.common.tooltips import PlainLabel

SPACING = 4
NARROWEST = 332  # pixels beside the margins
_MARGIN = 4
_BAR_FRAME = 4  # napari's style adds it to the scroll bar


def heading(text: str) -> QLabel:
    """Return the title of a part of a dock."""
    label = PlainLabel(text)
    label.setStyleSheet("font-weight: bold; padding-top: 4px;")
    return label


def labeled(title: str, widget: QWidget, width: int, *, bold: bool = False) -> QWidget:
    """Return a widget with a label of at least `width` pixels to its left."""
    label = PlainLabel(title)
    label.setMinimumWidth(width)
    if bold:
        label.setStyleSheet("font-weight: bold;")
    return row(label, widget, stretch=1)


def row(*widgets: QWidget, stretch: int | None = None) -> QWidget:
    """Return widgets side by side; the one at position `stretch` takes the room that is left."""
    whole = QWidget()
    line = QHBoxLayout(whole)
    line.setContentsMargins(0, 0, 0, 0)
    for position, widget in enumerate(widgets):
        line.addWidget(widget, int(position == stretch))
    return whole


def column(dock: QWidget, *widgets: QWidget, tall: QWidget) -> None:
    """Lay a dock out: widgets one below the other, of which `tall` takes the height left over."""
    layout = QVBoxLayout(dock)
    layout.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
    layout.setSpacing(SPACING)
    layout.addStrut(NARROWEST)  # unlike a minimum width, it lets large fonts ask for more
    for widget in widgets:
        layout.addWidget(widget, int(widget is tall))


class ScrollColumn(QScrollArea):
    """An area that scrolls up and down only and is never narrower than what it shows.

    With large fonts it would otherwise cut its content off at the side.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self._content = content
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # it scrolls to what has the focus
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask for more width when the content needs more, as when a part of it is unfolded."""
        if event.type() == QEvent.Type.LayoutRequest and watched is self.widget():
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def minimumSizeHint(self) -> QSize:
        """Return a small height, and the width of the content beside its scroll bar."""
        least = super().minimumSizeHint()
        bar = self.verticalScrollBar().sizeHint().width() + _BAR_FRAME
        wide = self._content.minimumSizeHint().width() + bar
        return QSize(max(NARROWEST, wide), least.height())


def scrolling(*widgets: QWidget) -> QScrollArea:
    """Return widgets one below the other in an area that scrolls up and down only."""
    content = QWidget()
    layout = QVBoxLayout(content)
    layout.setContentsMargins(_MARGIN, 2, 2 * _MARGIN, _MARGIN)
    layout.setSpacing(SPACING)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    return ScrollColumn(content)
