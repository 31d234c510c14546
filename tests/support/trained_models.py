"""Models whose answers can be worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch.nn import functional

from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RGB_CLASSES = TissueClasses(
    (
        TissueClass("red", (255, 0, 0)),
        TissueClass("green", (0, 255, 0)),
        TissueClass("background", (0, 0, 255)),
    )
)


class ChannelModel:
    """The classes are the colour channels, averaged over the mask's pixels."""

    name = "channels"
    identity = "channels-1"
    mpp = 0.5
    alignment = 16

    def __init__(
        self,
        classes: TissueClasses = RGB_CLASSES,
        *,
        mask_stride: int = 4,
        blur: int = 0,
        largest: int = 1 << 30,
    ) -> None:
        self.classes = classes
        self.mask_stride = mask_stride
        self.halo = 16 if blur else 0
        self.blur = blur
        self.largest = largest
        self.shapes: list[tuple[int, ...]] = []

    def to(self, device: torch.device) -> Self:
        return self

    def adapted_to(self, tissue_pixels: NDArray[np.uint8]) -> Self:
        return self

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(images.shape))
        if images.shape[1] * images.shape[2] > self.largest:
            raise torch.OutOfMemoryError("out of memory")
        assert images.dtype == torch.uint8
        assert images.shape[1] % self.alignment == images.shape[2] % self.alignment == 0
        planes = images.permute(0, 3, 1, 2).float() / 255
        if self.blur:
            planes = functional.avg_pool2d(planes, 2 * self.blur + 1, 1, self.blur)
        return functional.avg_pool2d(planes, self.mask_stride)
