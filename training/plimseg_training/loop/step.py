"""One training step: forward, backward, and an update if every number is finite."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.overrides import TorchFunctionMode

from napari_plimseg.errors import ConfigError
from napari_plimseg.models import has_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from plimseg_training.config import StageConfig
    from plimseg_training.loop.distributed import World
    from plimseg_training.loop.task import Task


_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_AMPERE = 8


@dataclass(frozen=True)
class Precision:
    """Number format of the forward pass; weights and optimizer stay in float32.

    Parameters
    ----------
    device : torch.device
        Device of the network.
    dtype : torch.dtype
        float32, bfloat16 or float16.
    """

    device: torch.device
    dtype: torch.dtype

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute the loss inside the block in this format."""
        if self.dtype is torch.float32:
            yield
            return
        groups = _GroupsInFloat32() if self.device.type == "cpu" else contextlib.nullcontext()
        with torch.autocast(self.device.type, dtype=self.dtype), groups:
            yield

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler, which is only active in float16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


class _GroupsInFloat32(TorchFunctionMode):
    """Convolutions in groups are computed in float32, the rest as autocast has it.

    On a CPU, the gradients of depthwise convolutions take three times as long in bfloat16 as in
    float32, which is more than all other layers of a light encoder gain.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d:
            image, weight = args[:2]
            if weight.shape[1] != image.shape[-3]:
                with torch.autocast("cpu", enabled=False):
                    return function(image.float(), *args[1:], **kwargs)
        return function(*args, **kwargs)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return the number format of a recipe's `precision` on a device.

    "auto" means bfloat16 on CUDA devices from Ampere on and on CPUs that have instructions for it,
    float16 on older CUDA devices, and float32 elsewhere, because bfloat16 is several times slower
    than float32 on CPUs without these instructions.

    Raises
    ------
    ConfigError
        When the device can't train in this format.
    """
    if wanted == "auto":
        if device.type == "cpu" and has_bfloat16():
            return Precision(device, torch.bfloat16)
        if device.type != "cuda":
            return Precision(device, torch.float32)
        ampere = torch.cuda.get_device_capability(device)[0] >= _AMPERE
        return Precision(device, torch.bfloat16 if ampere else torch.float16)
    if wanted == "float16" and device.type != "cuda":
        raise ConfigError(
            "the key 'precision' is 'float16', which needs a CUDA device for training",
            remedy="Write auto or float32.",
        )
    return Precision(device, _TYPES[wanted])


