"""Every kind of slide gives exactly the pixels that were written, through any window."""

from __future__ import annotations

import copy
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import Region, Slide, open_slide
from napari_plimseg.slides.slide import reason_of
from tests.support import slides as factory

LEVELS = factory.pyramid(factory.tissue())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("slides")
    return {kind.name: kind.write(folder / kind.name, LEVELS) for kind in factory.LOSSLESS}


@pytest.mark.parametrize("kind", factory.LOSSLESS, ids=lambda k: k.name)
class TestEveryKind:
    def test_levels_and_pixels_are_those_written(self, kind, written):
        with open_slide(written[kind.name]) as slide:
            assert slide.format_name == kind.format_name
            assert slide.mpp == (None if kind.mpp is None else pytest.approx(kind.mpp))
            assert [level.shape for level in slide.levels] == [
                level.shape[:2] for level in LEVELS[: kind.levels]
            ]
            assert [level.downsample for level in slide.levels] == [1, 2, 4][: kind.levels]
            for i, expected in enumerate(LEVELS[: kind.levels]):
                np.testing.assert_array_equal(
                    slide.read_level(i, 0, 0, *expected.shape[:2]), expected
                )

    def test_any_window_has_the_pixels_of_the_whole(self, kind, written):
        rng = np.random.default_rng(5)
        with open_slide(str(written[kind.name])) as slide:
            for _ in range(25):
                level = int(rng.integers(kind.levels))
                height, width = slide.levels[level].shape
                y, x = int(rng.integers(-90, height)), int(rng.integers(-90, width))
                tall, wide = int(rng.integers(1, 300)), int(rng.integers(1, 300))
                around = np.full((height + 700, width + 700, 3), 255, np.uint8)
                around[100 : 100 + height, 100 : 100 + width] = LEVELS[level]
                np.testing.assert_array_equal(
                    slide.read_level(level, y, x, tall, wide),
                    around[y + 100 : y + 100 + tall, x + 100 : x + 100 + wide],
                )

    def test_a_closed_slide_says_so(self, kind, written):
        slide = open_slide(written[kind.name])
        slide.close()
        slide.close()
        with pytest.raises(SlideError, match="is closed"):
            slide.read_level(0, 0, 0, 5, 5)

    def test_it_is_brightfield(self, kind, written):
        with open_slide(written[kind.name]) as slide:
            assert slide.is_brightfield


