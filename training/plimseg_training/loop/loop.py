"""The training loop of all stages; a run killed at any moment resumes with the same result."""

from __future__ import annotations

import contextlib
import math
import time
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import torch

from napari_plimseg.errors import ConfigError, PlimsegError, is_out_of_memory
from napari_plimseg.training_runs import RunFolder
from plimseg_training.events import write_history
from plimseg_training.loop.checkpoints import Checkpoints
from plimseg_training.loop.distributed import join_world, prefetch
from plimseg_training.loop.reporter import Reporter
from plimseg_training.loop.state import (
    BEST,
    LAST,
    Position,
    deterministic,
    library_versions,
    plain_json,
    read_weights_of_run,
    seed_everything,
    write_weights,
)
from plimseg_training.loop.step import (
    Stepper,
    epoch_steps,
    learning_rate_factor,
    parts_of,
    steps_of_epoch,
)
from plimseg_training.loop.task import DivergedError, LoopOptions, Task, TrainingResult
from plimseg_training.run_folder import RunError, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_plimseg.training_runs import Event, EventKind
    from plimseg_training.config import Recipe, StageConfig


__all__ = ["BAD_IN_A_ROW", "DivergedError", "LoopOptions", "Task", "TrainingResult", "train"]

BAD_IN_A_ROW = 10
"""Consecutive steps without finite numbers after which a training counts as diverged."""


def train(
    task: Task,
    config: StageConfig,
    run_folder: Path,
    *,
    seed: int,
    device: torch.device | str,
    resume: bool = True,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    recipe: Recipe | None = None,
    digest: str = "",
    options: LoopOptions | None = None,
) -> TrainingResult:
    """Train a stage to its end, or until it is asked to stop.

    Under torchrun every process calls this with the same arguments. The first process validates,
    writes and logs; all of them read the run folder.

    Parameters
    ----------
    task : Task
        The network, its items and its loss.
    config : StageConfig
        Settings of the stage.
    run_folder : Path
        Checkpoints are written to its subfolder named after the task, rows to `history.csv`.
    seed : int
        Together with the task's name, the seed of everything random.
    device : torch.device or str
        Where the network is.
    resume : bool
        Whether to resume a training found in the folder.
    on_event : callable
        Called with every event.
    should_stop : callable
        Called after each step; True stops the training.
    recipe : Recipe, optional
        The whole recipe, saved to refuse resuming with another one; `config` alone by default.
    digest : str
        Digest of the training data, saved to refuse resuming with other data.
    options : LoopOptions, optional
        How often to save and log.

    Returns
    -------
    TrainingResult
        Unless it was stopped, the task's network holds the best weights afterwards.

    Raises
    ------
    RunError
        When the folder holds another training, can't be written, or the disk is full.
    DivergedError
        When losses or gradients are still not finite at half the learning rate; names the items.
    """
    options = options or LoopOptions()
    with join_world(torch.device(device)) as world, deterministic(wanted=options.deterministic):
        told = plain_json(asdict(config) if recipe is None else recipe.to_dict())
        # the number of processes decides which items make up a step
        told["processes"] = world.size
        run = RunFolder(run_folder)
        stepper = Stepper(task, config, world)

        def completed(before: dict[str, Any]) -> dict[str, Any]:
            if recipe is None:
                return before
            own = {key: value for key, value in before.items() if key != "processes"}
            return type(recipe).from_dict(own).to_dict()

        checkpoints = Checkpoints(run, task, stepper, world, told, digest, completed)
        training = _Training(config, checkpoints, seed, on_event, should_stop, options)
        training.begin(resume=resume)
        return training.run()


