"""Buttons for the classes of a mask: which one to paint, and which ones are protected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from napari_plimseg._widgets.common import CHOSEN_STYLE, TOOLTIPS, plain, swatch, tool_icon

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_plimseg.tissue import TissueClass, TissueClasses


KEYED = 9
"""Classes up to this mask id have a number key."""
_COLUMNS = 2
_HEIGHT = 24
_BESIDE_NAME = 44  # pixels for swatch, padlock and gaps


class ClassChip(QWidget):
    """One class: a button that selects it, and a padlock.

    Attributes
    ----------
    chosen : Signal()
        The user selected the class.
    lockChanged : Signal()
        The user opened or closed the padlock.
    """

    chosen = Signal()
    lockChanged = Signal()

    def __init__(self, mask_id: int, tissue_class: TissueClass, parent: QWidget) -> None:
        super().__init__(parent)
        self.mask_id = mask_id
        self.name = tissue_class.name
        self._icon_color = QColor(160, 160, 160)
        self.button = QToolButton()
        self.button.setCheckable(True)
        self.button.setIcon(swatch(tissue_class.color))
        self.button.setIconSize(QSize(14, 14))
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.button.setFixedHeight(_HEIGHT)
        self.button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.button.setMinimumWidth(1)
        self.button.setStyleSheet(CHOSEN_STYLE)
        key = f" Key {mask_id}." if mask_id <= KEYED else ""
        self.button.setToolTip(plain(f"Paint {self.name}.{key}"))
        self.button.clicked.connect(lambda: self.chosen.emit())
        self.lock = QToolButton()
        self.lock.setCheckable(True)
        self.lock.setFixedSize(20, _HEIGHT)
        self.lock.setIconSize(QSize(15, 15))
        self.lock.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.lock.setStyleSheet("QToolButton, QToolButton:checked {background: transparent;}")
        self.lock.clicked.connect(lambda: self._on_lock())
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(0)
        line.addWidget(self.button, 1)
        line.addWidget(self.lock)
        self._show_lock()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Elide the name to the available width."""
        super().resizeEvent(event)
        number = f"{self.mask_id}  " if self.mask_id <= KEYED else ""
        self.button.setText(
            self.button.fontMetrics().elidedText(
                number + self.name,
                Qt.TextElideMode.ElideRight,
                max(10, self.width() - _BESIDE_NAME),
            )
        )

    def set_icon_color(self, color: QColor) -> None:
        """Draw the padlock in the text color of the theme."""
        self._icon_color = color
        self._show_lock()

    def set_locked(self, locked: bool) -> None:
        """Close or open the padlock."""
        self.lock.setChecked(locked)
        self._show_lock()

    def _on_lock(self) -> None:
        self._show_lock()
        self.lockChanged.emit()

    def _show_lock(self) -> None:
        locked = self.lock.isChecked()
        self.lock.setIcon(tool_icon("lock" if locked else "open_lock", self._icon_color))
        key = "unprotect" if locked else "protect"
        self.lock.setToolTip(plain(TOOLTIPS[key].format(name=self.name)))


class ClassChips(QWidget):
    """The classes of a mask in two columns.

    Attributes
    ----------
    classChosen : Signal(int)
        Mask id of the class that the user selected.
    protectionChanged : Signal()
        The user changed `protected`.
    """

    classChosen = Signal(int)
    protectionChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: TissueClasses | None = None
        self._icon_color = QColor(160, 160, 160)
        self.chips: list[ClassChip] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(2)
        for column in range(_COLUMNS):
            self._grid.setColumnStretch(column, 1)

    @property
    def protected(self) -> frozenset[int]:
        """Mask ids of the protected classes."""
        return frozenset(chip.mask_id for chip in self.chips if chip.lock.isChecked())

    def protect(self, mask_ids: set[int]) -> None:
        """Protect these classes and no others."""
        for chip in self.chips:
            chip.set_locked(chip.mask_id in mask_ids)

    def show_classes(self, classes: TissueClasses | None) -> None:
        """Show other classes; a class of the same name stays protected."""
        if classes == self._classes:
            return
        locked = {chip.name for chip in self.chips if chip.lock.isChecked()}
        self._classes = classes
        for chip in self.chips:
            self._grid.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        self.chips = []
        count = 0 if classes is None else len(classes)
        rows = -(-count // _COLUMNS)
        for mask_id in range(1, count + 1):
            assert classes is not None  # noqa: S101 - count is 0 otherwise
            chip = ClassChip(mask_id, classes[mask_id - 1], self)
            chip.set_locked(chip.name in locked)
            chip.set_icon_color(self._icon_color)
            chip.chosen.connect(lambda i=mask_id: self.classChosen.emit(i))
            chip.lockChanged.connect(self.protectionChanged)
            column, row = divmod(mask_id - 1, rows)
            self._grid.addWidget(chip, row, column)
            self.chips.append(chip)

    def show_chosen(self, mask_id: int) -> None:
        """Highlight the selected class."""
        for chip in self.chips:
            chip.button.setChecked(chip.mask_id == mask_id)

    def set_icon_color(self, color: QColor) -> None:
        """Draw the padlocks in the text color of the theme."""
        self._icon_color = color
        for chip in self.chips:
            chip.set_icon_color(color)
