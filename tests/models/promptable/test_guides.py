"""Guides say where a patch looks like the places that hints point at."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from napari_plimseg.errors import ModelError
from napari_plimseg.models.promptable.dual_decoder import DualDecoder, Encoded
from napari_plimseg.models.promptable.prompt_tensors import (
    GUIDES,
    SURE,
    HintTensors,
    PatchHints,
    guided,
    likeness,
)
from napari_plimseg.models.promptable.sam_decoder import DecoderShape

SIDE = 64
SHAPE = DecoderShape(early_channels=8, embed_dim=32, heads=4, mlp_dim=16, guides=GUIDES)


def two_tissues(side: int, channels: int = 6) -> torch.Tensor:
    """Return maps (1, C, side, side): one tissue above, another below."""
    torch.manual_seed(0)
    tissues = torch.randn(2, channels)
    maps = tissues[:, :, None, None].expand(-1, -1, side // 2, side)
    return torch.cat(tuple(maps), 1)[None] + 0.05 * torch.randn(1, channels, side, side)


def drawing(hints: PatchHints, side: int = SIDE) -> torch.Tensor:
    drawn = hints.drawn(side, 8).mask
    assert drawn is not None
    return torch.from_numpy(drawn)[None, None]


def test_the_tissue_of_a_click_is_alike_and_the_other_is_not() -> None:
    maps = two_tissues(16)
    alike = likeness(maps, drawing(PatchHints(points=((10, 10, True),))))
    assert alike[0, 0, :8].min() > 0.5
    assert alike[0, 0, 8:].max() < -0.5
    turned = likeness(maps, drawing(PatchHints(points=((10, 10, False),))))
    torch.testing.assert_close(turned, -alike)


def test_clicks_of_both_signs_are_surer_than_one() -> None:
    maps = two_tissues(16)
    one = likeness(maps, drawing(PatchHints(points=((10, 10, True),))))
    both = likeness(maps, drawing(PatchHints(points=((10, 10, True), (50, 50, False)))))
    assert both[0, 0, :8].mean() > one[0, 0, :8].mean() + 0.5


def test_nothing_drawn_is_like_nothing() -> None:
    assert likeness(two_tissues(8), torch.zeros(1, 1, 16, 16)).abs().max() == 0


def test_likeness_knows_no_scale_of_the_maps() -> None:
    maps, drawn = two_tissues(16), drawing(PatchHints(boxes=((4, 4, 20, 40),)))
    torch.testing.assert_close(likeness(maps, drawn), likeness(7 * maps + 3, drawn))


def test_each_patch_of_a_batch_has_its_own_prototype() -> None:
    maps = torch.cat((two_tissues(16), two_tissues(16).flip(2)))
    drawn = drawing(PatchHints(points=((10, 10, True),))).expand(2, -1, -1, -1)
    for index in range(2):
        own = likeness(maps[index : index + 1], drawn[:1])
        torch.testing.assert_close(likeness(maps, drawn)[index : index + 1], own)


def test_the_drawing_comes_first_and_all_are_as_fine_as_it() -> None:
    drawn = drawing(PatchHints(boxes=((8, 8, 40, 40),)))
    channels = guided(two_tissues(4), two_tissues(16, 8), drawn)
    assert channels.shape == (1, 1 + GUIDES, SIDE // 4, SIDE // 4)
    torch.testing.assert_close(channels[:, :1] * SURE, drawn)


def test_a_box_is_surest_in_its_middle_and_undecided_on_its_ellipse() -> None:
    drawn = drawing(PatchHints(boxes=((0, 0, 64, 64),)))[0, 0]
    assert int(drawn.argmax()) in {7 * 16 + 7, 7 * 16 + 8, 8 * 16 + 7, 8 * 16 + 8}
    y, x = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(16) - 7.5, indexing="ij")
    assert torch.equal(drawn > 0, torch.hypot(y, x) < 8)
    beside = drawing(PatchHints(boxes=((0, 0, 32, 32),)))[0, 0]
    assert (beside[8:] == -SURE).all()


def encoded(side: int = SIDE) -> Encoded:
    return Encoded(F.interpolate(two_tissues(8, 32), side // 16), two_tissues(side // 16, 8))


def test_a_decoder_with_guides_decodes_drawn_hints_only() -> None:
    decoder, hints = DualDecoder(SHAPE).eval(), PatchHints(points=((10, 10, True),))
    grid = encoded().grid
    drawn = HintTensors.of([hints.drawn(SIDE, 8)], grid)
    masks = decoder(encoded(), encoded(), drawn, drawn, SIDE)
    assert masks.hr is not None
    assert masks.hr.shape == (1, 1, 4 * grid[0], 4 * grid[1])
    bare = HintTensors.of([hints], grid)
    with pytest.raises(ValueError, match="drawn"):
        decoder(encoded(), encoded(), bare, bare, SIDE)


def test_guides_change_the_mask() -> None:
    decoder, hints = DualDecoder(SHAPE).eval(), PatchHints(points=((10, 10, True),))
    drawn = HintTensors.of([hints.drawn(SIDE, 8)], encoded().grid)
    plain = encoded()
    other = Encoded(plain.final, plain.early.flip(2))
    with torch.no_grad():
        first, second = (decoder(e, e, drawn, drawn, SIDE).hr for e in (plain, other))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("count", [-1, 1, 3, True])
def test_another_number_of_guides_is_impossible(count: int) -> None:
    with pytest.raises(ModelError, match="guides"):
        DecoderShape(early_channels=8, guides=count)
