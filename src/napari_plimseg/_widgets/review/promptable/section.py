"""The section *Smart select*: points and boxes on a slide become objects of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg import models
from napari_plimseg._widgets.common import (
    TOOLTIPS,
    BackgroundJob,
    FlowText,
    PlainLabel,
    allow,
    on_destroyed,
    plain,
    tool_button,
    tool_icon,
)
from napari_plimseg._widgets.review.promptable.jobs import (
    PromptService,
    accepted_message,
    edit_of,
    is_on_layer,
    needs_pixel_size,
    region_search,
)
from napari_plimseg._widgets.review.promptable.layers import PromptLayers
from napari_plimseg._widgets.review.promptable.model import (
    MESSAGES,
    OFF_SLIDE,
    PROMPT_TOOLS,
    PromptModel,
    Reply,
)
from napari_plimseg._widgets.review.promptable.tool import KEYS, PromptTool, RegionPicker
from napari_plimseg._widgets.viewer import CameraWatch, LayerBindings, unwrapped
from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from qtpy.QtGui import QShowEvent

    from napari_plimseg._widgets.review.correct import CorrectSection, EditTarget
    from napari_plimseg._widgets.review.promptable.jobs import Work
    from napari_plimseg._widgets.review.promptable.proposals import Answer, PromptDraft, Start
    from napari_plimseg.slides import Region
    from napari_plimseg.tissue import TissueClass


_ACCEPT_WIDTH = 220  # pixels of text; the dock may be only 340 wide


class PromptControls(QWidget):
    """The controls of the section: tools, status, accept and discard, search, model."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: tool_button(text) for name, (text, _) in PROMPT_TOOLS.items()}
        self.status = FlowText()
        self.accept_button = QPushButton("Accept")
        self.discard_button = QPushButton("Discard")
        self.wider_button = QPushButton("Larger context")
        self.words = QLineEdit()
        self.words.setPlaceholderText("e.g. gland (empty = selected class)")
        self.find_button = QPushButton("Find in view")
        self.one_by_one = QCheckBox("One by one")
        self.pixel_row = QWidget()
        self.pixel_size = QDoubleSpinBox()
        self.pixel_size.setRange(0, 20)
        self.pixel_size.setDecimals(3)
        self.pixel_size.setSingleStep(0.05)
        self.pixel_size.setSpecialValueText("unknown")
        self.pixel_size.setKeyboardTracking(False)  # act on the finished number, not on each digit
        self.pixel_size.setToolTip(TOOLTIPS["prompt_pixel_size"])
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
        column.addWidget(self.status)
        column.addWidget(self.accept_button)
        answers = QHBoxLayout()
        answers.addWidget(self.discard_button, 1)
        answers.addWidget(self.wider_button, 1)
        column.addLayout(answers)
        column.addWidget(self.words)
        search = QHBoxLayout()
        search.addWidget(self.find_button, 1)
        search.addWidget(self.one_by_one)
        column.addLayout(search)
        pixel = QHBoxLayout(self.pixel_row)
        pixel.setContentsMargins(0, 0, 0, 0)
        pixel.addWidget(PlainLabel("Pixel size (µm)"))
        pixel.addWidget(self.pixel_size, 1)
        column.addWidget(self.pixel_row)
        model = QHBoxLayout()
        model.addWidget(PlainLabel("Model"))
        model.addWidget(self.model, 1)
        column.addLayout(model)

    def show_theme(self, color: str) -> None:
        """Draw icons in the text color of the viewer's theme."""
        for name, button in self.tools.items():
            button.setIcon(tool_icon(name, QColor(color)))

    def show_models(self, state: PromptModel, chosen: str) -> str:
        """List the models that can be used; return the name of the one chosen now."""
        self.model.clear()
        for info in state.usable_models:
            self.model.addItem(info.title, info.name)
        self.model.setCurrentIndex(max(0, self.model.findData(chosen)))
        return str(self.model.currentData()) if state.usable_models else chosen

    def show_class(self, tissue_class: TissueClass | None) -> None:
        """Show on *Accept* which class is assigned; None for none."""
        text = "Accept" if tissue_class is None else f"Accept: {tissue_class.name}"
        metrics = self.accept_button.fontMetrics()
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, _ACCEPT_WIDTH)
        self.accept_button.setText(shown)
        icon = QIcon()
        if tissue_class is not None:
            picture = QPixmap(12, 12)
            picture.fill(QColor(*tissue_class.color))
            icon = QIcon(picture)
        self.accept_button.setIcon(icon)

    def show_state(self, state: PromptModel) -> None:
        """Show what can be used, and what is going on."""
        for name, button in self.tools.items():
            allow(button, state.why_not(name), f"prompt_{name}")
            button.setChecked(name == state.tool)
        for control, name in (
            (self.accept_button, "accept"),
            (self.discard_button, "discard"),
            (self.wider_button, "wider"),
            (self.words, "words"),
            (self.find_button, "find"),
            (self.one_by_one, "one_by_one"),
            (self.model, "model"),
        ):
            allow(control, state.why_not(name), f"prompt_{name}")
        self.pixel_row.setVisible(state.target is not None and needs_pixel_size(state.target))
        self.show_class(state.selected_class)
        self.status.setText(state.status)
        self.status.setToolTip(plain(state.details))


