"""Opens slides in the viewer: for napari itself, the command line and Python programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg import _reader, _sample_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer


def get_reader(path: _reader.Paths) -> Callable[[_reader.Paths], list[_reader.LayerData]] | None:
    """Return what `_reader.get_reader` returns; the window of the slides is watched from then on.

    Parameters
    ----------
    path : str, Path or sequence of them
        Several paths become one layer each.
    """
    reader = _reader.get_reader(path)
    if reader is not None:
        _watch()
    return reader


def cmu_1_small_region() -> list[_reader.LayerData]:
    """Return the skin sample as a layer."""
    _watch()
    return _sample_data.cmu_1_small_region()


def colorectal_tiles() -> list[_reader.LayerData]:
    """Return the slide of colorectal tiles as a layer."""
    _watch()
    return _sample_data.colorectal_tiles()


def _watch() -> None:
    """Watch the slides of the window in front; without a window there is nothing to watch."""
    widgets = sys.modules.get("qtpy.QtWidgets")
    if "napari" not in sys.modules or widgets is None or widgets.QApplication.instance() is None:
        return
    import napari

    from napari_plimseg._widgets.viewer import watch_slides

    viewer = napari.current_viewer()
    if viewer is not None:
        watch_slides(viewer)


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
