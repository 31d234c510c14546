"""Keeps slides and masks where they are on each other, and masks in the colors of their classes.

napari lets people move any layer with its transform tool, which one digit activates, and replace
the colors of any labels layer. On a mask, both make the result wrong without a word: it lies beside
the tissue that it describes, or its legend names other classes.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.viewer.mask_layer import VIEW_KEY
from napari_plimseg._widgets.viewer.slide_groups import slide_of

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


STAYS = "Slides and masks stay in place; the transform tool is off."
LEGEND_COLORS = "Colors of a mask come from its classes; change them there."
_OURS = "plimseg"
_NEVER_CHANGED = ("affine", "rotate", "shear")


def is_ours(layer: Layer | None) -> bool:
    """Whether a layer was added by this plugin."""
    return layer is not None and any(str(key).startswith(_OURS) for key in layer.metadata)


class LayerGuard(QObject):
    """Watches the plugin's layers of a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        Without proxy. Its images and labels that the plugin added are watched, now and in future.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._first: weakref.WeakKeyDictionary[Layer, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._colors: weakref.WeakKeyDictionary[Layer, Any] = weakref.WeakKeyDictionary()
        layers = viewer.layers
        layers.events.inserted.connect(self._on_inserted)
        for layer in layers:
            self._watch(layer)

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _watch(self, layer: Layer) -> None:
        from napari.layers import Image, Labels

        if not is_ours(layer) or not isinstance(layer, Image | Labels):
            return
        if layer in self._first:  # it was removed and added again
            return
        self._first[layer] = {name: np.array(getattr(layer, name)) for name in _NEVER_CHANGED}
        events = layer.events
        # last: napari's own buttons would otherwise show the mode that was refused
        events.mode.connect(self._on_mode, position="last")
        for name in (*_NEVER_CHANGED, "scale", "translate"):
            getattr(events, name).connect(self._on_moved)
        if isinstance(layer, Labels) and hasattr(layer.colormap, "color_dict"):
            self._colors[layer] = layer.colormap
            events.colormap.connect(self._on_colors)

    def _on_mode(self, event: Any) -> None:
        layer = event.source
        if str(layer.mode) == "transform":
            layer.mode = "pan_zoom"
            self.messageEmitted.emit("warning", STAYS)

    def _on_moved(self, event: Any) -> None:
        layer, name = event.source, event.type
        wanted = self._first[layer].get(name)
        if wanted is None:
            wanted = _placement(layer).get(name)
        if wanted is None or np.allclose(np.asarray(getattr(layer, name)), wanted):
            return
        setattr(layer, name, wanted)
        self.messageEmitted.emit("warning", STAYS)

    def _on_colors(self, event: Any) -> None:
        layer = event.source
        if hasattr(layer.colormap, "color_dict"):  # a color for each class: the plugin's own
            self._colors[layer] = layer.colormap
        else:
            layer.colormap = self._colors[layer]
            self.messageEmitted.emit("warning", LEGEND_COLORS)


def _placement(layer: Layer) -> dict[str, Any]:
    """Return scale and translation of a slide or a computed mask; nothing for other layers."""
    slide = slide_of(layer)
    if slide is not None:
        return {"scale": np.full(2, slide.mpp or 1.0), "translate": np.zeros(2)}
    view = layer.metadata.get(VIEW_KEY)
    return {} if view is None else dict(view.placement())
