"""Tools of correction against slow, obvious ways of doing the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_plimseg.errors import ConfigError
from napari_plimseg.results.editing import components as runs_module
from napari_plimseg.results.editing import operations
from napari_plimseg.results.editing.components import RunLengthMask
from napari_plimseg.results.editing.operations import (
    Edit,
    allowed_pixels,
    connected_region,
    fill_holes,
    grow,
    relabel,
    remove_region,
    remove_small,
    shrink,
    smooth_outline,
)

CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = np.ones((3, 3), bool)


def blobs(seed: int, shape: tuple[int, int] = (90, 70), classes: int = 3) -> np.ndarray:
    """Return a mask of blobs with specks of "not computed" and "unreadable"."""
    rng = np.random.default_rng(seed)
    height = ndimage.gaussian_filter(rng.random(shape), 1.5)
    mask = np.digitize(height, np.quantile(height, np.linspace(0, 1, classes + 1)[1:-1])) + 1
    mask[rng.random(shape) < 0.01] = 0
    mask[rng.random(shape) < 0.01] = 255
    return mask.astype(np.uint8)


def after(mask: np.ndarray, edit: Edit) -> np.ndarray:
    """Return the mask with the edit applied; an edit lists changed pixels only."""
    changed = mask.copy()
    edit.apply(changed)
    assert edit.size == (changed != mask).sum()
    rows, columns = edit.indices
    again = mask.copy()
    again[rows, columns] = edit.values
    np.testing.assert_array_equal(again, changed)
    return changed


def drawn(*lines: str) -> np.ndarray:
    return np.array([[int(c) for c in line] for line in lines], np.uint8)


@pytest.mark.parametrize("side", [7, 16, 200])
def test_pieces_make_the_same_edit(side: int) -> None:
    mask = blobs(0)
    edit = remove_small(mask, 2, 40)
    assert edit.size
    pieces = [*edit.split(side)]
    assert all(0 < max(piece.changed.shape) <= side and piece.size for piece in pieces)
    made = mask.copy()
    for piece in pieces:
        piece.apply(made)
    np.testing.assert_array_equal(made, after(mask, edit))
    assert sum(piece.size for piece in pieces) == edit.size
    assert [*Edit.nothing().split(side)] == []


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_components_of_runs_are_those_of_pixels(
    seed: int, connectivity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(runs_module, "_NODES_AT_ONCE", 100)
    mask = blobs(seed)
    runs = RunLengthMask.of(mask)
    labels = runs.components(connectivity)
    picture = np.repeat(labels, runs.length).reshape(mask.shape)
    np.testing.assert_array_equal(np.repeat(runs.value, runs.length).reshape(mask.shape), mask)
    pairs = 0
    for mask_id in np.unique(mask):
        want, count = ndimage.label(mask == mask_id, CROSS if connectivity == 4 else SQUARE)
        pairs += count
        for number in range(1, count + 1):
            assert len(np.unique(picture[want == number])) == 1
    assert len(np.unique(labels)) == pairs


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("first_side", [4, 512])
def test_region_under_a_pixel(
    monkeypatch: pytest.MonkeyPatch, first_side: int, connectivity: int
) -> None:
    monkeypatch.setattr(operations, "_FIRST_SIDE", first_side)
    mask = blobs(7)
    labels = {
        i: ndimage.label(mask == i, CROSS if connectivity == 4 else SQUARE)[0]
        for i in np.unique(mask)
    }
    for y, x in [(0, 0), (89, 69), (0, 69), (40, 30), (45, 1), (88, 35)]:
        part = connected_region(mask, y, x, connectivity=connectivity)
        whole = np.zeros(mask.shape, bool)
        height, width = part.inside.shape
        whole[part.top : part.top + height, part.left : part.left + width] = part.inside
        here = labels[mask[y, x]]
        np.testing.assert_array_equal(whole, here == here[y, x])
        assert part.inside.any(axis=0).all() or part.inside.any(axis=1).all()  # cut to the region
        changed = after(mask, relabel(part, 9))
        np.testing.assert_array_equal(changed, np.where(whole, 9, mask))


def test_relabelling_to_the_same_class_changes_nothing() -> None:
    mask = blobs(1)
    assert relabel(connected_region(mask, 3, 3), int(mask[3, 3])).size == 0


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, 70), (90, 0)])
def test_a_click_outside_is_refused(y: int, x: int) -> None:
    with pytest.raises(ConfigError, match="outside"):
        connected_region(blobs(1), y, x)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_pixels", [None, 3])
def test_holes_of_a_class(seed: int, max_pixels: int | None) -> None:
    mask = blobs(seed)
    filled = ndimage.binary_fill_holes(mask == 2, SQUARE)
    holes, count = ndimage.label(filled & (mask != 2), SQUARE)
    want = mask.copy()
    for number in range(1, count + 1):
        hole = holes == number
        if max_pixels is None or hole.sum() <= max_pixels:
            want[hole & (mask != 0) & (mask != 255)] = 2
    np.testing.assert_array_equal(after(mask, fill_holes(mask, 2, max_pixels=max_pixels)), want)


def test_holes_of_one_region_only() -> None:
    mask = drawn("1111111", "1222121", "1212111", "1222111", "1111222", "1111212", "1111222")
    part = connected_region(mask, 1, 1)
    want = mask.copy()
    want[2, 2] = 2
    np.testing.assert_array_equal(after(mask, fill_holes(mask, part)), want)


def test_holes_of_glass_stay() -> None:
    mask = drawn("1111111", "1211111", "1111331", "1311331", "1111111")
    glass = np.zeros(mask.shape, bool)
    glass[2:4, 4:6] = True
    glass[2, 5] = False  # three quarters of this hole
    want = mask.copy()
    want[[1, 3], 1] = 1
    found = fill_holes(mask, 1, fillable=lambda rows, columns: ~glass[rows, columns])
    np.testing.assert_array_equal(after(mask, found), want)
    part = connected_region(mask, 0, 0)
    found = fill_holes(mask, part, fillable=lambda rows, columns: ~glass[rows, columns])
    np.testing.assert_array_equal(after(mask, found), want)


def test_small_regions_fall_to_what_surrounds_them_most() -> None:
    mask = drawn("1111333", "1211333", "1111323", "1122333", "1122033", "1111002", "1111000")
    want = drawn("1111333", "1111333", "1111333", "1122333", "1122033", "1111002", "1111000")
    np.testing.assert_array_equal(after(mask, remove_small(mask, 2, 4)), _taken(want, mask))


def _taken(want: np.ndarray, mask: np.ndarray) -> np.ndarray:
    want = want.copy()
    want[5, 6] = 3  # touches one pixel of class 3 above, the others around it have no class
    assert mask[4, 6] == 3
    return want


def test_a_region_among_nothing_stays() -> None:
    mask = drawn("000", "020", "000")
    assert remove_small(mask, 2, 100).size == 0
    assert remove_region(mask, connected_region(mask, 1, 1)).size == 0


@pytest.mark.parametrize("seed", range(4))
def test_small_regions_against_counting_by_hand(seed: int) -> None:
    mask = blobs(seed, classes=4)
    labels, count = ndimage.label(mask == 2, CROSS)
    want = mask.copy()
    for number in range(1, count + 1):
        region = labels == number
        if region.sum() >= 12:
            continue
        votes = np.zeros(256, int)
        for y, x in np.argwhere(region):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1]:
                    votes[mask[y + dy, x + dx]] += 1
        votes[[0, 2, 255]] = 0
        if votes.any():
            want[region] = votes.argmax()
    np.testing.assert_array_equal(after(mask, remove_small(mask, 2, 12)), want)


def test_removing_one_region() -> None:
    mask = drawn("1111", "1221", "1221", "1333", "1221")
    part = connected_region(mask, 1, 1)
    want = drawn("1111", "1111", "1111", "1333", "1221")
    np.testing.assert_array_equal(after(mask, remove_region(mask, part)), want)


@pytest.mark.parametrize("block", [16, 1024])
@pytest.mark.parametrize("tool", [grow, shrink, smooth_outline])
def test_blocks_leave_no_seams(monkeypatch: pytest.MonkeyPatch, block: int, tool) -> None:  # type: ignore[no-untyped-def]
    mask = blobs(3)
    monkeypatch.setattr(operations, "_BLOCK", 10_000)
    whole = after(mask, tool(mask, 2, 3))
    monkeypatch.setattr(operations, "_BLOCK", block)
    np.testing.assert_array_equal(after(mask, tool(mask, 2, 3)), whole)
    assert (whole != mask).any()
    # nothing without a class is touched, nothing loses its class
    np.testing.assert_array_equal((whole == 0) | (whole == 255), (mask == 0) | (mask == 255))


def test_growing_and_shrinking_a_square() -> None:
    mask = np.ones((20, 30), np.uint8)
    mask[8:12, 10:20] = 2
    bigger = ndimage.binary_dilation(mask == 2, CROSS, iterations=2)
    np.testing.assert_array_equal(after(mask, grow(mask, 2, 2)), np.where(bigger, 2, 1))
    smaller = ndimage.binary_erosion(mask == 2, CROSS, iterations=1)
    np.testing.assert_array_equal(after(mask, shrink(mask, 2, 1)), np.where(smaller, 2, 1))


def test_shrinking_keeps_to_the_rim_of_the_mask_and_takes_the_nearest_class() -> None:
    mask = drawn("22211", "22211", "22233", "22233")
    want = drawn("22111", "22111", "22333", "22333")
    changed = after(mask, shrink(mask, 2, 1))
    np.testing.assert_array_equal(changed, want)


def test_one_region_grows_and_its_twin_does_not() -> None:
    mask = np.ones((12, 24), np.uint8)
    mask[4:8, 3:7] = mask[4:8, 16:20] = 2
    changed = after(mask, grow(mask, connected_region(mask, 5, 4), 1))
    np.testing.assert_array_equal(changed[:, 12:], mask[:, 12:])
    assert (changed[:, :12] == 2).sum() == 16 + 16


def test_smoothing_takes_a_spike_and_leaves_a_straight_edge() -> None:
    mask = np.ones((40, 40), np.uint8)
    mask[:, 20:] = 2
    mask[10, 12:20] = 2
    changed = after(mask, smooth_outline(mask, 2, 4))
    assert (changed[10, :19] == 1).all()
    assert (changed[25:] == mask[25:]).all()
    with pytest.raises(ConfigError, match="smooths nothing"):
        smooth_outline(mask, 2, 0.5)


def test_smoothing_between_three_classes_opens_no_gap() -> None:
    mask = blobs(5, (120, 120), 4)
    mask[(mask == 0) | (mask == 255)] = 1
    changed = after(mask, smooth_outline(mask, 2, 3))
    assert set(np.unique(changed)) <= set(np.unique(mask))
    moved = changed != mask
    assert ((mask[moved] == 2) | (changed[moved] == 2)).all()


def test_limits() -> None:
    mask = drawn("1230", "1230")
    tissue = np.array([[True, True, False, True], [True] * 4])
    np.testing.assert_array_equal(
        allowed_pixels(mask, tissue=tissue, protected={2}),
        [[True, False, False, True], [True, False, True, True]],
    )
    edit = Edit(0, 0, np.ones((2, 4), bool), np.full((2, 4), 9, np.uint8))
    limited = edit.limited(allowed_pixels(mask, protected={1, 2, 3}))
    assert (limited.top, limited.left, limited.size) == (0, 3, 2)
    assert edit.limited(np.zeros((2, 4), bool)).size == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_tiny_masks(shape: tuple[int, int]) -> None:
    mask = np.ones(shape, np.uint8)
    assert after(mask, relabel(connected_region(mask, 0, 0), 2)).min() == 2
    for tool in (fill_holes, grow, shrink):
        assert tool(mask, 1).size == 0
    assert remove_small(mask, 1, 5).size == 0
    assert smooth_outline(mask, 1, 2).size == 0
