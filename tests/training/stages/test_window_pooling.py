"""Pooling over windows and what their tags allow, against pixel-by-pixel counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plimseg_training.stages.window_pooling import (
    SHARPNESS,
    WindowPooling,
    allowed_classes,
    flipped,
    inside,
)

STRIDE = 8


@st.composite
def windowed(draw, most=5):
    """An image's size and windows in it, most of them not on the grid of cells."""
    height, width = draw(st.integers(9, 70)), draw(st.integers(9, 70))
    windows = []
    for _ in range(draw(st.integers(1, most))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        rows, columns = draw(st.integers(1, height - y)), draw(st.integers(1, width - x))
        windows.append((y, x, rows, columns))
    return (height, width), np.array(windows, np.int32)


def cells_of(size):
    return -(-size[0] // STRIDE), -(-size[1] // STRIDE)


def maps_for(size, channels=2, seed=0):
    return torch.randn(channels, *cells_of(size), generator=torch.Generator().manual_seed(seed))


def upsampled(maps):
    return maps.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)


@given(windowed())
def test_means_are_those_of_all_pixels(case):
    size, windows = case
    maps = maps_for(size)
    found = WindowPooling(windows, cells_of(size), STRIDE).mean(maps)
    fine = upsampled(maps)
    for (y, x, h, w), row in zip(windows, found, strict=True):
        assert torch.allclose(row, fine[:, y : y + h, x : x + w].mean((1, 2)), atol=1e-5)


@given(windowed(), st.floats(0.5, 6))
def test_the_smooth_maximum_is_its_formula(case, sharpness):
    size, windows = case
    maps = maps_for(size)
    found = WindowPooling(windows, cells_of(size), STRIDE).smooth_max(maps, sharpness)
    fine = upsampled(maps).double()
    for (y, x, h, w), row in zip(windows, found, strict=True):
        part = fine[:, y : y + h, x : x + w]
        expected = (sharpness * part).exp().mean((1, 2)).log() / sharpness
        assert torch.allclose(row.double(), expected, atol=1e-4)
        assert bool((row >= part.mean((1, 2)) - 1e-4).all())
        assert bool((row <= part.amax((1, 2)) + 1e-4).all())


def test_the_smooth_maximum_goes_from_mean_to_maximum():
    size = (40, 40)
    pooling = WindowPooling(np.array([[3, 5, 30, 20]], np.int32), cells_of(size), STRIDE)
    maps = maps_for(size)
    part = upsampled(maps)[:, 3:33, 5:25]
    assert torch.allclose(pooling.smooth_max(maps, 1e-3)[0], part.mean((1, 2)), atol=1e-2)
    assert torch.allclose(pooling.smooth_max(maps, 100.0)[0], part.amax((1, 2)), atol=0.1)
    values = [float(pooling.smooth_max(maps, r)[0, 0]) for r in (0.1, 0.5, 1, 2, 4, 8)]
    assert values == sorted(values)


@pytest.mark.parametrize("how", ["mean", "smooth_max"])
def test_what_a_twentieth_of_a_window_counts(how):
    maps = torch.zeros(1, 1, 20)
    maps[..., 0] = 3.0
    pooled = WindowPooling(np.array([[0, 0, 8, 160]], np.int32), (1, 20), STRIDE).pool(maps, how)
    if how == "mean":
        assert float(pooled) == pytest.approx(3 / 20)
    else:
        assert float(pooled) == pytest.approx(3 - np.log(20) / SHARPNESS, abs=1e-3)


@pytest.mark.parametrize("scale", [1.0, 50.0, 1000.0])
def test_gradients_of_large_logits_are_finite(scale):
    maps = (scale * maps_for((40, 40))).requires_grad_()
    windows = np.array([[0, 0, 8, 8], [4, 4, 20, 30], [0, 0, 40, 40]], np.int32)
    pooled = WindowPooling(windows, cells_of((40, 40)), STRIDE).smooth_max(maps)
    pooled.sum().backward()
    assert bool(pooled.isfinite().all())
    assert bool(maps.grad.isfinite().all())


def test_a_window_far_below_the_images_peak_still_learns():
    """Cams of another corner of a large image must not silence a window."""
    maps = torch.full((1, 4, 8), -20.0)
    maps[0, :, 6:] = 10.0
    maps.requires_grad_()
    pooled = WindowPooling(np.array([[0, 0, 32, 32]], np.int32), (4, 8), STRIDE).smooth_max(maps)
    assert float(pooled.detach()) == pytest.approx(-20.0, abs=0.01)
    pooled.sum().backward()
    assert float(maps.grad[0, :, :4].sum()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_mixed_precision_does_not_reach_the_pooling(dtype):
    maps = maps_for((40, 40))
    pooling = WindowPooling(np.array([[3, 5, 30, 20]], np.int32), cells_of((40, 40)), STRIDE)
    with torch.autocast("cpu", dtype=dtype):
        mean, largest = pooling.mean(maps), pooling.smooth_max(maps)
    assert torch.equal(mean, pooling.mean(maps))
    assert torch.equal(largest, pooling.smooth_max(maps))


def test_no_windows_give_no_rows():
    pooling = WindowPooling(np.zeros((0, 4), np.int32), (3, 3), STRIDE)
    maps = torch.zeros(2, 3, 3, requires_grad=True)
    for how in ("mean", "smooth_max"):
        assert pooling.pool(maps, how).shape == (0, 2)


# -- tags


def allowed_by_counting(windows, tags, size):
    classes = tags.shape[1]
    allowed = np.zeros((classes, *size), bool)
    for row in range(size[0]):
        for column in range(size[1]):
            over = [
                n
                for n, (y, x, h, w) in enumerate(windows)
                if y <= row < y + h and x <= column < x + w
            ]
            votes = np.array([sum(int(tags[n, k]) for n in over) for k in range(classes)])
            agreed = votes == len(over)
            allowed[:, row, column] = agreed if agreed.any() else votes == votes.max()
    return allowed


@st.composite
def tagged_windows(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    windows, tags = [], []
    for _ in range(draw(st.integers(1, 4))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        windows.append((y, x, draw(st.integers(1, height - y)), draw(st.integers(1, width - x))))
        tags.append(draw(st.lists(st.integers(0, 1), min_size=3, max_size=3)))
    return (height, width), np.array(windows, np.int32), np.array(tags, np.uint8)


@given(tagged_windows())
def test_allowed_classes_are_those_of_counting(case):
    size, windows, tags = case
    found = allowed_classes(windows, tags, size)
    assert (found == allowed_by_counting(windows, tags, size)).all()
    assert found.any(0).all()


def test_windows_that_agree_contradict_and_lie_nowhere():
    windows = np.array([[0, 0, 4, 4], [0, 2, 4, 4], [0, 4, 4, 4]], np.int32)
    tags = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], np.uint8)
    found = allowed_classes(windows, tags, (4, 10))
    expected = {
        0: [True, True, False],  # the first window alone
        2: [True, False, False],  # both say the first class
        4: [True, False, True],  # contradiction: one vote each
        6: [False, False, True],
        9: [True, True, True],  # no window
    }
    for column, classes in expected.items():
        assert found[:, 0, column].tolist() == classes


# -- turning and cutting


@given(windowed(), st.booleans(), st.booleans())
def test_turning_over_twice_changes_nothing(case, rows, columns):
    size, windows = case
    turned = flipped(windows, size, rows=rows, columns=columns)
    assert (flipped(turned, size, rows=rows, columns=columns) == windows).all()
    assert (turned[:, 2:] == windows[:, 2:]).all()


@given(windowed(most=1), st.booleans(), st.booleans())
def test_turned_windows_lie_on_the_same_pixels(case, rows, columns):
    size, windows = case
    image = np.zeros(size, bool)
    y, x, h, w = windows[0]
    image[y : y + h, x : x + w] = True
    axes = [axis for axis, turned in enumerate((rows, columns)) if turned]
    turned = np.flip(image, axes)
    y, x, h, w = flipped(windows, size, rows=rows, columns=columns)[0]
    assert turned[y : y + h, x : x + w].all()
    assert turned.sum() == h * w


@given(windowed(), st.data())
def test_windows_in_a_crop_are_whole_and_keep_their_pixels(case, data):
    size, windows = case
    y, x = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    crop = (
        y,
        x,
        data.draw(st.integers(1, size[0] - y)),
        data.draw(st.integers(1, size[1] - x)),
    )
    numbers = np.arange(len(windows), dtype=np.uint8)[:, None]
    found, kept = inside(windows, numbers, crop)
    places = np.arange(size[0] * size[1]).reshape(size)
    cut = places[y : y + crop[2], x : x + crop[3]]
    for (top, left, h, w), n in zip(found, kept[:, 0], strict=True):
        oy, ox, oh, ow = windows[n]
        assert (cut[top : top + h, left : left + w] == places[oy : oy + oh, ox : ox + ow]).all()
    whole = [
        n
        for n, (wy, wx, h, w) in enumerate(windows)
        if wy >= y and wx >= x and wy + h <= y + crop[2] and wx + w <= x + crop[3]
    ]
    assert kept[:, 0].tolist() == whole
