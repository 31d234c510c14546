"""The class gate: its formulas, written out, and what it leaves out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_plimseg.errors import ModelError
from napari_plimseg.models.class_gate import ALWAYS, ClassGate, gated, local_smooth_max, log_odds


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cells", [1, 3, 5, 99])
def test_the_local_smooth_maximum_is_its_formula(cells: int) -> None:
    maps = 3 * random(2, 3, 5, 7)
    found = local_smooth_max(maps, cells)
    half = cells // 2
    for b, c, y, x in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 2, 3), (1, 0, 0, 5)]:
        field = maps[b, c, max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
        powers = [math.exp(4 * float(z)) for z in field.flatten()]
        expected = math.log(sum(powers) / len(powers)) / 4
        assert float(found[b, c, y, x]) == pytest.approx(expected, abs=1e-5)


def test_far_below_the_peak_it_stays_right() -> None:
    maps = torch.full((1, 1, 1, 9), -80.0)
    maps[..., 0] = 80.0
    assert float(local_smooth_max(maps, 3)[0, 0, 0, 8]) == pytest.approx(-80, abs=1e-3)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_log_odds_of_batches_are_those_of_each_image(classes: int) -> None:
    logits = random(3, classes, 4, 5)
    assert torch.allclose(log_odds(logits), torch.stack([log_odds(one) for one in logits]))


def field_of(*values: float, size: int = 9) -> Tensor:
    """Logits (1, C, size, size), the same everywhere."""
    return torch.tensor(values).view(1, -1, 1, 1).expand(1, len(values), size, size).clone()


def test_a_class_below_its_threshold_is_not_seen() -> None:
    gate = ClassGate(100, (0.0, 0.0))
    seen = gate.seen(field_of(1.0, -2.0, 0.0), 5)  # the third is background
    assert seen[0, :, 0, 0].tolist() == [1, 0, 1]


def test_background_alone_may_be_left() -> None:
    seen = ClassGate(100, (9.0, 9.0)).seen(field_of(1.0, -2.0, 0.0), 5)
    assert seen[0, :, 4, 4].tolist() == [0, 0, 1]


def test_without_background_the_class_nearest_to_its_threshold_is_left() -> None:
    seen = ClassGate(100, (9.0, 5.0)).seen(field_of(0.5, 0.0), 5)
    assert seen[0, :, 4, 4].tolist() == [0, 1]


def test_a_small_weak_spot_is_left_out_and_a_large_one_is_not() -> None:
    logits = torch.zeros(1, 2, 41, 41)
    logits[:, 0] = -4
    logits[0, 0, 5, 5] = 1.0  # wins there, and nothing around it does
    logits[0, 0, 20:, 20:] = 1.0
    gate = ClassGate(1, (0.0, ALWAYS))
    found = gated(logits, gate.seen(logits, 15)).argmax(1)[0]
    assert int(logits.argmax(1)[0, 5, 5]) == 0
    assert int(found[5, 5]) == 1
    assert int(found[30, 30]) == 0


def test_windows_decide_by_their_weight() -> None:
    logits = field_of(1.0, 0.0, -1.0, size=1)
    shares = {(0.4, 1.0, 1.0): 1, (0.5, 1.0, 1.0): 0, (0.3, 0.3, 0.4): 2, (0.0, 0.0, 1.0): 2}
    for share, best in shares.items():
        found = gated(logits, torch.tensor(share).view(1, 3, 1, 1))
        assert int(found.argmax()) == best
        assert bool(found.softmax(1).isfinite().all())


def test_one_class_alone_is_always_allowed() -> None:
    logits = random(1, 1, 4, 4)
    assert torch.equal(gated(logits, ClassGate(10, (99.0,)).seen(logits, 3)), logits)


@pytest.mark.parametrize(
    ("mpp", "stride", "cells"), [(1.0, 8, 29), (0.5, 8, 57), (20.0, 8, 1), (1.0, 16, 15)]
)
def test_the_field_is_an_odd_number_of_cells(mpp: float, stride: int, cells: int) -> None:
    assert ClassGate(230, (0.0,)).cells(mpp, stride) == cells


def test_plain_data_comes_back_the_same() -> None:
    gate = ClassGate(224, (0.25, -1))
    assert ClassGate.from_dict(gate.to_dict()) == gate


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"field_um": 0, "thresholds": [0]}, "field of 0"),
        ({"field_um": 1e9, "thresholds": [0]}, "is impossible"),
        ({"field_um": 10, "thresholds": []}, "are impossible"),
        ({"field_um": 10, "thresholds": [math.nan]}, "are impossible"),
        ({"field_um": 10, "thresholds": ["high"]}, "incomplete"),
        ({"field_um": 10}, "incomplete"),
        ([1], "incomplete"),
        (None, "incomplete"),
    ],
)
def test_impossible_gates_are_refused(data: object, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        ClassGate.from_dict(data)
