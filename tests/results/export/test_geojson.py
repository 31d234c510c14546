"""GeoJSON for QuPath: exact areas, the right place, the expected keys."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from shapely.geometry import shape

from napari_plimseg.results.export.geojson import export_geojson
from napari_plimseg.tissue import BCSS_WSSS, COLORECTAL
from tests.support.masks import AWKWARD, blobs, drawn, info_for

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo


def features(folder: Path, mask: NDArray[np.uint8], info: MaskInfo, **options: Any) -> list[Any]:
    path = export_geojson(folder / "m.geojson", mask, info, **options)
    collection = json.loads(path.read_text("utf-8"))
    assert collection["type"] == "FeatureCollection"
    found: list[Any] = collection["features"]
    return found


def areas(found: list[Any]) -> dict[str, float]:
    total: dict[str, float] = {}
    for feature in found:
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        name = feature["properties"]["classification"]["name"]
        total[name] = total.get(name, 0) + geometry.area
    return total


@pytest.mark.parametrize("group", ["region", "class"])
@pytest.mark.parametrize("name", AWKWARD)
def test_areas_are_the_pixel_areas_exactly(tmp_path: Path, name: str, group: str) -> None:
    mask = drawn(AWKWARD[name])
    found = features(tmp_path, mask, info_for(mask, downsample=4.0), group=group)
    counts = np.bincount(mask.ravel(), minlength=256)
    expected = {COLORECTAL[i - 1].name: 16 * counts[i] for i in range(1, 9) if counts[i]}
    assert areas(found) == expected


@pytest.mark.parametrize("downsample", [1.0, 2.0, 4.00012, 3.7, 0.5])
def test_areas_of_a_large_mask(tmp_path: Path, downsample: float) -> None:
    mask = blobs((400, 500))
    info = info_for(mask, downsample=downsample, corner=(12.5, 700))
    found = features(tmp_path, mask, info)
    counts = np.bincount(mask.ravel(), minlength=256)
    for name, area in areas(found).items():
        pixels = int(counts[COLORECTAL.mask_id(name)])
        assert area == pytest.approx(pixels * downsample**2, rel=1e-9)
        rows = [f["properties"] for f in found if f["properties"]["name"] == name]
        assert sum(r["measurements"]["Mask pixels"] for r in rows) == pixels
        um2 = sum(r["measurements"]["Area um^2"] for r in rows)
        assert um2 == pytest.approx(pixels * (downsample * 0.25) ** 2)


def test_one_annotation_as_qupath_wants_it(tmp_path: Path) -> None:
    mask = drawn(["000", "022"])
    (feature,) = features(tmp_path, mask, info_for(mask, downsample=4.0, corner=(3, 2)))
    ring = feature["geometry"]["coordinates"][0]
    assert feature["geometry"]["type"] == "Polygon"
    assert {tuple(point) for point in ring} == {(2, 1), (10, 1), (10, 5), (2, 5)}
    assert ring[0] == ring[-1]
    assert all(isinstance(v, int) for point in ring for v in point)
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    assert feature["properties"] == {
        "objectType": "annotation",
        "name": "normal mucosa",
        "classification": {"name": "normal mucosa", "color": [0, 160, 110]},
        "isLocked": False,
        "measurements": {"Mask pixels": 2, "Area px^2": 32.0, "Area um^2": 2.0},
    }


def test_ids_are_unique_and_stay_the_same(tmp_path: Path) -> None:
    mask = blobs((200, 200))
    first = [f["id"] for f in features(tmp_path, mask, info_for(mask))]
    again = [f["id"] for f in features(tmp_path, mask, info_for(mask))]
    assert first == again
    assert len(set(first)) == len(first) > 5


def test_one_annotation_for_each_class(tmp_path: Path) -> None:
    mask = drawn(["101", "020", "101"])
    found = features(tmp_path, mask, info_for(mask), group="class")
    assert [f["properties"]["name"] for f in found] == ["tumour epithelium", "normal mucosa"]
    assert found[0]["geometry"]["type"] == "MultiPolygon"
    assert found[0]["properties"]["measurements"]["Mask pixels"] == 4


def test_what_is_no_tissue_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    mask = drawn(["15#0"])
    info = info_for(mask, classes=BCSS_WSSS)
    assert set(areas(features(tmp_path, mask, info))) == {"tumour"}
    every = features(tmp_path, mask, info, with_background=True, with_unreadable=True)
    assert set(areas(every)) == {"tumour", "background", "unreadable"}


def test_unknown_pixel_size_gives_no_um(tmp_path: Path) -> None:
    mask = drawn(["1"])
    (feature,) = features(tmp_path, mask, info_for(mask, mpp=None))
    assert set(feature["properties"]["measurements"]) == {"Mask pixels", "Area px^2"}


def test_an_empty_mask_is_a_valid_file(tmp_path: Path) -> None:
    mask = drawn(["00"])
    assert features(tmp_path, mask, info_for(mask)) == []
