"""Agreement: 1 where scores predict the tags, 0 where they say nothing or the opposite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from plimseg_training.stages.tag_agreement import agreement
from tests.support.stages import windowed_tissue


def halves_of(image):
    """Scores of the first class on the left, of the second on the right."""
    found = torch.zeros(2, *image.size)
    found[0, :, : image.size[1] // 2] = found[1, :, image.size[1] // 2 :] = 1
    return found


def test_agreement_is_between_none_and_one(tmp_path):
    images = windowed_tissue(tmp_path, 2).images
    assert agreement(halves_of, images) == pytest.approx(1.0)
    assert agreement(lambda image: halves_of(image).flip(0), images) == 0
    flat = agreement(lambda image: torch.full((2, *image.size), 0.5), images)
    assert flat == pytest.approx(0.0)


def test_a_tag_of_every_window_says_nothing(tmp_path):
    images = windowed_tissue(tmp_path, 2).images
    always = [replace(image, tags=np.ones((3, 2), int)) for image in images]
    assert agreement(halves_of, always) == 0
