"""WSI-SAM: sizes of the published model, what is trained, what is refused, hints, model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.files import sha256
from napari_plimseg.models.encoders.loading import load_backbone
from napari_plimseg.models.model_file import read_header
from napari_plimseg.models.promptable.dual_decoder import DualDecoder, DualMasks, Encoded
from napari_plimseg.models.promptable.model_file import load_hint_model, save_hint_model
from napari_plimseg.models.promptable.prompt_tensors import (
    ABSENT,
    BOX_END,
    BOX_START,
    NEGATIVE,
    NO_POINT,
    POSITIVE,
    HintTensors,
    PatchHints,
    half_scaled,
    logits_of,
)
from napari_plimseg.models.promptable.sam_decoder import DecoderShape
from napari_plimseg.models.promptable.sam_encoders import BackboneEncoder
from napari_plimseg.models.promptable.sam_weights import load_sam
from napari_plimseg.models.promptable.wsi_sam import WsiSam, on_backbone
from tests.support.sam import SIDE, mobile_sam, transformers_sam

if TYPE_CHECKING:
    from pathlib import Path

POINT = PatchHints(points=((20.0, 30.0, True),))
BOX = PatchHints(boxes=((8.0, 8.0, 40.0, 50.0),))


def small(resolutions: tuple[str, ...] = ("hr", "lr"), **sizes: int) -> DualDecoder:
    torch.manual_seed(0)
    shape = DecoderShape(**{"early_channels": 6, "embed_dim": 32, "heads": 2, "mlp_dim": 16,
                            "more_masks": 0, **sizes})  # fmt: skip
    return DualDecoder(shape, resolutions)


def maps(batch: int, channels: int = 6, scale: int = 1) -> Encoded:
    return Encoded(torch.randn(batch, 32, 4, 4), torch.randn(batch, channels, 4 * scale, 4 * scale))


def decoded(decoder: DualDecoder, hr: Encoded, lr: Encoded, hints: list[PatchHints]) -> DualMasks:
    coarse = [h.at_half_scale(SIDE) for h in hints]
    return decoder(hr, lr, HintTensors.of(hints, hr.grid), HintTensors.of(coarse, lr.grid), SIDE)


@pytest.mark.parametrize(("channels", "new"), [(160, 897_024), (768, 2 * 1_071_104)])
def test_sizes_of_the_published_model(channels: int, new: int) -> None:
    decoder = DualDecoder(DecoderShape(channels)).frozen_but_new()
    assert sum(p.numel() for p in decoder.new_parameters()) == new
    assert sum(p.numel() for p in decoder.parameters() if p.requires_grad) == new
    assert sum(p.numel() for p in decoder.by_resolution["lr"].sam.parameters()) == 4_058_340
    assert sum(p.numel() for p in decoder.hint_encoder.parameters()) == 6_476


@torch.no_grad()
def test_masks_have_256_pixels_and_are_brought_to_the_patch() -> None:
    decoder = DualDecoder(DecoderShape(160, depth=1, mlp_dim=16))
    patch = Encoded(torch.randn(1, 256, 64, 64), torch.randn(1, 160, 64, 64))
    hints = HintTensors.of([BOX], patch.grid)
    masks = decoder(patch, patch, hints, hints, 1024)
    assert masks.hr.shape == masks.lr.shape == (1, 1, 256, 256)
    assert masks.of_patch(1024).shape == (1, 1, 1024, 1024)


@torch.no_grad()
@pytest.mark.parametrize("draws_hints", [False, True])
def test_a_decoder_alone_takes_hints_as_the_model_does(draws_hints: bool) -> None:
    decoder, hr, lr = small(), maps(2), maps(2)
    found = decoder.masks_of(hr, lr, [POINT, BOX], side=SIDE, draws_hints=draws_hints)
    fine, half = [POINT, BOX], [h.at_half_scale(SIDE) for h in (POINT, BOX)]
    if draws_hints:
        fine, half = [h.drawn(SIDE, 10) for h in fine], [h.drawn(SIDE, 5) for h in half]
    hints = HintTensors.of(fine, hr.grid), HintTensors.of(half, lr.grid)
    expected = decoder(hr, lr, *hints, SIDE)
    expected = expected.upon(*hints) if draws_hints else expected
    torch.testing.assert_close(found.hr, expected.hr)
    torch.testing.assert_close(found.lr, expected.lr)
    with pytest.raises(ValueError, match="no maps"):
        decoder.masks_of(None, None, [POINT], side=SIDE, draws_hints=draws_hints)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_finer_early_maps_fit(scale: int) -> None:
    decoder = small(early_scale=scale)
    masks = decoded(decoder, maps(2, scale=scale), maps(2, scale=scale), [POINT, BOX])
    assert masks.hr is not None
    assert masks.hr.shape == (2, 1, 16, 16)


def test_only_the_new_parts_get_gradients() -> None:
    decoder = small().frozen_but_new()
    masks = decoded(decoder, maps(1), maps(1), [POINT])
    (masks.hr.square().mean() + masks.lr.square().mean()).backward()
    new = {id(p) for p in decoder.new_parameters()}
    for name, parameter in decoder.named_parameters():
        has = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert has == (id(parameter) in new), name


def test_the_new_token_stands_after_the_mask_tokens_and_before_the_hints() -> None:
    decoder = small(more_masks=3)
    branch = decoder.by_resolution["hr"]
    seen: list[torch.Tensor] = []
    branch.sam.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoded(decoder, maps(1), maps(1), [BOX])
    tokens = seen[0][0]
    torch.testing.assert_close(tokens[0], branch.sam.iou_token.weight[0])
    torch.testing.assert_close(tokens[1:5], branch.sam.mask_tokens.weight)
    torch.testing.assert_close(tokens[5], branch.token.weight[0])
    assert len(tokens) == 6 + 2, "two corners of the box"


@torch.no_grad()
def test_masks_are_the_sum_of_tokens_on_fused_features_and_sams_own() -> None:
    decoder = small()
    hr, lr = maps(1), maps(1)
    masks = decoded(decoder, hr, lr, [POINT])
    parts = {}
    for name, patch, hints in (("hr", hr, POINT), ("lr", lr, POINT.at_half_scale(SIDE))):
        embedded = decoder.hint_encoder(HintTensors.of([hints], patch.grid), SIDE, patch.grid)
        places = decoder.hint_encoder.positions(patch.grid)
        parts[name] = decoder.by_resolution[name].decode(patch, places, embedded)
    t = sum(decoder.by_resolution[n].token_mlp(parts[n].token) for n in parts)
    for name, patch, found in (("hr", hr, masks.hr), ("lr", lr, masks.lr)):
        fusion = decoder.by_resolution[name].fusion
        features = fusion.final(patch.final) + fusion.early(patch.early)
        features = features + fusion.upscaled(parts[name].upscaled)
        wanted = (t[0, :, None, None] * features[0]).sum(0) + parts[name].mask[0, 0]
        torch.testing.assert_close(found[0, 0], wanted)


@torch.no_grad()
def test_each_resolution_tells_the_other() -> None:
    decoder = small()
    hr, lr = maps(1), maps(1)
    one, other = (decoded(decoder, hr, patch, [POINT]) for patch in (lr, maps(1)))
    assert not torch.allclose(one.hr, other.hr)
    alone = small(("hr",))
    assert decoded(alone, hr, lr, [POINT]).lr is None
    assert torch.equal(decoded(alone, hr, lr, [POINT]).hr, decoded(alone, hr, maps(1), [POINT]).hr)
    coarse = decoded(small(("lr",)), hr, lr, [POINT])
    assert coarse.hr is None
    upscaled = torch.nn.functional.interpolate(
        coarse.lr[:, :, 4:12, 4:12], (SIDE, SIDE), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(coarse.of_patch(SIDE), upscaled)


@torch.no_grad()
def test_a_batch_gives_what_each_alone_gives() -> None:
    decoder = small()
    hr, lr = maps(3), maps(3)
    hints = [POINT, BOX, PatchHints(((1, 2, True), (3, 4, False)), mask=logits_of(np.eye(16) > 0))]
    together = decoded(decoder, hr, lr, hints)
    for i, one in enumerate(hints):
        part = slice(i, i + 1)
        alone = decoded(
            decoder, Encoded(hr.final[part], hr.early[part]),
            Encoded(lr.final[part], lr.early[part]), [one],
        )  # fmt: skip
        torch.testing.assert_close(together.hr[part], alone.hr)
        torch.testing.assert_close(together.quality[part], alone.quality)


def test_hints_become_points_in_sams_order() -> None:
    hints = HintTensors.of(
        [PatchHints(((1, 2, False),), ((3, 4, 5, 6), (7, 8, 9, 10))), POINT], (4, 4)
    )
    assert hints.kinds.tolist() == [
        [NEGATIVE, BOX_START, BOX_END, BOX_START, BOX_END],
        [POSITIVE, NO_POINT, ABSENT, ABSENT, ABSENT],
    ]
    assert hints.points[0].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


def test_half_scale_keeps_the_center_and_halves_distances() -> None:
    hints = PatchHints(((512, 512, True), (0, 1024, False)), ((256, 512, 768, 1024),))
    coarse = hints.at_half_scale(1024)
    assert coarse.points == ((512, 512, True), (256, 768, False))
    assert coarse.boxes == ((384, 512, 640, 768),)  # box // 2 + 256, as published
    mask = np.zeros((8, 8), np.float32)
    mask[:, :4] = 6
    assert half_scaled(mask)[2:6, 2:6].mean() == pytest.approx(3)
    assert not half_scaled(mask)[:2].any(), "nothing is known outside"


@pytest.mark.parametrize(
    "wrong",
    [{}, {"boxes": ((5, 5, 5, 9),)}, {"points": ((np.nan, 1, True),)},
     {"mask": np.zeros(4, np.float32)}],
)  # fmt: skip
def test_impossible_hints_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PatchHints(**wrong)


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    mobile_sam(folder / "mobile_sam.pt", transformers_sam(folder))
    return folder


def trained(model: WsiSam, seed: int = 5) -> WsiSam:
    """As after a training: its own parts hold other numbers, exact in sixteen bits."""
    generator = torch.Generator().manual_seed(seed)
    state, own = model.state_dict(), model.own_names()
    for name in own:
        state[name].copy_(torch.randn(state[name].shape, generator=generator).mul(0.1).half())
    model.weights_name = "trained"
    return model


def masks_of(model: WsiSam) -> torch.Tensor:
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        masks = model(images[:1], images[1:], [BOX])
    return masks.hr


def test_random_weights_are_refused() -> None:
    model = on_backbone(
        BackboneEncoder(load_backbone("random:densenet121"), SIDE, embed_dim=32),
        source="random:densenet121", heads=2, mlp_dim=16, more_masks=0,
    )  # fmt: skip
    with pytest.raises(ModelError, match="untrained"):
        masks_of(model)
    assert model.decoder.shape.early_scale == 4
    assert not any(p.requires_grad for p in model.encoder.backbone.parameters())


@pytest.mark.parametrize("inside", [False, True])
def test_a_model_on_sam_comes_back_from_its_file(
    sam_folder: Path, tmp_path: Path, inside: bool
) -> None:
    source = f"sam:{sam_folder}"
    model = trained(WsiSam.on_sam(load_sam(source), source=source))
    path = tmp_path / "hints.safetensors"
    save_hint_model(path, model, title="mine", frozen_inside=inside, scores={"dice": 90.0})
    found = load_hint_model(path)
    assert found.weights_name == "mine"
    assert not any(p.requires_grad for p in found.parameters())
    tolerance = 1e-1 if inside else 1e-4  # sixteen bits for the encoder too
    torch.testing.assert_close(masks_of(found), masks_of(model), atol=tolerance, rtol=tolerance)
    header = read_header(path)
    assert header.kind == "hints"
    assert header.encoder == "sam", "no folder's name in a file for others"
    assert header.encoder_sha256 == ("" if inside else sha256(sam_folder / "model.safetensors"))
    if not inside:
        assert path.stat().st_size < 0.5 * (sam_folder / "model.safetensors").stat().st_size


def test_other_pretrained_weights_are_refused(sam_folder: Path, tmp_path: Path) -> None:
    source = f"sam:{sam_folder}"
    path = tmp_path / "hints.safetensors"
    save_hint_model(path, WsiSam.on_sam(load_sam(source), source=source), title="mine")
    with pytest.raises(ModelError, match="other weights of its encoder 'sam'"):
        load_hint_model(path, source=f"sam:{sam_folder / 'mobile_sam.pt'}")
    with pytest.raises(ModelError, match="does not exist"):
        load_hint_model(path, source=f"sam:{tmp_path / 'gone.pt'}")


def test_a_model_on_a_backbone_comes_back_without_the_backbone(tmp_path: Path) -> None:
    name = "random:densenet121"
    encoder = BackboneEncoder(load_backbone(name), SIDE, embed_dim=32)
    model = trained(on_backbone(encoder, source=name, heads=8, mlp_dim=16, more_masks=0))
    path = tmp_path / "hints.safetensors"
    save_hint_model(path, model, title="small")
    torch.testing.assert_close(masks_of(load_hint_model(path)), masks_of(model))
    assert path.stat().st_size < 1_000_000


def test_identity_follows_the_weights(sam_folder: Path) -> None:
    source = f"sam:{sam_folder}"
    one = WsiSam.on_sam(load_sam(source))
    other = trained(WsiSam.on_sam(load_sam(source)))
    assert one.identity != other.identity
    assert one.encoder_identity == other.encoder_identity
