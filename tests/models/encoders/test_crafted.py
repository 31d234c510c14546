"""Crafted folders and files through every door: nothing runs, nothing is looked up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants as hub
import pytest
import torch
import yaml
from safetensors.torch import save_file

from napari_plimseg._reader import get_reader
from napari_plimseg.cli import main
from napari_plimseg.errors import ModelError, PlimsegError
from napari_plimseg.files import user_data_dir
from napari_plimseg.models import importing
from napari_plimseg.models.downloads import HubRemote, offline
from napari_plimseg.models.encoders.external import check_fit
from napari_plimseg.models.encoders.known import LIST_FILE
from napari_plimseg.models.encoders.loading import (
    empty_backbone,
    load_backbone,
    load_encoder,
    load_matcher,
)
from napari_plimseg.models.importing import import_model
from napari_plimseg.models.library import ModelLibrary, list_models, models_folder
from napari_plimseg.models.loading import load_model, load_promptable_model
from napari_plimseg.models.model_file import HEADER_KEY
from napari_plimseg.models.promptable.sam_encoders import empty_encoder
from napari_plimseg.models.promptable.sam_weights import load_sam
from napari_plimseg.models.tensor_file import write_sealed
from plimseg_training.__main__ import main as training_main
from tests.support.clips import TEXT, VIT, write_clip
from tests.support.crafted import SPECS, VARIANTS, Variant, add_code, craft
from tests.support.library import header, take, try_here, unit_vectors
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORMER = ROOT / "tests" / "data" / "former_version"


class Watch:
    """What loading must not do: run the marker's code, connect, look names up, import."""

    def __init__(self, marker: Path, folder: Path) -> None:
        self.marker = marker
        self.folder = folder
        self.asked: list[object] = []

    def ask(self, *arguments: object, **_: object) -> None:
        self.asked.append(arguments)
        raise ConnectionError("nothing is looked up in this test")

    def check(self) -> None:
        assert not self.marker.exists(), "code ran"
        assert not list(self.folder.rglob("marker")), "code ran"
        assert not self.asked
        imported = [str(getattr(m, "__file__", None) or "") for m in list(sys.modules.values())]
        assert not [file for file in imported if file.startswith(str(self.folder))]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    found = Watch(tmp_path / "ran", tmp_path)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, found.ask)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, found.ask)
    monkeypatch.setattr(importing, "try_loading", try_here)
    yield found
    found.check()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "clip"
    write_clip(folder, VIT, TEXT)
    return folder


def refused(call: Callable[[], object]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        call()
    assert caught.value.exit_code == 4
    return caught.value


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_crafted_folder_runs_nothing_through_any_door(
    variant: Variant, template: Path, tmp_path: Path, watch: Watch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = craft(variant, template, tmp_path / "crafted", watch.marker)
    name = f"local-dir:{folder}"
    doors = (
        lambda: load_model(name),  # --model, API, the main dock
        lambda: load_backbone(name),  # a recipe's backbone
        lambda: load_matcher(name),  # and its matcher
        lambda: take(import_model(folder)),  # `models import FOLDER` and the models dock
        lambda: take(import_model(name)),  # `models import NAME`
    )
    if variant.is_harmless:
        for door in doors:
            door()
        (copy,) = (user_data_dir() / "encoders").iterdir()
        assert not list(copy.glob("*.py"))
        assert not (copy / "tokenizer_config.json").exists()
        return
    problems = {str(refused(door)) for door in doors}
    assert not any("\n" in problem or len(problem) > 600 for problem in problems)
    assert main(["models", "import", str(folder)]) == 4
    assert "plimseg: " in capsys.readouterr().err
    assert not (user_data_dir() / LIST_FILE).exists(), "no place is remembered for it"
    with contextlib.suppress(PlimsegError):  # dropped onto the viewer
        reader = get_reader(str(folder))
        assert reader is None or not reader(str(folder))


def test_enough_variants_are_tried() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS) >= 30


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["prototypes", "segmentation", "hints"])
def test_the_place_in_a_header_is_never_read(
    kind: str, version: int, template: Path, tmp_path: Path, watch: Watch
) -> None:
    folder = craft(VARIANTS[2], template, tmp_path / "crafted", watch.marker)
    networks = {
        "prototypes": ({}, {"prototypes": unit_vectors(2)}),
        "segmentation": (
            {"backbone": SPECS["timm of a folder"], "backbone_inside": False, "width": 16,
             "window": 320, "step": 256},
            {"head.x": torch.zeros(1)},
        ),
        "hints": (
            {"patch_encoder": {"architecture": "sam-vit"}, "decoder": {"early_channels": 8},
             "resolutions": ["hr"], "frozen_inside": False},
            {"decoder.x": torch.zeros(1)},
        ),
    }  # fmt: skip
    network, tensors = networks[kind]
    load = load_promptable_model if kind == "hints" else load_model
    for number, place in enumerate((
        f"local-dir:{folder}", f"conch:{folder}", f"open_clip:ViT-B-16={folder / 'evil.bin'}",
        f"timm:test_vit={folder / 'evil.bin'}", f"sam:{folder}",
        "timm:hf-hub:evil/model=x.pt", "local-dir:https://evil.example/x", "hf-hub:evil/model",
        "ftp://evil.example", "\u202e", "..",
    )):  # fmt: skip
        path = models_folder() / f"crafted-{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.loads(replace(header(), title="x").to_json())
        content |= {"kind": kind, "network": network, "encoder": place, "format_version": version}
        if kind == "hints":
            content["classes"] = {
                **content["classes"],
                "classes": content["classes"]["classes"][:1],
            }
        (write_sealed if version == 2 else _unsealed)(
            path, {HEADER_KEY: json.dumps(content)}, tensors
        )
        refused(lambda path=path: load(path))  # type: ignore[misc]
        watch.check()
    assert len(list_models()) > 0
    assert all(entry.reason for entry in ModelLibrary().entries() if not entry.available)


