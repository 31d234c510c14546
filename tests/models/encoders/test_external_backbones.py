"""Backbones and matchers of others, on random checkpoints of the true layout at reduced size."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.loading import (
    empty_backbone,
    load_backbone,
    load_encoder,
    load_matcher,
)
from napari_plimseg.models.encoders.open_clip import dense_path
from napari_plimseg.models.encoders.specs import BERTS, BertSizes
from napari_plimseg.models.encoders.timm import transformer_arguments
from napari_plimseg.models.encoders.vit import resized_positions, taps
from napari_plimseg.models.torchvision_compat import make_torchvision_importable
from tests.support.clips import MEAN, RESNET, STD, TEXT, VIT, write_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TINY_BERT = "tests/tiny-bert"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("vit"), VIT, TEXT)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("resnet"), RESNET, TEXT)


@pytest.fixture(scope="module")
def biomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give a transformer of timm beside a BERT of transformers: the layout of BiomedCLIP.

    The folder is made by open_clip itself, which needs the BERT's own configuration in it. We only
    read the name of a BERT whose sizes are known.
    """
    folder = tmp_path_factory.mktemp("biomed")
    bert = {"model_type": "bert", "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(bert))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fat", "tissue", "stroma", "##s", ","]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "",
              "timm_proj": "linear", "image_size": 160}  # fmt: skip
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 16}  # fmt: skip
    name = write_clip(folder, vision, text)
    config = folder / "open_clip_config.json"
    known = json.loads(config.read_text())
    known["model_cfg"]["text_cfg"] |= {"hf_model_name": TINY_BERT, "hf_tokenizer_name": TINY_BERT}
    config.write_text(json.dumps(known))
    bert.pop("model_type")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BERTS, TINY_BERT, BertSizes(**bert))
        yield name


def pixels(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.mark.parametrize(
    ("depth", "expected"), [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (3, (0, 1, 2)), (1, (0,))]
)
def test_the_tokens_of_four_blocks_are_used(depth: int, expected: tuple[int, ...]) -> None:
    assert taps(depth) == expected


def test_maps_of_a_clip_transformer_are_its_normalised_tokens(vit: str) -> None:
    backbone, images = load_backbone(vit), pixels(64, 64)
    visual = load_encoder(vit).network.visual  # type: ignore[attr-defined]
    wanted = visual.forward_intermediates(
        normalised(images), indices=list(taps(5)), normalize_intermediates=True
    )["image_intermediates"]
    found = backbone(images)
    assert (backbone.strides, backbone.block_channels) == ((16,) * 4, (64,) * 4)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_positions_are_interpolated_to_other_sizes(vit: str) -> None:
    backbone = load_backbone(vit)
    assert [m.shape[2:] for m in backbone(pixels(70, 130))] == [(5, 9)] * 4
    ramp = torch.arange(4.0).repeat_interleave(4)[:, None]  # by rows
    positions = torch.cat((torch.full((1, 1), 9.0), ramp))
    larger = resized_positions(positions, (4, 4), (8, 2))
    assert larger[0] == 9
    rows = larger[1:].reshape(8, 2)
    assert torch.allclose(rows[:, 0], rows[:, 1], atol=1e-6)
    assert (rows.diff(dim=0) > 0).all()
    assert torch.equal(resized_positions(positions, (4, 4), (4, 4)), positions)


def test_maps_of_a_clip_resnet_come_before_its_pooling(resnet: str) -> None:
    backbone, images = load_backbone(resnet), pixels(64, 96)
    visual = load_encoder(resnet).network.visual  # type: ignore[attr-defined]
    wanted = visual.forward_intermediates(
        normalised(images), indices=[1, 2, 3, 4], intermediates_only=True
    )["image_intermediates"]
    assert backbone.strides == (4, 8, 16, 32)
    for one, other, channels in zip(backbone(images), wanted, backbone.block_channels, strict=True):
        assert one.shape[1] == channels
        assert torch.allclose(one, other, atol=1e-5)
    assert not any("attnpool" in name for name in backbone.state_dict())


def save_timm(path: Path, name: str, **arguments: Any) -> Any:
    make_torchvision_importable()
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, **arguments).eval()
    for parameter in network.parameters():
        if parameter.ndim == 1:  # layer scales of 1e-5 would hide the blocks
            nn.init.uniform_(parameter, 0.5, 1.0)
    save_file(network.state_dict(), path)
    return network


