"""How a comparison of masks looks: colours, numbers and tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget

if TYPE_CHECKING:
    from napari_plimseg.results.analysis.comparison import Comparison

DISAGREE_COLOR = (1.0, 0.0, 0.85, 0.75)
ONLY_MASK_COLOR = (0.1, 0.6, 1.0, 0.6)
ONLY_OTHER_COLOR = (1.0, 0.55, 0.0, 0.7)
_ROW_HEIGHT = 20
_ROWS_SHOWN = 9


def difference_colors() -> Any:
    """Return the colours of the layer of differences."""
    from napari.utils.colormaps import DirectLabelColormap

    from napari_plimseg.results.analysis.comparison import DISAGREE, ONLY_MASK, ONLY_OTHER

    clear = (0.0, 0.0, 0.0, 0.0)
    return DirectLabelColormap(
        color_dict={
            None: clear,
            0: clear,
            DISAGREE: DISAGREE_COLOR,
            ONLY_MASK: ONLY_MASK_COLOR,
            ONLY_OTHER: ONLY_OTHER_COLOR,
        }
    )


def key_square(color: tuple[float, ...]) -> str:
    """Return a square in a colour (red, green, blue, ...), for a key in rich text."""
    red, green, blue = (round(255 * c) for c in color[:3])
    return f"<span style='color: #{red:02x}{green:02x}{blue:02x}'>■</span>"


def percent(value: float) -> str:
    """Return a share as per cent; a dash for one that is not known."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def number(pixels: int, result: Comparison) -> str:
    """Return an area in mm², or in pixels where their size is unknown."""
    size = result.pixel_area_mm2
    return f"{pixels:,}" if size is None else f"{pixels * size:.3f}"


def amount(pixels: int, result: Comparison) -> str:
    """Return `number` with its unit."""
    return f"{number(pixels, result)} {'px' if result.pixel_area_mm2 is None else 'mm²'}"


def score_table(headers: list[str]) -> QTableWidget:
    """Return an empty table that can't be typed into."""
    table = QTableWidget(0, len(headers))
    table.setHorizontalHeaderLabels(headers)
    table.verticalHeader().hide()
    table.setShowGrid(False)
    table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    table.verticalHeader().setMinimumSectionSize(_ROW_HEIGHT)
    header = table.horizontalHeader()
    header.setMinimumSectionSize(36)
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.setMinimumWidth(200)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return table


def fit_height(table: QTableWidget, row_height: int = _ROW_HEIGHT) -> None:
    """Make a table as high as its rows, or as the most that are shown at once."""
    table.verticalHeader().setDefaultSectionSize(row_height)
    rows = min(max(table.rowCount(), 1), _ROWS_SHOWN)
    table.setFixedHeight(rows * row_height + table.horizontalHeader().sizeHint().height() + 6)
