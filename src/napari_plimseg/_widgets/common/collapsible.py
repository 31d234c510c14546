"""A collapsible section of a dock that grows and shrinks with its content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

from napari_plimseg._widgets.common.icons import arrow
from napari_plimseg._widgets.common.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from qtpy.QtGui import QColor, QShowEvent


_NO_LIMIT = 16_777_215  # Qt's largest height
_FOLDING_MS = 120


class CollapsibleSection(QCollapsible):
    """A title that shows or hides a widget.

    `QCollapsible` fixes the height of its content when it is expanded; here that limit is removed,
    so that the content can grow and shrink.

    Parameters
    ----------
    title : str
        Text of the button.
    content : QWidget
        What is shown or hidden.
    is_open : bool
        Whether it is expanded at first.
    """

    def __init__(self, title: str, content: QWidget, *, is_open: bool = False) -> None:
        super().__init__(title)
        self.toggleButton().setToolTip(TOOLTIPS["fold"])
        self.setDuration(_FOLDING_MS)
        self.addWidget(content)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(2 * _FOLDING_MS)
        self._timer.timeout.connect(self._free)
        self.toggled.connect(lambda _: self._timer.start())
        self.content().hide()
        if is_open:
            self.open()

    def open(self) -> None:
        """Expand without an animation."""
        self.expand(animate=False)
        self._free()

    def expand(self, animate: bool = True) -> None:
        """Show the content."""
        self.content().show()
        super().expand(animate)

    def collapse(self, animate: bool = True) -> None:
        """Hide the content, also from the Tab key."""
        super().collapse(animate)
        if not animate:
            self.content().hide()

    def showEvent(self, event: QShowEvent) -> None:
        """Give hidden controls their style, on which the width depends."""
        super().showEvent(event)
        for widget in self.content().findChildren(QWidget):
            widget.ensurePolished()
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        """Return the width of the content also while it is hidden: the dock stays as it is."""
        least = super().minimumSizeHint()
        wide = self.content().minimumSizeHint().width()
        return QSize(max(least.width(), wide), least.height())

    def show_theme(self, ink: QColor) -> None:
        """Draw the arrow in the text color of the theme."""
        self.setExpandedIcon(arrow(True, ink))
        self.setCollapsedIcon(arrow(False, ink))

    def _free(self) -> None:
        if self.isExpanded():
            self.content().setMaximumHeight(_NO_LIMIT)
        else:
            self.content().hide()
