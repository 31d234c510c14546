"""Hints as a person would give them, drawn from a known mask: boxes, points, corrections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import StrictInt
from scipy import ndimage

from napari_plimseg.models import PatchHints
from plimseg_training.config import Share, between, section

if TYPE_CHECKING:
    from numpy.typing import NDArray


_Count = Annotated[StrictInt, between(0, 50)]


@section
class DrawConfig:
    """Which hints a training draws.

    Parameters
    ----------
    box : float
        Share of objects that get the box around them.
    jittered_box : float
        Share that get one whose sides are moved; all others get points.
    jitter : float
        How far a side is moved at most, in sides of the box.
    positive : int
        Points in the object at most, at least one.
    negative : int
        Points outside of it at most.
    corrections : int
        Rounds of a further point in the largest mistake, each of them trained on too.
    """

    box: Share = 0.3
    jittered_box: Share = 0.3
    jitter: Share = 0.2
    positive: Annotated[StrictInt, between(1, 50)] = 3
    negative: _Count = 2
    corrections: _Count = 1


def first_hints(
    mask: NDArray[np.bool_], config: DrawConfig, random: np.random.Generator
) -> PatchHints:
    """Return hints for the object in a patch.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        The object; not empty.
    config : DrawConfig
    random : numpy.random.Generator
    """
    kind = random.random()
    if kind < config.box:
        return PatchHints(boxes=(box_of(mask),))
    if kind < config.box + config.jittered_box:
        return PatchHints(boxes=(jittered(box_of(mask), config.jitter, mask.shape, random),))
    inside = points_in(mask, int(random.integers(1, config.positive + 1)), random)
    near = ~mask & _filled_box(mask, 0.5)
    outside = points_in(near, int(random.integers(0, config.negative + 1)), random)
    return PatchHints((*((y, x, True) for y, x in inside), *((y, x, False) for y, x in outside)))


def corrected(
    hints: PatchHints,
    predicted: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    random: np.random.Generator | None = None,
) -> PatchHints:
    """Return hints with one more point, in the largest connected mistake.

    Parameters
    ----------
    hints : PatchHints
    predicted, mask : ndarray of bool, shape (H, W)
        What the hints gave, and the truth.
    random : numpy.random.Generator, optional
        Chooses the place in the mistake; without, it is the one farthest from its edge, where
        most people click.

    Returns
    -------
    PatchHints
        The same where nothing is wrong.
    """
    wrong = predicted ^ mask
    if not wrong.any():
        return hints
    labels, count = ndimage.label(wrong)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    y, x = points_in(largest, 1, random)[0] if random is not None else innermost(largest)
    return replace(hints, points=(*hints.points, (y, x, bool(mask[int(y), int(x)]))))


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return the box (y0, x0, y1, x1) around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)


def jittered(
    box: tuple[float, float, float, float],
    share: float,
    size: tuple[int, ...],
    random: np.random.Generator,
) -> tuple[float, float, float, float]:
    """Return a box whose sides are moved by up to a share of it, within the patch."""
    y0, x0, y1, x1 = box
    dy, dx = share * (y1 - y0), share * (x1 - x0)
    moved = np.array(box) + random.uniform(-1, 1, 4) * (dy, dx, dy, dx)
    y0, x0, y1, x1 = np.clip(moved, 0, (size[0], size[1]) * 2)
    return (
        float(min(y0, y1 - 1)), float(min(x0, x1 - 1)), float(max(y0 + 1, y1)),
        float(max(x0 + 1, x1)),
    )  # fmt: skip


def points_in(
    mask: NDArray[np.bool_], count: int, random: np.random.Generator
) -> list[tuple[float, float]]:
    """Return the middles of pixels drawn from a mask; none when it is empty."""
    places = np.flatnonzero(mask)
    if not len(places) or not count:
        return []
    rows, columns = np.unravel_index(random.choice(places, count), mask.shape)
    return [(float(y) + 0.5, float(x) + 0.5) for y, x in zip(rows, columns, strict=True)]


def innermost(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the middle of the pixel farthest from the edge of a mask, and from the patch's."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return float(y) + 0.5, float(x) + 0.5


def _filled_box(mask: NDArray[np.bool_], margin: float) -> NDArray[np.bool_]:
    """Return the box of a mask, grown on each side by a share of its own."""
    y0, x0, y1, x1 = box_of(mask)
    dy, dx = 1 + margin * (y1 - y0), 1 + margin * (x1 - x0)
    filled = np.zeros_like(mask)
    filled[int(max(0, y0 - dy)) : int(y1 + dy), int(max(0, x0 - dx)) : int(x1 + dx)] = True
    return filled
