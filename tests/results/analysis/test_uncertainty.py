"""The worklist of uncertain regions: what is found, in which order, and what is left out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.errors import DamagedStoreError
from napari_plimseg.results.analysis.review_log import ReviewedRegion, reviewed_map
from napari_plimseg.results.analysis.uncertainty import (
    MIN_AREA_MM2,
    UncertainRegion,
    analysis_step,
    reviewed_share,
    uncertain_regions,
    worklist,
)
from napari_plimseg.results.mask_store import MaskStore, StoreLayout
from tests.support.masks import info_for
from tests.support.stores import written_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SURE = 250
# y, x, height, width, confidence, in the order that they should be ranked in
BLOBS = (
    (20, 30, 40, 50, 100),
    (100, 150, 40, 40, 110),
    (150, 20, 30, 30, 60),
    (20, 200, 30, 30, 120),
)


def frame(shape: tuple[int, int] = (256, 256), mask_mpp: float | None = 8.0):  # type: ignore[no-untyped-def]
    """A mask of class 2, sure everywhere, and its description."""
    mask = np.full(shape, 2, np.uint8)
    mpp = None if mask_mpp is None else mask_mpp / 4
    return mask, np.full(shape, SURE, np.uint8), info_for(mask, mpp=mpp)


def with_blobs(confidence: NDArray[np.uint8], factor: int = 1) -> NDArray[np.uint8]:
    for y, x, height, width, value in BLOBS:
        window = np.s_[y * factor : (y + height) * factor, x * factor : (x + width) * factor]
        confidence[window] = value
    return confidence


def boxes(regions: list[UncertainRegion]) -> list[tuple[int, int, int, int]]:
    return [(r.y, r.x, r.height, r.width) for r in regions]


def test_regions_lie_where_the_model_was_unsure_the_largest_doubt_first() -> None:
    mask, confidence, info = frame()
    found = uncertain_regions(mask, with_blobs(confidence), info)
    assert boxes(found) == [blob[:4] for blob in BLOBS]
    assert [r.rank for r in found] == [1, 2, 3, 4]
    for region, (_, _, height, width, value) in zip(found, BLOBS, strict=True):
        assert region.mean_confidence == pytest.approx(value / 255)
        assert region.pixels == height * width
        assert region.area_mm2 == pytest.approx(height * width * 64e-6)
        assert region.classes == ("normal mucosa",)


def test_without_a_pixel_size_there_is_no_area() -> None:
    mask, confidence, info = frame(mask_mpp=None)
    found = uncertain_regions(mask, with_blobs(confidence), info)
    assert [r.area_mm2 for r in found] == [None] * len(found)
    assert found[0].pixels == 40 * 50


@pytest.mark.parametrize("value", [0, 100, 254, 255])
def test_uniform_confidence_has_no_regions(value: int) -> None:
    mask, confidence, info = frame()
    inner = np.s_[20:-20, 20:-20]  # away from the border, where smoothing sees less
    mask[:] = 9
    mask[inner] = 2
    confidence[:] = value
    found = uncertain_regions(mask, confidence, info)
    if value >= 254:
        assert found == []
    else:
        assert sum(r.pixels for r in found) < 0.2 * mask[inner].size


@pytest.mark.parametrize("mask_id", [0, 9, 255])
def test_what_is_no_tissue_is_never_uncertain(mask_id: int) -> None:
    mask, confidence, info = frame()
    mask[:] = mask_id
    assert uncertain_regions(mask, with_blobs(confidence), info) == []


def test_borders_between_classes_do_not_fill_the_list() -> None:
    mask, confidence, info = frame((512, 512), mask_mpp=2.0)
    for at in range(16, 512, 32):
        confidence[at : at + 3] = 90
        confidence[:, at : at + 3] = 90
    confidence[200:300, 200:300] = 90
    found = uncertain_regions(mask, confidence, info)
    assert len(found) == 1
    assert found[0].y <= 200
    assert found[0].y + found[0].height >= 300
    assert found[0].height < 160


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_turning_the_mask_turns_the_regions(turn: int, flip: bool) -> None:
    mask, confidence, info = frame()
    plain = uncertain_regions(mask, with_blobs(confidence), info)
    turned = np.rot90(confidence[::-1] if flip else confidence, turn)
    found = uncertain_regions(mask, np.ascontiguousarray(turned), info)
    for before, after in zip(plain, found, strict=True):
        assert (after.pixels, after.classes) == (before.pixels, before.classes)
        marked = np.zeros_like(confidence)
        marked[before.y : before.y + before.height, before.x : before.x + before.width] = 1
        marked = np.rot90(marked[::-1] if flip else marked, turn)
        box = np.s_[after.y : after.y + after.height, after.x : after.x + after.width]
        assert marked[box].all()
        assert marked.sum() == marked[box].sum()


def test_small_regions_are_left_out_by_area() -> None:
    mask, confidence, info = frame()
    side = int(np.sqrt(MIN_AREA_MM2 / 64e-6))
    confidence[50 : 50 + side - 1, 50 : 50 + side - 1] = 60
    confidence[150 : 150 + side + 1, 150 : 150 + side + 1] = 60
    found = uncertain_regions(mask, confidence, info)
    assert boxes(found) == [(150, 150, side + 1, side + 1)]


def test_a_region_larger_than_a_view_is_cut() -> None:
    mask, confidence, info = frame((600, 600))
    confidence[100:150, 50:500] = 100  # 450 * 8 um = 3.6 mm long
    found = uncertain_regions(mask, confidence, info)
    assert [(r.height, r.width) for r in found] == [(50, 150)] * 3
    assert sorted(r.x for r in found) == [50, 200, 350]


def test_the_two_most_frequent_classes_are_named() -> None:
    mask, confidence, info = frame()
    confidence[40:80, 40:80] = 100
    mask[40:80, 40:52] = 3
    mask[40:80, 52:56] = 5
    (region,) = uncertain_regions(mask, confidence, info)
    assert region.classes == ("normal mucosa", "stroma")


@pytest.mark.parametrize(
    ("shape", "mpp", "mask_step", "step"),
    [
        ((100, 100), 8.0, 1, 1),
        ((100, 100), 2.0, 1, 4),
        ((100, 100), None, 1, 1),
        ((16384, 100), 2.0, 1, 8),
        ((30000, 20000), 8.0, 2, 16),
    ],
)
def test_step(shape: tuple[int, int], mpp: float | None, mask_step: int, step: int) -> None:
    info = info_for(np.zeros((1, 1), np.uint8), mpp=None if mpp is None else mpp / 4)
    info = dataclasses.replace(info, shape=shape)
    assert analysis_step(info, mask_step) == step


def test_worklist_of_a_store_reads_the_confidence_at_the_right_place(tmp_path: Path) -> None:
    # 2 um a pixel: every fourth pixel is looked at; tiles of 90 don't fit 4 evenly, nor the size
    mask, confidence, info = frame((1030, 1027), mask_mpp=2.0)
    with_blobs(confidence, 4)
    with written_store(tmp_path / "a.plimseg", info, mask, confidence, 90) as store:
        found = worklist(store, mask)
        assert boxes(found) == [tuple(4 * v for v in blob[:4]) for blob in BLOBS]
        decimated = worklist(store, mask[::2, ::2], mask_step=2)
        assert decimated == found


def test_worklist_leaves_out_what_was_reviewed_or_corrected(tmp_path: Path) -> None:
    mask, confidence, info = frame()
    with_blobs(confidence)
    corrected = np.zeros_like(mask)
    y, x, height, width, _ = BLOBS[2]
    corrected[y : y + height, x : x + width] = 3
    first = ReviewedRegion.of_mask_pixels(info, *BLOBS[0][:4])
    y, x, height, width, _ = BLOBS[1]
    half = ReviewedRegion.of_mask_pixels(info, y, x, height // 2, width)
    with written_store(tmp_path / "a.plimseg", info, mask, confidence) as store:
        found = worklist(store, mask, reviewed=[first, half], corrected=corrected)
        assert boxes(found) == [BLOBS[1][:4], BLOBS[3][:4]]
        assert [r.rank for r in found] == [1, 2]


def test_a_damaged_confidence_is_an_error(tmp_path: Path) -> None:
    mask, confidence, info = frame()
    with written_store(tmp_path / "a.plimseg", info, mask, with_blobs(confidence), 128) as store:
        chunk = store.path / "labels" / "confidence" / "0" / "c" / "1" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-9])
        with pytest.raises(DamagedStoreError, match="tiles of the confidence is damaged"):
            worklist(store, mask)


def test_what_is_not_computed_counts_as_sure(tmp_path: Path) -> None:
    mask, _, info = frame()
    layout = StoreLayout((128, 128), 512, has_probabilities=False, recipe="test")
    with MaskStore.create(tmp_path / "a.plimseg", info, layout) as store:
        assert worklist(store, mask) == []


def test_reviewed_share_counts_tissue_in_the_union_of_regions() -> None:
    mask, _, info = frame((100, 100))
    mask[50:] = 9
    regions = [
        ReviewedRegion.of_mask_pixels(info, 0, 0, 25, 100),
        ReviewedRegion.of_mask_pixels(info, 0, 0, 100, 50),
    ]
    assert reviewed_share(mask, info, regions) == pytest.approx(0.75)
    assert reviewed_share(mask, info, []) == 0
    assert reviewed_share(np.zeros_like(mask), info, regions) == 0


@pytest.mark.parametrize("step", [1, 3, 8])
def test_reviewed_map_holds_the_pixels_whose_centres_lie_inside(step: int) -> None:
    _, _, info = frame((61, 47))
    region = ReviewedRegion(y=4.0 * 7, x=4.0 * 5 + 2.5, height=4.0 * 20, width=4.0 * 30)
    centres_y = (np.arange(0, 61, step) + 0.5) * 4
    centres_x = (np.arange(0, 47, step) + 0.5) * 4
    inside_y = (centres_y >= region.y) & (centres_y < region.y + region.height)
    inside_x = (centres_x >= region.x) & (centres_x < region.x + region.width)
    np.testing.assert_array_equal(
        reviewed_map([region], info, step), inside_y[:, None] & inside_x[None, :]
    )
