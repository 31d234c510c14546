"""The tissue mask: real slides, pen strokes, pictures that are all tissue or all glass."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from napari_plimseg.errors import ConfigError, SlideError
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.slide import Level, Slide
from napari_plimseg.slides.tissue_mask import (
    TissueMask,
    TissueMaskSettings,
    find_tissue,
    tissue_mask,
)
from tests.support.models import ArraySlide as TornSlide

if TYPE_CHECKING:
    from numpy.typing import NDArray

INKS = {"blue": (25, 45, 160), "green": (10, 120, 70), "black": (25, 25, 28), "red": (205, 25, 40)}
EOSIN = (222, 150, 190)
NUCLEI = (95, 70, 140)


class ArraySlide(Slide):
    """A slide whose levels are arrays."""

    def __init__(self, *levels: NDArray[np.uint8], mpp: float | None = 0.5) -> None:
        height = levels[0].shape[0]
        super().__init__(
            Path("array.png"),
            tuple(Level(level.shape[:2], max(1.0, height / level.shape[0])) for level in levels),
            mpp=mpp,
            format_name="array",
        )
        self.arrays = levels

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        return self.arrays[level][y : y + height, x : x + width]

    def _close(self) -> None:
        pass


def glass(shape: tuple[int, int], color: tuple[int, int, int] = (243, 243, 243)) -> Image.Image:
    """Return empty glass with the noise of a camera and of JPEG."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1.5, (*shape, 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


def stained(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a stroma-like texture with nuclei."""
    rng = np.random.default_rng(1)
    nuclei = ndimage.gaussian_filter(rng.random(shape), 2.0) > 0.53
    return np.where(nuclei[..., None], NUCLEI, EOSIN).astype(np.uint8)


def slide_with_disc(
    color: tuple[int, int, int] = (243, 243, 243),
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a picture at 4 um/px with one round piece of tissue 1.6 mm across, and its truth."""
    picture = np.array(glass((700, 900), color))
    y, x = np.mgrid[:700, :900]
    disc = (y - 350) ** 2 + (x - 600) ** 2 < 200**2
    picture[disc] = stained((700, 900))[disc]
    return picture, disc


def agreement(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize(
    "color", [(243, 243, 243), (254, 254, 254), (228, 226, 224), (240, 232, 240), (244, 242, 228)]
)
def test_tissue_on_any_glass(color: tuple[int, int, int]) -> None:
    picture, disc = slide_with_disc(color)
    found = tissue_mask(ArraySlide(picture, mpp=4.0))
    assert agreement(found.window(1, 0, 0, *disc.shape), disc) > 0.93


@pytest.mark.parametrize("quality", [90, 50, 20])
def test_tissue_under_jpeg_noise(quality: int) -> None:
    picture, disc = slide_with_disc()
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    found = tissue_mask(ArraySlide(np.array(Image.open(file)), mpp=4.0))
    assert agreement(found.window(1, 0, 0, *disc.shape), disc) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 2)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    pink = np.full((*shape, 3), EOSIN, np.uint8)
    white = np.full((*shape, 3), 250, np.uint8)
    assert not tissue_mask(ArraySlide(white)).mask.any()
    assert tissue_mask(ArraySlide(pink)).mask.all()


@pytest.mark.parametrize("ink", sorted(INKS))
def test_pen_is_not_tissue_and_takes_no_tissue_elsewhere(ink: str) -> None:
    picture, disc = slide_with_disc()
    stroke = Image.new("L", (900, 700))
    ImageDraw.Draw(stroke).line([(60, 60), (300, 350), (80, 640)], fill=255, width=60)
    cover = np.array(stroke.filter(ImageFilter.GaussianBlur(4)), np.float32)[..., None] / 255
    marked = (picture * (1 - cover) + np.array(INKS[ink]) * cover).astype(np.uint8)
    found = tissue_mask(ArraySlide(marked, mpp=4.0)).window(1, 0, 0, *disc.shape)
    assert agreement(found, disc) > 0.93
    kept = TissueMaskSettings(remove_pen=False)
    if ink == "red":  # told by the pen rule alone
        with_pen = tissue_mask(ArraySlide(marked, mpp=4.0), kept).window(1, 0, 0, *disc.shape)
        assert agreement(with_pen, disc) < 0.9


def test_pen_over_tissue_leaves_the_rest_of_the_tissue() -> None:
    picture, disc = slide_with_disc()
    picture[340:380] = (25, 45, 160)
    found = tissue_mask(ArraySlide(picture, mpp=4.0)).window(1, 0, 0, *disc.shape)
    assert not found[345:375].any()
    assert found[200:300][disc[200:300]].all()


def filled(color: int, quality: int | None = None) -> NDArray[np.uint8]:
    """Return tissue up to the edges of what was scanned, with fill of a gray level around it."""
    picture = np.full((900, 1200, 3), color, np.uint8)
    tissue = stained((900, 1200))
    picture[100:400, 100:500] = tissue[100:400, 100:500]
    picture[400:620, 300:560] = tissue[400:620, 300:560]
    if quality is None:
        return picture
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


@pytest.mark.parametrize("quality", [None, 80])
def test_black_fill_takes_no_tissue_beside_it(quality: int | None) -> None:
    black, white = (ArraySlide(filled(color, quality), mpp=4.0) for color in (0, 255))
    found, wanted = tissue_mask(black), tissue_mask(white)
    assert black.is_brightfield
    assert agreement(found.mask, wanted.mask) > 0.99
    assert wanted.unscanned is None


@pytest.mark.parametrize("downsample", [1.0, 2.0, 3.7])
def test_black_fill_reads_as_white_under_any_window(downsample: float) -> None:
    black, white = (ArraySlide(filled(color), mpp=1.0) for color in (0, 255))
    found = tissue_mask(black)
    shape = [int(side / downsample) for side in black.shape]
    whole = found.over_white(black.read_at(downsample, 0, 0, *shape), downsample, 0, 0)
    wanted = white.read_at(downsample, 0, 0, *shape)
    same = np.abs(whole.astype(int) - wanted).max(2) < 20
    assert same.mean() > (0.999 if downsample == 1 else 0.99)
    window = black.read_at(downsample, 20, 30, 100, 120)
    np.testing.assert_array_equal(
        found.over_white(window, downsample, 20, 30), whole[20:120, 30:150]
    )


def test_a_little_tissue_in_much_black_is_brightfield() -> None:
    picture = np.zeros((3000, 4000, 3), np.uint8)
    picture[1400:1800, 900:1500] = stained((400, 600))
    slide = ArraySlide(picture, mpp=0.5)
    assert slide.is_brightfield
    assert 0.95 < tissue_mask(slide).fraction / (400 * 600 / picture[..., 0].size) < 1.2


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 8.0, None])
def test_all_tissue_stays_whole(mpp: float | None) -> None:
    assert tissue_mask(ArraySlide(stained((600, 800)), mpp=mpp)).fraction == 1.0


