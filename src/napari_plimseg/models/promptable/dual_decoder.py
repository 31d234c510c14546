"""WSI-SAM's dual decoder (Liu et al. 2024): two resolutions of one field share their tokens.

The HR and the LR patch have the same center and the same number of pixels; LR covers twice the
field. Each has a full copy of SAM's mask decoder with an additional token, and light feature
fusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models.promptable.prompt_tensors import DRAWN_RADIUS, HintTensors, guided
from napari_plimseg.models.promptable.sam_decoder import (
    DecoderShape,
    HintEncoder,
    LayerNorm2d,
    Mlp,
    SamDecoder,
    masked,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.models.promptable.prompt_tensors import PatchHints
    from napari_plimseg.models.promptable.sam_decoder import Decoded, HintEmbedding


RESOLUTIONS = ("hr", "lr")
DRAWN_WEIGHT = 0.25
"""Of a drawing's logits in a mask: what is certain in the drawing becomes likely, so that the image
can overrule it."""


@dataclass(frozen=True)
class Encoded:
    """The output of an image encoder for a batch of patches.

    Parameters
    ----------
    final : Tensor, shape (B, D, h, w)
    early : Tensor, shape (B, C, s h, s w)
        With s the decoder's `early_scale`.
    """

    final: Tensor
    early: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (h, w) of the final map."""
        height, width = self.final.shape[2:]
        return height, width

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype) -> Encoded:
        """Return both maps on a device, in a type; half precision is enough for a cache."""
        return Encoded(
            self.final.to(device=device, dtype=dtype), self.early.to(device=device, dtype=dtype)
        )

    def expanded(self, count: int) -> Encoded:
        """Return one patch `count` times without copying it, for several objects in it."""
        return Encoded(self.final.expand(count, -1, -1, -1), self.early.expand(count, -1, -1, -1))


@dataclass(frozen=True)
class DualMasks:
    """Mask logits of a batch, four times as fine as the encoder's cells.

    Parameters
    ----------
    hr, lr : Tensor, shape (B, 1, 4 h, 4 w), or None
        Of the HR and the LR patch; the object is above 0. None if the decoder lacks that
        resolution.
    quality : Tensor, shape (B,)
        The IoU that SAM's own head predicts for the finer of them.
    """

    hr: Tensor | None
    lr: Tensor | None
    quality: Tensor

    @property
    def by_name(self) -> dict[str, Tensor]:
        """The masks that exist, by "hr" and "lr"."""
        return {n: m for n, m in (("hr", self.hr), ("lr", self.lr)) if m is not None}

    def of_patch(self, side: int) -> Tensor:
        """Return logits of the HR patch, (B, 1, side, side); without HR from the middle of LR."""
        logits = self.hr if self.hr is not None else middle(self.lr)
        return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)

    def upon(self, hr: HintTensors, lr: HintTensors) -> DualMasks:
        """Return the masks added to the drawings of the hints (`PatchHints.drawn`)."""
        return DualMasks(_upon(self.hr, hr), _upon(self.lr, lr), self.quality)


def _upon(logits: Tensor | None, hints: HintTensors) -> Tensor | None:
    if logits is None or hints.masks is None:
        return logits
    return logits + DRAWN_WEIGHT * hints.masks


def middle(maps: Tensor | None) -> Tensor:
    """Return the middle half (B, C, H / 2, W / 2) of LR maps: the field of the HR patch."""
    if maps is None:
        raise ValueError("there are no maps of either resolution")
    height, width = maps.shape[2:]
    return maps[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]


class _UpTwice(nn.Sequential):
    """Upscale maps (B, C, h, w) to (B, D / 8, 4 h, 4 w); for a finer map with fewer upscalings."""

    def __init__(self, channels: int, hidden: int, out: int, scale: int = 1) -> None:
        first = nn.ConvTranspose2d if scale == 1 else nn.Conv2d
        second = nn.ConvTranspose2d if scale <= 2 else nn.Conv2d
        super().__init__(
            first(channels, hidden, *((2, 2) if scale == 1 else (1, 1))),
            LayerNorm2d(hidden),
            nn.GELU(),
            second(hidden, out, *((2, 2) if scale <= 2 else (1, 1))),
        )


