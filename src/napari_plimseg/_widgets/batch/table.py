"""The table of the slides of a batch, with a progress bar per slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)

from napari_plimseg._widgets.common import plain
from napari_plimseg.inference import CohortItem, ItemState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from qtpy.QtCore import QMimeData, QModelIndex, QPersistentModelIndex
    from qtpy.QtWidgets import QStyleOptionViewItem


_PATH = Qt.ItemDataRole.UserRole
_FRACTION = Qt.ItemDataRole.UserRole + 1
_COLOR = Qt.ItemDataRole.UserRole + 2
_SIDE = 40
_COLORS = {
    ItemState.RUNNING: "#2f6fb0",
    ItemState.STOPPED: "#6d7b88",
    ItemState.DONE: "#2e7d4f",
    ItemState.FAILED: "#a32020",
    ItemState.NEEDS_MPP: "#8a5a00",
}


def icon_of(thumbnail: NDArray[np.uint8] | None) -> QIcon:
    """Return a square icon of a thumbnail (h, w, 3), gray if there is none."""
    square = QPixmap(_SIDE, _SIDE)
    square.fill(QColor(128, 128, 128, 60) if thumbnail is None else QColor("white"))
    if thumbnail is not None:
        pixels = np.ascontiguousarray(thumbnail)
        height, width = pixels.shape[:2]
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        scaled = QPixmap.fromImage(image).scaled(
            _SIDE, _SIDE, Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )  # fmt: skip
        painter = QPainter(square)
        painter.drawPixmap((_SIDE - scaled.width()) // 2, (_SIDE - scaled.height()) // 2, scaled)
        painter.end()
    icon = QIcon(square)
    # Qt would tint the icon of a selected row, which changes the stain
    icon.addPixmap(square, QIcon.Mode.Selected)
    return icon


class _StateBar(QStyledItemDelegate):
    """Draws the state of a slide over a progress bar."""

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        """Draw one cell."""
        color, fraction = index.data(_COLOR), float(index.data(_FRACTION) or 0)
        if not color:
            super().paint(painter, option, index)
            return
        self.initStyleOption(option, index)
        area = option.rect.adjusted(2, 5, -4, -5)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(128, 128, 128, 90))
        painter.drawRoundedRect(area, 4, 4)
        done = QRect(area)
        done.setWidth(round(area.width() * fraction))
        painter.setClipRect(done)
        painter.setBrush(QColor(color))
        painter.drawRoundedRect(area, 4, 4)
        painter.setClipping(False)
        painter.setPen(option.palette.text().color() if fraction < 0.6 else QColor("white"))
        painter.drawText(area, int(Qt.AlignmentFlag.AlignCenter), str(index.data()))
        painter.restore()


class BatchTable(QTreeWidget):
    """Shows the slides of a cohort and accepts dropped files and folders.

    Attributes
    ----------
    pathsDropped : Signal(list)
        Paths that were dropped on the table.
    """

    pathsDropped = Signal(list)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setHeaderLabels(["Slide", "State"])
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setAcceptDrops(True)
        self.setItemDelegateForColumn(1, _StateBar(self))
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Fixed)
        header.resizeSection(1, 128)
        self._rows: dict[Path, QTreeWidgetItem] = {}
        self._icons: dict[Path, QIcon] = {}
        self._blank = icon_of(None)

    @property
    def selected_paths(self) -> list[Path]:
        """The selected slides, from top to bottom."""
        return [path for path, row in self._rows.items() if row.isSelected()]

    def select(self, *paths: Path) -> None:
        """Select these slides and no others."""
        self.clearSelection()
        for path in paths:
            if path in self._rows:
                self._rows[path].setSelected(True)

    def show_items(self, items: Sequence[CohortItem]) -> None:
        """Show exactly these slides and keep the selection."""
        wanted = {item.path for item in items}
        for path in [p for p in self._rows if p not in wanted]:
            row = self._rows.pop(path)
            self.takeTopLevelItem(self.indexOfTopLevelItem(row))
            self._icons.pop(path, None)
        for item in items:
            self.show_item(item)

    def show_item(self, item: CohortItem) -> None:
        """Show the current state of a slide."""
        row = self._rows.get(item.path)
        if row is None:
            row = QTreeWidgetItem()
            row.setData(0, _PATH, str(item.path))
            row.setIcon(0, self._icons.get(item.path, self._blank))
            self._rows[item.path] = row
            self.addTopLevelItem(row)
        row.setText(0, item.path.name)
        row.setToolTip(0, plain(str(item.path)))
        row.setText(1, item.state_text)
        row.setToolTip(1, plain(item.problem or item.state.value))
        asks = item.state in (ItemState.FAILED, ItemState.NEEDS_MPP)
        row.setData(1, _FRACTION, 1.0 if asks else item.fraction)
        row.setData(1, _COLOR, _COLORS.get(item.state, ""))

    def show_thumbnail(self, path: Path, thumbnail: NDArray[np.uint8] | None) -> None:
        """Show the thumbnail (h, w, 3) of a slide."""
        self._icons[path] = icon_of(thumbnail)
        if path in self._rows:
            self._rows[path].setIcon(0, self._icons[path])

    def has_thumbnail(self, path: Path) -> bool:
        """Whether the thumbnail of a slide was read, even if in vain."""
        return path in self._icons

    def dragEnterEvent(self, event: object) -> None:
        """Accept files."""
        _accept_files(event)

    def dragMoveEvent(self, event: object) -> None:
        """Accept files everywhere on the table; Qt would refuse them between rows."""
        _accept_files(event)

    def dropEvent(self, event: object) -> None:
        """Emit the dropped paths."""
        paths = _files_of(event.mimeData())
        if paths:
            event.acceptProposedAction()
            self.pathsDropped.emit(paths)


def _accept_files(event: object) -> None:
    if _files_of(event.mimeData()):
        event.acceptProposedAction()
    else:
        event.ignore()


def _files_of(data: QMimeData) -> list[str]:
    return [url.toLocalFile() for url in data.urls() if url.isLocalFile()]
