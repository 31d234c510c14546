from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_plimseg.errors import ConfigError
from napari_plimseg.inference.promptable.geometry import (
    GRID,
    LARGEST_SHARE,
    Hint,
    HintMask,
    PatchPair,
    pair_for,
)
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.slides.slide import Region
from napari_plimseg.tissue import COLORECTAL

SIDE = 512


def click(y: float, x: float, positive: bool = True) -> Hint:
    points = ((y, x, positive),) if positive else ((y, x, False), (0, 0, True))
    return Hint(points=points)


def frame(shape: tuple[int, int], downsample: float) -> MaskInfo:
    slide = (int(shape[0] * downsample), int(shape[1] * downsample))
    return MaskInfo(
        "a.svs", "f" * 64, slide, Region(0, 0, *slide), 0.5, shape, downsample, COLORECTAL
    )


coordinates = st.floats(-500, 90_000, allow_nan=False)
sizes = st.floats(1, 30_000, allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(coordinates, coordinates, sizes, sizes, st.floats(0.3, 9))
def test_a_box_lies_in_the_patch_with_room_around_it(
    y: float, x: float, height: float, width: float, downsample: float
) -> None:
    box = Region(y, x, height, width)
    pair = pair_for([Hint(boxes=(box,))], downsample, SIDE)
    scale, top, left = pair.fine
    assert pair.y % GRID == pair.x % GRID == 0
    assert max(height, width) / scale <= LARGEST_SHARE * SIDE + 1e-6
    # as fine as it fits
    if scale > downsample:
        assert max(height, width) / (scale / 2) > LARGEST_SHARE * SIDE * (1 - 1e-9)
    margin = (1 - LARGEST_SHARE) / 2 * SIDE - GRID / 2
    for start, length, corner in ((y, height, top), (x, width, left)):
        assert start / scale - corner >= margin - 1e-6
        assert corner + SIDE - (start + length) / scale >= margin - 1e-6


@settings(max_examples=30, deadline=None)
@given(coordinates, coordinates, st.floats(0.3, 9))
def test_both_patches_have_one_centre_and_the_coarse_one_twice_the_field(
    y: float, x: float, downsample: float
) -> None:
    pair = pair_for([click(y, x)], downsample, SIDE)
    fine, coarse = pair.fine, pair.coarse
    assert coarse[0] == 2 * fine[0]
    for axis in (1, 2):
        assert (fine[axis] + SIDE / 2) * fine[0] == pytest.approx(
            (coarse[axis] + SIDE / 2) * coarse[0]
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20), st.floats(0.5, 4))
def test_hints_are_at_the_same_place_of_the_slide_in_both_patches(
    row: int, column: int, downsample: float
) -> None:
    pair = PatchPair(row * GRID, column * GRID, downsample, SIDE)
    y, x = (pair.y + 100.5) * downsample, (pair.x + 37.25) * downsample
    box = Region(y - 20 * downsample, x - 30 * downsample, 50 * downsample, 60 * downsample)
    hint = Hint(points=((y, x, True),), boxes=(box,))
    fine, coarse = pair.hints_in(hint), pair.hints_in(hint, coarse=True)
    assert fine.points[0][:2] == pytest.approx((100.5, 37.25))
    for patch, (scale, top, left) in ((fine, pair.fine), (coarse, pair.coarse)):
        there = ((patch.points[0][0] + top) * scale, (patch.points[0][1] + left) * scale)
        assert there == pytest.approx((y, x))
        y0, x0, y1, x1 = patch.boxes[0]
        assert ((y0 + top) * scale, (x0 + left) * scale) == pytest.approx((box.y, box.x))
        assert (y1 - y0) * scale == pytest.approx(box.height)
        assert (x1 - x0) * scale == pytest.approx(box.width)


def test_clicks_nearby_share_a_patch_and_distant_ones_do_not() -> None:
    first, near, far = (
        pair_for([click(*at)], 2.0, SIDE) for at in ((900, 900), (905, 893), (1900, 900))
    )
    assert first == near != far


