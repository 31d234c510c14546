"""Opens the viewer on a slide and its finished mask, for the command line and Python programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer


def show_slide_and_mask(
    slide_path: str | Path, store_path: str | Path, *, mpp: float | None = None
) -> Viewer:
    """Show a slide and a result in napari, with the dock.

    In the viewer that is open, if any. Otherwise in a new one; then the call returns when its
    window is closed, or at once where an event loop runs already, as in a notebook.

    Parameters
    ----------
    slide_path : str or Path
        The slide.
    store_path : str or Path
        The mask store made of it.
    mpp : float, optional
        Micrometers per level-0 pixel, where the file has none or a wrong one.
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
