"""Order and learning rate follow from the position alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimseg_training.loop.step import epoch_steps, learning_rate_factor, parts_of, steps_of_epoch


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(1, 40), st.integers(0, 5))
def test_every_item_occurs_once_and_steps_are_alike(items: int, size: int, epoch: int) -> None:
    steps = epoch_steps(7, epoch, items, size)
    assert len(steps) == steps_of_epoch(items, size)
    assert sorted(i for step in steps for i in step) == list(range(items))
    if steps:
        lengths = [len(step) for step in steps]
        assert max(lengths) - min(lengths) <= 1
        assert max(lengths) <= max(1.5 * size + 1, items if items < size else 0)


def test_the_order_is_that_of_seed_and_epoch() -> None:
    assert epoch_steps(1, 2, 50, 8) == epoch_steps(1, 2, 50, 8)
    assert epoch_steps(1, 2, 50, 8) != epoch_steps(1, 3, 50, 8)
    assert epoch_steps(1, 2, 50, 8) != epoch_steps(2, 2, 50, 8)


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 12))
def test_batches_are_no_larger_than_asked(indices: list[int], size: int) -> None:
    parts = parts_of(indices, size)
    assert [i for part in parts for i in part] == indices
    assert all(1 <= len(part) <= size for part in parts)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_rate_rises_then_falls_towards_zero(schedule: str) -> None:
    factors = [
        learning_rate_factor(i, 100, schedule=schedule, warm_up_fraction=0.1) for i in range(100)
    ]
    assert factors[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.02


def test_the_formulas() -> None:
    assert learning_rate_factor(50, 100) == pytest.approx(0.5)
    assert learning_rate_factor(25, 100, schedule="poly") == pytest.approx(0.75**0.9)
    assert learning_rate_factor(0, 1, warm_up_fraction=0.9) == 0.5
