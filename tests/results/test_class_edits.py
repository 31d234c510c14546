from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.api import Segmentation
from napari_plimseg.errors import ConfigError, StoreError
from napari_plimseg.results import (
    ClassChange,
    ClassEdits,
    Corrections,
    MaskStore,
    corrected,
    mask_to_export,
    read_label_tiff,
    worklist,
)
from napari_plimseg.results.class_edits import FILE_NAME
from napari_plimseg.tissue import BACKGROUND, COLORECTAL, GLAS, TissueClass, TissueClasses
from tests.support.masks import info_for
from tests.support.stores import written_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = TissueClasses(
    (
        TissueClass("tumour", (200, 0, 0)),
        TissueClass("stroma", (0, 200, 0)),
        TissueClass("mucus", (0, 0, 200)),
        BACKGROUND,
    )
)
TUMOUR, STROMA, MUCUS, GLASS = range(1, 5)


def stripes() -> NDArray[np.uint8]:
    """Return four stripes of 16 columns: tumour, stroma, mucus, background."""
    return np.repeat(np.repeat(np.arange(1, 5, dtype=np.uint8)[None], 64, 0), 16, 1)


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    mask = stripes()
    info = info_for(mask, classes=CLASSES)
    made = written_store(tmp_path / "case 7.plimseg", info, mask, np.full_like(mask, 200))
    made.close()
    return MaskStore.open(made.path)


def shown(edits: ClassEdits) -> list[str]:
    """Return the name shown for each class of the model; "" for none."""
    return [edits.shown_name(name) for name in edits.own.names]


def test_every_edit_says_what_each_class_of_the_model_is_now() -> None:
    edits = ClassEdits.of(CLASSES)
    assert not edits.changes_ids
    edits = edits.renamed("stroma", "connective tissue")
    assert shown(edits) == ["tumour", "connective tissue", "mucus", "background"]
    assert not edits.changes_ids
    edits = edits.moved("mucus", 0)
    assert edits.classes.names == ("mucus", "tumour", "connective tissue", "background")
    assert edits.table[[0, 1, 2, 3, 4, 255]].tolist() == [0, 2, 3, 1, 4, 255]
    edits = edits.merged("mucus", "tumour")
    assert shown(edits) == ["tumour", "connective tissue", "tumour", "background"]
    assert edits.model_ids("tumour") == (TUMOUR, MUCUS)
    edits = edits.deleted("connective tissue")
    assert shown(edits) == ["tumour", "background", "tumour", "background"]
    assert edits.applied(stripes())[0, ::16].tolist() == [1, 2, 1, 2]
    with pytest.raises(ConfigError, match="last class"):
        edits.deleted("tumour")


def test_a_class_that_was_merged_follows_its_target() -> None:
    edits = ClassEdits.of(CLASSES).merged("mucus", "stroma").merged("stroma", "tumour")
    assert shown(edits) == ["tumour", "tumour", "tumour", "background"]
    edits = edits.undone()
    assert shown(edits) == ["tumour", "stroma", "stroma", "background"]


def test_where_there_is_no_background_a_deleted_class_is_empty() -> None:
    edits = ClassEdits.of(GLAS).deleted("gland")
    assert edits.applied(np.array([[1, 2]], np.uint8)).tolist() == [[0, 1]]


def test_edits_are_undone_and_redone_in_order() -> None:
    first = ClassEdits.of(CLASSES)
    steps = [
        first,
        first.renamed("tumour", "carcinoma"),
    ]
    steps.append(steps[-1].merged("mucus", "stroma"))
    steps.append(steps[-1].recolored({"stroma": (1, 2, 3)}))
    steps.append(steps[-1].with_class(TissueClass("nerve", (9, 9, 9))))
    steps.append(steps[-1].ignoring("nerve"))
    edits = steps[-1]
    for wanted in reversed(steps[:-1]):
        edits = edits.undone()
        assert edits.state == wanted.state
    with pytest.raises(ConfigError, match="can be undone"):
        edits.undone()
    for wanted in steps[1:]:
        edits = edits.redone()
        assert edits.state == wanted.state
    with pytest.raises(ConfigError, match="can be redone"):
        edits.redone()
    assert edits.undone().renamed("stroma", "x").redoable == ()


