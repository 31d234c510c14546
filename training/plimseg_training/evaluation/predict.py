"""Predictions of a dense model for an image: class probabilities at the image's resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import ConfigError, PlimsegError, is_out_of_memory
from napari_plimseg.slides import resampling_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel


TILE_SIZE = 1024
_ROWS_AT_ONCE = 512
_SMALLEST_TILE = 128
_REST = 16
"""The halo divided by the pixels at the end of an image that get no windows of their own."""


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Class probabilities of an image on the model's grid, interpolated on demand.

    Parameters
    ----------
    maps : ndarray of float32, shape (C, h, w)
        Map pixel `i` covers image pixels `[i * step, (i + 1) * step)`.
    shape : tuple of int
        Height and width of the image in pixels.
    step : float
        Image pixels per map pixel and side.
    """

    maps: NDArray[np.float32]
    shape: tuple[int, int]
    step: float

    def __post_init__(self) -> None:
        if self.maps.ndim != 3 or self.step <= 0:
            raise ConfigError(f"maps of {self.maps.shape} at a step of {self.step} are impossible")

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the probabilities of image rows `start` to `stop`, (C, stop - start, W)."""
        over_rows = _interpolated(self.maps, self.step, start, stop, axis=1)
        return _interpolated(over_rows, self.step, 0, self.shape[1], axis=2)

    def bands(self, rows: int = _ROWS_AT_ONCE) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield bands of rows with their probabilities, to save memory."""
        for start in range(0, self.shape[0], rows):
            stop = min(start + rows, self.shape[0])
            yield slice(start, stop), self.rows(start, stop)


def predict_image(
    model: DenseModel,
    rgb: NDArray[np.uint8],
    mpp: float | None,
    *,
    tta: bool = False,
    device: torch.device | str = "cpu",
    tile_size: int = TILE_SIZE,
) -> NDArray[np.float32]:
    """Return the class probabilities of an image at its full resolution.

    Parameters
    ----------
    model : DenseModel
    rgb : ndarray of uint8, shape (H, W, 3)
    mpp : float or None
        Pixel size of the image in micrometers; None assumes the model's.
    tta : bool
        Average over the eight flips and quarter turns.
    device : torch.device or str
        Device of the model.
    tile_size : int
        Side of a tile in the model's pixels; affects memory, not the result.

    Returns
    -------
    ndarray of float32, shape (C, H, W)
        Output channel `i` is the model's class `i`.
    """
    plain, averaged = predict_maps(model, rgb, mpp, tta=tta, device=device, tile_size=tile_size)
    return (averaged or plain).rows(0, rgb.shape[0])