@pytest.mark.parametrize(
    "color", [(255, 255, 255), (243, 243, 243), (225, 222, 218), (0, 0, 0), (12, 10, 14)]
)
def test_empty_pictures_stay_empty(color: tuple[int, int, int]) -> None:
    assert tissue_mask(ArraySlide(np.array(glass((600, 800), color)), mpp=2.0)).fraction == 0.0


def test_glass_edge_dust_and_unscanned_fields_are_not_tissue() -> None:
    picture, disc = slide_with_disc((240, 232, 240))
    picture[:, 20:26] = 120  # the edge of the cover slip
    picture[500:507, 100:107] = EOSIN  # 28 um of dirt
    picture[:100, :300] = 255
    picture[600:, :300] = 0
    found = tissue_mask(ArraySlide(picture, mpp=4.0))
    assert agreement(found.window(1, 0, 0, *disc.shape), disc) > 0.93


def test_fat_and_lumens_belong_to_the_tissue_and_large_holes_do_not() -> None:
    picture, disc = slide_with_disc()
    y, x = np.mgrid[:700, :900]
    lumen = (y - 300) ** 2 + (x - 540) ** 2 < 20**2  # 160 um
    gap = (y - 420) ** 2 + (x - 660) ** 2 < 80**2  # 640 um
    picture[lumen | gap] = 243
    slide = ArraySlide(picture, mpp=4.0)
    found = tissue_mask(slide).window(1, 0, 0, *disc.shape)
    assert found[lumen].all()
    assert not found[420, 660]
    kept = TissueMaskSettings(max_hole_um=0, join_um=0, margin_um=0)
    assert not tissue_mask(slide, kept).window(1, 0, 0, *disc.shape)[300, 540]


@pytest.mark.parametrize(("wide_um", "long_um"), [(40, 300), (120, 150), (60, 600)])
def test_wide_clefts_are_glass_for_people_who_paint(wide_um: int, long_um: int) -> None:
    pixels = np.array(glass((800, 1000)))
    pixels[100:700, 100:900] = stained((600, 800))
    cleft = slice(400, 400 + wide_um), slice(200, 200 + long_um)  # enclosed by tissue
    pixels[cleft] = 243
    slit = slice(150, 158), slice(200, 800)
    pixels[slit] = 243
    settings = TissueMaskSettings()
    found = find_tissue(pixels, 1.0, settings.without_glass())
    assert not found[cleft][10:-10, 10:-10].any()
    assert found[slit].mean() > 0.95
    assert found[300:380, 150:850].all()
    assert find_tissue(pixels, 1.0, settings)[slit].all()


