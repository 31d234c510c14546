"""The camera and the scale bar of the window, in every supported napari."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_plimseg._widgets.viewer.napari_private import canvas_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer


_MARGIN = 0.15


def get_camera(viewer: Viewer) -> Any:
    """Return the camera; from napari 0.9 on it belongs to the scene."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def get_scale_bar(viewer: Viewer) -> Any:
    """Return the scale bar of the window; from napari 0.9 on it belongs to the canvas."""
    overlays = getattr(getattr(viewer, "canvas", None), "overlays", None)
    return viewer.scale_bar if overlays is None else overlays.scale_bar


def show_world_box(
    viewer: Viewer,
    y: float,
    x: float,
    height: float,
    width: float,
    *,
    at_least: float,
    margin: float = _MARGIN,
) -> None:
    """Move the camera so that a rectangle fills the window except for a margin.

    Parameters
    ----------
    viewer : napari.Viewer
    y, x, height, width : float
        World coordinates.
    at_least : float
        Smallest world length that the window shows, so that small objects appear in context.
    margin : float
        Part of the window that stays free on each side.
    """
    room = 1 - 2 * margin
    canvas_height, canvas_width = canvas_size(viewer)
    zoom = min(room * canvas_height / height, room * canvas_width / width)
    zoom = min(zoom, min(canvas_height, canvas_width) / at_least)
    view = get_camera(viewer)
    view.center = (y + height / 2, x + width / 2)
    view.zoom = zoom


class CameraWatch:
    """Calls back when the camera moves or zooms, or the window is resized.

    Parameters
    ----------
    viewer : napari.Viewer
    on_moved : callable
        Called without arguments, several times per movement.
    """

    def __init__(self, viewer: Viewer, on_moved: Callable[[], None]) -> None:
        self._on_moved = on_moved
        events = get_camera(viewer).events
        self._emitters = [events.center, events.zoom]
        canvas = getattr(viewer, "canvas", None)
        if canvas is not None and hasattr(canvas.events, "size"):
            self._emitters.append(canvas.events.size)
        for emitter in self._emitters:
            emitter.connect(self._moved)

    def disconnect(self) -> None:
        """Stop following the viewer."""
        for emitter in self._emitters:
            emitter.disconnect(self._moved)
        self._emitters.clear()

    def _moved(self, event: Any = None) -> None:
        self._on_moved()
