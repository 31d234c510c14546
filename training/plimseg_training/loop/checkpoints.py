"""A running stage's checkpoints: what goes into them, and how it comes back."""

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
from plimseg_training.run_folder import RunError, RunFolder, check_space, writing

if TYPE_CHECKING:
    from pathlib import Path

    from plimseg_training.loop.distributed import World
    from plimseg_training.loop.state import Position
    from plimseg_training.loop.step import Stepper
    from plimseg_training.loop.task import Task


_RESERVE = 100 << 20


@dataclass(frozen=True)
class Checkpoints:
    """Saves and takes up the state of one stage.

    Parameters
    ----------
    run : RunFolder
        The whole training's folder.
    task : Task
        Its network is saved.
    stepper : Stepper
        Its optimizer, scaler and averaged weights are saved.
    world : World
        Every process's random generators are saved, by the first process.
    config : dict
        The recipe as plain data.
    digest : str
        Of the training data.
    """

    run: RunFolder
    task: Task
    stepper: Stepper
    world: World
    config: dict[str, Any]
    digest: str

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.run.stage(self.task.name)

    def save(self, position: Position) -> str | None:
        """Write a checkpoint; every process calls this.

        Returns
        -------
        str or None
            The name of a weight that is not finite: then nothing was written.

        Raises
        ------
        RunError
            When it can't be written; earlier checkpoints stay.
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
            tensors | states, position, stepper.scaler.state_dict(), self.config, self.digest
        )
        bad = state.not_finite()
        if bad is None:
            write_state(self.folder, state)
        return bad

    def read(self) -> tuple[TrainState, str | None] | None:
        """Return the last state that can be read, with a warning or None; every process calls it.

        Raises
        ------
        RunError
            When there are checkpoints and none can be read, or they belong to another recipe or
            other data.
        """
        found = read_state(self.folder)
        if found is not None:
            found[0].check_same(self.config, self.digest, path=self.run.root)
        # nobody writes before all have read
        self.world.wait_for_all()
        return found

    def take_up(self, state: TrainState) -> Position:
        """Set network, optimizer, scaler and random generators; return the position.

        Raises
        ------
        RunError
            When the checkpoint is of another network.
        """
        stepper = self.stepper
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
        """Make the folder and refuse to start when the disk has no room.

        Raises
        ------
        RunError
            Saying how much is missing.
        """
        if not self.world.is_first:
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        network = self.task.network
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        trained = sum(w.nbytes for w in network.parameters() if w.requires_grad)
        # three checkpoints while one is written, each with averages and two moments; two files
        # of best weights
        check_space(self.folder, 5 * weights + 9 * trained + _RESERVE)
