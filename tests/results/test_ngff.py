from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_plimseg.results import ngff
from napari_plimseg.slides.readers.omezarr import OmeZarrSlide
from tests.results.test_mask_store import make_info
from tests.support.ngff_rules import check_image, check_labels

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1100, 701)
INFO = make_info(shape=SHAPE, slide_shape=(8800, 5608))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A confidence as image with its two label images, written through Zarr."""
    levels = ngff.levels_of(SHAPE)
    attributes: dict[str, dict[str, Any]] = {
        "": ngff.image_attributes(INFO, levels, "now", name="image", prefix="labels/confidence/"),
        "labels": ngff.labels_attributes(["classes", "confidence"]),
    }
    mask = np.random.default_rng(0).integers(0, 6, SHAPE, dtype=np.uint8)
    for name in ("classes", "confidence"):
        attributes[f"labels/{name}"] = ngff.label_attributes(INFO, levels, "now", name=name)
        for level in levels:
            folder = tmp_path / "labels" / name / level.path
            folder.mkdir(parents=True)
            (folder / "zarr.json").write_bytes(ngff.array_json(level.shape, (256, 256), "yx"))
            array = zarr.open_array(folder, mode="r+")
            array[:] = mask[:: level.factor, :: level.factor]
    for path, content in attributes.items():
        (tmp_path / path / "zarr.json").write_bytes(ngff.group_json(content))
    return tmp_path


def test_levels_halve_until_they_are_small() -> None:
    levels = ngff.levels_of(SHAPE)
    assert [level.shape for level in levels] == [(1100, 701), (550, 351), (275, 176)]
    assert [level.factor for level in levels] == [1, 2, 4]
    for level in levels:
        assert np.empty(SHAPE, "?")[:: level.factor, :: level.factor].shape == level.shape
    assert ngff.levels_of((512, 9)) == (ngff.Level("0", (512, 9), 1),)


def test_the_tree_follows_the_standard(tree: Path) -> None:
    check_image(tree)
    assert check_labels(tree) == ["classes", "confidence"]


def test_each_pixel_of_each_level_is_at_its_place() -> None:
    item = ngff.multiscale(INFO, ngff.levels_of(SHAPE), name="m", leading="c")
    for level, dataset in zip(ngff.levels_of(SHAPE), item["datasets"], strict=True):
        scale, translation = dataset["coordinateTransformations"]
        # the pixels' corner is the slide's corner: half a level-0 pixel before the origin
        size = scale["scale"][1]
        assert translation["translation"][1] - size / 2 == pytest.approx(-0.25 / 2)
        assert size == pytest.approx(0.25 * 8 * level.factor)
        assert (scale["scale"][0], translation["translation"][0]) == (1, 0)
    shift = item["datasets"][0]["coordinateTransformations"][1]["translation"][1:]
    assert tuple(shift) == INFO.napari_translate


def test_without_a_pixel_size_there_is_no_unit() -> None:
    info = make_info(mpp=None)
    item = ngff.multiscale(info, ngff.levels_of(info.shape), name="m")
    assert all("unit" not in axis for axis in item["axes"])
    assert item["datasets"][0]["coordinateTransformations"][0]["scale"] == [8.0, 8.0]


def test_labels_hold_name_and_color_of_each_class() -> None:
    label = ngff.class_label(INFO.classes)
    colors = {row["label-value"]: row["rgba"] for row in label["colors"]}
    names = {row["label-value"]: row["class"] for row in label["properties"]}
    for mask_id, tissue_class in enumerate(INFO.classes, 1):
        assert colors[mask_id] == [*tissue_class.color, 255]
        assert names[mask_id] == tissue_class.name
    assert colors[0][3] == 0
    assert (names[0], names[255]) == ("not computed", "unreadable")


def test_the_older_version_holds_its_version_where_it_belongs() -> None:
    levels = ngff.levels_of(SHAPE)
    found = ngff.label_attributes(INFO, levels, "now", version="0.4", leading="c")
    assert "ome" not in found
    assert found["multiscales"][0]["version"] == found["image-label"]["version"] == "0.4"
    assert len(found["multiscales"][0]["axes"]) == 3
    assert ngff.labels_attributes(["a"], version="0.4") == {"labels": ["a"]}


def test_nothing_but_the_listed_fields_leaves() -> None:
    found = ngff.provenance(INFO, "now")
    assert set(found) == {
        "software", "created", "model_name", "model_identity", "slide_name", "slide_fingerprint",
        "slide_shape", "mpp", "downsample", "classes",
    }  # fmt: skip


def test_our_reader_of_slides_takes_the_tree(tree: Path) -> None:
    with OmeZarrSlide(tree) as slide:
        assert slide.mpp == pytest.approx(2.0)
        assert slide.shape == SHAPE
