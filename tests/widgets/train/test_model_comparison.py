"""Two models' masks of a part of a slide: only classes that both have are compared."""

from __future__ import annotations

import numpy as np
import pytest

from napari_plimseg._widgets.train.model_comparison import PartMask, compared
from napari_plimseg.errors import ConfigError
from napari_plimseg.results.analysis.comparison import DISAGREE
from napari_plimseg.tissue import TissueClass, TissueClasses
from tests.support.masks import drawn, info_for


def part(
    title: str,
    names: str,
    rows: list[str],
    downsample: float = 4.0,
    first: tuple[int, int] = (0, 0),
) -> PartMask:
    classes = TissueClasses(
        tuple(TissueClass(name, (i, 2, 3)) for i, name in enumerate(names.split(), start=1))
    )
    mask = drawn(rows)
    info = info_for(mask, downsample=downsample, classes=classes, slide_shape=(400, 400))
    return PartMask(title, mask, info, first)


def test_classes_that_only_one_of_them_has_are_left_out_in_both_directions() -> None:
    one = part("one", "gland mucus stroma", ["1123", "1123"])
    other = part("other", "Stroma fat Gland", ["3311", "3231"])
    for found in (compared(one, other), compared(other, one)):
        assert sorted(found.left_out) == ["fat", "mucus"]
        assert found.result.counted == 5
    found = compared(one, other)
    assert [(r.name, r.iou, r.in_other, r.in_mask) for r in found.result.rows()] == [
        ("gland", 1.0, 3, 3), ("stroma", 1.0, 2, 2),
    ]  # fmt: skip


def test_they_are_compared_where_they_lie_on_the_slide() -> None:
    # the other one begins two pixels further right and is twice as coarse
    one = part("one", "gland stroma", ["112222", "112222"], first=(10, 20))
    other = part("other", "gland stroma", ["12"], downsample=8.0, first=(5, 11))
    found = compared(one, other)
    assert found.result.counted == 8
    np.testing.assert_array_equal(found.result.map == DISAGREE, drawn(["001100", "001100"]) == 1)
    assert found.result.agreement.pixel_accuracy == 0.5


@pytest.mark.parametrize(
    ("names", "rows", "says"),
    [
        ("fat muscle", ["12"], "no class name in common"),
        ("gland stroma", ["00"], "to the tissue"),
        ("gland fat", ["22"], "to the tissue"),
    ],
)
def test_what_can_not_be_compared_says_what_to_do(names: str, rows: list[str], says: str) -> None:
    one, other = part("one", "gland stroma", ["12"]), part("other", names, rows)
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ConfigError, match=says):
            compared(first, second)
