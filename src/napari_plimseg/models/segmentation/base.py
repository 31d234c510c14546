"""What the engine needs of a model: tiles of pixels in, class probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from napari_plimseg.tissue import TissueClasses


@runtime_checkable
class DenseModel(Protocol):
    """A model from tiles to class probabilities, whose result is independent of the tiling.

    Attributes
    ----------
    name : str
        For people.
    identity : str
        Hex digest of weights, classes and everything else that changes results; a run can be
        resumed only with the same identity.
    classes : TissueClasses
        Output channel `i` is class `i`, mask id `i + 1`.
    mpp : float
        Micrometers per pixel of its input.
    mask_stride : int
        Side of an output pixel in input pixels.
    alignment : int
        Position and size of an image must be multiples of this many pixels of the slide at `mpp`,
        so that strided layers see the same grid in every tiling.
    halo : int
        Input pixels around a tile whose outputs are trimmed; a multiple of `alignment`.
    """

    name: str
    identity: str
    classes: TissueClasses
    mpp: float
    mask_stride: int
    alignment: int
    halo: int

    def to(self, device: torch.device) -> Self:
        """Move the weights and return self."""

    def adapted_to(self, tissue_pixels: NDArray[np.uint8]) -> Self:
        """Return a model adapted to a slide's stain from (N, 3) pixels of its tissue, or self."""

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Return class probabilities.

        Parameters
        ----------
        images : Tensor of uint8, shape (B, H, W, 3)
            RGB, on the model's device; H and W multiples of `alignment`.

        Returns
        -------
        Tensor of float32, shape (B, C, H / mask_stride, W / mask_stride)
            In [0, 1], summing to 1 over the classes.
        """
