"""A damaged or incomplete mask is never exported as if it were whole."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_plimseg.cli import main
from napari_plimseg.results.export.label_tiff import read_label_tiff
from napari_plimseg.results.mask_store import MaskStore
from tests.results.test_mask_store import LAYOUT, TILES, chunk, fill, make_info

FORMER = Path(__file__).parents[1] / "data" / "former_version" / "results"
TISSUE = FORMER.parent / "models" / "tissue.safetensors"
STEM = "CMU-1-Small-Region"
FORMATS = "ome-tiff,csv,geojson"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "slide.plimseg"
    with MaskStore.create(path, make_info(), LAYOUT) as store:
        for i, tile in enumerate(TILES):
            fill(store, tile, i % 4 + 1)
    return path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def exported(store: Path, out: Path, *options: str) -> int:
    return main(["export", str(store), "--out", str(out), "--format", FORMATS, *options])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda s: chunk(s, "classes", 1, 1).unlink(), "1 of 6 tiles of the classes is damaged"),
        (lambda s: flip(chunk(s, "classes", 0, 2)), "x 128 to 140 µm, y 0 to 64 µm"),
        (lambda s: flip(chunk(s, "confidence", 0, 0)), "1 of 6 tiles of the confidence"),
        (lambda s: flip(chunk(s, "probabilities", 0, 0)), "1 of 6 tiles of the probabilities"),
        (lambda s: (s / "journal.json").unlink(), "journal is lost or damaged"),
        (lambda s: (s / "journal.json").write_text("{"), "journal is lost or damaged"),
        (lambda s: flip(s / "labels" / "zarr.json"), "labels/zarr.json"),
    ],
)
def test_an_export_of_a_damaged_mask_asks(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: object, says: str
) -> None:
    harm(store)  # type: ignore[operator]
    out = tmp_path / "out"
    assert exported(store, out) == 6
    told = capsys.readouterr().err
    assert says in told
    assert "--allow-damaged" in told
    assert not list(out.glob("slide*"))
    assert exported(store, out, "--allow-damaged") == 0
    printed = capsys.readouterr().out
    assert "note: damaged parts count as unreadable" in printed
    assert says in printed
    # whoever gets the files knows
    _, info = read_label_tiff(out / "slide.mask.ome.tif")
    assert says in info.damage
    about = json.loads((out / "slide.geojson").read_text("utf-8"))["about"]
    assert says in about["damage"]


def test_damaged_tiles_are_exported_as_unreadable(store: Path, tmp_path: Path) -> None:
    flip(chunk(store, "classes", 0, 2))
    assert exported(store, tmp_path / "out", "--allow-damaged") == 0
    mask = np.asarray(read_label_tiff(tmp_path / "out" / "slide.mask.ome.tif")[0][:])
    assert (mask[:32, 64:] == 255).all()
    assert (mask[32:] < 255).all()
    with (tmp_path / "out" / "slide.areas.csv").open(encoding="utf-8") as file:
        pixels = {row["kind"]: int(row["pixels"]) for row in csv.DictReader(file)}
    assert pixels["unreadable"] == 32 * 6


def test_a_whole_mask_is_exported_without_a_word(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(store, tmp_path / "out") == 0
    assert "damage" not in capsys.readouterr().out
    about = json.loads((tmp_path / "out" / "slide.geojson").read_text("utf-8"))["about"]
    assert "damage" not in about


def test_programs_are_told_too(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(chunk(store, "classes", 0, 2))
    assert exported(store, tmp_path, "--json") == 6
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert error["event"] == "error"
    assert "1 of 6 tiles" in error["message"]
    assert exported(store, tmp_path, "--json", "--allow-damaged") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "1 of 6 tiles" in next(e["text"] for e in events if e["event"] == "note")


@pytest.fixture
def former(tmp_path: Path) -> Path:
    shutil.copytree(FORMER, tmp_path / "results")
    return tmp_path / "results" / f"{STEM}.plimseg"


@pytest.mark.parametrize("lost", ["classes.zarr/c/2/3", "confidence.zarr/c/2/3", "journal.json"])
def test_a_store_of_the_former_version_asks_too(former: Path, tmp_path: Path, lost: str) -> None:
    (former / lost).unlink()
    assert exported(former, tmp_path / "out") == 6
    assert exported(former, tmp_path / "out", "--allow-damaged") == 0


def test_objects_of_a_damaged_mask_ask(
    former: Path, sample_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(former / "classes.zarr" / "c" / "2" / "3")
    asked = ["objects", str(former), "--slide", str(sample_path), "--out", str(tmp_path / "o")]
    assert main(asked) == 6
    assert "1 of 108 tiles of the classes is damaged" in capsys.readouterr().err
    assert main([*asked, "--allow-damaged"]) == 0
    assert "note: damaged parts count as unreadable" in capsys.readouterr().out


def test_a_run_tells_what_it_computes_again(
    former: Path, sample_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MaskStore.open(former) as store:
        before = store.read_classes()
    flip(former / "classes.zarr" / "c" / "3" / "3")
    run = [
        *("segment", str(sample_path), "--region", "512,512,700,600", "--model", str(TISSUE)),
        *("--tile-size", "256", "--probabilities", "--device", "cpu", "--format", "none"),
        *("--out", str(former.parent)),
    ]
    assert main(run) == 0
    printed = capsys.readouterr().out
    assert "note: Damaged parts are computed again: 1 of 108 tiles of the classes" in printed
    with MaskStore.open(former) as store:
        assert not store.damage()
        assert store.version == 1
        assert np.mean(store.read_classes() != before) < 1e-3
    assert main(run) == 0
    assert "Damaged" not in capsys.readouterr().out