def test_points_and_windows_agree() -> None:
    mask = TissueMask(np.random.default_rng(1).random((20, 30)) > 0.5, 4.0)
    rows, columns = (part.ravel() for part in np.mgrid[-2:60, -3:90])
    np.testing.assert_array_equal(
        mask.at(1.5, rows, columns), mask.window(1.5, -2, -3, 62, 93).ravel()
    )


def test_window_depends_on_the_global_pixel_only() -> None:
    picture, _ = slide_with_disc()
    found = tissue_mask(ArraySlide(picture, mpp=4.0))
    whole = found.window(3.3, -5, -5, 240, 300)
    for y, x in [(-5, -5), (0, 0), (17, 101), (90, 150)]:
        part = found.window(3.3, y, x, 40, 50)
        assert np.array_equal(part, whole[y + 5 : y + 45, x + 5 : x + 55])
    assert not whole[:5].any()
    assert not found.window(3.3, 1000, 0, 5, 5).any()


def test_an_existing_level_is_read_as_it_is() -> None:
    picture, _ = slide_with_disc()
    big = np.repeat(np.repeat(picture, 4, 0), 4, 1)
    assert tissue_mask(ArraySlide(big, picture, mpp=1.25)).downsample == 4.0
    assert tissue_mask(ArraySlide(big, mpp=1.25)).downsample == pytest.approx(3.2)


@pytest.mark.parametrize(
    ("name", "mpp", "inside", "outside"),
    [  # shares of the picture (y, x), read off the slides by eye
        (
            "CMU-1-Small-Region.svs",
            0.499,
            [(0.4, 0.45), (0.3, 0.48), (0.9, 0.3), (0.37, 0.2)],
            [(0.1, 0.1), (0.6, 0.1), (0.1, 0.85), (0.85, 0.95), (0.01, 0.01)],
        ),
        (
            "colon_polyp_crop.tif",
            0.25,
            [(0.1, 0.25), (0.6, 0.4), (0.9, 0.6), (0.5, 0.03), (0.2, 0.6)],
            [(0.05, 0.05), (0.95, 0.1), (0.6, 0.95), (0.03, 0.9)],
        ),
        (
            "tcga-cr-7395-01a-01-ts1.svs",
            None,
            [(0.5, 0.3), (0.7, 0.9), (0.05, 0.7)],
            [(0.05, 0.1), (0.95, 0.1), (0.2, 0.04), (0.1, 0.95), (0.9, 0.2)],
        ),
    ],
)
def test_real_slides(
    shared_data: Path,
    name: str,
    mpp: float | None,
    inside: list[tuple[float, float]],
    outside: list[tuple[float, float]],
) -> None:
    with open_slide(shared_data / "wsi" / name) as slide:
        slide.mpp = mpp
        found = tissue_mask(slide)
    height, width = found.mask.shape
    for y, x in inside:
        assert found.mask[int(y * height), int(x * width)], f"tissue at {y}, {x} is missed"
    for y, x in outside:
        assert not found.mask[int(y * height), int(x * width)], f"glass at {y}, {x} is taken"


def test_real_pictures_without_glass_stay_whole(shared_data: Path) -> None:
    fractions = []
    for path in sorted((shared_data / "glas" / "img").glob("*"))[::6]:
        with Image.open(path) as picture:
            slide = ArraySlide(np.array(picture.convert("RGB")), mpp=0.62)
        truth = np.array(
            Image.open(next((shared_data / "glas").glob(f"masks_class/{path.stem}.*")))
        )
        found = tissue_mask(slide).window(1, 0, 0, *truth.shape)
        fractions.append(found[truth != 3].mean())
    assert np.mean(fractions) > 0.98
    assert min(fractions) > 0.85


@pytest.mark.parametrize(
    "wrong",
    [{"mpp": 0}, {"weak": 0}, {"weak": 0.5, "strong": 0.1}, {"join_um": -1}, {"mpp": float("nan")}],
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="tissue"):
        TissueMaskSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        TissueMask(np.zeros((2, 2), np.uint8), 1.0)  # type: ignore[arg-type]


def test_a_damaged_part_counts_as_tissue_so_that_it_is_tried(tmp_path: Path) -> None:
    pixels = np.full((1200, 1200, 3), 245, np.uint8)
    slide = TornSlide(tmp_path / "torn.svs", pixels)
    slide.broken = [(600, 600, 620, 620)]
    found = tissue_mask(slide)
    assert found.window(1.0, 600, 600, 20, 20).all()
    assert found.fraction < 0.2
    slide.broken = [(0, 0, 1200, 1200)]
    with pytest.raises(SlideError, match=r"torn\.svs.*no part of it"):
        tissue_mask(slide)
