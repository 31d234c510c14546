"""The section *Hints*: points and boxes on a slide become objects of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common.background_job import BackgroundJob, on_destroyed
from napari_plimseg._widgets.common.banner import FlowText
from napari_plimseg._widgets.common.icons import tool_button, tool_icon
from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg._widgets.review.correct.section import HIDDEN, NO_MASK
from napari_plimseg._widgets.review.promptable.jobs import (
    PromptService,
    accepted_words,
    edit_of,
    needs_pixel_size,
    region_search,
)
from napari_plimseg._widgets.review.promptable.layers import HintLayers
from napari_plimseg._widgets.review.promptable.proposals import (
    NO_OBJECT,
    NOT_CUT,
    NOTHING_FOUND,
    Proposals,
)
from napari_plimseg._widgets.review.promptable.tool import KEYS, PromptTool, RegionPicker
from napari_plimseg._widgets.viewer.layer_bindings import LayerHold
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg.errors import PlimsegError
from napari_plimseg.models import library
from napari_plimseg.models.library import HINT_MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.viewer import Viewer
    from qtpy.QtGui import QShowEvent

    from napari_plimseg._widgets.review.correct.painter import EditTarget
    from napari_plimseg._widgets.review.correct.section import CorrectSection
    from napari_plimseg._widgets.review.promptable.jobs import Work
    from napari_plimseg._widgets.review.promptable.proposals import Answer, Draft, Start
    from napari_plimseg.models.library import ModelEntry
    from napari_plimseg.slides.slide import Region
    from napari_plimseg.tissue import TissueClass


HINT_TOOLS = {
    "point_in": ("Point +", "Click inside an object."),
    "point_out": ("Point −", "Click on what does not belong to the object."),
    "box": ("Box", "Drag a box around an object."),
    "refine": ("Refine", "Click a region of the mask that is not quite right."),
}
"""Words below the icon, and what to do, by tool."""
NO_SLIDE = "The slide of this mask is not open, so there is nothing to look at: open it first."
NO_MODEL = (
    "The model for points and boxes is missing ({file}). {reason} Or put a trained one into the "
    "folder of models: plimseg train, recipe wsi_sam."
)
_ACCEPT_WIDTH = 220  # pixels of text; the dock may be 340 wide
REFINED = "Click what this region lacks with Point +, and what it has too much with Point −."
ONLY_PART = " Only the part of it around the click: the rest stays as it is."
NOTHING_SHOWN = "There is no proposal: click an object or draw a box first."


class HintParts(QWidget):
    """Builds the section: tools, state, the three answers, and the search in view."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: tool_button(text) for name, (text, _) in HINT_TOOLS.items()}
        self.state = FlowText()
        self.accept_button = QPushButton("Accept")
        self.discard_button = QPushButton("Discard")
        self.wider_button = QPushButton("Look wider")
        self.words = QLineEdit()
        self.words.setPlaceholderText("gland, or empty: the chosen class")
        self.find_button = QPushButton("Find in view")
        self.one_by_one = QCheckBox("One by one")
        self.pixel_row = QWidget()
        self.pixel_size = QDoubleSpinBox()
        self.pixel_size.setRange(0, 20)
        self.pixel_size.setDecimals(3)
        self.pixel_size.setSingleStep(0.05)
        self.pixel_size.setSpecialValueText("unknown")
        self.model = QComboBox()
        self.model.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._arrange()

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        tools = QHBoxLayout()
        tools.setSpacing(2)
        for button in self.tools.values():
            tools.addWidget(button, 1)
        column.addLayout(tools)
        column.addWidget(self.state)
        column.addWidget(self.accept_button)
        answers = QHBoxLayout()
        answers.addWidget(self.discard_button, 1)
        answers.addWidget(self.wider_button, 1)
        column.addLayout(answers)
        search = QHBoxLayout()
        search.addWidget(self.words, 1)
        search.addWidget(self.find_button)
        column.addLayout(search)
        column.addWidget(self.one_by_one)
        pixel = QHBoxLayout(self.pixel_row)
        pixel.setContentsMargins(0, 0, 0, 0)
        pixel.addWidget(QLabel("Pixel size (µm)"))
        pixel.addWidget(self.pixel_size, 1)
        column.addWidget(self.pixel_row)
        model = QHBoxLayout()
        model.addWidget(QLabel("Model"))
        model.addWidget(self.model, 1)
        column.addLayout(model)

    def show_theme(self, color: str) -> None:
        """Draw icons in the text colour of the viewer's theme."""
        for name, button in self.tools.items():
            button.setIcon(tool_icon(name, QColor(color)))

    def show_models(self, models: Sequence[ModelEntry], chosen: str) -> str:
        """Offer the models that are here; return the one that is chosen now."""
        here = [info for info in models if info.available]
        self.model.clear()
        for info in here:
            self.model.addItem(info.title, info.name)
        self.model.setCurrentIndex(max(0, self.model.findData(chosen)))
        return str(self.model.currentData()) if here else chosen

    def show_class(self, chosen: TissueClass | None) -> None:
        """Show which class takes what is accepted; None shows that there is none."""
        text = "Accept" if chosen is None else f"Accept: {chosen.name}"
        metrics = self.accept_button.fontMetrics()
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, _ACCEPT_WIDTH)
        self.accept_button.setText(shown)
        icon = QIcon()
        if chosen is not None:
            picture = QPixmap(12, 12)
            picture.fill(QColor(*chosen.color))
            icon = QIcon(picture)
        self.accept_button.setIcon(icon)

    def show_enabled(self, why_not: str, no_answer: str, not_wider: str) -> None:
        """Enable what can be used and say why the rest can't; empty sentences allow."""
        for name, button in self.tools.items():
            allow(button, why_not, f"hint_{name}")
        allow(self.accept_button, why_not or no_answer, "hint_accept")
        allow(self.discard_button, why_not or no_answer, "hint_discard")
        allow(self.wider_button, why_not or not_wider, "hint_wider")
        allow(self.words, why_not, "hint_words")
        allow(self.find_button, why_not, "hint_find")
        allow(self.one_by_one, why_not, "hint_one_by_one")
        self.pixel_size.setToolTip(TOOLTIPS["hint_pixel_size"])
        only_one = "" if self.model.count() > 1 else "There is no other model for points and boxes."
        allow(self.model, only_one, "hint_model")


