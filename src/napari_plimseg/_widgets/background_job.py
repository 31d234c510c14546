"""Work in a thread whose results arrive in the main thread, one at a time."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_logger = logging.getLogger(__name__)

POLL_MS = 40
PATIENCE_SECONDS = 5.0
_BATCH = 16


class BackgroundJob(QObject):
    """Runs a generator in a thread and emits what it yields in the main thread.

    The thread only ever touches a queue, which a timer empties, so nothing of Qt or napari is
    called from it and a window that closes meanwhile can't be hurt.

    Parameters
    ----------
    parent : QObject
        Owner; when it goes, the job is asked to stop.

    Attributes
    ----------
    yielded : Signal(object)
        Each value in order.
    failed : Signal(str)
        The error's sentence, at most once, before `finished`.
    finished : Signal(bool)
        True when the generator ended by itself, False when it was stopped or failed.
    """

    yielded = Signal(object)
    failed = Signal(str)
    finished = Signal(bool)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._stop = threading.Event()
        self._items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._take)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.stop_and_wait)

    @property
    def is_running(self) -> bool:
        """Whether the work goes on or results wait to be taken."""
        return self._thread is not None

    def start(self, work: Callable[[], Generator[Any, None, None]]) -> None:
        """Run the generator that `work` returns; one at a time.

        Raises
        ------
        RuntimeError
            When the last one is still going on.
        """
        if self._thread is not None:
            raise RuntimeError("the job is still running")
        self._stop = stop = threading.Event()
        self._items = items = queue.SimpleQueue[tuple[str, Any]]()
        self._thread = threading.Thread(
            target=_work_through, args=(work, stop, items), name="plimseg-job", daemon=True
        )
        # a parent that is destroyed can't be asked: only the event outlives it
        self.destroyed.connect(lambda *_: stop.set())
        self._thread.start()
        self._timer.start()

    def stop(self) -> None:
        """Ask the work to end at its next yield."""
        self._stop.set()

    def stop_and_wait(self) -> None:
        """Ask the work to end and wait for it, five seconds at most."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)

    def _take(self) -> None:
        # few at a time, so that the window answers between them
        for _ in range(_BATCH):
            try:
                kind, value = self._items.get_nowait()
            except queue.Empty:
                return
            if kind == "item":
                self.yielded.emit(value)
                continue
            self._timer.stop()
            self._thread = None
            if kind == "error":
                self.failed.emit(value)
            self.finished.emit(kind == "end")
            return


def _work_through(
    work: Callable[[], Generator[Any, None, None]],
    stop: threading.Event,
    items: queue.SimpleQueue[tuple[str, Any]],
) -> None:
    try:
        with contextlib.closing(work()) as steps:
            for step in steps:
                items.put(("item", step))
                if stop.is_set():
                    break
        items.put(("stopped" if stop.is_set() else "end", None))
    except PlimsegError as error:
        _logger.info("a job ended with: %s", type(error).__name__)
        items.put(("error", str(error)))
    except Exception as error:
        _logger.exception("unexpected error in a job")
        items.put(("error", f"Unexpected {type(error).__name__}: {error}"))
