"""The bundled backbone and matcher, and the networks on top of a backbone's blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.encoders.bundled import bundled_encoder
from napari_plimseg.models.encoders.bundled_backbone import BundledMatcher, DenseNetBackbone
from napari_plimseg.models.encoders.cards import RANDOM
from napari_plimseg.models.encoders.densenet import Affine, DenseLayer, Transition
from napari_plimseg.models.encoders.loading import (
    empty_backbone,
    load_backbone,
    load_encoder,
    load_matcher,
)
from napari_plimseg.models.layers import cells, to_stride
from napari_plimseg.models.segmentation.cam_net import CamNet
from napari_plimseg.models.segmentation.seg_net import SegNet, grid_stride

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg.models.encoders.base import Backbone, Matcher


@pytest.fixture(scope="module")
def bundled() -> Backbone:
    return load_backbone("bundled")


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return load_matcher("bundled")


def image(height: int = 64, width: int = 64, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, cells(height, 8), cells(width, 8), generator=generator)
    return F.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 33), (75, 97), (130, 66)])
def test_blocks_cover_images_of_any_size(bundled: Backbone, height: int, width: int) -> None:
    pixels = image(height, width)
    found = bundled(pixels)
    assert bundled.strides == (4, 8, 16, 16)
    for block, channels, stride in zip(found, bundled.block_channels, bundled.strides, strict=True):
        assert block.shape == (1, channels, math.ceil(height / stride), math.ceil(width / stride))
    padded = F.pad(pixels, (0, -width % 16, 0, -height % 16), mode="reflect")
    whole = bundled_encoder().network.visual.trunk(padded)
    for block, reference in zip(found, whole, strict=True):
        assert torch.equal(block, reference[:, :, : block.shape[2], : block.shape[3]])


def test_images_that_are_too_small_are_refused(bundled: Backbone) -> None:
    with pytest.raises(ValueError, match="smaller than 32"):
        bundled(image(31, 64))


@pytest.mark.parametrize(
    ("which", "trained_blocks"), [("none", ()), ("last", (2, 3)), ("all", (0, 1, 2, 3))]
)
def test_only_what_is_trainable_gets_gradients(which: str, trained_blocks: tuple[int, ...]) -> None:
    backbone = load_backbone(RANDOM)
    backbone.set_trainable(which)
    maps = backbone(image())
    assert [block.requires_grad for block in maps] == [i in trained_blocks for i in range(4)]
    if trained_blocks:
        torch.stack([block.square().mean() for block in maps]).sum().backward()
    wanted = {id(p) for i in trained_blocks for p in backbone.stage_parameters(i)}
    assert {id(p) for p in backbone.parameters() if p.requires_grad} == wanted
    assert {id(p) for p in backbone.parameters() if p.grad is not None} == wanted
    grouped = [id(p) for group in backbone.parameter_groups(1e-3) for p in group["params"]]
    assert sorted(grouped) == sorted(wanted)
    assert backbone.is_trainable is bool(trained_blocks)


def test_frozen_blocks_give_the_same_maps_as_trained_ones() -> None:
    backbone, pixels = load_backbone(RANDOM), image()
    frozen = backbone(pixels)
    backbone.set_trainable("all")
    for one, other in zip(frozen, backbone(pixels), strict=True):
        assert torch.equal(one, other.detach())


def test_every_weight_belongs_to_one_stage(bundled: Backbone) -> None:
    of_stages = [id(p) for i in range(4) for p in bundled.stage_parameters(i)]
    assert len(of_stages) == len(set(of_stages))
    assert set(of_stages) == {id(p) for p in bundled.parameters()}


def test_earlier_stages_learn_slower_and_shifts_do_not_decay() -> None:
    backbone = load_backbone(RANDOM)
    backbone.set_trainable("all")
    groups = backbone.parameter_groups(1e-3, decay=0.5)
    rates = {group["lr"] for group in groups}
    assert rates == {1e-3, 5e-4, 2.5e-4, 1.25e-4}
    for group in groups:
        free = group.get("weight_decay") == 0.0
        assert all((p.ndim == 4 and p.shape[0] < p.numel()) is not free for p in group["params"])


def test_it_stays_in_evaluation_mode_and_names_are_checked(bundled: Backbone) -> None:
    assert not bundled.train().training
    assert not bundled.trunk.training  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="'some' is not one of"):
        bundled.set_trainable("some")


def plain_affine(affine: Affine, x: Tensor) -> Tensor:
    return F.relu(x * affine.scale + affine.shift)


def plain_layer(layer: DenseLayer, x: Tensor) -> Tensor:
    reduced = F.relu(layer.reduce(plain_affine(layer.affine, x)))
    grown: Tensor = layer.grow(reduced)
    return grown


def plain_transition(transition: Transition, x: Tensor) -> Tensor:
    activated = plain_affine(transition.affine, x)
    following: Tensor = transition.conv(F.avg_pool2d(activated, 2))
    return activated.mean() + following.square().mean()


@pytest.mark.parametrize(
    ("module", "reference"),
    [
        (Affine(6), plain_affine),
        (DenseLayer(6, 2), plain_layer),
        (Transition(6, pool=True), plain_transition),
    ],
)
def test_gradients_through_operations_in_place_are_right(
    module: nn.Module, reference: Callable[[Any, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 6, 6, 6, dtype=torch.float64)

    def gradients(forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
        inputs = x.clone().requires_grad_()
        loss = forward(inputs).square().mean()
        return list(torch.autograd.grad(loss, [inputs, *module.parameters()]))

    def own(inputs: Tensor) -> Tensor:
        found = module(inputs)
        if isinstance(found, tuple):
            return found[0].mean() + found[1].square().mean()  # type: ignore[no-any-return]
        return found  # type: ignore[no-any-return]

    found, wanted = gradients(own), gradients(lambda inputs: reference(module, inputs))
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_a_step_along_the_gradient_lowers_the_loss_as_much_as_it_says() -> None:
    backbone = load_backbone(RANDOM).double()
    backbone.set_trainable("all")
    pixels = image(32, 32).double()

    def loss() -> Tensor:
        return torch.stack([m.square().mean() for m in backbone(pixels)]).sum()

    parameters = [p for p in backbone.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss(), parameters)
    before, step = loss().detach(), 1e-7
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= step * gradient
    expected = step * sum(float(g.square().sum()) for g in gradients)
    assert float(before - loss().detach()) == pytest.approx(expected, rel=1e-2)


def test_a_random_backbone_follows_its_seed_and_keeps_its_size() -> None:
    one, same, other = (load_backbone(RANDOM, seed=seed) for seed in (0, 0, 1))
    assert one.identity == same.identity != other.identity
    assert load_backbone("bundled").identity not in {one.identity, other.identity}
    spreads = [float(block.std()) for block in one(image())]
    assert all(0.05 < spread < 5 for spread in spreads)


def test_a_spec_builds_a_backbone_that_takes_the_weights(bundled: Backbone) -> None:
    empty = empty_backbone(bundled.spec)
    assert isinstance(empty, DenseNetBackbone)
    empty.load_state_dict(bundled.state_dict())
    for one, other in zip(empty(image()), bundled(image()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"architecture": "x"},
        {"architecture": "timm", "name": "x"},
        {"architecture": "open_clip"},
        {"architecture": "conch"},
    ],
)
def test_specs_that_mean_nothing_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        empty_backbone(spec)


@pytest.mark.parametrize("name", ["", "densenet121", "random:resnet", "timm:resnet18", "hf-hub:"])
def test_names_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="not the name of a backbone"):
        load_backbone(name)
    with pytest.raises(ModelError):
        load_matcher(name)


def test_the_matcher_agrees_with_the_encoder(matcher: Matcher) -> None:
    encoder = load_encoder("bundled")
    pixels = (image(256, 256) * 255).round()
    own = matcher.dense(pixels / 255)
    assert torch.allclose(own, encoder.dense(pixels.permute(0, 2, 3, 1).byte()), atol=1e-5)
    texts = ["mucus", "fat"]
    assert torch.allclose(matcher.encode_text(texts), encoder.encode_text(texts), atol=1e-6)  # type: ignore[attr-defined]
    assert matcher.embedding_size == matcher.encode_text(texts).shape[1]
    assert matcher.logit_scale == encoder.logit_scale  # type: ignore[attr-defined]


def test_the_vector_of_an_image_is_the_mean_of_its_places(matcher: Matcher) -> None:
    pixels = image(64, 96, 2)
    visual: Any = matcher.network
    before = visual.visual.project(visual.visual.fused(pixels))  # (2, D, 4, 6)
    wanted = F.normalize(before.mean((2, 3)), dim=1)
    assert torch.allclose(matcher.embed(pixels), wanted, atol=1e-5)
    assert torch.allclose(matcher.embed(image(70, 50)).norm(dim=1), torch.ones(1), atol=1e-5)


@pytest.mark.parametrize("what", ["embed", "dense"])
def test_gradients_reach_the_images_but_not_the_matcher(matcher: Matcher, what: str) -> None:
    pixels = image().requires_grad_()
    text = matcher.encode_text(["stroma"])[0]
    vectors = getattr(matcher, what)(pixels)
    torch.tensordot(vectors, text, dims=([1], [0])).mean().backward()
    assert pixels.grad is not None
    assert float(pixels.grad.abs().max()) > 0
    assert all(p.grad is None and not p.requires_grad for p in matcher.parameters())


def test_the_random_matcher_reads_the_true_texts_only(matcher: Matcher) -> None:
    control, again = load_matcher("random", seed=1), load_matcher("random", seed=1)
    assert torch.equal(control.encode_text(["fat"]), matcher.encode_text(["fat"]))
    assert torch.equal(control.embed(image()), again.embed(image()))
    assert float((control.embed(image()) * matcher.embed(image())).sum()) < 0.9


PROTOTYPES = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]])


def test_cams_are_scaled_cosines_with_the_prototypes() -> None:
    torch.manual_seed(0)
    net = CamNet((8, 16), (4, 8), PROTOTYPES, width=16).eval()
    blocks = [torch.randn(2, 8, 10, 7), torch.randn(2, 16, 5, 4)]
    cams = net(blocks)
    assert cams.shape == (2, 2, 10, 7)
    vectors = net.embedded(blocks)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2, 10, 7), atol=1e-5)
    assert torch.allclose(cams[:, 0], vectors[:, 0] * 10, atol=1e-4)
    with torch.no_grad():
        net.bias += 1.5
    assert torch.allclose(net(blocks)[:, 1] - cams[:, 1], torch.tensor(1.5), atol=1e-5)


def test_cams_on_a_coarser_grid() -> None:
    torch.manual_seed(0)
    net = CamNet((8, 16), (4, 8), PROTOTYPES, width=16, stride=8)
    assert net([torch.randn(1, 8, 9, 7), torch.randn(1, 16, 5, 4)]).shape == (1, 2, 5, 4)


def test_the_matcher_can_start_from_the_backbone_s_blocks(
    bundled: Backbone, matcher: Matcher
) -> None:
    assert isinstance(matcher, BundledMatcher)
    pixels = image(64, 96)
    found = matcher.dense_of_blocks(bundled(pixels))
    assert torch.allclose(found, matcher.dense(pixels), atol=1e-5)


def test_prototypes_are_no_weights_but_travel_with_the_network() -> None:
    net = CamNet((8,), (8,), PROTOTYPES, width=16)
    assert torch.allclose(net.prototypes.norm(dim=1), torch.ones(2))
    assert "prototypes" in net.state_dict()
    assert "prototypes" not in dict(net.named_parameters())
    net([torch.randn(1, 8, 4, 4)]).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    ("strides", "stride"),
    [((4, 8, 16, 16), 8), ((4, 8, 16, 32), 8), ((16, 16, 16, 16), 8), ((14, 14), 7), ((4,), 4),
     ((8, 16), 8), ((4, 16), 4), ((2, 4), 2)],
)  # fmt: skip
def test_the_head_works_on_one_grid(strides: tuple[int, ...], stride: int) -> None:
    assert grid_stride(strides) == stride
    channels = [8 * (i + 1) for i in range(len(strides))]
    head = SegNet(channels, strides, 3, width=16).eval()
    side = 16 * 14
    blocks = [
        torch.randn(2, c, side // s, side // s) for c, s in zip(channels, strides, strict=True)
    ]
    assert head.stride == stride
    assert head(blocks).shape == (2, 3, side // stride, side // stride)


def test_the_head_takes_blocks_of_odd_images() -> None:
    head = SegNet((8, 8, 8, 8), (4, 8, 16, 16), 2, width=16)
    blocks = [torch.randn(1, 8, cells(75, s), cells(97, s)) for s in (4, 8, 16, 16)]
    assert head(blocks).shape == (1, 2, 10, 13)


@pytest.mark.parametrize(("stride", "wanted"), [(4, 8), (16, 8), (16, 4), (8, 8), (16, 14)])
def test_resizing_moves_nothing(stride: int, wanted: int) -> None:
    """A ramp over the image stays the same ramp on another grid."""

    def ramp(at: int, pixels: int = 224) -> Tensor:
        centers = (torch.arange(cells(pixels, at)) + 0.5) * at
        return centers.expand(1, 1, len(centers), len(centers)).clone()

    size = (224 // wanted, 224 // wanted)
    found = to_stride(ramp(stride), stride, wanted, size)
    assert found.shape[2:] == size
    inner = slice(stride // wanted + 1, -(stride // wanted) - 1)
    assert torch.allclose(found[0, 0, 0, inner], ramp(wanted)[0, 0, 0, inner], atol=1e-3)


def test_resizing_keeps_the_corner_of_maps_that_cover_more() -> None:
    coarse = torch.arange(9.0).reshape(1, 1, 3, 3)
    cut = to_stride(coarse, 16, 8, (5, 5))
    assert torch.equal(cut, F.interpolate(coarse, scale_factor=2, mode="bilinear")[:, :, :5, :5])
