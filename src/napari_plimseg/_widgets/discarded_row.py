"""Corrections that were discarded, and the button that brings them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_plimseg._widgets.correction_recorder import settled
from napari_plimseg._widgets.tooltips import TOOLTIPS
from napari_plimseg.errors import CorrectionsError

if TYPE_CHECKING:
    from napari_plimseg._widgets.layer_views import MaskView

BUTTON = "Bring discarded corrections back"
HIDDEN = "The corrections of this mask are hidden: show them again first."


class DiscardedRow(QWidget):
    """Offers to bring back what was discarded last; not there when nothing was.

    Attributes
    ----------
    told : Signal(str, str)
        A kind of message (as `Banner.tell` takes it) and a sentence for the person.
    """

    told = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: MaskView | None = None
        self._known: tuple[object, int] = (None, -1)
        self._is_there = False
        self.button = QPushButton(BUTTON)
        self.button.clicked.connect(lambda: self.bring_back())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button)
        self.hide()

    def show_view(self, view: MaskView | None) -> None:
        """Be about the corrections of a mask; the disk is asked only when they were replaced."""
        self._view = view
        corrections = None if view is None or view.recorder is None else view.corrections
        generation = -1 if corrections is None else corrections.journal.generation
        if self._known != (corrections, generation):
            self._known = corrections, generation
            self._is_there = corrections is not None and bool(corrections.discarded())
        self.setVisible(self._is_there)
        shown = view is not None and view.shows_corrections
        self.button.setEnabled(shown)
        self.button.setToolTip(TOOLTIPS["bring_back"] if shown else HIDDEN)

    def bring_back(self) -> None:
        """Bring back what was discarded last, in every mask of the slide."""
        view = self._view
        if view is None or view.corrections is None:
            return
        recorders = settled(view)
        try:
            found = view.corrections.discarded()
            if found:
                view.corrections.bring_back(found[0])
        except CorrectionsError as error:
            self.told.emit("error", str(error))
        else:
            if found:
                pixels = view.corrected_pixels
                self.told.emit("good", f"The corrections are back ({pixels:,} pixels).")
            else:
                self.told.emit("warning", "The discarded corrections are not there any more.")
        for recorder in recorders:
            recorder.follow()
            recorder.changed.emit()
        self._known = None, -1
        self.show_view(view)