class PromptSection(QWidget):
    """Points and boxes for the mask of *Correct*, with its selected class and its limits.

    Parameters
    ----------
    viewer : napari.Viewer
        Shows the mask.
    correct : CorrectSection
        Whose target, class, painter and undo are used.

    Attributes
    ----------
    state : PromptModel
        What can be used, asked and shown.
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    messageWithdrawn : Signal(str)
        Text of a message that no longer holds.
    """

    messageEmitted = Signal(str, str)
    messageWithdrawn = Signal(str)

    def __init__(self, viewer: Viewer, correct: CorrectSection) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._correct = correct
        self.state = PromptModel()
        self._said = ""
        self.service = PromptService()
        self.controls = PromptControls()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.controls)
        layers = self._layers = PromptLayers(self._viewer)
        bindings = self._bindings = LayerBindings()
        tool = self._tool = PromptTool(
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
        self._connect()
        camera = CameraWatch(self._viewer, self._on_moved)
        for leave in (tool.deactivate, bindings.release, layers.clear, camera.disconnect):
            on_destroyed(self, leave)
        self.list_models()

    def _connect(self) -> None:
        controls, correct = self.controls, self._correct.controls
        for name, button in controls.tools.items():
            button.clicked.connect(lambda on, name=name: self.choose_tool(name if on else ""))
        for button in correct.tools.values():
            button.clicked.connect(lambda: self.choose_tool(""))
        correct.cleanup.requested.connect(lambda _: self.choose_tool(""))
        controls.accept_button.clicked.connect(lambda: self.accept())
        controls.discard_button.clicked.connect(lambda: self.discard())
        controls.wider_button.clicked.connect(lambda: self.look_wider())
        controls.find_button.clicked.connect(lambda: self.find_all())
        controls.words.returnPressed.connect(lambda: self.find_all())
        controls.one_by_one.toggled.connect(self._on_one_by_one)
        controls.pixel_size.valueChanged.connect(lambda _: self._ask_again())
        controls.model.activated.connect(self._on_model)

    @property
    def is_working(self) -> bool:
        """Whether a job is running."""
        return self._job.is_running or self._picker.is_running

    def list_models(self) -> None:
        """List the models that can be used now."""
        self.state.models = models.list_promptable_models()
        self.service.model_name = self.controls.show_models(self.state, self.service.model_name)
        self.refresh_state()

    def showEvent(self, event: QShowEvent) -> None:
        """List the models again: one may have been trained."""
        super().showEvent(event)
        self.list_models()

    def set_target(self, target: EditTarget | None) -> None:
        """Point at objects for another layer; None for none."""
        before = self.state.target
        if before is not None and target is not None and before.layer is target.layer:
            self.state.target = target
            self.refresh_state()
            return
        self.choose_tool("")
        self._bindings.release()
        self.state.target = target
        if target is not None:
            events = target.layer.events
            for emitter in (events.selected_label, events.colormap, events.editable):
                self._bindings.connect(emitter, self._on_layer)
            self._bindings.connect(events.mode, self._on_mode)
        self.refresh_state()

    def follow_classes(self, *, moved: bool) -> None:
        """Drop the region to refine when the classes were `moved` to other numbers."""
        if moved and self.state.draft.start is not None:
            self._forget()
        self.refresh_state()

    def choose_tool(self, name: str) -> None:
        """Activate a tool of `PROMPT_TOOLS`; "" deactivates it and forgets the draft."""
        target = self.state.target
        if name and self.state.problem:
            name = ""
        if name == self.state.tool:
            self.refresh_state()
            return
        self._tool.deactivate()
        self.state.tool = ""
        if not name:
            self.discard()
        elif target is not None:
            self._correct.choose_tool("move")
            self._tool.activate(name, target, self._keys())
            self.state.tool = name
        self.refresh_state()

    def _keys(self) -> dict[str, Callable[[], None]]:
        others = {"Enter": self.accept, "Escape": self._on_escape, "Backspace": self.take_back}
        return others | {k: lambda name=name: self.choose_tool(name) for k, name in KEYS.items()}

    def show_theme(self, color: str) -> None:
        """Draw icons in the text color of the viewer's theme."""
        self.controls.show_theme(color)

    def add_point(self, y: float, x: float, *, positive: bool) -> None:
        """Point at a level-0 place: inside the object, or outside of it."""
        self._show_reply(self.state.point(y, x, positive=positive))

    def add_box(self, box: Region) -> None:
        """Begin a new object with a box in level-0 pixels, or refine a region with it."""
        state = self.state
        if state.is_off_slide(box):
            if state.target is not None:
                self._layers.show_box(state.target, None)
            self.messageEmitted.emit("info", OFF_SLIDE)
            return
        draft = state.draft.with_box(box)
        if draft.start is None and not (state.proposals.is_search and self._job.is_running):
            state.proposals.forget()
        self._ask(draft)

    def refine_region(self, y: float, x: float) -> None:
        """Refine the region of the mask at a level-0 place with the next points and boxes."""
        target = self.state.target
        if target is None or self.state.problem:
            return
        if not is_on_layer(target, y, x):
            self.messageEmitted.emit("info", OFF_SLIDE)
            return
        self._forget()
        self._picker.find(region_search(target, y, x))

    def _on_region(self, start: Start) -> None:
        self.state.proposals.begin(start)
        self.choose_tool("point_in")
        self._show_answers()
        target = self.state.target
        if target is not None and not self._job.is_running:
            self._start(self.service.preparation(target, self._typed_pixel_um, start))

    def take_back(self) -> None:
        """Remove the last point or box."""
        self._ask(self.state.draft.without_last())

    def look_wider(self) -> None:
        """Use twice the context."""
        self._ask(self.state.draft.wider())

    def accept(self) -> None:
        """Paint what is shown with the selected class, within the limits of *Correct*."""
        state, painter = self.state, self._correct.painter
        target, shown = state.target, state.shown
        if target is None or painter is None or not shown:
            return
        refusal = state.why_not_accept()
        tissue_class = state.selected_class
        if refusal is not None or tissue_class is None:
            if refusal is not None:
                self.messageEmitted.emit(*refusal)
            return
        start, mask_id = shown[0].draft.start, state.proposals.mask_id(target)
        edit = edit_of(target, [answer.mask for answer in shown], mask_id, start)
        size, is_region = painter.apply(edit), start is not None
        self.messageEmitted.emit(
            *accepted_message(target, size, tissue_class.name, is_region=is_region)
        )
        self._correct.refresh_state()
        self._next()

    def discard(self) -> None:
        """Discard what is shown; one by one, only this proposal."""
        proposals = self.state.proposals
        if proposals.is_search and proposals.one_by_one and self.state.tool:
            self._next()
        else:
            self._forget()

    def find_all(self) -> None:
        """Propose every object in view: of the words, or of the selected class."""
        target = self.state.target
        if target is None or self.state.problem:
            return
        if self._job.is_running:
            self.messageEmitted.emit("info", "Still working on the last click. Try again soon.")
            return
        if not self.state.tool:
            self.choose_tool("point_out")
        self._forget()
        words = self.controls.words.text().strip()
        try:
            work = self.service.search(target, self._typed_pixel_um, words)
        except PlimsegError as error:
            self.messageEmitted.emit("warning", str(error))
            return
        self.state.proposals.is_search = True
        self._start(work, is_search=True)

    def refresh_state(self) -> None:
        """Show the state again."""
        self.controls.show_state(self.state)

    @property
    def _typed_pixel_um(self) -> float:
        return float(self.controls.pixel_size.value())

    def _ask(self, draft: PromptDraft) -> None:
        self._show_reply(self.state.ask(draft))

    def _show_reply(self, reply: Reply) -> None:
        target, draft = self.state.target, self.state.draft
        if reply is Reply.DROPPED:
            self._show_answers()
        elif target is not None and reply in (
            Reply.CLEARED, Reply.INCOMPLETE, Reply.QUEUED, Reply.ASK
        ):  # fmt: skip
            self._layers.show_draft(target, draft)
            if reply is Reply.ASK:
                self._withdraw()
                self._start(self.service.question(target, self._typed_pixel_um, draft))
            elif reply is not Reply.QUEUED:
                self._show_answers()
        if reply in MESSAGES:
            self._said = MESSAGES[reply]
            self.messageEmitted.emit("info", self._said)

    def _start(self, work: Work, *, is_search: bool = False) -> None:
        self.state.start(is_search=is_search)
        self._job.start(work)
        self.refresh_state()

    def _on_item(self, item: str | Answer | None) -> None:
        if item is None:  # the surroundings of a region are encoded: there is no answer to show
            return
        if isinstance(item, str):
            self.state.note_progress(item)
            self.refresh_state()
        elif self.state.take(item):
            self._withdraw()
            self._show_answers()

    def _on_failed(self, text: str) -> None:
        self.state.failure = self._said = text
        self.messageEmitted.emit("error", text)

    def _withdraw(self) -> None:
        """Withdraw the message about an earlier click or failure."""
        said, self._said = self._said, ""
        if said:
            self.messageWithdrawn.emit(said)

    def _on_moved(self) -> None:
        if self.state.is_tiny:
            self._show_answers()

    def _on_finished(self, completed: bool) -> None:
        if self.state.finish(completed=completed):
            self._ask(self.state.draft)
        self.refresh_state()

    def _show_answers(self) -> None:
        state, target = self.state, self.state.target
        if target is None:
            return
        shown, tissue_class = state.shown, state.selected_class
        color = (255, 255, 255) if tissue_class is None else tissue_class.color
        masks = [answer.mask for answer in shown]
        count = self._layers.show_preview(target, masks, color, state.proposals.before)
        if state.proposals.is_search and state.proposals.one_by_one:
            self._layers.show_draft(target, state.draft)
        if shown and not count:
            state.drop_empty()
        state.is_tiny = self._layers.is_tiny(target, masks) if shown and count else False
        self.refresh_state()

    def _next(self) -> None:
        """Show the next proposal, or none."""
        if self.state.proposals.advance():
            self._show_answers()
        else:
            self._forget()

    def _forget(self) -> None:
        self._job.stop()
        self._picker.stop()
        self._withdraw()
        self.state.forget()
        self._layers.clear()
        self.refresh_state()

    def _on_box(self, box: Region | None) -> None:
        if box is None:
            self.messageEmitted.emit("info", "Drag from one corner of the box to the other.")
        else:
            self.add_box(box)

    def _on_drawing(self, box: Region) -> None:
        if self.state.target is not None:
            self._layers.show_box(self.state.target, box)

    def _on_escape(self) -> None:
        if self.state.answers or not self.state.draft.is_empty or self._job.is_running:
            self.discard()
        else:
            self.choose_tool("")

    def _on_layer(self, event: Any = None) -> None:
        if self.state.answers:
            self._show_answers()  # in the color of the class
        else:
            self.refresh_state()

    def _on_mode(self, event: Any = None) -> None:
        target = self.state.target
        if self.state.tool and target is not None and target.layer.mode != "pan_zoom":
            self.choose_tool("")

    def _on_one_by_one(self, on: bool) -> None:
        self.state.proposals.one_by_one = on
        self._show_answers()

    def _on_model(self, row: int) -> None:
        self.service.model_name = self.controls.model.itemData(row)
        self._ask_again()

    def _ask_again(self) -> None:
        """Ask again after the model or the pixel size changed."""
        if self.state.draft.is_ready and not self.state.proposals.is_search:
            self._ask(self.state.draft)
        self.refresh_state()
