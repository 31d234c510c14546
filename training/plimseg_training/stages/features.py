"""Features of frozen networks, computed once per image and cached as memory allows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional as F

from plimseg_training.data import read_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from plimseg_training.data import TaggedImage


BUDGET_BYTES = 3 << 29


class MapsOfImages(Protocol):
    """A source of maps of whole images, padded to a multiple of the coarsest stride."""

    def of(self, image: TaggedImage) -> list[Tensor]:
        """Return the maps (C, h, w) of an image."""


class FeatureCache:
    """Cached feature maps of frozen networks for whole images, in half precision.

    Maps are rounded to half precision also when they are not cached, so that the result of a
    training does not depend on the size of the cache.

    Parameters
    ----------
    compute : callable
        From (1, 3, H, W) RGB in [0, 1] to maps (1, C, h, w).
    device : torch.device
        Device of `compute`.
    multiple : int
        Images are padded to a multiple of this at their lower and right edges, so that maps of
        all strides cover the same pixels, also when they are flipped.
    budget : int
        Size of the cache in bytes; further images are computed every time.
    """

    def __init__(
        self,
        compute: Callable[[Tensor], list[Tensor]],
        device: torch.device,
        multiple: int = 16,
        budget: int = BUDGET_BYTES,
    ) -> None:
        self._compute = compute
        self._device = device
        self._multiple = multiple
        self._budget = budget
        self._used = 0
        self._known: dict[str, list[Tensor]] = {}
        self._lock = threading.Lock()

    @torch.no_grad()
    def of(self, image: TaggedImage) -> list[Tensor]:
        """Return the maps (C, h, w) of an image, on the device."""
        key = str(image.path)
        # prefetching threads share the networks and the cache
        with self._lock:
            maps = self._known.get(key)
            if maps is None:
                pixels = whole_pixels(image).to(self._device)
                height, width = image.size
                pad = (0, -width % self._multiple, 0, -height % self._multiple)
                images = F.pad(pixels[None], pad, mode="reflect")
                maps = [found[0].half().cpu() for found in self._compute(images)]
                size = sum(found.numel() * found.element_size() for found in maps)
                if self._used + size <= self._budget:
                    self._known[key] = maps
                    self._used += size
        return [found.to(self._device).float() for found in maps]


class DerivedFeatureCache:
    """Maps derived cheaply from cached ones, and cached too.

    Parameters
    ----------
    source : FeatureCache
    derive : callable
        From the source's maps (1, C, h, w) to a single map (1, D, h, w).
    """

    def __init__(self, source: FeatureCache, derive: Callable[[list[Tensor]], Tensor]) -> None:
        self._source = source
        self._derive = derive
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def of(self, image: TaggedImage) -> list[Tensor]:
        """Return a list of one map (D, h, w) of an image."""
        key = str(image.path)
        if key not in self._known:
            derived = self._derive([maps[None] for maps in self._source.of(image)])
            self._known[key] = derived[0].half()
        return [self._known[key].float()]


def stride_of(size: tuple[int, int], maps: Tensor, multiple: int) -> int:
    """Return the pixels per cell of maps (..., h, w) of an image padded to a multiple."""
    sides = zip(size, maps.shape[-2:], strict=True)
    return round(max(-(-side // multiple) * multiple / cells for side, cells in sides))


def whole_pixels(image: TaggedImage) -> Tensor:
    """Return the pixels of an unchanged image, (3, H, W) in [0, 1]."""
    return to_unit(read_pixels(image))


def to_unit(pixels: NDArray[np.uint8]) -> Tensor:
    """Return RGB (H, W, 3) of uint8 as (3, H, W) in [0, 1]."""
    # a copy, because arrays of decoded images are read-only and torch has no read-only tensors
    return torch.tensor(pixels).movedim(-1, -3).float() / 255
