"""The overlay picture: colours where the classes are, a scale bar of a round length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import ExportError
from napari_plimseg.results.export import overlay
from napari_plimseg.results.export.overlay import (
    OverlaySheet,
    export_overlay,
    overlay_picture,
    round_length,
)
from napari_plimseg.results.measure import area_table
from napari_plimseg.slides import open_slide
from napari_plimseg.tissue import COLORECTAL, TissueClass, TissueClasses
from tests.support.masks import PaintedSlide, blobs, info_for

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def white(shape: tuple[int, int], *, mpp: float | None = 0.25) -> PaintedSlide:
    return PaintedSlide(np.full((*shape, 3), 255, np.uint8), mpp=mpp)


def where(picture: Image.Image, color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return (np.abs(np.asarray(picture).astype(int) - color) <= 1).all(-1)


def box(found: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def test_a_rectangle_is_coloured_where_it_is() -> None:
    mask = np.zeros((200, 300), np.uint8)
    mask[50:100, 80:180] = 2
    picture = overlay_picture(mask, info_for(mask), white((800, 1200)), opacity=0.5)
    sheet = OverlaySheet(Image.new("RGB", (1200, 800)), info_for(mask), (), 1.0)
    top, left = sheet.margin + sheet.line * 3, sheet.margin
    blended = tuple(round(127.5 + c / 2) for c in COLORECTAL[1].color)
    y0, y1, x0, x1 = box(where(picture, blended))
    # the first row and column of a region are its darker line
    assert (y0 - top, y1 - top, x0 - left, x1 - left) == (201, 399, 321, 719)


def test_background_and_not_computed_stay_as_they_are() -> None:
    mask = np.array([[9, 0]], np.uint8).repeat(200, 0).repeat(100, 1)
    slide = PaintedSlide(np.full((800, 800, 3), (200, 180, 190), np.uint8))
    picture = overlay_picture(mask, info_for(mask), slide)
    assert where(picture, (200, 180, 190)).sum() == 800 * 800


@pytest.mark.parametrize(
    ("longest", "length"),
    [(1, 1), (1.9, 1), (2, 2), (499, 200), (500, 500), (7300, 5000), (0.3, 0.2), (1000, 1000)],
)
def test_round_lengths(longest: float, length: float) -> None:
    assert round_length(longest) == pytest.approx(length)


def test_the_scale_bar_has_its_length() -> None:
    mask = np.zeros((500, 1000), np.uint8)
    picture = overlay_picture(mask, info_for(mask, downsample=1.0, mpp=0.5), white((500, 1000)))
    pixels = np.asarray(picture)
    sheet = OverlaySheet(Image.new("RGB", (1000, 500)), info_for(mask), (), 1.0)
    row = pixels[sheet.margin + sheet.line * 4 + 500, sheet.margin - 2 :, 0] < 60
    start = int(np.argmax(row))
    assert int(np.argmin(row[start:])) == 100 / 0.5 + 1  # 100 um at 0.5 um/px, ends included


def test_without_a_pixel_size_there_is_no_scale_bar_but_a_note() -> None:
    mask = np.zeros((500, 1000), np.uint8)
    info = info_for(mask, downsample=1.0, mpp=None)
    pixels = np.asarray(overlay_picture(mask, info, white((500, 1000), mpp=None)))
    sheet = OverlaySheet(Image.new("RGB", (1000, 500)), info, (), 1.0)
    row = pixels[sheet.margin + sheet.line * 4 + 500, :, 0] < 60
    longest = max(len(run) for run in "".join("#" if v else " " for v in row).split(" "))
    assert longest < 20


@pytest.mark.parametrize("with_canvas_font", [True, False])
def test_many_long_names_fit_on_the_sheet(
    with_canvas_font: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_canvas_font:
        monkeypatch.setattr(overlay, "_font_file", lambda **_: None)
    classes = TissueClasses(
        tuple(TissueClass(f"a very long name of a class {i} " * 4, (i, 9, 9)) for i in range(60))
    )
    mask = blobs((40, 50), count=60)
    info = info_for(mask, classes=classes, name="long " * 60)
    sheet = OverlaySheet(Image.new("RGB", (50, 40)), info, area_table(mask, info), 4.0).drawn()
    edge = np.asarray(sheet)[:, -3:]
    assert sheet.height > 60 * 13
    assert (edge == 255).all(), "text runs over the right edge"


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2500, 2)])
def test_slides_of_odd_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    mask = np.ones(shape, np.uint8)
    path = export_overlay(
        tmp_path / "o.png", mask, info_for(mask, downsample=1.0), white(shape), max_side=1000
    )
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        assert max(picture.size) < 2000


def test_another_slide_is_refused(tmp_path: Path) -> None:
    mask = np.ones((10, 10), np.uint8)
    with pytest.raises(ExportError, match="40 x 40"):
        export_overlay(tmp_path / "o.png", mask, info_for(mask), white((41, 40)))


def test_the_sample_slide(sample_path: Path, tmp_path: Path) -> None:
    with open_slide(sample_path) as slide:
        mask = blobs((-(-slide.shape[0] // 4), -(-slide.shape[1] // 4)))
        info = info_for(mask, slide_shape=slide.shape, mpp=slide.mpp)
        with Image.open(export_overlay(tmp_path / "o.png", mask, info, slide)) as picture:
            assert picture.height > 2048
