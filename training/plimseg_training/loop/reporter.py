"""Events of a run: what is logged, and how often."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import DiskError
from napari_plimseg.inference import pick_device
from napari_plimseg.training_runs import Event
from plimseg_training.events import ProgressLog, memory_mb, without_folders
from plimseg_training.loop.distributed import join_world
from plimseg_training.loop.task import Stopped
from plimseg_training.run_folder import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_plimseg.training_runs import EventKind, RunFolder
    from plimseg_training.loop.distributed import World
    from plimseg_training.loop.state import Position
    from plimseg_training.loop.step import Stepper


@contextmanager
def reported_run(
    run: RunFolder, device: str, on_event: Callable[[Event], None]
) -> Iterator[tuple[World, Callable[[Event], None]]]:
    """Lock a run folder for one training, and log its events.

    Parameters
    ----------
    run : RunFolder
        Its `progress.jsonl` gets every event.
    device : str
        Of the recipe: "auto", "cpu", "cuda:1", ...
    on_event : callable
        Called with every event too.

    Yields
    ------
    World, callable
        The processes, and the function that logs an event; only the first process logs. An error
        in the block is logged as a "failed" event, a `Stopped` is not.

    Raises
    ------
    RunError
        When another training holds the folder.
    """
    with join_world(pick_device(device)) as world, locked(run):
        log = ProgressLog(run.progress)

        def emit(event: Event) -> None:
            if world.is_first:
                log(event)
                on_event(event)

        try:
            yield world, emit
        except Stopped:
            raise
        except Exception as error:
            # on a full disk the log fails too, which must not hide the error
            with suppress(DiskError):
                emit(Event("failed", without_folders(str(error))))
            raise


class Reporter:
    """Creates and logs the events of one stage, in the first process only.

    Parameters
    ----------
    stage : str
        Name of the stage.
    epochs, steps : int
        Total of the stage.
    on_event : callable
        Called with every event.
    every : float
        Shortest time between "step" events, in seconds.
    stepper : Stepper
        Source of the learning rate.
    world : World
        The processes.
    """

    def __init__(
        self,
        stage: str,
        epochs: int,
        steps: int,
        on_event: Callable[[Event], None],
        every: float,
        stepper: Stepper,
        world: World,
    ) -> None:
        self._stage = stage
        self._epochs = epochs
        self._steps = steps
        self._on_event = on_event
        self._every = every
        self._stepper = stepper
        self._world = world
        self._last_step = time.monotonic()
        self._items = 0
        self._fresh_steps = 0
        self._fresh_seconds = 0.0

    def step(
        self, at: Position, losses: dict[str, float], *, items: int, steps: int, seconds: float
    ) -> None:
        """Count a step, and log it when the last one logged was long enough ago.

        Parameters
        ----------
        at : Position
            After the step.
        losses : dict
            Loss terms of the step.
        items : int
            Number of items in the step.
        steps : int
            Number of steps in the epoch.
        seconds : float
            Duration of the step.
        """
        self._items += items
        self._fresh_steps += 1
        self._fresh_seconds += seconds
        since = time.monotonic() - self._last_step
        if since >= self._every or at.step == steps:
            rate = self._items / max(since, 1e-6)
            self.log("step", at, losses=losses, step=at.step, steps=steps, items_per_second=rate)
            self._last_step, self._items = time.monotonic(), 0

    def log(self, kind: EventKind, at: Position, message: str = "", **more: Any) -> None:
        """Log an event of this stage; `more` are fields of `Event`."""
        if not self._world.is_first:
            return
        begun = at.epoch + (kind != "epoch")
        self._on_event(
            Event(
                kind,
                message,
                stage=self._stage,
                epoch=min(begun, self._epochs),
                epochs=self._epochs,
                seconds_left=self._seconds_left(at),
                learning_rate=self._stepper.learning_rate,
                memory_mb=memory_mb(self._world.device.type),
                **more,
            )
        )

    def _seconds_left(self, at: Position) -> float | None:
        if not self._fresh_steps:
            return None
        return self._fresh_seconds / self._fresh_steps * max(self._steps - at.step_total, 0)
