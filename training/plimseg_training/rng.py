"""All random generators: seeded, and their states as tensors, which are saved without pickle."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

_NONE = float("nan")


def seed_everything(entropy: Sequence[int]) -> None:
    """Seed python, NumPy and torch (CUDA included) from whole numbers."""
    python, numpy, tensor = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(python))
    np.random.seed(int(numpy))
    torch.manual_seed(int(tensor))


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of python, NumPy, torch and, on CUDA, of the device."""
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
    """Set what `random_states` gave; a CUDA state is left out on other devices."""
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
    """Ask torch for deterministic algorithms inside the block, where it has them."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