@pytest.mark.parametrize("downsample", [0.5, 1, 1.3, 2, 2.7, 3, 4, 5.5, 8])
def test_a_virtual_level_does_not_depend_on_the_windows_it_is_read_with(written, downsample):
    with open_slide(written["tiled.tif"]) as slide:
        side = int(180 / max(1, downsample / 2))
        whole = slide.read_at(downsample, 3, 5, side, side)
        for cut in (1, side // 3, side - 1):
            parts = [
                np.concatenate(
                    [
                        slide.read_at(downsample, 3 + top, 5, tall, cut),
                        slide.read_at(downsample, 3 + top, 5 + cut, tall, side - cut),
                    ],
                    axis=1,
                )
                for top, tall in ((0, cut), (cut, side - cut))
            ]
            difference = np.abs(np.concatenate(parts).astype(int) - whole)
            assert difference.max() <= 1  # float sums in another order


def test_a_virtual_level_has_the_means_of_the_level_below(written):
    with open_slide(written["strips.tif"]) as slide:  # one level only
        got = slide.read_at(4, 10, 20, 30, 40)
        fine = LEVELS[0][40:160, 80:240].reshape(30, 4, 40, 4, 3).mean((1, 3))
        assert np.abs(got - fine).max() <= 0.5


def test_read_by_region_and_pixel_size(written):
    with open_slide(written["image.ome.tif"]) as slide:
        got = slide.read(Region(100, 200, 128, 256), mpp=0.5)
        np.testing.assert_array_equal(got, LEVELS[1][50:114, 100:228])
        assert slide.read(Region(0, 0, 10, 20)).shape == (10, 20, 3)
        assert max(slide.thumbnail(100).shape) == 100


def test_an_unknown_pixel_size_can_be_typed(written):
    with open_slide(written["tiled.tif"]) as slide:
        with pytest.raises(SlideError, match="pixel size is unknown"):
            slide.working_downsample(1.0)
        slide.mpp = 0.25
        assert slide.mpp_is_given
        assert slide.working_downsample(1.0) == 4
        with pytest.raises(SlideError, match="not a pixel size"):
            slide.mpp = 300


@pytest.mark.parametrize(
    "name", ["naïve 幻灯片 a b.tif", "x" * 251 + ".tif", "🔬.tif", "no_suffix"]
)
def test_any_file_name(tmp_path, name):
    path = factory.write_tiff(tmp_path / name, LEVELS)
    with open_slide(path) as slide:
        assert slide.name == name
        np.testing.assert_array_equal(slide.read_level(2, 0, 0, 175, 225), LEVELS[2])


def test_a_link_and_a_relative_path(tmp_path, monkeypatch):
    path = factory.write_tiff(tmp_path / "real.tif", LEVELS)
    (tmp_path / "link.svs").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    with open_slide("link.svs") as slide:
        assert slide.shape == LEVELS[0].shape[:2]


def test_slides_smaller_than_a_tile(tmp_path):
    one = np.array([[[10, 20, 30]]], np.uint8)
    with open_slide(factory.write_tiff(tmp_path / "one.tif", [one])) as slide:
        assert slide.shape == (1, 1)
        assert slide.read_level(0, -1, -1, 3, 3)[1, 1].tolist() == [10, 20, 30]
        assert slide.read_level(0, -1, -1, 3, 3).sum() == 8 * 3 * 255 + 60
        assert slide.thumbnail().shape == (1, 1, 3)


@pytest.mark.parametrize("name", ["tiled.tif", "one strip.tif", "04.zarr", "picture.png"])
def test_threads_read_the_same_pixels(written, name):
    windows = [(y, x) for y in range(0, 600, 150) for x in range(0, 800, 160)]
    with open_slide(written[name]) as slide, ThreadPoolExecutor(6) as pool:
        reads = list(pool.map(lambda at: slide.read_level(0, *at, 150, 160), windows * 3))
        for (y, x), pixels in zip(windows * 3, reads, strict=True):
            expected = LEVELS[0][y : y + 150, x : x + 160]
            np.testing.assert_array_equal(
                pixels[: expected.shape[0], : expected.shape[1]], expected
            )


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_jpeg_tiles_within_a_window_are_the_decoder_s_own(tmp_path, photometric):
    path = tmp_path / "jpeg.tif"
    pixels = np.repeat(np.repeat(LEVELS[0][::16, ::16], 16, 0), 16, 1)
    tifffile.imwrite(path, pixels, tile=(64, 48), compression="jpeg", photometric=photometric)
    expected = tifffile.imread(path)
    height, width = expected.shape[:2]
    windows = [(y, x) for y in range(0, height - 200, 64) for x in range(0, width - 150, 48)]
    with open_slide(path) as slide, ThreadPoolExecutor(6) as pool:
        reads = list(pool.map(lambda at: slide.read_level(0, *at, 200, 150), windows))
        whole = slide.read_level(0, 0, 0, height, width)
    np.testing.assert_array_equal(whole, expected)
    for (y, x), found in zip(windows, reads, strict=True):
        np.testing.assert_array_equal(found, expected[y : y + 200, x : x + 150])


def test_closing_waits_for_a_read(written):
    slide = open_slide(written["tiled.tif"])
    inside, events = threading.Event(), []
    read = slide._read_level

    def slow(*window: int) -> np.ndarray:
        inside.set()
        time.sleep(0.1)
        events.append("read")
        return read(*window)

    slide._read_level = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        pixels = pool.submit(slide.read_level, 0, 0, 0, 10, 10)
        inside.wait()
        slide.close()
        events.append("closed")
        np.testing.assert_array_equal(pixels.result(), LEVELS[0][:10, :10])
    assert events == ["read", "closed"]


def test_a_file_cut_while_open(tmp_path):
    path = factory.write_tiff(tmp_path / "cut.tif", LEVELS, compression=None)
    with open_slide(path) as slide:
        slide.read_level(0, 0, 0, 100, 100)
        os.truncate(path, 60_000)
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 100, 100), LEVELS[0][:100, :100])
        with pytest.raises(SlideError, match=r"cut\.tif.*ends before byte"):
            slide.read_level(0, 500, 500, 100, 100)


