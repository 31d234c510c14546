"""What was pointed at and answered, until a person accepts or discards it. Without Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_plimseg._widgets.review.correct.painter import EditTarget
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


NO_OBJECT = (
    "There is no object here, or one smaller than a pixel of the mask. Draw a box around it, or "
    "add a point."
)
NOT_CUT = "What is shown does not go on beyond what was looked at."
NOTHING_FOUND = "Nothing was found in view. Try another word, or zoom in."


@dataclass
class Proposals:
    """The draft in the hand and the objects that are proposed.

    Parameters
    ----------
    draft : Draft
        What the next point is added to.
    answers : list of Answer
        In the order in which they are shown.
    is_search : bool
        Whether they were searched for rather than pointed at.
    one_by_one : bool
        Whether only the first is shown.
    """

    draft: Draft = field(default_factory=Draft)
    answers: list[Answer] = field(default_factory=list)
    is_search: bool = False
    one_by_one: bool = False

    @property
    def shown(self) -> list[Answer]:
        """Those that accepting accepts."""
        return self.answers[:1] if self.one_by_one else self.answers

    @property
    def before(self) -> HintMask | None:
        """The region that is refined, as it was; None for a new object."""
        return None if self.draft.start is None else self.draft.start.mask

    def mask_id(self, target: EditTarget) -> int:
        """Return the class that accepting gives: the chosen one, or that of the region."""
        start = self.draft.start
        return int(target.layer.selected_label) if start is None else start.region.part.mask_id

    def point(self, draft: Draft) -> None:
        """Point anew; the last answer stays until the next, but one of nothing goes at once."""
        self.draft = draft
        if draft.start is not None and not draft.is_ready:
            self.begin(draft.start)
        elif not draft.is_ready:
            self.answers = self.answers[1:]

    def begin(self, start: Start) -> None:
        """Show a region as it is, which the next hints refine."""
        self.forget()
        self.draft = Draft(start=start)
        self.answers = [Answer(self.draft, start.mask, 0.0, "")]

    def take(self, answer: Answer, *, of_search: bool) -> bool:
        """Take an answer in; return False for one that nobody waits for any more."""
        if of_search:
            if not self.is_search:
                return False
            self.answers.append(answer)
            if len(self.answers) == 1 and self.one_by_one:
                self.draft = answer.draft
        elif answer.draft == self.draft:
            self.answers = [answer, *self.answers[1:]]
        else:
            return False
        return True

    def drop_shown(self) -> None:
        """Forget what is shown."""
        self.answers = self.answers[len(self.shown) :]

    def go_on(self) -> bool:
        """Go to the next one; return whether there is one."""
        rest = self.answers[1:] if self.one_by_one else []
        if rest:
            self.answers, self.draft = rest, rest[0].draft
        return bool(rest)

    def leave_out(self, y: float, x: float) -> bool:
        """Leave those at a level-0 place out; return whether there were any."""
        place = np.array([y]), np.array([x])
        kept = [answer for answer in self.answers if not answer.mask.at(*place)[0, 0]]
        if len(kept) == len(self.answers):
            return False
        self.answers = kept
        self.draft = kept[0].draft if len(kept) == 1 else Draft()
        return True

    def forget(self) -> None:
        """Forget all of it."""
        self.draft, self.answers, self.is_search = Draft(), [], False
