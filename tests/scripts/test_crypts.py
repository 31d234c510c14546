"""Scenes of real crypts: outlines lie on what they outline, however a tile was turned."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])


@pytest.fixture
def lc25000(tmp_path: Path) -> Path:
    """Tiles that are dark where crypts are outlined, and one of other tissue."""
    from hint_model.crypts import OUTLINES, TILE

    for name in ("colon_n", "colon_aca"):
        (tmp_path / name).mkdir()
    for name, lines in json.loads(OUTLINES.read_text("utf-8")).items():
        tile = Image.new("RGB", (TILE, TILE), (235, 215, 230))
        for line in lines:
            ImageDraw.Draw(tile).polygon([tuple(place) for place in line], fill=(70, 30, 90))
        tile.save(tmp_path / "colon_n" / name, quality=95)
    Image.new("RGB", (TILE, TILE), (235, 215, 230)).save(tmp_path / "colon_aca" / "a.jpeg")
    return tmp_path


def test_outlines_are_whole_and_apart() -> None:
    from hint_model.crypts import OUTLINES, TILE

    outlines = json.loads(OUTLINES.read_text("utf-8"))
    assert sum(map(len, outlines.values())) == 198
    for name, lines in outlines.items():
        covered = np.zeros((TILE, TILE), int)
        for line in lines:
            image = Image.new("1", (TILE, TILE))
            ImageDraw.Draw(image).polygon([tuple(place) for place in line], fill=1)
            inside = np.asarray(image)
            assert inside.sum() > 500, name
            assert ndimage.label(inside)[1] == 1, name
            covered += inside
        assert (covered > 1).sum() < 0.05 * (covered > 0).sum(), name


def test_ids_lie_on_the_crypts_of_the_pixels(lc25000: Path) -> None:
    from hint_model.crypts import crypts
    from hint_model.scenes import SIDE

    for scene in crypts(lc25000, 6, np.random.default_rng(0)):
        assert scene.fine.shape == scene.coarse.shape == (SIDE, SIDE, 3)
        ids = scene.ids[0]
        assert ids.shape == (SIDE, SIDE)
        brightness = scene.coarse.mean(2)
        dark = brightness < (brightness.min() + brightness.max()) / 2
        assert dark.any()
        assert ((ids > 0) == dark).mean() > 0.97


def test_crypts_of_one_scene_are_told_apart(lc25000: Path) -> None:
    from hint_model.crypts import crypts

    (scene,) = crypts(lc25000, 1, np.random.default_rng(1))
    numbers = np.unique(scene.ids[scene.ids > 0])
    assert len(numbers) > 3
    for number in numbers:
        _, pieces = ndimage.label(scene.ids[0] == number, np.ones((3, 3)))
        assert pieces == 1
