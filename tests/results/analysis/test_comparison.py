"""A mask against a truth, another result or a layer, checked against plain loops."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_plimseg.errors import ConfigError, PlimsegError
from napari_plimseg.results.analysis import comparison
from napari_plimseg.results.analysis.comparison import (
    AGREE,
    DISAGREE,
    NOTHING,
    ONLY_MASK,
    ONLY_OTHER,
    OtherMask,
    ResampledMask,
    compare,
    match_classes,
    read_other_mask,
)
from napari_plimseg.results.export.label_tiff import export_label_tiff
from napari_plimseg.tissue import GLAS, TissueClass, TissueClasses
from tests.support.masks import blobs, drawn, info_for
from tests.support.stores import written_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

THREE = TissueClasses(
    (
        TissueClass("gland", (1, 2, 3)),
        TissueClass("stroma", (4, 5, 6)),
        TissueClass("background", (7, 8, 9)),
    )
)


def slowly_resampled(other: OtherMask, shape: tuple[int, int], downsample: float):  # type: ignore[no-untyped-def]
    out = np.zeros(shape, int) - 1
    for i in range(shape[0]):
        for j in range(shape[1]):
            y = ((i + 0.5) * downsample - other.corner[0]) / other.downsample[0]
            x = ((j + 0.5) * downsample - other.corner[1]) / other.downsample[1]
            if 0 <= y < other.ids.shape[0] and 0 <= x < other.ids.shape[1]:
                out[i, j] = other.ids[int(y), int(x)]
    return out


@pytest.mark.parametrize(
    ("shape", "downsample", "corner"),
    [
        ((50, 60), 4.0, (0.0, 0.0)),
        ((200, 240), 1.0, (0.0, 0.0)),
        ((13, 16), 15.7, (0.0, 0.0)),
        ((20, 20), 3.3, (37.0, -12.5)),
        ((5, 5), 1.0, (1000.0, 0.0)),
    ],
)
def test_nearest_pixels(
    shape: tuple[int, int], downsample: float, corner: tuple[float, float]
) -> None:
    mask = np.ones((50, 60), np.uint8)
    other = OtherMask("o", blobs(shape, 3), (downsample, downsample), corner)
    resampled = ResampledMask(other, {i: i for i in range(1, 10)}, info_for(mask))
    expected = np.maximum(slowly_resampled(other, mask.shape, 4.0), 0)
    np.testing.assert_array_equal(resampled[0:50], expected)
    np.testing.assert_array_equal(resampled[17:31], expected[17:31])


def slow_scores(mask: NDArray, other: NDArray, mapping: dict[int, int], ids: range):  # type: ignore[no-untyped-def]
    pairs = [
        (mapping.get(int(o), 0), int(m)) for m, o in zip(mask.ravel(), other.ravel(), strict=True)
    ]
    pairs = [(o, m) for o, m in pairs if o in ids and m in ids]
    ious, dices = {}, {}
    for i in ids:
        both = sum(o == m == i for o, m in pairs)
        in_other, in_mask = sum(o == i for o, _ in pairs), sum(m == i for _, m in pairs)
        if in_other + in_mask:
            ious[i] = both / (in_other + in_mask - both)
            dices[i] = 2 * both / (in_other + in_mask)
    return ious, dices, sum(o == m for o, m in pairs) / len(pairs)


@pytest.mark.parametrize("count_background", [True, False])
def test_scores_are_those_of_a_plain_loop(count_background: bool) -> None:
    mask, there = blobs((70, 90), 1), blobs((70, 90), 2)
    mask[:5], there[-5:], there[30:33] = 0, 255, 0
    info = info_for(mask)
    mapping = {1: 3, 2: 2, 3: 1, 4: 4, 5: 0, 6: 6, 7: 8, 9: 9}
    result = compare(
        mask,
        info,
        OtherMask("o", there, (4.0, 4.0)),
        mapping,
        count_background=count_background,
    )
    ids = range(1, 10 if count_background else 9)
    ious, dices, accuracy = slow_scores(mask, there, mapping, ids)
    rows = {row.name: row for row in result.rows()}
    assert set(rows) == {info.classes.names[i - 1] for i in ious}
    for i, iou in ious.items():
        row = rows[info.classes.names[i - 1]]
        assert row.iou == pytest.approx(iou)
        assert row.dice == pytest.approx(dices[i])
    assert result.agreement.miou == pytest.approx(np.mean(list(ious.values())))
    assert result.agreement.mean_dice == pytest.approx(np.mean(list(dices.values())))
    assert result.agreement.pixel_accuracy == pytest.approx(accuracy)


def test_agreement_map_pixel_by_pixel() -> None:
    # 1 gland, 2 stroma, 3 background, 0 not computed
    mask = drawn(["1112", "3330", "0120"])
    there = drawn(["1203", "3100", "1300"])
    result = compare(
        mask, info_for(mask, classes=THREE), OtherMask("o", there, (4, 4)), {1: 1, 2: 2, 3: 3}
    )
    expected = [
        [AGREE, DISAGREE, ONLY_MASK, DISAGREE],
        [AGREE, DISAGREE, NOTHING, NOTHING],
        [ONLY_OTHER, DISAGREE, ONLY_MASK, NOTHING],
    ]
    np.testing.assert_array_equal(result.map, expected)
    assert result.counted == 6


def test_the_most_frequent_confusions_come_first() -> None:
    mask, there = drawn(["111222333"]), drawn(["122211133"])
    result = compare(
        mask, info_for(mask, classes=THREE), OtherMask("o", there, (4, 4)), {1: 1, 2: 2, 3: 3}
    )
    expected = [("gland", "stroma", 2), ("stroma", "gland", 2), ("gland", "background", 1)]
    assert result.confusions() == expected
    assert result.confusions(1) == expected[:1]


def test_a_large_map_shows_every_so_manyth_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, there = blobs((1300, 70), 1), blobs((1300, 70), 2)
    info, other = info_for(mask), OtherMask("o", there, (4.0, 4.0))
    mapping = match_classes(other, info)
    whole = compare(mask, info, other, mapping)
    monkeypatch.setattr(comparison, "MAP_SIDE", 500)
    thin = compare(mask, info, other, mapping)
    assert thin.map_step == 3
    np.testing.assert_array_equal(thin.map, whole.map[::3, ::3])
    np.testing.assert_array_equal(thin.agreement.confusion, whole.agreement.confusion)


def test_a_decimated_mask_is_compared_at_its_pixels() -> None:
    mask, there = blobs((90, 70), 1), blobs((90, 70), 2)
    info, other = info_for(mask), OtherMask("o", there, (4.0, 4.0))
    mapping = match_classes(other, info)
    result = compare(mask[::2, ::2], info, other, mapping, mask_step=2)
    plain = compare(mask, info, other, mapping)
    np.testing.assert_array_equal(result.map, plain.map[::2, ::2])
    assert result.pixel_area_mm2 == pytest.approx(4 * plain.pixel_area_mm2)


def test_equal_masks_agree_everywhere() -> None:
    mask = blobs((40, 40))
    info = info_for(mask)
    result = compare(mask, info, OtherMask("o", mask, (4, 4)), {i: i for i in range(1, 10)})
    assert result.agreement.miou == result.agreement.mean_dice == 1
    assert (result.map == AGREE).all()
    assert result.confusions() == []


def test_csv_holds_the_numbers() -> None:
    mask, there = blobs((40, 40), 1), blobs((40, 40), 2)
    info, other = info_for(mask), OtherMask("truth, by hand", there, (4, 4))
    result = compare(mask, info, other, match_classes(other, info))
    rows = list(csv.reader(io.StringIO(result.to_csv())))
    assert rows[0] == ["compared with", "truth, by hand"]
    values = {row[0]: row[1] for row in rows if len(row) > 1}
    assert float(values["mIoU"]) == pytest.approx(result.agreement.miou, abs=1e-4)
    start = next(i for i, row in enumerate(rows) if row and row[0].startswith("there"))
    confusion = np.array([[int(v) for v in row[1:]] for row in rows[start + 1 :]])
    np.testing.assert_array_equal(confusion, result.agreement.confusion)


def test_classes_are_matched_by_name_else_by_number() -> None:
    ids = drawn(["12340#"])
    info = info_for(ids, classes=THREE)
    named = OtherMask("o", ids, (4, 4), names={1: "Stroma ", 2: "GLAND", 3: "fat", 4: "background"})
    assert match_classes(named, info) == {1: 2, 2: 1, 3: 0, 4: 3}
    assert match_classes(OtherMask("o", ids, (4, 4)), info) == {
        0: 0,
        1: 1,
        2: 2,
        3: 3,
        4: 0,
        255: 0,
    }


@pytest.mark.parametrize("kind", ["store", "label TIFF", "TIFF", "16-bit TIFF", "PNG", "palette"])
def test_every_kind_of_file_gives_the_same_scores(kind: str, tmp_path: Path) -> None:
    mask, there = blobs((60, 80), 1), blobs((60, 80), 2)
    info = info_for(mask)
    if kind == "store":
        path = tmp_path / "b.plimseg"
        written_store(path, info, there, there).close()
    elif kind == "label TIFF":
        path = export_label_tiff(tmp_path / "b.ome.tif", there, info)
    elif kind.endswith("TIFF"):
        path = tmp_path / "b.tif"
        tifffile.imwrite(path, there.astype(np.uint16 if "16" in kind else np.uint8))
    else:
        path = tmp_path / "b.png"
        picture = Image.fromarray(there)
        if kind == "palette":
            picture.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
        picture.save(path)
    other = read_other_mask(path, info)
    result = compare(mask, info, other, match_classes(other, info))
    plain = compare(mask, info, OtherMask("o", there, (4, 4)), {i: i for i in range(1, 10)})
    np.testing.assert_array_equal(result.agreement.confusion, plain.agreement.confusion)


def write_bad(kind: str, folder: Path) -> Path:
    path = folder / f"bad.{'png' if 'PNG' in kind else 'tif'}"
    if kind == "missing":
        return path
    if kind == "colour PNG":
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path)
    elif kind == "float":
        tifffile.imwrite(path, np.zeros((60, 80), np.float32))
    elif kind == "large ids":
        tifffile.imwrite(path, np.full((60, 80), 300, np.uint16))
    elif kind == "other shape":
        tifffile.imwrite(path, np.ones((80, 60), np.uint8))
    elif kind == "text PNG":
        path.write_text("hello")
    elif kind == "cut":
        tifffile.imwrite(path, np.ones((60, 80), np.uint8))
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "other slide":
        mask = np.ones((30, 30), np.uint8)
        export_label_tiff(path, mask, info_for(mask))
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing", "does not exist"),
        ("colour PNG", "holds colors"),
        ("float", "holds colors or measurements"),
        ("large ids", "numbers from 300 to 300"),
        ("other shape", "not the shape of the slide"),
        ("text PNG", "it is not a PNG"),
        ("cut", "can't be read"),
        ("other slide", "another size"),
        ("folder", "not a mask store"),
    ],
)
def test_what_is_no_mask_of_the_slide_is_refused(kind: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(PlimsegError, match=text):
        read_other_mask(write_bad(kind, tmp_path), info_for(np.ones((60, 80), np.uint8)))


@pytest.mark.parametrize(
    ("other", "mapping", "text"),
    [
        (OtherMask("o", drawn(["11"]), (4, 4)), {1: 0}, "no class of 'o'"),
        (OtherMask("o", drawn(["11"]), (4, 4), (900, 900)), {1: 1}, "no pixel in common"),
    ],
)
def test_masks_that_can_not_be_compared(
    other: OtherMask, mapping: dict[int, int], text: str
) -> None:
    mask = drawn(["12"])
    with pytest.raises(ConfigError, match=text):
        compare(mask, info_for(mask, classes=GLAS), other, mapping)


def test_a_mask_id_of_no_class_is_named() -> None:
    mask = drawn(["19"])
    with pytest.raises(ConfigError, match="id 9 is none of the 2 classes"):
        compare(mask, info_for(mask, classes=GLAS), OtherMask("o", mask, (4, 4)), {1: 1})


@pytest.mark.parametrize(
    ("shape", "downsample"), [((3,), (1, 1)), ((0, 2), (1, 1)), ((2, 2), (0, 1))]
)
def test_an_impossible_other_mask_is_refused(
    shape: tuple[int, ...], downsample: tuple[float, float]
) -> None:
    with pytest.raises(ConfigError):
        OtherMask("o", np.zeros(shape, np.uint8), downsample)
