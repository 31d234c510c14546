"""Refined masks follow the edges of the picture."""

from __future__ import annotations

import pytest
import torch

from plimseg_training.stages.pseudo_masks import DILATIONS, refined

SIDE = 32
EDGE = 16


def two_halves():
    """A picture with an edge in the middle, a little uneven like tissue."""
    pixels = torch.full((3, SIDE, SIDE), 0.3)
    pixels[:, :, EDGE:] = 0.8
    return pixels + 0.01 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))


def scores_to(column):
    scores = torch.zeros(2, SIDE, SIDE)
    scores[0, :, :column] = 1
    scores[1, :, column:] = 1
    return scores


@pytest.mark.parametrize("column", [EDGE - 3, EDGE + 3])
def test_a_boundary_moves_to_the_edge(column):
    def wrong(scores):
        truth = torch.zeros(SIDE, SIDE, dtype=torch.long)
        truth[:, EDGE:] = 1
        return int((scores.argmax(0) != truth).sum())

    before = wrong(scores_to(column))
    after = wrong(refined(scores_to(column), two_halves(), 10))
    assert before == 3 * SIDE
    assert after < before / 4


def test_scores_stay_scores():
    scores = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).softmax(0)
    found = refined(scores, two_halves(), 5)
    assert torch.allclose(found.sum(0), torch.ones(SIDE, SIDE), atol=1e-4)
    assert float(found.min()) >= 0
    assert float(found.max()) <= float(scores.max()) + 1e-6


def test_what_is_right_stays():
    found = refined(scores_to(EDGE), two_halves(), 10)
    assert torch.equal(found.argmax(0), scores_to(EDGE).argmax(0))


def test_one_step_is_a_mean_of_neighbours_weighted_by_colour():
    """Against the formula at one pixel, number by number."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(3, 9, 9, generator=generator)
    scores = torch.rand(2, 9, 9, generator=generator)
    row, column = 4, 1

    def at(maps, y, x):
        return maps[:, min(max(y, 0), 8), min(max(x, 0), 8)]

    places = [
        (row + d * dy, column + d * dx)
        for d in DILATIONS
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    own = at(pixels, row, column)
    spread = torch.stack([*(at(pixels, *p) for p in places), own]).std(0)
    far = torch.stack(
        [((at(pixels, *p) - own).abs() / (1e-8 + 0.1 * spread)).mean() for p in places]
    )
    weights = (-far).softmax(0)
    expected = sum(w * at(scores, *p) for w, p in zip(weights, places, strict=True))
    found = refined(scores, pixels, 1)[:, row, column]
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_flat_picture_gives_plain_means():
    scores = scores_to(EDGE)
    found = refined(scores, torch.full((3, SIDE, SIDE), 0.5), 1)
    assert bool(found.isfinite().all())
    assert torch.allclose(found[:, :, 0], scores[:, :, 0])  # far from the boundary
    assert 0.2 < float(found[0, 16, EDGE]) < 0.8


@pytest.mark.parametrize("size", [(2, 2), (3, 20), (9, 5)])
def test_small_pictures_lose_only_far_neighbours(size):
    scores = torch.rand(2, *size).softmax(0)
    found = refined(scores, torch.rand(3, *size), 3)
    assert found.shape == scores.shape
    assert torch.allclose(found.sum(0), torch.ones(size), atol=1e-4)
