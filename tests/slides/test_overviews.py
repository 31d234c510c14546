"""Pictures of slides whose levels are too large to read whole: bounded time, right colors."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_plimseg import limits
from napari_plimseg.errors import SlideError
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.display import display_levels
from napari_plimseg.slides.readers import TiffSlide
from napari_plimseg.slides.tissue_mask import tissue_mask
from tests.support import slides as factory

if TYPE_CHECKING:
    from pathlib import Path

SIDE, TILE = 100_000, 256
TISSUE = (200, 100, 160)


def huge_tiff(path: Path, *, stored: float) -> Path:
    """Write a TIFF without pyramid, every tile of which is one and the same, or absent."""
    count = (-(-SIDE // TILE)) ** 2
    tile = imagecodecs.zlib_encode(np.full((TILE, TILE, 3), TISSUE, np.uint8).tobytes())
    is_there = np.arange(count) < stored * count
    where = 16 + len(tile)
    tags = [
        *((256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 3, 8 | 8 << 16 | 8 << 32)),
        *((259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3), (322, 4, 1, TILE), (323, 4, 1, TILE)),
        *((324, 16, count, where), (325, 16, count, where + 8 * count)),
    ]
    with path.open("wb") as file:
        file.write(b"II" + struct.pack("<HHHQ", 43, 8, 0, where + 16 * count) + tile)
        file.write(np.where(is_there, 16, 0).astype("<u8").tobytes())
        file.write(np.where(is_there, len(tile), 0).astype("<u8").tobytes())
        file.write(struct.pack("<Q", len(tags)))
        for tag in tags:
            file.write(struct.pack("<HHQQ", *tag))
        file.write(struct.pack("<Q", 0))
    return path


@pytest.mark.parametrize("stored", [0.0, 0.01, 1.0])
def test_a_huge_level_is_read_in_bounded_time(
    stored: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = huge_tiff(tmp_path / "huge.tif", stored=stored)
    monkeypatch.setenv(limits.ENVIRONMENT, "slide-read-bytes=200MB")
    began = time.perf_counter()
    with open_slide(path) as slide:
        picture = slide.thumbnail(256)
        assert picture.shape == (256, 256, 3)
        colored = (picture == TISSUE).all(2)
        assert colored.mean() == pytest.approx(stored, abs=0.02)
        assert (picture[~colored].astype(int) > 95).all()
        found = tissue_mask(slide)
        assert found.fraction >= (stored if stored < 1 else 0)
        shown = np.asarray(display_levels(slide)[-1])
        assert (shown == TISSUE).all(2).mean() == pytest.approx(stored, abs=0.02)
    assert time.perf_counter() - began < 60


def test_the_limit_counts_what_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = huge_tiff(tmp_path / "huge.tif", stored=1.0)
    decoded: list[int] = []
    decode = TiffSlide._decoded

    def counted(self: TiffSlide, *tile_and_memory: object) -> np.ndarray:
        tile = decode(self, *tile_and_memory)  # type: ignore[arg-type]
        decoded.append(tile.nbytes)
        return tile

    monkeypatch.setattr(TiffSlide, "_decoded", counted)
    monkeypatch.setenv(limits.ENVIRONMENT, "slide-read-bytes=50MB")
    with open_slide(path) as slide:
        slide.thumbnail(128)
    assert 0 < sum(decoded) <= 51_000_000  # a row of tiles may be more


def test_small_levels_give_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = factory.tissue(700, 900)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), photometric="rgb")
    with open_slide(tmp_path / "a.tif") as slide:
        exact, tissue = slide.thumbnail(90), tissue_mask(slide).mask
        assert not slide.is_sampled()
        np.testing.assert_array_equal(slide.read_overview(10, 0, 0, 70, 90), exact)
        monkeypatch.setenv(limits.ENVIRONMENT, f"slide-read-bytes={pixels.nbytes // 3}")
        sampled, grown = slide.thumbnail(90), tissue_mask(slide).mask
        assert slide.is_sampled()
    assert sampled.shape == exact.shape
    # the tiles that were read have their own pixels, to within the rounding at their borders
    assert (np.abs(sampled.astype(int) - exact) <= 1).all(2).mean() > 0.15
    assert (tissue & ~grown).mean() < 0.02


def test_too_many_pixels_at_once_are_refused(tmp_path: Path) -> None:
    path = huge_tiff(tmp_path / "huge.tif", stored=0.0)
    with open_slide(path) as slide, pytest.raises(SlideError, match="'slide-read-bytes'"):
        slide.read_level(0, 0, 0, SIDE, SIDE)
    with open_slide(path) as slide, pytest.raises(SlideError, match="--limit slide-read-bytes="):
        slide.read_at(1.5, 0, 0, SIDE // 2, SIDE // 2)
