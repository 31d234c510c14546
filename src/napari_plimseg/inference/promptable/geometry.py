"""Hints in level-0 pixels, and the two patches of a slide around them: arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError
from napari_plimseg.models import SURE, PatchHints
from napari_plimseg.slides import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


LARGEST_SHARE = 0.8
"""Largest part of a patch's side that hints may span; otherwise a coarser pair is used."""
GRID = 64
"""Patches start at multiples of this in their own pixels, so that nearby clicks share one and its
embedding is computed once."""


@dataclass(frozen=True)
class HintMask:
    """The mask that answers hints, in pixels of a virtual level of the slide.

    Mask pixel `(i, j)` covers level-0 pixels `[(y + i) * downsample, (y + i + 1) * downsample)` in
    y, and likewise in x.

    Parameters
    ----------
    y, x : int
        Of the first row and column, in pixels of the virtual level; may be negative.
    downsample : float
        Level-0 pixels per mask pixel and side.
    mask : ndarray of bool, shape (h, w)
    score : float
        The overlap (IoU) with the true object that the model expects, in [0, 1].
    is_cut : bool
        Whether the object reaches a border of the patch where the slide continues: a coarser
        patch would show more of it.
    """

    y: int
    x: int
    downsample: float
    mask: NDArray[np.bool_] = field(repr=False)
    score: float
    is_cut: bool = False

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise ValueError(f"a mask of {self.mask.dtype} and shape {self.mask.shape}")
        if not self.downsample > 0:
            raise ValueError(f"a mask at downsample {self.downsample}")

    @property
    def region(self) -> Region:
        """Level-0 pixels that the array covers."""
        height, width = self.mask.shape
        scale = self.downsample
        return Region(self.y * scale, self.x * scale, height * scale, width * scale)

    @property
    def bounding_box(self) -> Region | None:
        """Level-0 pixels around the object; None when the mask is empty."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        if not len(rows):
            return None
        y, x = self.y + rows[0], self.x + columns[0]
        height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
        scale = self.downsample
        return Region(y * scale, x * scale, height * scale, width * scale)

    @property
    def area(self) -> float:
        """Area in level-0 pixels."""
        return float(self.mask.sum()) * self.downsample**2

    def at(self, y: NDArray[np.floating[Any]], x: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return which level-0 positions are inside, (len(y), len(x)); False outside the array."""
        rows = np.floor(y / self.downsample).astype(np.int64) - self.y
        columns = np.floor(x / self.downsample).astype(np.int64) - self.x
        known = [(v >= 0) & (v < n) for v, n in zip((rows, columns), self.mask.shape, strict=True)]
        inside = np.zeros((len(rows), len(columns)), np.bool_)
        inside[np.ix_(*known)] = self.mask[np.ix_(rows[known[0]], columns[known[1]])]
        return inside

    def redrawn(self, answer: HintMask, *, is_cut: bool = False) -> HintMask:
        """Return this mask, in its own pixels, updated by another one within that one's region.

        Parameters
        ----------
        answer : HintMask
            Replaces this mask in its `region`; its score is used.
        is_cut : bool
            Of the result.
        """
        scale, box = self.downsample, answer.bounding_box
        looked = answer.region
        spans, known = [], []
        for axis, first in enumerate((self.y, self.x)):
            stop = first + self.mask.shape[axis]
            if box is not None:
                start, length = ((box.y, box.height), (box.x, box.width))[axis]
                first = min(first, math.floor(start / scale))
                stop = max(stop, math.ceil((start + length) / scale))
            middles = (np.arange(first, stop) + 0.5) * scale
            start, length = ((looked.y, looked.height), (looked.x, looked.width))[axis]
            spans.append(middles)
            known.append(np.flatnonzero((middles >= start) & (middles < start + length)))
        mask = self.at(*spans)
        mask[np.ix_(*known)] = answer.at(*(m[k] for m, k in zip(spans, known, strict=True)))
        y, x = (round(middles[0] / scale - 0.5) for middles in spans)
        return HintMask(y, x, scale, mask, answer.score, is_cut)


