"""Functions and generators that run in a thread; their results arrive in the main thread."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - its end is registered before ours and comes later
import contextlib
import inspect
import logging
import queue
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Work = Callable[[], object]
    """A function whose return value is the one result, or a generator function."""


_held: set[Callable[..., None]] = set()


def on_destroyed(watched: QObject, work: Callable[[], object]) -> None:
    """Call a function once, when an object of Qt is destroyed, whoever destroys it.

    It is kept until then. A function that nothing but the connection holds becomes garbage together
    with the object; Python empties garbage before it frees it, and PyQt would call what is empty,
    which is the end of the program.

    Parameters
    ----------
    watched : QObject
    work : callable
        Without arguments. It is not to hold `watched` if that has no parent, or neither goes.
    """

    def go(*_: object) -> None:
        _held.discard(go)
        work()

    _held.add(go)
    watched.destroyed.connect(go)


_logger = logging.getLogger(__name__)

POLL_MS = 40
PATIENCE_SECONDS = 5.0
"""How long a closing window waits for its work."""
EXIT_PATIENCE_SECONDS = 30.0
"""How long the interpreter waits, without a window, for work that can't be interrupted."""
_BATCH = 16
_ERRORS_KEPT = 8
_LINKED = "plimseg_stops_jobs"


@dataclass(frozen=True, eq=False)
class _Running:
    """A thread that was started and what asks it to end."""

    thread: threading.Thread
    stop: threading.Event


@dataclass(eq=False)
class _Latest:
    """What asks the newest work of a job to end; holds nothing of the job."""

    stop: threading.Event

    def ask(self) -> None:
        self.stop.set()


_running: set[_Running] = set()
_errors: deque[tuple[str, BaseException]] = deque(maxlen=_ERRORS_KEPT)


def error_behind(sentence: str) -> BaseException | None:
    """Return the error of the job that failed with a sentence, None when it is not known."""
    return next((error for said, error in reversed(_errors) if said == sentence), None)


def stop_jobs(seconds: float = PATIENCE_SECONDS) -> bool:
    """Ask all work to end and wait for it; return whether it has ended.

    Parameters
    ----------
    seconds : float
        Longest time for all of it together.
    """
    jobs = list(_running)
    for job in jobs:
        job.stop.set()
    end = time.monotonic() + seconds
    for job in jobs:
        job.thread.join(max(0.0, end - time.monotonic()))
    return not any(job.thread.is_alive() for job in jobs)


def _at_exit() -> None:
    # a thread that is in compiled code when the interpreter goes takes the process down with
    # std::terminate; objects of Qt may be gone by then, so they can't be asked
    if not stop_jobs(EXIT_PATIENCE_SECONDS):
        _logger.warning("some work did not end within %.0f s", EXIT_PATIENCE_SECONDS)


# pools of threads refuse work once the interpreter ends, so jobs must have ended before
getattr(threading, "_register_atexit", atexit.register)(_at_exit)


class BackgroundJob(QObject):
    """Runs a function or a generator in a thread and emits its results in the main thread.

    The thread only fills a queue, which a timer empties in the main thread. So the thread never
    calls Qt or napari, and closing the window while it runs is safe.

    Parameters
    ----------
    parent : QObject
        Owner; the job is asked to stop when it is destroyed.

    Attributes
    ----------
    yielded : Signal(object)
        Each value of a generator in order, or the value that a function returned.
    failed : Signal(str)
        The error message, at most once, before `finished`.
    finished : Signal(bool)
        True when the work ran to its end, False when it was stopped or failed.
    """

    yielded = Signal(object)
    failed = Signal(str)
    finished = Signal(bool)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._latest = _Latest(threading.Event())
        on_destroyed(self, self._latest.ask)  # a parent that is destroyed can't be asked
        self._items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._emit_results)
        application = QCoreApplication.instance()
        if application is not None and not application.property(_LINKED):
            application.setProperty(_LINKED, True)
            application.aboutToQuit.connect(_stop_with_application)

    @property
    def is_running(self) -> bool:
        """Whether the work is running or results have not been emitted yet."""
        return self._thread is not None

    def start(self, work: Work) -> None:
        """Run `work` in a thread; a job runs one at a time.

        Parameters
        ----------
        work : callable
            Takes no arguments. A plain function emits what it returns (None, too) once. A
            generator function emits each value that it yields and can be stopped between them.

        Raises
        ------
        RuntimeError
            When the previous work is still running.
        """
        if self._thread is not None:
            raise RuntimeError("the job is still running")
        self._latest.stop = stop = threading.Event()
        self._items = items = queue.SimpleQueue[tuple[str, Any]]()
        self._thread = thread = threading.Thread(
            target=_run, args=(work, stop, items), name="plimseg-job", daemon=True
        )
        running = _Running(thread, stop)
        _running.difference_update([job for job in _running if not job.thread.is_alive()])
        thread.start()
        _running.add(running)
        self._timer.start()

    def stop(self) -> None:
        """Ask the work to end at its next yield; a plain function runs to its end."""
        self._latest.ask()

    def stop_and_wait(self) -> None:
        """Ask the work to end and wait for it, at most `PATIENCE_SECONDS`."""
        self._latest.ask()
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)

    def _emit_results(self) -> None:
        # a few at a time, so that the window stays responsive between them
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


