"""The list of tissue classes: visibility, color, name and descriptive words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common.icons import eye, swatch
from napari_plimseg._widgets.common.preset_menu import PresetMenu
from napari_plimseg._widgets.common.tooltips import TOOLTIPS, FlowText, plain
from napari_plimseg.errors import ConfigError
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Collection

EYE, COLOR, NAME, WORDS = range(4)
_ROW_HEIGHT = 22
_ROWS_SHOWN = 9
_IS_LEGEND = "These are the classes of the mask. Press Change to edit those of the next run."


def same_words(first: TissueClasses, second: TissueClasses) -> bool:
    """Whether two sets of classes are the same to a model: names and words, not colors."""
    return first.has_background == second.has_background and [
        (c.name, c.prompts) for c in first
    ] == [(c.name, c.prompts) for c in second]


class ClassList(QWidget):
    """Edits a `TissueClasses`; or shows the classes of a mask, of which a person changed the names.

    Attributes
    ----------
    classesChanged : Signal()
        The user changed names, words, colors or the number of classes.
    changeRequested : Signal()
        The user wants to edit classes instead of seeing those of a mask.
    visibilityChanged : Signal()
        The user clicked an eye.
    colorChanged : Signal(str, object)
        The user gave a class, by name, another color: three numbers.
    classPicked : Signal(str)
        The user selected the row of a class.
    refused : Signal(str)
        A change was rejected; the message says why.
    """

    classesChanged = Signal()
    changeRequested = Signal()
    visibilityChanged = Signal()
    colorChanged = Signal(str, object)
    classPicked = Signal(str)
    refused = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: TissueClasses | None = None
        self._own: TissueClasses | None = None
        self.legend: TissueClasses | None = None
        self._why_not = ""
        self.hidden: set[str] = set()
        self._icon_color = QColor(160, 160, 160)
        self.table = self._build_table()
        self.add_button = self._button("Add class", "add", self._on_add)
        self.remove_button = self._button("Remove", "remove", self._on_remove)
        self.reset_button = self._button("Reset", "reset", self._on_reset)
        self.presets = PresetMenu()
        self.presets.presetChosen.connect(self._take)
        self.presets.saveRequested.connect(self._save_preset)
        self.presets.messageEmitted.connect(lambda _, text: self.refused.emit(text))
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        for button in (self.add_button, self.remove_button, self.reset_button, self.presets):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.table)
        layout.addWidget(self._build_note())
        layout.addLayout(buttons)

    def _build_note(self) -> QWidget:
        self.note = FlowText()
        self.change_button = QToolButton()
        self.change_button.setText("Change")
        self.change_button.clicked.connect(lambda: self.changeRequested.emit())
        self._note_row = QWidget()
        line = QHBoxLayout(self._note_row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.note, 1)
        line.addWidget(self.change_button)
        self._note_row.hide()
        return self._note_row

    def _build_table(self) -> QTableWidget:
        table = QTableWidget(0, 4)
        table.setHorizontalHeaderLabels(["", "", "Class", "Words"])
        table.setToolTip(TOOLTIPS["classes"])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.verticalHeader().setMinimumSectionSize(_ROW_HEIGHT)
        table.setIconSize(QSize(16, 16))
        table.setShowGrid(False)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(20)
        for column in (EYE, COLOR):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            table.setColumnWidth(column, 24)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(WORDS, QHeaderView.ResizeMode.Stretch)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        table.setColumnWidth(NAME, 132)
        table.cellClicked.connect(self._on_clicked)
        table.itemChanged.connect(self._on_edited)
        return table

    def _button(self, text: str, tooltip: str, slot: object) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(TOOLTIPS[tooltip])
        button.clicked.connect(slot)
        return button

    @property
    def classes(self) -> TissueClasses | None:
        """The classes for the next run as they are now."""
        return self._classes

    @property
    def _shown(self) -> TissueClasses | None:
        return self.legend or self._classes

    @property
    def edited(self) -> TissueClasses | None:
        """The classes if their names or words differ from the model's own, else None."""
        if self._classes is None or self._own is None or same_words(self._classes, self._own):
            return None
        return self._classes

    def show_classes(
        self,
        classes: TissueClasses,
        own: TissueClasses | None = None,
        hidden: Collection[str] | None = None,
    ) -> None:
        """Show classes for the next run.

        Parameters
        ----------
        classes : TissueClasses
        own : TissueClasses, optional
            What *Reset* restores; `classes` themselves by default.
        hidden : collection of str, optional
            Names of the hidden ones; by default those hidden already.
        """
        self._classes, self._own = classes, own or classes
        self.leave_legend(self.hidden if hidden is None else hidden)

    def show_legend(self, legend: TissueClasses, note: str, hidden: Collection[str]) -> None:
        """Show the classes of a mask, which differ from those of the next run; `note` says how.

        They can be hidden, recolored and picked. `classes` and `edited` stay those of the next run.
        """
        self.legend = legend
        self.note.setText(note)
        self._show(hidden)

    def leave_legend(self, hidden: Collection[str]) -> None:
        """Show the classes for the next run, with the hidden ones by name."""
        self.legend = None
        self._show(hidden)

    def _show(self, hidden: Collection[str]) -> None:
        self._note_row.setVisible(self.legend is not None)
        self.hidden = set(() if self._shown is None else self._shown.names).intersection(hidden)
        self.set_enabled(self._why_not)
        if self._shown is not None:
            self._fill()

    def set_icon_color(self, color: str) -> None:
        """Draw the eyes in the text color of the theme."""
        self._icon_color = QColor(color)
        if self._shown is not None:
            self._fill()

    def set_enabled(self, why_not: str) -> None:
        """Enable changes, or show why they are disabled; eyes and colors always work."""
        self._why_not = why_not
        self.change_button.setEnabled(not why_not)
        self.change_button.setToolTip(plain(why_not or TOOLTIPS["change_classes"]))
        why_not = why_not or ("" if self.legend is None else _IS_LEGEND)
        for button, tooltip in (
            (self.add_button, "add"),
            (self.remove_button, "remove"),
            (self.reset_button, "reset"),
            (self.presets, "presets"),
        ):
            button.setEnabled(not why_not)
            button.setToolTip(plain(why_not or TOOLTIPS[tooltip]))
        triggers = QAbstractItemView.EditTrigger
        self.table.setEditTriggers(
            triggers.NoEditTriggers
            if why_not
            else triggers.DoubleClicked | triggers.EditKeyPressed | triggers.AnyKeyPressed
        )

    def _fill(self) -> None:
        classes = self._shown
        assert classes is not None  # noqa: S101 - only called with classes
        table = self.table
        table.blockSignals(True)
        table.setRowCount(len(classes))
        for row, tissue_class in enumerate(classes):
            is_background = row + 1 == classes.background_id
            seen = tissue_class.name not in self.hidden
            for column, icon in (
                (EYE, eye(seen, self._icon_color)),
                (COLOR, swatch(tissue_class.color)),
            ):
                item = QTableWidgetItem(icon, "")
                item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
                table.setItem(row, column, item)
            table.setItem(row, NAME, QTableWidgetItem(tissue_class.name))
            words = QTableWidgetItem(", ".join(tissue_class.prompts))
            words.setToolTip(
                plain(
                    "Glass and empty space."
                    if is_background and not tissue_class.prompts
                    else "; ".join(tissue_class.texts)
                )
            )
            table.setItem(row, WORDS, words)
        table.blockSignals(False)
        rows = min(max(len(classes), 3), _ROWS_SHOWN)
        header = max(24, table.horizontalHeader().sizeHint().height())
        table.setFixedHeight(rows * _ROW_HEIGHT + header + 6)

    def _take(self, classes: TissueClasses) -> None:
        self._classes = classes
        self._fill()
        self.classesChanged.emit()

    def _on_clicked(self, row: int, column: int) -> None:
        if self._shown is None:
            return
        tissue_class = self._shown[row]
        self.classPicked.emit(tissue_class.name)
        if column == EYE:
            self.hidden ^= {tissue_class.name}
            self._fill()
            self.visibilityChanged.emit()
        elif column == COLOR:
            color = QColorDialog.getColor(
                QColor(*tissue_class.color), self, f"Color of {tissue_class.name}"
            )
            if color.isValid():
                self.set_color(tissue_class.name, (color.red(), color.green(), color.blue()))

    def set_color(self, name: str, color: tuple[int, int, int]) -> None:
        """Change the color of a class."""
        if self.legend is not None:
            self.colorChanged.emit(name, color)  # the mask shows it, and tells so
        elif self._classes is not None:
            old = self._classes[self._classes.mask_id(name) - 1]
            self._take(self._classes.replaced(name, dataclasses.replace(old, color=color)))
            self.colorChanged.emit(name, color)

    def _on_edited(self, item: QTableWidgetItem) -> None:
        if self._classes is None or self.legend is not None or item.column() not in (NAME, WORDS):
            return
        old = self._classes[item.row()]
        try:
            if item.column() == NAME:
                new = dataclasses.replace(old, name=item.text().strip())
            else:
                new = dataclasses.replace(old, prompts=tuple(item.text().split(",")))
            if new == old:
                self._fill()
                return
            changed = self._classes.replaced(old.name, new)
        except ConfigError as error:
            self._fill()
            self.refused.emit(str(error))
            return
        if old.name in self.hidden:
            self.hidden = (self.hidden - {old.name}) | {new.name}
        self._take(changed)

    def _on_add(self) -> None:
        if self._classes is None:
            return
        names = {name.casefold() for name in self._classes.names}
        number = next(n for n in range(1, 1000) if f"new class {n}" not in names)
        new = TissueClass(f"new class {number}", self._classes.fresh_color())
        try:
            self._take(self._classes.with_class(new))
        except ConfigError as error:
            self.refused.emit(str(error))
            return
        row = self._classes.mask_id(new.name) - 1
        self.table.setCurrentCell(row, NAME)
        item = self.table.item(row, NAME)
        if item is not None:
            self.table.editItem(item)

    def _on_remove(self) -> None:
        row = self.table.currentRow()
        if self._classes is None:
            return
        if row < 0:
            self.refused.emit("Select the class to remove first.")
            return
        try:
            self._take(self._classes.without(self._classes[row].name))
        except ConfigError as error:
            self.refused.emit(str(error))

    def _save_preset(self, path: str) -> None:
        if self._classes is not None:
            self.presets.save(self._classes, Path(path))

    def _on_reset(self) -> None:
        if self._own is not None:
            self.hidden.clear()
            before = {} if self._classes is None else {c.name: c.color for c in self._classes}
            self._take(self._own)
            for each in self._own:
                if before.get(each.name, each.color) != each.color:
                    self.colorChanged.emit(each.name, each.color)
