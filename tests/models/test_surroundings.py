"""What maps take from the surroundings: the formulas, written out, and what stays as it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_plimseg.errors import ModelError
from napari_plimseg.models.surroundings import (
    Surroundings,
    gaussian,
    surroundings_of,
    without_specks,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_gaussian_is_its_formula() -> None:
    maps = torch.zeros(1, 1, 31, 31)
    maps[0, 0, 15, 15] = 1
    found = gaussian(maps, 2.0)[0, 0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    for y, x in [(0, 1), (2, 0), (3, 2)]:
        expected = math.exp(-(y * y + x * x) / (2 * 2.0**2))
        assert float(found[15 + y, 15 + x] / found[15, 15]) == pytest.approx(expected, abs=1e-5)


def test_borders_keep_a_constant_map() -> None:
    assert torch.allclose(gaussian(torch.full((2, 3, 5, 9), 4.0), 6.0), torch.tensor(4.0))


def test_maps_of_a_batch_don_t_touch_each_other() -> None:
    maps = random(3, 4, 12, 10)
    alone = torch.stack([gaussian(maps[b : b + 1, c : c + 1], 1.5)[0, 0]
                         for b in range(3) for c in range(4)])  # fmt: skip
    assert torch.allclose(gaussian(maps, 1.5).flatten(0, 1), alone, atol=1e-6)


def test_without_anything_to_do_logits_stay() -> None:
    logits = random(1, 3, 8, 8)
    assert Surroundings().settled(logits, 2.0) is logits


def test_smoothing_removes_a_speck() -> None:
    logits = torch.zeros(1, 2, 21, 21)
    logits[:, 0], logits[:, 0, 10, 10], logits[:, 1, 10, 10] = 2.0, 0.0, 3.0
    assert int(logits.argmax(1).sum()) == 1
    assert int(Surroundings(4.0).settled(logits, 2.0).argmax(1).sum()) == 0


def test_a_vote_keeps_the_share_of_the_tissue() -> None:
    logits = 2 * random(2, 4, 16, 16)
    found = Surroundings(together=(0, 2), vote_um=10).settled(logits, 2.0)
    assert torch.equal(found[:, [1, 3]], logits[:, [1, 3]])
    before, after = logits.softmax(1), found.softmax(1)
    assert torch.allclose(before[:, [0, 2]].sum(1), after[:, [0, 2]].sum(1), atol=1e-5)


def test_the_majority_of_a_gland_decides_and_the_rest_does_not_vote() -> None:
    logits = torch.zeros(1, 3, 40, 40)
    logits[:, 2] = 9.0  # stroma, leaning to the second grade
    logits[:, 1] = 3.0
    gland = (slice(None), slice(None), slice(10, 30), slice(10, 30))
    own = torch.tensor([4.0, 3.0, -4.0]).view(1, 3, 1, 1).expand(1, 3, 20, 20).clone()
    own[:, :2, 5:8, 5:8] = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)  # a few cells disagree
    logits[gland] = own
    assert set(logits[gland].argmax(1).unique().tolist()) == {0, 1}
    found = Surroundings(together=(0, 1), vote_um=40).settled(logits, 2.0)
    assert found[gland].argmax(1).unique().tolist() == [0]
    assert (found.argmax(1) == 2).equal(logits.argmax(1) == 2)


def test_one_cell_can_not_outvote_many() -> None:
    logits = torch.zeros(1, 2, 15, 15)
    logits[:, 0] = 1.0
    logits[0, 1, 7, 7] = 1000.0
    found = Surroundings(together=(0, 1), vote_um=8).settled(logits, 2.0)
    assert found.argmax(1).unique().tolist() == [0]


def test_a_small_piece_becomes_what_is_next_to_it() -> None:
    mask = torch.zeros(12, 20, dtype=torch.int64)
    mask[:, 10:] = 1
    mask[4:6, 9:11] = 2  # 4 cells, between both
    mask[8:11, 4:7] = 2  # 9 cells
    logits = 3 * functional.one_hot(mask, 3).permute(2, 0, 1).float()
    found = without_specks(logits, 9).argmax(0)
    mask[4:6, 9], mask[4:6, 10] = 0, 1
    assert torch.equal(found, mask)


def test_what_a_removed_piece_was_does_not_win_between_its_neighbors() -> None:
    scores = torch.tensor([[0.40, 0.25, 0.35], [0.25, 0.40, 0.35], [0.1, 0.1, 0.8]]).log()
    mask = torch.zeros(12, 12, dtype=torch.int64)
    mask[:, 6:] = 1
    mask[5:7, 5:7] = 2
    found = without_specks(scores[mask].permute(2, 0, 1), 9).softmax(0)
    fine = functional.interpolate(found[None], scale_factor=4, mode="bilinear")[0].argmax(0)
    assert fine[18:30].unique().tolist() == [0, 1]


def test_pieces_at_the_border_stay_because_the_rest_is_not_seen() -> None:
    mask = torch.zeros(8, 8, dtype=torch.int64)
    mask[0, 3] = mask[7, 0] = mask[5, 7] = mask[4, 0] = 1
    logits = functional.one_hot(mask, 2).permute(2, 0, 1).float()
    assert without_specks(logits, 50) is logits


def test_the_least_area_is_in_square_micrometers() -> None:
    logits = torch.zeros(1, 2, 9, 9)
    logits[:, 0], logits[0, 1, 4, 4:6] = 1.0, 2.0  # two cells of 4 um2
    for least, left in ((8, 2), (9, 0)):
        found = Surroundings(least_um2=least).settled(logits, 2.0)
        assert int(found.argmax(1).sum()) == left


def test_small_pieces_of_blended_maps_are_judged_whole_also_across_blocks() -> None:
    mask = torch.zeros(40, 40, dtype=torch.int64)
    mask[4:40, 30:40] = 1  # reaches the end of what is seen
    mask[18:22, 18:22] = 2  # 16 cells in four blocks of 16 that begin at 4
    mask[8:12, 8:13] = 2  # 20 cells
    logits = 3 * functional.one_hot(mask, 3).permute(2, 0, 1).float()[None]
    around = Surroundings(least_um2=20 * 4)
    found = around.cleared(logits, 2.0, step=16, margin=4)
    mask[18:22, 18:22] = 0
    assert torch.equal(found[0].argmax(0), mask[4:36, 4:36])
    untouched = Surroundings().cleared(logits, 2.0, step=16, margin=4)
    assert torch.equal(untouched, logits[:, :, 4:36, 4:36])


def test_the_margin_holds_the_pieces_that_are_removed() -> None:
    around = Surroundings(least_um2=400)
    assert around.margin(0.5, 8) == 64
    assert Surroundings().margin(0.5, 8) == 0


def test_it_survives_a_model_file() -> None:
    around = Surroundings(4, (0, 1), 40, 300)
    assert surroundings_of({"surroundings": around.to_dict()}) == around
    assert surroundings_of({}) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"smoothing_um": -1}, "smoothing_um of -1.0"),
        ({"smoothing_um": math.nan}, "smoothing_um of nan"),
        ({"vote_um": 1e9}, "vote_um"),
        ({"least_um2": -4}, "least_um2"),
        ({"together": [1], "vote_um": 5}, r"\[1\] are impossible"),
        ({"together": [1, 1], "vote_um": 5}, r"\[1, 1\] are impossible"),
        ({"together": [0, -1], "vote_um": 5}, "no class indices"),
        ({"together": [0, True], "vote_um": 5}, "no class indices"),
        ({"together": [0, 1]}, "both classes and a distance"),
        ({"vote_um": 5}, "both classes and a distance"),
        ({"smoothing_um": "much"}, "incomplete"),
        ({"together": 3}, "incomplete"),
    ],
)
def test_impossible_surroundings_are_refused(data: dict[str, object], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        surroundings_of({"surroundings": {**Surroundings().to_dict(), **data}})


@pytest.mark.parametrize("data", [{"smoothing_um": 1}, [1, 2], None, "much"])
def test_surroundings_that_lack_something_are_refused(data: object) -> None:
    with pytest.raises(ModelError, match="incomplete"):
        surroundings_of({"surroundings": data})
