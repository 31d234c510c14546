"""The dock *PLIMSeg*: from an opened slide to an exported mask."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_plimseg._widgets.common.background_job import on_destroyed, run_once
from napari_plimseg._widgets.common.banner import Banner, failure_of
from napari_plimseg._widgets.common.class_list import ClassList
from napari_plimseg._widgets.common.help import FirstRunCard, HelpPanel
from napari_plimseg._widgets.common.icons import arrow
from napari_plimseg._widgets.common.model_choice import ModelChoice
from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg._widgets.docks import DOCKS, open_dock
from napari_plimseg._widgets.generate.jobs import (
    Opened,
    find_devices,
    find_result,
    open_stored,
    warm_up,
)
from napari_plimseg._widgets.generate.options import DeviceChoice, RunOnChoice, SettingsForm
from napari_plimseg._widgets.generate.results import ResultsSection, ResultTools
from napari_plimseg._widgets.generate.run import EngineWatch, RunController, RunPanel, finished_text
from napari_plimseg._widgets.generate.slide_section import SlideSection, TissuePreview
from napari_plimseg._widgets.generate.state import DockState, Phase
from napari_plimseg._widgets.viewer.corrections_panel import (
    CorrectionsControl,
    describe_corrections,
)
from napari_plimseg._widgets.viewer.cursor_status import CursorStatus
from napari_plimseg._widgets.viewer.mask_layer import recolored
from napari_plimseg._widgets.viewer.regions import (
    RunOn,
    add_region_layer,
    chosen_region,
    closed_shapes,
    find_region_layer,
    view_center,
)
from napari_plimseg._widgets.viewer.slide_layers import (
    SlideOpener,
    ThemeColor,
    ViewerSlides,
    slide_of,
)
from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.settings import load_settings, save_settings

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_plimseg._widgets.viewer.mask_layer import MaskView
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.tissue import TissueClasses


class DockHeader(QWidget):
    """Small buttons that open the other docks and the help.

    Attributes
    ----------
    dockRequested : Signal(str)
        A key of `DOCKS`.
    helpRequested : Signal()
        The question mark was pressed.
    """

    dockRequested = Signal(str)
    helpRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: dict[str, QToolButton] = {}
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        for key, kind in DOCKS.items():
            button = self.buttons[key] = _button(kind.short)
            button.setToolTip(TOOLTIPS[f"open_{key}"])
            button.clicked.connect(lambda _=False, key=key: self.dockRequested.emit(key))
            line.addWidget(button)
        line.addStretch(1)
        self.help_button = _button("?")
        self.help_button.setToolTip(TOOLTIPS["help"])
        self.help_button.clicked.connect(lambda: self.helpRequested.emit())
        line.addWidget(self.help_button)


def _button(text: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setAutoRaise(True)
    return button


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
        self.settings_form = SettingsForm(settings, settings.results_path)
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


class PlimsegDock(DockParts):
    """Segments the slide in the viewer into named tissue classes.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose slides are segmented.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(load_settings())
        self._viewer = napari_viewer
        self.controller = RunController(napari_viewer, self)
        self.opener = SlideOpener(napari_viewer, self)
        self.engine = EngineWatch(self)
        self._help: HelpPanel | None = None
        self._stopping = False
        self._stopped: set[Slide] = set()
        self._running_slide: Slide | None = None
        self._asked_for: Slide | None = None
        self._failed = self._scroll_down = False

        self.slides = ViewerSlides(napari_viewer, self._on_slides, self.refresh_state)
        self.tissue = TissuePreview(napari_viewer, self.slides, self)
        self.cursor_status = CursorStatus(napari_viewer, lambda: self.view)
        self.tools = ResultTools(self, self.results, self.banner, lambda: self.slides.slide)
        self.corrections = CorrectionsControl(self.results.corrections_row, self.banner)
        slides, cursor = self.slides, self.cursor_status
        theme = ThemeColor(napari_viewer, self.show_theme)
        for link in (slides, cursor, theme):
            on_destroyed(self, link.disconnect)
        self._connect()
        self._on_model()
        run_once(self, warm_up, lambda _: None, self.show_error_message)
        run_once(self, find_devices, self.device.show_devices, self.show_error_message)
        self._on_slides()

    def _connect(self) -> None:
        section = self.slide_section
        section.openRequested.connect(self.opener.ask)
        section.sampleRequested.connect(self.open_sample)
        self.opener.opened.connect(self._on_opened)
        self.opener.failed.connect(self.show_error_message)
        self.opener.folderChosen.connect(self._on_slide_folder)
        self.header.dockRequested.connect(self.open_dock)
        self.header.helpRequested.connect(self.show_help)
        self.results.reviewRequested.connect(lambda: self.open_dock("review"))
        self.engine.changed.connect(self.refresh_state)
        section.slideChosen.connect(self.slides.choose)
        section.mppTyped.connect(self._on_mpp)
        section.mppRefused.connect(lambda text: self.banner.show_message("warning", text))
        self.model_choice.changed.connect(self._on_model)
        self.class_list.classesChanged.connect(self._on_classes)
        self.class_list.visibilityChanged.connect(self._recolor)
        self.class_list.classPicked.connect(self._on_class_picked)
        self.class_list.refused.connect(lambda text: self.banner.show_message("warning", text))
        self.run_on.changed.connect(self.refresh_state)
        self.run_on.drawRequested.connect(self.draw_region)
        self.device.activated.connect(lambda _: self._remember())
        self.settings_form.changed.connect(self._on_settings)
        self.settings_form.tissueRequested.connect(self._on_tissue_wanted)
        self.tissue.messageEmitted.connect(self.banner.show_message)
        self.run_panel.startRequested.connect(self.start)
        self.run_panel.cancelRequested.connect(self.cancel)
        controller = self.controller
        controller.staged.connect(self.run_panel.show_stage)
        controller.drawn.connect(self.run_panel.show_progress)
        controller.progressed.connect(lambda _: self.cursor_status.blocks.forget())
        controller.opened.connect(self.refresh_state)
        controller.failed.connect(self._on_failed)
        controller.finished.connect(self._on_finished)
        self.results.overlayChosen.connect(lambda _: self._show_overlay())
        self.results.colormapChosen.connect(lambda _: self._show_overlay())
        self.results.opacityChanged.connect(self._on_opacity)
        self.tools.changed.connect(self.refresh_state)
        self.corrections.changed.connect(self.refresh_state)
        self.tools.measured.connect(self._on_measured)
        self.tools.folderChosen.connect(self._on_export_folder)

    @property
    def view(self) -> MaskView | None:
        """The mask of the current slide."""
        return self.controller.view_of(self.slides.slide)

    @property
    def state(self) -> DockState:
        """What is there now, for deciding what can be pressed."""
        slide, view = self.slides.slide, self.view
        classes = self.class_list.classes
        phase = Phase.IDLE
        if self.controller.is_running:
            phase = Phase.STOPPING if self._stopping else Phase.RUNNING
        return DockState(
            has_slide=slide is not None,
            mpp_known=slide is not None and slide.mpp is not None,
            phase=phase,
            model_problem=self.model_choice.problem,
            class_count=0 if classes is None else len(classes),
            run_on=self.run_on.choice,
            shape_count=closed_shapes(find_region_layer(self._viewer)),
            has_mask=view is not None,
            has_probabilities=view is not None and view.store.probabilities is not None,
            stopped=slide in self._stopped,
            exporting=self.tools.is_busy,
            engine_owner="" if self.controller.is_running else ENGINE.owner,
        )

    def refresh_state(self) -> None:
        """Enable what can be pressed now and say why the rest can't."""
        self.show_state(self.state)
        view = self.view
        if view is not None:
            self.results.show_classes(view.info.classes, self.controller.overlay_what)
        self.corrections.show_view(view)
        self.tools.show_areas_of(view, growing=self.controller.is_running)

    def show_error_message(self, text: str) -> None:
        """Show an error in the dock and as a napari notification."""
        self.banner.show_message("error", text)
        show_error(text)

    def open_slide(self, path: str) -> None:
        """Open a slide file; an error is told in the dock."""
        self.opener.open(path)

    def open_sample(self) -> None:
        """Open the slide that comes with the plugin."""
        self.opener.open_sample()

    def _on_opened(self) -> None:
        if self.banner.kind == "error":
            self.banner.hide()

    def _on_slide_folder(self, folder: str) -> None:
        self.settings_form.remember(slide_folder=folder)
        self._remember()

    def open_dock(self, key: str) -> None:
        """Open another dock of the plugin: a key of `DOCKS`."""
        open_dock(self._viewer, key)

    def show_help(self) -> None:
        """Show keys and first steps beside the window."""
        if self._help is None:
            self._help = HelpPanel(self, lambda: failure_of(self.banner))
        self._help.show_help()

    def _on_slides(self) -> None:
        layers = self.slides.layers
        self.slide_section.show_slides([layer.name for layer in layers], self.slides.position)
        slide = self.slides.slide
        self.slide_section.show_slide(slide)
        self._look_up_result()
        self.refresh_state()

    def _look_up_result(self) -> None:
        slide = self.slides.slide
        self._asked_for = None
        if slide is not None and self.view is None and not self.controller.is_running:
            folder = self.settings_form.settings.results_path
            found = functools.partial(self._on_found, slide)
            run_once(self, lambda: find_result(slide, folder), found, self.show_error_message)

    def _on_found(self, slide: Slide, result: Opened) -> None:
        if self.view is None and slide is not self._asked_for:
            self._show_result(slide, result)

    def open_result(self, path: str | Path) -> None:
        """Show a finished or interrupted result of the current slide from its folder.

        It is shown in place of the one that the slide shows already.
        """
        slide = self._asked_for = self.slides.slide
        if slide is not None:
            found = functools.partial(self._show_result, slide)
            run_once(self, lambda: open_stored(Path(path)), found, self.show_error_message)

    def _show_result(self, slide: Slide, result: Opened) -> None:
        if slide is not self.slides.slide or self.controller.is_running:
            return
        info = result.store.info
        own = self.model_choice.choose_model_of(info)
        self.class_list.show_classes(info.classes, own)
        view = self.controller.show(slide, result, info.classes, self.class_list.hidden)
        text = f"Result of {result.store.created[:10]} reopened"
        done = result.store.done_fraction
        if done < 1:
            self._stopped.add(slide)
            text += f": {100 * done:.0f} % of the slide is done"
        self.banner.show_message(
            "warning" if view.note else "info", f"{text}. {describe_corrections(view)}".rstrip()
        )
        self.refresh_state()

    def _on_mpp(self, mpp: float) -> None:
        slide = self.slides.slide
        if slide is None or slide.mpp == mpp:
            return
        try:
            self.slides.set_mpp(mpp)
        except PlimsegError as error:
            self.banner.show_message("warning", str(error))
            return
        region = find_region_layer(self._viewer)
        if region is not None and self.slides.layer is not None:
            region.scale = self.slides.layer.scale
            region.units = self.slides.layer.units
        view = self.view
        if view is not None:
            view.set_mpp(mpp)
        self._stopped.discard(slide)
        self._viewer.reset_view()
        self.refresh_state()

    def _on_model(self) -> None:
        info = self.model_choice.info
        if info is not None:
            self.class_list.show_classes(info.default_classes)
        self._forget_stopped()
        self._remember()
        self.refresh_state()

    @property
    def is_running(self) -> bool:
        """Whether a slide is being segmented."""
        return self.controller.is_running

    @property
    def settings(self) -> DockSettings:
        """What a run would use."""
        return self.settings_form.settings

    @property
    def model_name(self) -> str:
        """Name of the chosen model."""
        return self.model_choice.name

    @property
    def edited_classes(self) -> TissueClasses | None:
        """Classes that the user changed; None for the model's own."""
        return self.class_list.edited

    def reload_models(self) -> None:
        """List the models again, keeping the choice."""
        self.model_choice.reload()

    def choose_model(self, name: str) -> bool:
        """List the models again and choose one by name; return whether it is chosen."""
        if self.controller.is_running:
            self.banner.show_message("warning", "A run is going on: wait or cancel it first.")
            return False
        self.model_choice.reload()
        if not self.model_choice.choose(name):
            self.banner.show_message("warning", f"The model '{name}' can't be used.")
            return False
        return True

    def open_slide_with_result(self, path: Path, mpp: float | None, store: Path) -> None:
        """Open a slide, or choose it where it is open, and show a result of it."""
        paths = [None if (s := slide_of(la)) is None else s.path.absolute()
                 for la in self.slides.layers]  # fmt: skip
        if path in paths:
            self.slides.choose(paths.index(path))
        else:
            self.open_slide(str(path))
        slide = self.slides.slide
        if slide is None or slide.path != path:
            return  # the reason is on the banner
        if mpp is not None and slide.mpp != mpp:
            self._on_mpp(mpp)
        self.open_result(store)

    def _on_classes(self) -> None:
        if self.class_list.edited is not None:
            self._forget_stopped()
        self._recolor()
        self.refresh_state()

    def _recolor(self) -> None:
        view, classes = self.view, self.class_list.classes
        if view is not None and classes is not None:
            view.set_classes(recolored(view.info.classes, classes), self.class_list.hidden)

    def _on_class_picked(self, name: str) -> None:
        # the brush paints the class of the row that was clicked
        view = self.view
        if view is not None and name in view.info.classes.names:
            view.layer.selected_label = view.info.classes.mask_id(name)

    def _on_settings(self) -> None:
        self._forget_stopped()
        self._remember()
        self.refresh_state()

    def _forget_stopped(self) -> None:
        # what comes next is another run, not the rest of the last one
        self._stopped.clear()

    def _remember(self) -> None:
        self.settings_form.remember(model=self.model_choice.name, device=self.device.choice)
        save_settings(self.settings_form.settings)

    def _on_export_folder(self, folder: str) -> None:
        self.settings_form.remember(export_folder=folder)
        self._remember()

    def draw_region(self) -> None:
        """Pick or make the layer to draw regions on, with the rectangle tool in hand."""
        layer = self.slides.layer
        if layer is None:
            return
        shapes = find_region_layer(self._viewer) or add_region_layer(self._viewer, layer)
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"
        self.run_on.choose(RunOn.SHAPES)
        self.banner.show_message(
            "info", "Drag rectangles over the parts to segment, then generate."
        )

    def _on_tissue_wanted(self) -> None:
        self.tissue.show(self.settings_form.settings)

    def start(self) -> None:
        """Begin a run, or go on with the one that was stopped."""
        slide, layer, classes = self.slides.slide, self.slides.layer, self.class_list.classes
        if slide is None or layer is None or classes is None or self.state.why_not("generate"):
            return
        self._remember()
        # here, not above: it brings the engine, which opening the dock need not wait for
        from napari_plimseg.inference.job import SegmentationJob

        settings = self.settings_form.settings
        try:
            job = SegmentationJob(
                model=self.model_choice.name,
                classes=self.class_list.edited,
                settings=settings.run_settings(),
                region=chosen_region(self._viewer, layer, self.run_on.choice),
                focus=view_center(self._viewer, layer),
                folder=settings.results_path,
                digest_names=True,
            )
        except PlimsegError as error:
            self.show_error_message(str(error))
            return
        self.banner.hide()
        self._stopping = self._failed = False
        self._running_slide = slide
        self._stopped.discard(slide)
        self.controller.start(slide, job, classes, self.class_list.hidden)
        self.run_panel.show_stage("Starting…")
        self.refresh_state()

    def cancel(self) -> None:
        """Stop the run; what is done stays and can be continued."""
        self._stopping = True
        self.controller.stop()
        self.run_panel.show_stage("Stopping after the tiles in work…")
        self.refresh_state()

    def _on_failed(self, text: str) -> None:
        self._failed = True
        self.show_error_message(text)

    def _on_finished(self, complete: bool) -> None:
        progress = self.controller.last_progress
        if complete and progress is not None:
            text = finished_text(progress)
            view = self.controller.view_of(self._running_slide)
            doubtful = progress.unreadable_tiles or (view is not None and view.note)
            if view is not None:
                text = f"{text} {describe_corrections(view)}".rstrip()
            self.banner.show_message("warning" if doubtful else "good", text)
            self._scroll_down = True
        else:
            slide = self._running_slide
            if slide is not None and self.controller.view_of(slide) is not None:
                self._stopped.add(slide)
            if not self._failed:
                self.banner.show_message(
                    "info", "Stopped. What is done stays; Continue does the rest."
                )
        self._stopping = False
        self._look_up_result()
        self.refresh_state()

    def _on_measured(self) -> None:
        if self._scroll_down:  # once after a run; painting later must not move the dock
            self._scroll_down = False
            QTimer.singleShot(50, self.show_results)

    def _show_overlay(self) -> None:
        slide = self.slides.slide
        if slide is not None:
            what = str(self.results.overlay.currentData() or "")
            opacity = self.results.opacity.value() / 100
            colormap = self.results.colormap.currentText()
            self.controller.set_overlay(slide, what, opacity, colormap)
            self.refresh_state()

    def _on_opacity(self, opacity: float) -> None:
        if self.controller.overlay is not None:
            self.controller.overlay.layer.opacity = opacity
