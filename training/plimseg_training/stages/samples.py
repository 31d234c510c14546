"""Training samples: images or crops, randomly changed like other slides, with correct tags."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from plimseg_training.data import TaggedImage, read_pixels
from plimseg_training.stages.features import FeatureCache, MapsOfImages, stride_of, to_unit
from plimseg_training.stages.window_pooling import flipped, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor


# optical densities of hematoxylin, eosin and the residual (Ruifrok and Johnston 2001)
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
_STAIN_SPREAD = 0.15
_SHIFT_SPREAD = 0.03
_BLUR_CHANCE = 0.2
_JPEG_CHANCE, _JPEG_QUALITY = 0.2, (40, 90)
_SCALES = (0.75, 1.33)
_ARRAYS_BYTES = 1 << 29


def stain_jitter(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Return an image as if stained in another laboratory and scanned by another scanner.

    The amounts of hematoxylin and eosin are scaled and shifted (Tellez et al. 2018), the
    brightness changes slightly, and sometimes the image is blurred.

    Parameters
    ----------
    pixels : Tensor, shape (3, H, W)
        RGB in [0, 1].
    random : Generator

    Returns
    -------
    Tensor, shape (3, H, W)
        RGB in [0, 1].
    """
    stains = torch.tensor(_STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    density = -(pixels.clamp(1 / 255, 1)).log().movedim(0, -1)  # (H, W, 3)
    amounts = density @ torch.linalg.inv(stains)
    scale = torch.from_numpy(random.normal(1, _STAIN_SPREAD, 3)).float()
    shift = torch.from_numpy(random.normal(0, _SHIFT_SPREAD, 3)).float()
    changed = (-(amounts * scale + shift) @ stains).exp().movedim(-1, 0)
    changed = (changed * float(random.normal(1, _SHIFT_SPREAD))).clamp(0, 1)
    if random.random() < _BLUR_CHANCE:
        changed = F.avg_pool2d(changed[None], 3, 1, 1, count_include_pad=False)[0]
    result: Tensor = changed
    return result


def compressed(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Return an image (3, H, W) in [0, 1], now and then with the artifacts of JPEG."""
    if random.random() >= _JPEG_CHANCE:
        return pixels
    rgb = (pixels * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=int(random.integers(*_JPEG_QUALITY)))
    return to_unit(np.asarray(Image.open(file)))


Augment = Literal["none", "flips", "full"]
_TRIES = 10


@dataclass(frozen=True)
class Flip:
    """One of the eight flips and quarter turns of an image.

    Parameters
    ----------
    rows, columns : bool
        Whether rows and columns are reversed.
    transposed : bool
        Whether rows and columns are swapped afterwards.
    """

    rows: bool = False
    columns: bool = False
    transposed: bool = False

    @classmethod
    def draw(cls, random: np.random.Generator, *, square: bool) -> Flip:
        """Draw one; only square images can be transposed without changing their size."""
        rows, columns, transposed = (bool(v) for v in random.integers(0, 2, 3))
        return cls(rows, columns, transposed and square)

    def maps(self, maps: Tensor) -> Tensor:
        """Flip maps (..., h, w)."""
        axes = [axis for axis, turned in ((-2, self.rows), (-1, self.columns)) if turned]
        maps = maps.flip(axes) if axes else maps
        return maps.transpose(-2, -1) if self.transposed else maps

    def undone(self, maps: Tensor) -> Tensor:
        """Return maps (..., h, w) that `maps` has flipped as they were."""
        maps = maps.transpose(-2, -1) if self.transposed else maps
        return replace(self, transposed=False).maps(maps)

    def windows(self, windows: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
        """Flip windows (N, 4) of an image of a size (height, width)."""
        turned = flipped(windows, size, rows=self.rows, columns=self.columns)
        return turned[:, [1, 0, 3, 2]] if self.transposed else turned


@dataclass(frozen=True)
class Sample:
    """One image or crop, with its tags and targets.

    Parameters
    ----------
    name : str
    size : tuple of int
        Height and width in pixels.
    windows, tags : ndarray
        (N, 4) and (N, C).
    pixels : Tensor or None, shape (3, H, W)
        RGB in [0, 1]; None where cached features replace it.
    blocks : tuple of Tensor
        Cached features of a frozen encoder (C, h, w); empty where `pixels` must be encoded.
    matched : Tensor or None, shape (D, h, w)
        The frozen matcher's unit vectors, or a teacher's log probabilities.
    target : Tensor or None, shape (H, W)
        Target class indices, -1 where ignored.
    """

    name: str
    size: tuple[int, int]
    windows: NDArray[np.int32]
    tags: NDArray[np.uint8]
    pixels: Tensor | None = None
    blocks: tuple[Tensor, ...] = ()
    matched: Tensor | None = None
    target: Tensor | None = None


class ArrayCache:
    """Arrays of images that take longer to decode than to use: pixels, pseudo masks.

    Parameters
    ----------
    read : callable
        From an image to an array; its pixels by default.
    budget : int
        Size of the cache in bytes; further arrays are read every time.
    """

    def __init__(
        self,
        read: Callable[[TaggedImage], NDArray[Any]] = read_pixels,
        budget: int = _ARRAYS_BYTES,
    ) -> None:
        self._read = read
        self._left = budget
        self._known: dict[str, NDArray[Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, image: TaggedImage) -> NDArray[Any]:
        """Return the array of an image; it is not to be changed."""
        key = str(image.path)
        with self._lock:
            if key in self._known:
                return self._known[key]
        found = self._read(image)
        with self._lock:
            if key not in self._known and found.nbytes <= self._left:
                self._known[key] = found
                self._left -= found.nbytes
        return found


@dataclass(frozen=True)
class SampleSource:
    """Makes samples of images, always the same ones for a seed, epoch and index.

    Parameters
    ----------
    images : sequence of TaggedImage
    augment : {"none", "flips", "full"}
    crop : int
        Side of square crops in pixels; 0 for whole images.
    blocks : FeatureCache or None
        Features of a frozen encoder: maps of whole images, which can only be cropped and flipped.
    matched : MapsOfImages or None
        Vectors of the matcher, or predictions of a teacher; likewise of whole images.
    multiple : int
        Pixels per cell of the coarsest maps; crops of maps start and end at multiples of it.
    with_pixels : bool
        Whether samples have pixels even if there are cached features.
    read : callable
        From an image to its pixels (H, W, 3).
    """

    images: Sequence[TaggedImage]
    augment: Augment = "none"
    crop: int = 0
    blocks: FeatureCache | None = None
    matched: MapsOfImages | None = None
    multiple: int = 16
    with_pixels: bool = False
    read: Callable[[TaggedImage], NDArray[np.uint8]] = read_pixels

    def __len__(self) -> int:
        return len(self.images)

    def sample(
        self,
        index: int,
        random: np.random.Generator,
        target: NDArray[np.int16] | None = None,
    ) -> Sample:
        """Return one sample.

        Parameters
        ----------
        index : int
            Index of the image.
        random : Generator
            Source of all randomness.
        target : ndarray of int16, shape (H, W), optional
            Class indices of the whole image, -1 where ignored.
        """
        image = self.images[index]
        found = Sample(image.name, image.size, image.windows, image.tags)
        if target is not None:
            found = replace(found, target=torch.tensor(target))
        if self.blocks is not None or self.matched is not None:
            found = replace(
                found,
                blocks=tuple(self.blocks.of(image)) if self.blocks else (),
                matched=self.matched.of(image)[0] if self.matched else None,
            )
        if self.blocks is None or self.with_pixels:
            # kept in eight bits until it is cropped: most of a large image is not needed
            found = replace(found, pixels=torch.tensor(self.read(image)).movedim(-1, 0))
        if self.crop:
            varied = self.augment == "full" and self.blocks is None and self.matched is None
            scales = _SCALES if varied else (1.0, 1.0)
            found = _cropped(found, self.crop, random, self.multiple, scales)
        if found.pixels is not None:
            pixels = found.pixels.float() / 255
            if self.augment == "full":
                pixels = compressed(stain_jitter(_resized(pixels, found.size), random), random)
            found = replace(found, pixels=pixels)
        if self.augment != "none":
            found = _flipped(found, random, self.multiple)
        return found


def _flipped(sample: Sample, random: np.random.Generator, multiple: int) -> Sample:
    height, width = sample.size
    frozen = bool(sample.blocks) or sample.matched is not None
    flip = Flip.draw(random, square=height == width)
    # Maps cover the image padded to the next multiple of their stride. A flip moves this padding
    # to the start, so the pixels must be padded before they are flipped.
    size = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    if not frozen:
        size = sample.size
    pad = (0, size[1] - width, 0, size[0] - height)
    target, pixels = sample.target, sample.pixels
    if target is not None:
        target = flip.maps(F.pad(target, pad, value=-1))
    if pixels is not None:
        pixels = flip.maps(F.pad(pixels, pad, value=1.0))
    return replace(
        sample,
        size=(size[1], size[0]) if flip.transposed else size,
        windows=flip.windows(sample.windows, size),
        pixels=pixels,
        blocks=tuple(flip.maps(maps) for maps in sample.blocks),
        matched=None if sample.matched is None else flip.maps(sample.matched),
        target=target,
    )


def _cropped(
    sample: Sample,
    side: int,
    random: np.random.Generator,
    multiple: int,
    scales: tuple[float, float],
) -> Sample:
    """Crop a square that contains at least one whole window, if possible.

    The result has the same size at all scales. Its pixels are still those of the image: they are
    resized as fractions, by the caller.
    """
    height, width = sample.size
    step = multiple if sample.blocks or sample.matched is not None else 1
    longest = side // step * step
    size = (min(longest, height), min(longest, width))
    scale = float(np.exp(random.uniform(*np.log(scales)))) if scales[0] < scales[1] else 1.0
    scale = max(scale, size[0] / height, size[1] / width) if scale != 1 else scale
    rows, columns = (max(1, round(length / scale)) for length in size)
    y = x = 0
    windows, tags = sample.windows, sample.tags
    for _ in range(_TRIES):
        y = int(random.integers(0, (height - rows) // step + 1)) * step
        x = int(random.integers(0, (width - columns) // step + 1)) * step
        windows, tags = inside(sample.windows, sample.tags, (y, x, rows, columns))
        if len(windows):
            break

    def cut(maps: Tensor, stride: int, end: int) -> Tensor:
        """Crop maps of a stride; the crop's sides are padded to a multiple of `end` pixels."""
        top, left = y // stride, x // stride
        bottom, right = (
            top - (-rows // end) * end // stride,
            left - (-columns // end) * end // stride,
        )
        return maps[..., top:bottom, left:right]

    def cut_frozen(maps: Tensor) -> Tensor:
        return cut(maps, stride_of(sample.size, maps, multiple), multiple)

    target = None if sample.target is None else cut(sample.target, 1, 1)
    if (rows, columns) != size:
        ratio = np.array([size[0] / rows, size[1] / columns] * 2)
        windows = (windows * ratio).round().astype(windows.dtype)
        target = None if target is None else _nearest(target, size)
    return replace(
        sample,
        size=size,
        windows=windows,
        tags=tags,
        pixels=None if sample.pixels is None else cut(sample.pixels, 1, 1),
        blocks=tuple(cut_frozen(maps) for maps in sample.blocks),
        matched=None if sample.matched is None else cut_frozen(sample.matched),
        target=target,
    )


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    if pixels.shape[1:] == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]


def _nearest(target: Tensor, size: tuple[int, int]) -> Tensor:
    """Return class indices (H, W) at another size, each that of the nearest pixel."""
    places: list[Any] = [
        ((torch.arange(wanted) + 0.5) * given / wanted).long()
        for wanted, given in zip(size, target.shape, strict=True)
    ]
    return target[places[0]][:, places[1]]


def alike(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Yield groups of samples of the same size, which a network can process in one call."""
    groups: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.size, []).append(sample)
    yield from groups.values()