@dataclass(frozen=True)
class Hint:
    """The points and boxes that a person placed on one object, in level-0 pixels.

    Parameters
    ----------
    points : tuple of (float, float, bool)
        (y, x, positive): inside the object, or outside when negative.
    boxes : tuple of Region
        Around the object. Several boxes are each around a part, and a positive point belongs to
        the nearest box.
    mask : HintMask, optional
        A mask to refine.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    boxes: tuple[Region, ...] = ()
    mask: HintMask | None = None

    def __post_init__(self) -> None:
        points = tuple((float(y), float(x), bool(sign)) for y, x, sign in self.points)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "boxes", tuple(self.boxes))
        corners = [v for b in self.boxes for v in (b.y, b.x, b.height, b.width)]
        if not np.isfinite([*(v for p in points for v in p[:2]), *corners]).all():
            raise ConfigError("a hint has no finite position", remedy="Place it on the slide.")
        empty = self.mask is None or self.mask.bounding_box is None
        if not self.boxes and empty and not any(sign for _, _, sign in points):
            raise ConfigError(
                "the hint has no positive point and no box",
                remedy="Click inside the object, or draw a box around it.",
            )

    @property
    def hull(self) -> Region:
        """The smallest region around positive points, boxes and mask; a point is one pixel."""
        corners = [(y, x, y + 1, x + 1) for y, x, sign in self.points if sign]
        mask_box = self.mask.bounding_box if self.mask is not None else None
        boxes = (*self.boxes, mask_box) if mask_box is not None else self.boxes
        return _around([*corners, *(_corners(box) for box in boxes)])

    @property
    def focus(self) -> Region:
        """The region to show: points and boxes when a mask is refined, else the hull.

        A mask alone is shown as a whole.
        """
        if self.mask is None or not (self.points or self.boxes):
            return self.hull
        corners = [(y, x, y + 1, x + 1) for y, x, _ in self.points]
        return _around([*corners, *(_corners(box) for box in self.boxes)])

    def parts(self) -> tuple[Hint, ...]:
        """Return hints with one box each, which together are equivalent to this one."""
        if len(self.boxes) <= 1:
            return (self,)
        of_box: list[list[tuple[float, float, bool]]] = [[] for _ in self.boxes]
        for y, x, positive in self.points:
            away = [_distance(box, y, x) for box in self.boxes]
            for index, own in enumerate(of_box):
                if not positive or index == away.index(min(away)):
                    own.append((y, x, positive))
        return tuple(
            Hint(tuple(points), (box,), self.mask)
            for points, box in zip(of_box, self.boxes, strict=True)
        )


@dataclass(frozen=True)
class PatchPair:
    """A fine patch (HR) and a coarse one (LR) with the same center and twice the field.

    Parameters
    ----------
    y, x : int
        Corner of the HR patch in pixels of its virtual level; multiples of `GRID`.
    downsample : float
        Level-0 pixels per HR pixel and side.
    side : int
        Pixels of either patch.
    """

    y: int
    x: int
    downsample: float
    side: int

    def __post_init__(self) -> None:
        if self.side % 4 or self.y % 2 or self.x % 2:
            raise ValueError(f"patches of {self.side} pixels at {self.y}, {self.x} are not aligned")

    @property
    def fine(self) -> tuple[float, int, int]:
        """Downsample, and corner (y, x) in pixels of that virtual level, of the HR patch."""
        return self.downsample, self.y, self.x

    @property
    def coarse(self) -> tuple[float, int, int]:
        """The same of the LR patch."""
        quarter = self.side // 4
        return 2 * self.downsample, self.y // 2 - quarter, self.x // 2 - quarter

    def hints_in(self, hint: Hint, *, coarse: bool = False) -> PatchHints:
        """Return a hint in pixels of the HR patch, or of the LR patch.

        Points and boxes outside the HR patch are moved to its border, since the model sees nothing
        outside of it.
        """
        scale, side = self.downsample, self.side

        def place(value: float, start: int) -> float:
            return min(max(value / scale - start, 0.0), float(side))

        points = tuple((place(y, self.y), place(x, self.x), sign) for y, x, sign in hint.points)
        boxes = []
        for box in hint.boxes:
            y0, y1 = (place(v, self.y) for v in (box.y, box.y + box.height))
            x0, x1 = (place(v, self.x) for v in (box.x, box.x + box.width))
            if y0 < y1 and x0 < x1:
                boxes.append((y0, x0, y1, x1))
        patch = PatchHints(points, tuple(boxes), self._logits(hint.mask, coarse=False))
        if not coarse:
            return patch
        return patch.at_half_scale(side, self._logits(hint.mask, coarse=True))

    def _logits(self, mask: HintMask | None, *, coarse: bool) -> NDArray[np.float32] | None:
        if mask is None:
            return None
        scale, y, x = self.coarse if coarse else self.fine
        rows, columns = ((np.arange(self.side) + start + 0.5) * scale for start in (y, x))
        return np.where(mask.at(rows, columns), SURE, -SURE).astype(np.float32)


def pair_for(hints: Sequence[Hint], downsample: float, side: int, *, coarser: int = 0) -> PatchPair:
    """Return the finest pair of patches whose HR patch holds all hints with room around them.

    When points or boxes refine a mask, it need not hold the whole mask.

    Parameters
    ----------
    hints : sequence of Hint
        At least one.
    downsample : float
        Level-0 pixels per pixel of the finest HR patch.
    side : int
        Pixels of a patch.
    coarser : int
        Additional factors of two, to see more.
    """
    focus = _around([_corners(hint.focus) for hint in hints])
    whole = _around([_corners(region) for hint in hints for region in (hint.hull, hint.focus)])
    fitting = LARGEST_SHARE * side
    longest = max(focus.height, focus.width) / downsample
    scale = downsample * 2 ** (max(0, math.ceil(math.log2(longest / fitting))) + coarser)
    hull = whole if max(whole.height, whole.width) / scale <= fitting else focus
    middle = (hull.y + hull.height / 2, hull.x + hull.width / 2)
    y, x = (round((m / scale - side / 2) / GRID) * GRID for m in middle)
    return PatchPair(y, x, scale, side)


def _corners(region: Region) -> tuple[float, float, float, float]:
    return region.y, region.x, region.y + region.height, region.x + region.width


def _around(corners: Sequence[tuple[float, float, float, float]]) -> Region:
    y0, x0 = (min(c[i] for c in corners) for i in (0, 1))
    y1, x1 = (max(c[i] for c in corners) for i in (2, 3))
    return Region(y0, x0, y1 - y0, x1 - x0)


def _distance(box: Region, y: float, x: float) -> float:
    """Return the signed distance from a box: negative inside, smallest in the center."""
    return max(
        abs(y - box.y - box.height / 2) - box.height / 2,
        abs(x - box.x - box.width / 2) - box.width / 2,
    )
