"""Points, boxes and masks as tensors; SAM's prompts are called hints here and in files.

Coordinates are continuous (y, x) in pixels of the patch: (0, 0) is its upper left and (side, side)
its lower right corner, so the center of pixel (row, column) is (row + 0.5, column + 0.5). A box
ends at the far edge of its last pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray
    from torch import Tensor


ABSENT, NO_POINT, NEGATIVE, POSITIVE, BOX_START, BOX_END = -2, -1, 0, 1, 2, 3
"""Kinds of points. SAM adds a `NO_POINT` if there is no box; `ABSENT` is padding, which is never
attended to."""
SURE = 8.0
"""Logit of a certain pixel in a mask that is given as a hint."""
DRAWN_STEP = 4
"""Pixels of the patch per pixel of a drawing of the hints."""
DRAWN_RADIUS = 10.0
"""Of a drawn point, in pixels of the HR patch."""


@dataclass(frozen=True)
class PatchHints:
    """The hints for one object, in pixels of one patch.

    Parameters
    ----------
    points : tuple of (float, float, bool)
        (y, x, positive); positive points are inside the object, others outside.
    boxes : tuple of (float, float, float, float)
        (y0, x0, y1, x1), tightly around the object.
    mask : ndarray of float, shape (H, W), optional
        Logits of a mask to refine, over the whole patch at any resolution; see `logits_of`.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    mask: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        object.__setattr__(self, "boxes", tuple(self.boxes))
        if not self.points and not self.boxes and self.mask is None:
            raise ValueError("hints without a point, a box or a mask")
        numbers = [*(v for p in self.points for v in p[:2]), *(v for b in self.boxes for v in b)]
        if not np.isfinite(numbers).all():
            raise ValueError(f"hints at {numbers}")
        for y0, x0, y1, x1 in self.boxes:
            if not (y0 < y1 and x0 < x1):
                raise ValueError(f"the box {(y0, x0, y1, x1)} is empty")
        if self.mask is not None and self.mask.ndim != 2:
            raise ValueError(f"a mask of shape {self.mask.shape}")

    def at_half_scale(self, side: int, mask: NDArray[np.float32] | None = None) -> PatchHints:
        """Return the same hints in the patch with the same center and twice the field.

        Parameters
        ----------
        side : int
            Of both patches, in pixels.
        mask : ndarray of float, shape (H, W), optional
            Logits of the mask to refine, over the patch with twice the field. When None, the
            hints' own mask is used, and what is outside of the smaller patch counts as unknown.
        """
        if mask is None and self.mask is not None:
            mask = half_scaled(self.mask)
        points = tuple((y / 2 + side / 4, x / 2 + side / 4, sign) for y, x, sign in self.points)
        y0x0y1x1 = (tuple(v / 2 + side / 4 for v in box) for box in self.boxes)
        boxes = tuple((y0, x0, y1, x1) for y0, x0, y1, x1 in y0x0y1x1)
        return replace(self, points=points, boxes=boxes, mask=mask)

    def drawn(self, side: int, radius: float) -> PatchHints:
        """Return the same hints, also drawn into the mask.

        A small decoder learns much faster from a drawing than from tokens. Points become discs.
        A box becomes a hill with its maximum in the middle and 0 on the largest ellipse inside,
        because most objects are round; outside of the boxes is certainly not the object. They are
        drawn on the mask to refine, or on an unknown one.

        Parameters
        ----------
        side : int
            Of the patch, in pixels.
        radius : float
            Of the discs, in pixels.
        """
        cells = side // DRAWN_STEP
        middle = (np.arange(cells) + 0.5) * DRAWN_STEP
        if self.mask is not None:
            logits = _resized(self.mask, cells)
        else:
            logits = np.full((cells, cells), -SURE if self.boxes else 0, np.float32)
            for y0, x0, y1, x1 in self.boxes:
                v, u = ((2 * middle - a - b) / (b - a) for a, b in ((y0, y1), (x0, x1)))
                inside = np.logical_and.outer(np.abs(v) < 1, np.abs(u) < 1)
                oval = SURE * (1 - np.add.outer(v**2, u**2)).astype(np.float32)
                logits[inside] = np.maximum(logits, oval)[inside]
        for y, x, positive in self.points:
            near = np.hypot((middle - y)[:, None], middle - x) <= max(radius, DRAWN_STEP)
            logits[near] = 2 * SURE if positive else -2 * SURE
        return replace(self, mask=logits)


