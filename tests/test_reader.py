"""The npe2 reader and the sample data, in a viewer model without a canvas."""

from __future__ import annotations

import copy
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest, read
from PIL import Image

import napari_plimseg
from napari_plimseg._reader import SLIDE_KEY, get_reader, read_slides
from napari_plimseg._sample_data import cmu_1_small_region
from napari_plimseg.errors import SlideError
from napari_plimseg.slides import Slide, open_slide
from napari_plimseg.slides.opening import filename_patterns, slides_in
from tests.support import slides as factory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npe2._pytest_plugin import TestPluginManager

LEVELS = factory.pyramid(factory.tissue(1200, 1000), 3)


def shown(path: Any) -> Any:
    """Return the layer that a viewer makes of a path."""
    reader = get_reader(path)
    assert reader is not None
    data, options, kind = reader(path)[0]
    assert kind == "image"
    return ViewerModel().add_image(data, **options)


def test_a_slide_becomes_one_multiscale_rgb_layer_in_micrometres(tmp_path):
    path = factory.write_ome_tiff(tmp_path / "a slide.ome.tif", LEVELS)
    layer = shown(str(path))
    assert layer.rgb
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [level.shape for level in LEVELS]
    assert tuple(layer.contrast_limits) == (0, 255)
    assert tuple(layer.scale) == (0.25, 0.25)
    assert tuple(layer.translate) == (0, 0)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert layer.name == "a slide.ome"
    np.testing.assert_array_equal(np.asarray(layer.data[2]), LEVELS[2])


def test_without_a_pixel_size_lengths_are_pixels(tmp_path):
    layer = shown(factory.write_tiff(tmp_path / "plain.tif", LEVELS))
    assert tuple(layer.scale) == (1, 1)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]


def test_the_layer_carries_the_slide_and_nothing_of_what_the_file_says(tmp_path):
    path = factory.write_svs(tmp_path / "s.svs", LEVELS)
    layer = shown(path)
    assert list(layer.metadata) == [SLIDE_KEY]
    slide = layer.metadata[SLIDE_KEY]
    assert isinstance(slide, Slide)
    assert slide.mpp == 0.499
    said = repr(layer.metadata) + repr(layer.as_layer_data_tuple()[1])
    assert str(tmp_path) not in said
    assert "Aperio Image Library" not in said


def test_a_layer_can_be_duplicated(tmp_path):
    layer = shown(factory.write_tiff(tmp_path / "d.tif", LEVELS))
    _, options, _ = copy.deepcopy(layer.as_layer_data_tuple())
    assert options["metadata"][SLIDE_KEY] is layer.metadata[SLIDE_KEY]


def test_a_slide_is_not_written_into_pickles(tmp_path):
    path = factory.write_tiff(tmp_path / "d.tif", LEVELS)
    with open_slide(path) as slide, pytest.raises(TypeError):
        pickle.dumps(slide)


