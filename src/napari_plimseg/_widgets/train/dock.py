"""The dock *PLIMSeg Train*: from tagged images to a model, while the viewer stays free."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_plimseg._widgets.common import (
    EYE,
    TOOLTIPS,
    BackgroundJob,
    Banner,
    ClassList,
    CollapsibleSection,
    FlowText,
    TabOrdered,
    column,
    heading,
    on_destroyed,
    plain,
    scrolling,
    show_actions,
)
from napari_plimseg._widgets.train.folder_section import FolderSection
from napari_plimseg._widgets.train.jobs import (
    CutNotes,
    ProcessMonitor,
    cut_open_slides,
    make_plan,
    patches_folder,
    scan_folder,
)
from napari_plimseg._widgets.train.progress_section import CurvesPanel, PicturesPanel, TrainPanel
from napari_plimseg._widgets.train.result_section import ResultSection, TrainedModel
from napari_plimseg._widgets.train.setup_section import PlanEstimate, SetupSection
from napari_plimseg._widgets.train.state import TrainDockState
from napari_plimseg._widgets.train.tag_gallery import Tagging
from napari_plimseg._widgets.viewer import ThemeColor, ViewerSlides, mask_views
from napari_plimseg.errors import PlimsegError
from napari_plimseg.settings import load_train_settings, save_train_settings
from napari_plimseg.tissue import TissueClasses
from napari_plimseg.training_runs import (
    FolderFacts,
    RunStatus,
    TrainingPlan,
    TrainingProcess,
    TrainingRequest,
    TrainingState,
    following,
    list_runs,
    name_problem,
    new_run_folder,
    usable_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari.viewer import Viewer

    from napari_plimseg.settings import TrainSettings
    from napari_plimseg.training_runs import KnownRun, RunHistory


def run_title(run: KnownRun) -> str:
    """Return an earlier training as a line of the list."""
    when = time.strftime("%d %b %H:%M", time.localtime(run.changed))
    return f"{run.name} · {run.status.value} · {when}"


def unfinished_run(runs: Sequence[KnownRun]) -> KnownRun | None:
    """Return the training that is running, else the newest that was stopped, else None."""
    wanted = (RunStatus.RUNNING, RunStatus.STOPPED)
    return next((run for status in wanted for run in runs if run.status is status), None)


class EarlierTrainings(QWidget):
    """Lists trainings, newest first.

    Attributes
    ----------
    showRequested : Signal(object)
        A `KnownRun` is to be shown.
    """

    showRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs: list[KnownRun] = []
        self.runs = QComboBox()
        self.runs.setToolTip(TOOLTIPS["train_runs"])
        self.runs.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.runs.setMinimumContentsLength(12)
        self.show_button = QPushButton("Show")
        self.show_button.clicked.connect(self._on_show)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.runs, 1)
        line.addWidget(self.show_button)

    @property
    def is_empty(self) -> bool:
        """Whether there was no training yet."""
        return not self._runs

    def show_runs(self, runs: Sequence[KnownRun]) -> None:
        """List other trainings."""
        self._runs = list(runs)
        self.runs.clear()
        self.runs.addItems([run_title(run) for run in runs])

    def show_state(self, state: TrainDockState) -> None:
        """Enable what can be pressed now and say why the rest can't."""
        why_not = state.why_not("earlier")
        for control in (self.runs, self.show_button):
            control.setEnabled(not why_not)
            control.setToolTip(plain(why_not or TOOLTIPS["train_runs"]))

    def _on_show(self) -> None:
        place = self.runs.currentIndex()
        if 0 <= place < len(self._runs):
            self.showRequested.emit(self._runs[place])


def how_it_ended(process: TrainingProcess) -> tuple[str, str]:
    """Return kind and text of the message about how a training ended."""
    name = process.files.root.name
    if process.state is TrainingState.FINISHED:
        if process.listed_as:
            return "good", f"Training finished. Model '{process.listed_as}' is ready to use."
        return "good", f"Training '{name}' finished."
    if process.state is TrainingState.STOPPED:
        return "info", f"Training '{name}' is paused. Press Resume to continue."
    return "error", process.error


def brief(warning: str) -> str:
    """Return a warning of the trainer in one line: of a table, its first problem."""
    first, *rest = warning.splitlines()
    rows = rest[1:]  # after the head of the table
    if not rows:
        return first
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{first} {' '.join(rows[0].split()[1:])}{more}"


_SCROLL_AFTER_MS = 100


