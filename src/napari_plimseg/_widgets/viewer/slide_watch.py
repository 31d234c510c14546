"""What every slide in a window gets, whether a dock of the plugin is open or not."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_plimseg._widgets.viewer.camera import get_camera, get_scale_bar
from napari_plimseg._widgets.viewer.mask_keys import watch_layers
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg._widgets.viewer.slide_groups import fit_slide, is_centered_on, slide_of

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


_FIT_AFTER_MS = (100, 300, 800)
"""The window of napari's command line opens after its slides, and gets its docks one by one."""


class SlideWatch(QObject):
    """Fits new slides, shows the scale bar once, and keeps slides in place.

    Parameters
    ----------
    viewer : napari.Viewer
        Without proxy.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._seen_viewer = weakref.ref(viewer)  # this object lives as long as the viewer
        self._scale_bar_shown = False  # once, so that it can be switched off
        self._new: Layer | None = None
        self._left_at: list[float] = []
        self._waits: list[int] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._fit)
        viewer.layers.events.inserted.connect(self._on_inserted)
        watch_layers(viewer, self.show_message)
        for layer in viewer.layers:
            if slide_of(layer) is not None:
                self._show_scale_bar(viewer)

    def show_message(self, kind: str, text: str) -> None:
        """Show a message as a notification of napari, unless a dock of the plugin shows it."""
        viewer = self._seen_viewer()
        if viewer is None:
            return
        docks = viewer.window.dock_widgets.values()
        if any(type(dock).__module__.startswith("napari_plimseg.") for dock in docks):
            return
        from napari.utils.notifications import show_info, show_warning

        (show_warning if kind == "warning" else show_info)(text)

    def _show_scale_bar(self, viewer: Viewer) -> None:
        if not self._scale_bar_shown:
            self._scale_bar_shown = True
            get_scale_bar(viewer).visible = True

    def _on_inserted(self, event: Any) -> None:
        viewer, layer = self._seen_viewer(), unwrapped(event.value)
        if viewer is None or slide_of(layer) is None:
            return
        self._show_scale_bar(viewer)
        others = [la for la in viewer.layers if slide_of(la) is not None and la is not layer]
        # napari shows all of a first slide; a view that somebody chose stays
        if not others or any(is_centered_on(viewer, other) for other in others):
            self._new, self._left_at, self._waits = layer, _view_of(viewer), [*_FIT_AFTER_MS]
            self._timer.start(self._waits.pop(0))

    def _fit(self) -> None:
        viewer, layer = self._seen_viewer(), self._new
        if viewer is None or layer is None or layer not in viewer.layers or not layer.visible:
            return
        if _view_of(viewer) == self._left_at:
            fit_slide(viewer, layer)
            self._left_at = _view_of(viewer)
            if self._waits:
                self._timer.start(self._waits.pop(0))


def _view_of(viewer: Viewer) -> list[float]:
    """Return where a view is: y, x and zoom."""
    camera = get_camera(viewer)
    return [*map(float, camera.center[-2:]), float(camera.zoom)]


_by_viewer: dict[int, SlideWatch] = {}


def watch_slides(viewer: Viewer) -> None:
    """Give every slide of a viewer, now and in future, what slides get."""
    viewer = unwrapped(viewer)
    if id(viewer) not in _by_viewer:
        _by_viewer[id(viewer)] = SlideWatch(viewer)
        weakref.finalize(viewer, _by_viewer.pop, id(viewer), None)
