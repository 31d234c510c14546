"""What runs on a worker: one slide at a time, with a model that is loaded once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import filelock

from napari_plimseg import limits
from napari_plimseg._version import __version__
from napari_plimseg.errors import (
    OUT_OF_MEMORY,
    ConfigError,
    ModelError,
    PlimsegError,
    SlideError,
    StoreError,
    is_out_of_memory,
)
from napari_plimseg.inference.cohort import is_disk_full
from napari_plimseg.inference.job import Notice, Refused, SegmentationJob, SlideDone, SlideOpened
from napari_plimseg.inference.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Worker

    from napari_plimseg.models import DenseModel
    from napari_plimseg.results import MaskStore
    from napari_plimseg.slides import Slide

    Step = SlideOpened | Notice | Progress


SHARED = "Workers need slides, models and results under the same paths as this computer."
_MESSAGES: dict[str, Callable[..., Step]] = {
    kind.__name__: kind for kind in (SlideOpened, Notice, Refused, Progress)
}
_PROGRESS_SECONDS = 0.5
_LOCKED_SECONDS = 60.0
_ONE_SLIDE = threading.Lock()
_stopped: set[str] = set()
_model: tuple[object, DenseModel] | None = None


@dataclass(frozen=True)
class SlideTask:
    """A slide for a worker.

    Parameters
    ----------
    run : str
        Identifies the run; also the topic of its messages.
    worker : str
        The worker's own id. A worker that was started again in place of a lost one has another.
    job : SegmentationJob
        Its model is not loaded: its name or its file.
    identity : str
        Of the model that the worker has to have.
    path : Path
        The slide.
    stem : str
        Name of its results.
    mpp : float or None
        Pixel size that a person entered.
    size : int
        Bytes of the slide's file; 0 for a folder.
    limits : str
        Limits on input, as the environment variable has them.
    version : str
        Of the program that sends it.
    """

    run: str
    worker: str
    job: SegmentationJob
    identity: str
    path: Path
    stem: str
    mpp: float | None
    size: int
    limits: str
    version: str = __version__


@dataclass(frozen=True)
class SlideOutcome:
    """How the work on a slide ended.

    Parameters
    ----------
    state : {"done", "failed", "stopped", "lost"}
        "lost": it was for a worker that is no longer there, and nothing was done.
    done : SlideDone or None
    progress : Progress or None
        The last one.
    problem : str
        The error message of a failure.
    exit_code : int
        Of that error.
    mpp_known : bool
        Whether the slide's pixel size is known, as far as it was opened.
    disk_full : bool
        Whether it failed because the disk is full.
    """

    state: Literal["done", "failed", "stopped", "lost"]
    done: SlideDone | None = None
    progress: Progress | None = None
    problem: str = ""
    exit_code: int = 1
    mpp_known: bool = True
    disk_full: bool = False


@dataclass(frozen=True)
class WorkerJob(SegmentationJob):
    """A job on a worker, which may have to wait for a lost one to release the mask store."""

    def open_store(self, slide: Slide, stem: str) -> MaskStore:
        """Open the slide's store for writing; wait while another worker writes to it.

        Raises
        ------
        StoreError
            As of `SegmentationJob`; also when the other worker does not end within a minute.
        """
        until = time.monotonic() + _LOCKED_SECONDS
        while True:
            try:
                return super().open_store(slide, stem)
            except StoreError as error:
                locked = isinstance(error.__cause__, filelock.Timeout)
                if not locked or time.monotonic() > until:
                    raise
            time.sleep(0.5)


def worker_facts(probe: str, own: bool, *, dask_worker: Worker) -> dict[str, Any]:
    """Return what a run has to know of a worker, which runs this in its main thread.

    Parameters
    ----------
    probe : str
        A file in the folder for results.
    own : bool
        Whether the run started this worker, in its own group of processes. Ctrl-C is then for the
        run only, which ends its workers.
    dask_worker : distributed.Worker
    """
    if own and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return {
        "id": dask_worker.id,
        "name": str(dask_worker.name),
        "version": __version__,
        "threads": dask_worker.state.nthreads,
        "gpus": dask_worker.state.total_resources.get("GPU", 0),
        "sees_results": Path(probe).is_file(),
    }


def stop_run(run: str) -> None:
    """Let the slides of a run end after the tiles that are under way."""
    _stopped.add(run)


def message_of(step: Step) -> dict[str, Any]:
    """Return an event of a slide as plain data, for `step_of`."""
    step = replace(step, window=None) if isinstance(step, Progress) else step
    return {"kind": type(step).__name__, **asdict(step)}


def step_of(message: Mapping[str, Any]) -> Step:
    """Return the event of a slide from plain data; raises KeyError or TypeError for others."""
    facts = {key: tuple(v) if isinstance(v, list) else v for key, v in message.items()}
    return _MESSAGES[str(facts.pop("kind"))](**facts)


def segment_on_worker(task: SlideTask) -> SlideOutcome:
    """Segment and export a slide in the process of a worker.

    Every failure is an outcome: dask would log an exception with the paths of the slide.
    """
    from distributed import get_worker

    worker = get_worker()
    if worker.id != task.worker:
        return SlideOutcome("lost")
    key = worker.get_current_task()

    def send(step: Step) -> None:
        worker.log_event(task.run, {"key": str(key), "step": message_of(step)})

    def ended() -> bool:
        # what the run no longer wants, since it was cancelled or its program has died
        now = worker.state.tasks.get(key)
        return task.run in _stopped or now is None or now.state not in ("executing", "long-running")

    while not _ONE_SLIDE.acquire(timeout=0.5):
        if ended():
            return SlideOutcome("stopped")
    try:
        given = [text for text in task.limits.split(",") if text]
        with limits.changed(given):
            return _segment(task, worker.state.nthreads, str(worker.name), send, ended)
    finally:
        _ONE_SLIDE.release()


def _segment(
    task: SlideTask,
    threads: int,
    worker: str,
    send: Callable[[Step], None],
    ended: Callable[[], bool],
) -> SlideOutcome:
    last: Progress | None = None
    sent, mpp_known = 0.0, True
    try:
        _check(task, worker)
        job = _job(task, threads, worker)
        with contextlib.closing(job.steps(task.path, task.stem, mpp=task.mpp)) as steps:
            for step in steps:
                if isinstance(step, SlideDone):
                    return SlideOutcome("done", done=step, progress=last)
                if isinstance(step, SlideOpened):
                    mpp_known = step.mpp_known
                now = time.monotonic()
                if isinstance(step, Progress):
                    last = replace(step, window=None)
                if not isinstance(step, Progress) or now - sent >= _PROGRESS_SECONDS:
                    sent = now
                    send(step)
                if ended():
                    break
        return SlideOutcome("stopped", progress=last)
    except PlimsegError as error:
        return SlideOutcome(
            "failed",
            progress=last,
            problem=str(error),
            exit_code=error.exit_code,
            mpp_known=mpp_known,
            disk_full=is_disk_full(error),
        )
    except Exception as error:  # noqa: BLE001 - see above; the other slides go on
        text = f"unexpected error: {error or type(error).__name__} ({type(error).__name__})."
        problem = OUT_OF_MEMORY if is_out_of_memory(error) else text
        return SlideOutcome("failed", progress=last, problem=problem)


def _check(task: SlideTask, worker: str) -> None:
    """Check that the worker is what the run expects, and that it sees the same files."""
    if task.version != __version__:
        raise other_version(worker, __version__, task.version)
    if not task.path.exists():
        raise SlideError(f"the worker {worker} can't read it", path=task.path, remedy=SHARED)
    if task.size and task.path.is_file() and task.path.stat().st_size != task.size:
        raise SlideError(
            f"the worker {worker} has another file of this name", path=task.path, remedy=SHARED
        )
    folder = task.job.results_folder
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise StoreError(f"the worker {worker} can't write to it", path=folder, remedy=SHARED)


def other_version(worker: str, there: str, here: str) -> ConfigError:
    """Return the error for a worker with another version of the program."""
    return ConfigError(
        f"the worker {worker} has napari-plimseg {there}, this program is {here}",
        remedy="Install the same version for all.",
    )


def _job(task: SlideTask, threads: int, worker: str) -> WorkerJob:
    """Return the job with the worker's model, which is loaded once."""
    global _model
    wanted = (task.job.model, task.job.classes, task.identity)
    if _model is None or _model[0] != wanted:
        _model = None  # the memory of the old model is free before the new one is loaded
        model = task.job.loaded().dense_model
        if model.identity != task.identity:
            raise ModelError(
                f"the worker {worker} has another model of this name",
                path=str(task.job.model),
                remedy="Install the same models for all.",
            )
        _model = wanted, model
    facts = {name: getattr(task.job, name) for name in task.job.__dataclass_fields__}
    settings = task.job.settings
    if not settings.threads:
        facts["settings"] = replace(settings, threads=threads)
    return WorkerJob(**{**facts, "model": _model[1], "classes": None})
