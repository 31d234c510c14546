"""Objects to train on: connected regions of masks, and patches around them.

The images of a tagged folder have truth masks. A folder `instances` beside them, with one value
per object, separates objects that touch.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from napari_plimseg.errors import TagError
from plimseg_training.data import read_mask, read_pixels, read_truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from plimseg_training.data import TaggedFolder, TaggedImage


INSTANCES = "instances"
WHITE = 255
_KEPT_IMAGES = 32
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class HintObject:
    """One object of one image.

    Parameters
    ----------
    image : int
        Index in the folder.
    label : int
        Its value in `Objects.labels`.
    center : (float, float)
        Center (y, x) of its box, in pixels at the training resolution.
    """

    image: int
    label: int
    center: tuple[float, float]


@dataclass(frozen=True)
class Pair:
    """HR and LR patch with the same center, and the object's mask in both.

    Parameters
    ----------
    hr, lr : ndarray of uint8, shape (side, side, 3)
        White outside the image.
    hr_mask, lr_mask : ndarray of bool, shape (side, side)
    """

    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]
    hr_mask: NDArray[np.bool_]
    lr_mask: NDArray[np.bool_]

    def flipped(self, *, turns: int, mirrored: bool) -> Pair:
        """Return both patches and masks mirrored and rotated in the same way."""

        def turned(array: NDArray[np.generic]) -> NDArray[np.generic]:
            array = array[:, ::-1] if mirrored else array
            return np.ascontiguousarray(np.rot90(array, turns))

        return Pair(*(turned(part) for part in (self.hr, self.lr, self.hr_mask, self.lr_mask)))  # type: ignore[arg-type]


class Objects:
    """The objects of a folder at one resolution.

    Parameters
    ----------
    folder : TaggedFolder
        Images with truth.
    mpp : float
        Pixel size of the HR patches in micrometers.
    image_mpp : float, optional
        Pixel size of the images; that of the folder by default.
    leave_out : sequence of str
        Classes whose regions are not objects.
    min_area : int
        Area of the smallest object in pixels at the training resolution.

    Raises
    ------
    TagError
        When no object is left.
    """

    def __init__(
        self,
        folder: TaggedFolder,
        mpp: float,
        *,
        image_mpp: float | None = None,
        leave_out: Sequence[str] = (),
        min_area: int = 64,
    ) -> None:
        self.folder = folder
        self._scale = (image_mpp or folder.mpp or mpp) / mpp
        classes = folder.classes
        ids = {classes.mask_id(name) for name in leave_out}
        self._kept = [i for i in classes.tissue_ids if i not in ids]
        self._min_area = min_area
        self.image = functools.lru_cache(_KEPT_IMAGES)(self._image)
        self.items = tuple(
            item for number in range(len(folder.images)) for item in self._of_image(number)
        )
        if not self.items:
            raise TagError(
                "its masks contain no object",
                path=folder.root,
                remedy="Check the masks, and the keys data.leave_out and data.min_area.",
            )

    def __len__(self) -> int:
        return len(self.items)

    def digest(self) -> str:
        """Return a digest of the images and of their objects."""
        told = [(item.image, item.label, item.center) for item in self.items]
        return self.folder.digest() + hashlib.sha256(repr(told).encode()).hexdigest()

    def name(self, index: int) -> str:
        """Return the name of an object for messages."""
        item = self.items[index]
        return f"{self.folder.images[item.image].path.name}, object {item.label}"

    def pair(self, index: int, side: int, shift: tuple[float, float] = (0.0, 0.0)) -> Pair:
        """Cut the HR and LR patches around an object; HR always shows a part of it.

        Parameters
        ----------
        index : int
        side : int
            Side of both patches in pixels; a multiple of 4.
        shift : (float, float)
            Shift (y, x) of the center in pixels of the HR patch.
        """
        pair = self._pair(index, side, shift)
        if pair.hr_mask.any():
            return pair
        # the center of a large ring's box shows nothing of the ring
        return self._pair(index, side, self._toward(index))

    def _pair(self, index: int, side: int, shift: tuple[float, float]) -> Pair:
        item = self.items[index]
        pixels, labels = self.image(item.image)
        y, x = (round(c + s) for c, s in zip(item.center, shift, strict=True))
        field = window(pixels, y - side, x - side, 2 * side, WHITE)
        mask = window(labels, y - side, x - side, 2 * side, 0) == item.label
        half = slice(side // 2, side // 2 + side)
        return Pair(
            hr=np.ascontiguousarray(field[half, half]),
            lr=_halved(field),
            hr_mask=np.ascontiguousarray(mask[half, half]),
            lr_mask=_halved(mask[..., None].astype(np.uint8) * 255)[..., 0] > 127,
        )

    def _toward(self, index: int) -> tuple[float, float]:
        """Return the shift that moves a pixel of the object to the patch's center."""
        item = self.items[index]
        _, labels = self.image(item.image)
        rows, columns = np.nonzero(labels == item.label)
        y, x = item.center
        nearest = int(np.argmin((rows - y) ** 2 + (columns - x) ** 2))
        return float(rows[nearest] - y), float(columns[nearest] - x)

    def _of_image(self, number: int) -> list[HintObject]:
        _, labels = self.image(number)
        found = []
        areas = np.bincount(labels.ravel())
        for label, place in enumerate(ndimage.find_objects(labels), 1):
            if place is not None and areas[label] >= self._min_area:
                center = tuple((s.start + s.stop) / 2 for s in place)
                found.append(HintObject(number, label, (center[0], center[1])))
        return found

    def _image(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return pixels (H, W, 3) and labels (H, W) of an image at the training resolution."""
        image = self.folder.images[number]
        pixels, labels = read_pixels(image), self._labels(image)
        size = tuple(max(1, round(n * self._scale)) for n in image.size)
        if size == image.size:
            return pixels, labels
        maps = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
        small = F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)
        rows = ((np.arange(size[0]) + 0.5) * image.size[0] / size[0]).astype(np.intp)
        columns = ((np.arange(size[1]) + 0.5) * image.size[1] / size[1]).astype(np.intp)
        rounded = small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
        return rounded, labels[rows[:, None], columns]

    def _labels(self, image: TaggedImage) -> NDArray[np.int32]:
        """Return labels (H, W) of the objects, 0 elsewhere."""
        instances = instances_of(image)
        if instances is None:
            values = read_truth(image, self.folder)
            values = np.where(np.isin(values, self._kept), values, 0)
        else:
            values = read_mask(instances)
            if values.ndim != 2 or values.shape != image.size:
                raise TagError("it does not have the size of its image", path=instances)
        labels = np.zeros(values.shape, np.int32)
        count = 0
        for value in np.unique(values[values > 0]):
            found, more = ndimage.label(values == value, _EIGHT)
            labels[found > 0] = found[found > 0] + count
            count += more
        return labels


def instances_of(image: TaggedImage) -> Path | None:
    """Return the mask with one value per object, if an image has one."""
    folder = image.path.parent.parent / INSTANCES
    for suffix in (".png", ".bmp", ".tif", ".tiff"):
        path = folder / f"{image.path.stem}{suffix}"
        if path.is_file():
            return path
    return None


def window(array: NDArray[Any], y: int, x: int, side: int, fill: int) -> NDArray[Any]:
    """Return `side` x `side` pixels from (y, x) on, with `fill` outside the array."""
    out = np.full((side, side, *array.shape[2:]), fill, array.dtype)
    top, left = max(0, y), max(0, x)
    bottom, right = min(array.shape[0], y + side), min(array.shape[1], x + side)
    if top < bottom and left < right:
        out[top - y : bottom - y, left - x : right - x] = array[top:bottom, left:right]
    return out


def _halved(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the means of 2 x 2 pixels of (H, W, C)."""
    height, width, channels = array.shape
    cells = array.reshape(height // 2, 2, width // 2, 2, channels).astype(np.uint16)
    means: NDArray[np.uint8] = ((cells.sum((1, 3)) + 2) // 4).astype(np.uint8)
    return means
