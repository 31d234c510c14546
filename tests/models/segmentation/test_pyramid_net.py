"""The pyramid: its grid, its alignment with the image, and that it uses every block."""

from __future__ import annotations

import pytest
import torch

from napari_plimseg.models.encoders.loading import load_backbone
from napari_plimseg.models.segmentation.pyramid_net import PyramidNet, pyramid_stride


@pytest.mark.parametrize(
    ("strides", "stride"),
    [((4, 8, 16, 32), 4), ((4, 8, 16, 16), 4), ((8, 16), 8), ((16, 16), 8), ((14, 14), 8)],
)
def test_logits_are_on_the_finest_grid_that_is_not_too_coarse(strides, stride):
    assert pyramid_stride(strides) == stride


@pytest.mark.parametrize("size", [(64, 96), (70, 101)])
def test_logits_cover_the_finest_block(size):
    strides, channels = (4, 8, 16, 32), (3, 5, 7, 9)
    blocks = [
        torch.rand(2, c, -(-size[0] // s), -(-size[1] // s))
        for c, s in zip(channels, strides, strict=True)
    ]
    logits = PyramidNet(channels, strides, 3, 16)(blocks)
    assert logits.shape == (2, 3, -(-size[0] // 4), -(-size[1] // 4))


def test_every_block_has_a_say():
    strides, channels = (4, 8, 16, 16), (3, 5, 7, 9)
    blocks = [
        torch.rand(1, c, 64 // s, 64 // s, requires_grad=True)
        for c, s in zip(channels, strides, strict=True)
    ]
    PyramidNet(channels, strides, 2, 16)(blocks).square().sum().backward()
    assert all(float(block.grad.abs().sum()) > 0 for block in blocks)


def test_coarse_cells_stay_on_their_pixels():
    """A cell of the coarsest block changes only logits over its own pixels and their rim."""
    torch.manual_seed(0)
    net = PyramidNet((4, 4), (4, 16), 1, 16).eval()
    net.smooth[1] = torch.nn.Identity()  # its statistics are of the whole image
    blocks = [torch.zeros(1, 4, 24, 24), torch.zeros(1, 4, 6, 6)]
    with torch.no_grad():
        before = net(blocks)
        blocks[1][:, :, 3, 2] = 5.0
        changed = (net(blocks) - before).abs()[0, 0] > 1e-5
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    assert float(rows.float().mean()) == pytest.approx(13.5)
    assert float(columns.float().mean()) == pytest.approx(9.5)


def test_the_small_encoder_is_trained_end_to_end():
    backbone = load_backbone("small")
    assert backbone.strides == (4, 8, 16, 32)
    assert backbone.name == "small"
    backbone.set_trainable("all")
    head = PyramidNet(backbone.block_channels, backbone.strides, 2)
    head(backbone(torch.rand(1, 3, 64, 64))).square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    # few weights, so that a model file with all of them stays small
    assert sum(p.numel() for p in [*backbone.parameters(), *head.parameters()]) < 3.5e6
