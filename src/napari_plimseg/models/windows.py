"""Dense vectors from a network of fixed input size, the same in every tiling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class WindowGrid:
    """Overlapping windows at fixed places of the slide, averaged where they overlap.

    A vision transformer sees its whole input at once, so its output depends on where a tile was
    cut. Windows that start at multiples of `step` in the slide's own pixels do not.

    Parameters
    ----------
    window : int
        Side of the network's input in pixels.
    patch : int
        Pixels per vector and side; divides `window`.
    """

    def __init__(self, window: int, patch: int) -> None:
        self.window = window
        self.patch = patch
        self.step = max(1, window // patch // 2) * patch
        self.alignment = self.step
        # every window that touches the core lies within the halo
        self.halo = math.ceil((window - self.step) / self.step) * self.step

    def dense(
        self, images: Tensor, encode: Callable[[Tensor], Tensor], at_once: int = 16
    ) -> Tensor:
        """Average the windows' vectors with weights that fall towards their borders.

        Parameters
        ----------
        images : Tensor of float, shape (B, 3, H, W)
            Sides are multiples of `alignment`.
        encode : callable
            From (N, 3, window, window) to (N, D, window / patch, window / patch).
        at_once : int
            Windows in one call of `encode`.

        Returns
        -------
        Tensor, shape (B, D, H / patch, W / patch)
        """
        batch, _, height, width = images.shape
        rows, columns = self._starts(height), self._starts(width)
        bottom, right = rows[-1] + self.window - height, columns[-1] + self.window - width
        padded = torch.nn.functional.pad(images, (0, right, 0, bottom))
        places = [(b, y, x) for b in range(batch) for y in rows for x in columns]
        total: Tensor | None = None
        weights = images.new_zeros(1, padded.shape[2] // self.patch, padded.shape[3] // self.patch)
        weight = self._weight().to(images)
        for first in range(0, len(places), at_once):
            group = places[first : first + at_once]
            cut = [padded[b, :, y : y + self.window, x : x + self.window] for b, y, x in group]
            vectors = encode(torch.stack(cut))  # (N, D, w, w)
            if total is None:
                total = vectors.new_zeros(batch, vectors.shape[1], *weights.shape[1:])
            for (b, y, x), vector in zip(group, vectors, strict=True):
                top, left, side = y // self.patch, x // self.patch, vectors.shape[-1]
                total[b, :, top : top + side, left : left + side] += vector * weight
                if b == 0:
                    weights[:, top : top + side, left : left + side] += weight
        mean = (total if total is not None else images) / weights.clamp_min(1e-6)
        return mean[:, :, : height // self.patch, : width // self.patch]

    def _starts(self, side: int) -> list[int]:
        count = max(0, math.ceil((side - self.window) / self.step)) + 1
        return [i * self.step for i in range(count)]

    def _weight(self) -> Tensor:
        side = self.window // self.patch
        ramp = torch.arange(side) + 0.5
        hat = torch.minimum(ramp, side - ramp)
        return hat[:, None] * hat[None, :]
