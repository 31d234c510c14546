"""Runs a segmentation in the background and updates the layers of its result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    BackgroundJob,
    FlowText,
    MadeBy,
    ModelCache,
    NothingToDo,
    Stage,
    on_destroyed,
    plain,
    run_once,
)
from napari_plimseg._widgets.generate.jobs import Opened, Step, delete_result, run_steps
from napari_plimseg._widgets.generate.state import DockState, Phase
from napari_plimseg._widgets.viewer import (
    CONFIDENCE,
    LayerBindings,
    MaskView,
    OverlayView,
    RemovedLayers,
    describe_corrections,
    mask_views,
    slide_of,
)
from napari_plimseg.inference import ENGINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    from napari_plimseg._widgets.common import Banner
    from napari_plimseg.inference import Progress, RunSettings, SegmentationJob
    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses


NOTHING_TO_DO = "Already segmented; nothing to compute."
REFRESH_MS = 250
"""The layers are redrawn at most four times per second."""
_MOST_REFRESH_MS = 2000
_DRAWING_SHARE = 0.05
"""Of the time of the main thread: without a graphics card, layers are redrawn less often."""


class RunController(QObject):
    """Runs one segmentation at a time and shows its result as layers.

    Parameters
    ----------
    viewer : napari.Viewer
        The layers are added to it.
    parent : QObject
        The dock.

    Attributes
    ----------
    staged : Signal(str)
        What is going on before the first tile, as text.
    progressed : Signal(object)
        The `Progress` of the engine after each tile.
    drawn : Signal(object)
        The latest `Progress`, whenever the layers are redrawn. The progress bar is updated with
        them, since repainting any part of the window takes about as long as repainting all of it.
    opened : Signal()
        The mask layer was added.
    maskChosen : Signal()
        Another mask of a slide may be the one that is seen: a mask layer was shown or hidden.
    failed : Signal(str)
        Why the run failed and what to do.
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    finished : Signal(bool)
        True when the run is complete, False when it was cancelled or failed.
    """

    staged = Signal(str)
    progressed = Signal(object)
    drawn = Signal(object)
    opened = Signal()
    maskChosen = Signal()
    failed = Signal(str)
    messageEmitted = Signal(str, str)
    finished = Signal(bool)

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.keeper = ModelCache()
        self.overlay: OverlayView | None = None
        self.overlay_what = ""
        # those that a dock before this one, closed meanwhile, has shown
        self._views: list[tuple[Slide, MaskView]] = []
        self._visible = LayerBindings()
        on_destroyed(self, self._visible.release)
        for known in mask_views(viewer):
            self._add(known)
        self.layers = RemovedLayers(viewer, self._on_layer_removed)
        self._deleted = ""
        self._running: tuple[Slide, TissueClasses, frozenset[str]] | None = None
        self._before: MaskView | None = None
        self._running_view: MaskView | None = None
        self._is_stopping = False
        self._stopped: set[Slide] = set()
        self.last_progress: Any = None
        self.found_finished = False
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_step)
        self._job.failed.connect(self.failed)
        self._job.finished.connect(self._on_finished)
        self._refresh_timer = QTimer(self)
        self._refresh_timer.setSingleShot(True)
        self._refresh_timer.setInterval(REFRESH_MS)
        self._refresh_timer.timeout.connect(self._on_refresh_due)
        self._drawn_since = 0.0
        self._drawn_timer = QTimer(self)
        self._drawn_timer.setSingleShot(True)
        self._drawn_timer.timeout.connect(self._on_drawn)

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self._job.is_running

    @property
    def phase(self) -> Phase:
        """What the run is doing."""
        if not self.is_running:
            return Phase.IDLE
        return Phase.STOPPING if self._is_stopping else Phase.RUNNING

    @property
    def last_view(self) -> MaskView | None:
        """The mask of the last run, while its layer is in the viewer."""
        found = [] if self._running is None else self._views_of(self._running[0])
        return next(reversed(found), None)

    @property
    def stopped_text(self) -> str:
        """The message about a run that was cancelled."""
        if self._deleted:
            text = f"Cancelled, because the layer '{self._deleted}' was deleted."
            return f"{text} Finished tiles are kept."
        if self._running is None or not self.was_stopped(self._running[0]):
            return "Cancelled."  # before there was anything to keep
        return "Cancelled. Finished tiles are kept; press Continue to finish."

    @property
    def may_show_stored(self) -> bool:
        """Whether a stored result may be shown: none is made, and none was deleted by hand."""
        return not self.is_running and not self._deleted

    def running_elsewhere(self, shown: Slide | None) -> str:
        """Return the name of the slide that is being segmented, empty when it is the one shown."""
        running = self._running[0] if self._running is not None and self.is_running else None
        return "" if running is None or running is shown else running.name

    def _on_layer_removed(self, layer: Any) -> None:
        view = self._running_view
        if self._running is None or not self.is_running or self._is_stopping:
            return
        slide = self._running[0]
        if slide_of(layer) is slide or (view is not None and view.layer is layer):
            self._deleted = layer.name
            self.stop()
            self.staged.emit("Stopping after the current tiles…")

    def was_stopped(self, slide: Slide | None) -> bool:
        """Whether the mask of a slide is unfinished and its run can be continued."""
        return slide in self._stopped

    def forget_stopped(self, slide: Slide | None = None) -> None:
        """Don't offer to continue the run of a slide, by default of any: the next one differs."""
        self._stopped = self._stopped - {slide} if slide is not None else set()

    def view_of(self, slide: Slide | None) -> MaskView | None:
        """Return the mask of a slide that is seen, or else its latest one in the viewer."""
        found = self._views_of(slide)
        shown = [view for view in found if view.layer.visible]
        return next(reversed(shown or found), None)

    def _views_of(self, slide: Slide | None) -> list[MaskView]:
        return [v for owner, v in self._views if owner is slide and v.is_in(self._viewer)]

    def _add(self, view: MaskView) -> None:
        self._views = [known for known in self._views if known[1].is_in(self._viewer)]
        self._views.append((view.slide, view))
        self._visible.connect(view.layer.events.visible, self._on_visible)

    def _on_visible(self, event: Any = None) -> None:
        self.maskChosen.emit()

    def load_early(
        self,
        slide: Slide | None,
        model: str,
        classes: TissueClasses | None,
        settings: Callable[[], RunSettings],
    ) -> None:
        """Load and prepare a model in the background, so that the next run starts sooner.

        Not while the pixel size is unknown: it is asked for first.
        """
        keeper = self.keeper

        def load() -> None:
            from napari_plimseg.inference import warm_up

            warm_up(keeper.model(model, classes), settings())

        if slide is not None and slide.mpp is not None and not self.is_running:
            # what fails here fails at the run, which says why
            run_once(self, load, lambda _: None, lambda _: None)

    def start(
        self,
        slide: Slide,
        job: SegmentationJob,
        classes: TissueClasses,
        hidden: frozenset[str],
        made_by: MadeBy | None = None,
        before: MaskView | None = None,
    ) -> None:
        """Start a run; its mask shows `classes`, those in `hidden` transparently.

        With `made_by`, a finished result needs no model. A new mask begins with the edits of
        `before`, the one shown.
        """
        self.found_finished = False
        self._running = (slide, classes, hidden)
        self._before = before
        self._running_view = None
        self.last_progress = None
        self._is_stopping = False
        self._deleted = ""
        self._stopped.discard(slide)
        keeper = self.keeper
        self._job.start(lambda: run_steps(slide, job, keeper, made_by))

    def stop(self) -> None:
        """Ask the run to stop after the current tiles."""
        self._is_stopping = True
        self._job.stop()

    def stop_and_wait(self) -> None:
        """Stop the run and wait for its thread, at most `background_job.PATIENCE_SECONDS`."""
        self._job.stop_and_wait()

    def show(
        self,
        slide: Slide,
        result: Opened,
        classes: TissueClasses,
        hidden: frozenset[str],
        before: MaskView | None = None,
    ) -> MaskView:
        """Show a result, in its own layer if the same store is shown already."""
        for owner, view in self._views:
            same = owner is slide and view.store.path == result.store.path
            if same and view.is_in(self._viewer):
                view.store = result.store
                view.take(result.mask)
                view.hide_classes(view.shown_names(hidden))
                view.set_growing(False)
                self._bring_forward(slide, view)
                return view
        old = self.view_of(slide)
        if old is not None:
            # of another model or other words: both layers stay, one is visible
            old.layer.visible = False
        stem = Path(slide.name).stem
        view = MaskView(
            self._viewer,
            slide,
            result.store,
            result.mask,
            classes,
            slide_stem=stem,
            hidden=hidden,
            before=before,
        )
        self._add(view)
        if result.store.done_fraction < 1 and not self.is_running:
            self._stopped.add(slide)
        self._drop_overlay()
        return view

    def delete(self, path: Path) -> None:
        """Delete a stored result from the disk, and its mask layers."""
        shown = [view for _, view in self._views if view.store.path == path]
        for view in shown:
            if view.recorder is not None:
                view.recorder.flush_and_release()  # painting belongs to the slide
        why_not = delete_result(path)
        if why_not:
            self.failed.emit(why_not)
            return
        for view in shown:
            if view.is_in(self._viewer):
                self._viewer.layers.remove(view.layer)
        self.messageEmitted.emit("good", f"Deleted {path.name}.")

    def _bring_forward(self, slide: Slide, view: MaskView) -> None:
        newest = self.view_of(slide)
        if newest is None or newest is view:
            return
        newest.layer.visible, view.layer.visible = False, True
        self._views.remove((slide, view))
        self._views.append((slide, view))
        self._drop_overlay()

    def set_overlay(self, slide: Slide, what: str, opacity: float, colormap: str) -> None:
        """Show the confidence, or the probability of a class, over the mask; "" shows neither.

        Raises
        ------
        StoreError
            When it is damaged; then nothing changes.
        """
        view = self.view_of(slide)
        if not what or view is None:
            self._drop_overlay()
            return
        values = view.overlay_values(what)
        self._drop_overlay()
        self.overlay_what = what
        self.overlay = OverlayView(
            self._viewer,
            view,
            values,
            title=what if what == CONFIDENCE else f"{what} · probability",
            opacity=opacity,
            colormap=colormap,
        )

    def refresh(self) -> None:
        """Draw the tiles since the last time."""
        view = self._running_view
        if view is not None and view.is_in(self._viewer):
            view.draw_filled()
            if self.overlay is not None and self.overlay.is_in(self._viewer):
                self.overlay.layer.refresh(extent=False)
        if self.last_progress is not None:
            self.drawn.emit(self.last_progress)

    def _on_refresh_due(self) -> None:
        self._drawn_since = time.perf_counter()
        self.refresh()
        self._drawn_timer.start()  # due at once, which means: after the window was painted

    def _on_drawn(self) -> None:
        spent = 1000 * (time.perf_counter() - self._drawn_since)
        wait = min(max(REFRESH_MS, spent / _DRAWING_SHARE), _MOST_REFRESH_MS)
        self._refresh_timer.setInterval(int(wait))

    def drop_stale_overlay(self) -> None:
        """Remove the overlay of a class that its mask does not have any more."""
        if self.overlay is not None:
            known = (CONFIDENCE, *self.overlay.view.info.classes.names)
            if self.overlay_what not in known:
                self._drop_overlay()

    def _drop_overlay(self) -> None:
        if self.overlay is not None and self.overlay.is_in(self._viewer):
            self._viewer.layers.remove(self.overlay.layer)
        self.overlay = None
        self.overlay_what = ""

    def _on_step(self, step: Step) -> None:
        if isinstance(step, Stage):
            self.staged.emit(step.text)
        elif isinstance(step, NothingToDo):
            self.found_finished = True
        elif isinstance(step, Opened):
            assert self._running is not None  # noqa: S101 - set before the job starts
            slide, classes, hidden = self._running
            self._running_view = self.show(slide, step, classes, hidden, self._before)
            self._running_view.set_growing(True)
            self.opened.emit()
        else:
            view = self._running_view
            if step.window is not None and step.mask is not None and view is not None:
                view.fill(step.window, step.mask)
                if self.overlay is not None and self.overlay.view is view:
                    self.overlay.fill(step, self.overlay_what)
            self.last_progress = step.progress
            if not self._refresh_timer.isActive():
                self._refresh_timer.start()
            self.progressed.emit(step.progress)

    def _on_finished(self, complete: bool) -> None:
        self._refresh_timer.stop()
        if self._running_view is not None and self._running_view.is_in(self._viewer):
            self._running_view.refresh()  # completely, including the thumbnail
        self.refresh()
        if self._running_view is not None:
            self._running_view.set_growing(False)
        self._running_view = None
        if self._running is not None and not complete and self.last_view is not None:
            self._stopped.add(self._running[0])
        self.finished.emit(complete)


