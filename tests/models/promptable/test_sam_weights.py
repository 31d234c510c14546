"""SAM, SAM-HQ and MobileSAM from files give what transformers and timm make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models.promptable.prompt_tensors import HintTensors, PatchHints
from napari_plimseg.models.promptable.sam_decoder import DecoderShape
from napari_plimseg.models.promptable.sam_encoders import empty_encoder
from napari_plimseg.models.promptable.sam_weights import load_sam, without_folder
from napari_plimseg.models.promptable.wsi_sam import WsiSam
from tests.support.sam import (
    HIDDEN,
    SIDE,
    WIDTH,
    meta_names,
    mobile_sam,
    transformers_sam,
)

if TYPE_CHECKING:
    from pathlib import Path

# SAM counts pixels, this package edges of pixels
POINTS = ((10.5, 20.5, True), (40.5, 30.5, False))
BOX = (5.5, 6.5, 50.5, 45.5)
MASK = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
HINTS = {
    "points": PatchHints(POINTS),
    "box": PatchHints(boxes=(BOX,)),
    "both": PatchHints(POINTS, (BOX,)),
    "refined": PatchHints(POINTS, (BOX,), MASK),
    "mask": PatchHints(mask=MASK),
}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("sam")
    return path, transformers_sam(path)


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1) / 255
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1) / 255
    return (images - mean) / std


def theirs(model: Any, images: torch.Tensor, hints: PatchHints) -> torch.Tensor:
    """Transformers' own single mask."""
    with torch.no_grad():
        out = model(pixel_values=normalised(images), multimask_output=False, **inputs(hints))
    return out.pred_masks[:, 0]


def inputs(hints: PatchHints) -> dict[str, torch.Tensor]:
    told: dict[str, Any] = {}
    if hints.points:
        places = [[[[x - 0.5, y - 0.5] for y, x, _ in hints.points]]]
        told |= {
            "input_points": torch.tensor(places),
            "input_labels": torch.tensor([[[int(sign) for *_, sign in hints.points]]]),
        }
    if hints.boxes:
        y0, x0, y1, x1 = (v - 0.5 for v in hints.boxes[0])
        told["input_boxes"] = torch.tensor([[[x0, y0, x1, y1]]])
    if hints.mask is not None:
        told["input_masks"] = torch.from_numpy(hints.mask)[None, None]
    return told


@pytest.mark.parametrize("name", [n for n in HINTS if n != "mask"])
def test_decoder_without_further_tokens_is_transformers_sam(
    folder: tuple[Path, Any], images: torch.Tensor, name: str
) -> None:
    path, model = folder
    sam = WsiSam.on_sam(load_sam(f"sam:{path}"))
    encoded = sam.encode(images)
    hints = HintTensors.of([HINTS[name]], encoded.grid)
    embedded = sam.decoder.hint_encoder(hints, SIDE, encoded.grid)
    places = sam.decoder.hint_encoder.positions(encoded.grid)
    branch = sam.decoder.by_resolution["hr"]
    with torch.no_grad():
        found = branch.sam(encoded.final, places, embedded, torch.zeros(0, WIDTH))
    wanted = theirs(model, images, HINTS[name])
    assert wanted.std() > 0.01
    torch.testing.assert_close(found.mask, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["points", "box"])
