"""Exercise: add a backbone, of a new family and of a known kind."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_plimseg import api
from napari_plimseg.cli import main
from napari_plimseg.errors import ModelError
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.models.encoders.base import Backbone
from napari_plimseg.models.encoders.cards import (
    CARDS,
    SCHEMES,
    EncoderCard,
    EncoderName,
    NameForm,
    folder_of,
    hub_clip,
)
from napari_plimseg.models.encoders.loading import (
    FAMILIES,
    EncoderFamily,
    load_backbone,
    register_scheme,
)
from napari_plimseg.models.library import EntryState, ModelLibrary, Task, list_models
from napari_plimseg.models.loading import load_model
from plimseg_training.pipeline import train_recipe
from tests.support import stages
from tests.support.clips import TEXT, VIT, write_clip
from tests.support.stages import halves, named_tissue, recipe, tissue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CHANNELS = 16


class PatchBackbone(Backbone):
    """Two stages, each a convolution without overlap: cells of 8 and of 16 pixels."""

    def __init__(self, channels: int, *, name: str = "patches", digest: str = "") -> None:
        super().__init__(
            name=name, spec={"architecture": "patches", "channels": channels}, digest=digest,
            mpp=0.5, block_channels=(channels, 2 * channels), strides=(8, 16),
            mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
        )  # fmt: skip
        self.layers = nn.ModuleList(
            [nn.Conv2d(3, channels, 8, stride=8), nn.Conv2d(channels, 2 * channels, 2, stride=2)]
        )
        self.set_trainable("none")
        self.eval()

    @classmethod
    def from_file(cls, name: EncoderName) -> PatchBackbone:
        path = name.weights
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        backbone = cls(CHANNELS, name=str(name), digest=digest)
        backbone.load_state_dict(load_file(path))
        return backbone

    def stage(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.layers[index](x).relu()
        return found, found

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        return list(self.layers[index].parameters())


def rebuilt(spec: Mapping[str, Any]) -> PatchBackbone:
    return PatchBackbone(spec["channels"])


FORM = NameForm("patches", place="FILE")
FAMILY = EncoderFamily(
    backbone=lambda name, seed: PatchBackbone.from_file(name),
    architecture="patches",
    rebuild=rebuilt,
)


@pytest.fixture
def family() -> Iterator[EncoderCard]:
    """What a permanent addition would be: a row in `FAMILIES`, one in `SCHEMES` and a card."""
    register_scheme(FORM, FAMILY)
    card = EncoderCard(
        EncoderName("patches"), "Patches", "two convolutions", "CC0-1.0", source="this test",
        reads_text=False, needed=(("patches.safetensors",),),
    )  # fmt: skip
    CARDS.append(card)
    yield card
    CARDS.remove(card)
    del FAMILIES[FORM.scheme], SCHEMES[FORM.scheme]


@pytest.fixture
def weights(family: EncoderCard) -> Path:
    """The weights where the library looks for them."""
    folder = folder_of(family)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(PatchBackbone(CHANNELS).state_dict(), folder / "patches.safetensors")
    return folder / "patches.safetensors"


@pytest.fixture
def bundled_matcher_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plimseg_training.pipeline.load_matcher", stages.matcher)


def listed(capsys: pytest.CaptureFixture[str], title: str) -> dict[str, Any]:
    """Return what `plimseg models list` prints about a model, {} when it does not."""
    assert main(["models", "list", "--json"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return next((entry for entry in entries if entry["title"] == title), {})


def test_without_its_rows_a_family_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="is not the name of a backbone"):
        load_backbone("patches:w.safetensors")
    assert listed(capsys, "Patches") == {}


def test_a_new_family_is_listed(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = ModelLibrary().entry("Patches")
    assert (entry.name, entry.task) == (f"patches:{weights}", Task.TRAINING)
    shown = listed(capsys, "Patches")
    assert (shown["licence"], shown["state"]) == ("CC0-1.0", "ready")
    weights.unlink()
    shown = listed(capsys, "Patches")
    assert shown["state"] == "not here"
    assert "Put patches.safetensors (this test)" in shown["reason"]


@pytest.mark.usefixtures("bundled_matcher_read_once")
@pytest.mark.parametrize("train_blocks", ["none", "all"])
def test_a_model_is_trained_on_a_new_family_and_predicts(
    train_blocks: str, weights: Path, tmp_path: Path
) -> None:
    name = ModelLibrary().entry("Patches").name
    backbone = load_backbone(name)
    assert [tuple(m.shape) for m in backbone(torch.zeros(1, 3, 40, 64))] == [
        (1, CHANNELS, 5, 8),
        (1, 2 * CHANNELS, 3, 4),
    ]
    chosen = recipe(
        named_tissue(tmp_path / "images", (32, 32)),
        f"model.backbone={name}",
        f"model.train_blocks={train_blocks}",
        "stage1.backbone_learning_rate=0.001",
        "stage2.backbone_learning_rate=0.001",
        "stage2.epochs=8",
    )
    path = train_recipe(chosen, tmp_path / "run")
    inside = {tensor.split(".")[0] for tensor in load_file(path)}
    assert inside == ({"head"} if train_blocks == "none" else {"head", "backbone"})
    if train_blocks == "all":
        weights.unlink()  # the model has its own copy, which the training changed
    model = load_model(path)
    image = torch.from_numpy(tissue(halves((320, 320), (1, 1)), 5))[None]
    found = model.probabilities(image)
    assert found.shape[:2] == (1, 2)
    columns = found.shape[3]
    left, right = found[0, 0, :, : columns // 3], found[0, 0, :, -columns // 3 :]
    assert float(left.mean()) > float(right.mean())
    if train_blocks == "none":
        other = PatchBackbone(CHANNELS)
        save_file(other.state_dict(), weights)
        with pytest.raises(ModelError, match="other weights of its encoder"):
            load_model(path)


@pytest.fixture
def clip_card() -> Iterator[EncoderCard]:
    card = hub_clip("lab/small-clip", "Small CLIP", "ViT of five layers", "CC-BY-4.0")
    CARDS.append(card)
    yield card
    CARDS.remove(card)


def test_without_its_card_a_clip_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "Small CLIP") == {}
    with pytest.raises(ModelError, match="no model 'small clip'"):
        ModelLibrary().entry("small clip")


def test_a_card_lists_a_clip_with_its_license(
    clip_card: EncoderCard, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = next(entry for entry in list_models() if entry.title == "Small CLIP")
    assert (entry.license, entry.state) == ("CC-BY-4.0", EntryState.NOT_HERE)
    assert "Download it in PLIMSeg Models" in entry.reason
    assert listed(capsys, "Small CLIP")["licence"] == "CC-BY-4.0"
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(i for i, line in enumerate(lines) if "Small CLIP  (not available" in line)
    assert "license  CC-BY-4.0" in "\n".join(lines[row : row + 4])


def test_a_clip_with_a_card_segments_and_is_a_backbone(
    clip_card: EncoderCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(folder_of(clip_card), VIT, TEXT)
    assert listed(capsys, "Small CLIP")["state"] == "ready"
    name = ModelLibrary().entry("Small CLIP").name
    assert load_backbone(name).strides == (16,) * 4
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (96, 128, 3), np.uint8)).save(tmp_path / "case 4.png")
    result = api.segment(
        tmp_path / "case 4.png", name, ["gland", "stroma"], out=tmp_path, mpp=0.5,
        settings=RunSettings(tissue=None, device="cpu"),
    )  # fmt: skip
    assert result.info.model_name == "Small CLIP"
    areas = {area.name: area.pixels for area in result.areas()}
    assert {"gland", "stroma"} <= set(areas)
    assert sum(areas.values()) == result.mask.size > 0