def test_what_changes_nothing_is_no_step() -> None:
    edits = ClassEdits.of(CLASSES)
    assert edits.renamed("tumour", "tumour").undoable == ()
    assert edits.moved("tumour", 0).undoable == ()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda e: e.renamed("tumour", "Stroma"), "occurs twice"),
        (lambda e: e.renamed("tumour", " "), "no name"),
        (lambda e: e.renamed("bone", "x"), "no class 'bone'"),
        (lambda e: e.merged("tumour", "tumour"), "with itself"),
        (lambda e: e.merged("background", "tumour"), "background can't be removed"),
        (lambda e: e.deleted("background"), "background can't be removed"),
        (lambda e: e.moved("background", 0), "always the last"),
    ],
)
def test_impossible_edits_are_refused(edit: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        edit(ClassEdits.of(CLASSES))  # type: ignore[operator]


def test_edits_are_kept_with_the_mask(store: MaskStore) -> None:
    edits = ClassEdits.of(CLASSES).merged("mucus", "stroma").renamed("stroma", "soft tissue")
    edits = edits.undone()
    edits.write(store.path)
    assert ClassEdits.read(store.path, CLASSES) == edits
    # the model's output stays what it was, and so does what other programs read
    assert np.array_equal(store.read_classes(), stripes())
    assert not store.damage()


@pytest.mark.parametrize("damage", ["{", "[]", "flip", "other", "contradiction"])
def test_damaged_edits_are_an_error_and_no_export(store: MaskStore, damage: str) -> None:
    ClassEdits.of(CLASSES).renamed("mucus", "slime").write(store.path)
    file = store.path / FILE_NAME
    text = file.read_text("utf-8")
    if damage == "other":
        ClassEdits.of(COLORECTAL).write(store.path)
    elif damage == "contradiction":
        from napari_plimseg.results import write_checked

        content = json.loads(text)["content"]
        content["state"]["origins"] = [1, 1, 2, 3]
        write_checked(file, content)
    else:
        file.write_text(damage if damage != "flip" else text.replace("slime", "slimy"), "utf-8")
    with pytest.raises(StoreError, match=rf"damaged.*Delete the file {FILE_NAME}"):
        mask_to_export(store)


def test_edits_of_a_newer_version_say_so(store: MaskStore) -> None:
    from napari_plimseg.results import write_checked

    ClassEdits.of(CLASSES).write(store.path)
    content = json.loads((store.path / FILE_NAME).read_text("utf-8"))["content"]
    write_checked(store.path / FILE_NAME, {**content, "format": 2})
    with pytest.raises(StoreError, match=r"newer version.*Update napari-plimseg"):
        mask_to_export(store)


def test_a_new_run_of_the_same_classes_keeps_the_edits(store: MaskStore) -> None:
    edits = ClassEdits.of(CLASSES).renamed("mucus", "slime")
    edits.write(store.path)
    info, layout = store.info, store.layout
    store.close()
    MaskStore.create(store.path, info, layout).close()
    assert ClassEdits.read(store.path, CLASSES) == edits


def test_exports_hold_the_edited_classes(store: MaskStore, tmp_path: Path) -> None:
    edits = (
        ClassEdits.of(CLASSES)
        .renamed("tumour", "carcinoma")
        .merged("mucus", "stroma")
        .recolored({"stroma": (1, 2, 3)})
        .moved("stroma", 0)
    )
    edits.write(store.path)
    result = Segmentation.open(store.path)
    assert result.info.classes.names == ("stroma", "carcinoma", "background")
    areas = {row.name: row.pixels for row in result.areas()}
    assert areas["stroma"] == 2 * 16 * 64
    assert areas["carcinoma"] == areas["background"] == 16 * 64
    files = result.export(tmp_path / "out", ["ome-tiff", "geojson", "csv"])
    mask, info = read_label_tiff(files[0])
    assert np.asarray(mask)[0, ::16].tolist() == [2, 1, 1, 3]
    assert info.classes == edits.classes
    features = json.loads(files[1].read_text("utf-8"))["features"]
    found = {f["properties"]["name"]: f["properties"]["classification"] for f in features}
    assert found["stroma"]["color"] == [1, 2, 3]
    assert set(found) == {"stroma", "carcinoma"}
    assert "mucus" not in files[2].read_text("utf-8")


def test_ignored_classes_are_in_no_area_and_no_export(store: MaskStore, tmp_path: Path) -> None:
    ClassEdits.of(CLASSES).ignoring("mucus").write(store.path)
    result = Segmentation.open(store.path)
    areas = {row.name: row for row in result.areas()}
    assert "mucus" not in areas
    assert areas["tumour"].percent_of_tissue == 50
    assert areas["not computed"].pixels == 0
    files = result.export(tmp_path / "out", ["ome-tiff", "geojson", "csv"])
    mask, info = read_label_tiff(files[0])
    assert np.asarray(mask)[0, ::16].tolist() == [1, 2, 0, 4]  # the other numbers stay
    assert info.classes[MUCUS - 1].ignored
    about = json.loads(files[1].read_text("utf-8"))
    assert {f["properties"]["name"] for f in about["features"]} == {"tumour", "stroma"}
    assert about["about"]["left_out"] == "mucus"
    assert "mucus" not in files[2].read_text("utf-8")


def test_ignored_classes_need_no_review(tmp_path: Path) -> None:
    mask = np.ones((200, 200), np.uint8)
    mask[:, 100:] = 2
    confidence = np.full_like(mask, 250)
    confidence[50:150, 120:180] = 60
    info = info_for(mask, classes=CLASSES, downsample=8.0, mpp=1.0)
    with written_store(tmp_path / "a.plimseg", info, mask, confidence) as made:
        assert worklist(made, mask)[0].classes == ("stroma",)
        ClassEdits.of(CLASSES).ignoring("stroma").write(made.path)
        assert worklist(made, mask) == []


def test_corrections_follow_their_class(store: MaskStore, tmp_path: Path) -> None:
    info = store.info
    painted = Corrections.open(tmp_path, info)
    patch = np.full((4, 4), MUCUS, np.uint8)
    painted.write(0, 0, patch)
    painted.write(8, 0, np.full((4, 4), STROMA, np.uint8))

    def now(edits: ClassEdits) -> list[str]:
        mask, _ = corrected(edits.applied(stripes()), edits.described(info), tmp_path)
        names = edits.classes.names
        return [names[mask[y, 0] - 1] for y in (0, 8, 16)]

    edits = ClassEdits.of(CLASSES)
    assert now(edits) == ["mucus", "stroma", "tumour"]
    edits = edits.renamed("mucus", "slime").moved("stroma", 0)
    assert now(edits) == ["slime", "stroma", "tumour"]
    assert now(edits.merged("slime", "stroma")) == ["stroma", "stroma", "tumour"]
    assert now(edits.deleted("slime")) == ["background", "stroma", "tumour"]
    # names that change places: what was painted before and after each stays its class
    swapped = edits.renamed("slime", "x").renamed("stroma", "slime").renamed("x", "stroma")
    assert now(swapped) == ["stroma", "slime", "tumour"]
    later = Corrections.open(tmp_path, swapped.described(info))
    later.write(16, 0, np.full((4, 4), swapped.classes.mask_id("stroma"), np.uint8))
    assert now(swapped) == ["stroma", "slime", "stroma"]
    for _ in range(3):
        swapped = swapped.undone()
    assert now(swapped) == ["slime", "stroma", "slime"]


def test_what_was_painted_under_a_name_stays_when_the_rename_is_undone(
    store: MaskStore, tmp_path: Path
) -> None:
    edits = ClassEdits.of(CLASSES).renamed("stroma", "fat").with_class(TissueClass("x", (1, 1, 1)))
    painted = Corrections.open(tmp_path, edits.described(store.info))
    painted.write(0, 0, np.full((2, 2), edits.classes.mask_id("fat"), np.uint8))
    painted.write(4, 0, np.full((2, 2), edits.classes.mask_id("x"), np.uint8))
    edits = edits.undone().undone()
    assert edits.classes == CLASSES
    mask, corrections = corrected(stripes(), edits.described(store.info), tmp_path)
    assert mask[0, 0] == STROMA
    assert mask[4, 0] == TUMOUR
    assert corrections.not_shown == {"x": 4}
    edits = edits.redone().redone()
    mask, _ = corrected(edits.applied(stripes()), edits.described(store.info), tmp_path)
    assert mask[4, 0] == edits.classes.mask_id("x")


def test_presets_give_colors_order_and_missing_classes() -> None:
    preset = TissueClasses(
        (
            TissueClass("Mucus", (7, 7, 7), ("mucin",)),
            TissueClass("nerve", (8, 8, 8)),
            TissueClass("tumour", (9, 9, 9), ignored=True),
            BACKGROUND,
        )
    )
    edits = ClassEdits.of(CLASSES).with_preset(preset)
    assert edits.classes.names == ("mucus", "nerve", "tumour", "stroma", "background")
    assert edits.classes[0].color == (7, 7, 7)
    assert edits.classes[2].ignored
    assert shown(edits) == ["tumour", "stroma", "mucus", "background"]
    assert edits.undone().classes == CLASSES


def test_a_change_maps_what_is_shown_from_one_state_to_the_next() -> None:
    edits = ClassEdits.of(CLASSES)
    merged = edits.merged("mucus", "stroma")
    change = ClassChange(edits.state, merged.state)
    table = change.table
    assert table is not None
    assert table[:5].tolist() == [0, 1, 2, 2, 3]
    assert [change.new_id(i) for i in range(5)] == [0, 1, 2, 0, 3]
    back = ClassChange(merged.state, edits.state)
    assert back.table is None  # stroma would become two classes
    assert back.names == {"tumour": "tumour", "stroma": "stroma", "background": "background"}


@pytest.mark.parametrize(
    ("edit", "moves", "regroups", "tissue"),
    [
        (lambda e: e.renamed("stroma", "fat"), False, False, False),
        (lambda e: e.recolored({"stroma": (1, 2, 3)}), False, False, False),
        (lambda e: e.moved("stroma", 0), True, False, False),
        (lambda e: e.with_class(TissueClass("fat", (1, 2, 3))), True, False, False),
        (lambda e: e.ignoring("stroma"), False, False, True),
        (lambda e: e.merged("mucus", "stroma"), True, True, True),
        (lambda e: e.deleted("stroma"), True, True, True),
    ],
)
def test_a_change_says_what_has_to_follow(
    edit: Callable[[ClassEdits], ClassEdits], moves: bool, regroups: bool, tissue: bool
) -> None:
    edits = ClassEdits.of(CLASSES)
    for before, after in ((edits, edit(edits)), (edit(edits), edits)):
        change = ClassChange(before.state, after.state)
        assert (change.moves_ids, change.regroups_pixels) == (moves, regroups)
        assert change.changes_tissue == tissue