def test_one_damaged_tile_spoils_only_itself(tmp_path):
    path = factory.write_tiff(tmp_path / "hurt.tif", LEVELS)
    import tifffile

    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[9], tif.pages[0].databytecounts[9]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match=r"a part at y=128, x=128 of level 0"):
            slide.read_level(0, 128, 128, 128, 128)
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 128, 900), LEVELS[0][:128])


def test_what_the_scanner_left_out_is_white(tmp_path):
    path = factory.write_tiff(tmp_path / "sparse.tif", LEVELS[:1])
    import tifffile

    with tifffile.TiffFile(path, mode="r+") as tif:
        counts = list(tif.pages[0].databytecounts)
        counts[0] = 0
        tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    with open_slide(path) as slide:
        got = slide.read_level(0, 0, 0, 200, 200)
        assert (got[:128, :128] == 255).all()
        np.testing.assert_array_equal(got[128:], LEVELS[0][128:200, :200])


def test_a_picture_with_the_name_of_a_slide_opens_and_says_so(tmp_path):
    path = tmp_path / "scan.svs"
    factory.write_picture(path, LEVELS[0], format="PNG")
    with open_slide(path) as slide:
        assert slide.notes == ("The file is a PNG picture although its name ends with '.svs'.",)
        assert slide.mpp is None  # 300 dpi is no pixel size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_turned_pictures_are_shown_upright(orientation, ending, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{ending}"
    stored = factory.tissue(40, 60)
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(stored).save(path, exif=exif, **options)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    with open_slide(path) as slide:
        assert slide.shape == upright.shape[:2]
        np.testing.assert_array_equal(slide.read_level(0, 5, 7, 20, 30), upright[5:25, 7:37])
        assert ("upright" in " ".join(slide.notes)) == (orientation > 1)


def test_a_turned_picture_of_a_phone_is_shown_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    first, second = (Image.fromarray(factory.tissue(40, 60, seed)) for seed in (0, 1))
    first.save(tmp_path / "a.jpg", "MPO", exif=exif, save_all=True, append_images=[second])
    with open_slide(tmp_path / "a.jpg") as slide:
        assert slide.shape == (60, 40)


def test_damaged_exif_costs_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(factory.tissue(40, 60)).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with open_slide(path) as slide:
        assert slide.shape == (40, 60)


def test_a_turned_tiff_is_shown_as_stored_and_says_so(tmp_path):
    tags = [(274, "H", 1, 6, True)]
    with open_slide(
        factory.write_tiff(tmp_path / "a.tif", [factory.tissue(64, 96)], extratags=tags)
    ) as slide:
        assert slide.shape == (64, 96)
        assert "turned" in " ".join(slide.notes)


def test_copies_of_a_slide_are_the_slide(written):
    with open_slide(written["tiled.tif"]) as slide:
        assert copy.deepcopy({"slide": slide})["slide"] is slide
        assert copy.copy(slide) is slide


def test_black_slides_are_not_brightfield(tmp_path):
    black = np.zeros((900, 900, 3), np.uint8)
    black[100:140, 100:400, 2] = 200  # some blue nuclei
    with open_slide(factory.write_tiff(tmp_path / "dapi.tif", [black])) as slide:
        assert not slide.is_brightfield
    black[300:] = 240  # black padding beside a scan is no fluorescence
    with open_slide(factory.write_tiff(tmp_path / "padded.tif", [black])) as slide:
        assert slide.is_brightfield


