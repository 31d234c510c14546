"""The class gate: suppress classes that an image-level score finds absent around a position.

A segmentation network that is also trained on tags is an image-level classifier: the score of
a class in a window is the smooth maximum of its log-odds over the window. The gate computes this
score for the field around every position and has no weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


SHARPNESS = 4.0
"""Of the smooth maximum, per logit: the score of a class that fills a twentieth of a window is
log(20) / 4 = 0.75 below that of a class that fills it."""
ALWAYS = -1000.0
"""A threshold that every score passes."""
_LARGEST_FIELD = 100_000.0


@dataclass(frozen=True)
class ClassGate:
    """The score that a class needs around a position to be allowed there.

    Parameters
    ----------
    field_um : float
        Side of the square field around a position in um, as large as the tagged windows.
    thresholds : tuple of float
        Log-odds, one per tissue class. Background is never suppressed.
    """

    field_um: float
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.thresholds)
        object.__setattr__(self, "thresholds", values)
        object.__setattr__(self, "field_um", float(self.field_um))
        if not 0 < self.field_um <= _LARGEST_FIELD:
            raise ModelError(f"its gate's field of {self.field_um} um is impossible")
        if not values or not all(math.isfinite(value) for value in values):
            raise ModelError(f"its gate's thresholds {list(values)} are impossible")

    @classmethod
    def from_dict(cls, data: Any) -> ClassGate:
        """Read the output of `to_dict`.

        Raises
        ------
        ModelError
            When an entry is missing or not a number.
        """
        try:
            return cls(float(data["field_um"]), tuple(data["thresholds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"its gate is incomplete ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model file's header."""
        return {"field_um": self.field_um, "thresholds": list(self.thresholds)}

    def cells(self, mpp: float, stride: int) -> int:
        """Return the side of the field in cells, an odd number.

        Parameters
        ----------
        mpp : float
            Micrometers per image pixel.
        stride : int
            Image pixels per cell.
        """
        return 2 * round((self.field_um / mpp / stride - 1) / 2) + 1

    def seen(self, logits: Tensor, cells: int) -> Tensor:
        """Return 1 where a class passes its threshold, and 0 elsewhere.

        Where no class passes and there is no background, the class nearest to its threshold does.

        Parameters
        ----------
        logits : Tensor of float, shape (B, C, h, w)
            Tissue classes first.
        cells : int
            Side of the field, odd; it is cropped at the border of the maps.

        Returns
        -------
        Tensor of float, shape (B, C, h, w)
        """
        tissue = len(self.thresholds)
        scores = local_smooth_max(log_odds(logits.float())[:, :tissue], cells)
        over = scores - scores.new_tensor(self.thresholds).view(-1, 1, 1)
        passed = over >= 0
        if tissue == logits.shape[1]:
            passed |= ~passed.any(1, keepdim=True) & (over == over.amax(1, keepdim=True))
        seen = logits.new_ones(logits.shape)
        seen[:, :tissue] = passed.to(seen.dtype)
        return seen


def gated(logits: Tensor, seen: Tensor) -> Tensor:
    """Return logits with minus infinity where a class is suppressed.

    Parameters
    ----------
    logits : Tensor of float, shape (B, C, h, w)
    seen : Tensor of float, shape (B, C, h, w)
        Weighted share of the windows over a position in which the class passed (`seen`). A class
        is allowed where at least half of them agree; where no class reaches that, the one with
        the largest share is.
    """
    allowed = seen >= seen.amax(1, keepdim=True).clamp(max=0.5)
    return logits.masked_fill(~allowed, -math.inf)


def log_odds(logits: Tensor) -> Tensor:
    """Return the log-odds of each class against all others, in the shape (..., C, h, w)."""
    import torch

    count = logits.shape[-3]
    if count == 1:
        return logits
    each = logits.unbind(-3)
    rest = [
        torch.stack([*each[:k], *each[k + 1 :]], -3).logsumexp(-3, keepdim=True)
        for k in range(count)
    ]
    return logits - torch.cat(rest, -3)


def local_smooth_max(maps: Tensor, cells: int, sharpness: float = SHARPNESS) -> Tensor:
    """Return `log(mean(exp(r z))) / r` over the square field around each position.

    Parameters
    ----------
    maps : Tensor of float, shape (B, C, h, w)
    cells : int
        Side of the field, odd; only cells inside the maps count.
    sharpness : float

    Returns
    -------
    Tensor of float, shape (B, C, h, w)
    """
    import torch
    from torch.nn import functional

    # a value may be so far below the peak that exp() is zero in single precision
    wide = maps if maps.device.type == "mps" else maps.double()
    peak = wide.amax((2, 3), keepdim=True)
    mean = (sharpness * (wide - peak)).exp()
    for axis in (2, 3):
        side = min(cells, 2 * mean.shape[axis] - 1)  # a larger field has no more cells
        kernel, pad = [1, 1], [0, 0]
        kernel[axis - 2], pad[axis - 2] = side, side // 2
        mean = functional.avg_pool2d(mean, kernel, 1, pad, count_include_pad=False)
    found = mean.clamp_min(torch.finfo(mean.dtype).tiny).log() / sharpness + peak
    return found.to(maps.dtype)
