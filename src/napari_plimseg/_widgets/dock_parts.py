"""The parts of the dock and where they stand; what they do is in `main_dock`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_plimseg._widgets.banner import Banner
from napari_plimseg._widgets.class_list import ClassList
from napari_plimseg._widgets.dock_header import DockHeader
from napari_plimseg._widgets.first_run import FirstRunCard
from napari_plimseg._widgets.icons import arrow
from napari_plimseg._widgets.model_choice import ModelChoice
from napari_plimseg._widgets.results_section import ResultsSection
from napari_plimseg._widgets.run_options import DeviceChoice, RunOnChoice, SettingsForm
from napari_plimseg._widgets.run_panel import RunPanel
from napari_plimseg._widgets.run_steps import results_folder
from napari_plimseg._widgets.slide_section import SlideSection
from napari_plimseg._widgets.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from napari_plimseg._widgets.dock_state import DockState
    from napari_plimseg.settings import DockSettings

_LABEL_WIDTH = 52


class DockParts(QWidget):
    """Builds the dock: message on top, what scrolls in the middle, the big button below.

    Parameters
    ----------
    settings : DockSettings
        The choices of the last time.
    """

    def __init__(self, settings: DockSettings) -> None:
        super().__init__()
        self.banner = Banner()
        self.header = DockHeader()
        self.first_run = FirstRunCard()
        self.slide_section = SlideSection()
        self.model_choice = ModelChoice(settings.model)
        self.class_list = ClassList()
        self.run_on = RunOnChoice()
        self.device = DeviceChoice(settings.device)
        self.settings_form = SettingsForm(settings, results_folder(settings))
        self.collapsible = QCollapsible("Settings")
        self.collapsible.toggleButton().setToolTip(TOOLTIPS["fold"])
        self.collapsible.addWidget(self.settings_form)
        self.collapsible.layout().setContentsMargins(0, 0, 0, 0)
        self.results_heading = _heading("Result")
        self.results = ResultsSection()
        self.run_panel = RunPanel()
        self.scroll_area = self._build_scroll_area()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.header)
        layout.addWidget(self.banner)
        layout.addWidget(self.first_run)
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(self.run_panel)
        self.setMinimumWidth(340)

    def _build_scroll_area(self) -> QScrollArea:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 2, 8, 4)
        column.setSpacing(4)
        column.addWidget(_heading("Slide"))
        column.addWidget(self.slide_section)
        column.addLayout(_line("Model", self.model_choice))
        column.addWidget(_heading("Tissue classes"))
        column.addWidget(self.class_list)
        column.addLayout(_line("Run on", self.run_on))
        column.addLayout(_line("Device", self.device))
        column.addWidget(self.collapsible)
        column.addWidget(self.results_heading)
        column.addWidget(self.results)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidget(content)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        return area

    def show_theme(self, color: str) -> None:
        """Draw icons in the text colour of the viewer's theme."""
        self.class_list.set_icon_color(color)
        self.collapsible.setExpandedIcon(arrow(True, QColor(color)))
        self.collapsible.setCollapsedIcon(arrow(False, QColor(color)))

    def show_state(self, state: DockState) -> None:
        """Enable what can be pressed now and say why the rest can't."""
        setup = state.why_not("setup")
        self.run_panel.show_state(state)
        self.model_choice.set_enabled(setup)
        self.class_list.set_enabled(setup)
        self.run_on.set_enabled(setup, state.why_not("tissue"))
        self.device.set_enabled(setup)
        self.settings_form.set_enabled(setup, state.why_not("tissue"))
        self.results_heading.setVisible(state.has_mask)
        self.results.setVisible(state.has_mask)
        self.results.show_state(state)

    def show_results(self) -> None:
        """Scroll to what came out."""
        bar = self.scroll_area.verticalScrollBar()
        bar.setValue(min(bar.maximum(), self.results_heading.y()))


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold; padding-top: 4px;")
    return label


def _line(title: str, widget: QWidget) -> QHBoxLayout:
    line = QHBoxLayout()
    line.setContentsMargins(0, 4, 0, 0)
    label = QLabel(title)
    label.setStyleSheet("font-weight: bold;")
    label.setMinimumWidth(_LABEL_WIDTH)
    line.addWidget(label)
    line.addWidget(widget, 1)
    return line