BUTTON_STYLE = (
    "QPushButton {background: #2e7d4f; color: white; font-weight: bold; padding: 8px;"
    " border-radius: 4px;}"
    "QPushButton:hover {background: #38965f;}"
    "QPushButton:pressed {background: #25663f;}"
    "QPushButton:disabled {background: rgba(128, 128, 128, 70); color: rgb(140, 140, 140);}"
)


def duration(seconds: float) -> str:
    """Return a duration as text: "8 s", "3 min", "2 h 10 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def progress_line(progress: Progress) -> str:
    """Return the progress in one line: tiles, speed, time left and device."""
    if not progress.tiles_total:
        return f"{progress.message}…"
    parts = [f"{progress.tiles_done:,} / {progress.tiles_total:,} tiles"]
    if progress.tiles_per_second:
        parts.append(f"{progress.tiles_per_second:.1f} tiles/s")
    if progress.seconds_left is not None and progress.tiles_done < progress.tiles_total:
        parts.append(f"{duration(progress.seconds_left)} left")
    parts.append(progress.device)
    if progress.message.startswith("Out of memory"):
        parts.append(progress.message)
    return " · ".join(parts)


def finished_text(progress: Progress, *, repaired: bool = False) -> str:
    """Return the message about a complete run, in one or two sentences.

    Parameters
    ----------
    progress : Progress
        The last one.
    repaired : bool
        Whether the run replaced damaged parts, which may be glass and take no computation.
    """
    if not progress.tiles_total:
        return "Done. There is no tissue in this area."
    if not progress.tiles_per_second:  # everything was done in an earlier run
        return "Done." if repaired else NOTHING_TO_DO
    tiles = "1 tile" if progress.tiles_done == 1 else f"{progress.tiles_done:,} tiles"
    text = f"Done. {tiles} in {duration(progress.seconds)}."
    if progress.unreadable_tiles:
        text += f" {progress.unreadable_tiles:,} unreadable (magenta)."
    return text


def end_of_run(controller: RunController) -> tuple[str, str]:
    """Return kind and text of the message about a complete run."""
    progress, view = controller.last_progress, controller.last_view
    if controller.found_finished or progress is None:
        return "info", NOTHING_TO_DO
    if view is None:
        return "warning" if progress.unreadable_tiles else "good", finished_text(progress)
    dropped, unlike = view.store.dropped, view.store.info.unlike
    text = finished_text(progress, repaired=bool(dropped))
    notes = (
        *(text, unlike, progress.note),
        *(describe_corrections(view), dropped.outcome(view.store.has)),
    )
    doubtful = progress.unreadable_tiles or dropped or view.note or unlike
    return "warning" if doubtful else "good", " ".join(filter(None, notes))


def show_end(controller: RunController, banner: Banner, again: Callable[[], None]) -> None:
    """Show the message about a complete run; `again` computes a finished result once more."""
    kind, text = end_of_run(controller)
    banner.show_message(kind, text)
    if text.startswith(NOTHING_TO_DO):
        banner.offer("Recompute", again)


class RunPanel(QWidget):
    """The big button; during a run, the progress bar and the cancel button.

    Attributes
    ----------
    startRequested, cancelRequested : Signal()
        A button was pressed.
    """

    startRequested = Signal()
    cancelRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton("Generate pseudo masks")
        self.button.setStyleSheet(BUTTON_STYLE)
        self.button.clicked.connect(lambda: self.startRequested.emit())
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.clicked.connect(lambda: self.cancelRequested.emit())
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.line = FlowText()
        self.about = ""
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.button)
        layout.addLayout(row)
        layout.addWidget(self.line)
        self.show_state(DockState())

    def show_state(self, state: DockState, other_slide: str = "") -> None:
        """Enable what can be used now; the tooltips of the rest say why not.

        `other_slide` names the slide that is being segmented when it is not the one shown.
        """
        self.about = f"{other_slide} · " if other_slide else ""
        running = state.phase is not Phase.IDLE
        why_not = state.why_not("generate")
        self.button.setVisible(not running)
        self.button.setText(state.generate_text)
        self.button.setEnabled(not why_not)
        usual = TOOLTIPS["continue" if state.stopped else "generate"]
        self.button.setToolTip(plain(why_not or usual))
        self.bar.setVisible(running)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(not state.why_not("cancel"))
        self.cancel_button.setToolTip(plain(state.why_not("cancel") or TOOLTIPS["cancel"]))
        if running:
            self.line.setVisible(True)
        else:
            self.line.setText(why_not)
            self.line.setVisible(bool(why_not))

    def show_stage(self, text: str) -> None:
        """Show a step of unknown length."""
        self.bar.setRange(0, 0)
        self.line.setText(self.about + text)

    def show_progress(self, progress: Progress) -> None:
        """Show the progress of the run."""
        if progress.tiles_total:
            self.bar.setRange(0, progress.tiles_total)
            self.bar.setValue(progress.tiles_done)
        else:
            self.bar.setRange(0, 0)
        self.line.setText(self.about + progress_line(progress))


_POLL_MS = 1000


class EngineWatch(QObject):
    """Checks once per second what uses the engine, since any thread may start or end a run.

    Attributes
    ----------
    changed : Signal()
        Something else uses it now, or nothing.
    """

    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._owner = ENGINE.owner
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()

    def look(self) -> None:
        """Check now."""
        if ENGINE.owner != self._owner:
            self._owner = ENGINE.owner
            self.changed.emit()
