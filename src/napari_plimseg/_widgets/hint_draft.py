"""What a person has pointed at, and what was answered. Without Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_plimseg.inference.promptable.geometry import Hint, HintMask
    from napari_plimseg.results.editing.refinement import RegionToRefine
    from napari_plimseg.slides.slide import Region


@dataclass(frozen=True, eq=False)
class Start:
    """A region of the mask that hints refine.

    Parameters
    ----------
    region : RegionToRefine
        In the layer.
    mask : HintMask
        The same on the slide.
    place : tuple of float
        Where it was clicked, level-0 (y, x).
    """

    region: RegionToRefine
    mask: HintMask
    place: tuple[float, float]


@dataclass(frozen=True)
class Draft:
    """What a person has pointed at so far, for one object.

    Parameters
    ----------
    points : tuple of (float, float, bool)
        (y, x, positive) in level-0 pixels.
    box : Region, optional
        Around the object.
    coarser : int
        Steps of two by which more of the surroundings is looked at than the hints need.
    start : Start, optional
        The region that they refine, in place of finding an object anew.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    box: Region | None = None
    coarser: int = 0
    start: Start | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it says where the object is, or what is wrong with the region."""
        if self.start is not None and self.points:
            return True
        return self.box is not None or any(positive for _, _, positive in self.points)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was pointed at."""
        return self.box is None and not self.points and self.start is None

    @property
    def hint(self) -> Hint:
        """All of it as one hint.

        Raises
        ------
        ConfigError
            When it does not say where the object is.
        """
        from napari_plimseg.inference.promptable.geometry import Hint

        boxes = () if self.box is None else (self.box,)
        return Hint(self.points, boxes, None if self.start is None else self.start.mask)

    def with_point(self, y: float, x: float, *, positive: bool) -> Draft:
        """Return the draft with one more point."""
        return replace(self, points=(*self.points, (y, x, positive)))

    def without_last(self) -> Draft:
        """Return the draft without the last point, or its box, or the region that it refines."""
        if self.points:
            return replace(self, points=self.points[:-1])
        return Draft() if self.box is None else Draft(start=self.start)

    def with_box(self, box: Region) -> Draft:
        """Return a draft of a new object, or of the same region with another box."""
        return Draft(box=box) if self.start is None else replace(self, box=box)

    def wider(self) -> Draft:
        """Return the draft with twice the surroundings."""
        return replace(self, coarser=self.coarser + 1)


@dataclass(frozen=True)
class Answer:
    """The object that a draft points at.

    Parameters
    ----------
    draft : Draft
    mask : HintMask
    milliseconds : float
        From the question to the mask, without loading the model.
    weights : str
        Which weights answered, for people.
    """

    draft: Draft
    mask: HintMask
    milliseconds: float
    weights: str