def test_levels_leave_out_what_is_not_the_pyramid(tmp_path):
    label = np.zeros((64, 500, 3), np.uint8)
    path = factory.write_tiff(tmp_path / "label.tif", [LEVELS[0], LEVELS[1], label, LEVELS[2]])
    with open_slide(path) as slide:
        assert label.shape[:2] not in [level.shape for level in slide.levels]
        assert [level.downsample for level in slide.levels][:2] == [1, 2]


class TestOpenSlide:
    def test_dicom_folder_and_each_of_its_files(self, shared_data, sample_path):
        folder = shared_data / "wsi" / "CMU-1-Small-Region-dicom"
        with open_slide(sample_path) as sample:
            expected = sample.read_level(0, 900, 700, 256, 256).astype(int)
        for path in (folder, *sorted(folder.iterdir())):
            with open_slide(path) as slide:
                assert (slide.name, slide.mpp, slide.format_name) == (path.name, 0.499, "DICOM WSI")
                got = slide.read_level(0, 900, 700, 256, 256)
                assert np.abs(got - expected).mean() < 5  # compressed again

    def test_ndpi_fluorescence_is_for_viewing_only(self, shared_data):
        with open_slide(shared_data / "wsi" / "fluo_DAPI.ndpi") as slide:
            assert slide.mpp == pytest.approx(0.2282, abs=1e-4)
            assert len(slide.levels) == 7
            assert not slide.is_brightfield
            assert slide.notes == ("Fluorescence (filter set DAPI 2 (387)): for viewing only.",)
            pixels = slide.read_level(0, 0, 0, 4864, 600)
            assert pixels[..., 2].mean() > 5 * pixels[..., 0].mean()  # blue on black

    def test_a_failed_read_does_not_end_the_slide(self, shared_data, monkeypatch):
        import openslide

        with open_slide(shared_data / "wsi" / "fluo_DAPI.ndpi") as slide:
            before = slide.read_level(2, 0, 0, 64, 64)

            def fail(*_: object) -> None:
                raise openslide.OpenSlideError("a damaged tile")

            with monkeypatch.context() as patch:
                patch.setattr(openslide.OpenSlide, "read_region", fail)
                with pytest.raises(SlideError, match="a damaged tile"):
                    slide.read_level(2, 0, 0, 64, 64)
            np.testing.assert_array_equal(slide.read_level(2, 0, 0, 64, 64), before)

    def test_transparent_pixels_are_white(self, shared_data, monkeypatch):
        import openslide
        from PIL import Image

        def half(_: object, _corner: object, _level: int, size: tuple[int, int]) -> Image.Image:
            pixels = np.full((size[1], size[0], 4), (200, 100, 0, 255), np.uint8)
            pixels[:, 2:, 3] = 0
            pixels[:, 4:, 3] = 51  # a fifth
            return Image.fromarray(pixels)

        monkeypatch.setattr(openslide.OpenSlide, "read_region", half)
        with open_slide(shared_data / "wsi" / "fluo_DAPI.ndpi") as slide:
            row = slide.read_level(0, 0, 0, 1, 6)[0]
        assert row[0].tolist() == [200, 100, 0]
        assert row[2].tolist() == [255, 255, 255]
        assert row[4].tolist() == [244, 224, 204]

    def test_windows_larger_than_a_block(self, shared_data, monkeypatch):
        from napari_plimseg.slides.readers import openslide as reader

        with open_slide(shared_data / "wsi" / "fluo_DAPI.ndpi") as slide:
            whole = slide.read_level(1, 10, 20, 700, 500)
            monkeypatch.setattr(reader, "_BLOCK", 199)
            np.testing.assert_array_equal(slide.read_level(1, 10, 20, 700, 500), whole)

    @pytest.mark.parametrize(
        "name",
        ["CMU-1-Small-Region.svs", "colon_polyp_crop.tif", "tcga-cr-7395-01a-01-ts1.svs"],
    )
    def test_our_tiff_reader_gives_the_pixels_of_openslide(self, shared_data, name):
        import openslide

        path = shared_data / "wsi" / name
        theirs = openslide.OpenSlide(path)
        with open_slide(path) as slide:
            assert slide.levels[0].shape == theirs.dimensions[::-1]
            for y, x in ((0, 0), (1111, 999), (slide.shape[0] - 300, slide.shape[1] - 300)):
                expected = np.asarray(theirs.read_region((x, y), 0, (300, 300)).convert("RGB"))
                np.testing.assert_array_equal(slide.read_level(0, y, x, 300, 300), expected)


