"""The label TIFF opens everywhere with the same ids and the right pixel size."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import tifffile
import zarr

from napari_plimseg.errors import ExportError
from napari_plimseg.results.export import label_tiff
from napari_plimseg.results.export.label_tiff import (
    LabelPyramid,
    export_label_tiff,
    half_size,
    read_label_tiff,
)
from napari_plimseg.tissue import BCSS_WSSS, COLORECTAL, TissueClass
from tests.support.masks import AWKWARD, blobs, drawn, info_for

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write(folder: Path, mask: NDArray[np.uint8], **info: Any) -> Path:
    return export_label_tiff(folder / "m.mask.ome.tif", mask, info_for(mask, **info))


@pytest.fixture(scope="module", params=["classic", "big"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[np.uint8]]:
    """A label TIFF of three levels at 1 um/px, as classic TIFF and as BigTIFF."""
    mask = blobs((1500, 1301))
    mask[:40, :50] = 0
    mask[700:720, 700:900] = 255
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "big":
            patch.setattr(label_tiff, "_CLASSIC_LIMIT", 0)
        path = write(tmp_path_factory.mktemp("tiff"), mask)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == (request.param == "big")
    return path, mask


def pyramid_of(mask: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [mask, half_size(mask), half_size(half_size(mask))]


def test_tifffile_reads_an_ome_pyramid(exported: tuple[Path, NDArray[np.uint8]]) -> None:
    path, mask = exported
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert series.kind == "ome"
        assert tiff.pages[0].tile == (512, 512)
        for level, expected in zip(series.levels, pyramid_of(mask), strict=True):
            assert np.array_equal(level.asarray(), expected)


def test_openslide_reads_every_level(exported: tuple[Path, NDArray[np.uint8]]) -> None:
    import openslide

    path, mask = exported
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == 3
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(1.0)
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == pytest.approx(1.0)
        for number, expected in enumerate(pyramid_of(mask)):
            size = slide.level_dimensions[number]
            assert size == expected.shape[::-1]
            pixels = np.asarray(slide.read_region((0, 0), number, size))
            assert np.array_equal(pixels[..., 0], expected)


def test_pyvips_reads_pages_and_subifds(exported: tuple[Path, NDArray[np.uint8]]) -> None:
    import pyvips

    path, mask = exported
    expected = pyramid_of(mask)
    image = pyvips.Image.new_from_file(str(path))
    assert 1000 / image.xres == pytest.approx(1.0, rel=1e-6)
    assert 1000 / image.yres == pytest.approx(1.0, rel=1e-6)
    assert image.bands == 1
    assert np.array_equal(image.numpy(), expected[0])
    for number in (1, 2):
        assert np.array_equal(
            pyvips.Image.tiffload(str(path), page=number).numpy(), expected[number]
        )
        assert np.array_equal(
            pyvips.Image.tiffload(str(path), subifd=number - 1).numpy(), expected[number]
        )


def test_ome_types_validates_it(exported: tuple[Path, NDArray[np.uint8]]) -> None:
    import ome_types

    path, mask = exported
    ome = ome_types.from_tiff(path, validate=True)
    pixels = ome.images[0].pixels
    assert (pixels.size_y, pixels.size_x) == mask.shape
    assert pixels.physical_size_x_quantity.to("um").magnitude == 1.0
    assert pixels.physical_size_y == 1.0
    maps = {a.namespace: a.value for a in ome.structured_annotations.map_annotations}
    names = {m.k: m.value for m in maps["napari-plimseg/mask/classes"].ms}
    assert names["1"] == "tumour epithelium"
    assert names["9"] == "background"
    assert (names["0"], names["255"]) == ("not computed", "unreadable")


def test_our_own_slide_reader_opens_it(exported: tuple[Path, NDArray[np.uint8]]) -> None:
    from napari_plimseg.slides import open_slide

    path, mask = exported
    with open_slide(path) as slide:
        assert slide.shape == mask.shape
        assert slide.mpp == pytest.approx(1.0)
        assert [level.shape for level in slide.levels] == [p.shape for p in pyramid_of(mask)]


def test_it_reads_back_as_it_was(exported: tuple[Path, NDArray[np.uint8]]) -> None:
    path, mask = exported
    read, info = read_label_tiff(path)
    assert np.array_equal(read[:], mask)
    assert info == info_for(mask)


def test_a_large_file_is_read_lazily(
    exported: tuple[Path, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mask = exported
    monkeypatch.setattr(label_tiff, "_IN_MEMORY", 0)
    read, _ = read_label_tiff(path)
    assert isinstance(read, zarr.Array)
    assert np.array_equal(read[600:800, 500:700], mask[600:800, 500:700])


@pytest.mark.parametrize("name", AWKWARD)
def test_small_masks(tmp_path: Path, name: str) -> None:
    mask = drawn(AWKWARD[name])
    read, info = read_label_tiff(write(tmp_path, mask, downsample=3.7))
    assert np.array_equal(read[:], mask)
    assert info.downsample == 3.7


@pytest.mark.parametrize(("downsample", "mpp"), [(4.00012, 0.2527), (1.0, 0.5), (16.0, 0.25)])
def test_pixel_size_is_that_of_the_mask(tmp_path: Path, downsample: float, mpp: float) -> None:
    import openslide

    path = write(tmp_path, blobs((600, 600)), downsample=downsample, mpp=mpp)
    with openslide.OpenSlide(path) as slide:
        found = float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
    assert found == pytest.approx(downsample * mpp, rel=1e-6)


def test_an_unknown_pixel_size_stays_unknown(tmp_path: Path) -> None:
    import ome_types
    import openslide

    path = write(tmp_path, blobs((600, 600)), mpp=None)
    with openslide.OpenSlide(path) as slide:
        assert openslide.PROPERTY_NAME_MPP_X not in slide.properties
    assert ome_types.from_tiff(path).images[0].pixels.physical_size_x is None
    assert read_label_tiff(path)[1].mpp is None


@pytest.mark.parametrize("downsample", [4.0, 3.3, 1.0])
def test_at_the_slides_resolution(tmp_path: Path, downsample: float) -> None:
    mask = blobs((300, 260))
    slide_shape = (int(300 * downsample) + 5, int(260 * downsample) - 3)
    info = info_for(mask, downsample=downsample, slide_shape=slide_shape)
    path = export_label_tiff(tmp_path / "m.ome.tif", mask, info, at="slide")
    read, written = read_label_tiff(path)
    assert read.shape == slide_shape == written.shape
    assert written.downsample == 1.0
    y, x = ((np.arange(n) + 0.5) / downsample for n in slide_shape)
    rows, columns = y.astype(int), x.astype(int)
    expected = mask[np.minimum(rows, 299)[:, None], np.minimum(columns, 259)]
    expected[rows >= 300] = 0
    expected[:, columns >= 260] = 0
    assert np.array_equal(read[:], expected)


def test_memory_stays_small_at_the_slides_resolution(tmp_path: Path) -> None:
    mask = np.ones((500, 400), np.uint8)
    info = info_for(mask, downsample=32.0)  # 16000 x 12800: 205 MB
    tracemalloc.start()
    export_label_tiff(tmp_path / "m.ome.tif", mask, info, at="slide")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_zarr_masks_are_written_alike(tmp_path: Path) -> None:
    mask = blobs((1100, 900))
    lazy = zarr.array(mask, chunks=(256, 256))
    read, _ = read_label_tiff(export_label_tiff(tmp_path / "m.ome.tif", lazy, info_for(mask)))
    assert np.array_equal(read[:], mask)


@pytest.mark.parametrize(
    ("four", "most"),
    [("1122", 1), ("1222", 2), ("1233", 3), ("1213", 1), ("1234", 1), ("1332", 3), ("1323", 3)],
)
def test_coarser_levels_take_the_id_that_is_there_most(four: str, most: int) -> None:
    assert half_size(drawn([four[:2], four[2:]])).tolist() == [[most]]


def test_coarser_levels_are_the_same_in_bands_and_whole() -> None:
    mask = blobs((1301, 333))
    (tile,) = LabelPyramid(mask, 1.0).iter_tiles(2.0, (651, 167), 651)
    assert np.array_equal(tile[:651, :167], half_size(mask))


def test_names_that_xml_and_utf8_can_not_hold(tmp_path: Path) -> None:
    classes = BCSS_WSSS.with_class(TissueClass('<odd> & "näme" \x07', (1, 2, 3)))
    mask = drawn(["16"])
    path = write(tmp_path, mask, classes=classes, name="caf\udce9.svs")
    _, info = read_label_tiff(path)
    assert info.classes == classes
    assert info.slide_name == "caf\udce9.svs"


@pytest.mark.parametrize("kind", ["missing", "text", "foreign", "cut", "doctype"])
def test_other_files_are_refused_in_one_sentence(
    tmp_path: Path, kind: Literal["missing", "text", "foreign", "cut", "doctype"]
) -> None:
    path = tmp_path / "x.ome.tif"
    mask = blobs((600, 600))
    if kind == "text":
        path.write_text("not a TIFF")
    elif kind == "foreign":
        tifffile.imwrite(path, mask, ome=True)
    elif kind == "cut":
        whole = write(tmp_path, mask).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "doctype":
        tifffile.imwrite(path, mask, description="<!DOCTYPE x><OME/>", metadata=None)
    with pytest.raises(ExportError, match=r"x\.ome\.tif") as refused:
        read_label_tiff(path)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 4), np.int32), np.zeros((3, 5), np.uint8), np.zeros((3,), np.uint8)]
)
def test_a_mask_that_is_not_its_description_is_refused(
    tmp_path: Path, wrong: NDArray[np.uint8]
) -> None:
    info = info_for(np.zeros((3, 4), np.uint8), classes=COLORECTAL)
    with pytest.raises(ExportError, match="description"):
        export_label_tiff(tmp_path / "m.ome.tif", wrong, info)
    with pytest.raises(ExportError, match="neither"):
        export_label_tiff(
            tmp_path / "m.ome.tif",
            np.zeros((3, 4), np.uint8),
            info,
            at="level 2",  # type: ignore[arg-type]
        )
