"""The section *Hints*: points and boxes on a slide become objects of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal

from napari_plimseg._widgets.background_job import BackgroundJob
from napari_plimseg._widgets.hint_hand import KEYS, HintHand
from napari_plimseg._widgets.hint_layers import HintLayers
from napari_plimseg._widgets.hint_parts import NOTHING_SHOWN, REFINED, HintParts, why_not, words_of
from napari_plimseg._widgets.hint_proposals import NO_OBJECT, NOT_CUT, NOTHING_FOUND, Proposals
from napari_plimseg._widgets.hint_tools import (
    HintDesk,
    accepted_words,
    edit_of,
    needs_pixel_size,
    region_search,
)
from napari_plimseg._widgets.layer_keys import LayerHold
from napari_plimseg._widgets.lifetimes import when_gone
from napari_plimseg._widgets.napari_inside import unwrapped
from napari_plimseg._widgets.region_picker import RegionPicker
from napari_plimseg.errors import PlimsegError
from napari_plimseg.models import loading

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from qtpy.QtGui import QShowEvent

    from napari_plimseg._widgets.correct_section import CorrectSection
    from napari_plimseg._widgets.hint_draft import Answer, Draft, Start
    from napari_plimseg._widgets.hint_tools import Work
    from napari_plimseg._widgets.mask_painter import EditTarget
    from napari_plimseg.slides.slide import Region
    from napari_plimseg.tissue import TissueClass


class HintSection(HintParts):
    """Points and boxes for the mask that *Correct* works on, with its class and its limits.

    Parameters
    ----------
    viewer : napari.Viewer
        Shows the mask.
    correct : CorrectSection
        Whose target, class, painter and undo are used.

    Attributes
    ----------
    told : Signal(str, str)
        A kind of message (as `Banner.tell` takes it) and a sentence for the person.
    """

    told = Signal(str, str)

    def __init__(self, viewer: Viewer, correct: CorrectSection) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._correct = correct
        self.desk = HintDesk()
        self.proposals = Proposals()
        self._target: EditTarget | None = None
        self._searching = False  # what runs is a search
        self._again = False
        self._failure = ""
        layers = self._layers = HintLayers(self._viewer)
        watched = self._watched = LayerHold()
        hand = self._hand = HintHand(
            lambda y, x, positive: self.add_point(y, x, positive=positive),
            lambda box: self._on_box(box),
            lambda box: self._on_drawing(box),
            lambda y, x: self.refine_region(y, x),
        )
        self._picker = RegionPicker(self)
        self._picker.found.connect(self._on_region)
        self._picker.failed.connect(self._on_failed)
        self._picker.finished.connect(self.refresh_state)
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_item)
        self._job.failed.connect(self._on_failed)
        self._job.finished.connect(self._on_finished)
        for name, button in self.tools.items():
            button.clicked.connect(lambda on, name=name: self.choose_tool(name if on else ""))
        for button in correct.tools.values():
            button.clicked.connect(lambda: self.choose_tool(""))
        correct.tidy.requested.connect(lambda _: self.choose_tool(""))
        self.accept_button.clicked.connect(lambda: self.accept())
        self.discard_button.clicked.connect(lambda: self.discard())
        self.wider_button.clicked.connect(lambda: self.look_wider())
        self.find_button.clicked.connect(lambda: self.find_all())
        self.words.returnPressed.connect(lambda: self.find_all())
        self.one_by_one.toggled.connect(self._on_one_by_one)
        self.pixel_size.setKeyboardTracking(False)  # a number counts when it is all there
        self.pixel_size.valueChanged.connect(lambda _: self._ask_again())
        self.model.activated.connect(self._on_model)

        for leave in (hand.put_down, watched.let_go, layers.clear):
            when_gone(self, leave)
        self.list_models()

    @property
    def tool(self) -> str:
        """What is in the hand: a key of `HINT_TOOLS`, or ""."""
        return self._hand.tool

    @property
    def draft(self) -> Draft:
        """What was pointed at so far."""
        return self.proposals.draft

    @property
    def answers(self) -> list[Answer]:
        """The objects that are proposed."""
        return self.proposals.answers

    @property
    def is_working(self) -> bool:
        """Whether a hint is being answered."""
        return self._job.is_running or self._picker.is_running

    def list_models(self) -> None:
        """Offer the models that are here now."""
        self._models = loading.list_hint_models()
        self.desk.model_name = self.show_models(self._models, self.desk.model_name)
        self.refresh_state()

    def showEvent(self, event: QShowEvent) -> None:
        """Look for models again: one may have been trained."""
        super().showEvent(event)
        self.list_models()

    def set_target(self, target: EditTarget | None) -> None:
        """Point at objects for another layer; None for none."""
        before = self._target
        if before is not None and target is not None and before.layer is target.layer:
            self._target = target
            self.refresh_state()
            return
        self.choose_tool("")
        self._watched.let_go()
        self._target = target
        if target is not None:
            events = target.layer.events
            for emitter in (events.selected_label, events.colormap, events.editable):
                self._watched.connect(emitter, self._on_layer)
            self._watched.connect(events.mode, self._on_mode)
        self.refresh_state()

    def choose_tool(self, name: str) -> None:
        """Take a tool of `HINT_TOOLS` into the hand; "" puts it down and forgets the hints."""
        target = self._target
        if name and (target is None or self._why_not()):
            name = ""
        if name == self.tool:
            self.refresh_state()
            return
        self._hand.put_down()
        if not name:
            self.discard()
        elif target is not None:
            self._correct.choose_tool("move")
            self._hand.take(name, target, self._keys())
        self.refresh_state()

    def _keys(self) -> dict[str, Callable[[], None]]:
        others = {"Enter": self.accept, "Escape": self._on_escape, "Backspace": self.take_back}
        return others | {k: lambda name=name: self.choose_tool(name) for k, name in KEYS.items()}

    def add_point(self, y: float, x: float, *, positive: bool) -> None:
        """Point at a level-0 place: inside the object, or outside of it."""
        if len(self.proposals.shown) > 1:
            if positive:
                self.told.emit("info", "Accept or discard these proposals first.")
            elif self.proposals.leave_out(y, x):
                self._show_answers()
            else:
                self.told.emit("info", "There is no proposal under the cursor.")
            return
        self._ask(self.draft.with_point(y, x, positive=positive))

    def add_box(self, box: Region) -> None:
        """Begin a new object with a box in level-0 pixels, or put it around a region."""
        draft = self.draft.with_box(box)
        if draft.start is None and not (self.proposals.is_search and self._job.is_running):
            self.proposals.forget()
        self._ask(draft)

    def refine_region(self, y: float, x: float) -> None:
        """Refine the region of the mask at a level-0 place by what is pointed at next."""
        target = self._target
        if target is None or self._why_not():
            return
        self._forget()
        self._picker.find(region_search(target, y, x))

    def _on_region(self, start: Start) -> None:
        self.proposals.begin(start)
        self.choose_tool("point_in")
        self._show_answers()
        if self._target is not None and not self._job.is_running:
            self._start(self.desk.preparation(self._target, self.pixel_size.value(), start))

    def take_back(self) -> None:
        """Take the last hint back."""
        self._ask(self.draft.without_last())

    def look_wider(self) -> None:
        """Look at twice the surroundings."""
        self._ask(self.draft.wider())

    def accept(self) -> None:
        """Give what is shown the chosen class, within the limits of *Correct*."""
        target, painter, chosen = self._target, self._correct.painter, self._class()
        shown = self.proposals.shown
        if target is None or painter is None or not shown:
            return
        if chosen is None:
            self.told.emit("warning", "Choose a class first: click it in Correct.")
            return
        start = shown[0].draft.start
        if start is not None and not shown[0].draft.is_ready:
            self.told.emit("info", REFINED)
            return
        masks, mask_id = [answer.mask for answer in shown], self.proposals.mask_id(target)
        size = painter.apply(edit_of(target, masks, mask_id, start))
        self.told.emit(*accepted_words(target, size, chosen.name, is_region=start is not None))
        self._correct.refresh_state()
        self._next()

    def discard(self) -> None:
        """Forget what is shown; one by one, only this proposal."""
        if self.proposals.is_search and self.proposals.one_by_one and self.tool:
            self._next()
        else:
            self._forget()

    def find_all(self) -> None:
        """Propose every object in view: of the words, or of the chosen class."""
        target = self._target
        if target is None or self._why_not():
            return
        if self._job.is_running:
            self.told.emit("info", "The last hint is still being answered.")
            return
        if not self.tool:
            self.choose_tool("point_out")
        self._forget()
        try:
            work = self.desk.search(target, self.pixel_size.value(), self.words.text().strip())
        except PlimsegError as error:
            self.told.emit("warning", str(error))
            return
        self.proposals.is_search = True
        self._start(work, is_search=True)

    def refresh_state(self) -> None:
        """Show what can be used now and say why the rest can't."""
        reason = self._why_not()
        shown = self.proposals.shown
        cut = len(shown) == 1 and shown[0].mask.is_cut
        self.show_enabled(reason, "" if shown else NOTHING_SHOWN, "" if cut else NOT_CUT)
        target = self._target
        self.pixel_row.setVisible(target is not None and needs_pixel_size(target))
        for name, button in self.tools.items():
            button.setChecked(name == self.tool)
        self.show_class(self._class())
        if reason:
            self.state.setText(reason)
        elif not self._job.is_running:
            failure = "" if shown else self._failure
            self.state.setText(failure or words_of(shown, len(self.answers), self.tool))

    def _why_not(self) -> str:
        return why_not(self._target, self._models)

    def _class(self) -> TissueClass | None:
        target = self._target
        if target is None:
            return None
        return target.info.classes.by_id(self.proposals.mask_id(target))

    def _ask(self, draft: Draft) -> None:
        target = self._target
        if target is None or target.slide is None:
            return
        if self.proposals.is_search and self._searching and self._job.is_running:
            self.told.emit("info", "The search goes on. Escape ends it.")
            return
        self.proposals.point(draft)
        self._failure = ""
        self._layers.show_draft(target, draft)
        if not draft.is_ready:
            self._show_answers()
            if draft.points:
                self.told.emit("info", "Click inside the object, too, or draw a box around it.")
        elif self._job.is_running:
            self._again = True
        else:
            self._start(self.desk.question(target, self.pixel_size.value(), draft))

    def _start(self, work: Work, *, is_search: bool = False) -> None:
        self._searching = is_search
        self._again = False
        self._failure = ""
        self._job.start(work)
        self.refresh_state()

    def _on_item(self, item: str | Answer) -> None:
        if isinstance(item, str):
            if not self._why_not():
                self.state.setText(item)
            return
        if self.proposals.take(item, of_search=self._searching):
            self._show_answers()

    def _on_failed(self, text: str) -> None:
        self._failure = text
        self.told.emit("error", text)

    def _on_finished(self, ended: bool) -> None:
        if self._again and self.draft.is_ready:
            self._ask(self.draft)
        elif ended and self._searching and self.proposals.is_search and not self.answers:
            self._failure = NOTHING_FOUND
        self._again = False if not self._job.is_running else self._again
        self.refresh_state()

    def _show_answers(self) -> None:
        target, chosen = self._target, self._class()
        if target is None:
            return
        shown = self.proposals.shown
        color = (255, 255, 255) if chosen is None else chosen.color
        masks = [answer.mask for answer in shown]
        count = self._layers.show_preview(target, masks, color, self.proposals.before)
        if self.proposals.is_search and self.proposals.one_by_one:
            self._layers.show_draft(target, self.draft)
        if shown and not count:
            self.proposals.drop_shown()
            self._failure = NO_OBJECT
        self.refresh_state()

    def _next(self) -> None:
        """Go to the next proposal, or end."""
        if self.proposals.go_on():
            self._show_answers()
        else:
            self._forget()

    def _forget(self) -> None:
        self._job.stop()
        self._picker.stop()
        self._again = False
        self._failure = ""
        self.proposals.forget()
        self._layers.clear()
        self.refresh_state()

    def _on_box(self, box: Region | None) -> None:
        if box is None:
            self.told.emit("info", "Drag from one corner of the box to the other.")
        else:
            self.add_box(box)

    def _on_drawing(self, box: Region) -> None:
        if self._target is not None:
            self._layers.show_box(self._target, box)

    def _on_escape(self) -> None:
        if self.answers or not self.draft.is_empty or self._job.is_running:
            self.discard()
        else:
            self.choose_tool("")

    def _on_layer(self, event: Any = None) -> None:
        if self.answers:
            self._show_answers()  # in the colour of the class
        else:
            self.refresh_state()

    def _on_mode(self, event: Any = None) -> None:
        if self.tool and self._target is not None and self._target.layer.mode != "pan_zoom":
            self.choose_tool("")

    def _on_one_by_one(self, on: bool) -> None:
        self.proposals.one_by_one = on
        self._show_answers()

    def _on_model(self, row: int) -> None:
        self.desk.model_name = self.model.itemData(row)
        self._ask_again()

    def _ask_again(self) -> None:
        """Answer what was pointed at with what was chosen since."""
        if self.draft.is_ready and not self.proposals.is_search:
            self._ask(self.draft)
        self.refresh_state()
