"""Small network parts: resampling of feature maps to one grid, and a channel norm."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def to_stride(maps: Tensor, stride: int, wanted: int, size: tuple[int, int]) -> Tensor:
    """Resample maps to the grid of another stride, aligned at the upper left corner.

    A cell at stride s covers s pixels whatever the size of the image. Maps are therefore resized
    by the ratio of the strides and then cropped; resizing them to `size` would shift the cells of
    images that are not a multiple of the stride.

    Parameters
    ----------
    maps : Tensor of float, shape (B, C, h, w)
    stride, wanted : int
        Image pixels per cell, before and after.
    size : tuple of int
        Height and width of the result, at most what the maps cover.

    Returns
    -------
    Tensor of float, shape (B, C, *size)
    """
    if stride < wanted and wanted % stride == 0:
        maps = F.avg_pool2d(maps, wanted // stride, ceil_mode=True)
    elif stride != wanted:
        maps = F.interpolate(
            maps, scale_factor=stride / wanted, mode="bilinear", align_corners=False
        )
    return maps[:, :, : size[0], : size[1]]


def cells(pixels: int, stride: int) -> int:
    """Return how many cells of `stride` pixels cover `pixels`."""
    return -(-pixels // stride)


class ChannelNorm(nn.LayerNorm):
    """Normalize over the channels of each position, independently of the others.

    Norms over positions make the output of a pixel depend on the size of the input: with group
    norms, a network trained on whole GlaS images lost 3.5 points of mIoU in windows.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return normalized maps (B, C, h, w)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