def _resized(mask: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    whole = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
    resized = torch.nn.functional.interpolate(
        whole, (cells, cells), mode="bilinear", align_corners=False, antialias=True
    )
    found: NDArray[np.float32] = resized[0, 0].numpy()
    return found


def logits_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the logits of a mask that is certain, (H, W)."""
    return np.where(mask, SURE, -SURE).astype(np.float32)


def half_scaled(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits (H, W) in the patch with twice the field; 0 (unknown) around its middle."""
    height, width = logits.shape
    small = resized(logits, (height // 2, width // 2))
    found = np.zeros_like(logits, dtype=np.float32)
    y, x = height // 4, width // 4
    found[y : y + height // 2, x : x + width // 2] = small
    return found


def resized(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return logits interpolated to another size, with averaging if it is coarser."""
    maps = torch.from_numpy(np.ascontiguousarray(logits, np.float32))[None, None]
    found = F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)
    return found[0, 0].numpy()


@dataclass(frozen=True)
class HintTensors:
    """The hints of a batch of patches, one object per patch.

    Parameters
    ----------
    points : Tensor of float, shape (B, K, 2)
        (y, x).
    kinds : Tensor of int64, shape (B, K)
        `POSITIVE`, `BOX_START`, ...
    masks : Tensor of float, shape (B, 1, 4 h, 4 w), optional
        Logits to refine, at a quarter of the encoder's cell size.
    has_mask : Tensor of bool, shape (B,), optional
        Which patches have a mask; all when None.
    """

    points: Tensor
    kinds: Tensor
    masks: Tensor | None = None
    has_mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.points.shape != (*self.kinds.shape, 2) or self.kinds.ndim != 2:
            raise ValueError(
                f"points {tuple(self.points.shape)} of kinds {tuple(self.kinds.shape)}"
            )
        if self.masks is not None and self.masks.shape[:2] != (len(self.kinds), 1):
            raise ValueError(f"masks {tuple(self.masks.shape)} of {len(self.kinds)} patches")

    def __len__(self) -> int:
        return len(self.kinds)

    @classmethod
    def of(cls, patches: Sequence[PatchHints], grid: tuple[int, int]) -> Self:
        """Build a batch.

        Parameters
        ----------
        patches : sequence of PatchHints
        grid : (int, int)
            Cells (h, w) of the encoder's map; masks are resized to four times that.
        """
        rows = [_rows(hints) for hints in patches]
        longest = max(len(row) for row in rows)
        points = torch.zeros(len(rows), longest, 2)
        kinds = torch.full((len(rows), longest), ABSENT)
        for index, row in enumerate(rows):
            for place, (y, x, kind) in enumerate(row):
                points[index, place] = torch.tensor((y, x))
                kinds[index, place] = kind
        if all(hints.mask is None for hints in patches):
            return cls(points, kinds)
        size = (4 * grid[0], 4 * grid[1])
        masks = torch.zeros(len(rows), 1, *size)
        for index, hints in enumerate(patches):
            if hints.mask is not None:
                masks[index, 0] = torch.from_numpy(resized(hints.mask, size))
        has_mask = torch.tensor([hints.mask is not None for hints in patches])
        return cls(points, kinds, masks, has_mask)

    def to(self, device: torch.device | str) -> HintTensors:
        """Return them on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        has_mask = None if self.has_mask is None else self.has_mask.to(device)
        return HintTensors(self.points.to(device), self.kinds.to(device), masks, has_mask)


def _rows(hints: PatchHints) -> list[tuple[float, float, int]]:
    """Return points (y, x, kind) in SAM's order: points, then the corners of boxes."""
    rows = [(y, x, POSITIVE if positive else NEGATIVE) for y, x, positive in hints.points]
    if not hints.boxes:
        rows.append((0.0, 0.0, NO_POINT))
    for y0, x0, y1, x1 in hints.boxes:
        rows += [(y0, x0, BOX_START), (y1, x1, BOX_END)]
    return rows


GUIDES = 2
"""Number of similarity maps: of the final and of the early map."""
_LEAST = 1e-3  # keeps the prototype at zero when there are no hints of a sign


def guided(final: Tensor, early: Tensor, drawn: Tensor) -> Tensor:
    """Return drawn hints and the similarity of the image to them, as channels.

    Parameters
    ----------
    final : Tensor, shape (B, D, h, w)
    early : Tensor, shape (B, C, s h, s w)
        Maps of the image encoder.
    drawn : Tensor, shape (B, 1, 4 h, 4 w)
        Hints drawn as logits (`PatchHints.drawn`).

    Returns
    -------
    Tensor, shape (B, 1 + GUIDES, 4 h, 4 w)
        The drawing, with 1 for a certain pixel, and two maps in [-2, 2].
    """
    size = drawn.shape[2:]
    alike = [
        F.interpolate(likeness(maps, drawn), size, mode="bilinear", align_corners=False)
        for maps in (final, early)
    ]
    return torch.cat((drawn / SURE, *alike), 1)


def likeness(maps: Tensor, drawn: Tensor) -> Tensor:
    """Return the cosine to the mean inside the hints minus the cosine to the mean outside.

    Parameters
    ----------
    maps : Tensor, shape (B, D, h, w)
        The mean of each patch is subtracted first, because all positions share it.
    drawn : Tensor, shape (B, 1, H, W)
        Logits; positive values are weights for inside, negative ones for outside.

    Returns
    -------
    Tensor, shape (B, 1, h, w)
    """
    weights = F.interpolate(drawn, maps.shape[2:], mode="area")
    unit = F.normalize(maps - maps.mean((2, 3), keepdim=True), dim=1)
    alike = unit.new_zeros(weights.shape)
    for sign in (1, -1):
        share = (sign * weights).relu()  # (B, 1, h, w)
        total = share.sum((2, 3), keepdim=True) + _LEAST
        prototype = (unit * share).sum((2, 3), keepdim=True) / total  # (B, D, 1, 1)
        prototype = F.normalize(prototype, dim=1, eps=_LEAST)
        alike = alike + sign * (unit * prototype).sum(1, keepdim=True)
    return alike
