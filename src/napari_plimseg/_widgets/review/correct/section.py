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
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common.background_job import BackgroundJob, on_destroyed
from napari_plimseg._widgets.common.collapsible import CollapsibleSection
from napari_plimseg._widgets.common.icons import tool_button, tool_icon
from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg._widgets.review.correct.class_chips import KEYED, ClassChips
from napari_plimseg._widgets.review.correct.cleanup_panel import CleanupPanel
from napari_plimseg._widgets.review.correct.edit_queue import EditQueue, EditRequest
from napari_plimseg._widgets.review.correct.edit_region import EditRegion
from napari_plimseg._widgets.review.correct.painter import (
    EditTarget,
    HeldLink,
    MaskPainter,
    TargetLink,
)
from napari_plimseg._widgets.viewer import label_history
from napari_plimseg._widgets.viewer.corrections_panel import DiscardedRow
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg.errors import PlimsegError
from napari_plimseg.results.editing.operations import connected_region, relabel
from napari_plimseg.settings import load_settings
from napari_plimseg.slides.tissue_mask import tissue_mask

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.viewer import Viewer

    from napari_plimseg._widgets.review.correct.cleanup_panel import CleanupOperation
    from napari_plimseg._widgets.review.correct.edit_queue import Work
    from napari_plimseg._widgets.viewer.mask_layer import MaskView
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.slides.tissue_mask import TissueMask


TOOLS = {
    "move": ("Move", "pan_zoom"),
    "brush": ("Brush", "paint"),
    "erase": ("Erase", "erase"),
    "fill": ("Fill", "fill"),
    "polygon": ("Polygon", "polygon"),
    "pick": ("Pick", "pick"),
}
"""Words below the icon and napari's mode by tool."""
MAX_BRUSH = 250


class CorrectParts(QWidget):
    """Builds the section: tools, classes, brush, limits, undo, and what is folded away."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: tool_button(text) for name, (text, _) in TOOLS.items()}
        self.chips = ClassChips()
        self.brush_size = QSlider(Qt.Orientation.Horizontal)
        self.brush_size.setRange(1, MAX_BRUSH)
        self.brush_text = QLabel()
        self.only_tissue = QCheckBox("Only within tissue")
        self.undo_button = self._step_button("undo", "Undo")
        self.redo_button = self._step_button("redo", "Redo")
        self.saved_text = QLabel()
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
        brush.addWidget(QLabel("Brush"))
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
        """Draw icons in the text colour of the viewer's theme."""
        ink = QColor(color)
        for name, button in self.tools.items():
            button.setIcon(tool_icon(name, ink))
        self.undo_button.setIcon(tool_icon("undo", ink))
        self.redo_button.setIcon(tool_icon("redo", ink))
        self.chips.set_icon_color(ink)
        self.cleanup_section.show_theme(ink)

    def show_enabled(self, why_not: str, no_tissue: str, no_undo: str, no_redo: str) -> None:
        """Enable what can be used and say why the rest can't; empty sentences allow."""
        for name, button in self.tools.items():
            _allow(button, why_not, f"tool_{name}")
        _allow(self.brush_size, why_not, "brush_size")
        _allow(self.only_tissue, why_not or no_tissue, "only_tissue")
        _allow(self.undo_button, why_not or no_undo, "undo")
        _allow(self.redo_button, why_not or no_redo, "redo")
        self.chips.setEnabled(not why_not)
        self.cleanup.set_enabled(why_not)
        _allow(self.region_button, why_not, "edit_region")
        self.done_button.setToolTip(TOOLTIPS["region_done"])
        self.discard_button.setToolTip(TOOLTIPS["region_discard"])


def _allow(widget: QWidget, why_not: str, tooltip: str) -> None:
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or TOOLTIPS[tooltip])


NO_MASK = "Generate a mask in the PLIMSeg dock, or open an exported label TIFF."
HIDDEN = "The corrections of this mask are hidden: show them again to paint."
_NAPARI_BRUSH, _FIRST_BRUSH = 10, 20
_HELD_PIXELS = 4


