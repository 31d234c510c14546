"""Trained segmentation models: their file, their place in the list, and masks without seams."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.cli import main
from napari_plimseg.errors import ModelError
from napari_plimseg.inference import RunSettings
from napari_plimseg.models.class_gate import ClassGate
from napari_plimseg.models.encoders import loading
from napari_plimseg.models.encoders.base import Backbone
from napari_plimseg.models.encoders.cards import EncoderName
from napari_plimseg.models.encoders.known import remember
from napari_plimseg.models.library import list_models, models_folder
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.model_file import HEADER_KEY, ModelHeader, read_header
from napari_plimseg.models.segmentation import seg_model
from napari_plimseg.models.segmentation.base import DenseModel
from napari_plimseg.models.segmentation.pyramid_net import PyramidNet
from napari_plimseg.models.segmentation.seg_model import (
    SegModel,
    load_segmentation_model,
    save_segmentation_model,
    segmentation_header,
    windows_for,
)
from napari_plimseg.models.segmentation.seg_net import SegNet
from napari_plimseg.models.surroundings import Surroundings
from napari_plimseg.models.tensor_file import write_sealed
from napari_plimseg.settings import DockSettings, options_of
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLASSES = TissueClasses((TissueClass("gland", (1, 2, 3)), TissueClass("rest", (4, 5, 6)),
                         TissueClass("background", (9, 9, 9))))  # fmt: skip
TINY = {"architecture": "tiny"}
WINDOW, STEP = 96, 64
GATE = ClassGate(20, (0.0, 0.0))
AROUND = Surroundings(3.0, (0, 1), 8.0, 40.0)


class TinyBackbone(Backbone):
    """Two convolutions, at strides 4 and 8, that see the whole window through its mean."""

    def __init__(self, name: str = "tiny", seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__(
            name=name, spec=TINY, digest=str(seed), mpp=0.5, block_channels=(8, 16), strides=(4, 8)
        )
        self.first, self.second = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 16, 2, 2)
        self.set_trainable("none")

    def stage(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        found = F.relu((self.first, self.second)[index](x))
        found = found + found.mean((2, 3), keepdim=True)
        return found, found

    def stage_parameters(self, index: int) -> list[nn.Parameter]:
        return list((self.first, self.second)[index].parameters())


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tiny backbone known to the program."""

    def empty(spec: Mapping[str, Any], weights: Any = None) -> Backbone:
        return TinyBackbone(seed=99) if spec == TINY else loading.empty_backbone(spec, weights)

    monkeypatch.setattr(seg_model, "empty_backbone", empty)
    monkeypatch.setattr(seg_model, "load_backbone", lambda name: TinyBackbone(name))
    monkeypatch.setattr(seg_model, "find_encoder", lambda name, *_, **__: name)


