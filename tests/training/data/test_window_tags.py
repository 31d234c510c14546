"""Windows cover the image, and their tags are those of a direct count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_plimseg.errors import TagError
from plimseg_training.data.window_tags import WindowRule, class_fractions, window_grid


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_windows_cover_the_image_and_stay_inside(height, width, side, stride):
    windows = window_grid((height, width), side, stride)
    seen = np.zeros((height, width), bool)
    for y, x, h, w in windows:
        assert (h, w) == (min(side, height), min(side, width))
        assert seen[y : y + h, x : x + w].shape == (h, w)
        seen[y : y + h, x : x + w] = True
    assert seen.all() or stride > side
    assert len(np.unique(windows, axis=0)) == len(windows)


def oeem_starts(length):
    starts = list(np.arange(0, length - 112 + 1, 56))
    return [*starts, length - 112] if length % 56 else starts


@pytest.mark.parametrize("length", [112, 113, 168, 433, 522, 775])
def test_starts_are_those_of_oeem(length):
    assert sorted(set(window_grid((length, 112), 112, 56)[:, 0])) == oeem_starts(length)


def test_fractions_against_a_direct_count():
    mask = np.random.default_rng(0).integers(0, 5, (61, 47)).astype(np.uint8)
    windows = window_grid(mask.shape, 20, 9)
    for (y, x, h, w), row in zip(windows, class_fractions(mask, windows, 3), strict=True):
        part = mask[y : y + h, x : x + w]
        assert row == pytest.approx([(part == k).mean() for k in (1, 2, 3)])


def test_the_threshold_itself_counts_only_where_the_rule_says_so():
    mask = np.ones((10, 10), np.uint8)
    mask.flat[:5] = 2  # exactly 5 %
    assert WindowRule(10, 10, 0.05).tags(mask, 2).tolist() == [[1, 1]]
    assert WindowRule(10, 10, 0.05, strictly=True).tags(mask, 2).tolist() == [[1, 0]]


def test_an_absent_class_is_never_tagged():
    assert WindowRule(0, 0, 0.0).tags(np.ones((4, 9), np.uint8), 2).tolist() == [[1, 0]]


def test_rules_that_make_no_sense():
    for wrong in ((-1, 1, 0.1), (10, 0, 0.1), (10, 5, 1.0)):
        with pytest.raises(TagError):
            WindowRule(*wrong)
