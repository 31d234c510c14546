"""The CSV of areas."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest

from napari_plimseg.results.export.area_csv import COLUMNS, export_csv
from napari_plimseg.tissue import BCSS_WSSS, TissueClass
from tests.support.masks import drawn, info_for

if TYPE_CHECKING:
    from pathlib import Path

MASK = drawn(["1125", "20##"])


def rows(folder: Path, **info: Any) -> list[dict[str, str]]:
    path = export_csv(folder / "a.csv", MASK, info_for(MASK, classes=BCSS_WSSS, **info))
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row(tmp_path: Path) -> None:
    found = rows(tmp_path, downsample=1000.0, mpp=1.0)
    assert tuple(found[0]) == COLUMNS
    assert [
        (r["class"], r["mask_id"], r["kind"], r["pixels"], r["area_mm2"], r["percent_of_tissue"])
        for r in found
    ] == [
        ("tumour", "1", "tissue", "2", "2.000000", "50.000"),
        ("stroma", "2", "tissue", "2", "2.000000", "50.000"),
        ("lymphocytes", "3", "tissue", "0", "0.000000", "0.000"),
        ("necrosis", "4", "tissue", "0", "0.000000", "0.000"),
        ("background", "5", "background", "1", "1.000000", ""),
        ("not computed", "0", "not computed", "1", "1.000000", ""),
        ("unreadable", "255", "unreadable", "2", "2.000000", ""),
    ]
    assert {(r["slide"], r["um_per_pixel"], r["method"]) for r in found} == {
        ("case 7.svs", "1000", "pixels counted in the mask")
    }


def test_unknown_pixel_size_leaves_areas_empty(tmp_path: Path) -> None:
    found = rows(tmp_path, mpp=None)
    assert {r["area_mm2"] for r in found} == {r["um_per_pixel"] for r in found} == {""}
    assert found[0]["pixels"] == "2"


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "+1", "-1", "@sum"])
def test_names_are_no_formulas(tmp_path: Path, name: str) -> None:
    classes = BCSS_WSSS.replaced("tumour", TissueClass(name, (1, 2, 3)))
    info = info_for(MASK, classes=classes, name=name)
    text = export_csv(tmp_path / "a.csv", MASK, info).read_text("utf-8")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert first["class"] == first["slide"] == f"'{name}"
    assert f"\n{name}" not in text


def test_commas_and_letters_survive(tmp_path: Path) -> None:
    name = 'Stroma, "dicht" µ 間質'
    classes = BCSS_WSSS.replaced("stroma", TissueClass(name, (1, 2, 3)))
    export_csv(tmp_path / "a.csv", MASK, info_for(MASK, classes=classes, name="caf\udce9.svs"))
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert [r["class"] for r in csv.DictReader(file)][1] == name
