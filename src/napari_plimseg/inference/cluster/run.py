"""Sends the slides of a list to workers and notes what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import queue
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg import limits
from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference.cluster.choice import SLURM
from napari_plimseg.inference.cluster.slide_task import (
    SlideOutcome,
    SlideTask,
    segment_on_worker,
    step_of,
    stop_run,
)
from napari_plimseg.inference.cluster.workers import GPU, Workers
from napari_plimseg.inference.cohort import CohortStep
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.inference.job import Notice, SlideOpened
from napari_plimseg.inference.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from distributed import Future

    from napari_plimseg.inference.cluster.choice import ClusterChoice
    from napari_plimseg.inference.cluster.workers import WorkerInfo
    from napari_plimseg.inference.cohort import Cohort, CohortItem
    from napari_plimseg.inference.job import SegmentationJob
    from napari_plimseg.models import DenseModel
    from napari_plimseg.tissue import TissueClasses

    _Event = tuple[str, dict[str, Any] | SlideOutcome]


def segment_on_workers(
    cohort: Cohort,
    job: SegmentationJob,
    choice: ClusterChoice,
    *,
    owner: str = "the batch",
    load: Callable[[str | Path, TissueClasses | None], DenseModel] | None = None,
    opened: Callable[[Workers], object] | None = None,
) -> Generator[CohortStep | None, None, None]:
    """Segment every waiting or stopped slide of a list on workers, as `Cohort.run` does here.

    Parameters
    ----------
    cohort : Cohort
    job : SegmentationJob
        With the model's name or file; each worker loads it once.
    choice : ClusterChoice
    owner : str
        Name of the run, for people.
    load : callable, optional
        As of `SegmentationJob.loaded`: this program reads what identifies the model.
    opened : callable, optional
        Gets the workers when they can be used.

    Yields
    ------
    CohortStep or None
        None several times a second while nothing happens, so that the run can be stopped by
        closing the generator.

    Raises
    ------
    PlimsegError
        When the engine is in use, the model can't be loaded, workers can't be started or reached,
        or none of them can be used.
    """
    with ENGINE.held_by(owner):
        identity = job.loaded(load).dense_model.identity
        with Workers(choice, device=job.settings.device, folder=job.results_folder) as workers:
            if opened is not None:
                opened(workers)
            with contextlib.closing(ClusterRun(cohort, workers, job, identity).steps()) as steps:
                yield from steps


TRIES = 3
"""How many workers may be lost with a slide before it counts as failed."""
_TICK_SECONDS = 0.2
_REFRESH_SECONDS = 1.0
_NO_WORKER_SECONDS = 120.0
_REFUSED_SECONDS = 5.0
_STOP_SECONDS = 300.0


class WorkerFailure(PlimsegError):
    """A slide failed on a worker.

    Parameters
    ----------
    text : str
        The whole message.
    exit_code : int
        Of the error on the worker.
    disk_full : bool
        Whether it failed because the disk is full.
    """

    def __init__(self, text: str, exit_code: int = 1, *, disk_full: bool = False) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.disk_full = disk_full


@dataclass
class _Running:
    """A slide on a worker."""

    item: CohortItem
    worker: WorkerInfo
    future: Future[SlideOutcome]
    begin: float
    mpp_known: bool = True

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin


class ClusterRun:
    """Segments a list of slides with workers: each has one slide at a time.

    Parameters
    ----------
    cohort : Cohort
        Takes the states.
    workers : Workers
    job : SegmentationJob
        What is to be done, with the model's name or file.
    identity : str
        Of the model that workers must have.
    """

    def __init__(
        self, cohort: Cohort, workers: Workers, job: SegmentationJob, identity: str
    ) -> None:
        self._cohort, self._workers, self._identity = cohort, workers, identity
        model = job.model
        if isinstance(model, str | Path) and Path(model).exists():
            model = Path(model).absolute()
        self._job = dataclasses.replace(job, model=model, folder=job.results_folder.absolute())
        self._name = f"plimseg-{uuid.uuid4().hex}"
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._tried: set[Path] = set()
        self._losses: dict[Path, int] = {}
        self._begun: set[Path] = set()
        self._refreshed = -_REFRESH_SECONDS

    def steps(self) -> Generator[CohortStep | None, None, None]:
        """Segment every waiting or stopped slide; closing the generator stops the run.

        Finished tiles are kept, and the slide of a lost worker is continued by another one.

        Yields
        ------
        CohortStep or None
            None several times a second while nothing happens, so that the run can be stopped.

        Raises
        ------
        PlimsegError
            When the scheduler is lost, or there is no worker that can be used.
        """
        client = self._workers.client
        client.subscribe_topic(self._name, self._on_message)
        begin, before = time.monotonic(), self._cohort.weight_done
        estimated, left = begin, None
        try:
            for step in self._unfinished():
                if step is not None:
                    now = time.monotonic()
                    if now - estimated >= _REFRESH_SECONDS:  # it looks at every slide of the list
                        gained = self._cohort.weight_done - before
                        estimated, left = now, self._cohort.seconds_left(gained, now - begin)
                    step = dataclasses.replace(step, seconds_left=left)
                yield step
                if step is not None and getattr(step.step, "disk_full", False):
                    return  # every other slide would fail too
        finally:
            self._stop()
            client.unsubscribe_topic(self._name)

    def _unfinished(self) -> Iterator[CohortStep | None]:
        alone = time.monotonic()
        while True:
            now = time.monotonic()
            if now - self._refreshed >= _REFRESH_SECONDS:
                self._workers.refresh()
                self._refreshed = now
                yield from self._lost_slides()
            yield from self._sent_slides()
            if not self._running and self._cohort.next_item(self._tried) is None:
                return
            if self._workers.usable or self._workers.choice.where == SLURM:
                alone = now  # jobs may wait for long
            elif now - alone > (_REFUSED_SECONDS if self._workers.refused else _NO_WORKER_SECONDS):
                why = self._workers.refused or ["The scheduler has no workers."]
                raise PlimsegError(f"No worker can be used. {' '.join(why)}")
            try:
                event = self._events.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                yield None
                continue
            step = self._handled(*event)
            if step is not None:
                yield step

    def _handled(self, key: str, event: dict[str, Any] | SlideOutcome) -> CohortStep | None:
        running = self._running.get(key)
        if running is None:
            return None  # of a slide that was given to another worker
        if isinstance(event, SlideOutcome):
            del self._running[key]
            return self._settled(running, event)
        return self._heard(running, event)

    def _on_message(self, event: tuple[float, dict[str, Any]]) -> None:
        facts = event[1]  # with what dask adds
        self._events.put((str(facts["key"]), facts["step"]))

    async def _fetch(self, future: Future[SlideOutcome]) -> None:
        """Wait for how the work on a slide ends, in the client's own thread."""
        try:
            outcome = await self._workers.client.gather(future, asynchronous=True)
        except (ImportError, AttributeError, TypeError) as error:
            outcome = SlideOutcome("failed", problem=f"the worker can't run it ({error})")
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - dask has many kinds
            outcome = SlideOutcome("lost")  # killed, cancelled, gone
        self._events.put((str(future.key), outcome))

    def _sent_slides(self) -> Iterator[CohortStep]:
        """Give a slide to each worker that has none."""
        busy = {running.worker.address for running in self._running.values()}
        for address, worker in self._workers.usable.items():
            if address in busy:
                continue
            item = self._cohort.next_item(self._tried)
            if item is None:
                return
            self._tried.add(item.path)
            future = self._workers.client.submit(
                segment_on_worker,
                self._task(item, worker),
                key=f"{self._name}-{uuid.uuid4().hex}",
                workers=[address],
                allow_other_workers=False,
                resources={GPU: 1} if self._workers.needs_gpu else None,
                pure=False,
            )
            self._running[future.key] = _Running(item, worker, future, time.monotonic())
            self._cohort.start(item.path, worker.name)
            self._workers.client.loop.add_callback(self._fetch, future)
            yield self._step(item, None)

    def _task(self, item: CohortItem, worker: WorkerInfo) -> SlideTask:
        size = 0
        with contextlib.suppress(OSError):  # the worker says what is wrong
            size = item.path.stat().st_size if item.path.is_file() else 0
        # what a lost worker finished is never computed again, even by a run that starts over
        resume = self._job.resume or item.path in self._begun
        return SlideTask(
            run=self._name,
            worker=worker.id,
            job=dataclasses.replace(self._job, resume=resume),
            identity=self._identity,
            path=item.path,
            stem=item.stem,
            mpp=item.mpp,
            size=size,
            limits=os.environ.get(limits.ENVIRONMENT, ""),
        )

    def _heard(self, running: _Running, facts: dict[str, Any]) -> CohortStep:
        """Note an event that a worker sent."""
        step, path = step_of(facts), running.item.path
        if isinstance(step, SlideOpened):
            running.mpp_known = step.mpp_known
        elif isinstance(step, Progress):
            self._begun.add(path)
        self._cohort.record(path, step, running.seconds)
        return self._step(running.item, step)

    def _settled(self, running: _Running, outcome: SlideOutcome) -> CohortStep:
        path = running.item.path
        if outcome.progress is not None:
            self._cohort.record(path, outcome.progress, running.seconds)
        if outcome.done is not None:
            self._cohort.record(path, outcome.done, running.seconds)
            return self._step(running.item, outcome.done)
        if outcome.state == "failed":
            self._cohort.fail(path, outcome.problem, mpp_known=outcome.mpp_known)
            error = WorkerFailure(outcome.problem, outcome.exit_code, disk_full=outcome.disk_full)
            return self._step(running.item, error)
        if outcome.state == "stopped":
            self._cohort.release(path)
            return self._step(running.item, None)
        return self._lost(running)

    def _lost(self, running: _Running) -> CohortStep:
        """Put the slide of a lost worker back into the queue, or give up."""
        path, name = running.item.path, running.worker.name
        losses = self._losses[path] = self._losses.get(path, 0) + 1
        self._refreshed = -_REFRESH_SECONDS  # before a slide is sent there again
        if losses < TRIES:
            self._cohort.release(path)
            self._tried.discard(path)
            text = f"the worker {name} was lost; another one continues {path.name}"
            return self._step(running.item, Notice(f"{text}."))
        problem = PlimsegError(
            f"'{path.name}': {losses} workers were lost while they segmented it",
            remedy="They may have run out of memory or time. Finished tiles are kept.",
        )
        self._cohort.fail(path, str(problem))
        return self._step(running.item, problem)

    def _lost_slides(self) -> Iterator[CohortStep]:
        for key, running in list(self._running.items()):
            now = self._workers.usable.get(running.worker.address)
            if now is None or now.id != running.worker.id:
                del self._running[key]
                running.future.cancel()
                yield self._lost(running)

    def _stop(self) -> None:
        """Let the running slides end after the tiles under way, and note what they reached."""
        if not self._running:
            return
        addresses = [running.worker.address for running in self._running.values()]
        try:
            # what dask raises when the scheduler is lost: then there is nobody to ask
            with contextlib.suppress(OSError, RuntimeError, PlimsegError):
                self._workers.client.run(stop_run, self._name, workers=addresses, on_error="ignore")
                until = time.monotonic() + _STOP_SECONDS
                while self._running and time.monotonic() < until:
                    try:
                        event = self._events.get(timeout=_TICK_SECONDS)
                    except queue.Empty:
                        self._workers.refresh()
                        for _ in self._lost_slides():
                            pass
                        continue
                    self._handled(*event)
        finally:
            for running in self._running.values():
                running.future.cancel()
                self._cohort.release(running.item.path)
            self._running.clear()

    def _step(self, item: CohortItem, step: Any) -> CohortStep:
        return CohortStep(self._cohort.item(item.path) or item, step)