def predict_maps(
    model: DenseModel,
    rgb: NDArray[np.uint8],
    mpp: float | None,
    *,
    tta: bool = False,
    device: torch.device | str = "cpu",
    tile_size: int = TILE_SIZE,
) -> tuple[ImageMaps, ImageMaps | None]:
    """Return the maps of an image, and with `tta` their mean over flips and quarter turns too.

    Parameters
    ----------
    model, rgb, mpp, tta, device, tile_size
        As in `predict_image`.

    Returns
    -------
    plain : ImageMaps
    averaged : ImageMaps or None
        None without `tta`.

    Raises
    ------
    ConfigError
        When the image is not RGB of uint8, or the pixel size is out of range.
    PlimsegError
        When not even a small tile fits into memory.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ConfigError(f"an image of {rgb.shape} {rgb.dtype} is not RGB of 8 bits")
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise ConfigError(f"a pixel size of {mpp} um is impossible")
    ratio = 1.0 if mpp is None else model.mpp / mpp
    working = resampled(rgb, ratio)
    height, width = working.shape[:2]
    maps = ImageMaps(np.zeros((1, 1, 1), np.float32), rgb.shape[:2], ratio * model.mask_stride)
    plain = replace(maps, maps=_tiled(model, working[None], device, tile_size)[0])
    if not tta:
        return plain, None
    step = model.alignment
    # padded to a multiple of the alignment before turning, so that all turns share one grid
    framed = np.pad(working, ((0, -height % step), (0, -width % step), (0, 0)), mode="reflect")
    total = np.zeros((), np.float32)
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(framed[:, ::-1] if flip else framed, turns)
            found_there = _tiled(model, turned[None], device, tile_size)[0]
            back = np.rot90(found_there, -turns, axes=(1, 2))
            total = total + (back[:, :, ::-1] if flip else back)
    rows, columns = plain.maps.shape[1:]
    return plain, replace(maps, maps=np.ascontiguousarray(total[:, :rows, :columns] / 8))


def resampled(rgb: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    """Resample an image as slides are read: by area when shrinking, linearly otherwise.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    ratio : float
        Image pixels per pixel of the result.

    Returns
    -------
    ndarray of uint8, shape (ceil(H / ratio), ceil(W / ratio), 3)
        Pixels beyond the image repeat its border.
    """
    if abs(ratio - 1) < 1e-6:
        return rgb
    result = rgb.astype(np.float32)
    for axis in (0, 1):
        source = np.moveaxis(result, axis, 0)
        count = max(1, int(np.ceil(source.shape[0] / ratio - 1e-6)))
        weights, first, reach = resampling_weights(ratio, 0, count)
        inside = np.clip(np.arange(first, first + reach), 0, source.shape[0] - 1)
        flat = source[inside].reshape(reach, -1)
        result = np.moveaxis((weights @ flat).reshape(count, *source.shape[1:]), 0, axis)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _tiled(
    model: DenseModel, images: NDArray[np.uint8], device: torch.device | str, tile_size: int
) -> NDArray[np.float32]:
    """Return the maps (B, C, ceil(H / s), ceil(W / s)) of images.

    Each tile includes the model's halo, which mirrors the images beyond their borders.
    """
    import torch

    size = max(model.alignment, tile_size // model.alignment * model.alignment)
    halo, stride = model.halo, model.mask_stride
    step, (height, width) = model.alignment, images.shape[1:3]
    ends = (-(-height // stride), -(-width // stride))
    framed = np.pad(images, ((0, 0), (0, -height % step), (0, -width % step), (0, 0)), "reflect")
    framed = np.pad(framed, ((0, 0), (halo, halo), (halo, halo), (0, 0)), mode="reflect")
    height, width = (_covered(side, step, halo) for side in (height, width))
    result: NDArray[np.float32] | None = None
    for y in range(0, height, size):
        for x in range(0, width, size):
            bottom, right = min(y + size, height), min(x + size, width)
            tile = framed[:, y : bottom + 2 * halo, x : right + 2 * halo]
            try:
                with torch.inference_mode():
                    pixels = torch.from_numpy(np.ascontiguousarray(tile)).to(device)
                    maps = model.probabilities(pixels).float().cpu().numpy()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                maps = None
            if maps is None:  # outside the except block, where the failed tensors are freed
                smaller = size // 2 // model.alignment * model.alignment
                if smaller < max(model.alignment, _SMALLEST_TILE):
                    raise PlimsegError(
                        "one tile of the image does not fit into memory",
                        remedy="Close other programs, or run on the CPU.",
                    )
                return _tiled(model, images, device, smaller)
            top, left, trim = y // stride, x // stride, halo // stride
            lower = ends[0] if bottom == height else bottom // stride
            outer = ends[1] if right == width else right // stride
            if result is None:
                result = np.empty((*maps.shape[:2], *ends), np.float32)
            result[:, :, top:lower, left:outer] = maps[
                :, :, trim : trim + lower - top, trim : trim + outer - left
            ]
    if result is None:
        raise ConfigError("the image has no pixels")
    return result


def _covered(side: int, step: int, halo: int) -> int:
    """Return the side of the tiles of an image: a multiple of the step.

    It is rounded up, but a rest of a few pixels needs no windows of its own: the windows before
    them reach across, and blending gives a window little weight at its border.
    """
    rest = side % step
    return side - rest if side > step and rest <= halo // _REST else side + -side % step


def _interpolated(
    maps: NDArray[np.float32], step: float, start: int, stop: int, axis: int
) -> NDArray[np.float32]:
    """Return maps linearly interpolated at image pixels `start` to `stop` of an axis."""
    if step == 1 and stop <= maps.shape[axis]:
        return maps.take(np.arange(start, stop), axis)
    place = np.clip((np.arange(start, stop) + 0.5) / step - 0.5, 0, maps.shape[axis] - 1)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, maps.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = len(place)
    share = (place - lower).astype(np.float32).reshape(shape)
    below: NDArray[np.float32] = maps.take(lower, axis)
    below += (maps.take(upper, axis) - below) * share
    return below