def test_several_files_become_one_layer_each(tmp_path):
    paths = [factory.write_tiff(tmp_path / f"{i}.tif", LEVELS) for i in range(3)]
    reader = get_reader([str(p) for p in paths])
    assert reader is not None
    assert [options["name"] for _, options, _ in reader(paths)] == ["0", "1", "2"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_zarr_folder(tmp_path, version):
    layer = shown(factory.write_ome_zarr(tmp_path / "z.zarr", LEVELS, version=version))
    assert len(layer.data) == 3
    np.testing.assert_array_equal(np.asarray(layer.data[1][5:9, 7:20]), LEVELS[1][5:9, 7:20])


@pytest.mark.parametrize(
    "path",
    ["gone.svs", "", [], "notes.svs", ["sound.tif", "notes.svs"], "folder", None, 7, b"x", "\0"],
)
def test_get_reader_never_raises(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.svs").write_text("only notes")
    (tmp_path / "folder").mkdir()
    factory.write_tiff(tmp_path / "sound.tif", LEVELS)
    assert get_reader(path) is None


def test_a_refused_slide_says_why(tmp_path):
    path = tmp_path / "float.tif"
    factory.write_tiff(path, [np.zeros((64, 64, 3), np.float32)])
    reader = get_reader(path)
    assert reader is not None
    with pytest.raises(SlideError, match="floating-point"):
        reader(path)


def test_slides_opened_before_a_refused_one_are_closed(tmp_path, monkeypatch):
    good = factory.write_tiff(tmp_path / "good.tif", LEVELS)
    bad = factory.write_tiff(tmp_path / "bad.tif", [np.zeros((64, 64, 3), np.float32)])
    closed = []
    monkeypatch.setattr(Slide, "close", lambda self: closed.append(self.name))
    with pytest.raises(SlideError):
        read_slides([good, bad])
    assert closed == ["good.tif"]


@pytest.fixture
def plugins(npe2pm: TestPluginManager) -> Iterator[TestPluginManager]:
    """A plugin manager that knows this plugin only, from its manifest."""
    manifest = Path(napari_plimseg.__file__).parent / "napari.yaml"
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(manifest)):
        yield npe2pm


def test_npe2_finds_the_reader_by_the_manifest(plugins, tmp_path):
    for path in (
        factory.write_svs(tmp_path / "s.svs", LEVELS),
        factory.write_ome_tiff(tmp_path / "o.ome.tif", LEVELS),
        factory.write_ome_zarr(tmp_path / "z.zarr", LEVELS),
        factory.write_picture(tmp_path / "p.png", LEVELS[0]),
    ):
        [(data, options, kind)] = read([str(path)], stack=False)
        assert kind == "image"
        assert options["metadata"][SLIDE_KEY].name == path.name
        assert data[0].shape == LEVELS[0].shape


def test_npe2_finds_the_samples_by_the_manifest(plugins):
    found = {}
    for contribution in plugins.get_manifest("napari-plimseg").contributions.sample_data or []:
        [(data, _, _)] = contribution.open()
        found[contribution.key] = data[0].shape
    assert found == {"cmu_1_small_region": (2967, 2220, 3), "colorectal_tiles": (1568, 1120, 3)}


def test_manifest_and_table_of_readers_list_the_same_patterns(plugins):
    [reader] = plugins.get_manifest("napari-plimseg").contributions.readers or []
    assert reader.accepts_directories
    assert sorted(reader.filename_patterns) == sorted(filename_patterns())


def test_the_sample_opens_offline():
    [(data, options, kind)] = cmu_1_small_region()
    layer = ViewerModel().add_image(data, **options)
    assert kind == "image"
    assert layer.data[0].shape == (2967, 2220, 3)
    assert max(layer.data[-1].shape) <= 2048
    assert tuple(layer.scale) == (0.499, 0.499)


def test_real_slides_open_as_layers(shared_data):
    names = ("colon_polyp_crop.tif", "fluo_DAPI.ndpi", "tcga-cr-7395-01a-01-ts1.svs",
             "CMU-1-Small-Region-dicom")  # fmt: skip
    for name in names:
        layer = shown(shared_data / "wsi" / name)
        assert layer.thumbnail.std() > 10, name


def test_patterns_cover_the_names_of_the_formats(shared_data: Path):
    import fnmatch

    names = ["a.svs", "b.NDPI".lower(), "c.ome.tif", "d.ome.tiff", "e.qptiff", "f.zarr",
             "g.ome.zarr", "h.mrxs", "i.jpeg", "j.dcm"]  # fmt: skip
    names += [p.name for p in (shared_data / "wsi").iterdir() if p.is_file()]
    for name in names:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in filename_patterns()), name


@pytest.mark.parametrize("name", ["a.mask.ome.tif", "A.MASK.OME.TIF", "b.TIFF", "no ending"])
def test_an_exported_mask_opens_as_labels_where_it_was(name: str, tmp_path: Path) -> None:
    from napari_plimseg.results.export.label_tiff import export_label_tiff
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.slides import Region
    from napari_plimseg.tissue import COLORECTAL

    info = MaskInfo(
        slide_name="a.svs",
        slide_fingerprint="0",
        slide_shape=(800, 1200),
        bounds=Region(0, 0, 800, 1200),
        mpp=0.25,
        shape=(100, 150),
        downsample=8.0,
        classes=COLORECTAL,
    )
    mask = np.zeros((100, 150), np.uint8)
    mask[20:40, 30:60] = 3
    path = tmp_path / name
    export_label_tiff(tmp_path / "a.mask.ome.tif", mask, info).rename(path)
    reader = get_reader(str(path))
    assert reader is not None
    ((data, options, kind),) = reader(str(path))
    assert kind == "labels"
    layer = ViewerModel().add_labels(data, **options)
    np.testing.assert_array_equal(layer.data, mask)
    assert layer.scale.tolist() == [2.0, 2.0]
    assert layer.translate.tolist() == [0.875, 0.875]
    assert layer.metadata["plimseg_mask_info"] == info
    assert layer.colormap.map(3).tolist() == pytest.approx([1.0, 165 / 255, 0.0, 1.0])
    assert layer.colormap.map(9)[3] == 0
    with open_slide(path) as slide:
        assert not slide.is_brightfield
    assert list(slides_in(tmp_path)) == []


def test_folders_of_the_system_hold_no_slides(tmp_path: Path) -> None:
    slide = tmp_path / "a.png"
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(slide)
    for name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", ".Trash"):
        (tmp_path / name).mkdir()
        shutil.copy(slide, tmp_path / name / "thumbnail.png")
    shutil.copy(slide, tmp_path / "._a.png")
    assert list(slides_in(tmp_path)) == [slide]
