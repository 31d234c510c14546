"""What a model sees of a tile: the slide, mirrored beyond its border."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.inference.plan import Frame, TissueGate
from napari_plimseg.tiling import Window
from tests.support.models import ArraySlide

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

REACH = 60
GATE = TissueGate(None, 4.0)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return noise(90, 130)


@pytest.fixture
def slide(pixels: NDArray[np.uint8], tmp_path: Path) -> ArraySlide:
    return ArraySlide(tmp_path / "tissue.svs", pixels)


def frame_of(slide: ArraySlide) -> Frame:
    return Frame(1.0, slide.shape)


@pytest.mark.parametrize(
    "window",
    [(10, 20, 50, 60), (-60, -60, 100, 100), (50, 90, 100, 100), (-20, 40, 130, 30),
     (-60, -60, 210, 250)],
)  # fmt: skip
def test_beyond_its_border_the_slide_is_mirrored(
    slide: ArraySlide, pixels: NDArray[np.uint8], window: tuple[int, int, int, int]
) -> None:
    y, x, height, width = window
    expected = np.pad(pixels, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="symmetric")
    seen = GATE.read_around(slide, frame_of(slide), Window(y, x, height, width), REACH)
    top, left = y + REACH, x + REACH
    assert np.array_equal(seen, expected[top : top + height, left : left + width])


def test_further_out_it_is_white(slide: ArraySlide) -> None:
    seen = GATE.read_around(slide, frame_of(slide), Window(-70, 0, 300, 200), REACH)
    assert (seen[:10] == 255).all()
    assert (seen[70 + 90 + REACH :] == 255).all()
    assert (seen[:, 130 + REACH :] == 255).all()
    assert (seen[10 : 70 + 90 + REACH, : 130 + REACH] < 200).all()


def test_a_slide_smaller_than_the_reach_is_mirrored_again(tmp_path: Path) -> None:
    pixels = noise(7, 9)
    small = ArraySlide(tmp_path / "small.svs", pixels)
    seen = GATE.read_around(small, frame_of(small), Window(-30, -30, 67, 69), REACH)
    expected = np.pad(pixels, ((30, 30), (30, 30), (0, 0)), mode="symmetric")
    assert np.array_equal(seen, expected)
