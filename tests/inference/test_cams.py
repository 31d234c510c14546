"""CAMs over a view: the right values at the right place, bounded, cached, and stopped at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference import cams
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.inference.plan import RunRegion, RunSettings
from napari_plimseg.models.segmentation.cams import CamTarget
from napari_plimseg.slides.slide import Region
from tests.support.models import ArraySlide

if TYPE_CHECKING:
    from pathlib import Path

RED = CamTarget(torch.tensor([[1.0, 0.0, 0.0]]))
LIKELY_RED = CamTarget(torch.tensor([[1.0, 0.0, 0.0]]), scale=20.0, bias=-10.0)
EVERYWHERE = RunSettings(device="cpu", tissue=None)


class Colors:
    """The vector of a cell is its mean color."""

    name, identity, mpp, stride, alignment, halo = "colors", "colors-1", 0.5, 16, 64, 64

    def __init__(self) -> None:
        self.calls = 0

    def to(self, device: torch.device) -> Colors:
        return self

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        mean = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), self.stride)
        return F.normalize(mean, dim=1)


@pytest.fixture
def slide(tmp_path: Path) -> ArraySlide:
    """Green, with a red square whose corner is at (640, 320)."""
    pixels = np.zeros((1600, 2000, 3), np.uint8)
    pixels[..., 1] = 200
    pixels[640:960, 320:640] = (200, 0, 0)
    return ArraySlide(tmp_path / "a.tif", pixels)


def whole(slide: ArraySlide) -> RunRegion:
    return RunRegion.rectangle(Region(0, 0, *slide.shape))


def picture(steps: list[object]) -> tuple[cams.CamFrame, np.ndarray]:
    frame, *tiles = steps
    assert isinstance(frame, cams.CamFrame)
    assert len(tiles) == frame.tiles
    values = np.full((frame.window.height, frame.window.width), np.nan, np.float32)
    for tile in tiles:
        assert isinstance(tile, cams.CamTile)
        values[tile.window.slices] = tile.values
    return frame, values


def test_values_are_where_they_belong(slide: ArraySlide) -> None:
    steps = list(cams.CamMaps().run(slide, Colors(), RED, whole(slide), EVERYWHERE))
    frame, values = picture(steps)
    assert (frame.downsample, frame.is_whole, frame.lowest) == (16.0, True, -1.0)
    wanted = np.zeros(values.shape)
    wanted[40:60, 20:40] = 1
    assert np.allclose(values, wanted, atol=1e-3)
    frame, values = picture(
        list(cams.CamMaps().run(slide, Colors(), LIKELY_RED, whole(slide), EVERYWHERE))
    )
    assert frame.lowest == 0.0
    assert values[50, 30] > 0.99
    assert values[0, 0] < 0.01


def test_a_part_has_the_values_of_the_whole(slide: ArraySlide) -> None:
    _, values = picture(list(cams.CamMaps().run(slide, Colors(), RED, whole(slide), EVERYWHERE)))
    part = RunRegion.rectangle(Region(700, 100, 300, 300))
    frame, found = picture(list(cams.CamMaps().run(slide, Colors(), RED, part, EVERYWHERE)))
    rows, columns = frame.window.slices
    assert found.size < values.size
    assert np.array_equal(found, values[rows, columns])
    assert frame.window.y * 16 <= 700
    assert (frame.window.y + frame.window.height) * 16 >= 1000


def test_another_word_needs_no_new_look_at_the_pixels(slide: ArraySlide) -> None:
    maps, source = cams.CamMaps(), Colors()
    list(maps.run(slide, source, RED, whole(slide), EVERYWHERE))
    calls = source.calls
    assert calls
    _, values = picture(list(maps.run(slide, source, LIKELY_RED, whole(slide), EVERYWHERE)))
    assert source.calls == calls
    assert values[50, 30] > 0.99
    other = Colors()
    other.identity = "colors-2"
    list(maps.run(slide, other, RED, whole(slide), EVERYWHERE))
    assert other.calls == calls


def test_the_cache_is_bounded(slide: ArraySlide) -> None:
    maps, source = cams.CamMaps(cache_bytes=1), Colors()
    list(maps.run(slide, source, RED, whole(slide), EVERYWHERE))
    calls = source.calls
    list(maps.run(slide, source, RED, whole(slide), EVERYWHERE))
    assert source.calls > calls


def test_of_a_large_view_the_middle_is_computed(
    slide: ArraySlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cams, "PIXELS_ON_CPU", 512 * 512)
    frame, *tiles = cams.CamMaps().run(slide, Colors(), RED, whole(slide), EVERYWHERE)
    assert isinstance(frame, cams.CamFrame)
    assert not frame.is_whole
    assert len(tiles) == frame.tiles == 1
    middle = 800 / 16, 1000 / 16
    assert frame.window.y <= middle[0] < frame.window.y + frame.window.height
    assert frame.window.x <= middle[1] < frame.window.x + frame.window.width


def test_glass_is_not_looked_at(slide: ArraySlide) -> None:
    slide.pixels[:] = 244
    slide.pixels[:500, :500] = (150, 60, 130)
    source = Colors()
    steps = list(cams.CamMaps().run(slide, source, RED, whole(slide), RunSettings(device="cpu")))
    frame, values = picture(steps)
    assert source.calls < frame.tiles
    assert values[10, 10] > 0.5
    assert (values[60:] == frame.lowest).all()


def test_it_can_be_stopped_and_uses_the_engine_alone(slide: ArraySlide) -> None:
    source = Colors()
    steps = cams.CamMaps().run(slide, source, RED, whole(slide), EVERYWHERE)
    next(steps)
    next(steps)
    assert ENGINE.owner == cams.OWNER
    with pytest.raises(PlimsegError, match="in use by the CAM"):
        next(cams.CamMaps().run(slide, source, RED, whole(slide), EVERYWHERE))
    steps.close()
    assert ENGINE.owner == ""
    assert source.calls == 1