def test_maps_of_a_timm_transformer_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    reference = save_timm(path, "test_vit", init_values=1e-5, img_size=64, dynamic_img_size=True)
    (tmp_path / "config.json").write_text(
        json.dumps({"pretrained_cfg": {"mean": MEAN, "std": STD}})
    )
    backbone, images = load_backbone(f"timm:test_vit={path}"), pixels(96, 64)
    wanted = reference.forward_intermediates(
        normalised(images), indices=list(taps(6)), norm=True, intermediates_only=True
    )
    for one, other in zip(backbone(images), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_maps_of_a_timm_cnn(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cnn.safetensors"
    reference = save_timm(path, name)
    backbone, images = load_backbone(f"timm:{name}={path}"), pixels(64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in backbone.normalization)
    wanted = reference.forward_intermediates(
        (images - mean) / std, indices=4, intermediates_only=True
    )
    assert backbone.strides == (4, 8, 16, 32)
    for one, other, channels in zip(backbone(images), wanted, backbone.block_channels, strict=True):
        assert one.shape[1] == channels
        assert torch.allclose(one, other, atol=1e-5)


@pytest.fixture(params=["vit", "resnet", "biomed", "test_resnet", "test_vit"])
def any_name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param.startswith("test_"):
        path = tmp_path / "weights.safetensors"
        save_timm(path, request.param)
        return f"timm:{request.param}={path}"
    name: str = request.getfixturevalue(request.param)
    return name


@pytest.mark.parametrize("which", ["last", "all"])
def test_training_reaches_the_chosen_stages_and_no_others(any_name: str, which: str) -> None:
    backbone = load_backbone(any_name)
    stages = range(len(backbone.strides))
    of_stages = [id(p) for i in stages for p in backbone.stage_parameters(i)]
    assert len(of_stages) == len(set(of_stages))
    assert set(of_stages) == {id(p) for p in backbone.parameters()}
    backbone.set_trainable(which)
    first = len(stages) // 2 if which == "last" else 0
    maps = backbone(pixels(64, 64))
    torch.stack([m.square().mean() for m in maps if m.requires_grad]).sum().backward()
    reached = {id(p) for p in backbone.parameters() if p.grad is not None}
    allowed = {id(p) for i in stages[first:] for p in backbone.stage_parameters(i)}
    assert reached <= allowed
    for index in stages[first:]:
        assert any(id(p) in reached for p in backbone.stage_parameters(index))


def test_a_spec_alone_builds_the_same_network(any_name: str) -> None:
    backbone, images = load_backbone(any_name), pixels(64, 96)
    spec = json.loads(json.dumps(backbone.spec))  # as it comes back from a file
    assert "/" not in json.dumps(spec) or "biomed" in any_name
    empty = empty_backbone(spec)
    assert (empty.strides, empty.block_channels) == (backbone.strides, backbone.block_channels)
    assert empty.normalization == backbone.normalization
    empty.load_state_dict(backbone.state_dict())
    for one, other in zip(empty(images), backbone(images), strict=True):
        assert torch.equal(one, other)


def test_a_copy_shares_nothing_with_its_original(any_name: str) -> None:
    """A moving average of the weights is such a copy."""
    backbone, images = load_backbone(any_name), pixels(64, 64)
    twin = copy.deepcopy(backbone)
    before = twin(images)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.5).add_(0.1)
    for one, other in zip(before, twin(images), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(backbone(images)[-1], before[-1])


TEXTS = ["fat", "Fat,  tissues", "d\u00e9bris &amp; stroma", "", "fat " * 90]


@pytest.mark.parametrize("fixture", ["vit", "resnet", "biomed"])
def test_network_and_tokens_are_those_of_open_clip_s_own_builder(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import open_clip

    name: str = request.getfixturevalue(fixture)
    encoder: Any = load_encoder(name)
    folder = tmp_path / "theirs"
    shutil.copytree(name.removeprefix("local-dir:"), folder)
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text().replace(TINY_BERT, str(folder)))
    theirs: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=True).eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    assert torch.equal(encoder._tokenize(TEXTS), tokens)
    assert set(encoder.network.state_dict()) == set(theirs.state_dict())
    side = encoder.window
    images = normalised(pixels(side, side))
    with torch.inference_mode():
        for ours, wanted in (
            (encoder.network.encode_image(images), theirs.encode_image(images)),
            (encoder.network.encode_text(tokens), theirs.encode_text(tokens)),
        ):
            assert float(wanted.std()) > 1e-3
            torch.testing.assert_close(ours, wanted)
    assert (encoder.mean, encoder.std) == (
        tuple(theirs.visual.preprocess_cfg["mean"]), tuple(theirs.visual.preprocess_cfg["std"])
    )  # fmt: skip


@pytest.mark.parametrize("fixture", ["vit", "resnet", "biomed"])
def test_a_clip_judges_images(fixture: str, request: pytest.FixtureRequest) -> None:
    name: str = request.getfixturevalue(fixture)
    matcher = load_matcher(name)
    network = load_encoder(name).network  # type: ignore[attr-defined]
    side = matcher.network.visual.image_size  # type: ignore[union-attr]
    side = side if isinstance(side, int) else side[0]
    images = pixels(side, side)
    wanted = network.encode_image(normalised(images), normalize=True)
    assert torch.allclose(matcher.embed(images), wanted, atol=1e-5)
    odd = pixels(75, 100).requires_grad_()
    vectors = matcher.embed(odd)
    assert vectors.shape == (2, matcher.embedding_size)
    places = matcher.dense(odd)
    assert torch.allclose(places.norm(dim=1), torch.ones(()), atol=1e-5)
    (vectors[:, 0].sum() + places[:, 0].mean()).backward()
    assert float(odd.grad.abs().max()) > 0  # type: ignore[union-attr]
    texts = matcher.encode_text(["fat", "stroma"])
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)


