"""How one dock of the plugin finds another one in the same window."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_plimseg._widgets.main_dock import PlimsegDock


def main_dock(viewer: Viewer) -> PlimsegDock | None:
    """Return the dock *PLIMSeg* of a viewer, None when it is not open."""
    from napari_plimseg._widgets.main_dock import PlimsegDock

    docks = viewer.window.dock_widgets.values()
    return next((dock for dock in docks if isinstance(dock, PlimsegDock)), None)


def open_main_dock(viewer: Viewer) -> PlimsegDock:
    """Return the dock *PLIMSeg* of a viewer; it is opened when it is not there."""
    from napari_plimseg._widgets.main_dock import PlimsegDock

    dock = main_dock(viewer)
    if dock is None:
        dock = PlimsegDock(viewer)
        viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    return dock