def test_untrained_model_on_sam_hq_gives_its_masks(
    tmp_path: Path, images: torch.Tensor, name: str
) -> None:
    """With transformers' layers, called here: its own forward loses what its attention computes."""
    model = transformers_sam(tmp_path, high_quality=True)
    told = inputs(HINTS[name])
    with torch.no_grad():
        seen = model.vision_encoder(normalised(images))
        image = seen.last_hidden_state
        sparse, dense = model.prompt_encoder(
            told.get("input_points"), told.get("input_labels"), told.get("input_boxes"), None
        )
        part = model.mask_decoder
        own = torch.cat([part.iou_token.weight, part.mask_tokens.weight, part.hq_token.weight])
        tokens, cells = part.transformer(
            point_embeddings=torch.cat([own[None, None], sparse], 2),
            image_embeddings=image + dense,
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            attention_similarity=None,
        )
        x = cells.transpose(2, 3).reshape(1, WIDTH, 4, 4)
        x = part.activation(part.upscale_layer_norm(part.upscale_conv1(x)))
        x = part.activation(part.upscale_conv2(x))
        early = seen.intermediate_embeddings[0].permute(0, 3, 1, 2)
        features = part.encoder_conv2(part.activation(part.encoder_norm(part.encoder_conv1(image))))
        features = features + part.compress_vit_conv2(
            part.activation(part.compress_vit_norm(part.compress_vit_conv1(early)))
        )
        features = features + part.mask_conv2(part.activation(part.mask_norm(part.mask_conv1(x))))
        plain = torch.einsum("bc,bchw->bhw", part.output_hypernetworks_mlps[0](tokens[:, 0, 1]), x)
        better = torch.einsum("bc,bchw->bhw", part.hq_mask_mlp(tokens[:, 0, 5]), features)
        sam = WsiSam.on_sam(load_sam(f"sam:{tmp_path}"))
        encoded = sam.encode(images)
        masks = sam.decode(encoded, encoded, [HINTS[name]])
    assert masks.hr is not None
    torch.testing.assert_close(masks.hr[0], plain + better, atol=1e-3, rtol=1e-3)


def test_early_map_is_that_of_the_first_global_attention(
    folder: tuple[Path, Any], images: torch.Tensor
) -> None:
    path, model = folder
    found = load_sam(f"sam:{path}").encoder(images)
    with torch.no_grad():
        states = model.vision_encoder(normalised(images), output_hidden_states=True)
    torch.testing.assert_close(found.final, states.last_hidden_state, atol=1e-5, rtol=1e-5)
    # the hidden states begin with what enters the first layer
    layers = [h for h in states.hidden_states if h.shape[-1] == HIDDEN]
    assert any(torch.allclose(found.early, h.permute(0, 3, 1, 2), atol=1e-5) for h in layers[1:3])
    assert found.early.shape == (1, HIDDEN, 4, 4)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_metas_names_are_the_same_model(
    folder: tuple[Path, Any], tmp_path: Path, images: torch.Tensor, suffix: str
) -> None:
    path, model = folder
    file = tmp_path / f"vit{suffix}"
    tensors = {k: v.clone() for k, v in meta_names(model).items()}
    if suffix == ".pth":
        torch.save(tensors, file)
    else:
        from safetensors.torch import save_file

        save_file(tensors, file)
    one, other = load_sam(f"sam:{path}"), load_sam(f"sam:{file}")
    assert one.encoder.spec() == other.encoder.spec()
    for part in ("hint_encoder", "decoder"):
        ours, metas = getattr(one, part), getattr(other, part)
        assert set(ours) == set(metas)
        assert all(torch.equal(ours[name], metas[name]) for name in ours)
    torch.testing.assert_close(one.encoder(images).final, other.encoder(images).final)
    assert other.name == f"sam:vit{suffix}"


def test_mobile_sams_tiny_vit(folder: tuple[Path, Any], tmp_path: Path) -> None:
    encoder = mobile_sam(tmp_path / "mobile_sam.pt", folder[1])
    sam = load_sam(f"sam:{tmp_path / 'mobile_sam.pt'}", side=SIDE)
    images = torch.rand(2, 3, SIDE, SIDE)
    found, wanted = sam.encoder(images), encoder(images)
    torch.testing.assert_close(found.final, wanted.final)
    torch.testing.assert_close(found.early, wanted.early)
    assert found.final.shape == (2, WIDTH, 4, 4), "cells of 16 pixels to the end"
    assert found.early.shape == (2, 16, 4, 4)
    assert sam.encoder.spec()["depths"] == [1, 1, 2, 1]
    assert load_sam(f"sam:{tmp_path / 'mobile_sam.pt'}").encoder.side == 1024


