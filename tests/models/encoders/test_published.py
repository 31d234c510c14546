"""Every card at its true size, without memory: the network we build has the published tensors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders import conch_keep
from napari_plimseg.models.encoders.cards import CARDS
from napari_plimseg.models.encoders.external import clip_architecture, clip_network, shapes_of
from napari_plimseg.models.encoders.external import timm_network as our_timm_network
from napari_plimseg.models.encoders.loading import (
    empty_backbone,
    load_backbone,
    load_encoder,
    load_matcher,
)
from napari_plimseg.models.encoders.specs import (
    IMAGENET_MEAN,
    TIMM_VARIANTS,
    BertSizes,
    ClipSpec,
    TimmSpec,
)
from napari_plimseg.models.encoders.timm import spec_for
from napari_plimseg.models.torchvision_compat import make_torchvision_importable
from napari_plimseg.models.weights import check_shapes, open_clip_names, timm_names
from tests.support.published import (
    CONFIGS,
    OPENAI,
    TIMM_PAGES,
    WORDS,
    ConchVision,
    keep_model,
    on_meta,
    timm_network,
    write_words,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

BY_TITLE = {card.title: card for card in CARDS}


def megabytes(tensors: dict[str, Tensor]) -> float:
    return sum(t.numel() for t in tensors.values()) * 4 / 1e6


@pytest.mark.parametrize("title", TIMM_PAGES)
def test_a_vision_only_encoder_is_built_as_its_page_says(title: str) -> None:
    with torch.device("meta"):
        reference = TIMM_PAGES[title]()
        published = reference.state_dict()
        network: Any = our_timm_network(spec_for(BY_TITLE[title].name.architecture, published))
    check_shapes(timm_names(published), network.state_dict(), path=title)
    assert BY_TITLE[title].megabytes == pytest.approx(megabytes(published), rel=0.03)
    # heads and activations are in no tensor
    own = network.blocks[0]
    if hasattr(reference, "config"):
        assert own.attn.num_heads == reference.config.num_attention_heads
    else:
        trunk = reference.trunk if title == "CONCH 1.5" else reference
        assert own.attn.num_heads == trunk.blocks[0].attn.num_heads
        assert type(own.mlp.act) is type(trunk.blocks[0].mlp.act)


def test_every_card_of_timm_is_tested_at_its_true_size() -> None:
    assert set(TIMM_PAGES) == {c.title for c in CARDS if c.name.scheme == "timm"}
    assert set(CONFIGS) == {c.title for c in CARDS if c.name.is_on_hub}
    assert set(TIMM_VARIANTS) <= {c.name.architecture for c in CARDS}


@pytest.mark.parametrize("title", CONFIGS)
def test_a_clip_of_the_hub_is_built_from_its_configuration(title: str) -> None:
    spec = ClipSpec.from_config(CONFIGS[title], OPENAI)
    ours = shapes_of(lambda: clip_network(spec))
    assert BY_TITLE[title].megabytes == pytest.approx(megabytes(ours), rel=0.03)
    if title != "BiomedCLIP":  # open_clip would ask the hub for its BERT
        make_torchvision_importable()
        import open_clip

        reference = on_meta(lambda: open_clip.CLIP(**_plain(CONFIGS[title])))
        check_shapes(reference, ours, path=title)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {
        **config,
        "vision_cfg": dict(config["vision_cfg"]),
        "text_cfg": dict(config["text_cfg"]),
    }


@pytest.mark.parametrize("title", ["PLIP", "PathCLIP", "PathGen-CLIP"])
def test_a_clip_in_one_file_has_the_tensors_of_its_architecture(title: str) -> None:
    card = BY_TITLE[title]
    spec = ClipSpec.from_config(clip_architecture(card.name.architecture))
    ours = shapes_of(lambda: clip_network(spec))
    assert card.megabytes == pytest.approx(megabytes(ours), rel=0.03)
    assert spec.quick_gelu == (title != "PathGen-CLIP")
    if title == "PLIP":  # in the layout of transformers
        from transformers import CLIPConfig, CLIPModel

        published = on_meta(lambda: CLIPModel(CLIPConfig()))  # its defaults are ViT-B/32
        check_shapes(open_clip_names(published), ours, path=title)


def test_keep_has_the_published_tensors() -> None:
    published = on_meta(keep_model)
    check_shapes(conch_keep._keep_names(published), shapes_of(conch_keep.KeepNetwork), path="KEEP")
    assert BY_TITLE["KEEP"].megabytes == pytest.approx(megabytes(published), rel=0.03)


def test_what_no_file_says_comes_from_the_table(tmp_path: Path) -> None:
    spec = spec_for("midnight", {})
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.5,) * 3)
    assert spec_for("conch_v1_5", {}).mean == IMAGENET_MEAN
    beside = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.4, 0.4)}
    assert spec_for("midnight", {}, beside).mean == (0.1, 0.2, 0.3)
    assert spec_for("uni2_h", {}).arguments["depth"] == 24
    with pytest.raises(ModelError, match="depth"):
        TimmSpec("test_vit", {"depth": 1000})


def images(side: int = 64) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_a_row_of_the_table_is_loaded_and_rebuilt_from_a_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = TimmSpec("test_vit", {"depth": 3}, (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setitem(TIMM_VARIANTS, "three_blocks", row)
    torch.manual_seed(0)
    reference = timm_network("test_vit", depth=3, img_size=64, dynamic_img_size=True).eval()
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    name = f"timm:three_blocks={tmp_path / 'w.safetensors'}"
    backbone, x = load_backbone(name), images()
    assert [list(v) for v in backbone.normalization] == [[0.5] * 3, [0.5] * 3]
    assert (backbone.spec["name"], backbone.spec["arguments"]["depth"]) == ("test_vit", 3)
    wanted = reference.forward_intermediates(
        (x - 0.5) / 0.5, indices=1, norm=True, intermediates_only=True
    )[-1]
    assert torch.allclose(backbone(x)[-1], wanted, atol=1e-4)
    empty = empty_backbone(json.loads(json.dumps(backbone.spec)))
    empty.load_state_dict(backbone.state_dict())
    assert torch.equal(empty(x)[-1], backbone(x)[-1])
    assert load_encoder(name).dense(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape[1] == 64
    with pytest.raises(ModelError, match="those of another network"):
        load_backbone(name.replace("three_blocks", "test_vit"))


def test_conch_1_5_gives_the_tokens_of_its_trunk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = ConchVision(timm_network("test_vit", img_size=64, init_values=0.5), 16).eval()
    torch.save(published.state_dict(), tmp_path / "pytorch_model_vision.bin")
    backbone = load_backbone(f"timm:test_vit={tmp_path / 'pytorch_model_vision.bin'}")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in backbone.normalization)
    tokens = published.trunk.forward_features((images() - mean) / std)[:, 1:]
    wanted = tokens.transpose(1, 2).reshape(2, 64, 4, 4)
    assert torch.allclose(backbone(images())[-1], wanted, atol=1e-4)


@pytest.fixture
def small_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """KEEP's folder at reduced size, with code that nobody runs, and its own network."""
    sizes = {"vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "intermediate_size": 64}  # fmt: skip
    monkeypatch.setattr(conch_keep, "KEEP_TEXT", BertSizes(**sizes))
    trunk = TimmSpec(
        "test_vit", {"init_values": 1e-5}, conch_keep.KEEP_TRUNK.mean, conch_keep.KEEP_TRUNK.std
    )
    monkeypatch.setattr(conch_keep, "KEEP_TRUNK", trunk)
    torch.manual_seed(0)
    reference = keep_model("test_vit", **sizes).eval()
    for parameter in reference.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.2)
    save_file(reference.published(), tmp_path / "model.safetensors")
    write_words(tmp_path)
    (tmp_path / "modeling_keep.py").write_text("raise RuntimeError('this code must not run')")
    (tmp_path / "config.json").write_text(
        json.dumps({"auto_map": {"AutoModel": "modeling_keep.KEEPModel"}, "model_type": "keep"})
    )
    return f"keep:{tmp_path}", reference