class CorrectSection(CorrectParts):
    """Tools for correcting one mask by hand.

    Parameters
    ----------
    viewer : napari.Viewer
        Shows the mask.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        A kind of message (as `Banner.show_message` takes it) and a sentence for the person.
    stepped : Signal()
        Something was painted, undone or redone.
    targetOpened : Signal(object)
        The layer of a region was opened, or that of its mask is to be painted again.
    """

    messageEmitted = Signal(str, str)
    stepped = Signal()
    targetOpened = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        held = self._held = HeldLink()
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

        def leave() -> None:
            held.let_go(widget_is_gone=True)
            region.done()

        on_destroyed(self, leave)
        self.set_target(None)

    def _connect(self) -> None:
        for name, button in self.tools.items():
            button.clicked.connect(lambda _=False, name=name: self.choose_tool(name))
        self.chips.classChosen.connect(self.choose_class)
        self.discarded.messageEmitted.connect(self.messageEmitted)
        self.chips.protectionChanged.connect(self._on_limits)
        self.only_tissue.toggled.connect(lambda _: self._on_limits())
        self.brush_size.valueChanged.connect(self._on_brush_slider)
        self.undo_button.clicked.connect(lambda: self.undo())
        self.redo_button.clicked.connect(lambda: self.redo())
        self.cleanup.requested.connect(self._on_cleanup)
        self.region_button.clicked.connect(lambda: self.open_region())
        self.done_button.clicked.connect(lambda: self.close_region())
        self.discard_button.clicked.connect(lambda: self.discard_region())

    @property
    def target(self) -> EditTarget | None:
        """What is corrected, or None."""
        return None if self._held.link is None else self._held.link.painter.target

    @property
    def painter(self) -> MaskPainter | None:
        """What limits painting on the target."""
        return None if self._held.link is None else self._held.link.painter

    @property
    def is_working(self) -> bool:
        """Whether an operation is going on in a thread."""
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
            self._held.link = self._linked(target)
            if target.layer.brush_size == _NAPARI_BRUSH:
                target.layer.brush_size = _FIRST_BRUSH
        self._show_info()
        self._on_limits()
        self.refresh_state()

    def _show_info(self, event: Any = None) -> None:
        target = self.target
        self.chips.show_classes(None if target is None else target.info.classes)
        self.cleanup.show_pixel_size(None if target is None else target.pixel_um)
        if event is not None:
            self.refresh_state()

    def release(self) -> None:
        """Let go of the layer that is corrected."""
        self._call_off()
        self._edits.clear()
        self._held.let_go()

    def _linked(self, target: EditTarget) -> TargetLink:
        painter = MaskPainter(
            target,
            on_changed=self._on_history,
            on_refused=lambda text: self.messageEmitted.emit("warning", text),
            on_large_fill=self._fill_large,
            cancel=self._edits.cancel,
        )
        link = TargetLink(painter)
        events = target.layer.events
        link.connect(events.mode, self._on_layer)
        link.connect(events.selected_label, self._on_layer)
        link.connect(events.brush_size, self._on_layer)
        link.connect(events.editable, self._on_layer)
        link.connect(events.colormap, self._show_info)  # comes with new names and colours too
        link.connect(events.scale, self._show_info)
        recorder = None if target.view is None else target.view.recorder
        if recorder is not None:
            link.connect_signal(recorder.changed, self._show_saved)
            link.connect_signal(recorder.saved, self._show_saved)
            link.connect_signal(recorder.failed, self._on_not_saved)
        for mask_id in range(1, min(len(target.info.classes), KEYED) + 1):
            link.bind_key(str(mask_id), lambda i=mask_id: self.choose_class(i))
        for key, name in (("b", "brush"), ("g", "polygon"), ("z", "move")):
            link.bind_key(key, lambda name=name: self.choose_tool(name))
        link.on_click(self._on_click)
        return link

    def refresh_state(self) -> None:
        """Show what can be used now and say why the rest can't."""
        target = self.target
        layer = None if target is None else target.layer
        why_not = NO_MASK if layer is None else "" if layer.editable else HIDDEN
        can_undo = layer is not None and label_history.can_undo(layer)
        can_undo |= self._edits.can_call_off
        can_redo = layer is not None and label_history.can_redo(layer)
        self.show_enabled(
            why_not,
            no_tissue=""
            if target is None or target.slide is not None
            else "The slide of this mask is not open, so its tissue is not known.",
            no_undo="" if can_undo else "There is nothing to undo.",
            no_redo="" if can_redo else "There is nothing to redo.",
        )
        mode = "" if layer is None else str(layer.mode)
        for name, (_, of_tool) in TOOLS.items():
            self.tools[name].setChecked(mode == of_tool)
        self.chips.show_chosen(0 if layer is None else int(layer.selected_label))
        size = self.brush_size.value() if layer is None else int(layer.brush_size)
        self.brush_size.blockSignals(True)
        self.brush_size.setValue(min(size, MAX_BRUSH))
        self.brush_size.blockSignals(False)
        pixel = None if target is None else target.pixel_um
        self.brush_text.setText(
            f"{size} px" + ("" if pixel is None else f" · {size * pixel:.0f} µm")
        )
        self.cleanup.show_waiting(self._waiting)
        self._show_region_buttons()
        self._show_saved()

    def choose_tool(self, name: str) -> None:
        """Take a tool into the hand: a key of `TOOLS`."""
        target = self.target
        if target is None or not target.layer.editable:
            return
        self._call_off()
        self._viewer.layers.selection.active = target.layer
        target.layer.visible = True
        target.layer.mode = TOOLS[name][1]
        self.refresh_state()

    def choose_class(self, mask_id: int) -> None:
        """Paint with another class; a tool that only moves or erases becomes the brush."""
        target = self.target
        if target is None:
            return
        target.layer.selected_label = mask_id
        self._viewer.layers.selection.active = target.layer
        if str(target.layer.mode) == "erase":
            self.choose_tool("brush")
        self.refresh_state()

    def undo(self) -> None:
        """Take the last change back."""
        if self.painter is not None:
            self.painter.undo()

    def redo(self) -> None:
        """Make the change that was taken back last again."""
        if self.painter is not None:
            self.painter.redo()

    def open_region(self) -> None:
        """Open what the window shows of a coarsely shown mask at its full resolution."""
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
        """Close the window; what was painted is in the mask."""
        view = self.region.view
        self.region.done()
        if view is not None:
            self.targetOpened.emit(unwrapped(view.layer))

    def discard_region(self) -> None:
        """Close the window and put back what was there before."""
        view = self.region.view
        self.region.discard()
        if view is not None:
            self.targetOpened.emit(unwrapped(view.layer))

    def _show_region_buttons(self) -> None:
        target = self.target
        inside = target is not None and self.region.is_layer(target.layer)
        coarse = target is not None and target.view is not None and target.view.step > 1
        self.region_button.setVisible(coarse and not inside)
        self.done_button.setVisible(inside)
        self.discard_button.setVisible(inside)

    def _on_limits(self) -> None:
        painter = self.painter
        if painter is None:
            return
        painter.protected = self.chips.protected
        slide = painter.target.slide
        painter.only_tissue = self.only_tissue.isChecked() and slide is not None
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
        settings = load_settings().tissue_settings()

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
            self._call_off()
        self.refresh_state()

    def _on_history(self) -> None:
        self.stepped.emit()
        self.refresh_state()

    def _show_saved(self) -> None:
        target = self.target
        self.discarded.show_view(None if target is None else target.view)
        recorder = None if target is None or target.view is None else target.view.recorder
        if recorder is not None:
            self.saved_text.setText(recorder.text)
            self.saved_text.setToolTip("")
        elif target is None:
            self.saved_text.clear()
        else:
            self.saved_text.setText("Not recorded")
            self.saved_text.setToolTip(
                "Corrections of this layer are not kept in a journal: save the layer as a label "
                "TIFF when you are done."
            )

    def _on_not_saved(self, text: str) -> None:
        self.messageEmitted.emit("error", text)
        self._show_saved()

    def _fill_large(self, y: int, x: int, mask_id: int) -> None:
        self.messageEmitted.emit(
            "info", "Fill: the region is large and looked for. Undo calls it off."
        )
        self._do(lambda mask: relabel(connected_region(mask, y, x), mask_id), "Fill", alone=True)

    def _on_cleanup(self, operation: CleanupOperation | None) -> None:
        target = self.target
        if operation is None or target is None:
            self._call_off()
            self.refresh_state()
        elif self.cleanup.on_region:
            self._waiting = operation
            self._viewer.layers.selection.active = target.layer
            target.layer.mode = "pan_zoom"
            target.layer.cursor = "cross"
            target.layer.bind_key("Escape", lambda _: self._on_cleanup(None), overwrite=True)
            self.messageEmitted.emit(
                "info", f"Click the region for '{operation.value}'. Escape calls it off."
            )
            self.refresh_state()
        else:
            request = self.cleanup.request(operation)
            mask_id = int(target.layer.selected_label)
            self._do(lambda mask: request.edit(mask, mask_id), operation.value)

    def _call_off(self) -> None:
        if self._waiting is not None:
            self._waiting = None
            if self.target is not None:
                self.target.layer.cursor = "standard"
                self.target.layer.bind_key("Escape", None)

    def _on_click(self, layer: Any, event: Any) -> Generator[None, None, None]:
        operation = self._waiting
        if operation is None or event.button != 1:
            return
        began = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - began).max() > _HELD_PIXELS:
            return  # the slide was moved
        y, x = (round(float(c)) for c in np.asarray(layer.world_to_data(event.position))[-2:])
        self._cleanup_region(operation, y, x)

    def _cleanup_region(self, operation: CleanupOperation, y: int, x: int) -> None:
        request = self.cleanup.request(operation)
        self._do(lambda mask: request.edit(mask, connected_region(mask, y, x)), operation.value)

    def _do(self, work: Work, what: str, *, alone: bool = False) -> None:
        """Find out in a thread what changes; `alone` drops it while another one is going on."""
        if self.painter is not None and not (alone and self.is_working):
            self._edits.add(EditRequest(self.painter, work, what))
