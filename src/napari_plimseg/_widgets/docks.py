"""The table of the plugin's docks; finding or opening one in the same window."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from qtpy.QtWidgets import QDockWidget, QMainWindow

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_plimseg.settings import DockSettings
    from napari_plimseg.tissue import TissueClasses


class MainDock(Protocol):
    """The part of the dock *PLIMSeg* that the other docks use."""

    @property
    def is_running(self) -> bool:
        """Whether a slide is being segmented."""

    @property
    def settings(self) -> DockSettings:
        """The settings of the next run."""

    @property
    def model_name(self) -> str:
        """Name of the chosen model."""

    @property
    def edited_classes(self) -> TissueClasses | None:
        """The classes as edited by the user; None for the model's own."""

    def reload_models(self) -> None:
        """List the models again, keeping the choice."""

    def choose_model(self, name: str) -> bool:
        """List the models again and choose one by name; return whether it is chosen."""

    def open_slide_with_result(self, path: Path, mpp: float | None, store: Path) -> None:
        """Open a slide, or select it if it is open, and show a result of it."""


NOT_CHOSEN = "'{name}' can't be selected now: see the message in the PLIMSeg dock."


class ReviewDock(Protocol):
    """The part of the dock *PLIMSeg Review* that the main dock uses."""

    def compare_with(self, path: Path) -> None:
        """Compare the current mask with a stored result."""


@dataclass(frozen=True)
class DockKind:
    """One dock of the plugin. It is named and not imported, because importing takes time.

    Parameters
    ----------
    short : str
        Label of the button that opens it, and of its tab.
    title : str
        As in the plugin menu.
    module, widget : str
        Module below `_widgets`, and name of the class.
    """

    short: str
    title: str
    module: str
    widget: str

    def widget_class(self) -> type[QWidget]:
        """Return the class of the dock."""
        module = importlib.import_module(f"napari_plimseg._widgets.{self.module}")
        found: type[QWidget] = getattr(module, self.widget)
        return found


_MAIN = DockKind("Generate", "PLIMSeg", "generate.dock", "PlimsegDock")
DOCKS = {
    "review": DockKind("Review", "PLIMSeg Review", "review.dock", "ReviewDock"),
    "train": DockKind("Train", "PLIMSeg Train", "train.dock", "TrainDock"),
    "models": DockKind("Models", "PLIMSeg Models", "model_manager.dock", "ModelsDock"),
    "batch": DockKind("Batch", "PLIMSeg Batch", "batch.dock", "BatchDock"),
}
"""The docks that the main dock can open."""


def main_dock(viewer: Viewer) -> MainDock | None:
    """Return the dock *PLIMSeg* of a viewer, None when it is not open."""
    return cast("MainDock | None", _found(viewer, _MAIN))


def open_main_dock(viewer: Viewer) -> MainDock:
    """Return the dock *PLIMSeg* of a viewer; it is opened if necessary."""
    return cast("MainDock", _opened(viewer, _MAIN))


def open_dock(viewer: Viewer, key: str) -> QWidget:
    """Bring a dock to the front; it is opened if necessary.

    Parameters
    ----------
    viewer : napari.Viewer
    key : str
        One of `DOCKS`.
    """
    dock = _opened(viewer, DOCKS[key])
    frame = dock.parentWidget()  # napari's dock widget, one of several tabs
    if frame is not None:
        frame.show()
        frame.raise_()
    return dock


def open_review(viewer: Viewer) -> ReviewDock:
    """Bring the dock *PLIMSeg Review* to the front; it is opened if necessary."""
    return cast("ReviewDock", open_dock(viewer, "review"))


def _found(viewer: Viewer, kind: DockKind) -> QWidget | None:
    wanted = kind.widget_class()
    docks = viewer.window.dock_widgets.values()
    return next((dock for dock in docks if isinstance(dock, wanted)), None)


def _opened(viewer: Viewer, kind: DockKind) -> QWidget:
    dock = _found(viewer, kind)
    if dock is None:
        dock = kind.widget_class()(viewer)
        # as tabs, because two docks above each other don't fit on a small screen
        viewer.window.add_dock_widget(dock, name=kind.title, area="right", tabify=True)
        _shorten_tabs(viewer)
    return dock


def join_tabs(viewer: Viewer, dock: QWidget) -> None:
    """Make a dock that napari's menu has opened a tab beside the plugin's other docks.

    napari puts it below them, where neither has the room that it needs on a small screen.
    """
    frame = dock.parentWidget()
    window = None if frame is None else frame.parentWidget()
    if not isinstance(frame, QDockWidget) or not isinstance(window, QMainWindow):
        return
    found = (_found(viewer, kind) for kind in DOCKS.values())
    others = [one.parentWidget() for one in found if one is not None and one is not dock]
    beside = [one for one in others if isinstance(one, QDockWidget) and not one.isFloating()]
    if beside and frame not in window.tabifiedDockWidgets(beside[0]):
        window.tabifyDockWidget(beside[0], frame)
        frame.raise_()
    _shorten_tabs(viewer)


def _shorten_tabs(viewer: Viewer) -> None:
    # tabs elide the five titles, which all begin with "PLIMSeg"; menus keep the full titles
    for kind in (_MAIN, *DOCKS.values()):
        dock = _found(viewer, kind)
        frame = None if dock is None else dock.parentWidget()
        if isinstance(frame, QDockWidget):
            frame.setWindowTitle(kind.short)
            frame.toggleViewAction().setText(kind.title)
