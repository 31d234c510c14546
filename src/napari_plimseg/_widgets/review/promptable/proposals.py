"""What was pointed at and answered, until it is accepted or discarded. Without Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_plimseg._widgets.review.correct import EditTarget
    from napari_plimseg.inference import Hint, HintMask
    from napari_plimseg.results import RegionToRefine
    from napari_plimseg.slides import Region


@dataclass(frozen=True, eq=False)
class Start:
    """A region of the mask that points and boxes refine.

    Parameters
    ----------
    region : RegionToRefine
        In the layer.
    mask : HintMask
        The same region on the slide.
    place : tuple of float
        Where it was clicked, level-0 (y, x).
    """

    region: RegionToRefine
    mask: HintMask
    place: tuple[float, float]


@dataclass(frozen=True)
class PromptDraft:
    """What was pointed at so far, for one object.

    Parameters
    ----------
    points : tuple of (float, float, bool)
        (y, x, positive) in level-0 pixels.
    box : Region, optional
        Around the object.
    coarser : int
        How many times the context around the prompts is doubled.
    start : Start, optional
        The region to refine; None to find a new object.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    box: Region | None = None
    coarser: int = 0
    start: Start | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it determines an object, or a change of the region to refine."""
        if self.start is not None and self.points:
            return True
        return self.box is not None or any(positive for _, _, positive in self.points)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was pointed at."""
        return self.box is None and not self.points and self.start is None

    @property
    def hint(self) -> Hint:
        """All of it as one hint for the model.

        Raises
        ------
        ConfigError
            When it does not determine an object.
        """
        from napari_plimseg.inference import Hint

        boxes = () if self.box is None else (self.box,)
        return Hint(self.points, boxes, None if self.start is None else self.start.mask)

    def with_point(self, y: float, x: float, *, positive: bool) -> PromptDraft:
        """Return the draft with one more point."""
        return replace(self, points=(*self.points, (y, x, positive)))

    def without_last(self) -> PromptDraft:
        """Return the draft without the last point, or else its box, or else its region."""
        if self.points:
            return replace(self, points=self.points[:-1])
        return PromptDraft() if self.box is None else PromptDraft(start=self.start)

    def with_box(self, box: Region) -> PromptDraft:
        """Return a draft of a new object, or of the same region with another box."""
        return PromptDraft(box=box) if self.start is None else replace(self, box=box)

    def wider(self) -> PromptDraft:
        """Return the draft with twice the context."""
        return replace(self, coarser=self.coarser + 1)


@dataclass(frozen=True)
class Answer:
    """The object that a draft points at.

    Parameters
    ----------
    draft : PromptDraft
    mask : HintMask
    milliseconds : float
        From the question to the mask, without loading the model.
    weights : str
        Title of the model that answered; empty for a region before its first point.
    """

    draft: PromptDraft
    mask: HintMask
    milliseconds: float
    weights: str


@dataclass
class Proposals:
    """The current draft and the proposed objects.

    Parameters
    ----------
    draft : PromptDraft
        What the next point is added to.
    answers : list of Answer
        In the order in which they are shown.
    is_search : bool
        Whether they come from a search rather than from points and boxes.
    one_by_one : bool
        Whether only the first is shown.
    """

    draft: PromptDraft = field(default_factory=PromptDraft)
    answers: list[Answer] = field(default_factory=list)
    is_search: bool = False
    one_by_one: bool = False

    @property
    def shown(self) -> list[Answer]:
        """The answers that accepting accepts."""
        return self.answers[:1] if self.one_by_one else self.answers

    @property
    def before(self) -> HintMask | None:
        """The region to refine as it was; None for a new object."""
        return None if self.draft.start is None else self.draft.start.mask

    def mask_id(self, target: EditTarget) -> int:
        """Return the class that accepting assigns: the selected one, or the region's own."""
        start = self.draft.start
        return int(target.layer.selected_label) if start is None else start.region.part.mask_id

    def set_draft(self, draft: PromptDraft) -> None:
        """Replace the draft.

        The last answer stays until the next one, unless the new draft determines no object.
        """
        self.draft = draft
        if draft.start is not None and not draft.is_ready:
            self.begin(draft.start)
        elif not draft.is_ready:
            self.answers = self.answers[1:]

    def begin(self, start: Start) -> None:
        """Show a region as it is, to be refined."""
        self.forget()
        self.draft = PromptDraft(start=start)
        self.answers = [Answer(self.draft, start.mask, 0.0, "")]

    def take(self, answer: Answer, *, of_search: bool) -> bool:
        """Add an answer; return False when the draft changed or the search was discarded."""
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
        """Drop the shown answers."""
        self.answers = self.answers[len(self.shown) :]

    def advance(self) -> bool:
        """Move on to the next proposal; return whether there is one."""
        rest = self.answers[1:] if self.one_by_one else []
        if rest:
            self.answers, self.draft = rest, rest[0].draft
        return bool(rest)

    def drop_at(self, y: float, x: float) -> bool:
        """Drop the answers that cover a level-0 place; return whether there were any."""
        place = np.array([y]), np.array([x])
        kept = [answer for answer in self.answers if not answer.mask.at(*place)[0, 0]]
        if len(kept) == len(self.answers):
            return False
        self.answers = kept
        self.draft = kept[0].draft if len(kept) == 1 else PromptDraft()
        return True

    def forget(self) -> None:
        """Forget draft and answers."""
        self.draft, self.answers, self.is_search = PromptDraft(), [], False
