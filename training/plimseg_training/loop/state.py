"""The whole state of a training in checkpoint files: atomic, checked, never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import random
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file

from napari_plimseg import __version__
from napari_plimseg.files import atomic_write
from napari_plimseg.reading import check_regular, parse_json
from plimseg_training.config import flat
from plimseg_training.run_folder import RunError, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from plimseg_training.loop.step import AveragedWeights


LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
BEST = "best.safetensors"

_FORMAT = 1
# The folder may have been moved, and another device may compute; the digest covers the images.
_MAY_CHANGE = frozenset({"device", "data.train", "data.validation"})


@dataclass
class Position:
    """Progress of a training; everything in a checkpoint that is not a tensor.

    Parameters
    ----------
    epoch : int
        Finished epochs.
    step : int
        Steps done in the current epoch.
    step_total : int
        Steps done in total, including skipped ones.
    updates : int
        Steps that changed the weights.
    skipped : int
        Steps skipped because a loss or gradient was not finite.
    bad_in_a_row : int
        Skipped steps since the last good one.
    learning_rate_scale : float
        1, or 0.5 once the training diverged.
    batch_size : int
        Items per forward pass once memory ran out; 0 means the recipe's.
    best_score : float or None
        Score of `best_epoch`.
    best_epoch : int
        Number of the epoch whose weights are saved, from 1; 0 before the first.
    loss_sums : dict
        Loss terms summed over the good steps of the current epoch.
    loss_steps : int
        Number of these steps.
    history : list of dict
        One row per epoch.
    seconds : float
        Training time over all starts.
    """

    epoch: int = 0
    step: int = 0
    step_total: int = 0
    updates: int = 0
    skipped: int = 0
    bad_in_a_row: int = 0
    learning_rate_scale: float = 1.0
    batch_size: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    loss_steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class TrainState:
    """Everything needed to resume a training with the same result.

    Parameters
    ----------
    tensors : dict
        `network.*`, `ema.*`, `optimizer.*` and `rng.*`.
    position : Position
        Progress.
    scaler : dict
        State of the gradient scaler; empty except in float16.
    config : dict
        The recipe as plain data.
    digest : str
        Digest of the training data.
    versions : dict
        Library versions that wrote it.
    precision : str
        Number format of the forward pass; "" in checkpoints of earlier versions.
    """

    tensors: dict[str, Tensor]
    position: Position
    scaler: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    versions: dict[str, str] = field(default_factory=lambda: library_versions())
    precision: str = ""

    def not_finite(self) -> str | None:
        """Return the name of the first weight that is not finite, or None."""
        for name, tensor in self.tensors.items():
            if name.startswith("rng.") or not tensor.is_floating_point():
                continue
            if not bool(tensor.isfinite().all()):
                return name
        return None

    def check_same(
        self,
        config: Mapping[str, Any],
        digest: str,
        *,
        path: Path,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Refuse to resume with another recipe or other data.

        Parameters
        ----------
        config : mapping
            The recipe as plain data.
        digest : str
            Of the training data.
        path : Path
            For the message.
        defaults : mapping, optional
            What keys mean that an earlier version did not write, as a recipe that has them.

        Raises
        ------
        RunError
            Naming what changed.
        """
        before, now = flat(self.config), flat(plain_json(config))
        before = flat(plain_json(defaults or {})) | before
        changed = [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in [*before, *(k for k in now if k not in before)]
            if before.get(key) != now.get(key) and key not in _MAY_CHANGE
        ]
        if digest != self.digest:
            changed.append("the training images or their tags have changed")
        if changed:
            more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
            raise RunError(
                f"it was started with other settings: {'; '.join(changed[:3])}{more}",
                path=path,
                remedy="Choose a new run folder, or restore these settings.",
            )


def library_versions() -> dict[str, str]:
    """Return the library versions named in checkpoints and reports."""
    return {
        "napari_plimseg": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def plain_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data as JSON would: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain


def training_tensors(
    network: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedWeights | None
) -> dict[str, Tensor]:
    """Return copies of all tensors of a training on the CPU, except random states."""
    names = {id(weight): name for name, weight in network.named_parameters()}
    found = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    if average is not None:
        found |= {f"ema.{name}": tensor for name, tensor in average.tensors.items()}
    for weight, values in optimizer.state.items():
        found |= {f"optimizer.{key}.{names[id(weight)]}": value for key, value in values.items()}
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in found.items()
    }


