"""One step of a training: forward, backward, and new weights if every number is finite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from plimseg_training.averaging import AveragedWeights
from plimseg_training.precision import choose_precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from plimseg_training.config import StageConfig
    from plimseg_training.distributed import World
    from plimseg_training.task import Task


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Parameters
    ----------
    losses : dict
        The terms, as means over this process's items.
    applied : bool
        Whether the weights changed.
    bad : bool
        Whether a loss or gradient was not finite for another reason than the range of float16.
    """

    losses: dict[str, float]
    applied: bool
    bad: bool


class Stepper:
    """The network, its optimizer and its averaged weights.

    Parameters
    ----------
    task : Task
        What is trained. Its weights of one dimension (biases, norms, scales) have no decay.
    config : StageConfig
        How.
    world : World
        The processes that share the items of a step.

    Raises
    ------
    ConfigError
        When the device can't train in the wanted precision.
    """

    def __init__(self, task: Task, config: StageConfig, world: World) -> None:
        self._task = task
        self._config = config
        self._world = world
        self._precision = choose_precision(config.precision, world.device)
        self.scaler = self._precision.scaler()
        self.optimizer = torch.optim.AdamW(_groups(task, config), weight_decay=config.weight_decay)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._weights = [w for group in self.optimizer.param_groups for w in group["params"]]
        self.average = AveragedWeights(task.network, config.ema) if config.ema else None

    @property
    def learning_rate(self) -> float:
        """Of the first group of weights, now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_rate(self, rate: float) -> None:
        """Multiply the learning rates that the task gave by `rate`."""
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * rate

    def step(self, parts: Iterable[tuple[Any, float]], *, updates: int) -> StepResult:
        """Do one step.

        Parameters
        ----------
        parts : iterable of (batch, float)
            This process's batches, each with its share of the items of all processes.
        updates : int
            Steps that changed the weights before.

        Returns
        -------
        StepResult
            When a loss or gradient is not finite, weights, buffers and optimizer stay as they are.
        """
        buffers = [
            (buffer, buffer.clone())
            for module in self._task.network.modules()
            if module.training  # others do not change them
            for buffer in module.buffers(recurse=False)
        ]
        self.optimizer.zero_grad(set_to_none=True)
        losses, finite = self._backward(parts)
        self._world.sum_gradients(self._weights)
        self.scaler.unscale_(self.optimizer)
        norm = self._gradient_norm()
        (bad_loss, bad_gradient) = self._world.any(not finite, not math.isfinite(norm))
        overflow = bad_gradient and not bad_loss and self._scale_can_shrink()
        if bad_loss or bad_gradient:
            for buffer, before in buffers:
                buffer.copy_(before)
            if self.scaler.is_enabled():
                self.scaler.update(self.scaler.get_scale() / 2)
            self.optimizer.zero_grad(set_to_none=True)
            return StepResult(losses, applied=False, bad=not overflow)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(updates)
        return StepResult(losses, applied=True, bad=False)

    def _backward(self, parts: Iterable[tuple[Any, float]]) -> tuple[dict[str, float], bool]:
        sums: dict[str, float] = {}
        shares = 0.0
        finite = True
        for batch, share in parts:
            with self._precision.autocast():
                loss, terms = self._task.loss(batch)
            torch.autograd.backward(self.scaler.scale(loss * share))
            terms = {"loss": float(loss.detach())} | terms
            finite = finite and bool(loss.detach().isfinite())
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) * share
            shares += share
        return {name: total / shares for name, total in sums.items()}, finite

    def _gradient_norm(self) -> float:
        gradients = [w.grad for w in self._weights if w.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self._weights, self._config.clip_norm, norm)
        return float(norm)

    def _scale_can_shrink(self) -> bool:
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1


def _groups(task: Task, config: StageConfig) -> list[dict[str, Any]]:
    """Return the task's groups, each in two: with and without weight decay."""
    owned = {id(weight) for weight in task.network.parameters()}
    groups: list[dict[str, Any]] = []
    for group in task.parameter_groups():
        weights: list[nn.Parameter] = [w for w in group["params"] if w.requires_grad]
        if any(id(weight) not in owned for weight in weights):
            raise ValueError(f"task '{task.name}' trains weights that its network does not hold")
        decay = group.get("weight_decay", config.weight_decay)
        for several_dimensions, own_decay in ((True, decay), (False, 0.0)):
            chosen = [w for w in weights if (w.ndim > 1) == several_dimensions]
            if chosen:
                groups.append({**group, "params": chosen, "weight_decay": own_decay})
    if not groups:
        raise ValueError(f"task '{task.name}' has nothing to train")
    return groups
