"""The controls of the fold *Class activation map*."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, FlowText, PlainLabel, ValueBar, plain, swatch
from napari_plimseg._widgets.generate.cam_jobs import CamModel, CamOffer
from napari_plimseg.settings import remember, remembered

_WORD, _MODEL = "cam_word", "cam_model"


class CamPanel(QWidget):
    """Chooses a class or a word and a model; buttons, progress, and what is shown.

    Attributes
    ----------
    showRequested, hideRequested, cancelRequested : Signal()
        A button was pressed.
    changed : Signal()
        Another class, word or model was chosen.
    """

    showRequested = Signal()
    hideRequested = Signal()
    cancelRequested = Signal()
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.offer = CamOffer()
        self._models: list[CamModel] = []
        self.what = _combo("cam_what")
        self.what.setEditable(True)
        self.what.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        field = QLineEdit()
        field.setPlaceholderText("a class, or any word")
        field.returnPressed.connect(lambda: self.showRequested.emit())
        self.what.setLineEdit(field)
        field.setCompleter(None)  # type: ignore[arg-type] # it would turn a word into the class that begins like it
        self.what.setEditText(self.word)
        self.what.editTextChanged.connect(self._on_text)
        self.model = _combo("cam_model")
        self.model.activated.connect(self._on_model)
        self.button = QPushButton("Show CAM")
        self.button.clicked.connect(lambda: self.showRequested.emit())
        self.hide_button = QPushButton("Hide")
        self.hide_button.clicked.connect(lambda: self.hideRequested.emit())
        self.bar = QProgressBar()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip(TOOLTIPS["cam_cancel"])
        self.cancel_button.clicked.connect(lambda: self.cancelRequested.emit())
        self.values = ValueBar()
        self.line = FlowText()
        self._build()

    def _build(self) -> None:
        grid = QGridLayout()
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        for row, (text, control) in enumerate((("CAM of", self.what), ("by", self.model))):
            grid.addWidget(PlainLabel(text), row, 0)
            grid.addWidget(control, row, 1)
        buttons = QHBoxLayout()
        for widget, stretch in ((self.button, 1), (self.hide_button, 0)):
            buttons.addWidget(widget, stretch)
        progress = QHBoxLayout()
        progress.addWidget(self.bar, 1)
        progress.addWidget(self.cancel_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for part in (grid, buttons, progress):
            column.addLayout(part)
        column.addWidget(self.values)
        column.addWidget(self.line)

    @property
    def text(self) -> str:
        """The class or word, without spaces around it."""
        return " ".join(self.what.currentText().split())

    @property
    def chosen_model(self) -> CamModel | None:
        """The model that is chosen; None when there is none on this computer."""
        row = self.model.currentIndex()
        return self._models[row] if 0 <= row < len(self._models) else None

    def show_offer(self, offer: CamOffer) -> None:
        """Offer classes and a word; what is in the field stays."""
        if offer == self.offer:
            return
        self.offer, text = offer, self.what.currentText()
        self.what.blockSignals(True)
        self.what.clear()
        for name, color in offer.rows():
            if color is None:
                self.what.addItem(name)
            else:
                self.what.addItem(swatch(color), name)
        self.what.setEditText(text)
        self.what.blockSignals(False)

    def show_models(self, models: list[CamModel]) -> None:
        """List models; those without CAMs can't be chosen, and their tooltips say why."""
        before = self.chosen_model
        wanted = str(remembered(_MODEL, "")) if before is None else before.key
        self._models = models
        self.model.clear()
        for row, model in enumerate(models):
            self.model.addItem(model.title, model.key)
            self.model.model().item(row).setEnabled(not model.problem)
            self.model.setItemData(row, plain(model.problem), Qt.ItemDataRole.ToolTipRole)
        usable = [row for row, model in enumerate(models) if not model.problem]
        found = self.model.findData(wanted)
        self.model.setCurrentIndex(found if found in usable else next(iter(usable), -1))
        self.changed.emit()

    def _on_text(self, text: str) -> None:
        # typing does not change the chosen row, whose color would be shown beside another word
        row = self.what.findText(text, Qt.MatchFlag.MatchFixedString)
        if row != self.what.currentIndex():
            field = self.what.lineEdit()
            at = 0 if field is None else field.cursorPosition()
            self.what.blockSignals(True)
            self.what.setCurrentIndex(row)
            self.what.setEditText(text)
            self.what.blockSignals(False)
            if field is not None:
                field.setCursorPosition(at)
        self.changed.emit()

    def _on_model(self, _: int) -> None:
        if self.chosen_model is not None:
            remember(_MODEL, self.chosen_model.key)
        self.changed.emit()

    @property
    def word(self) -> str:
        """The word that was typed last, perhaps in an earlier session."""
        return str(remembered(_WORD, ""))

    def remember_word(self) -> None:
        """Keep the word for the next time."""
        if self.offer.class_called(self.text) is None:
            remember(_WORD, self.text)

    def show_state(self, why_not: str, *, running: bool, shown: bool) -> None:
        """Enable what can be used now; the line and the tooltip say why not."""
        self.button.setEnabled(not why_not and not running)
        self.button.setToolTip(plain(why_not or TOOLTIPS["cam_show"]))
        self.hide_button.setEnabled(shown)
        self.hide_button.setToolTip(TOOLTIPS["cam_hide"] if shown else "No CAM is shown.")
        self.bar.setVisible(running)
        self.cancel_button.setVisible(running)
        if why_not and not running:
            self.line.setText(why_not)
        self.line.setVisible(bool(self.line.text()))


def _combo(tooltip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(TOOLTIPS[tooltip])
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
    return combo
