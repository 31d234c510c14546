"""What a model knows of its training tissue: fit, distance, sentence and crafted values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.familiarity import Familiarity, shows_tissue, unlike_sentence

if TYPE_CHECKING:
    from numpy.typing import NDArray


def tissue(seed: int, color: tuple[int, int, int] = (180, 90, 150)) -> NDArray[np.uint8]:
    """Return a noisy picture of one color."""
    rng = np.random.default_rng(seed)
    shade = rng.normal(0, 12, (64, 64, 1)) + rng.normal(0, 10)
    return (np.array(color) + shade).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def known() -> Familiarity:
    found = Familiarity.fitted([tissue(seed) for seed in range(60)])
    assert found is not None
    return found


def test_the_same_tissue_is_near_and_other_colors_are_far(known: Familiarity) -> None:
    near = known.distance([tissue(seed) for seed in range(100, 106)])
    far = known.distance([tissue(seed, (60, 90, 60)) for seed in range(100, 106)])
    assert near is not None
    assert far is not None
    assert near <= known.limit < far / 2


def test_glass_alone_tells_nothing(known: Familiarity) -> None:
    glass = np.full((64, 64, 3), 240, np.uint8)
    assert not shows_tissue(glass)
    assert shows_tissue(tissue(0))
    assert known.distance([glass]) is None
    assert Familiarity.fitted([glass] * 60) is None


def test_few_windows_are_no_description() -> None:
    assert Familiarity.fitted([tissue(seed) for seed in range(10)]) is None


def test_it_is_the_same_after_a_model_file(known: Familiarity) -> None:
    again = Familiarity.from_parts(known.to_dict(), known.tensors())
    assert again.to_dict() == known.to_dict()
    assert again.distance([tissue(7)]) == known.distance([tissue(7)])


def test_with_another_encoder_it_says_nothing(known: Familiarity) -> None:
    other = Familiarity(known.center, known.projection, known.limit, "another")
    assert other.distance([tissue(1)]) is None


@pytest.mark.parametrize(
    ("data", "tensors"),
    [
        ({"limit": float("nan")}, {}),
        ({"limit": -1.0}, {}),
        ({"limit": True}, {}),
        ({"limit": "1"}, {}),
        ({"encoder": 3}, {}),
        ({"more": 1}, {}),
        ({}, {"center": torch.full((80,), float("inf"))}),
        ({}, {"center": torch.zeros(79)}),
        ({}, {"projection": torch.zeros(65, 80)}),
        ({}, {"projection": torch.zeros(0, 80)}),
        ({}, {"projection": torch.zeros(80)}),
        ({}, {"more": torch.zeros(1)}),
        ({}, {"center": torch.zeros(10), "projection": torch.zeros(4, 10)}),
    ],
)
def test_crafted_values_are_refused(
    known: Familiarity, data: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(ModelError, match=r"training tissue|limit"):
        Familiarity.from_parts({**known.to_dict(), **data}, {**known.tensors(), **tensors})


@pytest.mark.parametrize("data", [None, [], "1", {}])
def test_a_header_without_a_limit_is_refused(known: Familiarity, data: Any) -> None:
    with pytest.raises(ModelError, match="incomplete"):
        Familiarity.from_parts(data, known.tensors())


def test_the_sentence_names_distance_and_limit() -> None:
    assert unlike_sentence(1.2, 1.3) == ""
    assert "distance 2.40; at most 1.30" in unlike_sentence(2.4, 1.3)
