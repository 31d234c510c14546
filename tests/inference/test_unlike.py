"""A slide unlike a model's training tissue: said before the first tile, and kept with the mask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_plimseg.inference.engine import open_store, segment_slide
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.results import export_all
from napari_plimseg.results.mask_store import MaskStore
from tests.support.models import ArraySlide, ColorModel, painted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SENTENCE = "This slide looks unlike the tissue that this model was trained on."


class KnowingModel(ColorModel):
    """Finds every slide unlike its training tissue, and counts the windows that it sees."""

    familiarity = True
    seen = 0

    def unlike(self, windows: Iterable[Any]) -> str:
        self.seen = sum(1 for _ in windows)
        return SENTENCE


def test_it_is_said_before_the_first_tile_and_kept_in_store_and_exports(tmp_path: Path) -> None:
    slide, model = ArraySlide(tmp_path / "s.bin", painted(600, 700)), KnowingModel()
    settings = RunSettings(tile_size=256, tissue=None, device="cpu")
    with open_store(slide, model, tmp_path / "s.plimseg", settings=settings) as store:
        running = segment_slide(slide, model, store, settings=settings)
        progress = next(step for step in running if store.info.unlike)
        running.close()
        assert progress.tiles_done == 0
        assert store.info.unlike == SENTENCE
        assert 1 <= model.seen <= 32
    with MaskStore.open(tmp_path / "s.plimseg", writable=True) as store:
        assert store.info.unlike == SENTENCE
        list(segment_slide(slide, model, store, settings=settings))
        mask = store.read_classes()
        (path, *_) = export_all(tmp_path, "s", mask, store.info, slide, formats=("geojson",))
    assert json.loads(path.read_text())["about"]["unlike"] == SENTENCE


def test_a_model_that_knows_no_tissue_says_nothing(tmp_path: Path) -> None:
    slide, model = ArraySlide(tmp_path / "s.bin", painted(300, 300)), ColorModel()
    settings = RunSettings(tile_size=256, tissue=None, device="cpu")
    with open_store(slide, model, tmp_path / "s.plimseg", settings=settings) as store:
        list(segment_slide(slide, model, store, settings=settings))
        assert store.info.unlike == ""
        assert "unlike" not in store.info.to_dict()