def parts(seed: int = 0) -> tuple[TinyBackbone, SegNet]:
    backbone = TinyBackbone(seed=seed)
    torch.manual_seed(seed + 1)
    head = SegNet(backbone.block_channels, backbone.strides, len(CLASSES), 16)
    last = head.head[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.normal_(last.weight, std=2.0)  # so that not every pixel gets one class
    with torch.no_grad():
        images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        last.bias -= head(backbone(images)).mean((0, 2, 3))
    return backbone, head


def header(backbone: Backbone, **changes: Any) -> ModelHeader:
    settings: dict[str, Any] = {"backbone_inside": True, **changes}
    return segmentation_header(
        backbone, CLASSES, width=16, mpp=0.5, patch_size=112, window=WINDOW, step=STEP,
        title="Glands", scores={"mIoU": 0.76543}, **settings,
    )  # fmt: skip


def rounded(network: nn.Module) -> None:
    """Bring weights to what a file can hold."""
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(("gate", "around"), [(None, None), (GATE, None), (GATE, AROUND)])
def test_what_is_saved_gives_the_same_maps(
    tmp_path: Path, inside: bool, gate: ClassGate | None, around: Surroundings | None
) -> None:
    backbone, head = parts()
    rounded(head)
    if inside:
        rounded(backbone)
    path = tmp_path / "own.safetensors"
    about = header(backbone, backbone_inside=inside, gate=gate, surroundings=around)
    save_segmentation_model(path, about, backbone, head)
    model = SegModel(
        backbone, head, CLASSES, name="x", mpp=0.5, window=WINDOW, step=STEP, gate=gate,
        surroundings=around,
    )  # fmt: skip
    found = load_segmentation_model(path)
    assert (found.gate, found.surroundings) == (gate, around)
    images = torch.randint(0, 255, (2, 128, 192, 3), dtype=torch.uint8)
    assert torch.equal(found.probabilities(images), model.probabilities(images))
    assert found.identity == model.identity
    assert any(name.startswith("backbone.") for name in load_file(path)) is inside


def test_eight_bits_are_close_and_smaller(tmp_path: Path) -> None:
    backbone, head = parts()
    for eight in (False, True):
        path = tmp_path / f"{eight}.safetensors"
        save_segmentation_model(path, header(backbone), backbone, head, eight_bits=eight)
    images = torch.randint(0, 255, (1, 128, 128, 3), dtype=torch.uint8)
    one, other = (load_segmentation_model(tmp_path / f"{e}.safetensors") for e in (False, True))
    difference = (one.probabilities(images) - other.probabilities(images)).abs()
    assert 0 < float(difference.mean()) < 0.05
    assert load_file(tmp_path / "True.safetensors")["backbone.first.weight"].dtype == torch.int8
    assert one.identity != other.identity


def test_it_keeps_the_contract() -> None:
    model = SegModel(*parts(), CLASSES, name="x", mpp=0.5, window=WINDOW, step=STEP)
    assert isinstance(model, DenseModel)
    assert (model.alignment, model.halo, model.mask_stride) == (64, 64, 4)
    found = model.probabilities(torch.zeros(2, 128, 64, 3, dtype=torch.uint8))
    assert found.shape == (2, 3, 32, 16)
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(1), torch.ones(2, 32, 16), atol=1e-5)
    assert model.adapted_to(np.zeros((5, 3), np.uint8)) is model
    assert model.to(torch.device("cpu")) is model


def test_a_gate_leaves_out_what_is_not_seen_and_can_be_taken_away() -> None:
    images = torch.randint(0, 255, (1, 128, 192, 3), dtype=torch.uint8)
    model = SegModel(
        *parts(), CLASSES, name="x", mpp=0.5, window=WINDOW, step=STEP,
        gate=ClassGate(1000, (99.0, -99.0)),
    )  # fmt: skip
    found = model.probabilities(images)
    plain = model.without_gate().probabilities(images)
    assert float(found[:, 0].max()) == 0
    assert float(plain[:, 0].max()) > 0.5
    rest = plain[:, 1:] / plain[:, 1:].sum(1, keepdim=True)
    assert torch.allclose(found[:, 1:], rest, atol=1e-5)


def test_surroundings_smooth_what_the_network_says() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (1, 128, 192, 3), dtype=torch.uint8, generator=generator)
    network = parts()
    usual: dict[str, Any] = {"name": "x", "mpp": 0.5, "window": WINDOW, "step": STEP}
    plain = SegModel(*network, CLASSES, **usual)
    smooth = SegModel(*network, CLASSES, **usual, surroundings=Surroundings(8.0))
    assert smooth.identity != plain.identity
    rough, found = (m.probabilities(images)[0] for m in (plain, smooth))
    assert float(found.diff(dim=1).abs().mean()) < 0.8 * float(rough.diff(dim=1).abs().mean())


