"""The dock *PLIMSeg*: from an opened slide to an exported mask."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    Banner,
    ClassList,
    CollapsibleSection,
    FirstRunCard,
    HelpPanel,
    ModelChoice,
    TabOrdered,
    column,
    failure_of,
    heading,
    labeled,
    on_destroyed,
    plain,
    run_once,
    scrolling,
    show_actions,
)
from napari_plimseg._widgets.docks import DOCKS, join_tabs, open_dock, open_review
from napari_plimseg._widgets.generate.cams import CamFold
from napari_plimseg._widgets.generate.jobs import Opened, find_devices, find_results, warm_up
from napari_plimseg._widgets.generate.mask_classes import MaskClasses
from napari_plimseg._widgets.generate.options import (
    RunOnChoice,
    SettingsForm,
    draw_regions,
    rescale_regions,
)
from napari_plimseg._widgets.generate.results import (
    ResultsSection,
    ResultTools,
    StoredResults,
    loaded_message,
)
from napari_plimseg._widgets.generate.run import (
    EngineWatch,
    RunController,
    RunPanel,
    show_end,
)
from napari_plimseg._widgets.generate.slide_section import SlideSection, TissuePreview
from napari_plimseg._widgets.generate.state import DockState
from napari_plimseg._widgets.viewer import (
    CorrectionsControl,
    CursorStatus,
    OverviewControl,
    RunOn,
    SlideOpener,
    ThemeColor,
    ViewerSlides,
    chosen_region,
    closed_shapes,
    find_region_layer,
    view_center,
    watch_layers,
)
from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference import ENGINE
from napari_plimseg.settings import load_settings, save_settings

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses


class DockHeader(QWidget):
    """The row of small buttons that open the other docks and the help.

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


_LABEL_WIDTH = 58
_NO_OTHER_MASK = ("device", "load_early", "overview_map")
"""Settings on which the mask does not depend."""


