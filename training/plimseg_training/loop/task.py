"""The interface between a stage and the training loop, its options and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn


class DivergedError(ConfigError):
    """Loss or gradients were still not finite at half the learning rate."""

    subject = "training run"


class Stopped(Exception):
    """The training was asked to stop; its progress is saved."""


class Task(Protocol):
    """A stage as the training loop sees it.

    A task may also have `names(indices) -> list of str`, the file names of items for messages.
    """

    name: str
    """Name of the stage and of its folder in the run folder, for example "stage1"."""

    @property
    def network(self) -> nn.Module:
        """The trained network, on its device; `train()` keeps frozen parts in evaluation mode."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return parameter groups for the optimizer, each with `params` and `lr`."""
        ...

    def epoch_items(self, epoch: int) -> int:
        """Return the number of items in an epoch, counted from 0."""
        ...

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> Any:
        """Return a batch of items; called from threads.

        The same arguments must give the same batch, or a resumed training would differ: random
        choices come only from `np.random.default_rng((seed, epoch, index))`.
        """
        ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss over a batch, and its terms by name."""
        ...

    def validate(self) -> dict[str, float]:
        """Return scores of the current network; the weights with the highest "score" are kept.

        {} when there is nothing to measure; then the last epoch's weights are kept. This sets the
        network to evaluation mode.
        """
        ...


@dataclass(frozen=True)
class LoopOptions:
    """Options of the loop that do not change its result.

    Parameters
    ----------
    save_seconds : float
        Longest time between checkpoints, which is the most a power failure can cost.
    report_seconds : float
        Shortest time between "step" events.
    threads : int or None
        Number of threads that create batches; None chooses by device.
    deterministic : bool
        Whether to use deterministic algorithms of torch where they exist.
    """

    save_seconds: float = 300.0
    report_seconds: float = 1.0
    threads: int | None = None
    deterministic: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """Result of a stage.

    Parameters
    ----------
    stopped : bool
        Whether it was stopped before its end and can be resumed.
    weights : Path
        File of the best weights (averaged ones if the recipe says so); exists once an epoch is
        done.
    best_score : float or None
        Their score, if there is a validation part.
    best_epoch : int
        Their epoch, from 1.
    steps : int
        Number of steps done.
    seconds : float
        Training time over all starts.
    history : list of dict
        One row per epoch.
    """

    stopped: bool
    weights: Path
    best_score: float | None
    best_epoch: int
    steps: int
    seconds: float
    history: list[dict[str, Any]] = field(default_factory=list)
