"""Checkpoints of a running stage: collecting, saving and restoring its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimseg_training.loop.state import (
    TrainState,
    random_states,
    read_state,
    set_random_states,
    set_training_tensors,
    training_tensors,
    write_state,
)
from plimseg_training.run_folder import RunError, check_space, writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg.training_runs import RunFolder
    from plimseg_training.loop.distributed import World
    from plimseg_training.loop.state import Position
    from plimseg_training.loop.step import Stepper
    from plimseg_training.loop.task import Task


_RESERVE = 100 << 20


@dataclass(frozen=True)
class Checkpoints:
    """Saves and restores the state of one stage.

    Parameters
    ----------
    run : RunFolder
        Folder of the whole training.
    task : Task
        Owner of the network.
    stepper : Stepper
        Owner of the optimizer, the gradient scaler and the averaged weights.
    world : World
        The first process saves the random generators of all processes.
    config : dict
        The recipe as plain data.
    digest : str
        Of the training data.
    completed : callable
        Returns the recipe of an earlier version with the keys that were added since.
    """

    run: RunFolder
    task: Task
    stepper: Stepper
    world: World
    config: dict[str, Any]
    digest: str
    completed: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @property
    def folder(self) -> Path:
        """Folder of the stage's checkpoints."""
        return self.run.stage(self.task.name)

    def save(self, position: Position) -> str | None:
        """Write a checkpoint; every process must call this.

        Returns
        -------
        str or None
            Name of a weight that is not finite, in which case nothing was written.

        Raises
        ------
        RunError
            When it can't be written; earlier checkpoints are kept.
        """
        states = {
            f"rng.{rank}.{name}": copy
            for name, tensor in sorted(random_states(self.world.device).items())
            for rank, copy in enumerate(self.world.all_gather(tensor))
        }
        if not self.world.is_first:
            return None
        stepper = self.stepper
        tensors = training_tensors(self.task.network, stepper.optimizer, stepper.average)
        state = TrainState(
            tensors | states, position, stepper.scaler.state_dict(), self.config, self.digest,
            precision=stepper.precision,
        )  # fmt: skip
        bad = state.not_finite()
        if bad is None:
            write_state(self.folder, state)
        return bad

    def read(self) -> tuple[TrainState, str | None] | None:
        """Return the last readable state, and a warning or None; every process must call this.

        Raises
        ------
        RunError
            When no checkpoint can be read, or they belong to another recipe or other data.
        """
        found = read_state(self.folder)
        if found is not None:
            state = found[0]
            state.check_same(
                self.config,
                self.digest,
                path=self.run.root,
                defaults=self.completed(state.config),
            )
        # the first process must not overwrite a checkpoint that another one has yet to read
        self.world.wait_for_all()
        return found

    def restore(self, state: TrainState) -> Position:
        """Restore network, optimizer, scaler and random generators; return the position.

        Raises
        ------
        RunError
            When the checkpoint belongs to another network.
        """
        stepper = self.stepper
        stepper.continue_in(state.precision)
        set_training_tensors(
            state.tensors,
            self.task.network,
            stepper.optimizer,
            stepper.average,
            path=self.run.root,
        )
        if state.scaler:
            stepper.scaler.load_state_dict(state.scaler)
        mine = f"rng.{self.world.rank}."
        states = {
            name.removeprefix(mine): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(mine)
        }
        if not states:
            raise RunError("its checkpoint lacks random states", path=self.run.root)
        set_random_states(states, self.world.device)
        return state.position

    def check_space(self) -> None:
        """Create the folder, and refuse to start when the disk is too full.

        Raises
        ------
        RunError
            Naming the missing space.
        """
        if not self.world.is_first:
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        network = self.task.network
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        trained = sum(w.nbytes for w in network.parameters() if w.requires_grad)
        # At most three checkpoints (last, previous, and the one being written), each with all
        # weights, and for each trained one its average and Adam's two moments; and two files of
        # best weights (the old one and the one being written).
        check_space(self.folder, 5 * weights + 9 * trained + _RESERVE)