def run_once(
    parent: QObject,
    work: Work,
    on_item: Callable[[Any], None],
    on_failed: Callable[[str], None],
) -> None:
    """Run a function or a generator in a new job, which is deleted when it is done."""
    job = BackgroundJob(parent)

    def go(_: bool) -> None:
        # the job's connections may hold the last reference to the parent, which would then be
        # destroyed in the middle of the job's destruction, and its children, the job too, with it
        job.setParent(None)
        job.deleteLater()

    job.yielded.connect(on_item)
    job.failed.connect(on_failed)
    job.finished.connect(go)
    job.start(work)


def _stop_with_application() -> None:
    stop_jobs()


def _run(work: Work, stop: threading.Event, items: queue.SimpleQueue[tuple[str, Any]]) -> None:
    try:
        result = work()
        if inspect.isgenerator(result):
            # closed here, so that its `finally` runs in this thread and not when it is collected
            with contextlib.closing(result) as values:
                for value in values:
                    items.put(("item", value))
                    if stop.is_set():
                        break
        else:
            items.put(("item", result))
        items.put(("stopped" if stop.is_set() else "end", None))
    except PlimsegError as error:
        _logger.info("a job ended with: %s", type(error).__name__)
        items.put(("error", _kept(str(error), error)))
    except Exception as error:
        _logger.exception("unexpected error in a job")
        items.put(("error", _kept(f"Unexpected {type(error).__name__}: {error}", error)))


def _kept(sentence: str, error: BaseException) -> str:
    found: BaseException | None = error
    while found is not None:  # the places are kept, not the slides and arrays in them
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
    _errors.append((sentence, error))
    return sentence


_BUDGET_SECONDS = 0.008
_AT_ONCE = 4  # steps, however long they take: what is small is done when `start` returns


class TimeSlicedTask:
    """Goes through an iterator bit by bit; the window answers in between.

    What must not happen in the middle of it calls `finish` first.
    """

    def __init__(self) -> None:
        self._steps: Iterator[object] | None = None
        self._on_done: Callable[[], None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether something is left to do."""
        return self._steps is not None

    def start(self, steps: Iterator[object], on_done: Callable[[], None] | None = None) -> None:
        """Finish what was begun before, and begin something else; a little of it is done at once.

        Parameters
        ----------
        steps : iterator
            Each of its steps is short.
        on_done : callable, optional
            Called once there are no more.
        """
        self.finish()
        self._steps, self._on_done = steps, on_done
        self._go_on()

    def finish(self) -> None:
        """Do what is left now."""
        steps = self._steps
        if steps is not None:
            for _ in steps:
                pass
            self._end()

    def _go_on(self) -> None:
        steps = self._steps
        if steps is None:
            return
        end = time.perf_counter() + _BUDGET_SECONDS
        for count, _ in enumerate(steps, start=1):
            if count > _AT_ONCE and time.perf_counter() > end:
                QTimer.singleShot(0, self._go_on)
                return
        self._end()

    def _end(self) -> None:
        on_done, self._steps, self._on_done = self._on_done, None, None
        if on_done is not None:
            on_done()
