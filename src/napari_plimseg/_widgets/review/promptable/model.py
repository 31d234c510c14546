"""The state of pointing at objects: what can be used, asked and shown. Without Qt and napari.

`PromptSection` only shows this state and runs the jobs that it asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from napari_plimseg._widgets.review.messages import HIDDEN, NO_MASK
from napari_plimseg._widgets.review.promptable.proposals import Proposals
from napari_plimseg.models import HINT_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg._widgets.review.correct import EditTarget
    from napari_plimseg._widgets.review.promptable.proposals import Answer, PromptDraft
    from napari_plimseg.models import ModelEntry
    from napari_plimseg.slides import Region
    from napari_plimseg.tissue import TissueClass


PROMPT_TOOLS = {
    "point_in": ("Point +", "Click inside an object."),
    "point_out": ("Point −", "Click an area that is not part of the object."),
    "box": ("Box", "Drag a box around an object."),
    "refine": ("Refine", "Click the region of the mask to refine."),
}
"""Label, and what to do, by tool."""
CONTROLS = frozenset(
    {*PROMPT_TOOLS, "accept", "discard", "wider", "words", "find", "one_by_one", "model"}
)
NO_SLIDE = "The slide of this mask is not open. Open it first."
NO_MODEL = (
    "Smart select needs the model file {file}. {reason} Or train a model with the recipe wsi_sam."
)
ONLY_MODEL = "No other Smart select model is installed."
NO_TOOL = "Choose a tool, then click an object."
REFINE = "Point + adds what is missing, Point − removes what is too much."
ONLY_PART = " Only the area around your clicks will change."
NOTHING_SHOWN = "Nothing is proposed yet. Click an object or draw a box."
NO_OBJECT = "No object found here. Draw a box or add a point."
NOT_CUT_OFF = "The proposed object is not cut off."
NOTHING_FOUND = "Nothing found in view. Try another word, or zoom in."
NO_CLASS = "Select a class in Correct first."
OFF_SLIDE = "That point is outside the slide. Click on the tissue."
TINY = "The object is smaller than its dot. Zoom in to see it."


class Reply(Enum):
    """What follows from pointing at something."""

    IGNORED = auto()
    OFF_SLIDE = auto()
    SEARCHING = auto()
    SEVERAL_SHOWN = auto()
    NONE_HERE = auto()
    DROPPED = auto()
    CLEARED = auto()
    INCOMPLETE = auto()
    QUEUED = auto()
    ASK = auto()


MESSAGES = {
    Reply.OFF_SLIDE: OFF_SLIDE,
    Reply.SEARCHING: "A search is running. Press Esc to stop it.",
    Reply.SEVERAL_SHOWN: "Accept or discard these proposals first.",
    Reply.NONE_HERE: "There is no proposal under the cursor.",
    Reply.INCOMPLETE: "Click inside the object, too, or draw a box around it.",
}
"""Message to show, by reply."""


@dataclass
class PromptModel:
    """What was pointed at, what was answered, and what is running.

    Parameters
    ----------
    target : EditTarget or None
        The layer that accepted objects are painted on.
    models : sequence of ModelEntry
        Models for points and boxes, those that can't be used included.
    tool : str
        The active tool, a key of `PROMPT_TOOLS`, or "".
    proposals : Proposals
        The draft and its answers.
    is_busy : bool
        Whether a job is running.
    is_searching : bool
        Whether that job is, or the last one was, a search for every object in view.
    must_ask_again : bool
        Whether the draft changed while a job was running, so that its answer is outdated.
    is_discarded : bool
        Whether the results of the running job are no longer wanted.
    progress : str
        What the running job is doing.
    failure : str
        Why the last job gave no answer.
    is_tiny : bool
        Whether what is shown is too small to be seen at this zoom.
    """

    target: EditTarget | None = None
    models: Sequence[ModelEntry] = ()
    tool: str = ""
    proposals: Proposals = field(default_factory=Proposals)
    is_busy: bool = False
    is_searching: bool = False
    must_ask_again: bool = False
    is_discarded: bool = False
    progress: str = ""
    failure: str = ""
    is_tiny: bool = False

    @property
    def draft(self) -> PromptDraft:
        """What was pointed at so far."""
        return self.proposals.draft

    @property
    def answers(self) -> list[Answer]:
        """All proposed objects."""
        return self.proposals.answers

    @property
    def shown(self) -> list[Answer]:
        """The proposed objects that accepting accepts."""
        return self.proposals.shown

    @property
    def usable_models(self) -> list[ModelEntry]:
        """The models that can be used."""
        return [info for info in self.models if info.available]

    @property
    def selected_class(self) -> TissueClass | None:
        """The class that accepting assigns; None when none is selected."""
        if self.target is None:
            return None
        return self.target.info.classes.by_id(self.proposals.mask_id(self.target))

    @property
    def problem(self) -> str:
        """Why nothing can be pointed at; empty when it can."""
        target = self.target
        if target is None:
            return NO_MASK
        if target.slide is None:
            return NO_SLIDE
        if not target.layer.editable:
            return HIDDEN
        if not self.usable_models:
            return NO_MODEL.format(file=HINT_MODEL_FILE, reason=self.models[0].reason)
        return ""

    def why_not(self, control: str) -> str:
        """Return why a control can't be used now, as a sentence; empty when it can.

        Parameters
        ----------
        control : str
            One of `CONTROLS`.
        """
        if control not in CONTROLS:
            raise ValueError(f"there is no control {control!r}")
        if control == "model":
            return "" if len(self.usable_models) > 1 else ONLY_MODEL
        if self.problem:
            return self.problem
        if control in ("accept", "discard"):
            return "" if self.shown else NOTHING_SHOWN
        if control == "wider":
            is_cut = len(self.shown) == 1 and self.shown[0].mask.is_cut
            return "" if is_cut else NOT_CUT_OFF
        return ""

    @property
    def status(self) -> str:
        """What is shown, is running, or should be done next."""
        if self.problem:
            return self.problem
        if self.is_busy and self.progress:
            return self.progress
        if self.shown:
            return f"{TINY if self.is_tiny else ''} {self._describe_shown()}".lstrip()
        return self.failure or (PROMPT_TOOLS[self.tool][1] if self.tool else NO_TOOL)

    def _describe_shown(self) -> str:
        answer = self.shown[0]
        start = answer.draft.start
        if start is not None and not answer.draft.is_ready:
            return REFINE + (ONLY_PART if start.region.is_cut else "")
        if len(self.shown) > 1:
            return f"{len(self.shown)} proposals. Enter accepts all, Point − drops one."
        quality = f"Estimated quality {100 * answer.mask.score:.0f} %"
        more = len(self.answers) - 1
        keys = (
            f", {more} more. Enter accepts, Esc skips."
            if more
            else ". Enter accepts, Esc discards."
        )
        cut = " The object is cut off: press Larger context." if answer.mask.is_cut else ""
        return f"{quality}{keys}{cut}"

    @property
    def details(self) -> str:
        """Which model answered, and how fast; empty when no single answer is shown."""
        if len(self.shown) != 1 or not self.shown[0].weights:
            return ""
        answer = self.shown[0]
        return f"{answer.weights}, {answer.milliseconds:,.0f} ms"

    def is_off_slide(self, box: Region) -> bool:
        """Whether a box has no part on the slide."""
        slide = None if self.target is None else self.target.slide
        if slide is None:
            return False
        below, right = box.y + box.height, box.x + box.width
        inside = below > 0 and right > 0 and box.y < slide.shape[0] and box.x < slide.shape[1]
        return not inside

    def point(self, y: float, x: float, *, positive: bool) -> Reply:
        """Add a point in level-0 pixels; on several proposals, a negative one drops those there."""
        slide = None if self.target is None else self.target.slide
        if slide is not None and not (0 <= y < slide.shape[0] and 0 <= x < slide.shape[1]):
            return Reply.OFF_SLIDE
        if len(self.shown) <= 1:
            return self.ask(self.draft.with_point(y, x, positive=positive))
        if positive:
            return Reply.SEVERAL_SHOWN
        return Reply.DROPPED if self.proposals.drop_at(y, x) else Reply.NONE_HERE

    def ask(self, draft: PromptDraft) -> Reply:
        """Replace the draft, and decide whether it is answered now."""
        if self.target is None or self.target.slide is None:
            return Reply.IGNORED
        if self.proposals.is_search and self.is_searching and self.is_busy:
            return Reply.SEARCHING
        self.proposals.set_draft(draft)
        self.failure = ""
        if not draft.is_ready:
            return Reply.INCOMPLETE if draft.points else Reply.CLEARED
        if self.is_busy:
            self.must_ask_again = True
            return Reply.QUEUED
        return Reply.ASK

    def start(self, *, is_search: bool = False) -> None:
        """Note that a job begins."""
        self.is_busy, self.is_searching = True, is_search
        self.must_ask_again = self.is_discarded = False
        self.progress = self.failure = ""

    def note_progress(self, text: str) -> None:
        """Note what the running job is doing; a discarded job may report once more."""
        if not self.is_discarded:
            self.progress = text

    def finish(self, *, completed: bool) -> bool:
        """Note that the job ended; return whether the draft has to be asked again."""
        again = self.must_ask_again and self.draft.is_ready
        self.is_busy = self.must_ask_again = False
        self.progress = ""
        found_nothing = self.is_searching and self.proposals.is_search and not self.answers
        if completed and found_nothing and not again:
            self.failure = NOTHING_FOUND
        return again

    def take(self, answer: Answer) -> bool:
        """Take the answer of the running job; return False for an outdated one."""
        return self.proposals.take(answer, of_search=self.is_searching)

    def drop_empty(self) -> None:
        """Drop the shown answers, which cover no pixel of the mask."""
        self.proposals.drop_shown()
        self.failure = NO_OBJECT

    def why_not_accept(self) -> tuple[str, str] | None:
        """Return kind and text of the message why accepting does nothing yet, None to accept."""
        if self.selected_class is None:
            return "warning", NO_CLASS
        draft = self.shown[0].draft
        if draft.start is not None and not draft.is_ready:
            return "info", REFINE
        return None

    def forget(self) -> None:
        """Forget draft, answers and failure, and ignore a running job."""
        self.must_ask_again = False
        self.is_discarded = True
        self.progress = self.failure = ""
        self.proposals.forget()
