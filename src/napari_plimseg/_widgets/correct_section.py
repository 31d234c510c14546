"""The section *Correct*: paints on a mask with the tools of napari and tidies it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal

from napari_plimseg._widgets import label_history
from napari_plimseg._widgets.background_job import BackgroundJob
from napari_plimseg._widgets.class_chips import KEYED
from napari_plimseg._widgets.correct_parts import MAX_BRUSH, TOOLS, CorrectParts
from napari_plimseg._widgets.edit_queue import EditOrder, EditQueue
from napari_plimseg._widgets.edit_region import EditRegion
from napari_plimseg._widgets.lifetimes import when_gone
from napari_plimseg._widgets.mask_painter import EditTarget, MaskPainter
from napari_plimseg._widgets.napari_inside import unwrapped
from napari_plimseg._widgets.run_steps import find_tissue, tissue_settings
from napari_plimseg._widgets.target_link import HeldLink, TargetLink
from napari_plimseg.errors import PlimsegError
from napari_plimseg.results.editing.operations import connected_region, relabel
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.viewer import Viewer

    from napari_plimseg._widgets.edit_queue import Work
    from napari_plimseg._widgets.layer_views import MaskView
    from napari_plimseg._widgets.tidy_panel import Tidying
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.slides.tissue_mask import TissueMask

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
    told : Signal(str, str)
        A kind of message (as `Banner.tell` takes it) and a sentence for the person.
    stepped : Signal()
        Something was painted, undone or redone.
    targetOpened : Signal(object)
        The layer of a region was opened, or that of its mask is to be painted again.
    """

    told = Signal(str, str)
    stepped = Signal()
    targetOpened = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        held = self._held = HeldLink()
        self._waiting: Tidying | None = None
        self._tissues: weakref.WeakKeyDictionary[Slide, TissueMask] = weakref.WeakKeyDictionary()
        self._edits = EditQueue(self)
        self._edits.told.connect(self.told)
        self._edits.changed.connect(self.refresh_state)
        self._tissue_job = BackgroundJob(self)
        self._tissue_job.yielded.connect(self._on_tissue)
        self._tissue_job.failed.connect(lambda text: self.told.emit("error", text))
        self._tissue_job.finished.connect(lambda _: self._find_tissue())
        region = self.region = EditRegion(self._viewer)
        self._connect()

        def leave() -> None:
            held.let_go(widget_is_gone=True)
            region.done()

        when_gone(self, leave)
        self.set_target(None)

    def _connect(self) -> None:
        for name, button in self.tools.items():
            button.clicked.connect(lambda _=False, name=name: self.choose_tool(name))
        self.chips.classChosen.connect(self.choose_class)
        self.discarded.told.connect(self.told)
        self.chips.protectionChanged.connect(self._on_limits)
        self.only_tissue.toggled.connect(lambda _: self._on_limits())
        self.brush_size.valueChanged.connect(self._on_brush_slider)
        self.undo_button.clicked.connect(lambda: self.undo())
        self.redo_button.clicked.connect(lambda: self.redo())
        self.tidy.requested.connect(self._on_tidy)
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
        self.tidy.show_pixel_size(None if target is None else target.pixel_um)
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
            on_refused=lambda text: self.told.emit("warning", text),
            on_large_fill=self._fill_large,
            call_off=self._edits.call_off,
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
        self.tidy.show_waiting(self._waiting)
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
            self.told.emit("warning", str(error))
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
        settings = tissue_settings(load_settings())

        def work() -> Generator[tuple[Slide, TissueMask], None, None]:
            for tissue in find_tissue(slide, settings):
                yield slide, tissue

        self._tissue_job.start(work)

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
        self.told.emit("error", text)
        self._show_saved()

    def _fill_large(self, y: int, x: int, mask_id: int) -> None:
        self.told.emit("info", "Fill: the region is large and looked for. Undo calls it off.")
        self._do(lambda mask: relabel(connected_region(mask, y, x), mask_id), "Fill", alone=True)

    def _on_tidy(self, tidying: Tidying | None) -> None:
        target = self.target
        if tidying is None or target is None:
            self._call_off()
            self.refresh_state()
        elif self.tidy.on_region:
            self._waiting = tidying
            self._viewer.layers.selection.active = target.layer
            target.layer.mode = "pan_zoom"
            target.layer.cursor = "cross"
            target.layer.bind_key("Escape", lambda _: self._on_tidy(None), overwrite=True)
            self.told.emit("info", f"Click the region for '{tidying.value}'. Escape calls it off.")
            self.refresh_state()
        else:
            request = self.tidy.request(tidying)
            mask_id = int(target.layer.selected_label)
            self._do(lambda mask: request.edit(mask, mask_id), tidying.value)

    def _call_off(self) -> None:
        if self._waiting is not None:
            self._waiting = None
            if self.target is not None:
                self.target.layer.cursor = "standard"
                self.target.layer.bind_key("Escape", None)

    def _on_click(self, layer: Any, event: Any) -> Generator[None, None, None]:
        tidying = self._waiting
        if tidying is None or event.button != 1:
            return
        began = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - began).max() > _HELD_PIXELS:
            return  # the slide was moved
        y, x = (round(float(c)) for c in np.asarray(layer.world_to_data(event.position))[-2:])
        self._tidy_region(tidying, y, x)

    def _tidy_region(self, tidying: Tidying, y: int, x: int) -> None:
        request = self.tidy.request(tidying)
        self._do(lambda mask: request.edit(mask, connected_region(mask, y, x)), tidying.value)

    def _do(self, work: Work, what: str, *, alone: bool = False) -> None:
        """Find out in a thread what changes; `alone` drops it while another one is going on."""
        if self.painter is not None and not (alone and self.is_working):
            self._edits.add(EditOrder(self.painter, work, what))