class _Training:
    """One call of `train`."""

    def __init__(
        self,
        config: StageConfig,
        checkpoints: Checkpoints,
        seed: int,
        on_event: Callable[[Event], None],
        should_stop: Callable[[], bool],
        options: LoopOptions,
    ) -> None:
        self.config = config
        self.checkpoints = checkpoints
        self.task = checkpoints.task
        self.stepper = checkpoints.stepper
        self.world = checkpoints.world
        self.seed = seed
        self.should_stop = should_stop
        self.options = options
        self.items_a_step = config.batch_size * config.accumulate * self.world.size
        self.steps = sum(
            steps_of_epoch(self.task.epoch_items(epoch), self.items_a_step)
            for epoch in range(config.epochs)
        )
        if not self.steps:
            raise ConfigError(
                f"{self.task.name} has nothing to train on", remedy="Check the training folder."
            )
        self.reporter = Reporter(
            self.task.name,
            config.epochs,
            self.steps,
            on_event,
            options.report_seconds,
            self.stepper,
            self.world,
        )
        self.at = Position()
        self.saved_at = self.counted_at = time.monotonic()
        self.bad_items: list[str] = []

    # -- start and end

    def begin(self, *, resume: bool) -> None:
        """Restore the training in the folder, or save the state before the first step."""
        found = self.checkpoints.read()
        if found and not resume:
            raise RunError(
                "it already holds a training",
                path=self.checkpoints.run.root,
                remedy="Resume it, or choose a new run folder.",
            )
        self.checkpoints.check_space()
        if found is None:
            seed_everything((self.seed, zlib.crc32(self.task.name.encode()), self.world.rank))
            self._log("stage", f"Training {self.task.name}: {self.steps} steps")
            self._save()
            return
        state, problem = found
        self.at = self.checkpoints.restore(state)
        self.stepper.set_rate(self._rate(max(self.at.step_total - 1, 0)))
        done = f"{self.at.step_total} of {self.steps} steps are done"
        self._log("stage", f"Resuming {self.task.name}: {done}")
        if problem:
            self._log("warning", problem)
        if state.versions != library_versions():
            self._log("warning", "It was started with other versions of the libraries.")

    def run(self) -> TrainingResult:
        """Train until the end or a stop."""
        while self.at.epoch < self.config.epochs:
            outcome = self._steps_of_epoch()
            if outcome == "stopped":
                self._save()
                self._log("stopped", f"{self.task.name} stopped; it can be resumed")
                return self._result(stopped=True)
            if outcome == "done":
                self._end_epoch()
        self.world.wait_for_all()
        tensors, _ = read_weights_of_run(self.best)
        self.task.network.load_state_dict(tensors)
        return self._result(stopped=False)

    @property
    def best(self) -> Path:
        """File of the best weights."""
        return self.checkpoints.folder / BEST

    def _result(self, *, stopped: bool) -> TrainingResult:
        return TrainingResult(
            stopped=stopped,
            weights=self.best,
            best_score=self.at.best_score,
            best_epoch=self.at.best_epoch,
            steps=self.at.step_total,
            seconds=self.at.seconds,
            history=self.at.history,
        )

    # -- steps

    def _steps_of_epoch(self) -> Literal["done", "stopped", "again"]:
        """Do the remaining steps of the epoch; "again" when they must be planned again."""
        at = self.at
        items_of_epoch = self.task.epoch_items(at.epoch)
        steps = epoch_steps(self.seed, at.epoch, items_of_epoch, self.items_a_step)
        left = steps[at.step :]
        size = at.batch_size or self.config.batch_size
        plan = [self._parts(items, size) for items in left]
        flat = [part for parts in plan for part, _ in parts]
        self.task.network.train()
        with prefetch(self._batch, flat, threads=self._threads()) as batches:
            for parts, items in zip(plan, left, strict=True):
                shares = [share for _, share in parts]
                try:
                    rolled_back = self._step(shares, batches, items, len(steps))
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    if self.world.size > 1 or size == 1:
                        raise _too_large(self.task.name, size) from error
                    out_of_memory = True
                else:
                    out_of_memory = False
                # outside the except block, whose traceback would keep the failed step's tensors
                if out_of_memory:
                    self._shrink(size // 2)
                    return "again"
                if rolled_back:
                    return "again"
                if self._stop_or_save():
                    return "stopped"
        return "done"

    def _parts(self, items: Sequence[int], size: int) -> list[tuple[list[int], float]]:
        """Return this process's batches of a step, each with its share of the step's items."""
        mine = self.world.share_of(items)
        if not mine:
            # the processes exchange gradients, so that each needs some, be they zero
            return [(list(items[:1]), 0.0)]
        return [(part, len(part) / len(items)) for part in parts_of(mine, size)]

    def _batch(self, indices: Sequence[int]) -> Any:
        return self.task.batch(self.seed, self.at.epoch, indices)

    def _step(
        self, shares: Sequence[float], batches: Iterator[Any], items: Sequence[int], steps: int
    ) -> bool:
        """Do one step; return whether the training diverged and was rolled back."""
        at = self.at
        start = time.monotonic()
        self.stepper.set_rate(self._rate(at.step_total))
        result = self.stepper.step(shares, batches, updates=at.updates)
        at.step += 1
        at.step_total += 1
        at.updates += result.applied
        at.skipped += not result.applied
        if result.bad:
            at.bad_in_a_row += 1
            self.bad_items += self._names(items)
            self._log("warning", "A step was skipped: its loss or gradient is not finite")
            if at.bad_in_a_row >= BAD_IN_A_ROW:
                self._roll_back()
                return True
        else:
            at.bad_in_a_row = 0
            self.bad_items = []
        if result.applied:
            at.loss_steps += 1
            for name, value in result.losses.items():
                at.loss_sums[name] = at.loss_sums.get(name, 0.0) + value
        seconds = time.monotonic() - start
        self.reporter.step(at, result.losses, items=len(items), steps=steps, seconds=seconds)
        return False

    def _rate(self, step: int) -> float:
        factor = learning_rate_factor(
            step,
            self.steps,
            schedule=self.config.schedule,
            warm_up_fraction=self.config.warm_up_fraction,
        )
        return factor * self.at.learning_rate_scale

    def _names(self, items: Sequence[int]) -> list[str]:
        names = getattr(self.task, "names", None)
        return list(names(items)) if names else [f"item {index}" for index in items]

    def _stop_or_save(self) -> bool:
        """Save when it is time; return whether to stop."""
        late = time.monotonic() - self.saved_at >= self.options.save_seconds
        stop, save = self.world.any(self.should_stop(), late and not self.at.bad_in_a_row)
        if save and not stop:
            self._save()
        return stop

    def _shrink(self, size: int) -> None:
        """Continue with smaller batches; a step still sees as many items."""
        self.at.batch_size = size
        self.stepper.optimizer.zero_grad(set_to_none=True)
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        self._log(
            "warning",
            f"Memory ran out: batches of {size} from now on, with as many items per step as before",
        )

    def _roll_back(self) -> None:
        """Return to the last checkpoint at half the learning rate; give up the second time."""
        root = self.checkpoints.run.root
        if self.at.learning_rate_scale < 1:
            named = list(dict.fromkeys(self.bad_items)) or ["no particular image"]
            more = f" and {len(named) - 10} more" if len(named) > 10 else ""
            raise DivergedError(
                f"{self.task.name} diverged again at half the learning rate; the last steps saw "
                f"{', '.join(named[:10])}{more}",
                path=root,
                remedy=f"Look at these images, or set {self.task.name}.learning_rate lower in a "
                "new run folder.",
            )
        found = self.checkpoints.read()
        if found is None:
            raise RunError("its checkpoints are missing", path=root, remedy="Start a new run.")
        self.at = self.checkpoints.restore(found[0])
        self.at.learning_rate_scale = 0.5
        self.bad_items = []
        self._save()
        self._log(
            "warning", "The training diverged: back to its last checkpoint, half the learning rate"
        )

    # -- epochs

    def _end_epoch(self) -> None:
        at = self.at
        finite = all(bool(t.isfinite().all()) for t in self.task.network.state_dict().values())
        if self.world.any(not finite)[0]:
            self._roll_back()
            return
        scores: dict[str, float] = {}
        if self.world.is_first:
            average = self.stepper.average
            with contextlib.nullcontext() if average is None else average.applied():
                scores = self.task.validate()
                self._keep_if_best(scores.get("score"))
        self.world.wait_for_all()
        self._count_seconds()
        losses = {name: total / at.loss_steps for name, total in at.loss_sums.items()}
        at.epoch += 1
        at.step, at.loss_sums, at.loss_steps = 0, {}, 0
        row = {"epoch": at.epoch, **losses, **scores, "learning_rate": self.stepper.learning_rate}
        at.history.append(row | {"skipped_steps": at.skipped, "seconds": round(at.seconds, 1)})
        if self.world.is_first:
            with writing(self.checkpoints.run.history):
                write_history(self.checkpoints.run.history, self.task.name, at.history)
        self._save()
        self._log("epoch", losses=losses, scores=scores)

    def _keep_if_best(self, score: float | None) -> None:
        """Save the network's weights when no earlier epoch was better, or the last is wanted."""
        at = self.at
        if score is not None and math.isnan(score):
            score = -math.inf
        chosen = self.config.keep == "best"
        if chosen and score is not None and at.best_score is not None and score <= at.best_score:
            return
        at.best_score, at.best_epoch = score, at.epoch + 1
        about = {"stage": self.task.name, "epoch": at.best_epoch, "score": score}
        write_weights(self.best, self.task.network, about)

    # -- state

    def _save(self) -> None:
        self._count_seconds()
        bad = self.checkpoints.save(self.at)
        self.saved_at = time.monotonic()
        if bad is not None:
            self._log("warning", f"No checkpoint was written: '{bad}' is not finite")
        else:
            self._log("checkpoint", data={"file": f"{self.task.name}/{LAST}"})

    def _log(self, kind: EventKind, message: str = "", **more: Any) -> None:
        self.reporter.log(kind, self.at, message, **more)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.at.seconds += now - self.counted_at
        self.counted_at = now

    def _threads(self) -> int:
        if self.options.threads is not None:
            return self.options.threads
        return 4 if self.world.device.type == "cuda" else 1


def _too_large(stage: str, size: int) -> PlimsegError:
    what = "one image" if size == 1 else f"a batch of {size} images"
    less = "crop" if size == 1 else "batch_size"
    return PlimsegError(
        f"{what} of {stage} does not fit into memory",
        remedy=f"Close other programs, or resume with a smaller {stage}.{less}. "
        "The last checkpoint is kept.",
    )
