"""Lazy levels for a viewer: the file's own and computed ones."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.slides import Level, Slide, open_slide
from napari_plimseg.slides.display import COARSEST, UNREADABLE_COLOR, display_levels, halved
from tests.support import slides as factory

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CountingSlide(Slide):
    """A slide of one colour of any size that counts the pixels it is asked for."""

    def __init__(self, shape: tuple[int, int], tile: tuple[int, int] = (256, 256)) -> None:
        super().__init__(Path("huge.tif"), (Level(shape, 1.0, tile),), mpp=0.25, format_name="")
        self.pixels_read = 0

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        self.pixels_read += height * width
        return np.full((height, width, 3), (90, 60, 120), np.uint8)

    def _close(self) -> None:
        pass


def test_a_huge_slide_without_pyramid_costs_nothing_until_looked_at():
    slide = CountingSlide((150_000, 120_000))
    levels = display_levels(slide)
    assert slide.pixels_read == 0
    assert [level.shape[0] for level in levels[:3]] == [150_000, 75_000, 37_500]
    assert COARSEST < max(levels[-1].shape) <= 2 * COARSEST
    window = levels[0][70_000:70_300, 50_000:50_400].compute()
    assert window.shape == (300, 400, 3)
    assert slide.pixels_read == 300 * 400  # the window only, not its chunks
    levels[2][1000:1010, 1000:1010].compute()
    assert slide.pixels_read <= 300 * 400 + 2048**2  # one block of the computed level


def test_computed_levels_are_means_and_are_computed_once():
    pixels = factory.tissue(2500, 1900)

    class ArraySlide(CountingSlide):
        def _read_level(
            self, level: int, y: int, x: int, height: int, width: int
        ) -> NDArray[np.uint8]:
            self.pixels_read += height * width
            return pixels[y : y + height, x : x + width]

    slide = ArraySlide(pixels.shape[:2])
    fine, half = display_levels(slide)
    np.testing.assert_array_equal(half.compute(), halved(pixels))
    assert slide.pixels_read == 2500 * 1900
    np.testing.assert_array_equal(half[100:900, 50:750].compute(), halved(pixels)[100:900, 50:750])
    assert slide.pixels_read == 2500 * 1900
    np.testing.assert_array_equal(fine[::7, ::5].compute(), pixels[::7, ::5])


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (4, 1), (7, 8)])
def test_halved(shape):
    fine = factory.tissue(*shape)
    got = halved(fine)
    assert got.shape == (-(-shape[0] // 2), -(-shape[1] // 2), 3)
    padded = np.pad(fine, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), "edge").astype(int)
    blocks = padded.reshape(got.shape[0], 2, got.shape[1], 2, 3).sum((1, 3))
    np.testing.assert_array_equal(got, (blocks + 2) // 4)


@pytest.mark.parametrize(
    ("tile", "chunk"),
    [
        ((256, 256), (512, 512)),
        ((240, 240), (720, 720)),
        ((1024, 1024), (1024, 1024)),
        ((8, 3968), (512, 2048)),
        ((16, 70_000), (512, 2048)),
        ((60_000, 70_000), (512, 2048)),
    ],
)
def test_chunks_are_whole_tiles_of_a_sensible_size(tile, chunk):
    levels = display_levels(CountingSlide((60_000, 70_000), tile))
    assert levels[0].chunksize == (*chunk, 3)


def test_own_levels_come_first(tmp_path):
    levels = factory.pyramid(factory.tissue(), 3)
    with open_slide(factory.write_tiff(tmp_path / "p.tif", levels)) as slide:
        shown = display_levels(slide)
        assert len(shown) == 3
        for array, expected in zip(shown, levels, strict=True):
            assert array.dtype == np.uint8
            np.testing.assert_array_equal(array.compute(), expected)


def test_what_cannot_be_read_is_pink_and_said_once(tmp_path, caplog):
    pixels = factory.tissue(2100, 600)
    path = factory.write_tiff(tmp_path / "cut.tif", [pixels], compression=None)
    with open_slide(path) as slide:
        fine, coarse = display_levels(slide)
        os.truncate(path, path.stat().st_size // 2)
        with caplog.at_level(logging.WARNING):
            window = fine.compute()
            coarse.compute()
        assert (window[-100:, :100] == UNREADABLE_COLOR).all()
        np.testing.assert_array_equal(window[:512, :512], pixels[:512, :512])
        assert len(caplog.records) == 1
        assert "cut.tif" in caplog.text
        assert str(tmp_path) not in caplog.text


def test_two_openings_have_names_of_their_own(sample_path):
    with open_slide(sample_path) as one, open_slide(sample_path) as two:
        assert display_levels(one)[0].name != display_levels(two)[0].name