def test_a_place_s_vector_is_what_the_last_block_says_of_it_alone(vit: str) -> None:
    """Attention over one token is that token's value, so the block can be asked one by one."""
    visual = load_encoder(vit).network.visual  # type: ignore[attr-defined]
    images = normalised(pixels(64, 64, 1))
    path, stride = dense_path(visual)
    *blocks, last = visual.transformer.resblocks
    tokens = visual._embeds(images)
    for block in blocks:
        tokens = block(tokens)
    alone = [last.attention(last.ln_1(t[None, None])) for t in tokens[0]]
    wanted = visual.ln_post(torch.cat(alone, 1)) @ visual.proj
    assert stride == 16
    assert torch.allclose(path(images)[0].flatten(1).T, wanted[0, 1:], atol=1e-5)


def test_towers_without_vectors_of_places_say_so() -> None:
    with pytest.raises(ModelError, match="image tower Linear are not supported"):
        dense_path(torch.nn.Linear(1, 1))


@pytest.fixture
def plip(tmp_path: Path) -> tuple[Path, Any]:
    """Save a tiny `CLIPModel` of transformers, and make its sizes known to open_clip."""
    make_torchvision_importable()
    import open_clip
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3,
              "num_attention_heads": 1, "image_size": 64, "patch_size": 16}  # fmt: skip
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 2, "vocab_size": 49408, "max_position_embeddings": 77,
            "eos_token_id": 49407, "bos_token_id": 49406}  # fmt: skip
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).eval()
    for parameter in model.parameters():
        if parameter.ndim:  # larger than usual, so that a swapped tensor shows
            nn.init.normal_(parameter, std=0.2)
    path = tmp_path / "pytorch_model.bin"
    state = model.state_dict()
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # as in older files
    torch.save(state, path)
    config = {
        "embed_dim": 16, "quick_gelu": True, "vision_cfg": {**VIT, "layers": 3, "head_width": 64},
        "text_cfg": {**TEXT, "width": 64, "layers": 2},
    }  # fmt: skip
    for name, quick in (("tiny-plip-quickgelu", True), ("tiny-plip", False)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**config, "quick_gelu": quick}))
    open_clip.add_model_config(tmp_path)
    return path, model