REAL = {
    "CMU-1-Small-Region-dicom": ("DICOM WSI", 0.499),
    "CMU-1-Small-Region.svs": ("Aperio SVS", 0.499),
    "colon_polyp_crop.tif": ("TIFF", 0.25),
    "fluo_DAPI.ndpi": ("Hamamatsu", 0.2282),
    "small_dicom.dcm": r"'small_dicom\.dcm': OpenSlide refuses it .* Is it a whole-slide image",
    "small_vectra.qptiff": r"'small_vectra\.qptiff': .*3 channels \(DAPI, FITC, Cy3\).* Open",
    "tcga-cr-7395-01a-01-ts1.svs": ("Aperio SVS", None),
}


def test_every_real_file_opens_or_is_refused_with_one_clear_sentence(shared_data):
    found = {path.name: path for path in (shared_data / "wsi").iterdir()}
    assert set(REAL) <= set(found)
    for name, expected in REAL.items():
        if isinstance(expected, str):
            with pytest.raises(SlideError, match=expected) as caught:
                open_slide(found[name])
            assert "\n" not in str(caught.value)
            assert str(shared_data) not in str(caught.value)
            continue
        slide: Slide
        with open_slide(found[name]) as slide:
            assert slide.format_name == expected[0]
            assert slide.mpp == (expected[1] and pytest.approx(expected[1], rel=1e-3))
            assert slide.thumbnail(200).std() > 20


def test_too_little_memory_does_not_look_like_a_damaged_file(
    sample_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_plimseg.slides import opening

    def refuse(*_: object) -> None:
        raise MemoryError

    with open_slide(sample_path) as slide:
        monkeypatch.setattr(slide, "_read_level", refuse)
        with pytest.raises(SlideError, match=r"not enough memory.*Close other programs") as read:
            slide.read_at(1.0, 0, 0, 10, 10)
    monkeypatch.setattr(opening, "find_reader", refuse)
    with pytest.raises(SlideError, match=r"not enough memory to open.*Close") as opened:
        open_slide(sample_path)
    for error in (read.value, opened.value):
        assert isinstance(error.__cause__, MemoryError)


@pytest.mark.parametrize(
    ("path", "message", "shown"),
    [
        ("t/a.svs", "not a tiff, at t/a.svs", "not a tiff, at a.svs"),
        ("in/a.svs", "invalid line in 'in/b.dat'", "invalid line in '.../b.dat'"),
        (
            "/patient 7/a.svs",
            "can't open /patient 7/a.svs: is in use",
            "can't open a.svs: is in use",
        ),
        ("/patient 7/a.svs", "no folder '/patient 7'", "no folder '...'"),
        ("/patient 7/a.svs", "file:///patient 7/a/Data.dat", "file://.../a/Data.dat"),
        ("/p/a.svs", "/path/x of /p/a.svs", "/path/x of a.svs"),
        ("a.svs", "a.svs is not a TIFF", "a.svs is not a TIFF"),
        ("/a.svs", "and/or /a.svs", "and/or /a.svs"),
    ],
)
def test_a_message_has_no_folder_of_the_slide_and_all_other_letters(
    path: str, message: str, shown: str
) -> None:
    assert reason_of(ValueError(message), Path(path)) == f"ValueError: {shown}"
    here = str(Path(path).absolute())
    assert reason_of(OSError(f"at {here!r}"), Path(path)) == f"OSError: at '{_name(here)}'"


def _name(path: str) -> str:
    return Path(path).name if len(Path(path).parts) > 2 else path
