"""Pseudo masks from CAMs and tags: the labels of stage 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from napari_plimseg.errors import StoreError
from napari_plimseg.files import atomic_write
from napari_plimseg.reading import open_picture
from plimseg_training.stages.window_pooling import allowed_classes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from plimseg_training.config import PseudoMaskConfig
    from plimseg_training.data import TaggedImage


DILATIONS = (1, 2, 4, 8)
_SHARPNESS = 0.1
_FLOOR = 1e-8


@torch.inference_mode()
def refined(scores: Tensor, pixels: Tensor, iterations: int = 10) -> Tensor:
    """Return class scores spread over pixels of similar color, up to edges.

    Each pixel gets the mean of its neighbors' scores at several distances, weighted by the
    similarity of their colors relative to the local contrast (PAMR; Araslanov and Roth, CVPR
    2020).

    Parameters
    ----------
    scores : Tensor, shape (C, H, W)
        In [0, 1].
    pixels : Tensor, shape (3, H, W)
        RGB in [0, 1].
    iterations : int

    Returns
    -------
    Tensor, shape (C, H, W)
    """
    colors = _neighbors(pixels[:, None])  # (3, K, H, W)
    spread = torch.cat([colors, pixels[:, None]], 1).std(1, keepdim=True)  # (3, 1, H, W)
    distance = (colors - pixels[:, None]).abs() / (_FLOOR + _SHARPNESS * spread)
    weights = (-distance.mean(0)).softmax(0)  # (K, H, W)
    for _ in range(iterations):
        scores = (_neighbors(scores[:, None]) * weights).sum(1)
    return scores


def _neighbors(maps: Tensor) -> Tensor:
    """Return the eight neighbors at each distance: (C, 1, H, W) becomes (C, K, H, W)."""
    kernel = torch.zeros(8, 1, 3, 3, dtype=maps.dtype, device=maps.device)
    for i, place in enumerate(place for place in range(9) if place != 4):
        kernel[i, 0, place // 3, place % 3] = 1
    found = []
    for dilation in DILATIONS:
        if min(maps.shape[2:]) > dilation:
            padded = F.pad(maps, (dilation,) * 4, mode="replicate")
            found.append(F.conv2d(padded, kernel, dilation=dilation))
    return torch.cat(found, 1)


IGNORED = -1
"""Target of a pixel that stage 2 ignores."""
_LIGHT, _COLORFUL = 200, 0.25
_SMALLEST_WHITE = 50.0
"""White: lightness above, saturation below, and the smallest piece in square micrometers."""
_STORED_IGNORED = 255


def probabilities_of(cams: Tensor, *, exclusive: bool) -> Tensor:
    """Return class scores in [0, 1] of CAM logits (C, H, W).

    Softmax where the classes cover the whole image; otherwise the positive part of each CAM
    divided by its maximum, as CLIMS does at inference.
    """
    if exclusive:
        return cams.softmax(0)
    positive = cams.clamp_min(0)
    return positive / positive.amax((1, 2), keepdim=True).clamp_min(1e-6)


def pseudo_mask(
    scores: Tensor,
    image: TaggedImage,
    rgb: NDArray[np.uint8],
    config: PseudoMaskConfig,
    *,
    white_background: bool = False,
    mpp: float = 1.0,
) -> NDArray[np.int16]:
    """Return the labels of an image, made from its scores and tags.

    Parameters
    ----------
    scores : Tensor, shape (C, H, W)
        In [0, 1].
    image : TaggedImage
        Its windows and tags say which classes are allowed where.
    rgb : ndarray of uint8, shape (H, W, 3)
    config : PseudoMaskConfig
    white_background : bool
        Whether white pixels become background, class index C.
    mpp : float
        Micrometers per pixel, for the smallest piece of white.

    Returns
    -------
    ndarray of int16, shape (H, W)
        Class indices; -1 where uncertain.
    """
    if config.refine == "pamr":
        pixels = torch.tensor(rgb).to(scores.device).permute(2, 0, 1).float() / 255
        scores = refined(scores, pixels, config.refine_iterations)
    found = scores.cpu().numpy().copy()
    if config.gate_by_tags or config.fill_single_tag:
        allowed = allowed_classes(image.windows, image.tags, image.size)
        if not config.gate_by_tags:
            allowed |= allowed.sum(0) > 1
        elif not config.fill_single_tag:
            allowed |= allowed.sum(0) == 1
        found[~allowed] = -np.inf
    ordered = np.sort(found, axis=0)
    mask: NDArray[np.int16] = found.argmax(0).astype(np.int16)
    if len(found) > 1:
        lead = ordered[-1] - ordered[-2]  # (H, W), infinite where one class is allowed
        unsure = least_sure(mask, lead, config.ignore_share) if config.ignore_share else False
        mask[(lead < config.ignore_margin) | unsure] = IGNORED
    if white_background:
        mask[white_pixels(rgb, mpp)] = len(found)
    return mask


def least_sure(
    mask: NDArray[np.int16], lead: NDArray[np.floating], share: float
) -> NDArray[np.bool_]:
    """Return a share of each class's pixels (H, W), those with the smallest lead.

    Pixels with an infinite lead are sure, and don't count.
    """
    found = np.zeros(mask.shape, bool)
    for index in np.unique(mask):
        own = (mask == index) & np.isfinite(lead)
        if own.any():
            found |= own & (lead < np.quantile(lead[own], share))
    return found


def white_pixels(rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Return where an image shows empty glass or air, without a trained network.

    Its pixels are light (luma above 200) and hardly colored (saturation below 0.25, which leaves
    pale eosin to the tissue), in pieces of 50 square micrometers or more.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    mpp : float
        Micrometers per pixel.

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    strongest = rgb.max(2).astype(np.float32)
    saturation = (strongest - rgb.min(2)) / np.maximum(strongest, 1)
    pieces, count = ndimage.label((luma > _LIGHT) & (saturation < _COLORFUL))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    large = sizes * mpp**2 >= _SMALLEST_WHITE
    large[0] = False
    return np.asarray(large[pieces])


def write_pseudo_mask(path: Path, mask: NDArray[np.int16]) -> None:
    """Write a pseudo mask as a PNG: class index + 1, and 255 where ignored."""
    stored = np.where(mask == IGNORED, _STORED_IGNORED, mask + 1).astype(np.uint8)
    try:
        with atomic_write(path) as temporary:
            Image.fromarray(stored).save(temporary, "PNG")
    except OSError as error:
        raise StoreError(
            f"a pseudo mask can't be written ({error.strerror or type(error).__name__})",
            path=path,
            remedy="Free some disk space and resume.",
        ) from error


def read_pseudo_mask(path: Path, size: tuple[int, int]) -> NDArray[np.int16]:
    """Read a file written by `write_pseudo_mask` for an image of a size (height, width).

    Raises
    ------
    StoreError
        When the file is missing, damaged, or does not fit the image.
    """
    remedy = "Delete it and resume."
    try:
        with open_picture(path, StoreError) as image:
            stored = np.array(image)
    except MemoryError:
        raise
    except Exception as error:  # image decoders raise exceptions of any type
        raise StoreError("a pseudo mask can't be read", path=path, remedy=remedy) from error
    if stored.shape != size or stored.dtype != np.uint8:
        raise StoreError(
            f"a pseudo mask of {size[1]} x {size[0]} pixels should be here, but the file holds "
            f"{stored.dtype} of shape {stored.shape}",
            path=path,
            remedy=remedy,
        )
    labels = stored.astype(np.int16)
    return np.where(labels == _STORED_IGNORED, IGNORED, labels - 1).astype(np.int16)


def coverage(masks: list[NDArray[np.int16]], classes: int) -> NDArray[np.float64]:
    """Return the share of each class, then that of ignored pixels, (classes + 1,)."""
    counts = np.zeros(classes + 1, np.int64)
    for mask in masks:
        # the modulo moves ignored pixels, -1, to the end
        places = mask.ravel().astype(np.int64) % (classes + 1)
        counts += np.bincount(places, minlength=classes + 1)
    return np.asarray(counts / max(1, counts.sum()))


@dataclass(frozen=True)
class Targets:
    """Pseudo masks of images, stored in a folder.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def path(self, image: TaggedImage) -> Path:
        """Return the file of an image's pseudo mask."""
        return self.folder / f"{image.name}.png"

    def __call__(self, image: TaggedImage) -> NDArray[np.int16]:
        """Return class indices (H, W), -1 where ignored."""
        return read_pseudo_mask(self.path(image), image.size)

    def mask_ids(self, image: TaggedImage) -> NDArray[np.uint8]:
        """Return mask ids (H, W), 0 where ignored."""
        return as_mask_ids(self(image))


def as_mask_ids(mask: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return mask ids of class indices; 0 where ignored."""
    return np.where(mask == IGNORED, 0, mask + 1).astype(np.uint8)
