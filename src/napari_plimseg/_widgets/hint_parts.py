"""The parts of the section *Hints* and where they stand; what they do is in `hint_section`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.banner import FlowText
from napari_plimseg._widgets.correct_section import HIDDEN, NO_MASK
from napari_plimseg._widgets.tool_icons import tool_button, tool_icon
from napari_plimseg._widgets.tooltips import TOOLTIPS
from napari_plimseg.models.library import HINT_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg._widgets.hint_draft import Answer
    from napari_plimseg._widgets.mask_painter import EditTarget
    from napari_plimseg.models.library import ModelInfo
    from napari_plimseg.tissue import TissueClass

HINT_TOOLS = {
    "point_in": ("Point +", "Click inside an object."),
    "point_out": ("Point −", "Click on what does not belong to the object."),
    "box": ("Box", "Drag a box around an object."),
    "refine": ("Refine", "Click a region of the mask that is not quite right."),
}
"""Words below the icon, and what to do, by tool."""
NO_SLIDE = "The slide of this mask is not open, so there is nothing to look at: open it first."
NO_MODEL = (
    "The model for points and boxes is missing ({file}). {reason} Or put a trained one into the "
    "folder of models: plimseg train, recipe wsi_sam."
)
_ACCEPT_WIDTH = 220  # pixels of text; the dock may be 340 wide
REFINED = "Click what this region lacks with Point +, and what it has too much with Point −."
ONLY_PART = " Only the part of it around the click: the rest stays as it is."
NOTHING_SHOWN = "There is no proposal: click an object or draw a box first."


class HintParts(QWidget):
    """Builds the section: tools, state, the three answers, and the search in view."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: tool_button(text) for name, (text, _) in HINT_TOOLS.items()}
        self.state = FlowText()
        self.accept_button = QPushButton("Accept")
        self.discard_button = QPushButton("Discard")
        self.wider_button = QPushButton("Look wider")
        self.words = QLineEdit()
        self.words.setPlaceholderText("gland, or empty: the chosen class")
        self.find_button = QPushButton("Find in view")
        self.one_by_one = QCheckBox("One by one")
        self.pixel_row = QWidget()
        self.pixel_size = QDoubleSpinBox()
        self.pixel_size.setRange(0, 20)
        self.pixel_size.setDecimals(3)
        self.pixel_size.setSingleStep(0.05)
        self.pixel_size.setSpecialValueText("unknown")
        self.model = QComboBox()
        self.model.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._arrange()

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        tools = QHBoxLayout()
        tools.setSpacing(2)
        for button in self.tools.values():
            tools.addWidget(button, 1)
        column.addLayout(tools)
        column.addWidget(self.state)
        column.addWidget(self.accept_button)
        answers = QHBoxLayout()
        answers.addWidget(self.discard_button, 1)
        answers.addWidget(self.wider_button, 1)
        column.addLayout(answers)
        search = QHBoxLayout()
        search.addWidget(self.words, 1)
        search.addWidget(self.find_button)
        column.addLayout(search)
        column.addWidget(self.one_by_one)
        pixel = QHBoxLayout(self.pixel_row)
        pixel.setContentsMargins(0, 0, 0, 0)
        pixel.addWidget(QLabel("Pixel size (µm)"))
        pixel.addWidget(self.pixel_size, 1)
        column.addWidget(self.pixel_row)
        model = QHBoxLayout()
        model.addWidget(QLabel("Model"))
        model.addWidget(self.model, 1)
        column.addLayout(model)

    def show_theme(self, color: str) -> None:
        """Draw icons in the text colour of the viewer's theme."""
        for name, button in self.tools.items():
            button.setIcon(tool_icon(name, QColor(color)))

    def show_models(self, models: Sequence[ModelInfo], chosen: str) -> str:
        """Offer the models that are here; return the one that is chosen now."""
        here = [info for info in models if info.available]
        self.model.clear()
        for info in here:
            self.model.addItem(info.title, info.name)
        self.model.setCurrentIndex(max(0, self.model.findData(chosen)))
        return str(self.model.currentData()) if here else chosen

    def show_class(self, chosen: TissueClass | None) -> None:
        """Show which class takes what is accepted; None shows that there is none."""
        text = "Accept" if chosen is None else f"Accept: {chosen.name}"
        metrics = self.accept_button.fontMetrics()
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, _ACCEPT_WIDTH)
        self.accept_button.setText(shown)
        icon = QIcon()
        if chosen is not None:
            picture = QPixmap(12, 12)
            picture.fill(QColor(*chosen.color))
            icon = QIcon(picture)
        self.accept_button.setIcon(icon)

    def show_enabled(self, why_not: str, no_answer: str, not_wider: str) -> None:
        """Enable what can be used and say why the rest can't; empty sentences allow."""
        for name, button in self.tools.items():
            allow(button, why_not, f"hint_{name}")
        allow(self.accept_button, why_not or no_answer, "hint_accept")
        allow(self.discard_button, why_not or no_answer, "hint_discard")
        allow(self.wider_button, why_not or not_wider, "hint_wider")
        allow(self.words, why_not, "hint_words")
        allow(self.find_button, why_not, "hint_find")
        allow(self.one_by_one, why_not, "hint_one_by_one")
        self.pixel_size.setToolTip(TOOLTIPS["hint_pixel_size"])
        only_one = "" if self.model.count() > 1 else "There is no other model for points and boxes."
        allow(self.model, only_one, "hint_model")


def why_not(target: EditTarget | None, models: Sequence[ModelInfo]) -> str:
    """Return why nothing can be pointed at, with what to do; empty when it can."""
    if target is None:
        return NO_MASK
    if target.slide is None:
        return NO_SLIDE
    if not target.layer.editable:
        return HIDDEN
    if not any(info.available for info in models):
        return NO_MODEL.format(file=HINT_MODEL_FILE, reason=models[0].reason)
    return ""


def words_of(shown: Sequence[Answer], waiting: int, tool: str) -> str:
    """Return a line on what is shown of `waiting` answers, or on what to do with the tool."""
    if not shown:
        return HINT_TOOLS[tool][1] if tool else "Choose a tool, then point."
    answer = shown[0]
    start = answer.draft.start
    if start is not None and not answer.draft.is_ready:
        return REFINED + (ONLY_PART if start.region.is_cut else "")
    if len(shown) > 1:
        return f"{len(shown)} proposals · Enter accepts all. Point − leaves one out."
    left = f" · {waiting - 1} more" if waiting > 1 else ""
    cut = " It goes on beyond what was looked at." if answer.mask.is_cut else ""
    overlap = f"expected overlap {answer.mask.score:.0%}"
    return f"{answer.milliseconds:.0f} ms · {overlap}{left}.{cut} Enter accepts."


def allow(widget: QWidget, why_not: str, tooltip: str) -> None:
    """Enable a control, or say in its tooltip why it can't be used."""
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or TOOLTIPS[tooltip])