def test_hints_together_are_answered_from_a_patch_around_all_of_them() -> None:
    hints = [click(1000, 1000), click(1000, 3000)]
    pair = pair_for(hints, 1.0, SIDE)
    assert pair.downsample == 8  # 2000 pixels: 8 is the first power of two at which they fit
    inside = [pair.hints_in(hint).points[0] for hint in hints]
    assert inside[0][:2] == pytest.approx((1000 / 8 - pair.y, 1000 / 8 - pair.x))
    assert all(0 < v < SIDE for point in inside for v in point[:2])
    assert pair_for(hints, 1.0, SIDE, coarser=2).downsample == 32


def test_a_mask_that_is_refined_is_seen_whole_where_it_fits_and_else_around_the_points() -> None:
    fits = HintMask(1000, 1000, 1.0, np.ones((300, 200), np.bool_), 1.0)
    points = ((1290.0, 1190.0, False),)
    whole = pair_for([Hint(mask=fits)], 1.0, SIDE)
    assert pair_for([Hint(points=points, mask=fits)], 1.0, SIDE) == whole
    large = HintMask(0, 0, 1.0, np.ones((3000, 2000), np.bool_), 1.0)
    assert pair_for([Hint(mask=large)], 1.0, SIDE).downsample == 8
    pair = pair_for([Hint(points=points, mask=large)], 1.0, SIDE)
    assert pair == pair_for([click(1290, 1190)], 1.0, SIDE)
    two = ((1290.0, 1190.0, False), (1290.0, 1890.0, True))
    assert pair_for([Hint(points=two, mask=large)], 1.0, SIDE).downsample == 2


def test_a_mask_is_redrawn_only_where_it_was_looked_at() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[10:30, 10:30] = True
    before = HintMask(100, 200, 2.0, mask, 1.0)
    seen = np.zeros((10, 10), np.bool_)  # level-0 pixels 240..320 in y, 440..520 in x
    seen[:, 2:] = True
    after = before.redrawn(HintMask(30, 55, 8.0, seen, 0.7), is_cut=True)
    assert (after.score, after.is_cut, after.downsample) == (0.7, True, 2.0)
    y, x = np.arange(190.0, 330), np.arange(390.0, 530)
    expected = before.at(y, x)
    looked = np.ix_((y >= 240) & (y < 320), (x >= 440) & (x < 520))
    expected[looked] = HintMask(30, 55, 8.0, seen, 0.7).at(y, x)[looked]
    np.testing.assert_array_equal(after.at(y, x), expected)
    assert after.at(y, x).sum() > before.at(y, x).sum()


def test_what_lies_beyond_the_patch_is_moved_to_its_border() -> None:
    pair = PatchPair(0, 0, 1.0, SIDE)
    hint = Hint(points=((10, 10, True), (-90, 700, False)), boxes=(Region(5, 400, 20, 300),))
    fine = pair.hints_in(hint)
    assert fine.points[1] == (0, SIDE, False)
    assert fine.boxes == ((5, 400, 25, SIDE),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hint(),
        lambda: Hint(points=((3, 4, False),)),
        lambda: Hint(points=((float("nan"), 4, True),)),
        lambda: Hint(mask=HintMask(0, 0, 1.0, np.zeros((3, 3), np.bool_), 1.0)),
    ],
)
def test_a_hint_that_points_at_nothing_is_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_points_belong_to_the_box_that_they_are_nearest_to() -> None:
    left, right = Region(0, 0, 100, 100), Region(0, 300, 100, 100)
    inside_left, inside_right, outside = (
        (50.0, 90.0, True),
        (50.0, 320.0, True),
        (50.0, 200.0, False),
    )
    parts = Hint((inside_left, inside_right, outside), (left, right)).parts()
    assert [part.boxes for part in parts] == [(left,), (right,)]
    assert parts[0].points == (inside_left, outside)
    assert parts[1].points == (inside_right, outside)


def test_a_mask_as_a_hint_comes_back_in_both_patches() -> None:
    pair = PatchPair(64, 128, 2.0, SIDE)
    inside = np.zeros((100, 80), np.bool_)
    inside[10:60, 20:50] = True
    hint = Hint(mask=HintMask(200, 250, 2.0, inside, 1.0))
    fine = pair.hints_in(hint).mask
    coarse = pair.hints_in(hint, coarse=True).mask
    assert fine is not None
    assert coarse is not None
    assert (fine[200 - 64 + 10 : 200 - 64 + 60, 250 - 128 + 20 : 250 - 128 + 50] > 0).all()
    assert (fine > 0).sum() == 50 * 30
    assert (coarse > 0).sum() == 25 * 15
