"""Cleanup operations on a class or a region of a mask, each with one parameter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, PlainLabel, plain
from napari_plimseg.results import (
    Edit,
    Part,
    fill_holes,
    grow,
    remove_region,
    remove_small,
    shrink,
    smooth_outline,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Fillable = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


class CleanupOperation(Enum):
    """An operation on a class or a region; the value is its label."""

    HOLES = "Fill holes"
    SMALL = "Remove small"
    SMOOTH = "Smooth outline"
    GROW = "Grow"
    SHRINK = "Shrink"


@dataclass(frozen=True)
class CleanupRequest:
    """An operation with its parameter.

    Parameters
    ----------
    operation : CleanupOperation
        What to do.
    amount : float
        Area in pixels for holes and small regions, length in pixels for the others.
    """

    operation: CleanupOperation
    amount: float

    def edit(
        self, mask: NDArray[np.uint8], what: int | Part, fillable: Fillable | None = None
    ) -> Edit:
        """Return the edit of a class (its mask id) or a region; may take seconds.

        `fillable` says which pixels are no glass, for filling holes.
        """
        steps = max(1, round(self.amount))
        if self.operation is CleanupOperation.HOLES:
            return fill_holes(mask, what, max_pixels=steps, fillable=fillable)
        if self.operation is CleanupOperation.SMOOTH:
            return smooth_outline(mask, what, max(1.0, self.amount))
        if self.operation is CleanupOperation.GROW:
            return grow(mask, what, steps)
        if self.operation is CleanupOperation.SHRINK:
            return shrink(mask, what, steps)
        if isinstance(what, Part):  # a clicked region is removed whatever its size
            return remove_region(mask, what)
        return remove_small(mask, what, steps)


_AREAS = (CleanupOperation.HOLES, CleanupOperation.SMALL)
_PREFIX = {
    CleanupOperation.HOLES: "up to ",
    CleanupOperation.SMALL: "below ",
    CleanupOperation.SMOOTH: "by ",
    CleanupOperation.GROW: "by ",
    CleanupOperation.SHRINK: "by ",
}
_DEFAULT_UM = {
    CleanupOperation.SMOOTH: 20.0,
    CleanupOperation.GROW: 5.0,
    CleanupOperation.SHRINK: 5.0,
}
_DEFAULT_PX = {
    CleanupOperation.SMOOTH: 5.0,
    CleanupOperation.GROW: 1.0,
    CleanupOperation.SHRINK: 1.0,
}
_DEFAULT_MM2, _DEFAULT_AREA_PX = 0.01, 500.0


class CleanupPanel(QWidget):
    """Buttons and parameters; a button stays pressed while waiting for a click on a region.

    Attributes
    ----------
    requested : Signal(object)
        A `CleanupOperation` to run now, or after a click when `on_region`; None cancels.
    """

    requested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pixel_um: float | None = None
        self.scope = QComboBox()
        self.scope.addItems(["selected class", "region I click"])
        self.scope.setToolTip(TOOLTIPS["cleanup_scope"])
        self.scope.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.scope.currentIndexChanged.connect(lambda _: self._on_scope())
        self.buttons: dict[CleanupOperation, QPushButton] = {}
        self.numbers: dict[CleanupOperation, QDoubleSpinBox] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 2, 0, 2)
        grid.setSpacing(4)
        grid.addWidget(PlainLabel("Apply to"), 0, 0)
        grid.addWidget(self.scope, 0, 1)
        for row, operation in enumerate(CleanupOperation, start=1):
            button = QPushButton(operation.value)
            button.clicked.connect(lambda _=False, t=operation: self._on_button(t))
            number = QDoubleSpinBox()
            number.setPrefix(_PREFIX[operation])
            number.setToolTip(TOOLTIPS[f"cleanup_{operation.name.lower()}"])
            number.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
            number.setMinimumWidth(60)
            number.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self.buttons[operation], self.numbers[operation] = button, number
            grid.addWidget(button, row, 0)
            grid.addWidget(number, row, 1)
        grid.setColumnStretch(1, 1)
        self._show_units()
        self.set_enabled("")

    @property
    def on_region(self) -> bool:
        """Whether operations apply to a clicked region, not to the whole class."""
        return self.scope.currentIndex() == 1

    def request(self, operation: CleanupOperation) -> CleanupRequest:
        """Return an operation with its parameter in pixels of the mask."""
        value, pixel = self.numbers[operation].value(), self._pixel_um
        if pixel is None:
            return CleanupRequest(operation, value)
        if operation in _AREAS:
            return CleanupRequest(operation, value / (pixel / 1000) ** 2)
        return CleanupRequest(operation, value / pixel)

    def show_pixel_size(self, pixel_um: float | None) -> None:
        """Set the pixel size of the mask; parameters are in pixels when it is unknown."""
        if pixel_um != self._pixel_um:
            self._pixel_um = pixel_um
            self._show_units()

    def show_waiting(self, waiting: CleanupOperation | None) -> None:
        """Keep the button pressed whose operation waits for a click."""
        for operation, button in self.buttons.items():
            button.setCheckable(self.on_region)
            button.setChecked(self.on_region and operation is waiting)

    def set_enabled(self, why_not: str) -> None:
        """Enable the operations, or show why they can't be used."""
        for operation, button in self.buttons.items():
            button.setEnabled(not why_not)
            button.setToolTip(plain(why_not or TOOLTIPS[f"cleanup_{operation.name.lower()}"]))

    def _show_units(self) -> None:
        known = self._pixel_um is not None
        for operation, number in self.numbers.items():
            if operation in _AREAS:
                number.setDecimals(4 if known else 0)
                number.setRange(0.0001 if known else 1, 1000 if known else 1e9)
                number.setSuffix(" mm²" if known else " px")
                number.setValue(_DEFAULT_MM2 if known else _DEFAULT_AREA_PX)
            else:
                number.setDecimals(1 if known else 0)
                number.setRange(self._pixel_um or 1, 100 * (self._pixel_um or 1))
                number.setSuffix(" µm" if known else " px")
                default = _DEFAULT_UM if known else _DEFAULT_PX
                number.setValue(default[operation])

    def _on_scope(self) -> None:
        self.show_waiting(None)
        self.requested.emit(None)

    def _on_button(self, operation: CleanupOperation) -> None:
        cancels = self.on_region and not self.buttons[operation].isChecked()
        self.requested.emit(None if cancels else operation)
