"""The section *Correct*: paints on a mask with the tools of napari and tidies it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    BackgroundJob,
    CollapsibleSection,
    PlainLabel,
    allow,
    on_destroyed,
    tool_button,
    tool_icon,
)
from napari_plimseg._widgets.review.correct.class_chips import KEYED, ClassChips
from napari_plimseg._widgets.review.correct.cleanup_panel import CleanupOperation, CleanupPanel
from napari_plimseg._widgets.review.correct.edit_queue import EditQueue, EditRequest
from napari_plimseg._widgets.review.correct.edit_region import EditRegion
from napari_plimseg._widgets.review.correct.painter import (
    EditTarget,
    MaskPainter,
)
from napari_plimseg._widgets.review.messages import HIDDEN, NO_MASK
from napari_plimseg._widgets.viewer import DiscardedRow, LayerBindings, label_history, unwrapped
from napari_plimseg.errors import PlimsegError
from napari_plimseg.results import connected_region, relabel
from napari_plimseg.settings import load_settings
from napari_plimseg.slides.tissue_mask import tissue_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.review.correct.edit_queue import Work
    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import ClassChange, Edit, Part
    from napari_plimseg.slides import Slide, TissueMask


TOOLS = {
    "move": ("Move", "pan_zoom"),
    "brush": ("Brush", "paint"),
    "erase": ("Erase", "erase"),
    "fill": ("Fill", "fill"),
    "polygon": ("Polygon", "polygon"),
    "pick": ("Pick", "pick"),
}
"""Label and napari's mode by tool."""
MAX_BRUSH = 250


class CorrectControls(QWidget):
    """The controls of the section: tools, classes, brush, limits, undo and cleanup."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: tool_button(text) for name, (text, _) in TOOLS.items()}
        self.chips = ClassChips()
        self.brush_size = QSlider(Qt.Orientation.Horizontal)
        self.brush_size.setRange(1, MAX_BRUSH)
        self.brush_text = PlainLabel()
        self.only_tissue = QCheckBox("Only within tissue")
        self.undo_button = self._step_button("undo", "Undo")
        self.redo_button = self._step_button("redo", "Redo")
        self.saved_text = PlainLabel()
        self.saved_text.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.saved_text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.region_button = QPushButton("Edit this region at full resolution")
        self.done_button = QPushButton("Done")
        self.discard_button = QPushButton("Discard")
        self.discarded = DiscardedRow()
        self.cleanup = CleanupPanel()
        self.cleanup_section = CollapsibleSection("Clean up", self.cleanup)
        self._arrange()

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        tools = QGridLayout()
        tools.setSpacing(2)
        for number, button in enumerate(self.tools.values()):
            tools.addWidget(button, 0, number)
            tools.setColumnStretch(number, 1)
        column.addLayout(tools)
        column.addWidget(self.chips)
        brush = QHBoxLayout()
        brush.addWidget(PlainLabel("Brush"))
        brush.addWidget(self.brush_size, 1)
        brush.addWidget(self.brush_text)
        column.addLayout(brush)
        column.addWidget(self.only_tissue)
        steps = QHBoxLayout()
        steps.addWidget(self.undo_button)
        steps.addWidget(self.redo_button)
        steps.addWidget(self.saved_text, 1)
        column.addLayout(steps)
        region = QHBoxLayout()
        region.addWidget(self.region_button, 1)
        region.addWidget(self.done_button, 1)
        region.addWidget(self.discard_button, 1)
        column.addLayout(region)
        column.addWidget(self.discarded)
        column.addWidget(self.cleanup_section)

    def _step_button(self, name: str, text: str) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setIconSize(QSize(16, 16))
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        return button

    def show_theme(self, color: str) -> None:
        """Draw icons in the text color of the viewer's theme."""
        ink = QColor(color)
        for name, button in self.tools.items():
            button.setIcon(tool_icon(name, ink))
        self.undo_button.setIcon(tool_icon("undo", ink))
        self.redo_button.setIcon(tool_icon("redo", ink))
        self.chips.set_icon_color(ink)
        self.cleanup_section.show_theme(ink)

    def show_enabled(self, why_not: str, no_tissue: str, no_undo: str, no_redo: str) -> None:
        """Enable or disable the controls; a text is the reason for disabling, empty enables."""
        for name, button in self.tools.items():
            allow(button, why_not, f"tool_{name}")
        allow(self.brush_size, why_not, "brush_size")
        allow(self.only_tissue, why_not or no_tissue, "only_tissue")
        allow(self.undo_button, why_not or no_undo, "undo")
        allow(self.redo_button, why_not or no_redo, "redo")
        self.chips.setEnabled(not why_not)
        self.cleanup.set_enabled(why_not)
        allow(self.region_button, why_not, "edit_region")
        self.done_button.setToolTip(TOOLTIPS["region_done"])
        self.discard_button.setToolTip(TOOLTIPS["region_discard"])