def test_small_pieces_go_also_where_windows_overlap() -> None:
    network = parts()
    usual: dict[str, Any] = {"name": "x", "mpp": 0.5, "window": WINDOW, "step": STEP}
    plain = SegModel(*network, CLASSES, **usual)
    whole = SegModel(*network, CLASSES, **usual, surroundings=Surroundings(least_um2=60))
    generator = torch.Generator().manual_seed(0)
    halo, size, counts = whole.halo, 5 * STEP, []
    side = size + 2 * halo
    images = torch.randint(0, 255, (1, side, side, 3), dtype=torch.uint8, generator=generator)
    for model in (plain, whole):
        trim = slice(halo // 4, (halo + size) // 4)
        found = model.probabilities(images)[0, :, trim, trim].argmax(0)
        sizes = [
            np.bincount(ndimage.label(found == index)[0].ravel())[1:]
            for index in range(len(CLASSES))
        ]
        counts.append(int((np.concatenate(sizes) < 15).sum()))  # of 4 um2
    assert counts[0] > 20
    assert counts[1] < counts[0] / 5


@pytest.mark.parametrize(("gate", "around"), [(None, None), (GATE, None), (None, AROUND)])
def test_the_mask_does_not_depend_on_the_tiling(
    gate: ClassGate | None, around: Surroundings | None
) -> None:
    model = SegModel(
        *parts(), CLASSES, name="x", mpp=0.5, window=WINDOW, step=STEP, gate=gate,
        surroundings=around,
    )  # fmt: skip
    halo, trim = model.halo, model.halo // 4
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 255, (1, 3, 24, 24), generator=generator).float()
    slide = F.interpolate(coarse, 384 + 2 * halo, mode="bicubic").clamp(0, 255).byte()
    slide = slide.permute(0, 2, 3, 1)

    def mask(y: int, x: int, height: int, width: int) -> Tensor:
        seen = slide[:, y : y + height + 2 * halo, x : x + width + 2 * halo]
        found = model.probabilities(seen)[0]
        return found[:, trim : trim + height // 4, trim : trim + width // 4]

    whole = mask(0, 0, 384, 384)
    assert len(whole.argmax(0).unique()) > 1
    if gate is not None:  # it leaves something out, and not everything
        assert 0 < int((whole[:2] == 0).sum()) < whole[:2].numel()
    for size in (64, 128, 192):
        for y in range(0, 384, size):
            for x in range(0, 384, size):
                part = whole[:, y // 4 : (y + size) // 4, x // 4 : (x + size) // 4]
                assert torch.allclose(mask(y, x, size, size), part, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{"mpp": 1.0}, {"step": 48}, {"seed": 3}, {"classes": CLASSES.without("rest")},
     {"gate": GATE}],
)  # fmt: skip
def test_whatever_changes_results_changes_the_identity(change: dict[str, Any]) -> None:
    usual = {"mpp": 0.5, "window": WINDOW, "step": STEP, "classes": CLASSES, "seed": 0}

    def identity(seed: int, classes: TissueClasses, **settings: Any) -> str:
        return SegModel(*parts(seed), classes, name="x", **settings).identity

    assert identity(**usual) == identity(**usual)
    assert identity(**(usual | change)) != identity(**usual)


def test_it_is_listed_loaded_by_its_name_and_recolored() -> None:
    backbone, head = parts()
    path = models_folder() / "glands.safetensors"
    save_segmentation_model(path, header(backbone), backbone, head)
    info = {i.name: i for i in list_models()}["glands"]
    assert info.available
    assert (info.title, info.classes) == ("Glands", CLASSES)
    assert info.description == "Your own model, trained on tiny: mIoU 0.765."
    recolored = CLASSES.replaced("gland", TissueClass("gland", (7, 7, 7)))
    model = load_model("glands", recolored)
    assert model.classes.colors[0] == (7, 7, 7)
    assert model.identity == load_model("glands").identity
    with pytest.raises(ModelError, match="made for other classes"):
        load_model("glands", CLASSES.without("rest"))


def test_the_command_line_segments_with_it(sample_path: Path, tmp_path: Path) -> None:
    backbone, head = parts()
    save_segmentation_model(
        models_folder() / "glands.safetensors", header(backbone), backbone, head
    )
    code = main(["segment", str(sample_path), "--model", "glands", "--out", str(tmp_path),
                 "--region", "0,0,512,512", "--device", "cpu"])  # fmt: skip
    assert code == 0
    assert list(tmp_path.glob("*.plimseg"))


def test_a_file_whose_backbone_has_gone_is_listed_with_the_reason(tmp_path: Path) -> None:
    weights = tmp_path / "x.pt"
    weights.touch()
    name = f"timm:x={weights}"
    backbone, head = TinyBackbone(name), parts()[1]
    remember(EncoderName.parse(name), "0" * 64, [backbone.identity])
    about = header(backbone, backbone_inside=False)
    save_segmentation_model(models_folder() / "far.safetensors", about, backbone, head)
    info = {i.name: i for i in list_models()}["far"]
    assert (info.available, info.reason) == (True, "")
    assert str(tmp_path) not in info.description
    weights.unlink()
    info = {i.name: i for i in list_models()}["far"]
    assert not info.available
    assert "needs the encoder 'timm:x' (identity" in info.reason
    assert "plimseg models import timm:x=FILE" in info.reason


def test_a_model_leaves_a_network_in_training_trainable() -> None:
    backbone, head = parts()
    backbone.set_trainable("all")
    model = SegModel(backbone, head, CLASSES, name="x", mpp=0.5, window=WINDOW, step=STEP)
    model.probabilities(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    head(backbone(torch.rand(1, 3, 64, 64))).sum().backward()
    assert all(p.grad is not None for p in [*backbone.parameters(), *head.parameters()])


def test_folders_stay_out_of_files() -> None:
    assert header(TinyBackbone("timm:x=/home/jo/x.pt")).encoder == "timm:x"
    assert header(TinyBackbone("local-dir:/home/jo")).encoder == "local-dir"
    assert header(TinyBackbone("timm:x=/home/jo/x.pt"), backbone_inside=False).encoder == "timm:x"


def damaged(tensors: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    name = "head.head.2.weight"
    if how == "nan":
        tensors[name] = torch.full_like(tensors[name], float("nan"))
    elif how == "shape":
        tensors[name] = tensors[name][:-1]
    elif how == "missing":
        del tensors[name]
    elif how == "unknown":
        tensors["head.more"] = torch.zeros(1)
    elif how == "foreign":
        tensors["other.more"] = torch.zeros(1)
    elif how == "no backbone":
        tensors = {k: v for k, v in tensors.items() if k.startswith("head.")}
    elif how == "no scales":
        tensors["backbone.first.weight"] = tensors["backbone.first.weight"].to(torch.int8)
    elif how == "wrong scales":
        values = tensors["backbone.first.weight"].to(torch.int8)
        tensors |= {"backbone.first.weight": values,
                    "backbone.first.weight.row_scale": torch.ones(3, 5)}  # fmt: skip
    return tensors


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("nan", "not finite"),
        ("shape", "has shape"),
        ("missing", "is missing"),
        ("unknown", "not known"),
        ("foreign", "not those of its kind"),
        ("no backbone", "not those of its kind"),
        ("no scales", "no scales that match"),
        ("wrong scales", "no scales that match"),
    ],
)
def test_damaged_tensors_are_refused_with_the_files_name(
    tmp_path: Path, how: str, problem: str
) -> None:
    backbone, head = parts()
    path = tmp_path / "odd.safetensors"
    save_segmentation_model(path, header(backbone), backbone, head)
    write_sealed(
        path, {HEADER_KEY: header(backbone).to_json()}, damaged(load(path.read_bytes()), how)
    )
    with pytest.raises(ModelError, match=problem) as caught:
        load_model(path)
    assert "odd.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"width": 17}, "width of 17"),
        ({"width": 1 << 20}, "is impossible"),
        ({"width": "wide"}, "incomplete"),
        ({"backbone_inside": 1}, "incomplete"),
        ({"window": 32}, "windows of 32"),
        ({"window": 1 << 20}, "are impossible"),
        ({"window": 100}, "don't fit"),
        ({"backbone": {"architecture": "huge"}}, "not known to this version"),
        ({"backbone": None}, "incomplete"),
        ({"gate": {"field_um": 20}}, "gate is incomplete"),
        ({"gate": {"field_um": 20, "thresholds": [1.0]}}, "1 thresholds for 2 tissue classes"),
        ({"gate": None}, "gate is incomplete"),
        ({"surroundings": {"smoothing_um": 4}}, "surroundings are incomplete"),
        (
            {"surroundings": Surroundings(0, (1, 2), 9).to_dict()},
            "classes .1, 2. are not among its 2 tissue",
        ),
    ],
)
def test_impossible_networks_are_refused(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    backbone, head = parts()
    path = tmp_path / "odd.safetensors"
    save_segmentation_model(path, header(backbone), backbone, head)
    content = json.loads(header(backbone).to_json())
    content["network"] |= change
    write_sealed(path, {HEADER_KEY: json.dumps(content)}, load(path.read_bytes()))
    with pytest.raises(ModelError, match=problem):
        load_model(path)


def test_another_backbone_s_file_is_refused(tmp_path: Path) -> None:
    backbone, head = parts()
    path = tmp_path / "own.safetensors"
    about = replace(header(backbone, backbone_inside=False), encoder_identity="0" * 64)
    save_segmentation_model(path, about, backbone, head)
    with pytest.raises(ModelError, match="other weights of its backbone 'tiny'"):
        load_model(path)
    plain = replace(about, kind="prototypes", network={})
    write_sealed(path, {HEADER_KEY: plain.to_json()}, {"prototypes": torch.eye(3)})
    with pytest.raises(ModelError, match="not a segmentation model"):
        load_segmentation_model(path)


def test_nothing_is_written_of_what_does_not_fit(tmp_path: Path) -> None:
    backbone, head = parts()
    other = SegNet(backbone.block_channels, backbone.strides, 5, 16)
    with pytest.raises(ModelError, match="has shape"):
        save_segmentation_model(tmp_path / "a.safetensors", header(backbone), backbone, other)
    next(iter(head.parameters())).data.fill_(1e6)  # beyond sixteen bits
    with pytest.raises(ModelError, match="not finite"):
        save_segmentation_model(tmp_path / "a.safetensors", header(backbone), backbone, head)
    assert not list(tmp_path.iterdir())


def test_headers_of_models_made_of_words_stay_readable_by_older_versions(tmp_path: Path) -> None:
    backbone, head = parts()
    path = tmp_path / "own.safetensors"
    save_segmentation_model(path, header(backbone), backbone, head)
    assert read_header(path) == header(backbone)
    plain = replace(header(backbone), kind="prototypes", network={})
    assert "network" not in json.loads(plain.to_json())


@pytest.mark.parametrize(
    ("strides", "windows"),
    [((4, 8, 16, 16), (320, 256)), ((4, 8, 16, 32), (320, 256)), ((14, 14), (308, 252))],
)
def test_windows_fit_the_cells_of_backbone_head_and_mask(
    strides: tuple[int, ...], windows: tuple[int, int], tmp_path: Path
) -> None:
    backbone = TinyBackbone()
    backbone.strides, backbone.block_channels = strides, (8,) * len(strides)
    head = SegNet(backbone.block_channels, strides, len(CLASSES), 16)
    assert windows_for(backbone, head) == windows
    about = segmentation_header(
        backbone, CLASSES, width=16, mpp=0.5, patch_size=112, backbone_inside=False,
        window=windows[0], step=windows[1],
    )  # fmt: skip
    save_segmentation_model(tmp_path / "own.safetensors", about, backbone, head)


@pytest.mark.parametrize("window", [320, 448])
@pytest.mark.parametrize("head_class", [SegNet, PyramidNet])
def test_tiles_of_any_offered_size_hold_whole_steps(head_class: type, window: int) -> None:
    backbone = TinyBackbone()
    backbone.strides, backbone.block_channels = (4, 8, 16, 32), (8,) * 4
    head = head_class(backbone.block_channels, backbone.strides, len(CLASSES), 16)
    assert windows_for(backbone, head, window)[0] == window
    _, step = windows_for(backbone, head, window)
    offered = [choice.value for choice in options_of(DockSettings)["tile_size"].choices]
    assert offered
    for size in (RunSettings().tile_size, *offered):
        assert size % step == 0
