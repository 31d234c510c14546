"""The shipped slides: what they hold, and the models that they name."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest

from napari_plimseg._sample_data import (
    COLORECTAL_TILES,
    MODEL_KEY,
    SKIN,
    Sample,
    known_tiles,
)
from napari_plimseg.models import list_models, load_model
from napari_plimseg.slides import open_slide


@pytest.mark.parametrize("sample", [SKIN, COLORECTAL_TILES], ids=["skin", "tiles"])
def test_a_sample_names_a_model_that_ships_with_it(sample: Sample) -> None:
    ((_, facts, kind),) = sample.layers()
    assert kind == "image"
    assert facts["metadata"][MODEL_KEY] == sample.model
    entry = next(entry for entry in list_models() if entry.name == sample.model)
    assert entry.available
    assert facts["scale"][0] == pytest.approx(0.5, rel=0.01)


def test_known_tiles_fill_the_slide_and_have_classes_of_its_model() -> None:
    tiles = known_tiles()
    assert set(Counter(tile.tissue for tile in tiles).values()) == {5}
    names = load_model(COLORECTAL_TILES.model).classes.names
    assert {tile.tissue for tile in tiles} < set(names)
    covered = np.zeros((1568, 1120), int)
    for tile in tiles:
        covered[tile.y : tile.y + tile.side, tile.x : tile.x + tile.side] += 1
    assert (covered == 1).all()
    with open_slide(COLORECTAL_TILES.path) as slide:
        assert slide.levels[0].shape == covered.shape


def test_the_tags_of_the_skin_sample_are_of_tiles_inside_it() -> None:
    with (SKIN.path.parent / "skin_tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = load_model(SKIN.model).classes.names
    assert len(rows) == 88
    with open_slide(SKIN.path) as slide:
        height, width = slide.levels[0].shape
    for row in rows:
        assert any(row[name] == "1" for name in names)
        _, y, x = row["file"].removesuffix(".png").split("_")
        assert int(y[1:]) + 256 <= height
        assert int(x[1:]) + 256 <= width


def test_the_skin_model_finds_what_a_person_sees() -> None:
    """Four places of the slide that nobody would doubt, one per class."""
    places = {
        "dermis": (2350, 1100), "epidermis": (1950, 1150), "keratin": (1010, 1450),
        "glass": (1500, 300),
    }  # fmt: skip
    model = load_model(SKIN.model)
    from plimseg_training.evaluation import predict_image

    with open_slide(SKIN.path) as slide:
        for name, (y, x) in places.items():
            pixels = slide.read_level(0, y - 160, x - 160, 320, 320)
            mask = predict_image(model, pixels, slide.mpp).argmax(0)[130:190, 130:190]
            wanted = model.classes.names.index(name)
            assert (mask == wanted).mean() > 0.5, name
