"""The button *Results*: all stored results of a slide, to open, compare, recompute and delete."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QMessageBox, QPushButton, QWidget

from napari_plimseg._widgets.common import TOOLTIPS, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.generate.jobs import StoredResult


def result_title(result: StoredResult, shown: Path | None) -> str:
    """Return what tells the results of a slide apart, for a menu."""
    made = datetime.fromisoformat(result.created)
    title = f"{result.model_name or 'mask'} · {made.day} {made:%b %Y %H:%M}"
    if result.done_fraction < 1:
        title += f" · {100 * result.done_fraction:.0f} %"
    return f"{title} · shown" if result.path == shown else title


class ResultHistory(QPushButton):
    """Lists the stored results of the current slide, the newest first.

    Attributes
    ----------
    openRequested, compareRequested, deleteRequested : Signal(object)
        Path of the store that was chosen; deleting was confirmed.
    """

    openRequested = Signal(object)
    compareRequested = Signal(object)
    deleteRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Results", parent)
        self._find: Callable[[], list[StoredResult]] | None = None
        self._shown: Path | None = None
        self._again: Path | None = None
        self.menu_of_results = QMenu(self)
        self.menu_of_results.aboutToShow.connect(self.list_results)
        self.setMenu(self.menu_of_results)
        self.show_slide(None, None)

    def show_slide(self, find: Callable[[], list[StoredResult]] | None, shown: Path | None) -> None:
        """List the results of another slide.

        Parameters
        ----------
        find : callable or None
            Returns them; None without a slide.
        shown : Path or None
            The store of the mask shown.
        """
        self._find, self._shown = find, shown
        self.setEnabled(find is not None)
        why_not = "" if find is not None else "Open a slide first."
        self.setToolTip(plain(why_not or TOOLTIPS["history"]))

    def list_results(self) -> None:
        """Fill the menu."""
        self.menu_of_results.clear()
        found = [] if self._find is None else self._find()
        if not found:
            self.menu_of_results.addAction("No result yet").setEnabled(False)
        for result in found:
            title = result_title(result, self._shown)
            part = self.menu_of_results.addMenu(plain(title).replace("&", "&&"))
            opens = part.addAction("Open")
            compares = part.addAction("Compare with the mask shown")
            for action in (opens, compares):
                action.setEnabled(result.path != self._shown)
            if self._shown is None:
                compares.setEnabled(False)
            opens.triggered.connect(lambda _=False, p=result.path: self.open(p))
            compares.triggered.connect(lambda _=False, p=result.path: self.compareRequested.emit(p))
            part.addAction("Recompute").triggered.connect(
                lambda _=False, p=result.path: self.recompute(p)
            )
            part.addAction("Delete…").triggered.connect(
                lambda _=False, p=result.path, t=title: self.ask_and_delete(p, t)
            )

    def open(self, path: Path) -> None:
        """Request that a result be opened."""
        self._again = None
        self.openRequested.emit(path)

    def recompute(self, path: Path) -> None:
        """Request that a result be opened and computed again."""
        self._again = path
        self.openRequested.emit(path)

    def wants_again(self, path: Path) -> bool:
        """Whether the result that was opened is to be computed again; asked once."""
        again, self._again = self._again, None
        return again == path

    def ask_and_delete(self, path: Path, title: str) -> None:
        """Request that a result be deleted, after a confirmation."""
        yes, no = QMessageBox.StandardButton.Discard, QMessageBox.StandardButton.Cancel
        text = f"Delete the result '{title}' from the disk? Your corrections of the slide are kept."
        if QMessageBox.question(self, "Delete result", plain(text), yes | no, no) == yes:
            self.deleteRequested.emit(path)
