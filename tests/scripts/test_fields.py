"""Fields of the colorectal model: pixels and class maps go together, unknown pixels are ignored."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from bundled_model import fields
from bundled_model.fields import (
    KINDS,
    NORMAL,
    OTHER,
    STROMA,
    TUMOR,
    Piece,
    field,
    outlined,
    relabeled,
    without_small,
    write_fields,
)
from bundled_model.mosaics import CLASSES, ORDER, SIDE

from plimseg_training.stages.pseudo_masks import IGNORED, read_pseudo_mask


def disc(side: int, radius: int) -> np.ndarray:
    y, x = np.indices((side, side)) - side // 2
    return y**2 + x**2 <= radius**2


def gland(tag: str) -> Piece:
    """Return a dark disc on bright stroma."""
    inside = disc(90, 30)
    pixels = np.full((90, 90, 3), 200, np.uint8)
    pixels[inside] = 60 if tag == "TUM" else 90
    classes = outlined(inside, ORDER.index(tag))
    return Piece(pixels, classes, tag, (tag, "STR"), "pt1", f"one {tag}")


def flat(tag: str, source: str, value: int) -> Piece:
    pixels = np.full((224, 224, 3), value, np.uint8)
    return Piece(pixels, np.full((224, 224), ORDER.index(tag), np.int16), tag, (tag,), source)


def pieces() -> list[Piece]:
    # gray levels 20 apart, so that one can see which piece a pixel is from
    tiles = [flat(tag, "tiles", 30 + 20 * number) for number, tag in enumerate(ORDER)]
    return [*tiles, gland("TUM"), gland("NORM"), flat("NORM", "colon", 50)]


@pytest.fixture(autouse=True)
def unstained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "stain_jitter", lambda pixels, random: pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_is_the_same_for_a_seed_and_hides_what_is_unknown(kind: str) -> None:
    first, same, other = (field(pieces(), kind, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first[0].shape == (SIDE, SIDE, 3)
    assert first[1].shape == (SIDE, SIDE)
    assert (first[0] == same[0]).all()
    assert (first[1] == same[1]).all()
    assert (first[1] != other[1]).any() or kind == "colon"
    assert first[1].min() >= IGNORED
    assert (first[1] >= 0).mean() > 0.5


def test_the_classes_of_a_mosaic_are_those_of_its_pixels() -> None:
    tiles = [piece for piece in pieces() if piece.source == "tiles"]
    pixels, classes = field(tiles, "mosaic", np.random.default_rng(0))
    assert (np.abs(pixels[..., 0].astype(int) - (30 + 20 * classes)) <= 1).all()
    assert len(np.unique(classes)) > 2


def test_glands_of_one_kind_are_pasted_with_their_outlines() -> None:
    pixels, classes = field(pieces(), "glands", np.random.default_rng(4))
    shown = set(np.unique(classes).tolist()) - {IGNORED, STROMA, ORDER.index("LYM")}
    assert len(shown) == 1
    tissue = shown.pop()
    assert tissue in (TUMOR, NORMAL)
    assert (np.abs(pixels[classes == tissue].astype(int) - (60 if tissue == 0 else 90)) <= 1).all()


def test_around_an_outline_is_stroma_and_beyond_is_unlabeled() -> None:
    inside = disc(120, 20)
    classes = outlined(inside, NORMAL)
    assert classes[60, 60] == NORMAL
    assert classes[60, 60 + 20] == IGNORED
    assert classes[60, 60 + 30] == STROMA
    assert classes[60, 60 + 50] == OTHER


def test_a_network_labels_only_what_is_open_and_only_with_allowed_classes() -> None:
    chances = np.zeros((9, 90, 90), np.float32)
    chances[NORMAL], chances[STROMA], chances[TUMOR] = 0.9, 0.08, 0.02
    chances[:, :20] = 0
    chances[STROMA, :20] = chances[TUMOR, :20] = 0.5
    before = gland("TUM")
    found = relabeled(before, lambda pixels: chances, least=0.6)
    known = before.classes != OTHER
    assert (found.classes[known] == before.classes[known]).all()
    opened = found.classes[~known]
    # normal mucosa is not allowed in a tumor; of the rest, stroma is surer, or both are unsure
    assert set(np.unique(opened).tolist()) == {IGNORED, STROMA}


def test_small_regions_get_the_class_around_them() -> None:
    classes = np.full((200, 200), STROMA)
    classes[50:150, 50:150] = TUMOR
    classes[90:100, 90:100] = STROMA
    classes[5:15, 5:15] = TUMOR
    wanted = np.full((200, 200), STROMA)
    wanted[50:150, 50:150] = TUMOR
    assert (without_small(classes) == wanted).all()


def test_a_folder_of_fields_has_tags_and_class_maps(tmp_path: Path) -> None:
    write_fields(tmp_path, pieces(), {"mosaic": 1, "glands": 1, "colon": 1}, seed=0, round_=1)
    rows = list(csv.DictReader((tmp_path / "tags.csv").open(encoding="utf-8")))
    assert [row["file"] for row in rows] == [f"{kind}-000.png" for kind in KINDS]
    for row in rows:
        path = tmp_path / "classes" / row["file"]
        classes = read_pseudo_mask(path, (SIDE, SIDE))
        shown = {CLASSES[ORDER[i]] for i in np.unique(classes[classes >= 0])}
        assert set(row["tags"].split("+")) == shown
