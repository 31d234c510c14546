"""Three first steps, shown once."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_plimseg._widgets.banner import FlowText
from napari_plimseg._widgets.tooltips import TOOLTIPS
from napari_plimseg.settings import remember, remembered

STEPS = (
    ("Open a slide.", "Drop a file on the window, or press Sample slide."),
    ("Generate pseudo masks.", "Choose the tissue classes, press the green button and watch."),
    ("Correct and export.", "Paint on the mask layer, then export for QuPath or a spreadsheet."),
)
_SEEN = "first_run_seen"


def wants_first_run() -> bool:
    """Whether the card was not dismissed yet on this computer."""
    return not remembered(_SEEN, False)


class FirstRunCard(QFrame):
    """Shows the first steps until *Got it* is pressed; hidden from the start afterwards.

    Attributes
    ----------
    dismissed : Signal()
        The card is gone for good.
    """

    dismissed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("FirstRunCard")
        self.setStyleSheet(
            "#FirstRunCard {border: 1px solid #2e7d4f; border-radius: 6px;"
            " background: rgba(46, 125, 79, 40);}"
            "#FirstRunCard QLabel {background: transparent;}"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(4)
        for number, (what, how) in enumerate(STEPS, start=1):
            label = FlowText(f"{number}. <b>{what}</b> {how}")
            label.setTextFormat(Qt.TextFormat.RichText)
            layout.addWidget(label)
        self.button = QPushButton("Got it")
        self.button.setToolTip(TOOLTIPS["first_run"])
        self.button.clicked.connect(self.dismiss)
        row = QHBoxLayout()
        note = QLabel("Research use only.")
        note.setEnabled(False)
        row.addWidget(note, 1)
        row.addWidget(self.button)
        layout.addLayout(row)
        self.setVisible(wants_first_run())

    def dismiss(self) -> None:
        """Hide the card for good."""
        remember(_SEEN, True)
        self.hide()
        self.dismissed.emit()
