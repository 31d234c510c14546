"""Comparison with expert annotations, another mask or a layer: overlay and table of scores."""

from __future__ import annotations

import functools
import math
import threading
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    BackgroundJob,
    CollapsibleSection,
    FlowText,
    allow,
    plain,
)
from napari_plimseg._widgets.review.inspect.jobs import (
    Compared,
    ShownMask,
    compare_with,
    mask_of_labels,
)
from napari_plimseg._widgets.viewer import mask_view_of
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import ClassChange, Comparison, OtherMask


DISAGREE_COLOR = (1.0, 0.0, 0.85, 0.75)
ONLY_MASK_COLOR = (0.1, 0.6, 1.0, 0.6)
ONLY_OTHER_COLOR = (1.0, 0.55, 0.0, 0.7)
_ROW_HEIGHT = 20
_ROWS_SHOWN = 9


def difference_colors() -> Any:
    """Return the colors of the layer of differences."""
    from napari.utils.colormaps import DirectLabelColormap

    from napari_plimseg.results import DISAGREE, ONLY_MASK, ONLY_OTHER

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
    """Return a square in a color (red, green, blue, ...), for a legend in rich text."""
    red, green, blue = (round(255 * c) for c in color[:3])
    return f"<span style='color: #{red:02x}{green:02x}{blue:02x}'>■</span>"


