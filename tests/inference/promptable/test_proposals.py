from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import ConfigError, SlideError
from napari_plimseg.inference.promptable.proposals import (
    classes_around,
    propose_regions,
    regions_of_class,
)
from napari_plimseg.models.encoders.loading import load_encoder
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.slide import Region
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import COLORECTAL
from tests.support.paths import DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_plimseg.slides.slide import Slide

TILES = DATA / "nct_crc"


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """A slide of 2 x 3 tiles of 224 pixels: fat and lymphocytes, stroma elsewhere."""
    rows = (("STR", "ADI", "STR"), ("STR", "STR", "LYM"))
    tiles = [
        [np.array(Image.open(TILES / f"{name}.webp").convert("RGB")) for name in row]
        for row in rows
    ]
    path = tmp_path_factory.mktemp("words") / "mosaic.png"
    Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in tiles])).save(path)
    with open_slide(path) as slide:
        slide.mpp = 0.5
        yield slide


@pytest.mark.parametrize(
    ("words", "row", "column"), [("fat", 0, 1), ("lymphoid tissue, immune cells", 1, 2)]
)
def test_a_typed_tissue_is_proposed_where_it_lies(
    mosaic: Slide, words: str, row: int, column: int
) -> None:
    best = propose_regions(mosaic, Region(0, 0, *mosaic.shape), words)[0]
    y, x = best.box.y + best.box.height / 2, best.box.x + best.box.width / 2
    assert (int(y // 224), int(x // 224)) == (row, column)
    assert best.score > 0.5
    assert best.box.height * best.box.width == pytest.approx(224**2, rel=0.4)


def test_proposals_keep_their_place_when_the_view_is_a_part(mosaic: Slide) -> None:
    part = propose_regions(mosaic, Region(10, 130, 300, 410), "fat")[0].box
    whole = propose_regions(mosaic, Region(0, 0, *mosaic.shape), "fat")[0].box
    for name in ("x", "y", "height", "width"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), abs=24)


def test_words_do_not_compete_with_what_means_the_same() -> None:
    encoder = load_encoder("bundled")
    assert {"tumour epithelium", "normal mucosa"}.isdisjoint(
        classes_around(("gland",), encoder).names
    )
    assert "stroma" in classes_around(("gland",), encoder).names
    assert classes_around(("Stroma",), encoder).names[0] == "Stroma"


def test_a_view_without_words_too_wide_or_without_pixel_size_is_refused(mosaic: Slide) -> None:
    with pytest.raises(ConfigError, match="no tissue was typed"):
        propose_regions(mosaic, Region(0, 0, 10, 10), " , ")
    with pytest.raises(ConfigError, match="Zoom in"):
        propose_regions(mosaic, Region(0, 0, 50_000, 50_000), "fat")
    mosaic.mpp = None
    try:
        with pytest.raises(SlideError, match="pixel size"):
            propose_regions(mosaic, Region(0, 0, 10, 10), "fat")
    finally:
        mosaic.mpp = 0.5


def test_regions_of_a_class_are_boxes_around_its_connected_parts() -> None:
    ids = np.full((60, 80), 3, np.uint8)
    ids[10:30, 20:50] = 1
    ids[40:55, 5:20] = 1
    ids[58, 70] = 1  # a speck
    info = MaskInfo("a", "f", (800, 800), Region(0, 0, 800, 800), 0.5, (200, 200), 4.0, COLORECTAL)
    found = regions_of_class(ids, Window(100, 40, 60, 80), info, 1)
    assert [(r.box.y, r.box.x, r.box.height, r.box.width) for r in found] == [
        (440, 240, 80, 120),
        (560, 180, 60, 60),
    ]
    assert found[0].mask.area == 20 * 30 * 16
