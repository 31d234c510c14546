"""Which of a file's images are levels of one pyramid, and their downsamples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plimseg.slides.slide import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASPECT_TOLERANCE = 0.02


def downsample_of(finest: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return level-0 pixels a pixel, a whole number where rounding explains the difference.

    A level of half of 4443 x 3567 has 2221 x 1783 pixels: their size is 2, not 2.0005, and the
    file only dropped the last half pixel.

    Parameters
    ----------
    finest, shape : tuple of int
        Pixels (y, x) of level 0 and of the level.
    """
    ratio = (finest[0] / shape[0] + finest[1] / shape[1]) / 2
    power = 1
    while power * 1.5 < ratio:
        power *= 2
    for whole in (power, round(ratio)):
        if all(abs(f / whole - s) < 1 for f, s in zip(finest, shape, strict=True)):
            return float(whole)
    return max(1.0, ratio)


def pyramid_of(
    shapes: Sequence[tuple[int, int]], tile_shapes: Sequence[tuple[int, int]]
) -> tuple[list[int], tuple[Level, ...]]:
    """Return the images that form a pyramid under the first, and their levels.

    An image that does not shrink, or whose aspect differs from the first by more than 2 % and
    two pixels, is something else (a label, a macro picture, a thumbnail) and left out.

    Parameters
    ----------
    shapes, tile_shapes : sequence of tuple of int
        Pixels (y, x) of images and of their tiles, the finest image first.

    Returns
    -------
    indices : list of int
    levels : tuple of Level
    """
    finest = shapes[0]
    indices, levels = [0], [Level(finest, 1.0, tile_shapes[0])]
    for index in range(1, len(shapes)):
        shape = shapes[index]
        before = levels[-1].shape
        if min(shape) < 1 or shape[0] >= before[0] or shape[1] >= before[1]:
            continue
        proportional = finest[0] * shape[1] / finest[1]
        if abs(shape[0] - proportional) > max(2.0, _ASPECT_TOLERANCE * shape[0]):
            continue
        downsample = downsample_of(finest, shape)
        if downsample <= levels[-1].downsample:
            continue
        indices.append(index)
        levels.append(Level(shape, downsample, tile_shapes[index]))
    return indices, tuple(levels)
