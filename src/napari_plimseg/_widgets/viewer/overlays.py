"""Maps of values over a mask, and the mask that steps back for them; in the main thread only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_plimseg._widgets.viewer.mask_layer import CONFIDENCE, shown_part
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg._widgets.viewer.outlines import OutlineLayer
from napari_plimseg._widgets.viewer.value_layers import add_value_layer

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.common import TileDone
    from napari_plimseg._widgets.viewer.mask_layer import MaskView


_PERCENT = np.round(np.arange(256) / 2.55).astype(np.uint8)
"""Percent of each stored value, 255 = 1: color bar and status bar show it as it is."""


def show_over(viewer: Viewer, view: MaskView, layer: Image) -> None:
    """Let a mask step back while a map of values over it is visible; other maps are hidden.

    Parameters
    ----------
    viewer : napari.Viewer
    view : MaskView
        It is fainter, and outlined, until the last map is hidden or removed.
    layer : napari.layers.Image
        The map.
    """
    if view.maps is None:
        view.maps = MapsOverMask(unwrapped(viewer), view)
    view.maps.add(layer)


class MapsOverMask:
    """The maps that are shown over one mask.

    Parameters
    ----------
    viewer : napari.Viewer
        Without proxy.
    view : MaskView
    """

    def __init__(self, viewer: Viewer, view: MaskView) -> None:
        self._viewer = viewer
        self._view = view
        self._maps: list[Image] = []
        self._owner = QObject()
        self.outlines: OutlineLayer | None = None

    def add(self, layer: Image) -> None:
        """Follow a map, and hide the others: two over each other can't be read."""
        for other in self._maps:
            other.visible = False
        events = self._view.layer.events
        if not self._maps:
            self._viewer.layers.events.removed.connect(self._update)
            events.visible.connect(self._update)
            for emitter in (events.paint, events.labels_update, events.set_data):
                emitter.connect(self._on_painted)
        self._maps.append(layer)
        layer.events.visible.connect(self._update)
        self._update()

    def _update(self, event: Any = None) -> None:
        if not self._maps:
            return
        view, layers = self._view, self._viewer.layers
        self._maps = [layer for layer in self._maps if layer in layers]
        is_shown = any(layer.visible for layer in self._maps) and view.layer in layers
        view.step_back(is_shown)
        is_outlined = is_shown and view.layer.visible and view.opacity > 0
        if is_outlined and self.outlines is None:
            self.outlines = OutlineLayer(self._viewer, view, self._owner)
        elif not is_outlined and self.outlines is not None:
            outlines, self.outlines = self.outlines, None
            outlines.close()
        if not self._maps:
            events = view.layer.events
            self._viewer.layers.events.removed.disconnect(self._update)
            events.visible.disconnect(self._update)
            for emitter in (events.paint, events.labels_update, events.set_data):
                emitter.disconnect(self._on_painted)

    def _on_painted(self, event: Any = None) -> None:
        if self.outlines is not None:
            self.outlines.mask_changed()


class OverlayView:
    """An image layer with the confidence, or the probability of one class, in percent.

    It is below the mask, which steps back while it is shown.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer.
    view : MaskView
        The mask it belongs to.
    values : ndarray of uint8, shape (h, w)
        255 = 1, for the pixels of the mask's layer.
    title : str
        The layer's name.
    opacity, colormap
        Passed on to the layer.
    """

    def __init__(
        self,
        viewer: Viewer,
        view: MaskView,
        values: NDArray[np.uint8],
        *,
        title: str,
        opacity: float,
        colormap: str,
    ) -> None:
        self.view = view
        self.layer: Image = add_value_layer(
            viewer,
            _PERCENT[values],
            below=view.layer,
            limits=(0, 100),
            colormap=colormap,
            name=f"{title}, %",
            opacity=opacity,
            metadata={"plimseg_overlay": True, "plimseg_owner": view.slide},
            **view.placement(),
        )
        show_over(viewer, view, self.layer)

    def is_in(self, viewer: Viewer) -> bool:
        """Whether the layer is still in the viewer."""
        return self.layer in viewer.layers

    def fill(self, tile: TileDone, what: str) -> None:
        """Write a finished tile into the layer's array, without drawing it yet."""
        if tile.window is None:
            return
        if what == CONFIDENCE:
            values = tile.confidence
        elif tile.probabilities is not None:
            channels = [i - 1 for i in self.view.edits.model_ids(what)]
            values = tile.probabilities[channels].sum(0).clip(0, 255).astype(np.uint8)
        else:
            values = None
        if values is not None:
            rows, columns, block = shown_part(tile.window, values, self.view.step)
            self.layer.data[rows, columns] = _PERCENT[block]
