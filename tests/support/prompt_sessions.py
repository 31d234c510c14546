"""A model for hints whose answers can be told beforehand: it finds what is dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_plimseg.models.promptable.dual_decoder import DualMasks, Encoded

if TYPE_CHECKING:
    from napari_plimseg.models.promptable.prompt_tensors import PatchHints

SIDE = 256


class DarkModel(nn.Module):
    """Stands for a `WsiSam`: dark pixels are the object, at a quarter of the resolution.

    Negative points take away a square of 24 pixels around them, and a mask to refine is added.
    """

    def __init__(self, mpp: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.weights_name = "finds what is dark"
        self.identity = self.encoder_identity = "dark"
        self.mpp, self.side = mpp, SIDE
        self.encoded = 0
        self.seen: list[PatchHints] = []

    def encode(self, images: Tensor) -> Encoded:
        self.encoded += 1
        return Encoded(F.avg_pool2d(images, 16), F.avg_pool2d(images.mean(1, keepdim=True), 4))

    def decode(
        self, hr: Encoded, lr: Encoded, hints: list[PatchHints], lr_masks: list[object]
    ) -> DualMasks:
        self.seen += hints
        logits = 10 * (0.5 - hr.early)  # (B, 1, 64, 64)
        logits = logits.clone()
        for index, hint in enumerate(hints):
            if hint.mask is not None:
                known = F.interpolate(torch.from_numpy(hint.mask)[None, None], logits.shape[2:])
                logits[index] = torch.maximum(logits[index], known[0])
            for y, x, positive in hint.points:
                if not positive:
                    row, column = int(y / 4), int(x / 4)
                    logits[
                        index, :, max(0, row - 3) : row + 3, max(0, column - 3) : column + 3
                    ] = -9
        return DualMasks(logits, None, torch.full((len(hints),), 0.75))
