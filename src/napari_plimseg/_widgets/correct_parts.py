"""The parts of the section *Correct* and where they stand; what they do is in `correct_section`."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.class_chips import ClassChips
from napari_plimseg._widgets.discarded_row import DiscardedRow
from napari_plimseg._widgets.fold import Fold
from napari_plimseg._widgets.tidy_panel import TidyPanel
from napari_plimseg._widgets.tool_icons import tool_button, tool_icon
from napari_plimseg._widgets.tooltips import TOOLTIPS

TOOLS = {
    "move": ("Move", "pan_zoom"),
    "brush": ("Brush", "paint"),
    "erase": ("Erase", "erase"),
    "fill": ("Fill", "fill"),
    "polygon": ("Polygon", "polygon"),
    "pick": ("Pick", "pick"),
}
"""Words below the icon and napari's mode by tool."""
MAX_BRUSH = 250


class CorrectParts(QWidget):
    """Builds the section: tools, classes, brush, limits, undo, and what is folded away."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: tool_button(text) for name, (text, _) in TOOLS.items()}
        self.chips = ClassChips()
        self.brush_size = QSlider(Qt.Orientation.Horizontal)
        self.brush_size.setRange(1, MAX_BRUSH)
        self.brush_text = QLabel()
        self.only_tissue = QCheckBox("Only within tissue")
        self.undo_button = self._step_button("undo", "Undo")
        self.redo_button = self._step_button("redo", "Redo")
        self.saved_text = QLabel()
        self.saved_text.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.saved_text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.region_button = QPushButton("Edit this region at full resolution")
        self.done_button = QPushButton("Done")
        self.discard_button = QPushButton("Discard")
        self.discarded = DiscardedRow()
        self.tidy = TidyPanel()
        self.tidy_fold = Fold("Tidy up", self.tidy)
        self._arrange()

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        tools = QGridLayout()
        tools.setSpacing(2)
        for number, button in enumerate(self.tools.values()):
            tools.addWidget(button, 0, number)
            tools.setColumnStretch(number, 1)
        column.addLayout(tools)
        column.addWidget(self.chips)
        brush = QHBoxLayout()
        brush.addWidget(QLabel("Brush"))
        brush.addWidget(self.brush_size, 1)
        brush.addWidget(self.brush_text)
        column.addLayout(brush)
        column.addWidget(self.only_tissue)
        steps = QHBoxLayout()
        steps.addWidget(self.undo_button)
        steps.addWidget(self.redo_button)
        steps.addWidget(self.saved_text, 1)
        column.addLayout(steps)
        region = QHBoxLayout()
        region.addWidget(self.region_button, 1)
        region.addWidget(self.done_button, 1)
        region.addWidget(self.discard_button, 1)
        column.addLayout(region)
        column.addWidget(self.discarded)
        column.addWidget(self.tidy_fold)

    def _step_button(self, name: str, text: str) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setIconSize(QSize(16, 16))
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        return button

    def show_theme(self, color: str) -> None:
        """Draw icons in the text colour of the viewer's theme."""
        ink = QColor(color)
        for name, button in self.tools.items():
            button.setIcon(tool_icon(name, ink))
        self.undo_button.setIcon(tool_icon("undo", ink))
        self.redo_button.setIcon(tool_icon("redo", ink))
        self.chips.set_icon_color(ink)
        self.tidy_fold.show_theme(ink)

    def show_enabled(self, why_not: str, no_tissue: str, no_undo: str, no_redo: str) -> None:
        """Enable what can be used and say why the rest can't; empty sentences allow."""
        for name, button in self.tools.items():
            _allow(button, why_not, f"tool_{name}")
        _allow(self.brush_size, why_not, "brush_size")
        _allow(self.only_tissue, why_not or no_tissue, "only_tissue")
        _allow(self.undo_button, why_not or no_undo, "undo")
        _allow(self.redo_button, why_not or no_redo, "redo")
        self.chips.setEnabled(not why_not)
        self.tidy.set_enabled(why_not)
        _allow(self.region_button, why_not, "edit_region")
        self.done_button.setToolTip(TOOLTIPS["region_done"])
        self.discard_button.setToolTip(TOOLTIPS["region_discard"])


def _allow(widget: QWidget, why_not: str, tooltip: str) -> None:
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or TOOLTIPS[tooltip])
