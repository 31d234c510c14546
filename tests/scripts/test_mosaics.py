"""Mosaics of tiles as a tagged folder: every window is tagged with what it shows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from bundled_model import mosaics
from bundled_model.mosaics import CLASSES, HELD_OUT, ORDER, TRAINING, Tile, mosaic, write_folder

from plimseg_training.config.recipe import load_recipe
from plimseg_training.config.shipped import known_recipes
from plimseg_training.data.scan import scan_folder
from plimseg_training.data.tagged_folder import read_truth

# colours that stay apart however they are stained
COLORS = {"TUM": (40, 30, 120), "STR": (240, 150, 190), "BACK": (250, 250, 250)}


@pytest.fixture(autouse=True)
def unstained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave colours as they are, so that they tell which tile a pixel comes from."""
    monkeypatch.setattr(mosaics, "stain_jitter", lambda pixels, random: pixels)


def tile(name: str, *also: str, side: int = 224) -> Tile:
    return Tile(np.full((side, side, 3), COLORS[name], np.uint8), (name, *also))


def shown(pixels: np.ndarray) -> set[str]:
    """Return which tissues cover a twentieth of some pixels, by their colours alone."""
    shares = {n: (pixels == c).all(-1).mean() for n, c in COLORS.items()}
    return {name for name, share in shares.items() if share >= mosaics.SMALLEST_SHARE}


@pytest.mark.parametrize("seed", range(6))
def test_each_window_is_tagged_with_what_it_shows(seed: int) -> None:
    made = mosaic([tile(n, side=150) for n in COLORS], np.random.default_rng(seed))
    several = 0
    for (y, x, height, width), tags in zip(made.windows(), made.tags(), strict=True):
        window = made.pixels[y : y + height, x : x + width]
        # two pieces of one tissue may reach the share only together, and then it is not tagged
        assert set(tags) <= shown(window)
        main = max(COLORS, key=lambda n: (window == COLORS[n]).all(-1).mean())
        assert main in tags
        several += len(tags) > 1
    assert several


def test_a_tile_with_two_tags_gives_both_and_its_first_is_the_truth() -> None:
    made = mosaic([tile("TUM", "STR")], np.random.default_rng(0))
    assert all(tags == ["TUM", "STR"] for tags in made.tags())
    assert (made.truth() == ORDER.index("TUM") + 1).all()


def test_pieces_show_their_own_tile_and_truth_names_it() -> None:
    made = mosaic([tile(n) for n in COLORS], np.random.default_rng(3))
    for name, color in COLORS.items():
        there = made.truth() == ORDER.index(name) + 1
        assert ((made.pixels == color).all(-1) == there).all()


def test_the_same_seed_gives_the_same_mosaic_and_borders_differ() -> None:
    tiles = [tile(n) for n in COLORS]
    first, same = (mosaic(tiles, np.random.default_rng(5)) for _ in range(2))
    other = mosaic(tiles, np.random.default_rng(6))
    assert (first.pixels == same.pixels).all()
    assert (first.pieces != other.pieces).any()


def test_the_folder_is_one_that_the_recipe_can_train_on(tmp_path: Path) -> None:
    write_folder(tmp_path, [tile("TUM"), tile("STR")], [tile("BACK")], (2, 1), seed=0)
    data = load_recipe(known_recipes()["bundled_colorectal"]).data
    classes = data.tissue_classes()
    assert classes is not None
    assert classes.names == tuple(CLASSES.values())
    folder = scan_folder(tmp_path, classes=classes, layout=data.layout, mpp=data.mpp).folder
    assert folder is not None
    groups = {image.name: image.group for image in folder.images}
    assert sorted(groups.values()) == [HELD_OUT, TRAINING, TRAINING]
    for image in folder.images:
        assert (image.truth is not None) == (image.group == HELD_OUT)
        names = {classes.names[i] for i in np.flatnonzero(image.tags.any(0))}
        wanted = {"empty glass"} if image.truth else {"tumour epithelium", "stroma"}
        assert names <= wanted
        if image.truth:
            assert (read_truth(image, folder) == ORDER.index("BACK") + 1).all()


def test_no_tile_for_measuring_is_trained_on(tmp_path: Path) -> None:
    def put(folder: str, count: int, value: int) -> None:
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 20), (value, value, value)).save(
                tmp_path / folder / f"{i:02d}.png"
            )

    for name in mosaics.NCT_CLASSES:
        put(f"{mosaics.NCT_FOLDER}/{name}", 6, 100)
    for name in mosaics.KATHER_2016:
        put(f"kather2016-samples/{name}", 1, 120)
    put("nct-crc-samples/CRC-VAL-HE-7K/TUM", 3, 7)
    put("glas/img", 3, 7)
    training, held = mosaics.tiles(tmp_path)
    assert not any((t.pixels == 7).any() for t in [*training, *held])
    named = [t for t in training if t.pixels[0, 0, 0] == 100]
    assert len(named) == 4 * 9
    assert sum(t.pixels[0, 0, 0] == 100 for t in held) == 2 * 9
    assert sum(t.pixels[0, 0, 0] == 120 for t in held) == len(mosaics.KATHER_2016) - 1