def test_plip_s_layout_gives_what_transformers_gives(plip: tuple[Path, Any]) -> None:
    path, reference = plip
    encoder: Any = load_encoder(f"open_clip:tiny-plip-quickgelu={path}")
    images = pixels(64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    tokens = encoder._tokenize(["fat", "lymphocytes in stroma"])
    with torch.no_grad():
        found = reference(input_ids=tokens, pixel_values=(images - mean) / std)
    assert (encoder.embed(images) - found.image_embeds).abs().max() < 1e-4
    texts = encoder.encode_text(["fat", "lymphocytes in stroma"])
    assert (texts - found.text_embeds).abs().max() < 1e-4
    assert encoder.logit_scale == pytest.approx(float(reference.logit_scale.detach().exp()))


def test_without_the_quick_gelu_it_is_another_network(plip: tuple[Path, Any]) -> None:
    path, _ = plip
    quick, slow = (
        load_backbone(f"open_clip:{name}={path}") for name in ("tiny-plip-quickgelu", "tiny-plip")
    )
    assert quick.spec["quick_gelu"] is True
    assert quick.identity != slow.identity
    assert not torch.allclose(quick(pixels(64, 64))[-1], slow(pixels(64, 64))[-1], atol=1e-3)


def test_an_incomplete_clip_of_transformers_is_refused(plip: tuple[Path, Any]) -> None:
    path, _ = plip
    state = torch.load(path, weights_only=True)
    del state["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"attn\.in_proj_weight' has shape"):
        load_encoder(f"open_clip:tiny-plip-quickgelu={path}")


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names that published files have: those of transformers 4."""
    result = {}
    for name, tensor in state.items():
        for new, old in (
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("mlp.down_proj", "mlp.weights_out"),
            ("mlp.gate_proj", "mlp.weights_in"),
        ):
            name = name.replace(new, old)
        result[name] = tensor
    for name in [n for n in result if "up_proj" in n]:
        first = name.replace("up_proj", "weights_in")
        result[first] = torch.cat((result[first], result.pop(name)))
    return result


@pytest.mark.parametrize("as_published", [True, False])
@pytest.mark.parametrize(("registers", "gated"), [(0, False), (4, False), (2, True)])
def test_dinov2_s_layout_gives_what_transformers_gives(
    tmp_path: Path, registers: int, gated: bool, as_published: bool
) -> None:
    make_torchvision_importable()
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    torch.manual_seed(0)
    settings = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2,
                "image_size": 64, "patch_size": 16, "use_swiglu_ffn": gated}  # fmt: skip
    reference: Any = (
        Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(**settings, num_register_tokens=registers)
        )
        if registers
        else Dinov2Model(Dinov2Config(**settings))
    ).eval()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.2)
    path = tmp_path / "model.safetensors"
    state = reference.state_dict()
    save_file(published(state) if as_published else state, path)
    backbone, images = load_backbone(f"timm:test_vit={path}"), pixels(64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in backbone.normalization)
    with torch.no_grad():
        tokens = reference((images - mean) / std).last_hidden_state[:, 1 + registers :]
    wanted = tokens.transpose(1, 2).reshape(2, 64, 4, 4)
    assert (backbone(images)[-1] - wanted).abs().max() < 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"init_values": 1e-5},  # UNI
        {"init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True},  # H-optimus-0
        {"init_values": 1e-5, "reg_tokens": 4, "gated": True, "mlp_ratio": 5.34375},  # Virchow2
        {"img_size": 64},
    ],
)
def test_what_a_name_leaves_open_is_read_off_the_weights(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    make_torchvision_importable()
    from timm.layers import SwiGLUPacked

    given = dict(arguments)
    if given.pop("gated", False):
        given |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    path = tmp_path / "vit.safetensors"
    reference = save_timm(path, "test_vit", **{"img_size": 96, "dynamic_img_size": True, **given})
    name = f"timm:test_vit={path}"
    backbone, images = load_backbone(name), pixels(64, 96)
    side = given.get("img_size", 96)
    assert load_encoder(name).alignment == side // 2
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in backbone.normalization)
    wanted = reference.forward_intermediates(
        (images - mean) / std, indices=1, norm=True, intermediates_only=True
    )[-1]
    assert torch.allclose(backbone(images)[-1], wanted, atol=1e-4)


def test_mean_and_spread_are_those_published_beside_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "cnn.safetensors"
    save_timm(path, "test_resnet")
    name = f"timm:test_resnet={path}"
    usual = load_backbone(name)
    content = {"image_mean": MEAN, "image_std": STD}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    found = load_backbone(name)
    assert [list(v) for v in found.normalization] == [pytest.approx(MEAN), pytest.approx(STD)]
    assert found.identity != usual.identity


def test_a_cnn_leaves_nothing_open_and_a_broken_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cnn.safetensors"
    save_timm(path, "test_resnet")
    assert transformer_arguments(load_file(path)) == {}
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ModelError, match=r"config\.json': it is not readable JSON"):
        load_backbone(f"timm:test_resnet={path}")


def conch_tensors() -> dict[str, Tensor]:
    """Give random tensors under the names of CONCH's checkpoint."""
    make_torchvision_importable()
    from open_clip.transformer import Transformer
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    trunk = VisionTransformer(
        img_size=64, patch_size=16, embed_dim=64, depth=4, num_heads=1, num_classes=0
    )
    width, size, text_width, words = 64, 32, 64, 40
    pool = nn.MultiheadAttention(size, 8, kdim=width, vdim=width)
    tensors = {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items()}
    tensors |= {f"visual.attn_pool_contrast.attn.{k}": v for k, v in pool.state_dict().items()}
    for norm, n in (("attn_pool_contrast.ln_q", size), ("attn_pool_contrast.ln_k", width),
                    ("ln_contrast", size)):  # fmt: skip
        tensors |= {f"visual.{norm}.weight": torch.rand(n), f"visual.{norm}.bias": torch.rand(n)}
    text = Transformer(text_width, 2, 1)
    tensors |= {f"text.transformer.{k}": v for k, v in text.state_dict().items()}
    tensors |= {
        "visual.attn_pool_contrast.query": torch.randn(1, size),
        "visual.proj_contrast": torch.randn(size, size),
        "text.token_embedding.weight": torch.randn(words, text_width),
        "text.positional_embedding": torch.randn(10, text_width),
        "text.cls_emb": torch.randn(text_width),
        "text.ln_final.weight": torch.rand(text_width),
        "text.ln_final.bias": torch.rand(text_width),
        "text.text_projection": torch.randn(text_width, size),
        "logit_scale": torch.tensor(2.0),
        "visual.attn_pool_caption.query": torch.randn(4, size),  # captioning is not used
        "visual.ln_caption.weight": torch.rand(size),
        "text_decoder.ln_final.weight": torch.rand(text_width),
    }
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.fixture
def conch(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    torch.save(conch_tensors(), tmp_path / "pytorch_model.bin")
    words = {"<pad>": 0, "<unk>": 1, "fat": 2, "tissue": 3, "stroma": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(tmp_path / "conch_byte_level_bpe_uncased.json"))
    return tmp_path


def test_conch_s_own_path_to_vectors_of_places(conch: Path) -> None:
    """Attention pooling over one token gives what the dense projection says of it."""
    encoder: Any = load_encoder(f"conch:{conch}")
    visual = encoder.network.visual
    images = pixels(64, 64, 1)
    x = (images - encoder._mean) / encoder._std
    tokens = visual.trunk.forward_features(x)[0, 1:]
    pooled = torch.cat([visual.attn_pool_contrast(token[None, None])[:, 0] for token in tokens])
    wanted = F.normalize(visual.ln_contrast(pooled) @ visual.proj_contrast, dim=1)
    assert torch.allclose(encoder.unit_vectors(images)[0].flatten(1).T, wanted, atol=1e-5)
    whole = visual.ln_contrast(visual.attn_pool_contrast(visual.trunk.forward_features(x))[:, 0])
    assert torch.allclose(
        encoder.embed(images), F.normalize(whole @ visual.proj_contrast, dim=1), atol=1e-5
    )


def test_conch_is_a_matcher_a_backbone_and_a_zero_shot_model(conch: Path) -> None:
    from napari_plimseg.models.loading import load_model

    name = f"conch:{conch}"
    matcher, backbone = load_matcher(name), load_backbone(name)
    texts = matcher.encode_text(["fat", "stroma", "fat"])
    assert torch.equal(texts[0], texts[2])
    assert not torch.allclose(texts[0], texts[1], atol=1e-2)
    assert matcher.dense(pixels(70, 90)).shape == (2, 32, 5, 6)
    assert backbone.block_channels == (64,) * 4
    assert not any("attn_pool" in key for key in backbone.state_dict())
    empty = empty_backbone(json.loads(json.dumps(backbone.spec)))
    empty.load_state_dict(backbone.state_dict())
    assert torch.equal(empty(pixels(64, 64))[-1], backbone(pixels(64, 64))[-1])
    found = load_model(name).probabilities(torch.zeros(1, 128, 128, 3, dtype=torch.uint8))
    assert found.shape == (1, 9, 32, 32)


@pytest.mark.parametrize("kind", [{}, [], 1, None, "Evil"])
def test_steps_of_a_tokenizer_have_known_names(conch: Path, kind: object) -> None:
    path = conch / "conch_byte_level_bpe_uncased.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": kind}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="of its tokenizer is not known"):
        load_encoder(f"conch:{conch}")


def test_other_files_are_not_taken_for_conch(conch: Path) -> None:
    tensors = conch_tensors()
    del tensors["visual.ln_contrast.bias"]
    torch.save(tensors, conch / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"'visual\.ln_contrast\.bias' is missing"):
        load_encoder(f"conch:{conch}")
    torch.save({"x": torch.zeros(1)}, conch / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not CONCH's"):
        load_encoder(f"conch:{conch}")
    (conch / "conch_byte_level_bpe_uncased.json").unlink()
    with pytest.raises(ModelError, match="the folder lacks"):
        load_encoder(f"conch:{conch}")
