"""Finds the region of a mask that hints refine, in a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.background_job import BackgroundJob

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_plimseg._widgets.hint_draft import Start

    Work = Callable[[], Generator[Start, None, None]]


class RegionPicker(QObject):
    """Runs the work of `region_search`; only the last one asked for counts.

    Parameters
    ----------
    parent : QObject
        Owner.

    Attributes
    ----------
    found : Signal(object)
        The `Start`.
    failed : Signal(str)
        The sentence of an error.
    finished : Signal()
        `is_running` has changed.
    """

    found = Signal(object)
    failed = Signal(str)
    finished = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._next: Work | None = None
        self._is_wanted = False
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_found)
        self._job.failed.connect(self._on_failed)
        self._job.finished.connect(self._on_finished)

    @property
    def is_running(self) -> bool:
        """Whether a region is looked for."""
        return self._job.is_running

    def find(self, work: Work) -> None:
        """Find a region, in place of the one before."""
        if self._job.is_running:
            self.stop()
            self._next = work
        else:
            self._is_wanted = True
            self._job.start(work)

    def stop(self) -> None:
        """Forget what is looked for; the thread ends by itself."""
        self._is_wanted, self._next = False, None
        self._job.stop()

    def _on_found(self, start: Start) -> None:
        if self._is_wanted:
            self.found.emit(start)

    def _on_failed(self, text: str) -> None:
        if self._is_wanted:
            self.failed.emit(text)

    def _on_finished(self, _: bool) -> None:
        work, self._next = self._next, None
        if work is not None:
            self.find(work)
        else:
            self.finished.emit()
