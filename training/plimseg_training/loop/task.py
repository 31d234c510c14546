"""What a stage is to the loop, how the loop goes about it, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn


class DivergedError(ConfigError):
    """A training's numbers stayed not finite at half the learning rate too."""

    subject = "training run"


class Stopped(Exception):
    """The training was asked to stop; its progress is saved."""


class Task(Protocol):
    """What a stage is to the loop.

    A task may also have `names(indices) -> list of str`, the files of items; messages use them.
    """

    name: str
    """Of the stage, and of its folder in the run: "stage1"."""

    @property
    def network(self) -> nn.Module:
        """What is trained, on its device. Its `train()` leaves frozen parts in evaluation mode."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups for the optimizer, each with `params` of the network and `lr`."""
        ...

    def epoch_items(self, epoch: int) -> int:
        """Return how many items epoch number `epoch`, from 0, has."""
        ...

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> Any:
        """Return the items as a batch; called by threads.

        The same arguments give the same batch: random choices come only from
        `np.random.default_rng((seed, epoch, index))`.
        """
        ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over a batch, and its terms by name."""
        ...

    def validate(self) -> dict[str, float]:
        """Return scores of the network as it is now; the greatest "score" is kept.

        {} when there is nothing to measure: the last epoch's weights are kept then. It sets the
        network to evaluation mode itself.
        """
        ...


@dataclass(frozen=True)
class LoopOptions:
    """How the loop goes about it; none of it changes the result.

    Parameters
    ----------
    save_seconds : float
        Longest time between checkpoints: what a power cut can cost.
    report_seconds : float
        Shortest time between "step" events.
    threads : int or None
        Threads that make batches; None lets the device choose.
    deterministic : bool
        Whether torch is asked for deterministic algorithms where it has them.
    """

    save_seconds: float = 300.0
    report_seconds: float = 1.0
    threads: int | None = None
    deterministic: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """What came of a stage.

    Parameters
    ----------
    stopped : bool
        Whether it was stopped before its end; it can be resumed.
    weights : Path
        The network's best weights (averaged ones where the recipe asks for them); there once an
        epoch is done.
    best_score : float or None
        Theirs, where there is a validation.
    best_epoch : int
        Theirs, from 1.
    steps : int
        Steps done.
    seconds : float
        Spent training, over all starts.
    history : list of dict
        One row an epoch.
    """

    stopped: bool
    weights: Path
    best_score: float | None
    best_epoch: int
    steps: int
    seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)
