"""Runs a segmentation in a thread and keeps the layers of its result up to date."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_plimseg._widgets.background_job import BackgroundJob
from napari_plimseg._widgets.layer_views import CONFIDENCE, MaskView, OverlayView
from napari_plimseg._widgets.run_steps import (
    ModelKeeper,
    Opened,
    RunRequest,
    Stage,
    TileDone,
    run_steps,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.tissue import TissueClasses

REFRESH_MS = 250
"""The layers are drawn anew at most four times a second."""
_MOST_REFRESH_MS = 2000
_DRAWING_SHARE = 0.05
"""Of the window's time; a screen without a graphics card is drawn anew less often."""


class RunController(QObject):
    """The run and its layers; only one run at a time.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layers.
    parent : QObject
        The dock.

    Attributes
    ----------
    staged : Signal(str)
        Something goes on that has no length yet.
    progressed : Signal(object)
        A `Progress` of the engine, each tile's.
    drawn : Signal(object)
        The newest `Progress`, when the layers are drawn: what shows it is painted with them, since
        painting any part of the window takes about as long as painting all of it.
    opened : Signal()
        The mask layer is there.
    failed : Signal(str)
        The run failed; the sentence says why and what to do.
    finished : Signal(bool)
        True when everything asked for is done, False when stopped or failed.
    """

    staged = Signal(str)
    progressed = Signal(object)
    drawn = Signal(object)
    opened = Signal()
    failed = Signal(str)
    finished = Signal(bool)

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.keeper = ModelKeeper()
        self.overlay: OverlayView | None = None
        self.overlay_what = ""
        self._views: list[tuple[Slide, MaskView]] = []
        self._running: tuple[Slide, TissueClasses, set[str]] | None = None
        self._running_view: MaskView | None = None
        self.last_progress: Any = None
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
        """Whether a run goes on."""
        return self._job.is_running

    def view_of(self, slide: Slide | None) -> MaskView | None:
        """Return the newest mask of a slide whose layer is still there."""
        for owner, view in reversed(self._views):
            if owner is slide and view.is_in(self._viewer):
                return view
        return None

    def start(self, request: RunRequest, classes: TissueClasses, hidden: set[str]) -> None:
        """Begin a run; `classes` are shown, `hidden` ones transparently."""
        self._running = (request.slide, classes, hidden)
        self._running_view = None
        self.last_progress = None
        keeper = self.keeper
        self._job.start(lambda: run_steps(request, keeper))

    def stop(self) -> None:
        """Ask the run to stop after the tiles in work."""
        self._job.stop()

    def stop_and_wait(self) -> None:
        """Stop the run and wait for its thread, five seconds at most."""
        self._job.stop_and_wait()

    def show(
        self, slide: Slide, result: Opened, classes: TissueClasses, hidden: set[str]
    ) -> MaskView:
        """Show a result; the layer that shows the same store already is kept."""
        for owner, view in self._views:
            same = owner is slide and view.store.path == result.store.path
            if same and view.is_in(self._viewer):
                view.store = result.store
                view.take(result.mask)
                view.set_classes(classes, hidden)
                self._bring_forward(slide, view)
                return view
        old = self.view_of(slide)
        if old is not None:
            old.layer.visible = False  # another model or other words: both stay, one is seen
        stem = Path(slide.name).stem
        view = MaskView(
            self._viewer,
            slide,
            result.store,
            result.mask,
            classes,
            slide_stem=stem,
            hidden=hidden,
        )
        self._views = [(owner, kept) for owner, kept in self._views if kept.is_in(self._viewer)]
        self._views.append((slide, view))
        self._drop_overlay()
        return view

    def _bring_forward(self, slide: Slide, view: MaskView) -> None:
        newest = self.view_of(slide)
        if newest is None or newest is view:
            return
        newest.layer.visible, view.layer.visible = False, True
        self._views.remove((slide, view))
        self._views.append((slide, view))
        self._drop_overlay()

    def set_overlay(self, slide: Slide, what: str, opacity: float, colormap: str) -> None:
        """Show the confidence or the probability of a class over the mask; "" shows none."""
        view = self.view_of(slide)
        if not what or view is None:
            self._drop_overlay()
            return
        values = view.overlay_values(what)
        self._drop_overlay()
        active = self._viewer.layers.selection.active
        self.overlay_what = what
        self.overlay = OverlayView(
            self._viewer,
            view,
            values,
            title=what if what == CONFIDENCE else f"{what} · probability",
            opacity=opacity,
            colormap=colormap,
        )
        # the brush stays where it was: people look at the overlay and paint the mask
        self._viewer.layers.selection.active = active

    def refresh(self) -> None:
        """Draw what was filled in since the last time."""
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
        self._drawn_timer.start()  # due at once, that is, when the window has been painted

    def _on_drawn(self) -> None:
        spent = 1000 * (time.perf_counter() - self._drawn_since)
        wait = min(max(REFRESH_MS, spent / _DRAWING_SHARE), _MOST_REFRESH_MS)
        self._refresh_timer.setInterval(int(wait))

    def _drop_overlay(self) -> None:
        if self.overlay is not None and self.overlay.is_in(self._viewer):
            self._viewer.layers.remove(self.overlay.layer)
        self.overlay = None
        self.overlay_what = ""

    def _on_step(self, step: Stage | Opened | TileDone) -> None:
        if isinstance(step, Stage):
            self.staged.emit(step.text)
        elif isinstance(step, Opened):
            assert self._running is not None  # noqa: S101 - set before the job starts
            slide, classes, hidden = self._running
            self._running_view = self.show(slide, step, classes, hidden)
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
            self._running_view.refresh()  # all of it, with its thumbnail; no tiles are left to draw
        self.refresh()
        self._running_view = None
        self.finished.emit(complete)
