"""What napari's save dialog writes for labels layers, ours and others'."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_plimseg import _writer
from napari_plimseg.errors import ExportError
from napari_plimseg.results.export.formats import FORMATS, Format
from napari_plimseg.results.export.label_tiff import read_label_tiff
from tests.support.masks import blobs, drawn, info_for

if TYPE_CHECKING:
    from pathlib import Path

    from npe2._pytest_plugin import TestPluginManager

WRITERS = {
    ".ome.tif": _writer.write_ome_tiff,
    ".geojson": _writer.write_geojson,
    ".csv": _writer.write_csv,
}


def save(layer: Labels, path: Path) -> list[str]:
    data, meta, _ = layer.as_layer_data_tuple()
    write = next(w for ending, w in WRITERS.items() if path.name.endswith(ending))
    return write(str(path), data, meta)


def our_layer() -> Labels:
    mask = blobs((60, 80))
    info = info_for(mask)
    return Labels(
        mask,
        scale=info.napari_scale,
        translate=info.napari_translate,
        units=("um", "um"),
        metadata={_writer.INFO_KEY: info},
    )


@pytest.mark.parametrize("ending", WRITERS)
def test_our_layer_is_written_with_its_classes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"case{ending}"
    layer = our_layer()
    assert save(layer, path) == [str(path)]
    text = path.read_bytes()
    assert b"tumour epithelium" in text
    if ending == ".ome.tif":
        mask, info = read_label_tiff(path)
        assert np.array_equal(mask[:], layer.data)
        assert info == layer.metadata[_writer.INFO_KEY]


@pytest.mark.parametrize("ending", WRITERS)
def test_napari_saves_with_the_writer_of_the_ending(
    tmp_path: Path, ending: str, npe2pm: TestPluginManager
) -> None:
    with npe2pm.tmp_plugin(package="napari-plimseg"):
        saved = our_layer().save(str(tmp_path / f"case{ending}"), plugin="napari-plimseg")
    assert saved == [str(tmp_path / f"case{ending}")]
    assert b"tumour epithelium" in (tmp_path / f"case{ending}").read_bytes()


def test_manifest_and_table_of_exports_list_the_same_writers(npe2pm: TestPluginManager) -> None:
    with npe2pm.tmp_plugin(package="napari-plimseg") as plugin:
        contributions = plugin.manifest.contributions
        names = {command.id: command.python_name for command in contributions.commands or []}
        listed = {
            (names[w.command], w.display_name, tuple(w.filename_extensions))
            for w in contributions.writers or []
        }
    assert listed == {
        (
            f"napari_plimseg._writer:write_{key.replace('-', '_')}",
            f"Tissue mask, {kind.title}",
            (kind.extension,),
        )
        for key, kind in FORMATS.items()
        if not kind.needs_slide
    }


def test_a_new_row_has_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, mask: Any, info: Any, slide: Any, at: str) -> Path:
        path.write_text(info.classes.names[0])
        return path

    monkeypatch.setitem(FORMATS, "my-text", Format("Text", "A name.", ".names.txt", ".txt", write))
    data, meta, _ = our_layer().as_layer_data_tuple()
    assert _writer.write_my_text(str(tmp_path / "a.txt"), data, meta) == [str(tmp_path / "a.txt")]
    assert (tmp_path / "a.txt").read_text() == "tumour epithelium"
    for name in ("write_png", "write_nothing", "csv"):  # a picture needs the slide
        with pytest.raises(AttributeError):
            getattr(_writer, name)


def test_painting_over_our_layer_is_written(tmp_path: Path) -> None:
    layer = our_layer()
    layer.data[10:20, 10:20] = 4
    save(layer, tmp_path / "a.ome.tif")
    mask, _ = read_label_tiff(tmp_path / "a.ome.tif")
    assert (mask[10:20, 10:20] == 4).all()


def test_a_layer_that_shows_every_second_pixel_is_refused(tmp_path: Path) -> None:
    layer = our_layer()
    part = Labels(layer.data[::2, ::2], metadata=dict(layer.metadata))
    with pytest.raises(ExportError, match=r"\(30, 40\).*dock"):
        save(part, tmp_path / "a.csv")


def test_labels_of_others_become_classes_in_their_colours(tmp_path: Path) -> None:
    colors: dict[int | None, Any] = {None: "transparent", 1: (1, 0, 0, 1), 2: (0, 0, 1, 1)}
    layer = Labels(
        drawn(["0122"]).astype(np.int32),
        scale=(2, 2),
        units=("mm", "mm"),
        colormap=DirectLabelColormap(color_dict=colors),
        name="cells",
    )
    save(layer, tmp_path / "a.ome.tif")
    mask, info = read_label_tiff(tmp_path / "a.ome.tif")
    assert np.array_equal(mask[:], layer.data)
    assert info.classes.names == ("label 1", "label 2")
    assert info.classes.colors == ((255, 0, 0), (0, 0, 255))
    assert info.mpp is None  # 2 mm is no pixel size of a slide
    assert info.slide_name == "cells"


def test_areas_of_others_follow_their_units(tmp_path: Path) -> None:
    layer = Labels(drawn(["0122"]), scale=(2, 2), units=("um", "um"))
    save(layer, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["class"] == "label 2"
    assert float(rows[1]["area_mm2"]) == pytest.approx(2 * 4e-6)
    assert rows[1]["um_per_pixel"] == "2"


@pytest.mark.parametrize(
    ("scale", "translate", "units", "square"),
    [
        # a level with 4 pixels of the image a side, its corner on the image's corner
        ((4, 4), (1.5, 1.5), "pixel", (4, 0, 8, 4)),
        ((4, 4), (101.5, 1.5), "pixel", (4, 100, 8, 104)),
        ((1, 1), (0, 0), "pixel", (1, 0, 2, 1)),
        ((0.5, 0.5), (5, 10), "um", (21, 10, 22, 11)),
    ],
)
def test_outlines_of_others_lie_where_the_layer_does(
    tmp_path: Path,
    scale: tuple[float, float],
    translate: tuple[float, float],
    units: str,
    square: tuple[float, float, float, float],
) -> None:
    layer = Labels(drawn(["01"]), scale=scale, translate=translate, units=(units, units))
    save(layer, tmp_path / "a.geojson")
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert (*ring.min(0), *ring.max(0)) == square


def test_the_finest_level_of_a_multiscale_layer_is_taken(tmp_path: Path) -> None:
    fine = blobs((64, 64))
    save(Labels([fine, fine[::2, ::2]], multiscale=True), tmp_path / "a.ome.tif")
    assert np.array_equal(read_label_tiff(tmp_path / "a.ome.tif")[0][:], fine)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (np.ones((2, 3, 4), np.uint8), {}, "3 dimensions"),
        (np.zeros((3, 4), np.uint8), {}, "labels up to 0"),
        (np.full((3, 4), 201), {}, "labels up to 201"),
        (np.full((3, 4), -1), {}, "labels"),
        (np.ones((3, 4), np.uint8), {"rotate": 30}, "rotated"),
        (np.ones((3, 4), np.uint8), {"shear": [0.2]}, "sheared"),
        (np.ones((3, 4), np.uint8), {"scale": (1, 2)}, "not square"),
    ],
)
@pytest.mark.parametrize("ending", WRITERS)
def test_layers_that_are_no_mask_are_refused_in_one_sentence(
    tmp_path: Path, data: Any, options: dict[str, Any], says: str, ending: str
) -> None:
    with pytest.raises(ExportError, match=says):
        save(Labels(data, name="mine", **options), tmp_path / f"a{ending}")
    assert not list(tmp_path.iterdir())
