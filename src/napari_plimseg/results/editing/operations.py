"""The correction tools as pure functions: each takes a mask and returns an `Edit`.

Masks are uint8 (h, w) of mask ids and are never changed in place. Pixels that are not computed or
unreadable are not tissue, so operations on regions never change them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import ndimage

from napari_plimseg.errors import ConfigError
from napari_plimseg.results.editing.components import Connectivity, RunLengthMask
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

    Mask = NDArray[np.uint8]
    Pixels = NDArray[np.bool_]
    Tool = Callable[[Mask, Pixels], Mask]


_FIRST_SIDE = 512  # of the window around a click
_WINDOW_GROWS = 4
_BLOCK = 1024
_SUBJECT = 254  # marks the region being edited, to tell it from its class elsewhere
_KEEP = 1e-3  # a pixel's own class weighs a little more, so that ties change nothing


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of a mask: which pixels, and their new ids.

    Parameters
    ----------
    top, left : int
        Where the window begins in the mask.
    changed : ndarray of bool, shape (h, w)
        True where a pixel changes.
    new : ndarray of uint8, shape (h, w)
        Mask ids after the change; only read where `changed` is True.
    """

    top: int
    left: int
    changed: Pixels
    new: Mask

    def __post_init__(self) -> None:
        if self.changed.shape != self.new.shape or self.top < 0 or self.left < 0:
            raise ConfigError(
                f"an edit of {self.changed.shape} pixels to {self.new.shape} "
                f"at ({self.top}, {self.left})"
            )

    @classmethod
    def between(cls, top: int, left: int, old: Mask, new: Mask, where: Pixels) -> Self:
        """Return the edit that turns `old` into `new` in the pixels `where`, all (h, w)."""
        return cls(top, left, where & (old != new), new)

    @classmethod
    def nothing(cls) -> Self:
        """Return an edit without pixels."""
        return cls(0, 0, np.zeros((0, 0), np.bool_), np.zeros((0, 0), np.uint8))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the mask that hold all changes."""
        height, width = self.changed.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def size(self) -> int:
        """Number of pixels that change."""
        return int(np.count_nonzero(self.changed))

    @property
    def indices(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the pixels that change, (n,) each."""
        rows, columns = np.nonzero(self.changed)
        return rows + self.top, columns + self.left

    @property
    def values(self) -> Mask:
        """Mask ids after the change, (n,)."""
        return self.new[self.changed]

    def limited(self, allowed: Pixels) -> Edit:
        """Return the edit in the pixels where `allowed`, shape of the window, is True."""
        return Edit(self.top, self.left, self.changed & allowed, self.new).cropped()

    def cropped(self) -> Edit:
        """Return the edit with its window cut to the pixels that change."""
        rows = np.flatnonzero(self.changed.any(axis=1))
        if not rows.size:
            return Edit.nothing()
        inner = slice(rows[0], rows[-1] + 1)
        columns = np.flatnonzero(self.changed[inner].any(axis=0))
        window = inner, slice(columns[0], columns[-1] + 1)
        top, left = self.top + int(rows[0]), self.left + int(columns[0])
        return Edit(top, left, self.changed[window], self.new[window])

    def split(self, side: int) -> Iterator[Edit]:
        """Yield the edit in pieces of at most `side` pixels a side, those that change something."""
        height, width = self.changed.shape
        for y in range(0, height, side):
            for x in range(0, width, side):
                part = slice(y, y + side), slice(x, x + side)
                if self.changed[part].any():
                    piece = Edit(self.top + y, self.left + x, self.changed[part], self.new[part])
                    yield piece.cropped()

    def apply(self, mask: Mask) -> None:
        """Change a mask in place."""
        mask[self.window][self.changed] = self.values


@dataclass(frozen=True, eq=False)
class Part:
    """A region of one class.

    Parameters
    ----------
    top, left : int
        Where its window begins in the mask.
    inside : ndarray of bool, shape (h, w)
        True in the region.
    mask_id : int
        Its class.
    """

    top: int
    left: int
    inside: Pixels
    mask_id: int

    @property
    def size(self) -> int:
        """Number of its pixels."""
        return int(np.count_nonzero(self.inside))


def allowed_pixels(
    mask: Mask, *, tissue: Pixels | None = None, protected: Collection[int] = ()
) -> Pixels:
    """Return where a person may change a mask.

    Parameters
    ----------
    mask : ndarray of uint8, shape (h, w)
        Before the change.
    tissue : ndarray of bool, shape (h, w), optional
        Only there, when given.
    protected : collection of int
        Mask ids whose pixels stay.

    Returns
    -------
    ndarray of bool, shape (h, w)
    """
    free = np.ones(256, np.bool_)
    free[list(protected)] = False
    allowed: Pixels = free[mask]
    return allowed if tissue is None else allowed & tissue


def connected_region(mask: Mask, y: int, x: int, *, connectivity: Connectivity = 4) -> Part:
    """Return the region of equal pixels around a pixel.

    Only a window around the pixel is read; it grows until the region fits.

    Raises
    ------
    ConfigError
        When the pixel is outside the mask.
    """
    side = _FIRST_SIDE
    while (part := region_within(mask, y, x, side, connectivity=connectivity)) is None:
        side *= _WINDOW_GROWS
    return part


