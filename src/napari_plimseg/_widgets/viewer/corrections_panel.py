"""The state of the corrections in a dock; hiding, discarding and restoring all of them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_plimseg._widgets.common import TOOLTIPS, FlowText, plain
from napari_plimseg._widgets.viewer.mask_layer import commit_shared
from napari_plimseg.errors import CorrectionsError

if TYPE_CHECKING:
    from napari_plimseg._widgets.common import Banner
    from napari_plimseg._widgets.viewer.correction_recorder import CorrectionRecorder
    from napari_plimseg._widgets.viewer.mask_layer import MaskView


BUTTON = "Restore discarded corrections"
HIDDEN = "Corrections are hidden. Show them in the PLIMSeg dock first."


class DiscardedRow(QWidget):
    """Offers to restore what was discarded last; hidden when nothing was.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: MaskView | None = None
        self._known: tuple[object, int] = (None, -1)
        self._has_discarded = False
        self.button = QPushButton(BUTTON)
        self.button.clicked.connect(lambda: self.restore())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button)
        self.hide()

    def show_view(self, view: MaskView | None) -> None:
        """Show the state of a mask; the disk is read only after its corrections were replaced."""
        self._view = view
        corrections = None if view is None or view.recorder is None else view.corrections
        generation = -1 if corrections is None else corrections.journal.generation
        if self._known != (corrections, generation):
            self._known = corrections, generation
            self._has_discarded = corrections is not None and bool(corrections.list_discarded())
        self.setVisible(self._has_discarded)
        shown = view is not None and view.shows_corrections
        self.button.setEnabled(shown)
        self.button.setToolTip(TOOLTIPS["restore"] if shown else HIDDEN)

    def restore(self) -> None:
        """Restore what was discarded last, in every mask of the slide."""
        view = self._view
        if view is None or view.corrections is None:
            return
        recorders = commit_shared(view)
        try:
            found = view.corrections.list_discarded()
            if found:
                view.corrections.restore(found[0])
        except CorrectionsError as error:
            self.messageEmitted.emit("error", str(error))
        else:
            if found:
                pixels = view.corrected_pixels
                self.messageEmitted.emit("good", f"Corrections restored ({pixels:,} pixels).")
            else:
                self.messageEmitted.emit("warning", "The discarded corrections no longer exist.")
        for recorder in recorders:
            recorder.follow()
            recorder.changed.emit()
        self._known = None, -1
        self.show_view(view)


RESTORE_HINT = f"'{BUTTON}' in PLIMSeg Review gets them back."


class CorrectionsRow(QWidget):
    """Shows whether corrections are saved; hides and discards them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.shown = QCheckBox("Show corrections")
        self.shown.setChecked(True)
        self.discard = QPushButton("Discard corrections…")
        self.state = FlowText()
        line = QHBoxLayout()
        line.addWidget(self.shown)
        line.addStretch(1)
        line.addWidget(self.discard)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 2)
        layout.setSpacing(2)
        layout.addLayout(line)
        layout.addWidget(self.state)

    def show_view(self, view: MaskView | None) -> None:
        """Show the state of the corrections of a mask."""
        recorder = None if view is None else view.recorder
        pixels = 0 if view is None else view.corrected_pixels
        why_not = "" if pixels else "No corrections yet."
        if view is not None and recorder is None:
            why_not = view.note
        hidden = view is not None and not view.shows_corrections
        self.shown.blockSignals(True)
        self.shown.setChecked(not hidden)
        self.shown.blockSignals(False)
        for control, name in ((self.shown, "corrections_shown"), (self.discard, "discard")):
            control.setEnabled(not why_not)
            control.setToolTip(plain(why_not or TOOLTIPS[name]))
        if hidden:
            text = "Only the model's mask is shown. Show corrections to paint."
        elif recorder is None or not (pixels or recorder.problem):
            text = why_not
        else:
            text = f"{recorder.text} ({pixels:,} pixels)"
        self.state.setText(text)


class CorrectionsControl(QObject):
    """Does what the row's buttons request, and shows when saving fails.

    Parameters
    ----------
    row : CorrectionsRow
        Owner of this object.
    banner : Banner
        Shows errors.

    Attributes
    ----------
    changed : Signal()
        What the mask shows has changed.
    """

    changed = Signal()

    def __init__(self, row: CorrectionsRow, banner: Banner) -> None:
        super().__init__(row)
        self._row = row
        self._banner = banner
        self._view: MaskView | None = None
        self._shown_error = ""
        self._watched: weakref.WeakSet[CorrectionRecorder] = weakref.WeakSet()
        row.shown.toggled.connect(self._on_toggled)
        row.discard.clicked.connect(self.ask_and_discard)

    def show_view(self, view: MaskView | None) -> None:
        """Show and change the corrections of another mask."""
        self._view = view
        recorder = None if view is None else view.recorder
        if recorder is not None and recorder not in self._watched:
            self._watched.add(recorder)
            recorder.changed.connect(self._on_painted)
            recorder.saved.connect(self._on_saved)
            recorder.failed.connect(self._on_failed)
        self._row.show_view(view)

    def ask_and_discard(self) -> None:
        """Discard all corrections of the slide after a confirmation."""
        view = self._view
        if view is None:
            return
        answer = QMessageBox.question(
            self._row,
            "Discard corrections",
            f"Discard all corrections of this slide ({view.corrected_pixels:,} pixels)? "
            f"The model's masks are shown again. {RESTORE_HINT}",
            QMessageBox.StandardButton.Discard | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        if answer == QMessageBox.StandardButton.Discard:
            self.discard()

    def discard(self) -> None:
        """Move all corrections of the slide aside; its masks show the model's output again."""
        view = self._view
        if view is None or view.corrections is None:
            return
        recorders = commit_shared(view)
        try:
            folder = view.corrections.discard()
        except CorrectionsError as error:
            self._banner.show_message("error", str(error))
            return
        for recorder in recorders:
            recorder.follow()
        if folder is not None:
            self._banner.show_message("info", f"Corrections discarded. {RESTORE_HINT}")
        self.changed.emit()

    def _on_toggled(self, on: bool) -> None:
        if self._view is not None:
            self._view.show_corrections(on)
            self.changed.emit()

    def _on_painted(self) -> None:
        self._row.show_view(self._view)
        self.changed.emit()

    def _on_saved(self) -> None:
        self._row.show_view(self._view)
        if self._banner.kind == "error" and self._banner.text == self._shown_error:
            self._banner.show_message("good", "All corrections are saved now.")

    def _on_failed(self, text: str) -> None:
        self._shown_error = text
        self._banner.show_message("error", text)
        self._row.show_view(self._view)


def describe_corrections(view: MaskView) -> str:
    """Return sentences about the corrections of a mask, for the dock's message; may be empty."""
    pixels = view.corrected_pixels
    sentences = [f"Your corrections were applied ({pixels:,} pixels)."] if pixels else []
    return " ".join([*sentences, view.note] if view.note else sentences)