def set_training_tensors(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None,
    *,
    path: Path,
) -> None:
    """Restore the tensors returned by `training_tensors`.

    Raises
    ------
    RunError
        When the tensors belong to another network; then nothing is changed.
    """
    weights = _part(tensors, "network.")
    wanted = network.state_dict()
    wrong = sorted(set(weights) ^ set(wanted)) or [
        name for name, tensor in weights.items() if tensor.shape != wanted[name].shape
    ]
    averages = _part(tensors, "ema.")
    if not wrong and average is not None:
        wrong = sorted(set(averages) ^ set(average.tensors))
    if wrong:
        raise RunError(
            f"its checkpoint belongs to another network: '{wrong[0]}' does not match",
            path=path,
            remedy="Choose a new run folder.",
        )
    network.load_state_dict(weights)
    if average is not None:
        for name, tensor in averages.items():
            average.tensors[name].copy_(tensor)
    optimizer.state.clear()
    parameters = dict(network.named_parameters())
    for name, tensor in _part(tensors, "optimizer.").items():
        key, _, of = name.partition(".")
        weight = parameters[of]
        # AdamW counts its steps on the CPU
        value = tensor.clone() if key == "step" else tensor.to(weight.device, copy=True)
        optimizer.state[weight][key] = value


def write_state(folder: Path, state: TrainState) -> Path:
    """Write the state as the last checkpoint; the former last one becomes the previous one.

    Raises
    ------
    RunError
        When it can't be written; existing checkpoints are kept.
    """
    last = folder / LAST
    header = {
        name.name: getattr(state, name.name) for name in fields(state) if name.name != "tensors"
    }
    header |= {"position": asdict(state.position), "format": _FORMAT}
    with writing(last), atomic_write(last) as temporary:
        _write_tensors(temporary, state.tensors, header)
        # the new one must be on the disk before the last one is renamed
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if last.exists():
            last.replace(folder / PREVIOUS)
    return last


def read_state(folder: Path) -> tuple[TrainState, str | None] | None:
    """Return the last readable checkpoint.

    Returns
    -------
    tuple or None
        The state, and a warning when it is not the last one; None when there is no checkpoint.

    Raises
    ------
    RunError
        When no checkpoint can be read.
    """
    there = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    problem = None
    for path in there:
        try:
            return _read_state(path), problem
        except RunError as error:
            problem = f"{error} Resuming from '{PREVIOUS}'."
    if there:
        raise RunError(
            "its checkpoints are damaged", path=folder, remedy="Start a new run in another folder."
        )
    return None


def write_weights(path: Path, network: nn.Module, about: Mapping[str, Any]) -> None:
    """Write only a network's weights, atomically, with a JSON header.

    Raises
    ------
    RunError
        When the file can't be written; an existing one is kept.
    """
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
    with writing(path), atomic_write(path) as temporary:
        _write_tensors(temporary, tensors, about)


def read_weights_of_run(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a file written by `write_weights`.

    Raises
    ------
    RunError
        When it is missing or damaged.
    """
    return _read_tensors(path)


def _read_state(path: Path) -> TrainState:
    tensors, header = _read_tensors(path)
    if header.pop("format", None) != _FORMAT:
        raise RunError(
            "the checkpoint was written by another version of this program",
            path=path,
            remedy="Start a new run in another folder.",
        )
    try:
        return TrainState(tensors, Position(**header.pop("position")), **header)
    except (KeyError, TypeError) as error:
        raise RunError("the checkpoint is damaged", path=path) from error


def _write_tensors(path: Path, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> None:
    text = json.dumps(header, ensure_ascii=False)
    save_file(tensors, path, metadata={"plimseg": text, "sha256": _digest(tensors, text)})


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    check_regular(path, RunError)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # copies, because the file may be replaced while the tensors are in use
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        text = metadata["plimseg"]
        if metadata["sha256"] != _digest(tensors, text):
            raise ValueError("its checksum is wrong")
        return tensors, parse_json(text, RunError, path=path, what="its header", finite=False)
    except FileNotFoundError as error:
        raise RunError("the file does not exist", path=path) from error
    except (safetensors.SafetensorError, KeyError, ValueError, OSError, RuntimeError) as error:
        raise RunError("the checkpoint is damaged", path=path) from error


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


_NONE = float("nan")


def seed_everything(entropy: Sequence[int]) -> None:
    """Seed Python, NumPy and torch (including CUDA) with whole numbers."""
    python, numpy, tensor = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(python))
    np.random.seed(int(numpy))
    torch.manual_seed(int(tensor))


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the random states of Python, NumPy, torch and, on CUDA, of the device."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": torch.tensor(words, dtype=torch.int64),  # (625,)
        "python_gauss": torch.tensor([_NONE if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),  # (624,)
        "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the result of `random_states`; other devices ignore a CUDA state."""
    gauss = float(states["python_gauss"][0])
    words = tuple(int(word) for word in states["python"])
    random.setstate((3, words, None if np.isnan(gauss) else gauss))
    position, has_gauss, cached = (float(number) for number in states["numpy_rest"])
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextlib.contextmanager
def deterministic(*, wanted: bool) -> Iterator[None]:
    """Use deterministic algorithms of torch inside the block, where they exist."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
