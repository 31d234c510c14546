"""The parts of the training dock and where they stand; what they do is in `train_dock`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_plimseg._widgets.banner import Banner, FlowText
from napari_plimseg._widgets.class_list import EYE, ClassList
from napari_plimseg._widgets.icons import arrow
from napari_plimseg._widgets.tooltips import TOOLTIPS
from napari_plimseg._widgets.train_folder import FolderSection
from napari_plimseg._widgets.train_progress import CurvesPanel, PicturesPanel, TrainPanel
from napari_plimseg._widgets.train_result import ResultSection
from napari_plimseg._widgets.train_setup import SetupSection

if TYPE_CHECKING:
    from napari_plimseg._widgets.train_state import TrainDockState
    from napari_plimseg.training_runs.history import RunHistory


class TrainParts(QWidget):
    """Builds the dock: message on top, what scrolls in the middle, the big button below."""

    def __init__(self) -> None:
        super().__init__()
        self.banner = Banner()
        self.folder_section = FolderSection()
        self.class_list = ClassList()
        self.class_list.table.setColumnHidden(EYE, True)
        self.class_list.table.setToolTip(TOOLTIPS["train_classes"])
        self.class_list.add_button.hide()
        self.class_list.remove_button.hide()
        self.classes = _folded("Tissue classes", self.class_list)
        self.setup = SetupSection()
        self.keep_on = QCheckBox("Go on when napari is closed")
        self.keep_on.setToolTip(TOOLTIPS["train_keep_on"])
        self.runs = QComboBox()
        self.runs.setToolTip(TOOLTIPS["train_runs"])
        self.runs.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.runs.setMinimumContentsLength(12)
        self.show_run_button = QPushButton("Show")
        self.show_run_button.setToolTip(TOOLTIPS["train_runs"])
        self.earlier = _folded("Earlier trainings", self._runs_row())
        self.progress_heading = _heading("Training")
        self.curves = CurvesPanel()
        self.pictures = PicturesPanel()
        self.warnings = FlowText()
        self.result_heading = _heading("Model")
        self.result = ResultSection()
        self.panel = TrainPanel()
        self.scroll_area = self._build_scroll_area()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.banner)
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(self.panel)
        self.setMinimumWidth(360)

    def _runs_row(self) -> QWidget:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.runs, 1)
        line.addWidget(self.show_run_button)
        return row

    def _build_scroll_area(self) -> QScrollArea:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 2, 8, 4)
        column.setSpacing(4)
        for widget in (
            _heading("Images"), self.folder_section, self.classes, _heading("What to train"),
            self.setup, self.keep_on, self.progress_heading, self.curves, self.pictures,
            self.warnings, self.result_heading, self.result, self.earlier,
        ):  # fmt: skip
            column.addWidget(widget)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidget(content)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        return area

    def show_theme(self, color: str) -> None:
        """Draw icons, bars and curves in the text colour of the viewer's theme."""
        self.class_list.set_icon_color(color)
        self.curves.set_ink(color)
        self.folder_section.bars.set_ink(color)
        for part in (self.classes, self.earlier):
            part.setExpandedIcon(arrow(True, QColor(color)))
            part.setCollapsedIcon(arrow(False, QColor(color)))

    def show_state(self, state: TrainDockState, history: RunHistory | None) -> None:
        """Enable what can be pressed now and say why the rest can't."""
        self.folder_section.show_state(state)
        self.classes.setVisible(self.class_list.classes is not None)
        self.class_list.set_enabled(state.why_not("setup"))
        self.setup.show_state(state)
        self.panel.show_state(state, history)
        begun = history is not None and bool(history.losses)
        self.progress_heading.setVisible(state.is_training or begun)
        self.curves.setVisible(state.is_training or begun)
        self.result_heading.setVisible(state.has_model or state.has_report)
        self.result.setVisible(state.has_model or state.has_report)
        self.result.show_state(state)
        self.earlier.setVisible(self.runs.count() > 0)
        why_not = "A training is running: wait or stop it first." if state.is_training else ""
        self.runs.setEnabled(not why_not)
        self.show_run_button.setEnabled(not why_not)
        self.show_run_button.setToolTip(why_not or TOOLTIPS["train_runs"])

    def scroll_to_progress(self) -> None:
        """Bring the curves into sight."""
        bar = self.scroll_area.verticalScrollBar()
        bar.setValue(min(bar.maximum(), self.progress_heading.y()))

    def tell(self, kind: str, text: str) -> None:
        """Show a message above, as `Banner.tell` takes it; no text takes the last one away."""
        if text:
            self.banner.tell(kind, text)
        else:
            self.banner.hide()


def _folded(title: str, inner: QWidget) -> QCollapsible:
    part = QCollapsible(title)
    part.toggleButton().setToolTip(TOOLTIPS["fold"])
    part.addWidget(inner)
    part.layout().setContentsMargins(0, 0, 0, 0)
    return part


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold; padding-top: 4px;")
    return label
