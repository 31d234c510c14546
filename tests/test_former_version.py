"""What the version before the move into folders wrote opens, resumes and means the same.

`tests/data/former_version/README.md` says how each file was made. Most tests go through the
command line, as a user with old files would.
"""

from __future__ import annotations

import csv
import gc
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
import zarr
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_plimseg.cli import main
from napari_plimseg.inference.cohort import Cohort
from napari_plimseg.models.encoders.loading import load_backbone
from napari_plimseg.models.promptable.model_file import load_hint_model
from napari_plimseg.models.promptable.prompt_tensors import PatchHints
from napari_plimseg.results.analysis.review_log import ReviewLog
from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.results.mask_store import MaskStore
from napari_plimseg.settings import (
    DockSettings,
    TrainSettings,
    load_settings,
    load_train_settings,
    remembered,
)
from napari_plimseg.training_runs.process import TrainingProcess
from napari_plimseg.training_runs.run_folder import list_runs
from plimseg_training.__main__ import main as training_main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FORMER = Path(__file__).parent / "data" / "former_version"
STEM = "CMU-1-Small-Region"
CORRECTIONS = f"{STEM}-ed92d5a9f2e8.plimseg-corrections"
COLORECTAL = (
    "tumour epithelium", "normal mucosa", "stroma", "lymphocytes", "muscle", "mucus", "adipose",
    "debris and necrosis", "background",
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the folder of results."""
    return Path(shutil.copytree(FORMER / "results", tmp_path / "results"))


@pytest.fixture
def store(results: Path) -> Path:
    return results / f"{STEM}.plimseg"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    """Run the command line in this process and return its events."""
    capsys.readouterr()
    code = main([str(a) for a in arguments] + ["--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err + printed.out
    return [json.loads(line) for line in printed.out.splitlines() if line.startswith("{")]


def train(
    capfd: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, list[dict[str, Any]], str]:
    """Run a command of the trainer in this process: its exit code, events and all it printed."""
    capfd.readouterr()
    code = training_main([*map(str, arguments), "--json"])
    printed = capfd.readouterr()
    events = [json.loads(line) for line in printed.out.splitlines() if line.startswith("{")]
    return code, events, printed.out + printed.err


def python_path() -> list[str]:
    return [str(ROOT / "src"), str(ROOT / "training")]


def array(store: Path, name: str) -> np.ndarray:
    former = store / f"{name}.zarr"
    folder = former if former.exists() else store / "labels" / name / "0"
    return np.asarray(zarr.open_array(folder, mode="r")[...])


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# -- mask store


def test_the_mask_store_holds_what_it_held(store: Path) -> None:
    with MaskStore.open(store) as opened:
        info = opened.info
        assert info.classes.names == COLORECTAL
        assert info.classes.has_background
        assert info.classes[0].color == (205, 51, 51)
        assert info.classes[2].prompts[1] == "fibrous stroma"
        assert (info.slide_name, info.slide_shape) == (f"{STEM}.svs", (2967, 2220))
        assert (info.mpp, info.downsample, info.shape) == (0.499, 4.0, (742, 555))
        assert info.model_name == "Colorectal tissue, from tags"
        assert (opened.tile_count, opened.unreadable_tiles) == (12 * 9, 0)
        assert [opened.state((3, c)) for c in (2, 3, 4, 5)] == ["done", "done", None, None]
        assert opened.state((3, 4), "a879d207f6bb63da") == "partial"
        mask = opened.read_classes()
        counts = np.bincount(mask.ravel(), minlength=10)
        assert counts.tolist() == [385560, 1692, 615, 6536, 1883, 0, 0, 2077, 176, 13271]
        every = tuple(slice(0, side) for side in info.shape)
        confidence = opened.read("confidence", *every)
        assert int(np.sum(confidence, dtype=np.int64)) == 6_089_065
        sums = np.sum(opened.read("probabilities", *every), axis=(1, 2), dtype=np.int64)
        assert sums.tolist() == [
            425608, 206607, 1568522, 458374, 65897, 6569, 488136, 70554, 3397506,
        ]  # fmt: skip
        assert opened.forget_damaged() == 0


def test_a_finished_region_is_not_computed_again(
    results: Path, store: Path, sample_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(store)
    # the model that shipped as `bundled-tissue` then
    options = ("--model", model_file("tissue"), "--tile-size", "256", "--probabilities",
               "--device", "cpu", "--format", "none", "--out", results)  # fmt: skip
    events = run(capsys, "segment", sample_path, "--region", "512,512,700,600", *options)
    done = [(e["tiles_done"], e["tiles_total"]) for e in events if e["event"] == "progress"]
    assert done[0] == (0, 0)
    assert set(done[1:]) == {(8, 8)}, "the recipe of the store is another one now"
    assert files_of(store) == before
    # a larger region computes what is missing, and keeps the tiles that are done
    events = run(capsys, "segment", sample_path, "--region", "512,512,700,760", *options)
    kept = ("2/3", "3/2", "3/3", "3/4")
    for tile in kept[:3]:
        for name in ("classes.zarr/c/", "probabilities.zarr/c/0/"):
            assert (store / name / tile).read_bytes() == before[name + tile]
    assert np.count_nonzero(array(store, "classes")) > 26250
    finished = next(e for e in events if e["event"] == "finished")
    assert finished["areas"][2]["class"] == "stroma"
    assert finished["areas"][2]["pixels"] > 6536


def test_exports_of_a_store_are_those_of_the_former_version(
    results: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exports"
    run(capsys, "export", store, "--no-corrections", "--out", out,
        "--format", "ome-tiff,csv,geojson")  # fmt: skip
    name = f"{STEM}.areas.csv"
    rows, before = (
        list(csv.DictReader((folder / name).open(encoding="utf-8"))) for folder in (out, results)
    )
    assert len(rows) == 11
    for row, old in zip(rows, before, strict=True):
        assert {key: row[key] for key in old} == old
    mask = tifffile.imread(out / f"{STEM}.mask.ome.tif")
    assert np.array_equal(mask, tifffile.imread(results / f"{STEM}.mask.ome.tif"))
    assert np.array_equal(mask, array(store, "classes"))

    def outlines(folder: Path) -> dict[str, tuple[str, Any]]:
        content = json.loads((folder / f"{STEM}.geojson").read_text("utf-8"))
        return {
            each["id"]: (each["properties"]["classification"]["name"], each["geometry"])
            for each in content["features"]
        }

    assert len(outlines(results)) == 20
    assert outlines(out) == outlines(results)


def test_a_label_tiff_of_the_former_version_is_read(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "export", results / f"{STEM}.mask.ome.tif", "--out", tmp_path, "--format", "csv")
    rows = list(csv.DictReader((tmp_path / f"{STEM}.areas.csv").open(encoding="utf-8")))
    assert [row["class"] for row in rows[:9]] == list(COLORECTAL)
    assert [int(row["pixels"]) for row in rows[:4]] == [1692, 615, 6536, 1883]
    assert rows[2]["area_mm2"] == "0.026040"


# -- corrections and reviews


def corrected_by_hand(mask: np.ndarray) -> np.ndarray:
    """Return the mask with what the README says was corrected, without the program."""
    mask = mask.copy()
    model = mask.copy()
    mask[140:160, 140:170] = 1
    y, x = np.mgrid[-10:11, -10:11]
    mask[150:171, 160:181][y * y + x * x <= 100] = 3
    mask[142:147, 145:151] = model[142:147, 145:151]
    mask[240:244, 210:214] = 1
    return mask


def test_corrections_are_exported_over_the_mask(
    results: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = (results / CORRECTIONS / "journal.bin").read_bytes()
    out = tmp_path / "exports"
    run(capsys, "export", store, "--out", out, "--format", "ome-tiff")
    expected = corrected_by_hand(array(store, "classes"))
    assert np.count_nonzero(expected != array(store, "classes")) > 500
    assert np.array_equal(tifffile.imread(out / f"{STEM}.mask.ome.tif"), expected)
    assert main(["export", str(store), "--out", str(out), "--format", "none"]) == 0
    said = capsys.readouterr().out
    assert "nerve" in said
    assert "59 pixels" in said
    assert (results / CORRECTIONS / "journal.bin").read_bytes() == journal


def test_corrections_go_on_in_the_same_journal(store: Path, results: Path) -> None:
    journal = results / CORRECTIONS / "journal.bin"
    before = journal.read_bytes()
    with MaskStore.open(store) as opened:
        info, mask = opened.info, opened.read_classes()
    corrections = Corrections.open(results, info)
    discs = int((np.hypot(*np.mgrid[-10:11, -10:11]) <= 10).sum())
    # 10 x 10 of the disc's box overlap the rectangle; 10 columns from 160, 10 rows from 150
    overlap = int((np.hypot(*np.mgrid[-10:0, -10:0]) <= 10).sum())
    assert corrections.pixels == 20 * 30 + discs - overlap - 5 * 6 + 4 * 4
    assert corrections.not_shown == {"nerve": 7 * 9 - 2 * 2}
    assert not corrections.journal.problem
    corrections.write(300, 300, np.full((3, 5), 8, np.uint8))
    corrections.flush()
    corrections.flush_and_release()
    assert journal.read_bytes().startswith(before), "the journal was written anew"
    del corrections
    gc.collect()
    again = Corrections.open(results, info)
    assert again.not_shown == {"nerve": 59}
    shown = mask.copy()
    again.apply(shown)
    expected = corrected_by_hand(mask)
    expected[300:303, 300:305] = 8
    assert np.array_equal(shown, expected)


def test_discarded_corrections_come_back(store: Path, results: Path) -> None:
    with MaskStore.open(store) as opened:
        info, mask = opened.info, opened.read_classes()
    corrections = Corrections.open(results, info)
    (folder,) = corrections.list_discarded()
    assert folder.name == f"{CORRECTIONS}.discarded-20261129-222219"
    corrections.restore(folder)
    expected = mask.copy()
    expected[150:160, 150:160] = 4
    expected[155:165, 155:165] = 5
    corrections.apply(mask)
    assert np.array_equal(mask, expected)
    assert len(corrections.list_discarded()) == 1, "those of now are discarded in their place"


def test_reviewed_regions(store: Path) -> None:
    with MaskStore.open(store) as opened:
        log = ReviewLog(opened)
    found = [(r.y, r.x, r.height, r.width, r.time) for r in log.regions]
    assert found == [
        (512.0, 512.0, 256.0, 384.0, "2026-11-01T09:30:00+00:00"),
        (800.5, 640.0, 128.0, 100.25, "2026-11-02T10:00:00+00:00"),
    ]


def test_the_list_of_slides_of_a_batch(results: Path) -> None:
    with Cohort.open(results) as cohort:
        assert (cohort.model, cohort.formats) == ("bundled-tissue", ("ome-tiff", "geojson", "csv"))
        found = [(i.path.name, i.state.value, i.mpp, i.tiles_done) for i in cohort.items]
        assert found == [
            (f"{STEM}.svs", "done", None, 8),
            ("broken.svs", "failed", None, 0),
            ("no pixel size.png", "needs pixel size", None, 0),
            ("later.svs", "waiting", 0.25, 0),
        ]
        done, broken = cohort.items[:2]
        assert done.store == f"{STEM}.plimseg"
        assert all((results / name).is_file() for name in done.files)
        assert len(done.files) == 3
        assert "ends at byte 16" in broken.problem
        cohort.set_mpp(cohort.items[2].path, 0.5)
        assert cohort.items[2].state is cohort.items[3].state


# -- model files


def model_file(name: str) -> Path:
    if name == "segmentation":
        return FORMER / "trainings" / "finished" / "model.safetensors"
    return FORMER / "models" / f"{name}.safetensors"


MODELS = {
    "segmentation": ("halves", ("tumour", "fat")),
    "words": ("Words", ("tumour", "stroma", "lymphocytes")),
    "student": ("halves (fast)", ("dark", "pale", "background")),
    "student16": ("halves (fast)", ("dark", "pale", "background")),
}
ON_QUILT = {
    "quilt_words": ("Quilt words", ("tumour", "stroma", "lymphocytes")),
    "quilt_head": ("Quilt head", ("tumour", "stroma", "lymphocytes")),
}
"""Model files that need an encoder which the user fetched or put into the folder of encoders."""


def put_encoder() -> None:
    """Put a tiny encoder where the former version kept QuiltNet B-32, its weights from a formula.

    The values depend on nothing but the tensors' names: numpy keeps `RandomState` as it is.
    """
    folder = Path(os.environ["PLIMSEG_DATA_DIR"]) / "encoders" / "wisdomik--QuiltNet-B-32"
    folder.mkdir(parents=True)
    shutil.copy(FORMER / "open_clip_config.json", folder)
    norms = ("ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight", "ln_final.weight")
    tensors = {}
    for name, shape in json.loads((FORMER / "open_clip_shapes.json").read_text()).items():
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        values = 0.2 * noise + (1 if name.endswith(norms) else 0)
        tensors[name] = torch.from_numpy(np.asarray(values, np.float32))
    save_file(tensors, folder / "open_clip_model.safetensors")


@pytest.mark.parametrize("name", [*MODELS, *ON_QUILT])
def test_a_model_file_makes_the_mask_that_it_made(
    name: str, sample_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in ON_QUILT:
        put_encoder()
    run(capsys, "segment", sample_path, "--model", model_file(name), "--region", "896,608,256,256",
        "--no-tissue", "--tile-size", "512", "--out", tmp_path, "--format", "none",
        "--device", "cpu", "--precision", "float32")  # fmt: skip
    store = tmp_path / f"{STEM}.plimseg"
    mask = array(store, "classes")
    window = (slice(152, 216), slice(224, 288))
    expected = np.asarray(Image.open(FORMER / "masks" / f"{name}.png"))
    assert len(np.unique(expected)) > 1
    # another processor or engine may round a pixel between two classes to the other one
    assert np.mean(mask[window] == expected) > 0.995
    assert np.count_nonzero(mask) == expected.size
    info = json.loads((store / "manifest.json").read_text("utf-8"))["content"]["info"]
    # the weights are the same to the bit; otherwise every mask would be computed again
    identities = json.loads((FORMER / "masks" / "identities.json").read_text("utf-8"))
    assert info["model_identity"] == identities[name]
    title, classes = (MODELS | ON_QUILT)[name]
    assert info["model_name"] == title
    assert tuple(c["name"] for c in info["tissue"]["classes"]) == classes


def test_model_files_are_imported_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (*MODELS, "hints"):
        run(capsys, "models", "import", model_file(name))
    entries = {entry["key"]: entry for entry in run(capsys, "models", "list")}
    titles = {name: entries[model_file(name).stem]["title"] for name in (*MODELS, "hints")}
    assert titles == {name: title for name, (title, _) in MODELS.items()} | {"hints": "discs"}
    assert {entries[model_file(name).stem]["kind"] for name in titles} == {"own"}
    assert entries["student"]["scores"] == {"mIoU": 61.25}
    folder = Path(os.environ["PLIMSEG_DATA_DIR"]) / "models"
    assert len(list(folder.glob("*.safetensors"))) == 5


def test_an_encoder_of_the_former_version_is_in_the_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def quilt() -> dict[str, Any]:
        return {e["key"]: e for e in run(capsys, "models", "list")}["QuiltNet B-32"]

    assert quilt()["state"] == "not here"
    put_encoder()
    assert (quilt()["state"], quilt()["name"]) == ("ready", "hf-hub:wisdomik/QuiltNet-B-32")


def test_a_model_for_points_and_boxes_finds_the_same() -> None:
    model = load_hint_model(FORMER / "models" / "hints.safetensors")
    assert (model.weights_name, model.mpp, model.side) == ("discs", 0.62, 64)
    assert model.resolutions == ("hr", "lr")
    pixels = np.array(Image.open(FORMER / "masks" / "hints.png"))
    patch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    hints = PatchHints(points=((30.0, 32.0, True),), boxes=((16.0, 18.0, 44.0, 46.0),))
    with torch.inference_mode():
        found = model(patch, patch, [hints]).hr
    expected = torch.from_numpy(np.load(FORMER / "masks" / "hints.npy"))
    assert float(expected.std()) > 0.5
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_a_model_file_has_the_scores_that_it_had(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished = FORMER / "trainings" / "finished"
    recipe = yaml.safe_load((finished / "recipe.yaml").read_text("utf-8"))
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(recipe["data"]["classes"]), "utf-8")
    code, _, said = train(
        capfd, "evaluate", finished / "model.safetensors", FORMER / "measured", "--mpp", "0.5",
        "--classes", tmp_path / "classes.yaml",
        "--protocol", "oeem", "--device", "cpu", "--out", tmp_path / "scores.json",
    )  # fmt: skip
    assert code == 0, said
    found, before = (
        json.loads(path.read_text("utf-8"))["results"][0]
        for path in (tmp_path / "scores.json", finished / "evaluation.json")
    )
    assert before["miou"] == pytest.approx(0.14436, abs=1e-5)
    assert found["pixels"] == before["pixels"] == 8192
    assert found["miou"] == pytest.approx(before["miou"], abs=2e-3)
    np.testing.assert_allclose(found["confusion"], before["confusion"], atol=20)


# -- run folders


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The training that was stopped, with the frozen encoder back in its checkpoints."""
    folder = Path(shutil.copytree(FORMER / "trainings" / "stopped", tmp_path / "halves"))
    encoder = load_backbone("bundled").state_dict()
    for name, prefix in (("last.ckpt", "network."), ("best.safetensors", "")):
        path = folder / "stage1" / name
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        own = load_file(path)
        assert not any("backbone" in key for key in own)
        whole = own | {f"{prefix}backbone.{key}": value for key, value in encoder.items()}
        save_file(whole, path, metadata)  # the checksum in it is that of the former version
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").open(encoding="utf-8")))


def test_a_stopped_training_resumes_to_its_end(
    stopped: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # trained in float32, and what is compared should be too
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    finished, before = FORMER / "trainings" / "finished", rows_of(stopped)
    events_before = (stopped / "progress.jsonl").read_bytes()
    assert [(row["stage"], row["epoch"]) for row in before] == [("stage1", "1"), ("stage1", "2")]
    code, events, said = train(
        capfd, "train", "--resume", "--out", stopped, "--set", f"data.train={FORMER / 'images'}",
        "--set", f"data.validation={FORMER / 'measured'}", "--no-list",
    )  # fmt: skip
    assert code == 0, said
    kinds = [(event["kind"], event.get("stage")) for event in events]
    assert not any(kind == "warning" for kind, _ in kinds), said
    assert (kinds[0][0], kinds.count(("epoch", "stage1"))) == ("start", 2)
    assert kinds.count(("epoch", "stage2")) == 5
    assert (stopped / "progress.jsonl").read_bytes().startswith(events_before)
    rows, expected = rows_of(stopped), rows_of(finished)
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        (row["stage"], row["epoch"]) for row in expected
    ]
    for row, old, kept in zip(rows, expected, (True, True, *[False] * 7), strict=True):
        for key in ("loss", "score", "learning_rate"):
            tolerance = {"rel": 1e-12} if kept else {"rel": 0.02, "abs": 1e-3}
            if key == "score" and not kept:
                tolerance = {"abs": 0.03}
            assert float(row[key]) == pytest.approx(float(old[key]), **tolerance), (row, key)
    made, former = (load_file(path / "model.safetensors") for path in (stopped, finished))
    assert made.keys() == former.keys()
    for name, tensor in former.items():
        assert made[name].dtype == tensor.dtype
        torch.testing.assert_close(made[name], tensor, atol=5e-3, rtol=0.05, msg=name)
    for name in former:
        if name.endswith("head.10.weight"):
            assert float(former[name].float().std()) > 0.01
    for path in (FORMER / "trainings" / "finished" / "pseudo_masks").iterdir():
        old, new = (np.asarray(Image.open(p)) for p in (path, stopped / "pseudo_masks" / path.name))
        assert np.mean(old == new) > 0.98
    assert "tumour" in (stopped / "report.html").read_text("utf-8")


def test_another_recipe_still_does_not_resume_it(
    stopped: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, said = train(
        capfd, "train", "--resume", "--out", stopped, "--set", f"data.train={FORMER / 'images'}",
        "--set", f"data.validation={FORMER / 'measured'}", "--set", "stage1.weight_decay=0.5",
    )  # fmt: skip
    assert code == 6, said
    assert "stage1.weight_decay was 0.01 and is 0.5" in said
    assert "(and" not in said, "more than this key differs from what was written"


def test_trainings_are_listed_with_their_state(tmp_path: Path) -> None:
    for name in ("stopped", "finished"):
        shutil.copytree(FORMER / "trainings" / name, tmp_path / name)
    states = {run.name: run.status.value for run in list_runs(tmp_path)}
    assert states == {"stopped": "stopped", "finished": "finished"}


def test_what_a_training_told_is_shown() -> None:
    process = TrainingProcess(FORMER / "trainings" / "finished")
    assert process.poll()
    history = process.history
    assert (history.stage, history.epoch, history.epochs) == ("stage2", 5, 5)
    assert history.tags == {"tumour": 3, "fat": 3}
    assert history.scores["mIoU (OEEM: two classes, all pixels)"] == 14.44
    assert [round(value, 5) for _, value in history.mious["stage2"]] == [
        0.45117, 0.57842, 0.49659, 0.47376, 0.47226,
    ]  # fmt: skip
    assert history.losses["stage1"][-1][1] == pytest.approx(0.9037, abs=0.1)
    assert history.last_kind == "done"
    assert history.device


# -- settings


def test_docks_remember_what_they_remembered() -> None:
    shutil.copytree(FORMER / "user-data", os.environ["PLIMSEG_DATA_DIR"], dirs_exist_ok=True)
    home = "/srv/former-version"
    assert load_settings() == DockSettings(
        model="bundled-tissue", device="cpu", tile_size=1024, batch_size=3, tissue_only=False,
        tissue_threshold=0.08, remove_pen=False, keep_probabilities=False,
        results_folder=f"{home}/results", export_folder=f"{home}/exports",
        slide_folder=f"{home}/slides",
    )  # fmt: skip
    assert load_settings().batch_size != DockSettings().batch_size
    assert load_train_settings() == TrainSettings(f"{home}/images", "best", "0,25", True)
    assert remembered("first_run_seen", False) is True
    assert remembered("batch_folder", "") == f"{home}/results"
    assert remembered("batch_formats", ["ome-tiff"]) == ["csv", "png"]


# -- recipes


def former_keys(now: Any, former: Any) -> Any:
    """Return what a recipe has under the keys of the former version; there may be new ones."""
    if not isinstance(former, dict):
        return now
    return {key: former_keys(now[key], value) for key, value in former.items()}


def test_a_recipe_with_every_key(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "measured", "models"):
        shutil.copytree(FORMER / name, tmp_path / name)
    (tmp_path / "more").mkdir()
    for path in (FORMER / "images").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(tmp_path / "more" / path.name)
    path = Path(shutil.copy(FORMER / "every_key.yaml", tmp_path))
    code, events, said = train(capfd, "train", path, "--dry-run", "--out", tmp_path / "run")
    assert code == 0, said
    written = yaml.safe_load(path.read_text("utf-8"))
    data, distill = written["data"], written["distill"]
    for part, key in ((data, "train"), (data, "validation"), (distill, "start")):
        part[key] = str(tmp_path / part[key])
    for part, key in ((data, "more"), (distill, "unlabelled")):
        part[key] = [str(tmp_path / name) for name in part[key]]
    (plan,) = (event for event in events if event["kind"] == "plan")
    recipe = plan["data"]["recipe"] if "data" in plan else plan["recipe"]
    assert former_keys(recipe, written) == written, "a key has another meaning"


def test_a_recipe_for_points_and_boxes_with_every_key(tmp_path: Path) -> None:
    from plimseg_training.promptable.config import load_hint_recipe

    path = Path(shutil.copy(FORMER / "every_hint_key.yaml", tmp_path))
    written = yaml.safe_load(path.read_text("utf-8"))
    written["data"]["train"] = str(tmp_path / "glands")
    found = load_hint_recipe(path).to_dict()
    assert former_keys(found, written) == written


# -- entry points

DOCKS = {
    "napari-plimseg.dock": "PLIMSeg",
    "napari-plimseg.review": "PLIMSeg Review",
    "napari-plimseg.models": "PLIMSeg Models",
    "napari-plimseg.batch": "PLIMSeg Batch",
    "napari-plimseg.train": "PLIMSeg Train",
}
COMMANDS = {
    **dict.fromkeys(DOCKS),
    "napari-plimseg.read_slide": None,
    "napari-plimseg.sample_slide": None,
    "napari-plimseg.write_label_tiff": None,
    "napari-plimseg.write_geojson": None,
    "napari-plimseg.write_csv": None,
}


def test_the_manifest_keeps_its_ids_and_names() -> None:
    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text("utf-8"))
    assert manifest["name"] == "napari-plimseg"
    parts = manifest["contributions"]
    commands = {each["id"]: each["python_name"] for each in parts["commands"]}
    assert set(COMMANDS) <= set(commands)
    for name in commands.values():
        module, _, attribute = name.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute)), name
    assert {w["command"]: w["display_name"] for w in parts["widgets"]} == DOCKS
    assert parts["sample_data"][0]["key"] == "cmu_1_small_region"
    assert {w["filename_extensions"][0] for w in parts["writers"]} >= {
        ".ome.tif", ".geojson", ".csv",
    }  # fmt: skip
    patterns = {p for reader in parts["readers"] for p in reader["filename_patterns"]}
    assert {"*.svs", "*.ndpi", "*.mrxs", "*.tif", "*.zarr", "*.dcm", "*.png"} <= patterns


def test_the_console_script_and_its_modules() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"]["plimseg"] == "napari_plimseg.cli:main"
    points = project["entry-points"]["napari.manifest"]
    assert points == {"napari-plimseg": "napari_plimseg:napari.yaml"}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(python_path())}
    for module, command in (("napari_plimseg.cli", "segment"), ("plimseg_training", "train")):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert re.search(rf"^\s+{command}\s", done.stdout, re.MULTILINE)


OPTIONS: dict[str, list[str]] = json.loads((FORMER / "command_line.json").read_text("utf-8"))


@pytest.mark.parametrize("command", [c for c in OPTIONS if c.split()[0] not in {
    "train", "evaluate", "scan", "cut"}])  # fmt: skip
def test_every_option_is_still_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    check_options(command, capsys.readouterr().out)


@pytest.mark.parametrize("command", ["train", "evaluate", "scan", "cut"])
def test_every_option_of_the_trainer_is_still_there(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        training_main([command, "--help"])
    assert ended.value.code == 0
    check_options(command, capsys.readouterr().out)


def check_options(command: str, text: str) -> None:
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert set(OPTIONS[command]) <= found