class Fusion(nn.Module):
    """Light feature fusion: final map + early map + SAM's upscaled map with its guides."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        width, quarter, eighth = shape.embed_dim, shape.embed_dim // 4, shape.embed_dim // 8
        beside = 1 + shape.guides if shape.guides else 0
        self.final = _UpTwice(width, quarter, eighth)
        self.early = _UpTwice(shape.early_channels, width, eighth, shape.early_scale)
        self.upscaled = nn.Sequential(
            nn.Conv2d(eighth + beside, quarter, 3, padding=1),
            LayerNorm2d(quarter),
            nn.GELU(),
            nn.Conv2d(quarter, eighth, 3, padding=1),
        )

    def forward(self, encoded: Encoded, upscaled: Tensor, guided: Tensor | None = None) -> Tensor:
        """Return features (B, D / 8, 4 h, 4 w)."""
        if guided is not None:
            upscaled = torch.cat((upscaled, guided), 1)
        fused: Tensor = (
            self.final(encoded.final) + self.early(encoded.early) + self.upscaled(upscaled)
        )
        return fused


class Branch(nn.Module):
    """One resolution: SAM's decoder and the parts that WSI-SAM adds.

    Parameters
    ----------
    shape : DecoderShape
    """

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.sam = SamDecoder(shape)
        self.token = nn.Embedding(1, shape.embed_dim)
        self.token_mlp = Mlp(shape.embed_dim, shape.embed_dim, shape.embed_dim // 8)
        self.fusion = Fusion(shape)

    def decode(self, encoded: Encoded, positions: Tensor, hints: HintEmbedding) -> Decoded:
        """Return the output of SAM's decoder with the token of this resolution."""
        decoded: Decoded = self.sam(encoded.final, positions, hints, self.token.weight)
        return decoded

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that WSI-SAM adds."""
        for part in (self.token, self.token_mlp, self.fusion):
            yield from part.parameters()


class DualDecoder(nn.Module):
    """Prompt encoder and both branches.

    Parameters
    ----------
    shape : DecoderShape
        Sizes; the encoder's maps must fit it.
    resolutions : tuple of str
        ("hr", "lr"), or only one of them as an ablation; "hr" alone is HQ-SAM.
    """

    def __init__(self, shape: DecoderShape, resolutions: tuple[str, ...] = RESOLUTIONS) -> None:
        super().__init__()
        if not resolutions or any(name not in RESOLUTIONS for name in resolutions):
            raise ValueError(f"resolutions {resolutions}")
        self.shape = shape
        self.resolutions = tuple(name for name in RESOLUTIONS if name in resolutions)
        self.hint_encoder = HintEncoder(shape.embed_dim, shape.guides)
        self.branches = nn.ModuleDict({name: Branch(shape) for name in self.resolutions})

    def forward(
        self,
        hr: Encoded | None,
        lr: Encoded | None,
        hr_hints: HintTensors | None,
        lr_hints: HintTensors | None,
        side: int,
    ) -> DualMasks:
        """Decode the hints of a batch; arguments of a missing resolution are ignored.

        Parameters
        ----------
        hr, lr : Encoded
            Of the HR and the LR patches.
        hr_hints, lr_hints : HintTensors
            The same hints in pixels of each; see `PatchHints.at_half_scale`.
        side : int
            Of the patches, in pixels.
        """
        given = {"hr": (hr, hr_hints), "lr": (lr, lr_hints)}
        decoded: dict[str, tuple[Encoded, Decoded]] = {}
        guides: dict[str, Tensor | None] = {}
        for name, branch in self.by_resolution.items():
            encoded, hints = given[name]
            if encoded is None or hints is None:
                raise ValueError(f"the {name} patch or its hints are missing")
            guides[name] = self._guided(encoded, hints)
            embedded = self.hint_encoder(hints, side, encoded.grid, guides[name])
            positions = self.hint_encoder.positions(encoded.grid)
            decoded[name] = encoded, branch.decode(encoded, positions, embedded)

        # token aggregation: both masks use what each resolution has found out about the object
        tokens = [
            branch.token_mlp(decoded[name][1].token) for name, branch in self.by_resolution.items()
        ]
        token = tokens[0] if len(tokens) == 1 else tokens[0] + tokens[1]  # (B, D / 8)
        masks: dict[str, Tensor] = {}
        for name, branch in self.by_resolution.items():
            encoded, own = decoded[name]
            masks[name] = (
                masked(token, branch.fusion(encoded, own.upscaled, guides[name])) + own.mask
            )
        finest = decoded[self.resolutions[0]][1]
        return DualMasks(masks.get("hr"), masks.get("lr"), finest.quality)

    def masks_of(
        self,
        hr: Encoded | None,
        lr: Encoded | None,
        hints: Sequence[PatchHints],
        lr_masks: Sequence[NDArray[np.float32] | None] | None = None,
        *,
        side: int,
        draws_hints: bool,
    ) -> DualMasks:
        """Return the masks of hints, trained or not.

        Parameters
        ----------
        hr, lr : Encoded
            One patch per object; None for a resolution that the decoder lacks.
        hints : sequence of PatchHints
            One per object, in pixels of the HR patch.
        lr_masks : sequence of ndarray, optional
            Logits of the masks to refine for the LR patches; see `PatchHints.at_half_scale`.
        side : int
            Of the patches, in pixels.
        draws_hints : bool
            Whether boxes and points are also drawn into the masks; see `PatchHints.drawn`.
        """
        encoded = hr if hr is not None else lr
        if encoded is None:
            raise ValueError("there are no maps of either resolution")
        masks = lr_masks or [None] * len(hints)
        coarse = [h.at_half_scale(side, m) for h, m in zip(hints, masks, strict=True)]
        if draws_hints:
            hints = [h.drawn(side, DRAWN_RADIUS) for h in hints]
            coarse = [h.drawn(side, DRAWN_RADIUS / 2) for h in coarse]
        fine, half = (
            HintTensors.of(given, encoded.grid).to(encoded.final.device)
            for given in (hints, coarse)
        )
        decoded: DualMasks = self(hr, lr, fine, half, side)
        return decoded.upon(fine, half) if draws_hints else decoded

    def _guided(self, encoded: Encoded, hints: HintTensors) -> Tensor | None:
        if not self.shape.guides:
            return None
        if hints.masks is None or hints.has_mask is None or not hints.has_mask.all():
            raise ValueError("guides need hints that are drawn")
        return guided(encoded.final, encoded.early, hints.masks)

    @property
    def by_resolution(self) -> dict[str, Branch]:
        """The branches by "hr" and "lr"."""
        return cast("dict[str, Branch]", dict(self.branches.items()))

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters added to SAM: tokens, their MLPs and the fusions."""
        return [p for branch in self.by_resolution.values() for p in branch.new_parameters()]

    def frozen_but_new(self) -> Self:
        """Make only the parts trainable that WSI-SAM adds to SAM; return self."""
        self.requires_grad_(False)
        for parameter in self.new_parameters():
            parameter.requires_grad_(True)
        return self

    def starting_as_sam(self) -> Self:
        """Make the new parts contribute zero, so that masks are SAM's before training; return self.

        The authors start from random weights. With zeros in the last layer of each token's MLP, the
        sum of tokens is zero while its gradient is not. (The additional token still takes part in
        SAM's attention, as in SAM-HQ.)
        """
        for branch in self.by_resolution.values():
            nn.init.zeros_(branch.token_mlp.proj_out.weight)
            nn.init.zeros_(branch.token_mlp.proj_out.bias)
        return self
