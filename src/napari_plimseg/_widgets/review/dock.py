"""The dock *PLIMSeg Review*: correct and inspect a mask."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    Banner,
    CollapsibleSection,
    FlowText,
    PlainLabel,
    ScrollColumn,
    TabOrdered,
    on_destroyed,
)
from napari_plimseg._widgets.review.class_editor import ClassEditor
from napari_plimseg._widgets.review.correct import CorrectSection, EditTarget
from napari_plimseg._widgets.review.inspect import InspectSection
from napari_plimseg._widgets.review.messages import NO_MASK
from napari_plimseg._widgets.review.promptable import PromptSection
from napari_plimseg._widgets.viewer import LayerBindings, ThemeColor, unwrapped, watch_layers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Labels, Layer
    from napari.viewer import Viewer

    from napari_plimseg._widgets.viewer import MaskView


_ONE_MASK = "There is only one mask. With several, choose one here."
_SCROLL_AFTER_MS = 50


class MaskLayers(QObject):
    """Follows the layers of a viewer that can be corrected; the last one selected is current.

    Parameters
    ----------
    viewer : napari.Viewer
        Without proxy.
    can_edit : callable
        Whether a layer can be corrected.

    Attributes
    ----------
    changed : Signal()
        Such layers were added or removed, or another one is current.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, can_edit: Callable[[Layer], bool]) -> None:
        super().__init__()
        self._viewer = viewer
        self._can_edit = can_edit
        self._wanted: Layer | None = None
        # napari emits `inserted` before the mask's view is complete, so look a moment later
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        events = viewer.layers.events
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        active = viewer.layers.selection.active
        if active is not None and can_edit(active):
            self.current: Layer | None = active
        else:
            seen = [layer for layer in self.layers if layer.visible]
            self.current = next(reversed(seen or self.layers), None)

    @property
    def layers(self) -> list[Layer]:
        """All of them, lowest first."""
        return [layer for layer in self._viewer.layers if self._can_edit(layer)]

    def choose(self, layer: Layer) -> None:
        """Make a layer current and select it."""
        self._timer.stop()
        self.current = layer
        self._viewer.layers.selection.active = layer
        self.changed.emit()

    def leave(self) -> None:
        """Stop following the viewer."""
        with contextlib.suppress(RuntimeError):  # Qt may have destroyed the timer at program end
            self._timer.stop()
        events = self._viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removed.disconnect(self._on_removed)
        self._viewer.layers.selection.events.active.disconnect(self._on_active)

    def _on_inserted(self, event: Any) -> None:
        self._wanted = event.value
        self._timer.start(0)

    def _on_removed(self, event: Any) -> None:
        if event.value is self.current:
            self.current = next(reversed(self.layers), None)
        self.changed.emit()

    def _on_active(self, event: Any) -> None:
        if event.value is not None and event.value is not self.current:
            self._wanted = event.value
            self._timer.start(0)

    def _look(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None or wanted not in self._viewer.layers or not self._can_edit(wanted):
            return
        self.current = wanted
        self.changed.emit()


class ReviewDock(TabOrdered):
    """Corrects and inspects a tissue mask.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer with the mask.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self.banner = Banner()
        self.choice = QComboBox()
        self.choice.setToolTip(TOOLTIPS["review_mask"])
        self.choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.choice.activated.connect(self._on_choice)
        self.no_mask = FlowText(f"No mask yet. {NO_MASK}")
        self.correct = CorrectSection(self._viewer)
        self.prompts = PromptSection(self._viewer, self.correct)
        self.inspect = InspectSection(self._viewer)
        self.class_editor = ClassEditor()
        self._folds = [
            CollapsibleSection("Correct", self.correct, is_open=True),
            CollapsibleSection("Smart select", self.prompts),
            CollapsibleSection("Classes", self.class_editor),
            CollapsibleSection("Inspect", self.inspect, is_open=True),
        ]
        self._build()
        self._shown: list[Layer] = []
        self._view: MaskView | None = None
        self._bindings = LayerBindings()  # of the mask
        for section in (self.correct, self.prompts, self.inspect, self.class_editor):
            section.messageEmitted.connect(self.banner.show_message)
        self.prompts.messageWithdrawn.connect(self.banner.withdraw)
        self.masks = MaskLayers(self._viewer, self._can_edit)
        self.masks.changed.connect(self.refresh_state)
        self.inspect.compare.compared.connect(self._on_compared)
        self.correct.targetOpened.connect(self.masks.choose)
        self.correct.stepped.connect(self._on_stepped)
        watch_layers(self._viewer, self.banner.show_message).follow(self._corrected_layer)
        masks, theme = self.masks, ThemeColor(self._viewer, self._show_theme)
        for leave in (masks.leave, theme.disconnect, self._bindings.release):
            on_destroyed(self, leave)
        self.refresh_state()

    def _build(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 2, 8, 4)
        column.setSpacing(4)
        line = QHBoxLayout()
        title = PlainLabel("Mask")
        title.setStyleSheet("font-weight: bold;")
        line.addWidget(title)
        line.addWidget(self.choice, 1)
        column.addLayout(line)
        column.addWidget(self.no_mask)
        for fold in self._folds:
            column.addWidget(fold)
        column.addStretch(1)
        area = self.scroll_area = ScrollColumn(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        self.banner.float_over(area)
        layout.addWidget(area, 1)

    def refresh_state(self) -> None:
        """Show the current mask, or what to do when there is none."""
        current = self.masks.current
        self._shown = self.masks.layers
        self.choice.clear()
        self.choice.addItems([layer.name for layer in self._shown])
        if current in self._shown:
            self.choice.setCurrentIndex(self._shown.index(current))
        several = len(self._shown) > 1
        self.choice.setEnabled(several)
        self.choice.setToolTip(TOOLTIPS["review_mask"] if several else _ONE_MASK)
        self.no_mask.setVisible(current is None)
        target = None if current is None else self._target(current)
        self.correct.set_target(target)
        self.prompts.set_target(self.correct.target)
        view = None if target is None else target.view
        self._bind(view)
        self.inspect.set_view(view)
        self.class_editor.set_view(view, region_is_open=self.correct.region.view is not None)
        for fold in self._folds:
            fold.setVisible(target is not None)

    def _corrected_layer(self) -> Labels | None:
        target = self.correct.target
        return None if target is None else target.layer

    def _on_stepped(self) -> None:
        if self.banner.kind == "good":  # it describes an edit that is no longer the last one
            self.banner.hide()

    def _bind(self, view: MaskView | None) -> None:
        if view is self._view:
            return
        self._bindings.release()
        self._view = view
        if view is not None:
            self._bindings.connect(view.reclassing, self._on_reclassing)
            self._bindings.connect(view.reclassed, self._on_reclassed)

    def _on_reclassing(self, event: Any) -> None:
        if self.correct.painter is not None:
            self.correct.painter.pieces.finish()  # a large edit: it is in the ids of now

    def _on_reclassed(self, event: Any) -> None:
        for section in (self.correct, self.inspect, self.class_editor):
            section.follow_classes(event.change)
        self.prompts.follow_classes(moved=event.change.moves_ids)

    def compare_with(self, path: Path) -> None:
        """Compare the current mask with a stored result."""
        self.inspect.compare.compare_with_file(path)

    def _on_compared(self) -> None:
        # the layout must place the table before it can be scrolled into view
        QTimer.singleShot(_SCROLL_AFTER_MS, self._show_comparison)

    def _show_comparison(self) -> None:
        self.scroll_area.ensureWidgetVisible(self.inspect.compare)

    def _on_choice(self, row: int) -> None:
        self.masks.choose(self._shown[row])

    def _target(self, layer: Layer) -> EditTarget | None:
        if self.correct.region.is_layer(layer):
            return self.correct.region.target
        return EditTarget.of_layer(layer)

    def _can_edit(self, layer: Layer) -> bool:
        return self._target(layer) is not None

    def _show_theme(self, color: str) -> None:
        self.correct.show_theme(color)
        self.prompts.show_theme(color)
        ink = QColor(color)
        for fold in self._folds:
            fold.show_theme(ink)
