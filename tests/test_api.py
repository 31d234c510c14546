"""The Python API: one call from a slide to areas, outlines and files."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from PIL import Image

import napari_plimseg
from napari_plimseg import (
    MaskStore,
    Region,
    Segmentation,
    TissueClass,
    TissueClasses,
    open_slide,
    segment,
)
from napari_plimseg.errors import (
    ConfigError,
    DamagedStoreError,
    ExportError,
    PlimsegError,
    SlideError,
    StoreError,
)
from napari_plimseg.files import user_data_dir
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.inference.plan import RunRegion, RunSettings
from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.results.measure import area_table
from tests.support.models import ColorModel, painted
from tests.support.slides import write_ome_zarr, write_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.inference.progress import Progress

SETTINGS = RunSettings(tile_size=128, tissue=None, device="cpu")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    Image.fromarray(painted(300, 340, 0)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(slide: Any, **options: Any) -> Segmentation:
    return segment(slide, ColorModel(), **{"mpp": 0.5, "settings": SETTINGS, **options})


def painted_over(result: Segmentation) -> None:
    """Make a square of the last tissue class, as a person with a brush would."""
    corrections = Corrections.open(result.store_path.parent, result.info)
    corrections.write(0, 0, np.full((10, 12), 2, np.uint8))
    corrections.flush_and_release()


def known(path: Path, color: int) -> Path:
    """Write a slide whose file says 0.5 um per pixel."""
    path.parent.mkdir()
    return write_tiff(
        path,
        [np.full((256, 256, 3), (color, 60, 120), np.uint8)],
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )


def test_another_pixel_size_than_the_files_has_to_be_meant(tmp_path: Path) -> None:
    slide = known(tmp_path / "p" / "x.tif", 200)
    with pytest.raises(SlideError, match=r"says 0\.5 um per pixel, not 0\.25"):
        run(slide, mpp=0.25, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(slide, mpp=None, out=tmp_path / "out").info.mpp == 0.5
    assert run(slide, mpp=0.25, override_mpp=True, out=tmp_path / "o2").info.mpp == 0.25


@pytest.mark.parametrize("resume", [True, False])
def test_slides_of_one_name_have_their_own_results(resume: bool, tmp_path: Path) -> None:
    slides = [known(tmp_path / "p1" / "x.tif", 200), known(tmp_path / "p2" / "x.tif", 20)]
    results = [run(s, mpp=None, out=tmp_path / "out", resume=resume) for s in slides]
    assert results[0].store_path != results[1].store_path
    assert [r.info.slide_fingerprint for r in results] == [fingerprint(s) for s in slides]
    assert (results[0].mask != results[1].mask).mean() > 0.9
    results[0].export(tmp_path / "files", ["csv"])
    with pytest.raises(ExportError, match="another slide"):
        results[1].export(tmp_path / "files", ["csv"])
    with pytest.raises(StoreError, match=r"another slide, x\.tif"):
        run(slides[1], mpp=None, out=results[0].store_path, resume=resume)


def test_a_file_becomes_a_mask_with_areas_and_files(slide: Path, tmp_path: Path) -> None:
    result = run(slide, out=tmp_path / "out")
    assert result.store_path == tmp_path / "out" / "a.plimseg"
    assert result.mask.shape == result.info.shape == (75, 85)
    assert result.mask.min() >= 1  # everything is computed
    assert [row.name for row in result.areas()[:3]] == ["red", "green", "background"]
    assert sum(row.pixels for row in result.areas()) == result.mask.size
    files = result.export(tmp_path / "files")
    assert [f.name for f in files] == [
        "a.mask.ome.tif", "a.geojson", "a.areas.csv", "a.overlay.png",
    ]  # fmt: skip
    with pytest.raises(ExportError, match=r"'pdf'.*Known"):
        result.export(tmp_path, ["pdf"])


def test_the_rows_make_a_table(slide: Path) -> None:
    pandas = pytest.importorskip("pandas")
    result = run(slide)
    table = pandas.DataFrame(result.areas())
    assert list(table.columns) == [
        "name", "mask_id", "kind", "pixels", "mm2", "percent_of_tissue",
    ]  # fmt: skip
    assert table.pixels.sum() == result.mask.size


def test_without_a_folder_results_are_where_the_docks_look(slide: Path) -> None:
    result = run(slide)
    assert result.store_path.parent == user_data_dir() / "results"
    again: list[Progress] = []
    assert run(slide, progress=again.append).store_path == result.store_path
    assert again[-1].tiles_done == again[-1].tiles_total
    assert all(step.tiles_per_second == 0 for step in again)  # nothing is computed twice


def test_out_can_name_the_store(slide: Path, tmp_path: Path) -> None:
    assert run(slide, out=tmp_path / "b.c.plimseg").store_path == tmp_path / "b.c.plimseg"
    with pytest.raises(StoreError, match="another model or setting"):
        run(slide, out=tmp_path / "b.c.plimseg", mpp=0.6)
    assert run(slide, out=tmp_path / "b.c.plimseg", mpp=0.6, resume=False).info.mpp == 0.6


def test_an_open_slide_stays_open(slide: Path) -> None:
    with open_slide(slide) as opened:
        run(opened)
        assert opened.read_level(0, 0, 0, 4, 4).shape == (4, 4, 3)


def test_a_region_bounds_the_mask(slide: Path) -> None:
    whole = run(slide).mask
    part = run(slide, region=Region(40, 80, 100, 60), resume=False).mask
    inside = np.zeros(whole.shape, bool)
    inside[10:35, 20:35] = True
    assert np.array_equal(part[inside], whole[inside])
    assert not part[~inside].any()
    drawn = RunRegion.polygons([np.array([[40, 80], [140, 80], [140, 140], [40, 140]])])
    assert np.array_equal(run(slide, region=drawn, resume=False).mask, part)


def test_corrections_count_in_mask_areas_and_exports(slide: Path, tmp_path: Path) -> None:
    result = run(slide, out=tmp_path / "out")
    before = result.mask
    painted_over(result)
    assert (result.mask[:10, :12] == 2).all()
    expected = before.copy()
    expected[:10, :12] = 2
    assert result.areas() == list(area_table(expected, result.info))
    (csv,) = result.export(tmp_path / "files", ["csv"])
    assert f"green,2,tissue,{(expected == 2).sum()}" in csv.read_text()
    with MaskStore.open(result.store_path) as store:  # the model's own output stays
        assert np.array_equal(store.read_classes(), before)


def test_a_damaged_result_asks(slide: Path, tmp_path: Path) -> None:
    result = run(slide, out=tmp_path / "out")
    whole = result.mask
    assert not result.damage()
    chunk = result.store_path / "labels" / "classes" / "0" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    asked = (lambda: result.mask, result.areas, lambda: result.export(tmp_path / "files", ["csv"]))
    for ask in asked:
        with pytest.raises(DamagedStoreError, match=r"tiles? of the classes .*allow_damaged=True"):
            ask()
    assert result.damage().damaged_tiles == {(0, 0)}
    areas = {area.kind: area.pixels for area in result.areas(allow_damaged=True)}
    assert areas["unreadable"] == result.damage().pixels
    (geojson,) = result.export(tmp_path / "files", ["geojson"], allow_damaged=True)
    assert "of the classes" in json.loads(geojson.read_text("utf-8"))["about"]["damage"]
    taken = Segmentation.open(result.store_path, allow_damaged=True)
    assert ((taken.mask == whole) | (taken.mask == 255)).all()
    with pytest.warns(UserWarning, match="Damaged parts are computed again"):
        again = run(slide, out=tmp_path / "out")
    assert np.array_equal(again.mask, whole)
    # the confidence is no part of an export, but it says that the disk can't be trusted
    chunk = result.store_path / "labels" / "confidence" / "0" / "c" / "0" / "0"
    chunk.unlink()
    assert np.array_equal(again.mask, whole)
    with pytest.raises(DamagedStoreError, match="of the confidence"):
        again.export(tmp_path / "files", ["csv"])


def test_a_result_opens_again(slide: Path, tmp_path: Path) -> None:
    result = run(slide, out=tmp_path / "out")
    again = Segmentation.open(result.store_path, slide)
    assert again.info == result.info
    assert np.array_equal(again.mask, result.mask)
    assert again.export(tmp_path / "files", ["png"])
    without = Segmentation.open(result.store_path)
    assert "png" not in {f.suffix[1:] for f in without.export(tmp_path / "more")}
    with pytest.raises(ExportError, match="needs the slide"):
        without.export(tmp_path, ["png"])
    with pytest.raises(ExportError, match=r"needs the slide.*Segmentation\.open"):
        without.view()
    Image.fromarray(painted(300, 340, 1)).save(tmp_path / "b.png")
    with pytest.raises(ExportError, match=r"belongs to 'a\.png'.*Choose the slide"):
        Segmentation.open(result.store_path, tmp_path / "b.png")


def test_outlines_as_a_table_of_polygons(slide: Path) -> None:
    pytest.importorskip("geopandas")
    result = run(slide)
    frame = result.to_geodataframe()
    areas = {row.name: row for row in result.areas()}
    for name, rows in frame.groupby("name"):
        assert rows.pixels.sum() == areas[name].pixels
        assert rows.area_mm2.sum() == pytest.approx(areas[name].mm2)
        # level-0 pixels: the polygons' own area says the same
        assert rows.geometry.area.sum() == areas[name].pixels * result.info.downsample**2
    assert set(frame["name"]) == {"red", "green"}
    assert len(frame) == len(frame.geometry.unique())


def test_geopandas_is_optional(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(slide)
    monkeypatch.setitem(sys.modules, "geopandas", None)
    with pytest.raises(ExportError, match=r"not installed.*napari-plimseg\[geo\]"):
        result.to_geodataframe()


def test_view_says_what_is_missing_without_qt(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(slide)
    real = builtins.__import__

    def without_qt(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith(("qtpy", "napari_plimseg._widgets")):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_qt)
    with pytest.raises(PlimsegError, match=r"no Qt binding.*pip install"):
        result.view()


def test_a_bar_is_drawn_on_demand(slide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(slide)
    assert capsys.readouterr().err == ""
    run(slide, resume=False, progress=True)
    assert "tile" in capsys.readouterr().err


def test_a_program_stops_a_run_by_raising(slide: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.tiles_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(slide, out=tmp_path, progress=stop)
    assert not ENGINE.owner
    steps: list[Progress] = []
    run(slide, out=tmp_path, progress=steps.append)
    assert any(step.tiles_done >= 2 for step in steps[:2])  # finished tiles are kept


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mpp": None}, SlideError, r"a\.png.*pixel size is unknown"),
        ({"mpp": 500}, SlideError, r"a\.png.*not a pixel size"),
        ({"region": (0, 0, 5, 5)}, ConfigError, r"not a region.*Region\(y, x"),
        ({"classes": ["gland"]}, ConfigError, r"loaded already.*load_model"),
        ({"settings": RunSettings(tile_size=100)}, ConfigError, "not a multiple of 32.*Choose"),
        ({"settings": RunSettings(device="tpu")}, ConfigError, "'tpu'"),
    ],
)
def test_errors_say_what_to_do(
    slide: Path, options: dict[str, Any], error: type[PlimsegError], says: str
) -> None:
    with pytest.raises(error, match=says):
        run(slide, **options)
    assert not ENGINE.owner


@pytest.mark.parametrize(("classes", "says"), [("gland", "list"), ([], "Name at least one")])
def test_classes_must_be_a_list(slide: Path, classes: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        segment(slide, classes=classes)


def test_a_missing_slide_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"'none\.svs': it does not exist"):
        segment(tmp_path / "none.svs", ColorModel())


def test_a_model_that_is_not_there(slide: Path) -> None:
    with pytest.raises(PlimsegError, match=r"'no such model'.*Known: bundled"):
        segment(slide, "no such model", mpp=0.5)


def test_names_become_classes_with_background_last() -> None:
    muscle = TissueClass("muscle", (1, 2, 3), ("smooth muscle",))
    classes = TissueClasses.of(["gland", muscle])
    assert classes.names == ("gland", "muscle", "background")
    assert classes[1] == muscle
    assert classes.background_id == 3
    assert len(set(classes.colors)) == 3
    own = TissueClass("Background", (9, 9, 9))
    assert TissueClasses.of(["gland", own])[-1] == own


def test_the_public_names_load_lazily_and_all_of_them_exist() -> None:
    assert set(napari_plimseg.__all__) == {
        "MaskStore", "Region", "Segmentation", "TissueClass", "TissueClasses", "__version__",
        "list_models", "load_model", "open_slide", "open_store", "segment", "segment_slide",
    }  # fmt: skip
    for name in napari_plimseg.__all__:
        assert getattr(napari_plimseg, name) is not None
    assert set(napari_plimseg.__all__) - {"__version__"} <= set(dir(napari_plimseg))
    with pytest.raises(AttributeError):
        _ = napari_plimseg.nothing


def test_a_run_of_a_program_loads_neither_qt_nor_napari(slide: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from napari_plimseg import segment, Region\n"
        f"s = segment({str(slide)!r}, region=Region(0, 0, 64, 64), mpp=0.5, out='out')\n"
        "assert s.areas()\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not {"napari", "qtpy", "PySide6", "PyQt6", "magicgui"} & set(done.stdout.split())


def test_labels_are_written_into_an_ome_zarr_slide(slide: Path, tmp_path: Path) -> None:
    zarr_slide = write_ome_zarr(tmp_path / "b.zarr", [painted(300, 340, 0)], mpp=0.5)
    result = run(zarr_slide, out=tmp_path)
    painted_over(result)
    group = result.write_labels("tissue")
    assert group == zarr_slide / "labels" / "tissue"
    stored = zarr.open_group(str(group), mode="r")["0"]
    np.testing.assert_array_equal(np.asarray(stored).squeeze(), result.mask)
    assert (result.mask[:10, :12] == 2).all()
    with pytest.raises(ExportError, match="already has labels"):
        result.write_labels("tissue")
    result.write_labels("tissue", replace=True)
    assert run(zarr_slide, out=tmp_path).mask.shape == result.mask.shape, "it resumes"
    with pytest.raises(ExportError, match="not an OME-Zarr slide"):
        run(slide, out=tmp_path).write_labels()
    with pytest.raises(ExportError, match="Give it"):
        Segmentation.open(result.store_path).write_labels()
