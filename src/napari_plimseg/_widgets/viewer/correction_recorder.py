"""Records what is painted on a mask layer as corrections, saved within two seconds."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_plimseg._widgets.common import BackgroundJob
from napari_plimseg._widgets.viewer.napari_private import (
    HistoryWatch,
    draw_part,
    edit_spans,
    erases,
    unwrapped,
)
from napari_plimseg.errors import CorrectionsError

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterable

    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_plimseg._widgets.viewer.mask_pixels import MaskPixels
    from napari_plimseg.results import Corrections


_logger = logging.getLogger(__name__)

CELL = 256
"""Side in shown pixels of the square cells in which changes are searched for."""
SAVE_AFTER_MS = 500
RETRY_MS = 5000
_BUDGET_SECONDS = 0.006


class CorrectionRecorder(QObject):
    """Watches the layer of a mask and saves what is painted there.

    Event handlers only note which cells of the layer changed. Half a second after the first change,
    even during a long stroke, those cells are compared with the recorded state, a few milliseconds
    at a time so that painting stays smooth, and a thread writes the differences to the disk.

    Parameters
    ----------
    viewer : napari.Viewer
        Holds the layer; everything is saved when the layer is removed from it.
    layer : napari.layers.Labels
        The layer to watch.
    pixels : MaskPixels
        The layer's array and the model's output below it.
    corrections : Corrections
        Receives what was painted.
    redraw_others : weakref.WeakMethod
        Given rows and columns of the layer, redraws that part in the other masks of the slide.
        Weak, because the owner of that method owns the recorder.

    Attributes
    ----------
    changed : Signal()
        Something was painted, erased, undone or redone.
    saved : Signal()
        Everything is saved.
    failed : Signal(str)
        Saving failed; the message says why and what to do. Emitted once until saving works again.
    """

    changed = Signal()
    saved = Signal()
    failed = Signal(str)

    def __init__(
        self,
        viewer: Viewer,
        layer: Labels,
        pixels: MaskPixels,
        corrections: Corrections,
        redraw_others: weakref.WeakMethod[Callable[[slice, slice], None]],
    ) -> None:
        super().__init__()
        self.corrections = corrections
        self.problem = ""
        self._redraw_others = redraw_others
        self._pixels = pixels
        self._layer = layer = unwrapped(layer)
        self._history = HistoryWatch(layer)
        self._dirty: dict[tuple[int, int], None] = {}
        self._stroke: dict[tuple[int, int], None] = {}
        self._generation = corrections.journal.generation
        self._is_drawing = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._work)
        self._job = BackgroundJob(self)
        self._job.failed.connect(self._on_failed)
        self._job.finished.connect(self._on_written)
        layer.events.labels_update.connect(self._on_drawn)
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_redrawn)
        layer.events.data.connect(self._on_replaced)
        unwrapped(viewer).layers.events.removed.connect(self._on_layer_removed)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.flush_and_release)

    @property
    def is_saved(self) -> bool:
        """Whether everything painted is saved."""
        return not self._dirty and not self._job.is_running and self.corrections.is_saved

    @property
    def text(self) -> str:
        """The state of saving in a few words."""
        if self.problem:
            return "Corrections not saved yet"
        return "All corrections saved" if self.is_saved else "Saving…"

    def note(self, rows: slice, columns: slice) -> None:
        """Mark a part of the layer as changed: it is recorded and saved within two seconds."""
        self._mark(self._dirty, rows, columns)
        self._soon()

    def commit(self, rows: slice, columns: slice, *, unnoted: bool = False) -> None:
        """Record what was painted in a part now; saving follows.

        With `unnoted`, changes without an event are recorded too, such as those of a script that
        writes into the array.
        """
        self.follow()
        for cell in _cells(rows, columns):
            if unnoted or cell in self._dirty:
                self._record(cell)
        if not self.corrections.is_saved:
            self._soon()

    def commit_all(self) -> None:
        """Record everything painted now; saving follows."""
        self._look_back()
        self.follow()
        while self._dirty:
            self._record(next(iter(self._dirty)))

    def follow(self) -> None:
        """Show corrections that were replaced from outside; unrecorded painting stays on top."""
        generation = self.corrections.journal.generation
        if generation == self._generation:
            return
        self._generation = generation
        unsaved = [(part, self._pixels.shown[part].copy()) for part in map(self._part, self._dirty)]
        self._pixels.redraw_all()
        for part, block in unsaved:
            self._pixels.shown[part] = block
        self._layer.refresh(extent=False)

    def flush_and_release(self) -> None:
        """Save everything before returning, and release the slide for other programs."""
        self._timer.stop()
        self.commit_all()
        try:
            self.corrections.flush_and_release()
        except CorrectionsError as error:
            self._on_failed(str(error))
            self._timer.start(RETRY_MS)
        else:
            self._on_saved()

    def draw(self, rows: slice, columns: slice) -> None:
        """Draw a part of the layer whose array was changed by code, not by painting."""
        self._is_drawing = True
        try:
            draw_part(self._layer, rows, columns)
        finally:
            self._is_drawing = False

    def _soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start(SAVE_AFTER_MS)
            self.changed.emit()

    def _mark(self, cells: dict[tuple[int, int], None], rows: slice, columns: slice) -> None:
        height, width = self._pixels.shown.shape
        rows = slice(max(0, rows.start), min(rows.stop, height))
        columns = slice(max(0, columns.start), min(columns.stop, width))
        for cell in _cells(rows, columns):
            cells[cell] = None

    def _on_drawn(self, event: Any) -> None:
        # emitted during a stroke, long before napari's paint event at its end
        if self._is_drawing or not self._pixels.shows_corrections:
            return
        (y, x), (height, width) = event.offset[:2], event.data.shape[:2]
        for cells in (self._stroke, self._dirty):
            self._mark(cells, slice(y, y + height), slice(x, x + width))
        self._soon()

    def _on_paint(self, event: Any) -> None:
        self._stroke.clear()
        self._look_back()
        if erases(event.value):
            self._timer.start(0)  # the model's output should be shown immediately

    def _on_redrawn(self, event: Any = None) -> None:
        # undo and redo emit no other event than this one, and so does a stroke that napari cancels
        # and reverts
        if self._stroke and self._pixels.shows_corrections:
            self._dirty |= self._stroke
            self._soon()
        self._look_back()

    def _on_replaced(self, event: Any = None) -> None:
        shown, data = self._pixels.shown, self._layer.data
        if data is shown:
            return
        if getattr(data, "shape", None) != shown.shape:
            _logger.warning("the data of the mask layer was replaced; it is not recorded")
            return
        self._pixels.shown = data
        self.note(slice(0, shown.shape[0]), slice(0, shown.shape[1]))

    def _look_back(self) -> None:
        if not self._pixels.shows_corrections:
            return
        items = self._history.new_items()
        if items is None:
            height, width = self._pixels.shown.shape
            self.note(slice(0, height), slice(0, width))
            return
        for item in items:
            for span in edit_spans(item):
                self.note(*span)

    def _work(self) -> None:
        self._look_back()
        self.follow()
        begin = time.perf_counter()
        while self._dirty and time.perf_counter() - begin < _BUDGET_SECONDS:
            self._record(next(iter(self._dirty)))
        if self._dirty:
            self._timer.start(0)
        if self._job.is_running:
            return
        if not self.corrections.is_saved:
            self._job.start(lambda: _write(self.corrections))
        elif not self._dirty:
            self._on_saved()

    def _record(self, cell: tuple[int, int]) -> None:
        self._dirty.pop(cell, None)
        rows, columns = self._part(cell)
        try:
            recorded, restored = self._pixels.record(rows, columns)
        except CorrectionsError as error:
            self._on_failed(str(error))
            return
        self._generation = self.corrections.journal.generation
        if restored:
            self.draw(rows, columns)
        redraw_others = self._redraw_others()
        if recorded and redraw_others is not None:
            redraw_others(rows, columns)

    def _part(self, cell: tuple[int, int]) -> tuple[slice, slice]:
        height, width = self._pixels.shown.shape
        y, x = cell[0] * CELL, cell[1] * CELL
        return slice(y, min(y + CELL, height)), slice(x, min(x + CELL, width))

    def _on_failed(self, text: str) -> None:
        if text != self.problem:
            self.problem = text
            self.failed.emit(text)

    def _on_written(self, complete: bool) -> None:
        if not complete:
            self._timer.start(RETRY_MS)
        elif self._dirty or not self.corrections.is_saved:
            self._soon()
        else:
            self._on_saved()

    def _on_saved(self) -> None:
        self.problem = ""
        self.saved.emit()

    def _on_layer_removed(self, event: Any) -> None:
        if unwrapped(event.value) is self._layer:
            self.flush_and_release()


def _write(corrections: Corrections) -> None:
    corrections.flush()
    corrections.journal.mask.counts()  # slow the first time and cached: the dock asks for it later


def _cells(rows: slice, columns: slice) -> Iterable[tuple[int, int]]:
    return (
        (row, column)
        for row in range(rows.start // CELL, -(-rows.stop // CELL))
        for column in range(columns.start // CELL, -(-columns.stop // CELL))
    )