class PlimsegDock(TabOrdered):
    """Segments the slide in the viewer into named tissue classes.

    The big button is at the bottom and messages are above it; what is above them scrolls.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose slides are segmented.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._help: HelpPanel | None = None
        self._scroll_down = False
        self._lay_out(load_settings())
        self.controller = RunController(napari_viewer, self)
        self.opener = SlideOpener(napari_viewer, self)
        self.engine = EngineWatch(self)
        self.slides = ViewerSlides(napari_viewer, self._on_slides, self.refresh_state)
        self.stored = StoredResults(self)
        self.tissue = TissuePreview(napari_viewer, self.slides, self)
        self.overview = OverviewControl(napari_viewer, self)
        self.cursor_status = CursorStatus(
            napari_viewer, lambda: self.view, lambda: self.slides.um_per_screen_pixel
        )
        self.tools = ResultTools(self.results, self.banner, self.controller, self.slides)
        self.corrections = CorrectionsControl(self.results.corrections_row, self.banner)
        theme = ThemeColor(napari_viewer, self.show_theme)
        for link in (self.slides, self.cursor_status, self.controller.layers, theme):
            on_destroyed(self, link.disconnect)
        self._connect()
        watch_layers(napari_viewer, self.banner.show_message)
        self._on_model()
        run_once(self, warm_up, lambda _: None, self.show_error_message)
        run_once(self, find_devices, self.settings_form.show_devices, self.show_error_message)
        self._on_slides()

    def _lay_out(self, settings: DockSettings) -> None:
        self.banner = Banner()
        self.header = DockHeader()
        self.first_run = FirstRunCard()
        self.slide_section = SlideSection()
        self.model_choice = ModelChoice(settings.model)
        self.class_list = ClassList()
        self.mask_classes = MaskClasses(self.class_list, self.model_choice)
        self.run_on = RunOnChoice()
        self.settings_form = SettingsForm(settings, settings.results_path)
        self.device = self.settings_form.controls["device"]
        self.collapsible = CollapsibleSection("Settings", self.settings_form)
        self.results_heading = heading("Result")
        self.results = ResultsSection()
        self.run_panel = RunPanel()
        self.cams = CamFold(self._viewer, self)
        self.scroll_area = scrolling(
            heading("Slide"), self.slide_section,
            labeled("Model", self.model_choice, _LABEL_WIDTH, bold=True),
            heading("Tissue classes"), self.class_list,
            labeled("Area", self.run_on, _LABEL_WIDTH, bold=True),
            labeled("Device", self.device, _LABEL_WIDTH, bold=True),
            self.collapsible, self.cams, self.results_heading, self.results,
        )  # fmt: skip
        self.banner.float_over(self.scroll_area)
        parts = (self.header, self.first_run, self.scroll_area, self.run_panel)
        column(self, *parts, tall=self.scroll_area)

    def _connect(self) -> None:
        section = self.slide_section
        section.openRequested.connect(self.opener.ask)
        section.sampleRequested.connect(self.opener.open_sample)
        self.opener.opened.connect(lambda: self.banner.retract("error"))
        self.opener.failed.connect(self.show_error_message)
        self.opener.folderChosen.connect(lambda path: self._remember(slide_folder=path))
        self.header.dockRequested.connect(self.open_dock)
        self.header.helpRequested.connect(self.show_help)
        self.results.reviewRequested.connect(lambda: self.open_dock("review"))
        self.engine.changed.connect(self.refresh_state)
        self.cams.connect_dock()
        section.slideChosen.connect(self.slides.choose)
        section.appeared.connect(self.slides.fit_again)
        section.appeared.connect(lambda: join_tabs(self._viewer, self))
        section.history.openRequested.connect(self.open_result)
        section.history.compareRequested.connect(
            lambda path: open_review(self._viewer).compare_with(path)
        )
        section.history.deleteRequested.connect(self.controller.delete)
        self.controller.messageEmitted.connect(self.banner.show_message)
        section.mpp_row.typed.connect(self._on_mpp)
        refuse = functools.partial(self.banner.show_message, "warning")
        section.mpp_row.refused.connect(refuse)
        section.mpp_row.typed.connect(lambda _: self.banner.retract("warning"))
        self.model_choice.changed.connect(self._on_model)
        self.mask_classes.messageEmitted.connect(self.banner.show_message)
        self.mask_classes.wordsChanged.connect(self._on_classes)
        self.mask_classes.maskEdited.connect(self.controller.drop_stale_overlay)
        self.mask_classes.maskEdited.connect(self.refresh_state)
        self.class_list.refused.connect(refuse)
        self.class_list.classesChanged.connect(lambda: self.banner.retract("warning"))
        self.run_on.changed.connect(self.refresh_state)
        self.run_on.drawRequested.connect(self.draw_region)
        self.settings_form.changed.connect(self._on_settings)
        self.settings_form.tissueRequested.connect(lambda: self.tissue.show(self.settings))
        self.tissue.messageEmitted.connect(self.banner.show_message)
        self.run_panel.startRequested.connect(self.start)
        self.run_panel.cancelRequested.connect(self.cancel)
        controller = self.controller
        controller.staged.connect(self.run_panel.show_stage)
        controller.drawn.connect(self.run_panel.show_progress)
        controller.progressed.connect(lambda _: self.cursor_status.blocks.forget())
        controller.progressed.connect(lambda _: self._tell_unlike())
        controller.opened.connect(self.slides.settle)
        controller.opened.connect(self.refresh_state)
        controller.maskChosen.connect(self.refresh_state)
        controller.failed.connect(self.show_error_message)
        controller.finished.connect(self._on_finished)
        self.stored.found.connect(self._on_found)
        self.stored.opened.connect(self._show_result)
        self.stored.failed.connect(self.show_error_message)
        self.tools.changed.connect(self.refresh_state)
        self.corrections.changed.connect(self.refresh_state)
        self.tools.measured.connect(self._on_measured)
        self.tools.folderChosen.connect(lambda path: self._remember(export_folder=path))

    def show_theme(self, color: str) -> None:
        """Draw icons in the text color of the viewer's theme."""
        self.class_list.set_icon_color(color)
        for fold in (self.collapsible, self.cams):
            fold.show_theme(QColor(color))

    def show_state(self, state: DockState) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        show_actions(self, state)
        setup = state.why_not("setup")
        self.run_panel.show_state(state, self.controller.running_elsewhere(self.slides.slide))
        self.model_choice.set_enabled(setup)
        self.class_list.set_enabled(setup)
        self.run_on.set_enabled(setup, state.why_not("tissue"))
        self.settings_form.show_state(state)
        self.results_heading.setVisible(state.has_mask)
        self.results.setVisible(state.has_mask)
        self.results.show_state(state)

    def show_results(self) -> None:
        """Scroll to the result."""
        bar = self.scroll_area.verticalScrollBar()
        bar.setValue(min(bar.maximum(), self.results_heading.y()))

    @property
    def view(self) -> MaskView | None:
        """The mask of the current slide."""
        return self.controller.view_of(self.slides.slide)

    @property
    def state(self) -> DockState:
        """The current situation, which decides what can be used."""
        slide, view = self.slides.slide, self.view
        classes = self.class_list.classes
        return DockState(
            has_slide=slide is not None,
            mpp_known=slide is not None and slide.mpp is not None,
            phase=self.controller.phase,
            model_problem=self.model_choice.problem,
            class_count=0 if classes is None else len(classes),
            run_on=self.run_on.choice,
            shape_count=closed_shapes(find_region_layer(self._viewer, self.slides.layer)),
            has_mask=view is not None,
            has_probabilities=view is not None and view.store.layout.has_probabilities,
            stopped=self.controller.was_stopped(slide),
            exporting=self.tools.is_busy,
            engine_owner="" if self.controller.is_running else ENGINE.owner,
            holds_labels=slide is not None and slide.format_name.startswith("OME-Zarr"),
        )

    def refresh_state(self) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        view = self.view
        self.mask_classes.show_view(view)
        self.overview.show(self.slides.layer, wanted=self.settings.overview_map)
        self.show_state(self.state)
        if view is not None:
            self.results.show_classes(view.info.classes, self.controller.overlay_what)
        self.cams.refresh()
        self.corrections.show_view(view)
        slide, folder = self.slides.slide, self.settings.results_path
        find = None if slide is None else functools.partial(find_results, slide, folder)
        self.slide_section.history.show_slide(find, None if view is None else view.store.path)
        self.tools.show_areas_of(view)

    def show_error_message(self, text: str) -> None:
        """Show an error in the dock and as a napari notification."""
        self.banner.show_message("error", text)
        show_error(plain(text))

    def open_slide(self, path: str) -> None:
        """Open a slide file, or select it if it is open; an error is shown in the dock."""
        self.opener.open(path)

    def open_dock(self, key: str) -> None:
        """Open another dock of the plugin: a key of `DOCKS`."""
        open_dock(self._viewer, key)

    def show_help(self) -> None:
        """Show keys and first steps in a window of their own."""
        self._help = self._help or HelpPanel(self, lambda: failure_of(self.banner))
        self._help.show_help()

    def _on_slides(self) -> None:
        layers = self.slides.layers
        self.slide_section.show_slides([layer.name for layer in layers], self.slides.position)
        self.slide_section.show_slide(self.slides.slide)
        if self.view is None:  # a mask that is seen brings its own model
            self.model_choice.choose(self.slides.new_suggestion())
        self._look_up_result()
        self.refresh_state()
        if self.settings.load_early and not self.model_choice.problem:
            chosen = (self.slides.slide, self.model_name, self.class_list.edited)
            self.controller.load_early(*chosen, self.settings.run_settings)

    def _look_up_result(self) -> None:
        slide = self.slides.slide
        if slide is not None and self.view is None and self.controller.may_show_stored:
            self.stored.look_up(slide, self.settings.results_path)

    def open_result(self, path: str | Path) -> None:
        """Show a result of the current slide from its folder, in place of the one shown."""
        if self.slides.slide is not None:
            self.stored.open(self.slides.slide, Path(path))

    def _on_found(self, slide: Slide, result: Opened) -> None:
        if self.view is None:
            self._show_result(slide, result)

    def _show_result(self, slide: Slide, result: Opened) -> None:
        if slide is not self.slides.slide or self.controller.is_running:
            return
        classes = result.store.info.classes
        view = self.controller.show(slide, result, classes, self.mask_classes.hidden)
        self.mask_classes.show_view(view, again=True)
        self.banner.show_message(*loaded_message(result, view))
        self.refresh_state()
        if self.slide_section.history.wants_again(result.store.path):
            self.recompute()

    def _on_mpp(self, mpp: float) -> None:
        slide = self.slides.slide
        if slide is None or slide.mpp == mpp:
            return
        try:
            self.slides.set_mpp(mpp)
        except PlimsegError as error:
            self.banner.show_message("warning", str(error))
            return
        rescale_regions(self._viewer, self.slides.layer)
        if self.view is not None:
            self.view.set_mpp(mpp)
        self.controller.forget_stopped(slide)
        self._viewer.reset_view()
        self.refresh_state()

    def _on_model(self) -> None:
        self.mask_classes.show_model()
        self.controller.forget_stopped()
        self._remember()
        self.refresh_state()

    @property
    def is_running(self) -> bool:
        """Whether a slide is being segmented."""
        return self.controller.is_running

    @property
    def settings(self) -> DockSettings:
        """The settings that the next run uses."""
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
        """List the models again, keeping the choice; one may have been trained under its name."""
        self.controller.keeper.forget()
        self.model_choice.reload()

    def choose_model(self, name: str) -> bool:
        """List the models again and choose one by name; return whether it is chosen."""
        if self.controller.is_running:
            self.banner.show_message("warning", self.state.why_not("setup"))
            return False
        self.reload_models()
        if not self.model_choice.choose(name):
            self.banner.show_message("warning", f"The model '{name}' can't be used.")
            return False
        return True

    def open_slide_with_result(self, path: Path, mpp: float | None, store: Path) -> None:
        """Open a slide, or select it if it is open already, and show a result of it."""
        self.open_slide(str(path))
        slide = self.slides.slide
        if slide is None or slide.path.absolute() != path.absolute():
            return  # the banner says why
        if mpp is not None and slide.mpp != mpp:
            self._on_mpp(mpp)
        self.open_result(store)

    def _on_classes(self) -> None:
        if self.class_list.edited is not None:
            self.controller.forget_stopped()
        self.refresh_state()

    def _on_settings(self, name: str) -> None:
        if name not in _NO_OTHER_MASK:
            self.controller.forget_stopped()
        self._remember()
        self.refresh_state()

    def _remember(self, **folders: str) -> None:
        self.settings_form.remember(model=self.model_choice.name, **folders)
        save_settings(self.settings_form.settings)

    def draw_region(self) -> None:
        """Activate the rectangle tool on the layer for regions; the layer is added if missing."""
        layer = self.slides.layer
        if layer is not None:
            draw_regions(self._viewer, layer)
            self.run_on.choose(RunOn.SHAPES)
            text = f"Draw rectangles on the slide, then press {self.state.generate_text}."
            self.banner.show_message("info", text)

    def recompute(self) -> None:
        """Compute the result shown again, or say why that is not possible."""
        why_not = self.mask_classes.why_not_again or self.state.why_not("generate")
        if why_not:
            self.banner.show_message("warning", why_not)
        else:
            self.start(recompute=True)

    def start(self, *, recompute: bool = False) -> None:
        """Start a run, or continue the one that was cancelled; or compute all of it again."""
        slide, layer, classes = self.slides.slide, self.slides.layer, self.class_list.classes
        if slide is None or layer is None or classes is None or self.state.why_not("generate"):
            return
        self._remember()
        # here, not above: it brings the engine, which opening the dock need not wait for
        from napari_plimseg.inference import SegmentationJob

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
                recompute=recompute,
            )
        except PlimsegError as error:
            self.show_error_message(str(error))
            return
        self.banner.clear()
        shown = self.mask_classes
        made_by = self.model_choice.made_by(self.class_list.edited)
        self.controller.start(slide, job, classes, shown.hidden, made_by, shown.followed)
        self.run_panel.show_stage("Starting…")
        self.refresh_state()

    def cancel(self) -> None:
        """Stop the run; finished tiles are kept and the run can be continued."""
        self.controller.stop()
        self.run_panel.show_stage("Stopping after the current tiles…")
        self.refresh_state()

    def _tell_unlike(self) -> None:
        """Say before the first tile that a slide is unlike the model's training tissue."""
        view = self.controller.last_view
        if view is not None and view.store.info.unlike and not self.banner.text:
            self.banner.show_message("warning", view.store.info.unlike)

    def _on_finished(self, complete: bool) -> None:
        if complete:
            show_end(self.controller, self.banner, self.recompute)
            self._scroll_down = True
        elif self.banner.kind != "error":
            self.banner.show_message("info", self.controller.stopped_text)
        self._look_up_result()
        self.refresh_state()

    def _on_measured(self) -> None:
        if self._scroll_down:  # only right after a run: areas change with every brush stroke, too
            self._scroll_down = False
            QTimer.singleShot(50, self.show_results)