class TrainDock(TabOrdered):
    """Trains a model on a folder of tagged images.

    Messages are at the top, the big button at the bottom; what is between them scrolls.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Its open slides can be trained on, and models are compared on them.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.folder: Path | None = None
        self.facts: FolderFacts | None = None
        self._program: Sequence[str] | None = None
        settings = load_train_settings()
        self._remembered_folder = settings.folder
        self._lay_out(settings)
        self.keeper = ProcessMonitor(self)
        self.keeper.keep_on = settings.keep_on
        self.slides = ViewerSlides(napari_viewer, self.refresh_state, self.refresh_state)
        self._check = self._job(self._on_checked)
        self._look = self._job(self._on_runs)
        self._check.finished.connect(lambda _: self.refresh_state())
        self.plan = PlanEstimate(self.setup, self._plan_steps)
        self.tagging = Tagging(self)
        self.outcome = TrainedModel(self.result, napari_viewer, self.slides)
        theme = ThemeColor(napari_viewer, self.show_theme)
        for link in (self.slides, theme):
            on_destroyed(self, link.disconnect)
        self._connect()
        self.folder_section.show_folder(None)
        self.refresh_state()
        self._look.start(list_runs)

    def _lay_out(self, settings: TrainSettings) -> None:
        self.banner = Banner()
        self.folder_section = FolderSection()
        self.folder_section.mpp_edit.setText(settings.mpp)
        self.class_list = ClassList()
        self.class_list.table.setColumnHidden(EYE, True)
        self.class_list.table.setToolTip(TOOLTIPS["train_classes"])
        listed = self.class_list  # the tags of the folder say which classes there are
        for button in (listed.add_button, listed.remove_button, listed.presets):
            button.hide()
        self.classes = CollapsibleSection("Tissue classes", self.class_list)
        self.setup = SetupSection(settings)
        self.earlier = EarlierTrainings()
        self.earlier_box = CollapsibleSection("Earlier trainings", self.earlier)
        self.progress_heading = heading("Training")
        self.curves = CurvesPanel()
        self.pictures = PicturesPanel()
        self.warnings = FlowText()
        self.result_heading = heading("Model")
        self.result = ResultSection()
        self.panel = TrainPanel()
        self.scroll_area = scrolling(
            heading("Images"),
            self.folder_section,
            self.classes,
            heading("What to train"),
            self.setup,
            self.progress_heading,
            self.curves,
            self.pictures,
            self.warnings,
            self.result_heading,
            self.result,
            self.earlier_box,
        )
        self.banner.float_over(self.scroll_area)
        column(self, self.scroll_area, self.panel, tall=self.scroll_area)

    def _job(self, on_item: Callable[[Any], None]) -> BackgroundJob:
        job = BackgroundJob(self)
        job.yielded.connect(on_item)
        job.failed.connect(self.show_error_message)
        return job

    def _connect(self) -> None:
        section = self.folder_section
        section.folderRequested.connect(self._on_folder)
        section.slidesRequested.connect(self.use_slides)
        section.tagRequested.connect(self._on_tag)
        section.masksDescribed.connect(lambda: self.choose_folder(self.folder or Path()))
        self.tagging.messageEmitted.connect(self.show_message)
        self.tagging.tagged.connect(self.choose_folder)
        section.mpp_row.edited.connect(self._on_setup)
        section.mpp_row.refused.connect(lambda text: self.banner.show_message("warning", text))
        self.class_list.classesChanged.connect(self._on_classes)
        self.class_list.refused.connect(lambda text: self.banner.show_message("warning", text))
        self.setup.changed.connect(self._on_setup)
        self.setup.keepOnChanged.connect(self._on_keep_on)
        self.panel.startRequested.connect(self.start)
        self.panel.stopRequested.connect(self.stop)
        self.panel.resumeRequested.connect(self.resume)
        self.earlier.showRequested.connect(self._on_show_run)
        self.outcome.messageEmitted.connect(self.show_message)
        self.outcome.changed.connect(self.refresh_state)
        self.outcome.listed.connect(self.setup.backbone.show_available)
        self.keeper.changed.connect(self._on_progress)
        self.keeper.ended.connect(self._on_ended)

    # -- state

    @property
    def process(self) -> TrainingProcess | None:
        """The training that is shown; None when there is none."""
        return self.keeper.process

    @property
    def mpp(self) -> float | None:
        """Pixel size of the images in micrometers: stated by the folder, or typed."""
        if self.facts is not None and self.facts.mpp is not None:
            return self.facts.mpp
        return self.folder_section.mpp_row.mpp

    @property
    def state(self) -> TrainDockState:
        """The current situation, which decides what can be used."""
        process, slide = self.process, self.slides.slide
        return TrainDockState(
            has_folder=self.folder is not None,
            checking=self._check.is_running,
            usable=self.facts is not None and self.facts.usable,
            mpp_known=self.mpp is not None,
            name_problem=name_problem(self.setup.name_edit.text()),
            masks=len(mask_views(self._viewer)),
            training=None if process is None else process.state,
            stop_asked_twice_helps=process is None or process.is_ours,
            can_resume=process is not None and process.files.can_resume,
            has_report=process is not None and process.files.report.is_file(),
            has_model=process is not None and self.outcome.has(process.listed_as),
            has_slide=slide is not None and slide.mpp is not None,
            comparing=self.outcome.is_comparing,
            shown_name="" if process is None else process.files.root.name,
        )

    def show_theme(self, color: str) -> None:
        """Draw icons, bars and curves in the text color of the viewer's theme."""
        self.class_list.set_icon_color(color)
        self.curves.set_ink(color)
        self.folder_section.bars.set_ink(color)
        for part in (self.classes, self.earlier_box):
            part.show_theme(QColor(color))

    def show_state(self, state: TrainDockState, history: RunHistory | None) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        show_actions(self, state)  # before the sections, which know more about some of them
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
        self.earlier_box.setVisible(not self.earlier.is_empty)
        self.earlier.show_state(state)

    def scroll_to_progress(self) -> None:
        """Scroll to the curves."""
        bar = self.scroll_area.verticalScrollBar()
        bar.setValue(min(bar.maximum(), self.progress_heading.y()))

    def show_message(self, kind: str, text: str) -> None:
        """Show a message at the top of the dock; an empty text hides the last one."""
        if text:
            self.banner.show_message(kind, text)
        else:
            self.banner.hide()

    def refresh_state(self) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        self.show_state(self.state, None if self.process is None else self.process.history)

    def show_error_message(self, text: str) -> None:
        """Show an error in the dock."""
        self.banner.show_message("error", text)
        self.refresh_state()

    def _remember(self) -> None:
        self.setup.form.remember(
            folder="" if self.folder is None else str(self.folder),
            mpp=self.folder_section.mpp_edit.text(),
        )
        save_train_settings(self.setup.form.settings)

    # -- images

    def _on_folder(self) -> None:
        start = str(self.folder or self._remembered_folder)
        path = QFileDialog.getExistingDirectory(self, "Folder of tagged images", start)
        if path:
            self.choose_folder(Path(path))

    def choose_folder(self, folder: Path) -> None:
        """Check a folder of images and show its contents."""
        if self.state.why_not("folder"):
            return
        self.banner.hide()
        self.plan.stop()
        section = self.folder_section
        if folder != self.folder:
            self.setup.name_edit.setText(usable_name(folder.name))
            section.forget_masks()
        self.folder, self.facts = folder, None
        section.show_folder(folder)
        section.show_facts(None)
        self.setup.show_plan(None)
        typed = section.mask_values
        self._begin_check(lambda: scan_folder(folder, self._program, typed))

    def use_slides(self) -> None:
        """Cut patches from the open slides and use them as the images to train on."""
        views = mask_views(self._viewer)
        if self.state.why_not("slides") or not views:
            return
        self.banner.hide()
        out = patches_folder(Path(views[-1].slide.path).stem)
        shown = [(view, view.layer.data) for view in views]
        self.facts = None
        self.folder_section.forget_masks()
        self.folder_section.show_facts(None)
        self._begin_check(lambda: cut_open_slides(shown, out, self._program))

    def _begin_check(self, work: Callable[[], Generator[Any, None, None]]) -> None:
        self.folder_section.show_counted("Checking the images…", 0, 0)
        self._check.start(work)
        self.refresh_state()

    def _on_checked(self, item: object) -> None:
        if isinstance(item, dict):
            self.folder_section.show_counted(item["what"], item["done"], item["total"])
        elif isinstance(item, Path):
            self.folder = item
            self.folder_section.show_folder(item)
            self.setup.name_edit.setText(usable_name(item.name))
        elif isinstance(item, TissueClasses):
            self._take_classes(item)
        elif isinstance(item, CutNotes):
            self.folder_section.show_notes(item.texts)
        elif isinstance(item, FolderFacts):
            self.facts = item
            self.folder_section.show_facts(item)
            if item.classes is not None:
                self.class_list.show_classes(item.classes)
            self._remember()
            self.plan.schedule()

    def _take_classes(self, known: TissueClasses) -> None:
        """Show the colors and words of classes of which the folder has only the names."""
        own = None if self.facts is None else self.facts.classes
        if own is not None and own.names == known.names:
            self.class_list.show_classes(known)
            self._on_classes()

    def _on_classes(self) -> None:
        classes = self.class_list.classes
        if classes is not None:
            shown = [(classes[i - 1].name, classes[i - 1].color) for i in classes.tissue_ids]
            self.folder_section.bars.recolor(shown)
        self._on_setup()

    def _on_setup(self) -> None:
        self._remember()
        self.refresh_state()
        if self.facts is not None and self.facts.usable:
            self.plan.schedule()

    def _on_tag(self) -> None:
        known = self.class_list.classes
        colors = {} if known is None else {c.name: c.color for c in known}
        self.tagging.ask_folder(str(self.folder or self._remembered_folder), colors)

    def _on_keep_on(self, on: bool) -> None:
        self.keeper.keep_on = on
        self._remember()

    # -- training

    def request(self) -> TrainingRequest:
        """Return the training that the dock describes.

        Raises
        ------
        PlimsegError
            When it is not valid.
        """
        facts, edited = self.facts, self.class_list.classes
        classes = None
        if facts is not None and facts.classes is not None and edited not in (None, facts.classes):
            classes = following(facts.classes, edited)
        typed = None if facts is None or facts.mpp is not None else self.mpp
        return TrainingRequest(
            source=self.folder or Path(),
            name=self.setup.name_edit.text(),
            effort=self.setup.effort,
            backbone=self.setup.backbone.name,
            label_source=self.setup.form.settings.source,
            classes=classes,
            mpp=typed,
            mask_values=self.folder_section.mask_values,
        )

    def _plan_steps(self) -> Generator[TrainingPlan | None, None, None] | None:
        if self.state.why_not("start"):
            return None
        return make_plan(self.request(), self._program)

    def start(self) -> None:
        """Start the training that the dock describes."""
        if self.state.why_not("start"):
            return
        self.plan.stop()
        self._launch(
            lambda: TrainingProcess.start(
                self.request(), new_run_folder(self.setup.name_edit.text()), self._program
            )
        )

    def resume(self) -> None:
        """Resume the training that is shown."""
        process = self.process
        if process is not None and not self.state.why_not("resume"):
            self._launch(lambda: TrainingProcess.resume(process.files.root, self._program))

    def _launch(self, launch: Callable[[], TrainingProcess]) -> None:
        try:
            process = launch()
        except PlimsegError as error:
            self.show_error_message(str(error))
            return
        self.banner.hide()
        self.setup.show_plan(None)
        self._show_process(process)
        # the curves are laid out first; only then can the dock scroll to them
        QTimer.singleShot(_SCROLL_AFTER_MS, self.scroll_to_progress)

    def stop(self) -> None:
        """Ask the training to finish its step and save; the second time, end it at once."""
        process = self.process
        if process is None or self.state.why_not("stop"):
            return
        if process.state is TrainingState.STOPPING:
            process.kill()
        else:
            process.stop()
        self.refresh_state()

    def _show_process(self, process: TrainingProcess) -> None:
        self.curves.forget()
        self.pictures.show_pictures({})
        self.outcome.show(process)
        self.keeper.take(process)
        self._on_progress()

    def _on_progress(self) -> None:
        process = self.process
        if process is None:
            return
        history = process.history
        self.curves.show_history(history)
        self.pictures.show_pictures(history.pictures)
        texts = [brief(text) for text in history.warnings[-3:] if text]
        self.warnings.setText("\n".join(texts))
        self.warnings.setVisible(bool(texts) and process.state.is_alive)
        self.refresh_state()

    def _on_ended(self) -> None:
        process = self.process
        if process is None:
            return
        self.banner.show_message(*how_it_ended(process))
        self.result.show_scores(process.files.root.name, process.history.scores)
        if not self._look.is_running:
            self._look.start(list_runs)
        self.refresh_state()

    # -- earlier trainings

    def _on_runs(self, runs: list[KnownRun]) -> None:
        self.earlier.show_runs(runs)
        run = None if self.process is not None else unfinished_run(runs)
        if run is not None:
            self._on_show_run(run)
        self.outcome.list_models()
        self.refresh_state()

    def _on_show_run(self, run: KnownRun) -> None:
        if not self.state.is_training:
            self.banner.hide()
            self._show_process(TrainingProcess(run.files.root))
