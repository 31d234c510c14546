"""Keys and strokes of every layer of the plugin act on the mask.

napari sends keys and strokes to the selected layer. Whoever clicks the slide in the list of layers
would find that digits do something else, and that the brush moves the view.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.viewer.layer_bindings import LayerBindings
from napari_plimseg._widgets.viewer.layer_guard import LayerGuard, is_ours
from napari_plimseg._widgets.viewer.mask_layer import mask_info_of, mask_views
from napari_plimseg._widgets.viewer.napari_private import key_action, unwrapped
from napari_plimseg._widgets.viewer.slide_groups import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.layers import Labels, Layer
    from napari.viewer import Viewer


NO_MASK_HERE = "This slide has no mask yet: press Generate pseudo masks."
HIDDEN_CORRECTIONS = "Corrections are hidden. Show them in the PLIMSeg dock first."
HIDDEN_MASK = "The mask is hidden. Show it first."
SEVERAL_SLIDES = "Layers of several slides are selected. Select one."
_DIGITS = "123456789"
MODES = {"b": "paint", "g": "polygon", "z": "pan_zoom"}
"""Mode by key, where napari's own key of a labels layer does something else."""
_FORWARDED = (
    *_DIGITS, "b", "e", "f", "g", "l", "p", "z", "[", "]", "Control-Z", "Control-Shift-Z",
)  # fmt: skip
"""They act on the mask whichever layer of the plugin is selected."""
_ONLY_WHEN_BOUND = (
    "m", "n", "o", "r", "x", "Shift-P", "Shift-R", "Escape", "Enter", "Backspace",
)  # fmt: skip
"""They act on the mask while a tool or a dock has given them a meaning there."""
_ON_REGIONS = (*_DIGITS, "b", "e", "f", "g")
"""The other keys draw and delete regions."""