def test_real_mobile_sam_has_the_published_sizes() -> None:
    encoder = empty_encoder(
        {
            "architecture": "tiny-vit", "embed_dims": [64, 128, 160, 320], "depths": [2, 2, 6, 2],
            "num_heads": [2, 4, 5, 10], "window_sizes": [7, 7, 14, 7], "output_channels": 256,
            "side": 1024,
        }
    )  # fmt: skip
    assert encoder.early_channels == 160
    assert sum(p.numel() for p in encoder.parameters()) == 5_743_892
    assert not encoder.trained_parameters()


def test_digest_changes_with_the_weights(folder: tuple[Path, Any], tmp_path: Path) -> None:
    tensors = {k: v.clone() for k, v in meta_names(folder[1]).items()}
    torch.save(tensors, tmp_path / "a.pth")
    tensors["mask_decoder.iou_token.weight"] += 1
    torch.save(tensors, tmp_path / "b.pth")
    one, other = (load_sam(f"sam:{tmp_path / name}") for name in ("a.pth", "b.pth"))
    assert one.digest != other.digest


def broken(tensors: dict[str, torch.Tensor], how: str, folder: Path) -> str:
    file = folder / "weights.pth"
    if how == "code":
        torch.save({"model": tensors, "run": print}, file)
        return f"sam:{file}"
    if how == "no decoder":
        tensors = {k: v for k, v in tensors.items() if not k.startswith("mask_decoder")}
    elif how == "one missing":
        del tensors["image_encoder.blocks.1.attn.qkv.weight"]
    elif how == "not finite":
        tensors["image_encoder.pos_embed"] = tensors["image_encoder.pos_embed"] * float("nan")
    elif how == "no global attention":
        del tensors["image_encoder.pos_embed"]
    torch.save(tensors, file)
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:1000])
    return f"sam:{file}"


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("code", "more than tensors"),
        ("no decoder", "no mask part"),
        ("one missing", "is missing"),
        ("not finite", "not finite"),
        ("no global attention", "not the weights of a SAM"),
        ("cut off", "not a readable weight file"),
    ],
)
def test_what_is_no_sam_is_refused(
    folder: tuple[Path, Any], tmp_path: Path, how: str, problem: str
) -> None:
    tensors = {k: v.clone() for k, v in meta_names(folder[1]).items()}
    source = broken(tensors, how, tmp_path)
    with pytest.raises(ModelError, match=problem):
        load_sam(source)


@pytest.mark.parametrize(
    ("config", "problem"),
    [('{"model_type": "sam2"}', "type 'sam2'"), ("[1", "not readable JSON"),
     ('{"model_type": "sam"}', "holds no model.safetensors")],
)  # fmt: skip
def test_folders_that_are_no_sam_are_refused(tmp_path: Path, config: str, problem: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=problem):
        load_sam(f"sam:{tmp_path}")


def test_nothing_is_fetched_silently(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="is not on this computer"):
        load_sam("hf-hub:facebook/not-fetched-sam")
    with pytest.raises(ModelError, match="is not the name of a SAM"):
        load_sam("bundled")


def test_names_don_t_tell_where_weights_lie() -> None:
    assert without_folder("sam:/home/someone/mobile_sam.pt") == "sam:mobile_sam.pt"
    assert without_folder("hf-hub:facebook/sam-vit-base") == "hf-hub:facebook/sam-vit-base"


@pytest.mark.parametrize(
    "spec",
    [{"architecture": "unknown"}, {"architecture": "sam-vit", "hidden_size": 10**9},
     {"architecture": "tiny-vit"}, {"architecture": "sam-vit", "colour": 3},
     {"architecture": "backbone", "backbone": {"architecture": "densenet121", "last_dilation": 2},
      "side": 100}],
)  # fmt: skip
def test_impossible_encoders_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        empty_encoder(spec)


def test_decoder_shapes_are_checked() -> None:
    with pytest.raises(ModelError, match="early_scale"):
        DecoderShape(16, early_scale=3)
    with pytest.raises(ModelError, match="impossible"):
        DecoderShape(16, mlp_dim=10**6)
    with pytest.raises(ModelError, match="wrong"):
        DecoderShape.from_dict({"early_channels": 3, "colour": 1})
    assert DecoderShape.from_dict(DecoderShape(16).to_dict()) == DecoderShape(16)
