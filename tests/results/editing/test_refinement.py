"""A region that gets another outline: what it takes in, and what it gives up to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.errors import ConfigError
from napari_plimseg.results.editing.operations import Part
from napari_plimseg.results.editing.refinement import RegionToRefine, region_to_refine
from tests.support.masks import drawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def outlined(
    before: list[str],
    at: tuple[int, int],
    outline: list[str],
    *,
    model: list[str] | None = None,
    background: int | None = None,
    side: int = 1024,
) -> list[str]:
    """Return what a mask is once the region at a place has another outline ('x')."""
    mask = drawn(before)
    said = None if model is None else drawn(model)
    read: Callable[[slice, slice], NDArray[np.uint8]] | None = None
    if said is not None:
        read = lambda rows, columns: said[rows, columns]  # noqa: E731
    region = region_to_refine(mask, *at, model=read, background=background, side=side)
    inside = np.array([[c == "x" for c in row] for row in outline])
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    cut = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    unchanged = mask.copy()
    edit = region.outlined(mask, int(rows[0]), int(columns[0]), cut)
    np.testing.assert_array_equal(mask, unchanged)
    edit.apply(mask)
    return ["".join("#" if v == 255 else str(v) for v in row) for row in mask]


@pytest.mark.parametrize(
    ("before", "outline", "after", "more"),
    [
        pytest.param(
            ["3333", "1122", "1122"], ["....", "xxx.", "xxx."], ["3333", "1112", "1112"], {},
            id="it takes in what it lacks",
        ),
        pytest.param(
            ["2222", "2112", "3113", "3333"], ["....", ".x..", ".x..", "...."],
            ["2222", "2122", "3133", "3333"], {}, id="the nearest neighbour gets what it gives up",
        ),
        pytest.param(
            ["2222", "2112", "3113", "3333"], ["....", ".x..", ".x..", "...."],
            ["2222", "2142", "3143", "3333"], {"model": ["4444"] * 4},
            id="the model knew another class",
        ),
        pytest.param(
            ["2222", "2112", "3113", "3333"], ["....", ".x..", ".x..", "...."],
            ["2222", "2122", "3133", "3333"], {"model": ["1111", "1101", "11#1", "1111"]},
            id="the model said the same or nothing",
        ),
        pytest.param(
            ["1111", "1111"], ["xx..", "xx.."], ["1155", "1155"], {"background": 5},
            id="without a neighbour it is background",
        ),
        pytest.param(
            ["1110", "111#"], ["xx..", "xx.."], ["1110", "111#"], {},
            id="without background either it stays",
        ),
        pytest.param(
            ["1122", "1122"], ["...x", "...x"], ["2221", "2221"], {},
            id="it may move altogether",
        ),
        pytest.param(
            ["1121", "1121"], [".x..", ".x.."], ["2121", "2121"], {},
            id="another region of the class is neither changed nor a neighbour",
        ),
    ],
)  # fmt: skip
def test_a_region_gets_another_outline(
    before: list[str], outline: list[str], after: list[str], more: dict[str, object]
) -> None:
    at = next((y, row.index("1")) for y, row in enumerate(before) if "1" in row)
    assert outlined(before, at, outline, **more) == after  # type: ignore[arg-type]


def test_of_a_large_region_only_the_part_around_the_place_is_refined() -> None:
    before = ["1111111111"] * 10
    assert region_to_refine(drawn(before), 2, 2, side=4).is_cut
    assert not region_to_refine(drawn(before), 2, 2, side=40).is_cut
    after = outlined(before, (2, 2), [".x........"] * 2, side=4, background=2)
    assert after == ["2122111111", "2122111111", "2222111111", "2222111111", *before[4:]]


@pytest.mark.parametrize("at", [(0, 2), (0, 3), (-1, 0), (0, 9)])
def test_where_there_is_no_class_it_says_so(at: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="no region"):
        region_to_refine(drawn(["120#"]), *at)


def test_what_was_painted_since_stays_unless_the_new_outline_holds_it() -> None:
    mask = drawn(["2222", "2112", "2112", "2222"])
    region = region_to_refine(mask, 1, 1)
    mask[1, 1:3] = 3
    region.outlined(mask, 1, 2, np.ones((2, 1), np.bool_)).apply(mask)
    np.testing.assert_array_equal(mask, drawn(["2222", "2312", "2212", "2222"]))


def test_parts_that_do_not_fit_are_a_mistake() -> None:
    part = Part(0, 0, np.ones((2, 2), np.bool_), 1)
    with pytest.raises(ConfigError, match=r"\(3, 3\) pixels"):
        RegionToRefine(part, np.zeros((3, 3), np.uint8))