def region_within(
    mask: Mask, y: int, x: int, side: int, *, connectivity: Connectivity = 4
) -> Part | None:
    """Return the region of equal pixels around a pixel, None when it leaves a window of `side`.

    Raises
    ------
    ConfigError
        When the pixel is outside the mask.
    """
    height, width = mask.shape
    if not (0 <= y < height and 0 <= x < width):
        raise ConfigError(f"pixel ({y}, {x}) is outside a mask of {mask.shape}")
    mask_id = int(mask[y, x])
    top, left = max(0, y - side // 2), max(0, x - side // 2)
    bottom, right = min(height, y + side // 2), min(width, x + side // 2)
    runs = RunLengthMask.of(mask[top:bottom, left:right] == mask_id)
    labels = runs.components(connectivity)
    chosen = labels == labels[runs.at((y - top) * (right - left) + x - left)]
    row, start, stop = runs.row[chosen], runs.start[chosen], runs.stop[chosen]
    if (
        (top > 0 and row[0] == 0)
        or (left > 0 and start.min() == 0)
        or (bottom < height and row[-1] == bottom - top - 1)
        or (right < width and stop.max() == right - left)
    ):
        return None
    inner_top, inner_left, inside = runs.picture(chosen)
    return Part(top + inner_top, left + inner_left, inside, mask_id)


def relabel(part: Part, new_id: int) -> Edit:
    """Give a region another class."""
    if new_id == part.mask_id:
        return Edit.nothing()
    new = np.broadcast_to(np.uint8(new_id), part.inside.shape)
    return Edit(part.top, part.left, part.inside, new)


def fill_holes(
    mask: Mask,
    what: int | Part,
    *,
    max_pixels: int | None = None,
    fillable: Callable[[NDArray[np.int64], NDArray[np.int64]], Pixels] | None = None,
) -> Edit:
    """Fill the holes of a class or a region.

    Parameters
    ----------
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    what : int or Part
        Mask id of a class, or a region.
    max_pixels : int, optional
        Larger holes stay: they may be lumens or vessels.
    fillable : callable, optional
        Takes rows and columns (n,) of the mask and returns which of these pixels may be filled. A
        hole of which less than half may be filled stays: it is glass.
    """
    top, left, inside, mask_id = _subject(mask, what, margin=0)
    runs = RunLengthMask.of(inside)
    labels = runs.components(8)  # what is enclosed by a 4-connected ring is 8-connected
    open_ = np.zeros(int(labels.max()) + 1, np.bool_)
    open_[labels[runs.at_rim | runs.value]] = True
    if max_pixels is not None:
        open_ |= np.bincount(labels, runs.length) > max_pixels
    holes = ~open_[labels]
    if holes.any() and fillable is not None:
        rows, columns = np.divmod(runs.pixels(holes), runs.shape[1])
        owner = np.repeat(labels[holes], runs.length[holes])
        good = np.bincount(owner, fillable(rows + top, columns + left), len(open_))
        open_ |= 2 * good < np.bincount(labels, runs.length, len(open_))
        holes = ~open_[labels]
    if not holes.any():
        return Edit.nothing()
    where = np.zeros(runs.shape, np.bool_)
    where.ravel()[runs.pixels(holes)] = True
    hole = Edit(top, left, where, np.broadcast_to(np.uint8(mask_id), where.shape)).cropped()
    return hole.limited(_has_class(mask[hole.window]))


def remove_small(mask: Mask, mask_id: int, min_pixels: int) -> Edit:
    """Give regions below `min_pixels` of a class to the class with the longest shared border.

    A region that touches only pixels without a class stays.
    """
    runs = RunLengthMask.of(mask)
    labels = runs.components(4)
    small = (np.bincount(labels, runs.length) < min_pixels)[labels] & (runs.value == mask_id)
    return _give_away(runs, labels, small, 0, 0)


def remove_region(mask: Mask, part: Part) -> Edit:
    """Give a region to the class with the longest shared border."""
    top, left, inside, _ = _subject(mask, part, margin=1)
    height, width = inside.shape
    runs = RunLengthMask.of(
        np.where(inside, _SUBJECT, mask[top : top + height, left : left + width])
    )
    return _give_away(runs, np.zeros(len(runs.begin), np.int32), runs.value == _SUBJECT, top, left)


def smooth_outline(mask: Mask, what: int | Part, radius: float) -> Edit:
    """Smooth the outline of a class or a region without opening gaps.

    Each pixel near the outline takes the class with the largest weight within `radius` pixels, so
    pixels that leave the class go to the neighbor there.

    Raises
    ------
    ConfigError
        When the radius is below one pixel.
    """
    if radius < 1:
        raise ConfigError(f"a radius of {radius} pixels smooths nothing", remedy="Take 1 or more.")

    def smooth(values: Mask, inside: Pixels) -> Mask:
        mixed = np.where(inside, np.uint8(_SUBJECT), values)
        best, most = mixed.copy(), np.full(mixed.shape, -1.0, np.float32)
        for mask_id in np.unique(mixed):
            if mask_id in (NOT_COMPUTED, UNREADABLE):
                continue
            is_id = mixed == mask_id
            weight = ndimage.gaussian_filter(is_id.astype(np.float32), radius / 2, truncate=2.0)
            weight += np.where(is_id, np.float32(_KEEP), np.float32(0))
            better = weight > most
            best[better], most[better] = mask_id, weight[better]
        touched = (best == _SUBJECT) != inside
        return np.where(touched, best, np.where(inside, np.uint8(_SUBJECT), values))

    return _by_blocks(mask, what, int(np.ceil(radius)) + 1, smooth)


def grow(mask: Mask, what: int | Part, steps: int = 1) -> Edit:
    """Move the outline of a class or a region outwards by `steps` pixels."""

    def grown(values: Mask, inside: Pixels) -> Mask:
        wider = ndimage.binary_dilation(inside, iterations=steps)
        return np.where(wider, np.uint8(_SUBJECT), values)

    return _by_blocks(mask, what, steps + 1, grown)


def shrink(mask: Mask, what: int | Part, steps: int = 1) -> Edit:
    """Move the outline of a class or a region inwards by `steps` pixels.

    Pixels that leave take the nearest class.
    """

    def shrunk(values: Mask, inside: Pixels) -> Mask:
        others: Pixels = ~inside & _has_class(values)
        rim = inside & np.asarray(ndimage.binary_dilation(others, iterations=steps))
        if not rim.any():
            return np.where(inside, np.uint8(_SUBJECT), values)
        nearest: NDArray[np.int32] = ndimage.distance_transform_edt(
            ~others, return_distances=False, return_indices=True
        )
        kept = np.where(inside, np.uint8(_SUBJECT), values)
        return np.where(rim, values[tuple(nearest)], kept)

    return _by_blocks(mask, what, steps + 1, shrunk)


def _has_class(values: Mask) -> Pixels:
    has_class: Pixels = (values != NOT_COMPUTED) & (values != UNREADABLE)
    return has_class


def _subject(mask: Mask, what: int | Part, margin: int) -> tuple[int, int, Pixels, int]:
    """Return top, left, where the class or region is in that window, and its mask id."""
    if not isinstance(what, Part):
        return 0, 0, mask == what, what
    height, width = what.inside.shape
    top, left = max(0, what.top - margin), max(0, what.left - margin)
    bottom = min(mask.shape[0], what.top + height + margin)
    right = min(mask.shape[1], what.left + width + margin)
    inside = np.zeros((bottom - top, right - left), np.bool_)
    y, x = what.top - top, what.left - left
    inside[y : y + height, x : x + width] = what.inside
    return top, left, inside, what.mask_id


def _give_away(
    runs: RunLengthMask, labels: NDArray[np.int32], given: Pixels, top: int, left: int
) -> Edit:
    """Return the edit that gives components of runs to the value with the longest shared border."""
    if not given.any():
        return Edit.nothing()
    group = np.full(len(runs.begin), -1, np.int32)
    groups, group[given] = np.unique(labels[given], return_inverse=True)
    own = runs.value[given][0]
    values = np.unique(runs.value)
    values = values[_has_class(values) & (values != own)]
    if not values.size:
        return Edit.nothing()
    votes = runs.votes(group, len(groups), values)
    takers = values[votes.argmax(axis=1)]
    has_taker: Pixels = np.asarray(votes.any(axis=1))
    given = given & has_taker[group]
    if not given.any():
        return Edit.nothing()
    pixels = runs.pixels(given)
    changed = np.zeros(runs.shape, np.bool_)  # the system allocates pages only where they change
    new = np.zeros(runs.shape, np.uint8)
    changed.ravel()[pixels] = True
    new.ravel()[pixels] = np.repeat(takers[group[given]], runs.length[given])
    return Edit(top, left, changed, new).cropped()


def _by_blocks(mask: Mask, what: int | Part, halo: int, tool: Tool) -> Edit:
    """Run a tool that reads `halo` pixels around each pixel, block by block.

    The tool gets a block of the mask and where its subject is, and returns the block with
    `_SUBJECT` where the subject is afterwards. Blocks keep the memory of float filters small.
    """
    top, left, inside, mask_id = _subject(mask, what, halo)
    height, width = inside.shape
    values = mask[top : top + height, left : left + width]
    changed = np.zeros(inside.shape, np.bool_)
    new = np.zeros(inside.shape, np.uint8)
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            y0, x0 = max(0, y - halo), max(0, x - halo)
            wide = slice(y0, y + _BLOCK + halo), slice(x0, x + _BLOCK + halo)
            subject = inside[wide]
            if not subject.any() or subject.all():
                continue
            result = tool(values[wide], subject)
            result[result == _SUBJECT] = mask_id
            block = slice(y, y + _BLOCK), slice(x, x + _BLOCK)
            inner = result[y - y0 :, x - x0 :][:_BLOCK, :_BLOCK]
            old = values[block]
            changed[block] = (old != inner) & _has_class(old) & _has_class(inner)
            new[block] = inner
    return Edit(top, left, changed, new).cropped()