_NAPARI_BRUSH, _FIRST_BRUSH = 10, 20
_HELD_PIXELS = 4  # a click may move the mouse this far; beyond that it is a drag


class CorrectSection(QWidget):
    """Tools for correcting one mask by hand.

    Parameters
    ----------
    viewer : napari.Viewer
        Shows the mask.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    stepped : Signal()
        Something was painted, undone or redone.
    targetOpened : Signal(object)
        The layer that is corrected from now on: a region was opened or closed.
    """

    messageEmitted = Signal(str, str)
    stepped = Signal()
    targetOpened = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self.controls = CorrectControls()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.controls)
        self._painter: MaskPainter | None = None
        bindings = self._bindings = LayerBindings()  # of the target's layer
        click = self._click = LayerBindings()  # while a click on a region is waited for
        self._waiting: CleanupOperation | None = None
        self._tissues: weakref.WeakKeyDictionary[Slide, TissueMask] = weakref.WeakKeyDictionary()
        self._edits = EditQueue(self)
        self._edits.messageEmitted.connect(self.messageEmitted)
        self._edits.changed.connect(self.refresh_state)
        self._tissue_job = BackgroundJob(self)
        self._tissue_job.yielded.connect(self._on_tissue)
        self._tissue_job.failed.connect(lambda text: self.messageEmitted.emit("error", text))
        self._tissue_job.finished.connect(lambda _: self._find_tissue())
        region = self.region = EditRegion(self._viewer)
        self._connect()

        def leave() -> None:  # without `self`, which Qt has destroyed by then
            click.release()
            bindings.release(widget_is_destroyed=True)
            region.done()

        on_destroyed(self, leave)
        self.set_target(None)

    def _connect(self) -> None:
        for name, button in self.controls.tools.items():
            button.clicked.connect(lambda _=False, name=name: self.choose_tool(name))
        self.controls.chips.classChosen.connect(self.choose_class)
        self.controls.discarded.messageEmitted.connect(self.messageEmitted)
        self.controls.chips.protectionChanged.connect(self._on_limits)
        self.controls.only_tissue.toggled.connect(lambda _: self._on_limits())
        self.controls.brush_size.valueChanged.connect(self._on_brush_slider)
        self.controls.undo_button.clicked.connect(lambda: self.undo())
        self.controls.redo_button.clicked.connect(lambda: self.redo())
        self.controls.cleanup.requested.connect(self._on_cleanup)
        self.controls.region_button.clicked.connect(lambda: self.open_region())
        self.controls.done_button.clicked.connect(lambda: self.close_region())
        self.controls.discard_button.clicked.connect(lambda: self.discard_region())

    @property
    def target(self) -> EditTarget | None:
        """The layer that is corrected, or None."""
        return None if self._painter is None else self._painter.target

    @property
    def painter(self) -> MaskPainter | None:
        """The painter of the target, or None."""
        return self._painter

    @property
    def is_working(self) -> bool:
        """Whether an edit is being computed or applied."""
        painter = self.painter
        return self._edits.is_working or (painter is not None and painter.pieces.is_running)

    def set_view(self, view: MaskView | None) -> None:
        """Correct another mask; None for none."""
        self.set_target(None if view is None else EditTarget.of_view(view))

    def set_target(self, target: EditTarget | None) -> None:
        """Correct another layer; None for none."""
        if self.target is not None and target is not None and self.target.layer is target.layer:
            return
        self.release()
        if target is not None:
            self._painter = self._bind(target)
            if target.layer.brush_size == _NAPARI_BRUSH:
                target.layer.brush_size = _FIRST_BRUSH
        self._show_info()
        self._on_limits()
        self.refresh_state()

    def _show_info(self, event: Any = None) -> None:
        target = self.target
        self.controls.chips.show_classes(None if target is None else target.info.classes)
        self.controls.cleanup.show_pixel_size(None if target is None else target.pixel_um)
        if event is not None:
            self.refresh_state()

    def follow_classes(self, change: ClassChange) -> None:
        """Keep what is protected after the classes of the mask were edited."""
        if change.moves_ids and not self._edits.cancel():  # computed in the ids of before
            self._edits.clear()
        if self._painter is not None:
            self.controls.chips.protect({change.new_id(i) for i in self._painter.protected})
        self._on_limits()
        self.refresh_state()

    def release(self) -> None:
        """Leave the layer that is corrected as it was before."""
        self._stop_waiting()
        self._edits.clear()
        self._bindings.release()
        self._painter = None

    def _bind(self, target: EditTarget) -> MaskPainter:
        painter = MaskPainter(
            target,
            on_changed=self._on_history,
            on_refused=lambda text: self.messageEmitted.emit("warning", text),
            on_large_fill=self._fill_large,
            cancel=self._edits.cancel,
        )
        layer, bindings, events = target.layer, self._bindings, target.layer.events
        bindings.on_release(painter.detach)
        bindings.connect(events.mode, self._on_layer)
        bindings.connect(events.selected_label, self._on_layer)
        bindings.connect(events.brush_size, self._on_layer)
        bindings.connect(events.editable, self._on_layer)
        bindings.connect(events.colormap, self._show_info)  # names and colors of classes changed
        bindings.connect(events.scale, self._show_info)
        recorder = None if target.view is None else target.view.recorder
        if recorder is not None:
            bindings.connect_signal(recorder.changed, self._show_saved)
            bindings.connect_signal(recorder.saved, self._show_saved)
            bindings.connect_signal(recorder.failed, self._on_not_saved)
        for mask_id in range(1, KEYED + 1):
            bindings.bind_key(layer, str(mask_id), lambda i=mask_id: self.choose_class(i))
        for key, name in (("b", "brush"), ("g", "polygon"), ("z", "move")):
            bindings.bind_key(layer, key, lambda name=name: self.choose_tool(name))
        bindings.on_drag(layer, self._on_click)
        return painter

    def show_theme(self, color: str) -> None:
        """Draw icons in the text color of the viewer's theme."""
        self.controls.show_theme(color)

    def refresh_state(self) -> None:
        """Show the state of the target and what can be used."""
        target = self.target
        layer = None if target is None else target.layer
        why_not = NO_MASK if layer is None else "" if layer.editable else HIDDEN
        can_undo = layer is not None and label_history.can_undo(layer)
        can_undo |= self._edits.can_cancel
        can_redo = layer is not None and label_history.can_redo(layer)
        self.controls.show_enabled(
            why_not,
            no_tissue=""
            if target is None or target.slide is not None
            else "Open the slide of this mask to find its tissue.",
            no_undo="" if can_undo else "Nothing to undo.",
            no_redo="" if can_redo else "Nothing to redo.",
        )
        mode = "" if layer is None else str(layer.mode)
        for name, (_, of_tool) in TOOLS.items():
            self.controls.tools[name].setChecked(mode == of_tool)
        self.controls.chips.show_chosen(0 if layer is None else int(layer.selected_label))
        size = self.controls.brush_size.value() if layer is None else int(layer.brush_size)
        self.controls.brush_size.blockSignals(True)
        self.controls.brush_size.setValue(min(size, MAX_BRUSH))
        self.controls.brush_size.blockSignals(False)
        pixel = None if target is None else target.pixel_um
        self.controls.brush_text.setText(
            f"{size} px" + ("" if pixel is None else f" · {size * pixel:.0f} µm")
        )
        self.controls.cleanup.show_waiting(self._waiting)
        self._show_region_buttons()
        self._show_saved()

    def choose_tool(self, name: str) -> None:
        """Activate a tool: a key of `TOOLS`."""
        target = self.target
        if target is None or not target.layer.editable:
            return
        self._stop_waiting()
        self._viewer.layers.selection.active = target.layer
        target.layer.visible = True
        target.layer.mode = TOOLS[name][1]
        self.refresh_state()

    def choose_class(self, mask_id: int) -> None:
        """Select the class to paint; the eraser is replaced by the brush."""
        target = self.target
        if target is None:
            return
        if mask_id > len(target.info.classes):
            self.messageEmitted.emit("info", f"This mask has no class {mask_id}.")
            return
        target.layer.selected_label = mask_id
        self._viewer.layers.selection.active = target.layer
        if str(target.layer.mode) == "erase":
            self.choose_tool("brush")
        self.refresh_state()

    def undo(self) -> None:
        """Undo the last change."""
        if self.painter is not None:
            self.painter.undo()

    def redo(self) -> None:
        """Redo the change undone last."""
        if self.painter is not None:
            self.painter.redo()

    def open_region(self) -> None:
        """Open the current view of a downsampled mask at full resolution."""
        target = self.target
        if target is None or target.view is None:
            return
        try:
            opened = self.region.open(target.view)
        except PlimsegError as error:
            self.messageEmitted.emit("warning", str(error))
            return
        self.targetOpened.emit(opened.layer)
        self.choose_tool("brush")

    def close_region(self) -> None:
        """Close the region; what was painted is kept in the mask."""
        view = self.region.view
        self.region.done()
        if view is not None:
            self.targetOpened.emit(unwrapped(view.layer))

    def discard_region(self) -> None:
        """Close the region and restore what was there before."""
        view = self.region.view
        self.region.discard()
        if view is not None:
            self.targetOpened.emit(unwrapped(view.layer))

    def _show_region_buttons(self) -> None:
        target = self.target
        inside = target is not None and self.region.is_layer(target.layer)
        coarse = target is not None and target.view is not None and target.view.step > 1
        self.controls.region_button.setVisible(coarse and not inside)
        self.controls.done_button.setVisible(inside)
        self.controls.discard_button.setVisible(inside)

    def _on_limits(self) -> None:
        painter = self.painter
        if painter is None:
            return
        painter.protected = self.controls.chips.protected
        slide = painter.target.slide
        painter.only_tissue = self.controls.only_tissue.isChecked() and slide is not None
        if painter.only_tissue and slide is not None:
            painter.tissue = self._tissues.get(slide)
            self._find_tissue()

    def _find_tissue(self) -> None:
        painter = self.painter
        if painter is None or not painter.only_tissue or painter.tissue is not None:
            return
        slide = painter.target.slide
        if slide is None or self._tissue_job.is_running:
            return
        settings = load_settings().tissue_settings().without_glass()

        self._tissue_job.start(lambda: (slide, tissue_mask(slide, settings)))

    def _on_tissue(self, found: tuple[Slide, TissueMask]) -> None:
        slide, tissue = found
        self._tissues[slide] = tissue
        self._on_limits()

    def _on_brush_slider(self, size: int) -> None:
        if self.target is not None:
            self.target.layer.brush_size = size

    def _on_layer(self, event: Any = None) -> None:
        target = self.target
        if self._waiting is not None and target is not None and target.layer.mode != "pan_zoom":
            self._stop_waiting()
        self.refresh_state()

    def _on_history(self) -> None:
        self.stepped.emit()
        self.refresh_state()

    def _show_saved(self) -> None:
        target = self.target
        self.controls.discarded.show_view(None if target is None else target.view)
        recorder = None if target is None or target.view is None else target.view.recorder
        if recorder is not None:
            self.controls.saved_text.setText(recorder.text)
            self.controls.saved_text.setToolTip("")
        elif target is None:
            self.controls.saved_text.clear()
        else:
            self.controls.saved_text.setText("Not recorded")
            self.controls.saved_text.setToolTip(
                "Corrections of an opened file are not saved automatically. Save the layer as a "
                "label TIFF when you are done."
            )

    def _on_not_saved(self, text: str) -> None:
        self.messageEmitted.emit("error", text)
        self._show_saved()

    def _fill_large(self, y: int, x: int, mask_id: int) -> None:
        self.messageEmitted.emit("info", "Filling a large region… Press Undo to cancel.")
        self._do(lambda mask: relabel(connected_region(mask, y, x), mask_id), "Fill", alone=True)

    def _on_cleanup(self, operation: CleanupOperation | None) -> None:
        target = self.target
        if operation is None or target is None:
            self._stop_waiting()
            self.refresh_state()
        elif self.controls.cleanup.on_region:
            self._stop_waiting()
            self._waiting = operation
            self._viewer.layers.selection.active = target.layer
            target.layer.visible = True
            target.layer.mode = "pan_zoom"
            self._click.set_attribute(target.layer, "cursor", "cross", "standard")
            self._click.bind_key(target.layer, "Escape", lambda: self._on_cleanup(None))
            self.messageEmitted.emit(
                "info", f"Click a region for '{operation.value}'. Press Esc to cancel."
            )
            self.refresh_state()
        else:
            mask_id = int(target.layer.selected_label)
            self._clean_up(target, operation, lambda _: mask_id)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:  # otherwise the banner would still ask for a click
            self.messageEmitted.emit("info", f"{self._waiting.value}: cancelled.")
        self._waiting = None
        self._click.release()

    def _on_click(self, layer: Any, event: Any) -> Generator[None, None, None]:
        operation = self._waiting
        if operation is None or event.button != 1:
            return
        began = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - began).max() > _HELD_PIXELS:
            return  # the drag moved the slide
        y, x = (round(float(c)) for c in np.asarray(layer.world_to_data(event.position))[-2:])
        self._cleanup_region(operation, y, x)

    def _cleanup_region(self, operation: CleanupOperation, y: int, x: int) -> None:
        target = self.target
        if target is None:
            return
        height, width = target.layer.data.shape
        if 0 <= y < height and 0 <= x < width:
            self._clean_up(target, operation, lambda mask: connected_region(mask, y, x))
        else:
            self.messageEmitted.emit("info", "That point is outside the slide. Click a region.")

    def _clean_up(
        self,
        target: EditTarget,
        operation: CleanupOperation,
        what: Callable[[NDArray[np.uint8]], int | Part],
    ) -> None:
        request, slide = self.controls.cleanup.request(operation), target.slide
        if operation is not CleanupOperation.HOLES or slide is None:
            self._do(lambda mask: request.edit(mask, what(mask)), operation.value)
            return
        known, settings = self._tissues.get(slide), load_settings().tissue_settings()

        def work(mask: NDArray[np.uint8]) -> Edit:
            tissue = known or tissue_mask(slide, settings.without_glass())
            (top, left), size = target.origin, target.downsample
            return request.edit(
                mask, what(mask), lambda rows, columns: tissue.at(size, rows + top, columns + left)
            )

        self._do(work, operation.value, note="Holes of glass stay.")

    def _do(self, work: Work, what: str, *, alone: bool = False, note: str = "") -> None:
        """Compute an edit in a thread; with `alone`, not while another edit is in progress."""
        if self.painter is not None and not (alone and self.is_working):
            self._edits.add(EditRequest(self.painter, work, what, note))
