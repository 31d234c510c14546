"""Opens the viewer with a slide and its mask, for the command line and Python programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer


def show_slide_and_mask(
    slide_path: str | Path, store_path: str | Path, *, mpp: float | None = None
) -> Viewer:
    """Show a slide and a result in napari, with the dock.

    The open viewer is used if there is one. Otherwise a new one is opened; the call then returns
    when its window is closed, or immediately if an event loop is running, as in a notebook.

    Parameters
    ----------
    slide_path : str or Path
        The slide file.
    store_path : str or Path
        The mask store of that slide.
    mpp : float, optional
        Micrometers per level-0 pixel, if the file has no pixel size or a wrong one.
    """
    import napari

    from napari_plimseg._widgets.docks import open_main_dock

    current = napari.current_viewer()
    viewer = current or napari.Viewer()
    dock = open_main_dock(viewer)
    dock.open_slide_with_result(Path(slide_path).absolute(), mpp, Path(store_path))
    if current is None:
        napari.run()
    return viewer
