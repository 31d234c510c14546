"""The section *Classes*: names, colors and order of the classes of an existing mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QGridLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, PresetMenu, allow, plain, swatch
from napari_plimseg.errors import PlimsegError
from napari_plimseg.tissue import TissueClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import ClassChange, ClassEdits
    from napari_plimseg.tissue import Color, TissueClasses


COLOR, NAME, IGNORE = range(3)
_ROW_HEIGHT = 22
_ROWS_SHOWN = 10
_NOT_STORED = "Only classes of masks made here can be edited; segment the slide first."
_REGION_OPEN = "A region is open at full resolution: press Done or Discard first."
FORGOTTEN = "The strokes before this can't be undone any more; the mask keeps them."


class ClassEditor(QWidget):
    """Edits the classes of a mask; every edit is kept with the mask and can be undone.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: MaskView | None = None
        self._why_not = ""
        self.table = self._build_table()
        self.buttons = {
            name: self._button(text, act)
            for name, text, act in (
                ("class_add", "Add", self.add),
                ("class_merge", "Merge into", None),
                ("class_delete", "Delete", self.delete),
                ("class_up", "Up", lambda: self.shift(-1)),
                ("class_down", "Down", lambda: self.shift(1)),
                ("class_undo", "Undo", self.undo),
                ("class_redo", "Redo", self.redo),
                ("class_color_blind", "Color-blind colors", self.use_color_blind_colors),
            )
        }
        self.merge_menu = QMenu(self)
        self.merge_menu.aboutToShow.connect(self._list_targets)
        self.buttons["class_merge"].setMenu(self.merge_menu)
        self.presets = PresetMenu()
        self.presets.presetChosen.connect(self.use_preset)
        self.presets.saveRequested.connect(self._save_preset)
        self.presets.messageEmitted.connect(self.messageEmitted)
        grid = QGridLayout()
        grid.setSpacing(4)
        for number, button in enumerate((*self.buttons.values(), self.presets)):
            grid.addWidget(button, number // 3, number % 3)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.table)
        column.addLayout(grid)
        self.set_view(None)

    def _build_table(self) -> QTableWidget:
        table = QTableWidget(0, 3)
        table.setHorizontalHeaderLabels(["", "Class", "Ignore"])
        table.setToolTip(TOOLTIPS["class_table"])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.setIconSize(QSize(16, 16))
        table.setShowGrid(False)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.setTabKeyNavigation(False)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(20)
        header.setSectionResizeMode(COLOR, QHeaderView.ResizeMode.Fixed)
        table.setColumnWidth(COLOR, 26)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(IGNORE, QHeaderView.ResizeMode.ResizeToContents)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        table.cellClicked.connect(self._on_clicked)
        table.itemChanged.connect(self._on_changed)
        table.itemSelectionChanged.connect(self.refresh_state)
        return table

    def _button(self, text: str, act: Callable[[], None] | None) -> QPushButton:
        button = QPushButton(text)
        if act is not None:
            button.clicked.connect(lambda: act())
        return button

    @property
    def classes(self) -> TissueClasses | None:
        """The classes of the mask as shown."""
        return None if self._view is None else self._view.edits.classes

    @property
    def selected(self) -> str:
        """Name of the selected class; empty when none is selected."""
        row, classes = self.table.currentRow(), self.classes
        return classes.names[row] if classes is not None and 0 <= row < len(classes) else ""

    def set_view(self, view: MaskView | None, *, region_is_open: bool = False) -> None:
        """Edit the classes of another mask; None for one that is not from a store."""
        self._why_not = _NOT_STORED if view is None else _REGION_OPEN if region_is_open else ""
        changed = view is not self._view
        self._view = view
        self._fill(0 if changed else self.table.currentRow())

    def _fill(self, row: int) -> None:
        table, classes = self.table, self.classes
        table.blockSignals(True)
        table.setRowCount(0 if classes is None else len(classes))
        for number, each in enumerate(classes or ()):
            color = QTableWidgetItem(swatch(each.color), "")
            color.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            ignore = QTableWidgetItem()
            ignore.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            state = Qt.CheckState.Checked if each.ignored else Qt.CheckState.Unchecked
            ignore.setCheckState(state)
            for column, item in ((COLOR, color), (NAME, QTableWidgetItem(each.name)),
                                 (IGNORE, ignore)):  # fmt: skip
                table.setItem(number, column, item)
        table.setCurrentCell(min(max(row, 0), table.rowCount() - 1), NAME)
        table.blockSignals(False)
        shown = min(max(table.rowCount(), 2), _ROWS_SHOWN)
        table.setFixedHeight(shown * _ROW_HEIGHT + table.horizontalHeader().sizeHint().height() + 6)
        self.refresh_state()

    def refresh_state(self) -> None:
        """Enable what can be done with the selected class; tooltips say why not."""
        view, classes, row = self._view, self.classes, self.table.currentRow()
        self.table.setEnabled(not self._why_not)
        allow(self.presets, self._why_not, "presets")
        count = 0 if classes is None else len(classes)
        is_background = classes is not None and row + 1 == classes.background_id
        last = count - (2 if classes is not None and classes.has_background else 1)
        none = "" if 0 <= row < count else "Select a class first."
        fixed = none or ("Background always stays." if is_background else "")
        only = "" if last > 0 else "This is the only class."
        undoable = () if view is None else view.edits.undoable
        redoable = () if view is None else view.edits.redoable
        reasons = {
            "class_merge": fixed,
            "class_delete": fixed or only,
            "class_up": fixed or ("" if row > 0 else "This class is the first."),
            "class_down": fixed or ("" if row < last else "This class is the last."),
            "class_undo": "" if undoable else "Nothing to undo.",
            "class_redo": "" if redoable else "Nothing to redo.",
        }
        for name, button in self.buttons.items():
            allow(button, self._why_not or reasons.get(name, ""), name)
        for name, steps in (("class_undo", undoable), ("class_redo", redoable)):
            if steps and not self._why_not:
                button = self.buttons[name]
                button.setToolTip(plain(f"{button.text()}: {steps[-1][0]}."))

    def _edit(self, change: Callable[[ClassEdits], ClassEdits], row: int | None = None) -> bool:
        """Change the classes; return whether that was possible."""
        view = self._view
        if view is None or self._why_not:
            return False
        keep = self.table.currentRow() if row is None else row
        forgotten = False
        try:
            edits = change(view.edits)
            if edits != view.edits:
                forgotten = view.edit_classes(edits)
        except PlimsegError as error:
            self._fill(keep)
            self.messageEmitted.emit("warning", str(error))
            return False
        self._fill(keep)
        if forgotten:
            self.messageEmitted.emit("warning", FORGOTTEN)
        return True

    def follow_classes(self, change: ClassChange) -> None:
        """Show the classes again after they were edited, here or elsewhere."""
        self._fill(self.table.currentRow())

    def rename(self, old: str, new: str) -> None:
        """Give a class another name."""
        if self._edit(lambda edits: edits.renamed(old, new)):
            self.messageEmitted.emit("good", f"{old} is now {new.strip()} in this mask.")

    def recolor(self, name: str, color: Color) -> None:
        """Give a class another color."""
        self._edit(lambda edits: edits.recolored({name: color}))

    def ignore(self, name: str, ignored: bool) -> None:
        """Leave a class out of areas and exports, or include it again."""
        if self._edit(lambda edits: edits.ignoring(name, ignored)):
            what = "left out of areas and exports" if ignored else "included again"
            self.messageEmitted.emit("good", f"{name} is {what}.")

    def merge(self, name: str, into: str) -> None:
        """Make the pixels of a class those of another one."""
        if self._edit(lambda edits: edits.merged(name, into)):
            self.messageEmitted.emit("good", f"{name} is now part of {into}.")

    def delete(self) -> None:
        """Delete the selected class."""
        name, classes = self.selected, self.classes
        if classes is not None and self._edit(lambda edits: edits.deleted(name)):
            where = "empty" if classes.background_id is None else classes.names[-1]
            self.messageEmitted.emit("good", f"{name} is deleted; its pixels are {where} now.")

    def shift(self, by: int) -> None:
        """Move the selected class up (-1) or down (1)."""
        name, row = self.selected, self.table.currentRow()
        self._edit(lambda edits: edits.moved(name, row + by), row + by)

    def add(self) -> None:
        """Add a class to paint with, in a color that differs from all others."""
        classes = self.classes
        if classes is None:
            return
        names = {name.casefold() for name in classes.names}
        number = next(n for n in range(1, 1000) if f"new class {n}" not in names)
        new = TissueClass(f"new class {number}", classes.fresh_color())
        row = classes.with_class(new).mask_id(new.name) - 1
        if self._edit(lambda edits: edits.with_class(new), row):
            item = self.table.item(row, NAME)
            if item is not None:
                self.table.editItem(item)

    def use_color_blind_colors(self) -> None:
        """Give all classes colors that color-blind eyes tell apart."""
        self._edit(lambda edits: edits.for_color_blind())

    def use_preset(self, preset: TissueClasses) -> None:
        """Take names, colors and order from a preset."""
        if self._edit(lambda edits: edits.with_preset(preset)):
            self.messageEmitted.emit("good", "Colors and order are those of the preset.")

    def undo(self) -> None:
        """Undo the last edit of the classes."""
        self._edit(lambda edits: edits.undone())

    def redo(self) -> None:
        """Redo the edit undone last."""
        self._edit(lambda edits: edits.redone())

    def _save_preset(self, path: str) -> None:
        if self.classes is not None:
            self.presets.save(self.classes, Path(path))

    def _list_targets(self) -> None:
        self.merge_menu.clear()
        name = self.selected
        for each in self.classes or ():
            if each.name != name:
                action = self.merge_menu.addAction(
                    swatch(each.color), plain(each.name).replace("&", "&&")
                )
                action.triggered.connect(lambda _=False, into=each.name: self.merge(name, into))

    def _on_clicked(self, row: int, column: int) -> None:
        classes = self.classes
        if classes is None or column != COLOR or self._why_not:
            return
        each = classes[row]
        color = QColorDialog.getColor(QColor(*each.color), self, plain(f"Color of {each.name}"))
        if color.isValid():
            self.recolor(each.name, (color.red(), color.green(), color.blue()))

    def _on_changed(self, item: QTableWidgetItem) -> None:
        classes = self.classes
        if classes is None or item.row() >= len(classes):
            return
        each = classes[item.row()]
        if item.column() == NAME and item.text().strip() != each.name:
            self.rename(each.name, item.text())
        elif item.column() == IGNORE:
            self.ignore(each.name, item.checkState() == Qt.CheckState.Checked)