class MaskKeys(QObject):
    """Forwards keys and strokes to the mask of the selected layer's slide.

    Parameters
    ----------
    viewer : napari.Viewer
        Its layers of the plugin get the keys, now and in future.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        viewer = unwrapped(viewer)
        self._seen_viewer = weakref.ref(viewer)  # this object lives as long as the viewer
        self._bound: dict[Layer, LayerBindings] = {}
        self._current: weakref.WeakMethod[Callable[[], Labels | None]] | None = None
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.mouse_drag_callbacks.append(self._on_press)
        for key in (*_FORWARDED, *_ONLY_WHEN_BOUND):
            # reached when the active layer has no such key: none is active while several are chosen
            viewer.bind_key(key, lambda _, key=key: self._forward_from_none(key), overwrite=True)
        for layer in viewer.layers:
            self._bind(layer)

    @property
    def _viewer(self) -> Viewer:
        viewer = self._seen_viewer()
        assert viewer is not None  # noqa: S101 - it sends the events that bring us here
        return viewer

    def follow(self, current: Callable[[], Labels | None]) -> None:
        """Prefer the mask being corrected: `current` is a method that returns its layer."""
        self._current = weakref.WeakMethod(current)

    def mask_of(self, layer: Layer | None) -> Labels | None:
        """Return the mask that keys and strokes on a layer are for, None when there is none."""
        method = None if self._current is None else self._current()
        current = None if method is None else method()
        slide = None if layer is None else owner_of(layer, [])
        views = mask_views(self._viewer)
        mine = [v for v in views if slide is None or v.slide is slide]
        if current is not None and current in self._viewer.layers:
            owner = next((v.slide for v in views if v.layer is current), None)
            if slide is None or owner is None or owner is slide:
                return current
        shown = [view for view in mine if view.layer.visible]
        return next((view.layer for view in reversed(shown or mine)), None)

    def _on_inserted(self, event: Any) -> None:
        self._bind(unwrapped(event.value))

    def _on_removed(self, event: Any) -> None:
        bindings = self._bound.pop(unwrapped(event.value), None)
        if bindings is not None:
            bindings.release()

    def _bind(self, layer: Layer) -> None:
        from napari.layers import Shapes

        if not is_ours(layer) or layer in self._bound:
            return
        self._bound[layer] = LayerBindings()
        if _is_mask(layer):
            for digit in _DIGITS:
                self._on_key(layer, digit, lambda la, d=digit: self._choose_class(la, int(d)))
            for key, mode in MODES.items():
                self._on_key(layer, key, lambda la, mode=mode: self._choose_mode(la, mode))
            return
        keys = _ON_REGIONS
        if not isinstance(layer, Shapes):
            keys = (*_FORWARDED, *_ONLY_WHEN_BOUND)
            self._bound[layer].bind_function(layer, "Space", self._hold_to_move)
        for key in keys:
            self._on_key(layer, key, lambda la, key=key: self._forward(la, key))

    def _on_key(self, layer: Layer, key: str, act: Callable[[Any], Any]) -> None:
        self._bound[layer].bind_key(layer, key, lambda: act(layer))

    def _hold_to_move(self, layer: Layer) -> Generator[None, None, None]:
        # what napari does with this key when the mask is selected
        mask = self.mask_of(layer)
        if mask is None:
            return
        self._viewer.layers.selection.active = mask
        before = mask.mode
        mask.mode = "pan_zoom"
        yield
        mask.mode = before

    def _forward(self, layer: Layer, key: str) -> Any:
        mask = self.mask_of(layer)
        act = None if mask is None else key_action(mask, key, own=key in _ONLY_WHEN_BOUND)
        if mask is not None and act is not None:
            self._viewer.layers.selection.active = mask
            return act(mask)
        if mask is None and key in (*_DIGITS, "b", "e", "f", "g"):
            self.messageEmitted.emit("info", NO_MASK_HERE)
        return None

    def _forward_from_none(self, key: str) -> Any:
        layer = None if self._viewer.layers.selection.active else self._meant(key in _FORWARDED)
        return None if layer is None else self._forward(layer, key)

    def _meant(self, tell: bool) -> Layer | None:
        """Return a layer of the slide that is meant while several layers, or none, are selected."""
        chosen = [*self._viewer.layers.selection]
        ours = [layer for layer in chosen or self._viewer.layers if is_ours(layer)]
        seen = [layer for layer in ours if layer.visible] or ours
        slides = {owner for layer in seen if (owner := owner_of(layer, [])) is not None}
        if len(slides) > 1:
            if tell:
                self.messageEmitted.emit("info", SEVERAL_SLIDES)
            return None
        return next(reversed(seen), None)

    def _choose_class(self, layer: Labels, mask_id: int) -> None:
        info = mask_info_of(layer)
        if info is None or mask_id > len(info.classes):
            self.messageEmitted.emit("info", f"This mask has no class {mask_id}.")
            return
        layer.selected_label = mask_id
        self._viewer.layers.selection.active = layer
        if str(layer.mode) == "erase":
            layer.mode = "paint"

    def _choose_mode(self, layer: Labels, mode: str) -> None:
        if not layer.editable:
            self.messageEmitted.emit("warning", HIDDEN_CORRECTIONS)
            return
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = mode

    def _on_press(self, viewer: Any, event: Any) -> None:
        """Select the mask before a stroke that its active tool should get."""
        from napari.layers import Shapes

        active = self._viewer.layers.selection.active or self._meant(tell=False)
        if event.button != 1 or not is_ours(active) or isinstance(active, Shapes):
            return
        mask = self.mask_of(active)
        if mask is None or mask is self._viewer.layers.selection.active:
            return
        if _is_mask(self._viewer.layers.selection.active):
            return
        waits_for_mouse = str(mask.mode) != "pan_zoom" or mask.cursor == "cross"
        if not waits_for_mouse:
            return
        if mask.visible:
            self._viewer.layers.selection.active = mask
        else:
            self.messageEmitted.emit("warning", HIDDEN_MASK)


def _is_mask(layer: Layer | None) -> bool:
    from napari.layers import Labels

    return isinstance(layer, Labels) and mask_info_of(layer) is not None


_by_viewer: dict[int, tuple[LayerGuard, MaskKeys]] = {}


def watch_layers(viewer: Viewer, show_message: Callable[[str, str], None]) -> MaskKeys:
    """Keep the plugin's layers of a viewer in place and forward their keys, from now on.

    Parameters
    ----------
    viewer : napari.Viewer
    show_message : callable
        Called with kind and text of a message, see `Banner.show_message`. A method of a widget.

    Returns
    -------
    MaskKeys
        The one of this viewer, shared by all docks.
    """
    viewer = unwrapped(viewer)
    watching = _by_viewer.get(id(viewer))
    if watching is None:
        watching = _by_viewer[id(viewer)] = LayerGuard(viewer), MaskKeys(viewer)
        weakref.finalize(viewer, _by_viewer.pop, id(viewer), None)
    for part in watching:
        part.messageEmitted.connect(show_message)
    return watching[1]
