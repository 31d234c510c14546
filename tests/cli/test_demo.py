"""`plimseg demo` and the shipped models: both samples, and what each says of the other tissue."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg._sample_data import COLORECTAL_TILES, known_tiles
from napari_plimseg.cli import main
from napari_plimseg.cli.demo import agreement
from napari_plimseg.models import load_model
from napari_plimseg.results import MaskStore

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_shows_the_skin_and_says_how_many_tiles_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path), "--no-viewer"]) == 0
    shown = capsys.readouterr().out
    found = re.search(r"(\d+) of 35 have their known class", shown)
    assert found
    assert int(found[1]) >= 24
    info = MaskStore.open(tmp_path / "CMU-1-Small-Region.plimseg").info
    assert "keratin" in info.classes.names
    for stem in ("CMU-1-Small-Region", "colorectal_tiles"):
        assert (tmp_path / f"{stem}.overlay.png").is_file()
        assert (tmp_path / f"{stem}.areas.csv").is_file()


def test_agreement_counts_the_class_of_most_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = load_model(COLORECTAL_TILES.model).classes
    mask = np.zeros((392, 280), np.uint8)
    for number, tile in enumerate(known_tiles()):
        part = mask[tile.y // 4 : tile.y // 4 + 56, tile.x // 4 : tile.x // 4 + 56]
        part[:] = classes.names.index(tile.tissue) + 1
        if number == 0:
            part[:, :40] = classes.names.index("stroma") + 1

    class Info:
        downsample = 4.0

    Info.classes = classes  # type: ignore[attr-defined]
    monkeypatch.setattr("napari_plimseg.results.MaskStore.open", lambda path: None)
    monkeypatch.setattr("napari_plimseg.results.mask_to_export", lambda store: (mask, Info))
    assert "34 of 35" in agreement(tmp_path)


@pytest.mark.parametrize(("model", "says"), [("bundled-tissue", True), ("bundled-skin", False)])
def test_skin_is_unlike_the_tissue_of_the_colorectal_model_and_like_its_own(
    model: str, says: bool, sample_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["segment", str(sample_path), "--model", model, "--region", "1000,1000,200,200"]
    assert main([*run, "--out", str(tmp_path), "--format", "geojson"]) == 0
    shown = capsys.readouterr()
    assert ("looks unlike the tissue" in shown.out + shown.err) is says
    about = json.loads((tmp_path / f"{sample_path.stem}.geojson").read_text())["about"]
    assert ("unlike" in about) is says
