"""Encoders from a hub on this computer: offered, downloaded, cut off, refused, and used."""

from __future__ import annotations

import csv
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_plimseg.cli import main
from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.cards import CONFIG_FILE, WEIGHT_FILES, folder_of
from napari_plimseg.models.encoders.loading import load_backbone, load_matcher
from napari_plimseg.models.library import EntryState, ModelLibrary
from napari_plimseg.models.loading import load_model
from plimseg_training.stages.stage1 import Encoders, Stage1Task
from tests.support.hub import CHUNK, COMMIT, TOKEN, Hub, environment, small_hub
from tests.support.hub import QUILT_REPOSITORY as REPOSITORY
from tests.support.library import card
from tests.support.slides import pyramid, tissue, write_svs
from tests.support.stages import recipe, windowed_tissue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUILT = "QuiltNet B-32"
GATED = "UNI2-h"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with a small QuiltNet, and a gated encoder."""
    with small_hub(monkeypatch, tmp_path) as found:
        yield found


def here(title: str) -> EntryState:
    return ModelLibrary().entry(title).state


def test_an_offer_asks_for_sizes_and_downloads_nothing(hub: Hub) -> None:
    offer = ModelLibrary().offer(QUILT)
    sizes = {f.name: f.size for f in offer.files}
    files = hub.repositories[REPOSITORY].files
    assert sizes == {name: len(files[name]) for name in (CONFIG_FILE, WEIGHT_FILES[0])}
    assert (offer.entry.license, offer.entry.page) == (
        "MIT", "https://huggingface.co/wisdomik/QuiltNet-B-32",
    )  # fmt: skip
    # huggingface_hub reads a list of its own from /api, once a day
    content = [path for method, path, _ in hub.asked if method == "GET" and "/api/" not in path]
    assert not content
    by_name = {f.name: f for f in offer.files}
    assert by_name[CONFIG_FILE].digest.startswith("git-sha1:")
    assert by_name[WEIGHT_FILES[0]].digest.startswith("sha256:")
    assert all(COMMIT in f.url for f in offer.files)  # a later upload changes nothing


def test_a_download_tells_its_progress_and_is_checked(hub: Hub) -> None:
    models = ModelLibrary()
    steps = list(models.download(models.offer(QUILT)))
    done = [step.bytes_done for step in steps if step.message == "Downloading"]
    assert done == sorted(done)
    assert len(done) > 20
    assert steps[-1].message == "Checking"
    assert steps[-1].bytes_done == steps[-1].bytes_total
    assert any(step.seconds_left is not None for step in steps)
    assert here(QUILT) is EntryState.READY
    for name, content in hub.repositories[REPOSITORY].files.items():
        assert (folder_of(card(QUILT)) / name).read_bytes() == content


def test_a_cancelled_download_resumes_where_it_stopped(hub: Hub) -> None:
    hub.pause = threading.Event()
    models = ModelLibrary()
    steps = models.download(models.offer(QUILT))
    for step in steps:
        if step.name == WEIGHT_FILES[0] and step.bytes_done > 1000:
            break
    steps.close()
    hub.pause.set()
    assert here(QUILT) is EntryState.PARTIAL
    (part,) = folder_of(card(QUILT)).glob("*.part")
    kept = part.stat().st_size
    assert 0 < kept < len(hub.repositories[REPOSITORY].files[WEIGHT_FILES[0]])
    list(models.download(models.offer(QUILT)))
    assert hub.ranges(WEIGHT_FILES[0])[-1] == f"bytes={kept}-"
    assert here(QUILT) is EntryState.READY


def test_a_broken_connection_keeps_what_has_arrived(hub: Hub) -> None:
    hub.cut_after = 5 * CHUNK
    models = ModelLibrary()
    with pytest.raises(ModelError, match="kept") as caught:
        list(models.download(models.offer(QUILT)))
    assert "into the folder" in str(caught.value)
    assert here(QUILT) is EntryState.PARTIAL
    hub.cut_after = None
    list(models.download(models.offer(QUILT)))
    assert hub.ranges(WEIGHT_FILES[0])[-1].startswith("bytes=")
    assert here(QUILT) is EntryState.READY


def test_other_bytes_than_promised_are_deleted(hub: Hub) -> None:
    hub.lies = True
    models = ModelLibrary()
    with pytest.raises(ModelError, match=r"checksum of 'open_clip_model\.safetensors'.*deleted"):
        list(models.download(models.offer(QUILT)))
    assert [p.name for p in folder_of(card(QUILT)).iterdir()] == [CONFIG_FILE]
    hub.lies = False
    list(models.download(models.offer(QUILT)))
    assert here(QUILT) is EntryState.READY


def test_a_gated_encoder_says_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    models, page = ModelLibrary(), "https://huggingface.co/MahmoodLab/UNI2-h"
    with pytest.raises(ModelError, match="require an agreement first") as caught:
        models.offer(GATED)
    assert f"Agree to their terms on {page}, log in on this computer (hf auth login)" in str(
        caught.value
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ModelError, match="not given your account access yet") as caught:
        models.offer(GATED)
    assert page in str(caught.value)
    assert "log in" not in str(caught.value)
    hub.accepted = True
    list(models.download(models.offer(GATED)))
    assert (folder_of(card(GATED)) / "pytorch_model.bin").stat().st_size == 1000


def test_a_wrong_token_and_a_missing_repository_are_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    with pytest.raises(ModelError, match="require an agreement first"):
        ModelLibrary().offer(GATED)
    del hub.repositories[REPOSITORY]
    with pytest.raises(ModelError, match=r"not on the hub.*hf auth login"):
        ModelLibrary().offer(QUILT)


def test_offline_says_what_to_put_where(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(folder_of(card(QUILT)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as caught:
        ModelLibrary().offer(QUILT)
    assert folder in str(caught.value)
    assert not hub.asked
    with pytest.raises(ModelError, match=r"not on this computer.*local-dir:FOLDER"):
        load_model(f"hf-hub:{REPOSITORY}")


def test_no_address_of_the_hub_is_asked_while_a_model_is_loaded(hub: Hub) -> None:
    models = ModelLibrary()
    list(models.download(models.offer(QUILT)))
    hub.asked.clear()
    name = f"hf-hub:{REPOSITORY}"
    assert load_model(name).name
    load_matcher(name)
    load_backbone(name)
    assert not hub.asked


def test_a_downloaded_encoder_segments_by_words(hub: Hub, tmp_path: Path) -> None:
    models = ModelLibrary()
    list(models.download(models.offer(QUILT)))
    slide = write_svs(tmp_path / "slide.svs", pyramid(tissue(512, 640)))
    command = ["segment", str(slide), "--model", f"hf-hub:{REPOSITORY}", "--no-tissue"]
    assert main([*command, "--classes", "fat, stroma, glass", "--out", str(tmp_path)]) == 0
    with (tmp_path / "slide.areas.csv").open() as file:
        areas = {row["class"]: float(row["area_mm2"]) for row in csv.DictReader(file)}
    tissue_area = sum(areas[name] for name in ("fat", "stroma", "glass"))
    assert tissue_area > 0.05
    assert sum(areas[name] > 0 for name in ("fat", "stroma", "glass")) > 1


def test_stage_1_trains_with_a_downloaded_matcher_and_backbone(hub: Hub, tmp_path: Path) -> None:
    models = ModelLibrary()
    list(models.download(models.offer(QUILT)))
    name = f"hf-hub:{REPOSITORY}"
    chosen = recipe(
        None, f"model.backbone={name}", f"matching.matcher={name}", "stage1.augment=none"
    )
    matcher = load_matcher(name)
    encoders = Encoders.of(load_backbone(name), matcher, chosen, torch.device("cpu"))
    task = Stage1Task(chosen, windowed_tissue(tmp_path / "tissue", 2), None, encoders)
    before = {n: p.clone() for n, p in task.network.head.named_parameters()}
    optimizer = torch.optim.AdamW(task.parameter_groups())
    loss, parts = task.loss(task.batch(0, 0, [0, 1]))
    loss.backward()
    optimizer.step()
    assert np.isfinite(float(loss.detach()))
    assert {"tags", "ftm", "btm", "cbs"} <= set(parts)
    assert any(not torch.equal(before[n], p) for n, p in task.network.head.named_parameters())
    cams = task.network(task.network.encoded([task.batch(0, 0, [0]).samples[0]]))
    assert cams[0].shape[0] == 2


def test_the_command_of_a_process_of_its_own_asks_the_endpoint(hub: Hub) -> None:
    """`HF_ENDPOINT` is read where huggingface_hub is imported, so this needs a process."""
    code = "import sys; from napari_plimseg.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "models", "download"]

    def run(*words: str) -> Any:
        return subprocess.run(
            [*command, *words], env=environment(hub), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    shown = run(QUILT)
    assert shown.returncode == 2
    assert "8 MB, license MIT" in shown.stdout
    done = run(QUILT, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("downloaded and checked")
    refused = run(GATED, "--yes")
    assert refused.returncode == 4
    assert "Agree to their terms on https://huggingface.co/MahmoodLab/UNI2-h" in refused.stderr
