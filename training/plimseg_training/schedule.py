"""Which items a step sees and how fast it learns: functions of the position alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLY_POWER = 0.9


def learning_rate_factor(
    step: int, steps: int, *, schedule: str = "cosine", warm_up_fraction: float = 0.0
) -> float:
    """Return what the learning rate is multiplied by at a step.

    Parameters
    ----------
    step : int
        Steps done before this one, 0 to `steps - 1`.
    steps : int
        All steps of the training.
    schedule : str
        "cosine", or "poly" with power 0.9; both reach 0 after the last step.
    warm_up_fraction : float
        Share of the steps in which the factor rises linearly to 1.

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
    """Return how many steps an epoch has: none is much smaller or larger than the others."""
    return max(1, round(items / items_a_step)) if items else 0


def epoch_steps(seed: int, epoch: int, items: int, items_a_step: int) -> list[list[int]]:
    """Return the items of every step of an epoch, in an order fixed by (seed, epoch).

    Every item occurs once. The steps differ by one item at most, so that no step rests on a few
    left-over items.
    """
    order = np.random.default_rng((seed, epoch)).permutation(items)  # (items,)
    steps = steps_of_epoch(items, items_a_step)
    return [part.tolist() for part in np.array_split(order, steps)] if steps else []


def parts_of(indices: Sequence[int], size: int) -> list[list[int]]:
    """Cut the items of a step into batches of at most `size`, nearly equal ones."""
    parts = math.ceil(len(indices) / size)
    return [part.tolist() for part in np.array_split(indices, parts)] if parts else []
