"""WSI-SAM (Liu et al. 2024): a mask from points and boxes, at two resolutions of one field.

The HR patch is located around the hints. The LR patch has the same center, the same number of
pixels and twice the field. One frozen encoder sees both, and two decoders share their object
tokens.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from napari_plimseg.errors import ModelError
from napari_plimseg.models.promptable.dual_decoder import (
    RESOLUTIONS,
    DualDecoder,
    DualMasks,
    Encoded,
)
from napari_plimseg.models.promptable.sam_decoder import DecoderShape
from napari_plimseg.models.promptable.sam_encoders import BackboneEncoder
from napari_plimseg.models.weights import check_weights, weights_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.models.promptable.prompt_tensors import PatchHints
    from napari_plimseg.models.promptable.sam_encoders import PatchEncoder
    from napari_plimseg.models.promptable.sam_weights import SamWeights


_RESULT_VERSION = 1
_FROZEN = "encoder.backbone."


class WsiSam(nn.Module):
    """Image encoder and dual decoder.

    Parameters
    ----------
    encoder : PatchEncoder
    decoder : DualDecoder
        Its sizes have to match the encoder.
    weights_name : str
        For people. "" for an untrained network, which refuses to segment; training calls
        `encoder` and `decoder` directly.
    source : str
        Where the pretrained part was loaded from: a name for `load_sam` or `load_backbone`.
    source_digest : str
        Digest of the pretrained part; another one is refused later.
    mpp : float
        Micrometers per pixel of the HR patches in training.
    draws_hints : bool
        Whether the decoder was trained with boxes and points also drawn into the mask
        (`PatchHints.drawn`).
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        decoder: DualDecoder,
        *,
        weights_name: str = "",
        source: str = "",
        source_digest: str = "",
        mpp: float = 1.0,
        draws_hints: bool = False,
    ) -> None:
        super().__init__()
        shape = decoder.shape
        wanted = (encoder.embed_dim, encoder.early_channels, encoder.early_scale)
        if wanted != (shape.embed_dim, shape.early_channels, shape.early_scale):
            raise ModelError("its decoder is made for another image encoder")
        self.encoder = encoder
        self.decoder = decoder
        self.weights_name = weights_name
        self.source, self.source_digest = source, source_digest
        self.mpp = mpp
        self.draws_hints = draws_hints

    @classmethod
    def on_sam(
        cls, sam: SamWeights, *, resolutions: tuple[str, ...] = RESOLUTIONS, source: str = ""
    ) -> Self:
        """Build on a pretrained SAM: it starts with SAM's masks, and only new parts are trained.

        The token and fusion of SAM-HQ are used if there are any.

        Parameters
        ----------
        sam : SamWeights
        resolutions : tuple of str
            See `DualDecoder`.
        source : str
            Its name for `load_sam`.

        Raises
        ------
        ModelError
            When a part's weights don't fit.
        """
        decoder = DualDecoder(sam.shape, resolutions).starting_as_sam()
        _load(decoder.hint_encoder, sam.hint_encoder, sam.name)
        for index, branch in enumerate(decoder.by_resolution.values()):
            _load(branch.sam, sam.decoder, sam.name)
            if not sam.added:
                continue
            own = {k: v for k, v in branch.state_dict().items() if not k.startswith("sam.")}
            check_weights(sam.added, own, path=sam.name)
            # tokens are summed over the branches: with one of them at zero, the sum is SAM-HQ's
            silent = index > 0
            branch.load_state_dict(
                {k: v for k, v in sam.added.items() if not (silent and "proj_out" in k)},
                strict=False,
            )
        return cls(
            sam.encoder,
            decoder.frozen_but_new(),
            weights_name=f"{sam.name}, not trained at two resolutions yet",
            source=source or sam.name,
            source_digest=sam.digest,
        ).eval()

    @property
    def side(self) -> int:
        """Side of both patches, in pixels."""
        return self.encoder.side

    @property
    def resolutions(self) -> tuple[str, ...]:
        """Which patches it uses: "hr" and "lr", or one of them."""
        return self.decoder.resolutions

    @functools.cached_property
    def encoder_identity(self) -> str:
        """Hex digest of everything that changes the output of `encode`; computed on first use."""
        return _digest(_RESULT_VERSION, self.encoder.spec(), weights_digest(self.encoder))

    @functools.cached_property
    def identity(self) -> str:
        """Hex digest of everything that changes a mask; computed on first use."""
        return _digest(
            self.encoder_identity, self.decoder.shape.to_dict(), self.resolutions,
            self.draws_hints, weights_digest(self.decoder),
        )  # fmt: skip

    @property
    def weights_digest(self) -> str:
        """Digest of the weights that the pretrained part was loaded from."""
        if isinstance(self.encoder, BackboneEncoder):
            return self.encoder.backbone.digest
        return self.source_digest

    def own_names(self) -> set[str]:
        """Return the names of the trainable tensors, which its source doesn't have.

        With a SAM these are the parts added by WSI-SAM, with a backbone all but the backbone.
        """
        if isinstance(self.encoder, BackboneEncoder):
            return {name for name in self.state_dict() if not name.startswith(_FROZEN)}
        new = {id(parameter) for parameter in self.decoder.new_parameters()}
        return {name for name, parameter in self.named_parameters() if id(parameter) in new}

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the trainable weights."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def encode(self, images: Tensor) -> Encoded:
        """Encode RGB patches (B, 3, side, side) in [0, 1]; the slow part.

        Raises
        ------
        ModelError
            When the network was never trained.
        """
        self._refuse_random_weights()
        encoded: Encoded = self.encoder(images)
        return encoded

    def decode(
        self,
        hr: Encoded,
        lr: Encoded,
        hints: Sequence[PatchHints],
        lr_masks: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> DualMasks:
        """Return the masks of hints in encoded patches; the fast part.

        Parameters
        ----------
        hr, lr : Encoded
            One patch per object; `Encoded.expanded` repeats a patch.
        hints : sequence of PatchHints
            One per object, in pixels of the HR patch.
        lr_masks : sequence of ndarray, optional
            Logits of the masks to refine for the LR patches, if the hints have masks; otherwise
            they count as unknown outside of the HR patches.

        Raises
        ------
        ModelError
            When the network was never trained.
        """
        self._refuse_random_weights()
        return self.masks_of(hr, lr, hints, lr_masks)

    def masks_of(
        self,
        hr: Encoded | None,
        lr: Encoded | None,
        hints: Sequence[PatchHints],
        lr_masks: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> DualMasks:
        """Do what `decode` does, also with untrained weights, for training.

        A resolution that the decoder lacks may be None.
        """
        return self.decoder.masks_of(
            hr, lr, hints, lr_masks, side=self.side, draws_hints=self.draws_hints
        )

    def forward(
        self, hr_images: Tensor, lr_images: Tensor, hints: Sequence[PatchHints]
    ) -> DualMasks:
        """Return HR and LR masks of one object per pair of patches.

        Parameters
        ----------
        hr_images, lr_images : Tensor of float, shape (B, 3, side, side)
            RGB in [0, 1], with the same centers; LR covers twice the field.
        hints : sequence of PatchHints
            B of them, in pixels of the HR patches.

        Returns
        -------
        DualMasks
            4 x 4 logits per cell of the encoder (256 x 256 for SAM); `of_patch` resizes them to
            the patch.
        """
        return self.decode(self.encode(hr_images), self.encode(lr_images), hints)

    def _refuse_random_weights(self) -> None:
        if not self.weights_name:
            raise ModelError(
                "the promptable model is untrained, and its masks would mean nothing",
                remedy="Choose a trained model, or a SAM's weights.",
            )


def on_backbone(
    encoder: BackboneEncoder,
    *,
    source: str,
    resolutions: tuple[str, ...] = RESOLUTIONS,
    **sizes: int,
) -> WsiSam:
    """Return an untrained `WsiSam` on a frozen backbone.

    Parameters
    ----------
    encoder : BackboneEncoder
    source : str
        The backbone's name for `load_backbone`.
    resolutions : tuple of str
        See `DualDecoder`.
    **sizes
        Of `DecoderShape`: `heads`, `depth`, `mlp_dim`, `more_masks`.
    """
    shape = DecoderShape(
        early_channels=encoder.early_channels, embed_dim=encoder.embed_dim,
        early_scale=encoder.early_scale, **sizes,
    )  # fmt: skip
    return WsiSam(
        encoder, DualDecoder(shape, resolutions), source=source,
        source_digest=encoder.backbone.identity,
    )  # fmt: skip


def _digest(*settings: object) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _load(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    check_weights(tensors, module.state_dict(), path=name)
    module.load_state_dict(dict(tensors))
