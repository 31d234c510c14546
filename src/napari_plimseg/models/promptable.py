"""What hints ask of a model: two patches of pixels and a hint in, the object's mask out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_plimseg.models.sam_hints import PatchHints
    from napari_plimseg.models.wsi_sam_decoder import DualMasks, Encoded


@runtime_checkable
class PromptableModel(Protocol):
    """A model that finds the object that a person points at, from two patches of one place.

    HR patch and LR patch have the same centre and the same number of pixels; LR covers twice the
    field.

    Attributes
    ----------
    name : str
        What people read in the list of models.
    weights_name : str
        Which weights are loaded, for people; empty when there are none but random ones, and then
        nobody may use it.
    identity : str
        Hex digest of everything that changes results.
    encoder_identity : str
        Hex digest of everything that changes what `encode` gives.
    mpp : float
        Micrometres per pixel of the HR patch that it was made for.
    side : int
        Of a patch in pixels; a multiple of 4.
    """

    name: str
    weights_name: str
    identity: str
    encoder_identity: str
    mpp: float
    side: int

    def to(self, device: torch.device) -> PromptableModel:
        """Move the weights and return self."""

    def encode(self, pixels: torch.Tensor) -> Encoded:
        """Return the image maps of patches: uint8 RGB (B, side, side, 3)."""

    def decode(
        self,
        hr: Encoded,
        lr: Encoded,
        hr_hints: Sequence[PatchHints],
        lr_hints: Sequence[PatchHints],
    ) -> DualMasks:
        """Return the masks of one object a hint.

        Parameters
        ----------
        hr, lr : Encoded
            Of one place, batch 1, in which all the hints lie.
        hr_hints, lr_hints : sequence of PatchHints
            The same hints in pixels of either patch.
        """