def percent(value: float) -> str:
    """Return a fraction in percent; a dash for an unknown one."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def number(pixels: int, result: Comparison) -> str:
    """Return an area in mm², or in pixels where their size is unknown."""
    size = result.pixel_area_mm2
    return f"{pixels:,}" if size is None else f"{pixels * size:.3f}"


def amount(pixels: int, result: Comparison) -> str:
    """Return `number` with its unit."""
    return f"{number(pixels, result)} {'px' if result.pixel_area_mm2 is None else 'mm²'}"


def score_table(headers: list[str]) -> QTableWidget:
    """Return an empty read-only table."""
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
    """Make a table as high as its rows, up to `_ROWS_SHOWN`."""
    table.verticalHeader().setDefaultSectionSize(row_height)
    rows = min(max(table.rowCount(), 1), _ROWS_SHOWN)
    table.setFixedHeight(rows * row_height + table.horizontalHeader().sizeHint().height() + 6)


_FILES = "Masks (*.tif *.tiff *.png);;All files (*)"
_IGNORED = "ignored"


class ComparePanel(QWidget):
    """Compares the mask with another one and shows where they differ.

    Parameters
    ----------
    viewer : napari.Viewer
        Source of the labels layers to compare with; gets the layer of differences.

    Attributes
    ----------
    failed : Signal(str)
        The other mask can't be read or compared.
    compared : Signal()
        A comparison is shown.
    cancelled : Signal(str)
        A comparison was cancelled; the sentence says why.
    """

    failed = Signal(str)
    compared = Signal()
    cancelled = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._view: MaskView | None = None
        self._layer: Labels | None = None
        self.shown: Compared | None = None
        self._compared_view: MaskView | None = None
        self._mapping_edited = False
        self._stopped = threading.Event()
        self._then: Callable[[], None] | None = None
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_compared)
        self._job.failed.connect(self._on_failed)
        self._job.finished.connect(lambda _: self._on_finished())
        self._build()
        self._show_result()

    def _build(self) -> None:
        self.button = QPushButton("Compare with…")
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.button.setMenu(self.menu)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip(TOOLTIPS["inspect_cancel"])
        self.cancel_button.clicked.connect(lambda: self.cancel())
        self.cancel_button.hide()
        self.summary = FlowText()
        self.table = score_table(["class", "IoU", "Dice", "truth", "mask"])
        self.table.setToolTip(TOOLTIPS["inspect_scores"])
        self.background = QCheckBox("Count background")
        self.background.setChecked(True)
        self.background.setToolTip(TOOLTIPS["inspect_background"])
        self.background.toggled.connect(lambda _: self._again())
        self.copy_button = QPushButton("Copy as CSV")
        self.copy_button.setToolTip(TOOLTIPS["inspect_copy"])
        self.copy_button.clicked.connect(self.copy_csv)
        self.close_button = QPushButton("Close")
        self.close_button.setToolTip(TOOLTIPS["inspect_close"])
        self.close_button.clicked.connect(self.close_comparison)
        self.mapping = score_table(["truth", "mask"])
        self.mapping.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.mapping.setToolTip(TOOLTIPS["inspect_mapping"])
        self.mapping_box = CollapsibleSection("Matching classes", self.mapping)
        line = QHBoxLayout()
        line.addWidget(self.background)
        line.addStretch(1)
        line.addWidget(self.copy_button)
        line.addWidget(self.close_button)
        self._result = QWidget()
        inner = QVBoxLayout(self._result)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        inner.addWidget(self.table)
        inner.addLayout(line)
        inner.addWidget(self.mapping_box)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        first = QHBoxLayout()
        first.addWidget(self.button, 1)
        first.addWidget(self.cancel_button)
        column.addLayout(first)
        column.addWidget(self.summary)
        column.addWidget(self._result)

    def set_view(self, view: MaskView | None) -> None:
        """Compare another mask; an open comparison is closed."""
        if view is not self._view:
            self._view = view
            self._stop()
            self.close_comparison()
        self._show_state()

    def renew(self) -> None:
        """Compare again after a run changed the mask."""
        if self._view is not None and not self._view.is_growing:
            self._again()

    def follow_classes(self, change: ClassChange) -> None:
        """Compare again after the classes of the mask were edited."""
        renamed = any(old != new for old, new in change.names.items())
        if not (renamed or change.moves_ids or change.changes_tissue):
            return
        if self._job.is_running and self.shown is None:
            self._stop()
            self.cancelled.emit("Comparison cancelled: the classes of the mask were edited.")
        elif self.shown is not None:
            self._stop()
            other, table = self.shown.other, change.table
            mapping = {
                there: change.new_id(here) if table is None else int(table[here])
                for there, here in self.shown.mapping.items()
            }
            by_name = other.names is not None and not self._mapping_edited
            self._start(lambda: other, None if by_name else mapping)

    def cancel(self) -> None:
        """Cancel the comparison that is running; the one shown stays."""
        self._stop()
        self._show_state()
        self.cancelled.emit("Comparison cancelled.")

    def _stop(self) -> None:
        self._stopped.set()
        self._compared_view = self._then = None

    def stop_and_wait(self) -> None:
        """Stop the job and wait for it."""
        self._stop()
        self._job.stop_and_wait()

    def _fill_menu(self) -> None:
        self.menu.clear()
        self.menu.addAction("A file…", self.ask_for_file)
        self.menu.addAction("Result of another model…", self.ask_for_store)
        others = self.other_layers()
        if others:
            self.menu.addSeparator()
        for layer in others:
            self.menu.addAction(layer.name, functools.partial(self.compare_with_layer, layer))

    def other_layers(self) -> list[Labels]:
        """Return the labels layers to compare with."""
        from napari.layers import Labels

        own = None if self._view is None else self._view.layer
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels)
            and layer is not own
            and not layer.metadata.get("plimseg_overlay")
        ]

    def ask_for_file(self) -> None:
        """Ask for a label TIFF or an image of class numbers."""
        folder = load_settings().export_folder
        path, _ = QFileDialog.getOpenFileName(self, "Compare with", folder, _FILES)
        if path:
            self.compare_with_file(path)

    def ask_for_store(self) -> None:
        """Ask for the folder of another result."""
        view = self._view
        start = "" if view is None else str(view.store.path.parent)
        path = QFileDialog.getExistingDirectory(self, "Compare with a result (.plimseg)", start)
        if path:
            self.compare_with_file(path)

    def compare_with_file(self, path: str | Path) -> None:
        """Compare with annotations or a result on disk."""
        from napari_plimseg.results import read_other_mask

        if self._view is not None:
            self._start(functools.partial(read_other_mask, Path(path), self._view.store.info), None)

    def compare_with_layer(self, layer: Labels) -> None:
        """Compare with the current data of another labels layer."""
        view = self._view
        if view is None:
            return
        data = layer.data[0] if layer.multiscale else layer.data
        scale, translate = _pair(layer.scale), _pair(layer.translate)
        self._start(
            functools.partial(
                mask_of_labels,
                layer.name,
                data,
                scale,
                translate,
                view.info.mpp or 1.0,
                _names(layer),
            ),
            None,
        )

    def _again(self) -> None:
        if self.shown is not None:
            other, mapping = self.shown.other, dict(self.shown.mapping)
            self._start(lambda: other, mapping)

    def _start(self, read_other: Callable[[], OtherMask], mapping: dict[int, int] | None) -> None:
        view = self._view
        if view is None:
            return
        if self._job.is_running:
            if self._stopped.is_set():  # it ends with the band that it is reading
                self._then = functools.partial(self._start, read_other, mapping)
            return
        shown = ShownMask(view.layer.data, view.info, view.step)
        background = self.background.isChecked()
        self._compared_view = view
        self._mapping_edited = mapping is not None
        self._stopped = stopped = threading.Event()
        self._job.start(lambda: compare_with(shown, read_other, mapping, background, stopped))
        self._show_state()

    def _on_finished(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()
        self._show_state()

    def _on_failed(self, text: str) -> None:
        if not self._stopped.is_set():
            self.failed.emit(text)

    def _on_compared(self, compared: Compared) -> None:
        view = self._view
        if view is None or view is not self._compared_view or not view.is_in(self._viewer):
            return
        self.shown = compared
        self._show_layer(view, compared.result)
        self._show_result()
        self.compared.emit()

    def _show_layer(self, view: MaskView, result: Comparison) -> None:
        self._drop_layer()
        active = self._viewer.layers.selection.active
        pixel = view.info.napari_scale[0]
        size = pixel * result.map_step
        shift = (size - pixel / view.info.downsample) / 2
        self._layer = self._viewer.add_labels(
            result.map,
            name=plain(f"differences from {result.title}"),
            opacity=1.0,
            colormap=difference_colors(),
            scale=(size, size),
            translate=(shift, shift),
            units=view.placement()["units"],
            metadata={"plimseg_overlay": True},
        )
        self._layer.editable = False
        self._viewer.layers.selection.active = active

    def _drop_layer(self) -> None:
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None

    def close_comparison(self) -> None:
        """Close the comparison and remove its layer."""
        self.shown = None
        self._drop_layer()
        self._show_result()

    def copy_csv(self) -> None:
        """Copy scores and confusion matrix to the clipboard."""
        clipboard = QGuiApplication.clipboard()
        if self.shown is not None and clipboard is not None:
            clipboard.setText(self.shown.result.to_csv())

    def _show_state(self) -> None:
        problem = ""
        if self._view is None:
            problem = "Only generated masks can be compared. Generate one first."
        elif self._job.is_running:
            problem = "A comparison is running."
        allow(self.button, problem, "inspect_compare")
        self.cancel_button.setVisible(self._job.is_running and not self._stopped.is_set())
        allow(self.background, problem, "inspect_background")
        choices = (self.mapping.cellWidget(row, 1) for row in range(self.mapping.rowCount()))
        for part in (self.mapping, *choices):
            allow(part, problem, "inspect_mapping")

    def _show_result(self) -> None:
        shown = self.shown
        self._result.setVisible(shown is not None)
        self.summary.setVisible(shown is not None)
        if shown is None:
            return
        result = shown.result
        scores = result.agreement
        text = (
            f"<b>{escape(result.title)}</b><br>mIoU {percent(scores.miou)} · mean Dice "
            f"{percent(scores.mean_dice)} · pixel accuracy {percent(scores.pixel_accuracy)}"
            f"<br>{key_square(DISAGREE_COLOR)} differ {key_square(ONLY_MASK_COLOR)} only in mask "
            f"{key_square(ONLY_OTHER_COLOR)} only in truth"
        )
        worst = [
            f"{truth} in truth, {mask} in mask: {amount(pixels, result)}"
            for truth, mask, pixels in result.confusions()
        ]
        if worst:
            text += f"<br>Largest differences: {escape('; '.join(worst))}."
        ignored = [shown.other.name(i) for i, mask_id in shown.mapping.items() if not mask_id]
        if ignored:
            text += f"<br>Ignored: {escape(', '.join(ignored))}."
        self.summary.setTextFormat(Qt.TextFormat.RichText)
        self.summary.setText(text)
        rows = result.rows()
        self.table.setRowCount(len(rows))
        for i, row in enumerate(rows):
            values = (
                row.name,
                percent(row.iou),
                percent(row.dice),
                number(row.in_other, result),
                number(row.in_mask, result),
            )
            for column, value in enumerate(values):
                self.table.setItem(i, column, QTableWidgetItem(value))
        fit_height(self.table)
        self._show_mapping(shown)

    def _show_mapping(self, shown: Compared) -> None:
        assert self._view is not None  # noqa: S101 - a comparison is of a mask
        names = [_IGNORED, *self._view.info.classes.names]
        self.mapping.setRowCount(len(shown.mapping))
        for row, (other_id, mask_id) in enumerate(shown.mapping.items()):
            self.mapping.setItem(row, 0, QTableWidgetItem(shown.other.name(other_id)))
            choice = QComboBox()
            choice.addItems(names)
            choice.setToolTip(TOOLTIPS["inspect_mapping"])
            choice.setCurrentIndex(mask_id)
            choice.setMinimumContentsLength(8)
            choice.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            choice.activated.connect(functools.partial(self._on_mapped, other_id))
            self.mapping.setCellWidget(row, 1, choice)
        fit_height(self.mapping, 26)
        if shown.other.names is None and not self._mapping_edited:
            self.mapping_box.expand(
                animate=False
            )  # the matching is assumed from the numbers: show it

    def _on_mapped(self, other_id: int, mask_id: int) -> None:
        if self.shown is not None and not self._job.is_running:
            other = self.shown.other
            self._start(lambda: other, {**self.shown.mapping, other_id: mask_id})


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[-2]), float(values[-1])


def _names(layer: Labels) -> dict[int, str] | None:
    from napari_plimseg._reader import MASK_KEY

    view = mask_view_of(layer)
    info = layer.metadata.get(MASK_KEY) if view is None else view.info
    return None if info is None else dict(enumerate(info.classes.names, 1))
