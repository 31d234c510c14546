"""The dock *PLIMSeg Batch*: segments many slides, one after another."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QMenu,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_plimseg._widgets.batch.state import BatchState
from napari_plimseg._widgets.batch.table import BatchTable
from napari_plimseg._widgets.common import (
    SPACING,
    TOOLTIPS,
    ActionButton,
    BackgroundJob,
    Banner,
    CollapsibleSection,
    FlowText,
    ModelCache,
    ModelChoice,
    PlainLabel,
    TabOrdered,
    column,
    labeled,
    on_destroyed,
    plain,
    row,
    show_actions,
)
from napari_plimseg._widgets.docks import main_dock, open_main_dock
from napari_plimseg._widgets.generate import (
    BUTTON_STYLE,
    EngineWatch,
    Phase,
    PixelSizeRow,
    duration,
)
from napari_plimseg._widgets.viewer import ThemeColor, slide_file_filter
from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference import (
    ENGINE,
    Added,
    Cohort,
    ItemState,
    Notice,
    SegmentationJob,
    thumbnail_of,
)
from napari_plimseg.results import FORMATS
from napari_plimseg.settings import load_settings, remember, remembered
from napari_plimseg.slides import slides_in

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari.viewer import Viewer

    from napari_plimseg.inference import CohortStep
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.tissue import TissueClasses


HINT = "Drop slides or folders here, or press Add."


def add_slides(cohort: Cohort, places: Sequence[str | Path]) -> Generator[Added, None, None]:
    """Add files, and the slides in folders, to the list; yield the outcome of each."""
    for place in places:
        for path in slides_in(place):
            yield cohort.add(path)


def run_cohort(
    cohort: Cohort, job: SegmentationJob, keeper: ModelCache
) -> Generator[CohortStep, None, None]:
    """Segment every waiting or stopped slide; closing the generator stops the batch safely."""
    cohort.choose(str(job.model), job.formats)
    with contextlib.closing(cohort.run(lambda: job.loaded(keeper.model))) as steps:
        yield from steps


class ExportOptions(QWidget):
    """Chooses what is exported of each slide, and the folder for all results.

    Attributes
    ----------
    formatsChanged : Signal()
        Other exports were chosen.
    folderChosen : Signal(str)
    """

    formatsChanged = Signal()
    folderChosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.formats = {key: QCheckBox(kind.title) for key, kind in FORMATS.items()}
        self.folder_label = FlowText()
        self.folder_button = QPushButton("Change…")
        self.folder_button.clicked.connect(self._on_folder)
        self._folder = ""
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 2, 0, 2)
        grid.setVerticalSpacing(SPACING)
        for i, box in enumerate(self.formats.values()):
            box.toggled.connect(lambda _: self.formatsChanged.emit())
            grid.addWidget(box, i // 2, i % 2)
        below = grid.rowCount()
        grid.addWidget(PlainLabel("Save results in"), below, 0)
        grid.addWidget(self.folder_button, below, 1)
        grid.addWidget(self.folder_label, below + 1, 0, 1, 2)

    def show_folder(self, folder: Path) -> None:
        """Show where results are saved."""
        self._folder = str(folder)
        self.folder_label.setText(self._folder)
        self.folder_label.setToolTip(plain(self._folder))

    def show_formats(self, chosen: Sequence[str]) -> None:
        """Tick the chosen exports."""
        for key, box in self.formats.items():
            box.setChecked(key in chosen)

    @property
    def chosen_formats(self) -> tuple[str, ...]:
        """The exports that are ticked."""
        return tuple(key for key, box in self.formats.items() if box.isChecked())

    def set_enabled(self, why_not: str) -> None:
        """Allow changes, or say why not."""
        self.folder_button.setEnabled(not why_not)
        self.folder_button.setToolTip(plain(why_not or TOOLTIPS["batch_folder"]))
        for box in self.formats.values():
            box.setEnabled(not why_not)
            box.setToolTip(plain(why_not or TOOLTIPS["batch_setup"]))

    def _on_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Save results in", self._folder)
        if path:
            self.folderChosen.emit(path)


def _summary(state: BatchState) -> str:
    names = {ItemState.NEEDS_MPP: "without pixel size"}
    counts = [
        (sum(item.state is kind for item in state.items), names.get(kind, kind.value))
        for kind in ItemState
    ]
    text = ", ".join(f"{count} {name}" for count, name in counts if count)
    return f"{_slides(len(state.items))}: {text}."


def _slides(count: int) -> str:
    return "1 slide" if count == 1 else f"{count:,} slides"


def _button(text: str, control: str, slot: Callable[[], None]) -> ActionButton:
    return ActionButton(text, control, TOOLTIPS[f"batch_{control}"], slot)


OWNER = "the batch"
_FOLDER, _FORMATS = "batch_folder", "batch_formats"
_SHOWN_REFUSALS = 3
_BAR_STEPS = 1000
_OPENING = "The list of slides is being opened."


class BatchDock(TabOrdered):
    """Segments a list of slides.

    Messages are at the top, the list of slides in the middle, the big button at the bottom.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Gets the slides whose results are opened.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._cohort: Cohort | None = None
        self._list_problem = _OPENING
        self._phase = Phase.IDLE
        self._refused: list[str] = []
        self._keeper = ModelCache()
        self._closing = threading.Event()
        self._lay_out(load_settings().model)
        self.folder = Path(remembered(_FOLDER, "") or load_settings().results_path)
        self._opening, self._run_job, self._look_job, self._picture_job = (
            BackgroundJob(self) for _ in range(4)
        )
        self.exports.show_formats(remembered(_FORMATS, ["ome-tiff", "geojson", "csv"]))
        self._connect()
        theme = ThemeColor(napari_viewer, self.show_theme)
        on_destroyed(self, theme.disconnect)
        self.open_folder(self.folder)

    def _lay_out(self, model: str) -> None:
        self.banner = Banner()
        self.table = BatchTable()
        self.hint = FlowText(HINT)
        self.add_button = QPushButton("Add")
        menu = QMenu(self.add_button)
        self.files_action = menu.addAction("Slides…")
        self.folder_action = menu.addAction("Folder…")
        self.add_button.setMenu(menu)
        self.remove_button = _button("Remove", "remove", self.remove)
        self.retry_button = _button("Retry failed", "retry", self.retry)
        self.open_button = _button("Open result", "open", self.open_result)
        self.mpp_row = PixelSizeRow("batch_mpp")
        self.mpp_edit = self.mpp_row.edit
        self.model_choice = ModelChoice(model)
        self.exports = ExportOptions()
        self.settings = CollapsibleSection("Exports and folder", self.exports)
        self.bar = QProgressBar()
        self.bar.setRange(0, _BAR_STEPS)
        self.line = FlowText()
        self.run_button = _button("Run all", "run", self.start)
        self.run_button.setStyleSheet(BUTTON_STYLE)
        self.stop_button = _button("Stop", "stop", self.stop)
        self.banner.float_over(self.table)
        column(
            self,
            labeled("Model", self.model_choice, 0, bold=True),
            self.settings,
            self.table,
            self.hint,
            self.mpp_row,
            row(self.add_button, self.remove_button, self.retry_button, self.open_button),
            self.run_button,
            row(self.bar, self.stop_button, stretch=0),
            self.line,
            tall=self.table,
        )

    def _connect(self) -> None:
        self.files_action.triggered.connect(self._on_add_files)
        self.folder_action.triggered.connect(self._on_add_folder)
        self.table.pathsDropped.connect(self.add)
        self.table.itemSelectionChanged.connect(self.refresh_state)
        self.table.itemDoubleClicked.connect(lambda *_: self.open_result())
        self.model_choice.changed.connect(self.refresh_state)
        self.exports.folderChosen.connect(self._on_folder)
        self.exports.formatsChanged.connect(
            lambda: remember(_FORMATS, list(self.exports.chosen_formats))
        )
        self.mpp_row.typed.connect(self._on_mpp)
        self.mpp_row.refused.connect(lambda text: self.banner.show_message("warning", text))
        self._opening.yielded.connect(self._on_opened)
        self._opening.failed.connect(self._on_open_failed)
        self._look_job.yielded.connect(self._on_added)
        self._look_job.failed.connect(lambda text: self.banner.show_message("error", text))
        self._look_job.finished.connect(lambda _: self._on_all_added())
        self._picture_job.yielded.connect(self._on_picture)
        self._run_job.yielded.connect(self._on_step)
        self._run_job.failed.connect(lambda text: self.banner.show_message("error", text))
        self._run_job.finished.connect(self._on_finished)
        self._engine = EngineWatch(self)
        self._engine.changed.connect(self.refresh_state)
        on_destroyed(self, self._closing.set)

    @property
    def is_running(self) -> bool:
        """Whether the batch is running."""
        return self._run_job.is_running

    @property
    def state(self) -> BatchState:
        """The current situation, which decides what can be used."""
        cohort, owner = self._cohort, ENGINE.owner
        chosen = self.table.selected_paths
        items = () if cohort is None else tuple(cohort.items)
        return BatchState(
            items=items,
            selected=tuple(item for item in items if item.path in chosen),
            phase=self._phase,
            looking=self._look_job.is_running,
            list_problem=self._list_problem,
            model_problem=self.model_choice.problem,
            engine_owner="" if owner == OWNER else owner,
        )

    def show_theme(self, color: str) -> None:
        """Draw icons in the text color of the theme."""
        self.settings.show_theme(QColor(color))

    def show_state(self, state: BatchState) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        show_actions(self, state)
        why_not = state.why_not("add")
        self.add_button.setEnabled(not why_not)
        self.add_button.setToolTip(plain(why_not or TOOLTIPS["batch_add"]))
        why_not = state.why_not("setup")
        self.model_choice.set_enabled(why_not)
        self.exports.set_enabled(why_not)
        running = state.phase is not Phase.IDLE
        self.bar.setVisible(running)
        self.stop_button.setVisible(running)
        self.run_button.setVisible(not running)
        self.mpp_row.setVisible(not state.why_not("mpp"))
        self.hint.setVisible(not state.items)
        if not running:
            self.line.setText(_summary(state) if state.items else "")
        self.line.setVisible(bool(self.line.text()))

    def refresh_state(self) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        self.show_state(self.state)

    def open_folder(self, folder: Path) -> None:
        """Switch to another results folder and to the list of slides saved in it."""
        if self.is_running or self._opening.is_running or self._look_job.is_running:
            return
        if self._cohort is not None:
            self._cohort.close()
        self._cohort = None
        self._list_problem = _OPENING
        self.folder = folder
        self.exports.show_folder(folder)
        self.table.show_items([])
        self._opening.start(lambda: Cohort.open(folder))
        self.refresh_state()

    def add(self, places: Sequence[str | Path]) -> None:
        """Add slides, and all slides of folders."""
        why_not, cohort = self.state.why_not("add"), self._cohort
        if why_not or cohort is None:
            self.banner.show_message("info", why_not)
            return
        self._refused = []
        wanted = list(places)
        self._look_job.start(lambda: add_slides(cohort, wanted))
        self.refresh_state()

    def start(self, *, leave_out: bool = False) -> None:
        """Segment the slides that are waiting or stopped.

        Parameters
        ----------
        leave_out : bool
            Whether slides without pixel size are left out. Otherwise it is asked for first, before
            the model is loaded.
        """
        cohort = self._cohort
        if cohort is None or self.state.why_not("run"):
            return
        unknown = [item.path for item in cohort.items if item.state is ItemState.NEEDS_MPP]
        if unknown and not leave_out:
            self._ask_for_mpp(unknown)
            return
        settings, classes = self._settings()
        job = SegmentationJob(
            model=self.model_choice.name,
            classes=classes,
            settings=settings.run_settings(),
            folder=self.folder,
            formats=self.exports.chosen_formats,
            digest_names=True,
        )
        closing, keeper = self._closing, self._keeper

        def work() -> Generator[CohortStep, None, None]:
            try:
                yield from run_cohort(cohort, job, keeper)
            finally:
                # the dock is gone, so nobody else will release the list's lock
                if closing.is_set():
                    cohort.close()

        self.banner.clear()
        self._phase = Phase.RUNNING
        self.bar.setValue(0)
        self.line.setText("Loading model…")
        self._run_job.start(work)
        self.refresh_state()

    def _ask_for_mpp(self, unknown: Sequence[Path]) -> None:
        self.table.select(*unknown)
        self.mpp_edit.setFocus()
        have = "has" if len(unknown) == 1 else "have"
        text = f"{_slides(len(unknown))} {have} no pixel size. Enter it below, or leave them out."
        self.banner.show_message("warning", text)
        self.banner.offer("Leave out", lambda: self.start(leave_out=True))

    def stop(self) -> None:
        """Stop the batch; finished tiles are kept and it can be continued."""
        if not self.state.why_not("stop"):
            self._phase = Phase.STOPPING
            self._run_job.stop()
            self.line.setText("Stopping after the current tiles…")
            self.refresh_state()

    def stop_and_wait(self) -> None:
        """Stop all jobs and wait for each of them, at most `background_job.PATIENCE_SECONDS`."""
        for job in (self._run_job, self._look_job, self._picture_job, self._opening):
            job.stop_and_wait()

    def remove(self) -> None:
        """Remove the selected slides from the list."""
        cohort = self._cohort
        if cohort is not None:
            for path in self.table.selected_paths:
                self._show_errors(lambda path=path: cohort.remove(path))
            self._show_items()

    def retry(self) -> None:
        """Put the failed slides back into the queue."""
        cohort = self._cohort
        if cohort is not None:
            for item in cohort.items:
                if item.state is ItemState.FAILED:
                    self._show_errors(lambda item=item: cohort.retry(item.path))
            self._show_items()

    def open_result(self) -> None:
        """Open the selected slide with its result in the main dock."""
        state = self.state
        if state.why_not("open"):
            return
        (item,) = state.selected
        open_main_dock(self._viewer).open_slide_with_result(
            item.path, item.mpp, self.folder / item.store
        )

    def _settings(self) -> tuple[DockSettings, TissueClasses | None]:
        """Return the settings of the main dock, and its edited classes if the model is the same."""
        dock = main_dock(self._viewer)
        if dock is None:
            return load_settings(), None
        same = dock.model_name == self.model_choice.name
        return dock.settings, dock.edited_classes if same else None

    def _show_errors(self, change: Callable[[], None]) -> None:
        try:
            change()
        except PlimsegError as error:
            self.banner.show_message("error", str(error))

    def _show_items(self) -> None:
        cohort = self._cohort
        self.table.show_items([] if cohort is None else cohort.items)
        self.refresh_state()

    def _on_opened(self, cohort: Cohort) -> None:
        self._cohort, self._list_problem = cohort, ""
        if cohort.model:
            self.model_choice.choose(cohort.model)
        self._show_items()
        blank = [i.path for i in cohort.items if not self.table.has_thumbnail(i.path)]
        if blank and not self._picture_job.is_running:
            self._picture_job.start(
                lambda: (Added(path, thumbnail=thumbnail_of(path)) for path in blank)
            )
        stopped = cohort.count(ItemState.STOPPED)
        if stopped:
            self.banner.show_message(
                "info", "The last batch is unfinished; press Run all to continue."
            )

    def _on_open_failed(self, text: str) -> None:
        self._list_problem = text
        self.banner.show_message("error", text)
        self.refresh_state()

    def _on_added(self, added: Added) -> None:
        if added.item is None:
            self._refused.append(added.refusal)
            return
        self.table.show_thumbnail(added.path, added.thumbnail)
        self.table.show_item(added.item)
        self.refresh_state()

    def _on_all_added(self) -> None:
        if self._refused:
            more = len(self._refused) - _SHOWN_REFUSALS
            text = " ".join(self._refused[:_SHOWN_REFUSALS])
            self.banner.show_message("warning", f"{text} And {more} more." if more > 0 else text)
        self._show_items()

    def _on_picture(self, added: Added) -> None:
        self.table.show_thumbnail(added.path, added.thumbnail)

    def _on_step(self, step: CohortStep) -> None:
        cohort = self._cohort
        if cohort is None:
            return
        self.table.show_item(step.item)
        self.bar.setValue(round(_BAR_STEPS * cohort.fraction))
        if self._phase is Phase.RUNNING:
            done, total = cohort.count(ItemState.DONE), len(cohort.items)
            parts = [f"{done} of {total} slides done"]
            failed = cohort.count(ItemState.FAILED)
            if failed:
                parts.append(f"{failed} failed")
            if step.seconds_left:
                parts.append(f"{duration(step.seconds_left)} left")
            self.line.setText(" · ".join(parts))
        if isinstance(step.step, PlimsegError):
            self.banner.show_message("error", str(step.step))
        elif isinstance(step.step, Notice):
            self.banner.show_message("warning", f"{step.item.path.name}: {step.step.text}")
        if step.step is None or step.item.state is not ItemState.RUNNING:
            self.refresh_state()

    def _on_finished(self, complete: bool) -> None:
        was, self._phase = self._phase, Phase.IDLE
        cohort = self._cohort
        if was is Phase.STOPPING:
            self.banner.show_message(
                "info", "Cancelled. Finished tiles are kept; press Run all to continue."
            )
        elif complete and cohort is not None and self.banner.kind != "error":
            self.banner.show_message(
                "good", f"Done. {_slides(cohort.count(ItemState.DONE))} segmented."
            )
        self._show_items()

    def _on_mpp(self, mpp: float) -> None:
        cohort = self._cohort
        if cohort is None:
            return
        for item in self.state.selected:
            if item.state is ItemState.NEEDS_MPP:
                self._show_errors(lambda path=item.path: cohort.set_mpp(path, mpp))
        self.banner.retract("warning")
        self.mpp_edit.clear()
        self._show_items()

    def _on_add_files(self) -> None:
        start = load_settings().slide_folder
        paths, _ = QFileDialog.getOpenFileNames(self, "Add slides", start, slide_file_filter())
        if paths:
            self.add(paths)

    def _on_add_folder(self) -> None:
        start = load_settings().slide_folder
        path = QFileDialog.getExistingDirectory(self, "Add all slides of a folder", start)
        if path:
            self.add([path])

    def _on_folder(self, path: str) -> None:
        remember(_FOLDER, path)
        self.open_folder(Path(path))