def test_keep_gives_what_its_own_network_gives(small_keep: tuple[str, Any]) -> None:
    name, reference = small_keep
    encoder: Any = load_encoder(name)
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (conch_keep.KEEP_TRUNK.mean, conch_keep.KEEP_TRUNK.std)
    )
    x = images(160)
    with torch.no_grad():
        wanted = F.normalize(reference.visual_head(reference.visual((x - mean) / std)), dim=-1)
    assert torch.allclose(encoder.embed(x), wanted, atol=1e-5)
    texts = ["fat", "an image of epithelium, stroma."]
    ids = torch.zeros(2, conch_keep.KEEP_CONTEXT, dtype=torch.long)
    ids[0, :3] = torch.tensor([2, 5, 3])
    ids[1, :9] = torch.tensor([2, 10, 11, 8, 15, 13, 7, 14, 3])
    assert torch.equal(encoder._tokenize(texts), ids)
    with torch.no_grad():
        found = reference.text(input_ids=ids, attention_mask=(ids != 0).long()).pooler_output
    assert torch.allclose(encoder.encode_text(texts), F.normalize(found, dim=-1), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(float(reference.logit_scale.detach().exp()))


def test_keep_is_a_matcher_a_backbone_and_a_zero_shot_model(small_keep: tuple[str, Any]) -> None:
    from napari_plimseg.models.loading import load_model

    name, _ = small_keep
    matcher, backbone = load_matcher(name), load_backbone(name)
    assert matcher.dense(images(70)).shape == (2, 32, 5, 5)
    empty = empty_backbone(json.loads(json.dumps(backbone.spec)))
    empty.load_state_dict(backbone.state_dict())
    assert torch.equal(empty(images())[-1], backbone(images())[-1])
    found = load_model(name).probabilities(torch.zeros(1, 320, 320, 3, dtype=torch.uint8))
    assert found.shape[:2] == (1, 9)


def test_other_files_are_not_taken_for_keep(small_keep: tuple[str, Any], tmp_path: Path) -> None:
    name, reference = small_keep
    tensors = reference.published()
    del tensors["visual_head.2.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"'visual\.head\.2\.bias' is missing"):
        load_encoder(name)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks vocab\.txt or tokenizer\.json"):
        load_encoder(name)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model\.safetensors"):
        load_encoder(name)


def test_midnight_s_layout_gives_what_transformers_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = TimmSpec("test_vit", {}, (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setitem(TIMM_VARIANTS, "midnight", row)
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    reference = Dinov2Model(
        Dinov2Config(hidden_size=64, num_hidden_layers=6, num_attention_heads=2, image_size=64,
                     patch_size=16, use_swiglu_ffn=True)
    ).eval()  # fmt: skip
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    backbone = load_backbone(f"timm:midnight={tmp_path / 'model.safetensors'}")
    with torch.no_grad():
        tokens = reference((images() - 0.5) / 0.5).last_hidden_state[:, 1:]
    wanted = tokens.transpose(1, 2).reshape(2, 64, 4, 4)
    assert torch.allclose(backbone(images())[-1], wanted, atol=1e-3)
