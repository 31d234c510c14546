"""Encoders of others, on tiny randomly initialized checkpoints saved by the test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.base import ImageEncoder, ImageTextEncoder
from napari_plimseg.models.encoders.cards import CARDS
from napari_plimseg.models.encoders.loading import load_encoder
from napari_plimseg.models.encoders.specs import TIMM_VARIANTS
from napari_plimseg.models.library import list_models
from napari_plimseg.models.loading import load_model
from napari_plimseg.models.torchvision_compat import make_torchvision_importable

if TYPE_CHECKING:
    from pathlib import Path

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESSING = {"mean": [0.7, 0.5, 0.7], "std": [0.2, 0.25, 0.2]}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_torchvision_importable()
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    content: dict[str, Any] = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def test_torchvision_timm_and_open_clip_can_be_imported() -> None:
    make_torchvision_importable()
    import open_clip  # noqa: F401
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    assert hasattr(torch.ops.torchvision, "nms")


def test_a_folder_of_open_clip_gives_maps_of_any_classes(clip_folder: Path) -> None:
    encoder = load_encoder(f"local-dir:{clip_folder}")
    assert isinstance(encoder, ImageTextEncoder)
    assert (encoder.stride, encoder.alignment, encoder.halo) == (16, 32, 32)
    texts = encoder.encode_text(["fat", "muscle"])
    assert texts.shape == (2, 16)
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)
    model = load_model(f"local-dir:{clip_folder}")
    images = torch.randint(0, 255, (1, 128, 96, 3), dtype=torch.uint8)
    probabilities = model.probabilities(images)
    assert probabilities.shape == (1, 9, 32, 24)
    assert torch.allclose(probabilities.sum(1), torch.ones(1, 32, 24), atol=1e-5)


def test_dense_vectors_use_the_folders_own_normalization(clip_folder: Path) -> None:
    encoder: Any = load_encoder(f"local-dir:{clip_folder}")
    assert encoder._mean.flatten().tolist() == pytest.approx(PREPROCESSING["mean"])
    assert encoder._std.flatten().tolist() == pytest.approx(PREPROCESSING["std"])


def test_an_open_clip_folder_gives_the_same_mask_in_two_tilings(clip_folder: Path) -> None:
    encoder = load_encoder(f"local-dir:{clip_folder}")
    halo = encoder.halo
    generator = torch.Generator().manual_seed(3)
    slide = torch.randint(0, 255, (1, 128 + 2 * halo, 128 + 2 * halo, 3), generator=generator)
    slide = slide.to(torch.uint8)
    trim = halo // 16
    whole = encoder.dense(slide)[:, :, trim : trim + 8, trim : trim + 8]
    part = encoder.dense(slide[:, 64:, 64:])[:, :, trim : trim + 4, trim : trim + 4]
    assert torch.allclose(part, whole[:, :, 4:8, 4:8], atol=1e-5)


@pytest.mark.parametrize("missing", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_an_incomplete_folder_is_refused(clip_folder: Path, tmp_path: Path, missing: str) -> None:
    for file in clip_folder.iterdir():
        if file.name != missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match="lacks open_clip_config"):
        load_encoder(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not readable JSON"),
        ("[]", "a list"),
        ('{"model_cfg": 3}', "not an open_clip configuration"),
        ("{}", "not an open_clip configuration"),
    ],
)
def test_a_wrong_configuration_is_refused(
    clip_folder: Path, tmp_path: Path, content: str, says: str
) -> None:
    weights = "open_clip_model.safetensors"
    (tmp_path / weights).write_bytes((clip_folder / weights).read_bytes())
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelError, match=rf"open_clip_config\.json': .*{says}"):
        load_encoder(f"local-dir:{tmp_path}")


def test_a_file_with_weights_of_another_architecture_is_refused(clip_folder: Path) -> None:
    weights = clip_folder / "open_clip_model.safetensors"
    with pytest.raises(ModelError, match=r"another network|has shape"):
        load_encoder(f"open_clip:RN50={weights}")


def test_a_timm_encoder_gives_features_but_no_maps(tmp_path: Path) -> None:
    make_torchvision_importable()
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=0)
    path = tmp_path / "vit.safetensors"
    save_file(network.state_dict(), path)
    encoder = load_encoder(f"timm:test_vit={path}")
    assert isinstance(encoder, ImageEncoder)
    assert not isinstance(encoder, ImageTextEncoder)
    side = 2 * encoder.alignment + 2 * encoder.halo
    features = encoder.dense(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    assert features.shape[2:] == (side // encoder.stride, side // encoder.stride)
    with pytest.raises(ModelError, match="vision-only"):
        load_model(f"timm:test_vit={path}")


def test_a_hub_name_is_not_fetched_but_says_what_to_put_where() -> None:
    with pytest.raises(ModelError, match="is not on this computer") as caught:
        load_model("hf-hub:wisdomik/QuiltNet-B-16")
    assert "local-dir:FOLDER" in str(caught.value)


@pytest.mark.parametrize("name", ["", "quilt", "hf-hub:", "open_clip:ViT-B-16", "ftp:x"])
def test_names_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="not the name of an encoder"):
        load_encoder(name)


@pytest.mark.parametrize("scheme", ["open_clip", "timm"])
def test_unknown_architectures_are_refused(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no architecture 'nothing'"):
        load_encoder(f"{scheme}:nothing={tmp_path / 'x.pt'}")


def test_every_card_says_its_license_and_names_an_architecture_that_exists() -> None:
    make_torchvision_importable()
    import open_clip
    import timm

    assert all(card.license and card.origin and card.title for card in CARDS)
    assert len({card.title for card in CARDS}) == len(CARDS)
    for card in CARDS:
        if card.name.scheme == "open_clip":
            assert card.name.architecture in open_clip.list_models()
        elif card.name.scheme == "timm":
            known = timm.is_model(card.name.architecture)
            assert known or card.name.architecture in TIMM_VARIANTS
            assert not card.reads_text


def test_only_what_a_name_alone_can_load_is_listed() -> None:
    listed = {info.name for info in list_models()}
    assert {str(card.name) for card in CARDS if card.name.is_on_hub} <= listed
    assert not listed & {str(card.name) for card in CARDS if not card.name.is_complete}
