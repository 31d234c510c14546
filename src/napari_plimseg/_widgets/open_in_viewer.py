"""Opens the viewer on a slide and its finished mask, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def show_slide_and_mask(slide_path: str | Path, store_path: str | Path) -> None:
    """Open napari with the dock, a slide and a result; return when the window is closed.

    Parameters
    ----------
    slide_path : str or Path
        The slide.
    store_path : str or Path
        The mask store made of it.
    """
    import napari

    from napari_plimseg._widgets.generate.dock import PlimsegDock

    viewer = napari.Viewer()
    dock = PlimsegDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
    dock.open_slide(str(slide_path))
    dock.open_result(store_path)
    napari.run()
