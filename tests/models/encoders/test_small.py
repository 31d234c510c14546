"""The small backbone of fast students."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.loading import empty_backbone
from napari_plimseg.models.encoders.small import SmallBackbone, fresh_small_backbone


@pytest.fixture(scope="module")
def backbone() -> SmallBackbone:
    return fresh_small_backbone(0)


def test_it_has_a_million_weights_and_three_maps(backbone: SmallBackbone) -> None:
    assert 0.9e6 < sum(p.numel() for p in backbone.parameters()) < 1.5e6
    maps = backbone(torch.rand(1, 3, 64, 80))
    shapes = [tuple(found.shape[1:]) for found in maps]
    assert shapes == [(32, 16, 20), (64, 8, 10), (128, 4, 5)]


def test_all_of_it_is_trained_and_no_weight_belongs_to_two_stages(
    backbone: SmallBackbone,
) -> None:
    own = [id(p) for i in range(3) for p in backbone.stage_parameters(i)]
    assert len(own) == len(set(own)) == len(list(backbone.parameters()))
    grouped = [p for group in backbone.parameter_groups(1e-3) for p in group["params"]]
    assert len(grouped) == len(own)


def test_the_seed_makes_the_weights_and_leaves_chance_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = fresh_small_backbone(0), fresh_small_backbone(0), fresh_small_backbone(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.enter[0][0].weight, same.enter[0][0].weight)
    assert not torch.equal(one.enter[0][0].weight, other.enter[0][0].weight)


def test_what_lies_far_away_changes_nothing(backbone: SmallBackbone) -> None:
    for block in backbone.blocks.modules():  # blocks begin as the identity
        if hasattr(block, "second"):
            torch.nn.init.normal_(block.second.weight, std=0.1)
    image = torch.rand(1, 3, 32, 512)
    other = image.clone()
    other[..., 448:] = 0
    with torch.no_grad():
        for a, b in zip(backbone(image), backbone(other), strict=True):
            assert torch.equal(a[..., : a.shape[3] // 8], b[..., : b.shape[3] // 8])
            assert not torch.equal(a[..., -1], b[..., -1])


def test_its_spec_builds_the_same_network(backbone: SmallBackbone) -> None:
    found = empty_backbone(backbone.spec)
    found.load_state_dict(backbone.state_dict())
    image = torch.rand(1, 3, 32, 32)
    for a, b in zip(found(image), backbone(image), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "change",
    [{"channels": [32, 64]}, {"channels": [32, 64, 1 << 20]}, {"depths": [2, 2, 0]},
     {"depths": "222"}, {"depths": [2, 2, True]}, {"depths": None}],
)  # fmt: skip
def test_impossible_networks_are_refused(backbone: SmallBackbone, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="are impossible"):
        empty_backbone(backbone.spec | change)
