"""The CAM head with fixed and with learnt prototypes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.models.segmentation.cam_net import CamNet

TEXTS = F.normalize(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), dim=1)


def network(learnt: int) -> CamNet:
    torch.manual_seed(0)
    return CamNet([6, 5], [8, 16], TEXTS, width=8, stride=16, learnt=learnt).eval()


def blocks() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 6, 8, 6), torch.randn(2, 5, 4, 3)]


def test_fixed_prototypes_are_the_texts_and_are_not_trained() -> None:
    found = network(0)
    assert not [name for name, _ in found.named_parameters() if "bank" in name]
    assert found.likeness() == 0
    assert torch.equal(found.prototypes, TEXTS)


def test_learnt_prototypes_begin_near_their_text_and_differ() -> None:
    found = network(3)
    assert found.bank is not None
    unit = F.normalize(found.bank, dim=2)
    cosines = torch.einsum("cpd,kd->cpk", unit, found.prototypes)
    assert (cosines.argmax(2) == torch.tensor([[0], [1]])).all()
    assert 0 < found.likeness() < 1
    assert found(blocks()).shape == (2, 2, 4, 3)


def test_equal_prototypes_give_the_cams_of_one_and_count_as_alike() -> None:
    one, several = network(0), network(3)
    several.load_state_dict(one.state_dict(), strict=False)
    assert several.bank is not None
    with torch.no_grad():
        several.bank.copy_(TEXTS[:, None].expand_as(several.bank))
    assert torch.allclose(several(blocks()), one(blocks()), atol=1e-4)
    assert float(several.likeness().detach()) == pytest.approx(1.0)


def test_the_diversity_term_moves_prototypes_apart() -> None:
    found = network(3)
    optimizer = torch.optim.Adam([found.bank], lr=0.05)
    before = float(found.likeness().detach())
    for _ in range(30):
        optimizer.zero_grad()
        found.likeness().backward()
        optimizer.step()
    assert float(found.likeness().detach()) < before / 3