def _unsealed(path: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("name", SPECS)
def test_a_crafted_backbone_in_a_header_builds_nothing(
    name: str, tmp_path: Path, watch: Watch
) -> None:
    add_code(tmp_path, watch.marker)
    spec = json.loads(json.dumps(SPECS[name]).replace("{folder}", str(tmp_path)))
    tensors = {"x": torch.zeros(1)}
    problem = str(refused(lambda: empty_backbone(spec, tensors)))
    assert len(problem) < 600
    path = tmp_path / "crafted.safetensors"
    content = json.loads(header().to_json())
    content |= {
        "kind": "segmentation", "encoder": "bundled",
        "network": {"backbone": spec, "backbone_inside": True, "width": 16, "window": 320,
                    "step": 256},
    }  # fmt: skip
    write_sealed(
        path, {HEADER_KEY: json.dumps(content)},
        {"head.x": torch.zeros(1), "backbone.x": torch.zeros(1)},
    )  # fmt: skip
    refused(lambda: load_model(path))
    assert main(["models", "import", str(path)]) == 4
    whole = {"architecture": "backbone", "backbone": spec, "side": 64, "embed_dim": 32,
             "early_block": 0}  # fmt: skip
    refused(lambda: check_fit(tensors, lambda: empty_encoder(whole)))


@pytest.mark.parametrize(
    "spec",
    [
        {"architecture": "sam-vit", "_name_or_path": "evil/model", "auto_map": {"a": "b"}},
        {"architecture": "sam-vit", "hidden_size": 8192, "output_channels": 8192,
         "num_hidden_layers": 10**9, "num_attention_heads": 1, "image_size": 64, "patch_size": 16,
         "mlp_dim": 8, "window_size": 0, "global_attn_indexes": [0]},
        {"architecture": "tiny-vit", "embed_dims": [1, 1, 1, 1], "act_layer": "evil.Evil"},
        {"architecture": ["evil"]},
        {"architecture": "backbone", "side": 64, "embed_dim": 8, "early_block": 0, "code": "evil",
         "backbone": {"architecture": "densenet121", "last_dilation": 2}},
    ],
)  # fmt: skip
def test_a_crafted_promptable_encoder_builds_nothing(spec: dict[str, Any], watch: Watch) -> None:
    refused(lambda: empty_encoder(spec))


@pytest.mark.parametrize(
    "name",
    [
        "timm:hf-hub:evil/model={file}", "timm:hf_hub:evil/model={file}",
        "timm:local-dir:{folder}={file}", "timm:../../evil={file}", "timm:TEST_VIT={file}",
        "timm:test_vit={file}", "open_clip:hf-hub:evil/model={file}",
        "open_clip:local-dir:{folder}={file}", "open_clip:ViT-B-16-SigLIP={file}",
        "open_clip:coca_ViT-B-32={file}", "open_clip:roberta-ViT-B-32={file}",
        "open_clip:ViT-B-16={file}", "conch:{folder}", "sam:{folder}", "hf-hub:evil/model",
        "hf-hub:../../{folder}", "local-dir:hf-hub:evil/model", "local-dir:{folder}/evil.py",
        "local-dir:" + "x" * 5000, "local-dir:\x00", "local-dir:https://evil.example",
    ],
)  # fmt: skip
def test_crafted_names_run_nothing(name: str, template: Path, tmp_path: Path, watch: Watch) -> None:
    folder = craft(VARIANTS[2], template, tmp_path / "crafted", watch.marker)
    for text in ("conch_byte_level_bpe_uncased.json", "model.safetensors", "pytorch_model.bin"):
        torch.save([watch.marker], folder / text)
    name = name.format(folder=folder, file=folder / "evil.bin")
    for load in (load_model, load_backbone, load_matcher, load_encoder, load_promptable_model):
        refused(lambda load=load: load(name))  # type: ignore[misc]
    refused(lambda: load_sam(name))


def test_a_sam_s_folder_is_only_asked_for_its_kind(tmp_path: Path, watch: Watch) -> None:
    add_code(tmp_path, watch.marker)
    for kind in ("sam", "evil", {"a": 1}, 3):
        content = json.loads((tmp_path / "config.json").read_text()) | {"model_type": kind}
        content["mask_decoder_config"] = {"num_attention_heads": "evil"} if kind == 3 else ["x"]
        (tmp_path / "config.json").write_text(json.dumps(content))
        torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
        refused(lambda: load_promptable_model(f"sam:{tmp_path}"))


def test_a_recipe_and_a_resumed_training_run_nothing(
    template: Path, tmp_path: Path, watch: Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = craft(VARIANTS[2], template, tmp_path / "crafted", watch.marker)
    run = tmp_path / "run"
    shutil.copytree(FORMER / "trainings" / "stopped", run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    recipe["model"] |= {"backbone": f"local-dir:{folder}"}
    data = [f"--set=data.train={FORMER / 'images'}", f"--set=data.validation={FORMER / 'measured'}"]
    fresh = tmp_path / "recipe.yaml"
    fresh.write_text(yaml.safe_dump(recipe), "utf-8")
    code = training_main(["train", str(fresh), "--out", str(tmp_path / "new"), *data])
    said = capfd.readouterr().err
    assert code == 4, said
    assert "tokenizer_kwargs" in said
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    code = training_main(["train", "--resume", "--out", str(run), *data])
    assert code in (2, 4), "another recipe does not resume it, or its backbone is refused"


def test_a_segmentation_ends_with_our_exit_code(
    template: Path, tmp_path: Path, watch: Watch, sample_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = craft(VARIANTS[2], template, tmp_path / "crafted", watch.marker)
    arguments = ["segment", str(sample_path), "--out", str(tmp_path / "out"), "--model"]
    assert main([*arguments, f"local-dir:{folder}"]) == 4
    assert "open_clip_config.json': its setting 'text_cfg.tokenizer_kwargs'" in (
        capsys.readouterr().err
    )


def test_the_network_is_refused_to_a_loading_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    started: list[bool] = []

    def metadata(url: str) -> None:
        started.append(hub.is_offline_mode())
        raise OSError("no host here")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", metadata)

    def download() -> None:
        with contextlib.suppress(ModelError):
            HubRemote().find("a/b", "c")

    other = threading.Thread(target=download)
    with offline():
        assert hub.is_offline_mode()
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        with pytest.raises(ConnectionError, match="while a model is loaded"):
            socket.getaddrinfo("evil.example", 443)
        with pytest.raises(ConnectionError, match="while a model is loaded"):
            socket.create_connection(("127.0.0.1", 9))
        with pytest.raises(ModelError):
            HubRemote().find("a/b", "c")
        other.start()
        other.join(0.2)
        assert other.is_alive(), "a request of a download waits"
        assert not started
    other.join(10)
    assert started == [False]
    assert "HF_HUB_OFFLINE" not in os.environ
