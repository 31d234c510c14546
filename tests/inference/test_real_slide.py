"""The shipped model on the shipped slide, through the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.inference.engine import RunSettings, open_store, segment_slide
from napari_plimseg.inference.plan import RunRegion
from napari_plimseg.models.loading import load_model
from napari_plimseg.slides import Region, open_slide
from napari_plimseg.tissue import COLORECTAL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PART = Region(1100, 900, 300, 300)


def segmented(sample: Path, folder: Path, region: RunRegion, tile_size: int) -> NDArray[np.uint8]:
    settings = RunSettings(tile_size=tile_size, probabilities=False)
    model = load_model("bundled")
    with (
        open_slide(sample) as slide,
        open_store(slide, model, folder / f"{tile_size}.plimseg", settings=settings) as store,
    ):
        for _ in segment_slide(slide, model, store, region=region, settings=settings):
            pass
        return store.read_classes()


@pytest.mark.slow
def test_a_real_slide_gives_the_same_mask_in_three_tilings_and_in_a_shape(
    sample_path: Path, tmp_path: Path
) -> None:
    rectangle = RunRegion.rectangle(PART, clip=True)
    masks = {size: segmented(sample_path, tmp_path, rectangle, size) for size in (256, 512, 1024)}
    inside = masks[256] != 0
    assert inside.sum() == pytest.approx(300 * 300 / 16, rel=0.03)
    for mask in masks.values():
        assert np.array_equal(mask != 0, inside)
        assert np.mean(mask[inside] != masks[256][inside]) < 0.001

    corners = np.array([[1120.0, 920.0], [1380.0, 940.0], [1200.0, 1180.0]])
    shape = RunRegion.polygons([corners])
    part = segmented(sample_path, tmp_path / "shape", shape, 256)
    drawn = part != 0
    assert 0 < drawn.sum() < inside.sum()
    assert np.mean(part[drawn] != masks[1024][drawn]) < 0.001


@pytest.mark.slow
def test_the_sample_s_epidermis_is_epithelium_and_its_dermis_is_not(
    sample_path: Path, tmp_path: Path
) -> None:
    region = RunRegion.rectangle(Region(1780, 1140, 240, 180), clip=True)
    mask = segmented(sample_path, tmp_path, region, 512)
    epithelium = np.isin(mask, [COLORECTAL.mask_id(n) for n in COLORECTAL.names[:2]])
    fibrous = np.isin(mask, [COLORECTAL.mask_id(n) for n in ("stroma", "muscle")])
    epidermis = np.s_[1800 // 4 : 2000 // 4, 1150 // 4 : 1300 // 4]
    assert epithelium[epidermis].mean() > 0.7
    assert fibrous[epidermis].mean() < 0.25
