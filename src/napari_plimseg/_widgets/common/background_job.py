"""Functions and generators that run in a thread; their results arrive in the main thread."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - must register its exit handler before ours
import contextlib
import gc
import inspect
import logging
import os
import queue
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_plimseg.errors import OUT_OF_MEMORY, PlimsegError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Work = Callable[[], object]
    """A function whose return value is the one result, or a generator function."""


_referenced: set[Callable[..., None]] = set()


def on_destroyed(watched: QObject, work: Callable[[], object]) -> None:
    """Call a function once, when a Qt object is destroyed, whoever destroys it.

    The function is referenced until then. If only the connection referenced it, it could become
    garbage together with the object; Python clears garbage before freeing it, and PyQt would then
    call a cleared function, which crashes the program.

    Parameters
    ----------
    watched : QObject
    work : callable
        Called without arguments. It must not reference `watched` if that has no parent, otherwise
        neither is ever freed.
    """

    def on_signal(*_: object) -> None:
        _referenced.discard(on_signal)
        work()

    _referenced.add(on_signal)
    watched.destroyed.connect(on_signal)


_logger = logging.getLogger(__name__)

POLL_MS = 40
PATIENCE_SECONDS = 5.0
"""How long a dock waits for its jobs when it is removed."""
CLOSING_SECONDS = 2.0
"""How long a program that is closed waits for all jobs: napari and the interpreter take about as
long themselves, and all of it should be over within five seconds."""
_OTHERS_SECONDS = 0.5  # processes of their own, which save and end without being waited for
EXIT_PATIENCE_SECONDS = 30.0
"""How long the interpreter waits at exit for work that can't be interrupted."""
_BATCH = 16
_ERRORS_KEPT = 8
_LINKED = "plimseg_stops_jobs"


@dataclass(frozen=True, eq=False)
class _Running:
    """A started thread and the event that asks it to end."""

    thread: threading.Thread
    stop: threading.Event


@dataclass(eq=False)
class _Latest:
    """Asks the current work of a job to end; it does not reference the job."""

    stop: threading.Event

    def ask(self) -> None:
        self.stop.set()


_running: set[_Running] = set()
_errors: deque[tuple[str, BaseException]] = deque(maxlen=_ERRORS_KEPT)


def error_behind(sentence: str) -> BaseException | None:
    """Return the exception behind an error message of a job, None when it is unknown."""
    return next((error for message, error in reversed(_errors) if message == sentence), None)


def stop_jobs(seconds: float = PATIENCE_SECONDS) -> bool:
    """Ask all jobs to end and wait for them; return whether they have ended.

    Parameters
    ----------
    seconds : float
        Longest time to wait for all jobs together.
    """
    jobs = list(_running)
    for job in jobs:
        job.stop.set()
    end = time.monotonic() + seconds
    for job in jobs:
        job.thread.join(max(0.0, end - time.monotonic()))
    return not any(job.thread.is_alive() for job in jobs)


@dataclass
class _Closing:
    """What else ends when the program is closed, and until when it is waited for."""

    others: list[tuple[Callable[[], object], Callable[[float], object]]]
    end: float | None = None

    @property
    def seconds_left(self) -> float:
        """How much longer to wait."""
        return 0.0 if self.end is None else max(0.0, self.end - time.monotonic())


_closing = _Closing([])


def end_at_closing(ask: Callable[[], object], wait: Callable[[float], object]) -> None:
    """End something together with the jobs when the program is closed.

    All of it shares the `CLOSING_SECONDS`, so that the window of somebody who trains and segments
    at once closes as fast as any other.

    Parameters
    ----------
    ask : callable
        Asks it to end, and returns at once.
    wait : callable
        Waits for it, at most the seconds given.
    """
    _closing.others.append((ask, wait))
    _link_to_application()


def _link_to_application() -> None:
    application = QCoreApplication.instance()
    if application is not None and not application.property(_LINKED):
        application.setProperty(_LINKED, True)
        application.aboutToQuit.connect(_stop_with_application)


def _at_exit() -> None:
    # a thread inside compiled code at interpreter exit ends the process with std::terminate;
    # Qt objects may be destroyed by then, so jobs can't be reached through them
    is_closing = _closing.end is not None
    if is_closing:
        # to collect the cycles of napari and torch takes the interpreter seconds, and frees only
        # what the system frees anyway
        gc.disable()
        gc.freeze()
    seconds = _closing.seconds_left if is_closing else EXIT_PATIENCE_SECONDS
    if stop_jobs(seconds):
        return
    _logger.warning("some jobs did not end in time")
    if is_closing:
        # inside compiled code, such as a tile on a slow computer: what it writes survives a kill,
        # and all that was painted is saved
        getattr(atexit, "_run_exitfuncs", lambda: None)()
        os._exit(0)


# thread pools refuse work once the interpreter exits, so jobs must have ended before
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
        on_destroyed(self, self._latest.ask)  # by then the job itself is destroyed
        self._items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._emit_results)
        _link_to_application()

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

    def delete(_: bool) -> None:
        # the job's connections may hold the last reference to the parent: destroying the job would
        # destroy the parent, which would destroy its children, the half-destroyed job among them
        job.setParent(None)
        job.deleteLater()

    job.yielded.connect(on_item)
    job.failed.connect(on_failed)
    job.finished.connect(delete)
    job.start(work)


def _stop_with_application() -> None:
    _closing.end = time.monotonic() + CLOSING_SECONDS
    for ask, _ in _closing.others:
        ask()
    stop_jobs(_closing.seconds_left)
    for _, wait in _closing.others:
        wait(min(_OTHERS_SECONDS, _closing.seconds_left))


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
        items.put(("error", _remember(str(error), error)))
    except Exception as error:
        _logger.exception("unexpected error in a job")
        text = f"Unexpected {type(error).__name__}: {error}"
        items.put(("error", _remember(OUT_OF_MEMORY if is_out_of_memory(error) else text, error)))


def _remember(sentence: str, error: BaseException) -> str:
    found: BaseException | None = error
    while found is not None:  # keep the traceback, but free slides and arrays in its frames
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
    _errors.append((sentence, error))
    return sentence


_BUDGET_SECONDS = 0.008
_AT_ONCE = 4  # steps done inside `start` in any case, so that small tasks finish there


class TimeSlicedTask:
    """Runs an iterator in short slices, so that the window stays responsive.

    Code that must not run in the middle of it calls `finish` first.
    """

    def __init__(self) -> None:
        self._steps: Iterator[object] | None = None
        self._on_done: Callable[[], None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether steps are left."""
        return self._steps is not None

    def start(self, steps: Iterator[object], on_done: Callable[[], None] | None = None) -> None:
        """Finish the previous iterator, and run the first steps of another one.

        Parameters
        ----------
        steps : iterator
            Each of its steps is short.
        on_done : callable, optional
            Called after the last step.
        """
        self.finish()
        self._steps, self._on_done = steps, on_done
        self._run_slice()

    def finish(self) -> None:
        """Run all remaining steps now."""
        steps = self._steps
        if steps is not None:
            for _ in steps:
                pass
            self._end()

    def _run_slice(self) -> None:
        steps = self._steps
        if steps is None:
            return
        end = time.perf_counter() + _BUDGET_SECONDS
        for count, _ in enumerate(steps, start=1):
            if count > _AT_ONCE and time.perf_counter() > end:
                QTimer.singleShot(0, self._run_slice)
                return
        self._end()

    def _end(self) -> None:
        on_done, self._steps, self._on_done = self._on_done, None, None
        if on_done is not None:
            on_done()
