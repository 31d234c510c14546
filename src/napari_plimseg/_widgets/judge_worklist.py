"""The list of uncertain regions: go to the next, look, tick it off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.banner import FlowText
from napari_plimseg._widgets.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.results.analysis.uncertainty import UncertainRegion

_ROW_HEIGHT = 20
_ROWS_SHOWN = 7
_MOST_ROWS = 200
DONE, RANK, SIZE, SURE, CLASSES = range(5)


class WorklistPanel(QWidget):
    """Shows the worklist and the buttons that walk through it.

    Attributes
    ----------
    nextRequested, reviewedRequested, viewReviewedRequested, refreshRequested : Signal()
        A button was pressed.
    rowChosen : Signal(int)
        Position in the list of the row that was clicked.
    tickClicked : Signal(int)
        Position of the row whose tick was clicked.
    """

    nextRequested = Signal()
    reviewedRequested = Signal()
    viewReviewedRequested = Signal()
    refreshRequested = Signal()
    rowChosen = Signal(int)
    tickClicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.next_button = _button("Next uncertain region", self.nextRequested)
        self.reviewed_button = _button("Mark as reviewed", self.reviewedRequested)
        self.view_button = _button("Mark view", self.viewReviewedRequested)
        self.refresh_button = QToolButton()
        self.refresh_button.setText("↻")
        self.refresh_button.clicked.connect(lambda: self.refreshRequested.emit())
        self.status = FlowText()
        self.table = self._build_table()
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.next_button, 1)
        first.addWidget(self.refresh_button)
        second.addWidget(self.reviewed_button, 1)
        second.addWidget(self.view_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(first)
        column.addLayout(second)
        column.addWidget(self.status)
        column.addWidget(self.table)

    def _build_table(self) -> QTableWidget:
        table = QTableWidget(0, 5)
        table.setHorizontalHeaderLabels(["", "#", "mm²", "sure", "classes"])
        table.setToolTip(TOOLTIPS["judge_list"])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.verticalHeader().setMinimumSectionSize(_ROW_HEIGHT)
        table.setShowGrid(False)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(20)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        for column, width in ((DONE, 20), (RANK, 30), (SIZE, 48), (SURE, 44)):
            table.setColumnWidth(column, width)
        header.setSectionResizeMode(CLASSES, QHeaderView.ResizeMode.Stretch)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        table.cellClicked.connect(self._on_clicked)
        return table

    def show_regions(self, regions: Sequence[UncertainRegion]) -> None:
        """Show the list; rows that are reviewed are ticked and pale."""
        table = self.table
        shown = regions[:_MOST_ROWS]
        table.setRowCount(len(shown))
        in_mm2 = all(region.area_mm2 is not None for region in shown)
        table.setHorizontalHeaderItem(SIZE, QTableWidgetItem("mm²" if in_mm2 else "px"))
        pale = table.palette().windowText().color()
        pale.setAlpha(110)
        for row, region in enumerate(shown):
            area = region.area_mm2
            for column, text in (
                (DONE, "✓" if region.reviewed else ""),
                (RANK, str(region.rank)),
                (SIZE, f"{region.pixels:,}" if area is None else f"{area:.3f}"),
                (SURE, f"{100 * region.mean_confidence:.0f} %"),
                (CLASSES, " / ".join(region.classes)),
            ):
                item = QTableWidgetItem(text)
                if region.reviewed:
                    item.setForeground(QBrush(pale))
                if column == CLASSES:
                    item.setToolTip(text)
                table.setItem(row, column, item)
        table.setVisible(bool(shown))
        rows = min(max(len(shown), 1), _ROWS_SHOWN)
        table.setFixedHeight(rows * _ROW_HEIGHT + table.horizontalHeader().sizeHint().height() + 6)

    def select(self, position: int | None) -> None:
        """Mark the row of the region that the window shows."""
        if position is None or position >= self.table.rowCount():
            self.table.clearSelection()
        else:
            self.table.selectRow(position)
            self.table.scrollTo(self.table.model().index(position, RANK))

    def set_enabled(self, next_problem: str, reviewed_problem: str, view_problem: str) -> None:
        """Allow the buttons, or say why not."""
        for button, tooltip, problem in (
            (self.next_button, "judge_next", next_problem),
            (self.reviewed_button, "judge_reviewed", reviewed_problem),
            (self.view_button, "judge_reviewed_view", view_problem),
            (self.refresh_button, "judge_refresh", view_problem),
        ):
            button.setEnabled(not problem)
            button.setToolTip(problem or TOOLTIPS[tooltip])

    def _on_clicked(self, row: int, column: int) -> None:
        (self.tickClicked if column == DONE else self.rowChosen).emit(row)


def _button(text: str, signal: Signal) -> QPushButton:
    button = QPushButton(text)
    button.clicked.connect(lambda: signal.emit())
    return button
