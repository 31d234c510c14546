"""Dense vectors from a network of fixed input size, the same in every tiling."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


_WINDOWS_AT_ONCE = 8


def _in_float(images: Tensor) -> Tensor:
    """Return images as networks take them: uint8 ones in [0, 1], others as they are."""
    return images.float() / 255 if images.dtype is torch.uint8 else images


class WindowCache:
    """The vectors of the most recent windows, by their pixels.

    Windows across the border of two tiles are needed by both. On a CPU, encoding a window costs
    a hundred times as much as looking it up.

    Parameters
    ----------
    capacity : int
        In windows; those of the shipped model take 0.4 MB each.
    """

    def __init__(self, capacity: int = 256) -> None:
        self.capacity = capacity
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def encoded(
        self, windows: Sequence[Tensor], encode: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Return the vectors (D, w, w) of each window (3, h, w), encoding only new ones."""
        keys = [
            hashlib.blake2b(window.contiguous().numpy().data, digest_size=16).digest()
            for window in windows
        ]
        asked = dict(zip(keys, windows, strict=True))
        # several threads may share an encoder and its cache
        with self._lock:
            vectors = {key: self._known[key] for key in asked if key in self._known}
        new = {key: window for key, window in asked.items() if key not in vectors}
        if new:
            fresh = encode(_in_float(torch.stack(list(new.values()))))  # (N, D, w, w)
            # copied, because a view would keep the whole batch in memory
            vectors |= {key: vector.clone() for key, vector in zip(new, fresh, strict=True)}
        with self._lock:
            for key, vector in vectors.items():
                self._known[key] = vector
                self._known.move_to_end(key)
            while len(self._known) > self.capacity:
                self._known.popitem(last=False)
        return [vectors[key] for key in keys]


class WindowGrid:
    """Overlapping windows at fixed positions of the slide, blended where they overlap.

    The output of a deep network depends on where its input was cut: a vision transformer attends
    to the whole input, and the effect of DenseNet121's zero padding reaches hundreds of pixels
    inwards. The windows start at multiples of `step` in the slide's own pixels, so they are cut at
    the same positions in every tiling, and the mask doesn't depend on the tile size.

    Parameters
    ----------
    window : int
        Side of the network's input in pixels.
    patch : int
        Distance of two vectors in pixels; divides `window` and `step`.
    step : int, optional
        Distance of two windows in pixels; about half a window when None.
    margin : int
        Pixels around the core of a tile whose vectors are right too, for what looks around a vector
        after blending; a multiple of `patch`, and at most `step`.
    """

    def __init__(
        self, window: int, patch: int, step: int | None = None, *, margin: int = 0
    ) -> None:
        self.window = window
        self.patch = patch
        self.step = step or max(1, window // patch // 2) * patch
        self.margin = margin
        self.alignment = self.step
        # so that every window that overlaps the core of a tile, or its margin, starts within its
        # halo, and with a margin also ends there
        self._before = math.ceil((window - self.step + margin) / self.step) * self.step
        self.halo = max(self._before, window) if margin else self._before

    def dense(
        self,
        images: Tensor,
        encode: Callable[[Tensor], Tensor],
        at_once: int = 0,
        cache: WindowCache | None = None,
    ) -> Tensor:
        """Blend the windows' vectors with weights that decrease towards their borders.

        Windows that overlap only the halo are omitted, except in the margin. The vectors there
        repeat their neighbors or are 0: the caller trims them anyway.

        Parameters
        ----------
        images : Tensor, shape (B, 3, H, W)
            Of uint8, or of float in the numbers that `encode` takes. Sides are multiples of
            `alignment`, or at most one window.
        encode : callable
            Maps float (N, 3, h, w) to (N, D, h / patch, w / patch). It gets uint8 images in [0, 1].
        at_once : int
            Windows per call of `encode`; 0 for one on a CPU, where the memory of several is taken
            from the system again in each layer, and else 8.
        cache : WindowCache, optional
            Of the same `encode`; used only on a CPU.

        Returns
        -------
        Tensor, shape (B, D, H / patch, W / patch)
        """
        batch, _, height, width = images.shape
        rows, columns = self._starts(height), self._starts(width)
        if len(rows) == len(columns) == 1:
            return encode(_in_float(images))
        on_cpu = images.device.type == "cpu"
        at_once = at_once or (1 if on_cpu else _WINDOWS_AT_ONCE)
        bottom, right = rows[-1] + self.window - height, columns[-1] + self.window - width
        padded = functional.pad(images, (0, max(0, right), 0, max(0, bottom)))
        places = [(b, y, x) for b in range(batch) for y in rows for x in columns]
        weight = self._weight().to(images.device)
        size = [(starts[-1] + self.window) // self.patch for starts in (rows, columns)]
        weights = weight.new_zeros(1, *size)
        total = weight.new_zeros(batch, 1, *size)
        for first in range(0, len(places), at_once):
            group = places[first : first + at_once]
            cut = [padded[b, :, y : y + self.window, x : x + self.window] for b, y, x in group]
            if cache is not None and on_cpu:
                vectors = cache.encoded(cut, encode)
            else:
                vectors = list(encode(_in_float(torch.stack(cut))))  # N of (D, w, w)
            if first == 0:
                total = vectors[0].new_zeros(batch, len(vectors[0]), *size)
            for (b, y, x), vector in zip(group, vectors, strict=True):
                top, left, side = y // self.patch, x // self.patch, vector.shape[-1]
                total[b, :, top : top + side, left : left + side] += vector * weight
                if b == 0:
                    weights[:, top : top + side, left : left + side] += weight
        weights[weights == 0] = 1  # the outer part of a halo that is wider than the windows reach
        rows_wanted, columns_wanted = height // self.patch, width // self.patch
        mean = (total / weights)[:, :, :rows_wanted, :columns_wanted]
        lacking = (0, columns_wanted - mean.shape[3], 0, rows_wanted - mean.shape[2])
        return functional.pad(mean, lacking, mode="replicate") if any(lacking) else mean

    def _starts(self, side: int) -> list[int]:
        if side <= self.window:
            return [0]
        first, beyond = self.halo - self._before, self.margin
        return list(range(first, side - self.halo + beyond, self.step))

    def _weight(self) -> Tensor:
        """Return the weights of a window: ramps where two windows overlap, flat in between.

        The outermost vectors have almost no weight. Interpolation to the mask's grid reads one
        vector on each side of a tile's core; with these weights it makes no difference that the
        windows which only overlap those vectors were omitted.
        """
        side, shared = self.window // self.patch, (self.window - self.step) // self.patch
        place = torch.arange(side, dtype=torch.float32)
        hat = torch.minimum(place, side - 1 - place).clamp(1e-6, max(1, shared - 1))
        return torch.outer(hat, hat)
