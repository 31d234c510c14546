"""Outlines: lossless, valid, with holes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_plimseg.errors import ExportError
from napari_plimseg.results.export.geojson import Outline, iter_outlines
from tests.support.masks import AWKWARD, blobs, drawn

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL_IDS = range(1, 256)


def painted(outlines: list[Outline], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Rasterise outlines again."""
    from rasterio.features import rasterize

    if not outlines:
        return np.zeros(shape, np.uint8)
    pairs = [(outline.polygon(), outline.mask_id) for outline in outlines]
    return rasterize(pairs, out_shape=shape, fill=0, dtype="uint8")  # type: ignore[no-any-return]


def check_lossless(mask: NDArray[np.uint8]) -> None:
    outlines = list(iter_outlines(mask, ALL_IDS))
    assert np.array_equal(painted(outlines, mask.shape), mask)
    pixels = np.zeros(256, np.int64)
    for outline in outlines:
        polygon = outline.polygon()
        assert polygon.is_valid
        assert polygon.area == outline.pixels
        pixels[outline.mask_id] += outline.pixels
    pixels[0] = (mask == 0).sum()
    assert np.array_equal(pixels, np.bincount(mask.ravel(), minlength=256))


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_masks(name: str) -> None:
    check_lossless(drawn(AWKWARD[name]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.sampled_from([0, 1, 2, 9, 255]),
    )
)
def test_random_masks(mask: NDArray[np.uint8]) -> None:
    check_lossless(mask)


def test_a_large_mask() -> None:
    check_lossless(blobs((700, 900)))


def test_corner_neighbours_are_two_regions_and_a_hole_is_kept() -> None:
    assert len(list(iter_outlines(drawn(AWKWARD["diagonal of two classes"]), [1]))) == 2
    (ring,) = iter_outlines(drawn(AWKWARD["hole"]), [1])
    assert len(ring.rings) == 2
    assert ring.pixels == 12


def test_only_wanted_ids_are_traced() -> None:
    mask = drawn(["1239"])
    assert {outline.mask_id for outline in iter_outlines(mask, [2, 9])} == {2, 9}
    assert not list(iter_outlines(mask, []))


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ExportError, match="can't be traced"):
        list(iter_outlines(np.zeros((2, 2), np.int32), [1]))