class AveragedWeights:
    """An exponential moving average of a network's trained weights.

    Frozen weights and buffers are the network's own: a frozen encoder is by far the largest part
    of a network, and a copy of it would be the same numbers twice. This is why torch's
    `AveragedModel` gets a list of the trained weights here in place of the network.

    Parameters
    ----------
    network : nn.Module
        The trained network.
    decay : float
        Share that stays at each update, 0 to below 1. It is smaller in the first updates, so that
        the initial weights are soon forgotten: (1 + n) / (10 + n) at update n.

    Attributes
    ----------
    tensors : dict
        The averages by the names of the weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        trained = {n: weight for n, weight in network.named_parameters() if weight.requires_grad}
        self._weights = nn.ParameterList(trained.values())
        self._model = AveragedModel(self._weights, multi_avg_fn=self._move)
        averages = self._model.module.parameters()
        self.tensors = {name: w.data for name, w in zip(trained, averages, strict=True)}

    def update(self, count: int) -> None:
        """Move the average towards the network's weights; `count` updates came before."""
        # AveragedModel takes the first weights that it sees as they are; here these are the
        # initial weights. A checkpoint keeps the count once, in its position.
        self._model.n_averaged.fill_(1 + count)
        self._model.update_parameters(self._weights)

    def _move(self, averages: Any, weights: Any, averaged: Tensor | int) -> None:
        count = int(averaged) - 1
        decay = min(self._decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(decay)(averages, weights, averaged)  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network use the average inside the block, and its own weights again after."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._weights, self.tensors.values(), strict=True):
            own = weight.clone()
            weight.copy_(average)
            average.copy_(own)


@dataclass(frozen=True)
class StepResult:
    """Result of a step.

    Parameters
    ----------
    losses : dict
        Loss terms, as means over this process's items.
    applied : bool
        Whether the weights changed.
    bad : bool
        Whether a loss or gradient was not finite for a reason other than the range of float16.
    """

    losses: dict[str, float]
    applied: bool
    bad: bool


class _TaskLoss(nn.Module):
    """A task's loss as the forward pass of a module: what `DistributedDataParallel` needs.

    The losses of the stages call their networks several times per batch, and also parts of them,
    which is why the loss is wrapped and not the network.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network = task.network
        self._loss = task.loss

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        return self._loss(batch)


class Stepper:
    """The network, its optimizer and its averaged weights.

    With several processes, torch's `DistributedDataParallel` gives all of them the first one's
    weights and adds up their gradients.

    Parameters
    ----------
    task : Task
        What is trained. Its weights of one dimension (biases, norms, scales) have no decay.
    config : StageConfig
        Settings of the stage.
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
        self._loss: Callable[[Any], tuple[Tensor, dict[str, float]]] = task.loss
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            # Not every loss uses every weight: an encoder's last norm serves no inner block.
            # This setting also keeps the order in which gradients are added up the same from the
            # first step on; without it the second step has another one, and a resumed training
            # would differ in the last bits.
            self._parallel = DistributedDataParallel(_TaskLoss(task), find_unused_parameters=True)
            self._loss = self._parallel
        # after the processes have the same weights
        self.average = AveragedWeights(task.network, config.ema) if config.ema else None

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the first group of weights."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def precision(self) -> str:
        """Number format of the forward pass, as recipes have it."""
        return next(name for name, dtype in _TYPES.items() if dtype is self._precision.dtype)

    def continue_in(self, precision: str) -> None:
        """Compute on as a checkpoint was, on a CPU whose format the program chooses.

        Parameters
        ----------
        precision : str
            Of the checkpoint; "" in those of versions that trained in float32 on every CPU.
        """
        device = self._world.device
        if self._config.precision == "auto" and device.type == "cpu":
            known = precision if precision in ("float32", "bfloat16") else "float32"
            self._precision = choose_precision(known, device)

    def set_rate(self, rate: float) -> None:
        """Multiply the learning rates of the task's groups by `rate`."""
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * rate

    def step(self, shares: Sequence[float], batches: Iterator[Any], *, updates: int) -> StepResult:
        """Do one step.

        Parameters
        ----------
        shares : sequence of float
            For each of this process's batches, its share of the items of all processes. Every
            process has at least one batch; the share of one without items of its own is 0.
        batches : iterator
            Gives the batches, in this order.
        updates : int
            Steps that changed the weights before.

        Returns
        -------
        StepResult
            When a loss or gradient is not finite, weights, buffers and optimizer are unchanged.
        """
        buffers = [
            (buffer, buffer.clone())
            for module in self._task.network.modules()
            if module.training  # modules in evaluation mode do not change their buffers
            for buffer in module.buffers(recurse=False)
        ]
        self.optimizer.zero_grad(set_to_none=True)
        losses, finite = self._backward(shares, batches)
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

    def _backward(
        self, shares: Sequence[float], batches: Iterator[Any]
    ) -> tuple[dict[str, float], bool]:
        sums: dict[str, float] = {}
        finite = True
        for number, share in enumerate(shares, 1):
            batch = next(batches)
            with self._accumulating(last=number == len(shares)):
                with self._precision.autocast():
                    loss, terms = self._loss(batch)
                # shares add up to 1 over all processes, and the mean of their gradients is taken
                scaled = self.scaler.scale(loss * (share * self._world.size))
                torch.autograd.backward(scaled)
            terms = {"loss": float(loss.detach())} | terms
            finite = finite and bool(loss.detach().isfinite())
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) * share
        total = sum(shares)
        return {name: value / total for name, value in sums.items()} if total else {}, finite

    def _accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a batch: gradients are exchanged after the last one of a step."""
        if self._parallel is None or last:
            return contextlib.nullcontext()
        return self._parallel.no_sync()

    def _gradient_norm(self) -> float:
        gradients = [w.grad for w in self._weights if w.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self._weights, self._config.clip_norm, norm)
        return float(norm)

    def _scale_can_shrink(self) -> bool:
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1


def _groups(task: Task, config: StageConfig) -> list[dict[str, Any]]:
    """Return the task's groups, each split into weights with and without decay."""
    owned = {id(weight) for weight in task.network.parameters()}
    groups: list[dict[str, Any]] = []
    for group in task.parameter_groups():
        weights: list[nn.Parameter] = [w for w in group["params"] if w.requires_grad]
        if any(id(weight) not in owned for weight in weights):
            raise ValueError(f"task '{task.name}' trains weights that are not in its network")
        decay = group.get("weight_decay", config.weight_decay)
        for several_dimensions, own_decay in ((True, decay), (False, 0.0)):
            chosen = [w for w in weights if (w.ndim > 1) == several_dimensions]
            if chosen:
                groups.append({**group, "params": chosen, "weight_decay": own_decay})
    if not groups:
        raise ValueError(f"task '{task.name}' has nothing to train")
    return groups


_POLY_POWER = 0.9


def learning_rate_factor(
    step: int, steps: int, *, schedule: str = "cosine", warm_up_fraction: float = 0.0
) -> float:
    """Return the factor of the learning rate at a step.

    Parameters
    ----------
    step : int
        Number of earlier steps, 0 to `steps - 1`.
    steps : int
        Total number of steps.
    schedule : str
        "cosine", or "poly" with power 0.9; both reach 0 after the last step.
    warm_up_fraction : float
        Fraction of the steps during which the factor rises linearly to 1.

    Returns
    -------
    float
        More than 0 and at most 1.
    """
    warm_up = round(warm_up_fraction * steps)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    rest = (step - warm_up) / max(steps - warm_up, 1)
    if schedule == "poly":
        return float((1 - rest) ** _POLY_POWER)
    return 0.5 * (1 + math.cos(math.pi * rest))


def steps_of_epoch(items: int, items_a_step: int) -> int:
    """Return the number of steps per epoch, such that all have nearly the same size."""
    return max(1, round(items / items_a_step)) if items else 0


def epoch_steps(seed: int, epoch: int, items: int, items_a_step: int) -> list[list[int]]:
    """Return the items of every step of an epoch, in an order fixed by (seed, epoch).

    Every item occurs once. Steps differ by at most one item, because a step on a few left-over
    items would have a noisy gradient and the same learning rate.
    """
    order = np.random.default_rng((seed, epoch)).permutation(items)  # (items,)
    steps = steps_of_epoch(items, items_a_step)
    return [part.tolist() for part in np.array_split(order, steps)] if steps else []


def parts_of(indices: Sequence[int], size: int) -> list[list[int]]:
    """Split the items of a step into nearly equal batches of at most `size`."""
    parts = math.ceil(len(indices) / size)
    return [part.tolist() for part in np.array_split(indices, parts)] if parts else []
