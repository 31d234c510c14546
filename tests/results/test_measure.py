"""Areas and agreement, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import zarr

from napari_plimseg.errors import ConfigError
from napari_plimseg.results.measure import Agreement, agreement, area_table, count_ids
from napari_plimseg.tissue import BCSS_WSSS, GLAS
from tests.support.masks import blobs, drawn, info_for

TRUTH = drawn(["1122", "1122", "3344", "33#0"])
MASK = drawn(["1112", "1122", "3344", "3400"])


def test_areas_of_each_class_and_of_what_is_no_tissue() -> None:
    mask = drawn(["1155", "1200", "22##"])
    rows = area_table(mask, info_for(mask, classes=BCSS_WSSS, downsample=4.0, mpp=0.5))
    found = {r.name: (r.mask_id, r.kind, r.pixels, r.mm2, r.percent_of_tissue) for r in rows}
    pixel = (2 / 1000) ** 2
    assert found == {
        "tumour": (1, "tissue", 3, 3 * pixel, 50.0),
        "stroma": (2, "tissue", 3, 3 * pixel, 50.0),
        "lymphocytes": (3, "tissue", 0, 0.0, 0.0),
        "necrosis": (4, "tissue", 0, 0.0, 0.0),
        "background": (5, "background", 2, 2 * pixel, None),
        "not computed": (0, "not computed", 2, 2 * pixel, None),
        "unreadable": (255, "unreadable", 2, 2 * pixel, None),
    }


def test_unknown_pixel_size_gives_no_mm2_and_stray_ids_are_named() -> None:
    mask = drawn(["17"])
    rows = area_table(mask, info_for(mask, classes=GLAS, mpp=None))
    assert all(row.mm2 is None for row in rows)
    assert rows[-1].kind == "unknown"
    assert rows[-1].name == "id 7, no class"
    assert sum(row.pixels for row in rows) == mask.size


def test_a_mask_without_tissue_has_zero_percent() -> None:
    mask = drawn(["00"])
    assert [r.percent_of_tissue for r in area_table(mask, info_for(mask))][:2] == [0.0, 0.0]


def test_counting_reads_zarr_in_bands() -> None:
    mask = blobs((1300, 700))
    lazy = zarr.array(mask, chunks=(256, 256))
    assert np.array_equal(count_ids(lazy), np.bincount(mask.ravel(), minlength=256))


def test_agreement_by_hand() -> None:
    found = agreement([(TRUTH, MASK)], ["a", "b", "c", "d"])
    assert found.confusion.tolist() == [[4, 0, 0, 0], [1, 3, 0, 0], [0, 0, 3, 1], [0, 0, 0, 2]]
    iou = [4 / 5, 3 / 4, 3 / 4, 2 / 3]
    assert found.iou == pytest.approx(iou)
    assert found.dice == pytest.approx([2 * x / (1 + x) for x in iou])
    assert found.miou == pytest.approx(np.mean(iou))
    assert found.mean_dice == pytest.approx(np.mean([2 * x / (1 + x) for x in iou]))
    assert found.dice_of_miou == pytest.approx(2 * np.mean(iou) / (1 + np.mean(iou)))
    assert found.dice_of_miou != pytest.approx(found.mean_dice)
    assert found.fwiou == pytest.approx((4 * iou[0] + 4 * iou[1] + 4 * iou[2] + 2 * iou[3]) / 14)
    assert found.pixel_accuracy == pytest.approx(12 / 14)


def test_protocols_a_and_b() -> None:
    truth, mask = drawn(["1129"]), drawn(["1211"])
    a = agreement([(truth, mask)], ["x", "y"], ignore=(0, 9))
    assert a.confusion.tolist() == [[1, 1], [1, 0]]
    b = agreement([(truth, mask + 0)], ["x", "y", *"cdefgh", "background"])
    assert b.iou[0] == pytest.approx(1 / 4)  # the false positive on background counts
    assert b.miou == pytest.approx(np.mean([1 / 4, 0, 0]))
    assert math.isnan(b.iou[2])


def test_images_are_pooled_not_averaged() -> None:
    one = agreement([(drawn(["1"]), drawn(["1"]))], ["a", "b"])
    two = agreement([(drawn(["1122"]), drawn(["2122"]))], ["a", "b"])
    both = agreement([(drawn(["1"]), drawn(["1"])), (drawn(["1122"]), drawn(["2122"]))], ["a", "b"])
    assert np.array_equal((one + two).confusion, both.confusion)
    assert both.iou[0] == pytest.approx(2 / 3)


def test_ids_may_begin_at_zero() -> None:
    found = agreement([(drawn(["0113"]), drawn(["0110"]))], ["a", "b"], first_id=0, ignore=(3,))
    assert found.pixel_accuracy == 1.0


def test_nothing_to_count_is_no_score() -> None:
    found = agreement([], ["a"])
    assert all(math.isnan(v) for v in (found.miou, found.fwiou, found.pixel_accuracy))


@pytest.mark.parametrize(
    ("truth", "mask", "says"),
    [(["12"], ["121"], "for a mask"), (["13"], ["11"], "id 3"), (["11"], ["14"], "id 4")],
)
def test_wrong_pairs_are_refused(truth: list[str], mask: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        agreement([(drawn(truth), drawn(mask))], ["a", "b"])


def test_agreements_of_different_classes_do_not_add() -> None:
    with pytest.raises(ConfigError):
        agreement([], ["a"]) + agreement([], ["b"])
    with pytest.raises(ConfigError):
        Agreement(np.zeros((2, 2), np.int64), ("a",))