def why_not(target: EditTarget | None, models: Sequence[ModelEntry]) -> str:
    """Return why nothing can be pointed at, with what to do; empty when it can."""
    if target is None:
        return NO_MASK
    if target.slide is None:
        return NO_SLIDE
    if not target.layer.editable:
        return HIDDEN
    if not any(info.available for info in models):
        return NO_MODEL.format(file=HINT_MODEL_FILE, reason=models[0].reason)
    return ""


def words_of(shown: Sequence[Answer], waiting: int, tool: str) -> str:
    """Return a line on what is shown of `waiting` answers, or on what to do with the tool."""
    if not shown:
        return HINT_TOOLS[tool][1] if tool else "Choose a tool, then point."
    answer = shown[0]
    start = answer.draft.start
    if start is not None and not answer.draft.is_ready:
        return REFINED + (ONLY_PART if start.region.is_cut else "")
    if len(shown) > 1:
        return f"{len(shown)} proposals · Enter accepts all. Point − leaves one out."
    left = f" · {waiting - 1} more" if waiting > 1 else ""
    cut = " It goes on beyond what was looked at." if answer.mask.is_cut else ""
    overlap = f"expected overlap {answer.mask.score:.0%}"
    return f"{answer.milliseconds:.0f} ms · {overlap}{left}.{cut} Enter accepts."


def allow(widget: QWidget, why_not: str, tooltip: str) -> None:
    """Enable a control, or say in its tooltip why it can't be used."""
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or TOOLTIPS[tooltip])


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
    messageEmitted : Signal(str, str)
        A kind of message (as `Banner.show_message` takes it) and a sentence for the person.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, viewer: Viewer, correct: CorrectSection) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._correct = correct
        self.desk = PromptService()
        self.proposals = Proposals()
        self._target: EditTarget | None = None
        self._searching = False  # what runs is a search
        self._again = False
        self._failure = ""
        layers = self._layers = HintLayers(self._viewer)
        watched = self._watched = LayerHold()
        hand = self._hand = PromptTool(
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
        correct.cleanup.requested.connect(lambda _: self.choose_tool(""))
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
            on_destroyed(self, leave)
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
        self._models = library.list_promptable_models()
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
                self.messageEmitted.emit("info", "Accept or discard these proposals first.")
            elif self.proposals.leave_out(y, x):
                self._show_answers()
            else:
                self.messageEmitted.emit("info", "There is no proposal under the cursor.")
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
            self.messageEmitted.emit("warning", "Choose a class first: click it in Correct.")
            return
        start = shown[0].draft.start
        if start is not None and not shown[0].draft.is_ready:
            self.messageEmitted.emit("info", REFINED)
            return
        masks, mask_id = [answer.mask for answer in shown], self.proposals.mask_id(target)
        size = painter.apply(edit_of(target, masks, mask_id, start))
        self.messageEmitted.emit(
            *accepted_words(target, size, chosen.name, is_region=start is not None)
        )
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
            self.messageEmitted.emit("info", "The last hint is still being answered.")
            return
        if not self.tool:
            self.choose_tool("point_out")
        self._forget()
        try:
            work = self.desk.search(target, self.pixel_size.value(), self.words.text().strip())
        except PlimsegError as error:
            self.messageEmitted.emit("warning", str(error))
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
            self.messageEmitted.emit("info", "The search goes on. Escape ends it.")
            return
        self.proposals.point(draft)
        self._failure = ""
        self._layers.show_draft(target, draft)
        if not draft.is_ready:
            self._show_answers()
            if draft.points:
                self.messageEmitted.emit(
                    "info", "Click inside the object, too, or draw a box around it."
                )
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

    def _on_item(self, item: str | Answer | None) -> None:
        if item is None:  # surroundings were encoded, there is no answer to show
            return
        if isinstance(item, str):
            if not self._why_not():
                self.state.setText(item)
            return
        if self.proposals.take(item, of_search=self._searching):
            self._show_answers()

    def _on_failed(self, text: str) -> None:
        self._failure = text
        self.messageEmitted.emit("error", text)

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
            self.messageEmitted.emit("info", "Drag from one corner of the box to the other.")
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
