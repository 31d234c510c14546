"""A slide in memory and a model whose answer can be worked out by hand."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch.nn import functional

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.slide import Level, Slide
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RED_GREEN = TissueClasses(
    (
        TissueClass("red", (255, 0, 0)),
        TissueClass("green", (0, 255, 0)),
        TissueClass("background", (255, 255, 255)),
    )
)


class ArraySlide(Slide):
    """One level from an array; parts can be made unreadable."""

    def __init__(self, path: Path, pixels: NDArray[np.uint8], mpp: float | None = 0.5) -> None:
        super().__init__(
            path, (Level(pixels.shape[:2], 1.0),), mpp=mpp, format_name="array in memory"
        )
        path.write_bytes(hashlib.sha256(pixels.tobytes()).digest())
        self.pixels = pixels
        self.broken: list[tuple[int, int, int, int]] = []
        self.reads = 0

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        self.reads += 1
        for top, left, bottom, right in self.broken:
            if y < bottom and y + height > top and x < right and x + width > left:
                raise SlideError("a block is damaged", path=self.path)
        return self.pixels[y : y + height, x : x + width].copy()

    def _close(self) -> None:
        pass


class ColorModel:
    """Classes by colour after a blur whose reach is within the halo."""

    name = "colours"
    identity = "colours-1"
    classes = RED_GREEN
    mpp = 0.5
    mask_stride = 4
    alignment = 32
    halo = 32

    def __init__(self, largest_batch: int | None = None) -> None:
        self.largest_batch = largest_batch
        self.calls: list[int] = []
        self.adapted = 0

    def to(self, device: torch.device) -> Self:
        return self

    def adapted_to(self, tissue_pixels: NDArray[np.uint8]) -> Self:
        assert tissue_pixels.ndim == 2
        assert tissue_pixels.shape[1] == 3
        self.adapted += 1
        return self

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(images))
        if self.largest_batch is not None and len(images) > self.largest_batch:
            raise torch.OutOfMemoryError("out of memory, says the test")
        x = images.permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
        x = functional.avg_pool2d(x, self.mask_stride)
        x = functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        scores = torch.stack([x[:, 0] - x[:, 1], x[:, 1] - x[:, 0], x.amin(1) - 0.5], 1)
        return (scores * 20).softmax(1)


def painted(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return white with red and green discs."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 255, np.uint8)
    yy, xx = np.ogrid[:height, :width]
    for i in range(max(4, height * width // 40_000)):
        y, x, r = rng.integers(0, height), rng.integers(0, width), rng.integers(30, 120)
        disc = (yy - y) ** 2 + (xx - x) ** 2 < r * r
        pixels[disc] = (190, 60, 120) if i % 2 else (60, 190, 120)
    return pixels
