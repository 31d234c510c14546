"""Stain changes colours, never places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plimseg_training.stages import samples
from plimseg_training.stages.samples import stain_jitter


def picture(side=24, seed=0):
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))


def test_values_stay_in_range_also_from_black_and_white():
    for pixels in (picture(), torch.zeros(3, 8, 8), torch.ones(3, 8, 8)):
        for seed in range(20):
            found = stain_jitter(pixels, np.random.default_rng(seed))
            assert found.shape == pixels.shape
            assert found.dtype == torch.float32
            assert bool(found.isfinite().all())
            assert float(found.min()) >= 0
            assert float(found.max()) <= 1


def test_the_same_numbers_give_the_same_stain():
    first, again, other = (stain_jitter(picture(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_change_of_stain_is_no_change(monkeypatch):
    """The way to amounts of stain and back loses nothing."""
    monkeypatch.setattr(samples, "_STAIN_SPREAD", 0.0)
    monkeypatch.setattr(samples, "_SHIFT_SPREAD", 0.0)
    monkeypatch.setattr(samples, "_BLUR_CHANCE", 0.0)
    pixels = picture().clamp_min(2 / 255)
    assert torch.allclose(stain_jitter(pixels, np.random.default_rng(0)), pixels, atol=1e-4)


def test_pixels_change_by_their_own_colour_only(monkeypatch):
    monkeypatch.setattr(samples, "_BLUR_CHANCE", 0.0)
    pixels = picture()
    turned = stain_jitter(pixels.flip(1), np.random.default_rng(5)).flip(1)
    assert torch.allclose(turned, stain_jitter(pixels, np.random.default_rng(5)), atol=1e-6)


def test_more_haematoxylin_makes_nuclei_darker(monkeypatch):
    monkeypatch.setattr(samples, "_BLUR_CHANCE", 0.0)
    monkeypatch.setattr(samples, "_SHIFT_SPREAD", 0.0)
    nuclei = torch.tensor([90, 50, 130]).view(3, 1, 1) / 255 * torch.ones(1, 4, 4)

    class More:
        """As if all three amounts had been drawn a fifth larger."""

        def normal(self, mean, spread, size=None):
            return np.full(size, 1.2) if size and mean == 1 else (np.zeros(3) if size else mean)

        def random(self):
            return 1.0

    assert bool((stain_jitter(nuclei, More()) < nuclei - 0.02).all())


@pytest.mark.parametrize("seed", range(3))
def test_a_blurred_picture_keeps_its_mean(monkeypatch, seed):
    monkeypatch.setattr(samples, "_STAIN_SPREAD", 0.0)
    monkeypatch.setattr(samples, "_SHIFT_SPREAD", 0.0)
    monkeypatch.setattr(samples, "_BLUR_CHANCE", 1.0)
    pixels = picture(seed=seed).clamp_min(2 / 255)
    found = stain_jitter(pixels, np.random.default_rng(0))
    assert float(found.mean()) == pytest.approx(float(pixels.mean()), abs=0.02)
    assert float(found.std()) < 0.6 * float(pixels.std())
