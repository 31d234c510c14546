"""How the mask is shown: fill, outlines, uncertainty, and opacity of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    BackgroundJob,
    CollapsibleSection,
    PlainLabel,
    ValueBar,
    plain,
    swatch,
)
from napari_plimseg._widgets.viewer import OutlineLayer, OverlayView, colors_of, confidence_values
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.tissue import TissueClasses


_OVERLAY_OPACITY = 0.8


class ShowPanel(QWidget):
    """Controls how the mask is drawn; the mask itself is not changed.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layers of outlines and uncertainty.

    Attributes
    ----------
    failed : Signal(str)
        The confidence could not be read.
    """

    failed = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._view: MaskView | None = None
        self._fills = {False: 0.5, True: 0.0}  # opacity by whether outlines are shown
        self._rows_of: TissueClasses | None = None
        self.outline: OutlineLayer | None = None
        self.overlay: OverlayView | None = None
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_uncertainty)
        self._job.failed.connect(self.failed)
        self._job.finished.connect(self._on_read)
        self._read_again = False
        self._build()

    def _build(self) -> None:
        self.fill = _slider(TOOLTIPS["inspect_fill"])
        self.fill.valueChanged.connect(self._on_fill)
        self.outlines = QCheckBox("Outlines")
        self.outlines.setToolTip(TOOLTIPS["inspect_outlines"])
        self.outlines.toggled.connect(self.show_outlines)
        self.uncertainty = QCheckBox("Uncertainty")
        self.uncertainty.setToolTip(TOOLTIPS["inspect_uncertainty"])
        self.uncertainty.toggled.connect(self._on_uncertainty_wanted)
        self._class_rows = QWidget()
        self.classes = CollapsibleSection("Opacity of each class", self._class_rows)
        self._class_grid = QGridLayout(self._class_rows)
        self._class_grid.setContentsMargins(4, 0, 0, 0)
        self._class_parts: list[QWidget] = []
        self.sliders: dict[str, QSlider] = {}
        line = QHBoxLayout()
        line.addWidget(PlainLabel("Fill"))
        line.addWidget(self.fill, 1)
        line.addSpacing(6)
        line.addWidget(self.outlines)
        line.addWidget(self.uncertainty)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(line)
        self.values = ValueBar()
        column.addWidget(self.values)
        column.addWidget(self.classes)

    def set_view(self, view: MaskView | None) -> None:
        """Show another mask; layers of the last one are removed and its fill is restored."""
        if view is self._view:
            self.show_classes()
            return
        self.outlines.setChecked(False)
        self.uncertainty.setChecked(False)
        self._drop_uncertainty()
        self._view = view
        if view is not None:
            self._fills = {False: view.opacity, True: 0.0}
            self._show_fill()
        self._rows_of = None
        self.show_classes()

    def close_layers(self) -> None:
        """Remove the layers of this panel."""
        if self.outline is not None:
            self.outline.disconnect_viewer()

    def mask_changed(self) -> None:
        """Redraw the outlines after the mask changed."""
        if self.outline is not None:
            self.outline.mask_changed()

    def renew(self) -> None:
        """Read the uncertainty again after a run changed the mask."""
        if self._view is not None and not self._view.is_growing and self.uncertainty.isChecked():
            self._drop_uncertainty()
            self._on_uncertainty_wanted(True)

    def show_outlines(self, wanted: bool) -> None:
        """Show outlines instead of the fill, or the fill again."""
        if self.outlines.isChecked() != wanted:
            self.outlines.setChecked(wanted)  # its signal calls this method again
            return
        view = self._view
        if self.outline is not None and not wanted:
            outline, self.outline = self.outline, None
            outline.close()
            outline.deleteLater()
        elif self.outline is None and wanted and view is not None and view.is_in(self._viewer):
            self.outline = OutlineLayer(self._viewer, view, self)
            self.outline.removed.connect(lambda: self.outlines.setChecked(False))
        self._show_fill()

    def _show_fill(self) -> None:
        value = self._fills[self.outline is not None]
        self.fill.blockSignals(True)
        self.fill.setValue(round(100 * value))
        self.fill.blockSignals(False)
        if self._view is not None:
            self._view.set_mask_opacity(value)

    def _on_fill(self, percent: int) -> None:
        if self._view is not None:
            self._fills[self.outline is not None] = percent / 100
            self._view.set_mask_opacity(percent / 100)

    def _on_uncertainty_wanted(self, wanted: bool) -> None:
        view = self._view
        if not wanted or view is None:
            self._drop_uncertainty()
        elif not self._job.is_running:
            self._read_again = False
            self._job.start(lambda: _uncertainty(view))
        else:
            self._read_again = True  # what is being read is out of date

    def _on_uncertainty(self, found: tuple[MaskView, NDArray[Any]]) -> None:
        view, values = found
        if view is not self._view or not self.uncertainty.isChecked() or self._read_again:
            return
        if not view.is_in(self._viewer):
            return
        self.overlay = OverlayView(
            self._viewer,
            view,
            values,
            title="uncertainty",
            opacity=_OVERLAY_OPACITY,
            colormap="inferno",
        )
        self.values.show_colors(colors_of(self.overlay.layer))

    def _on_read(self, _: bool) -> None:
        if self._read_again:
            self._on_uncertainty_wanted(self.uncertainty.isChecked())

    def _drop_uncertainty(self) -> None:
        if self.overlay is not None and self.overlay.is_in(self._viewer):
            self._viewer.layers.remove(self.overlay.layer)
        self.overlay = None
        self.values.show_colors(None)

    def show_classes(self) -> None:
        """Show a slider for each class, with its current color and name."""
        classes = None if self._view is None else self._view.info.classes
        if classes == self._rows_of:
            return
        self._rows_of = classes
        grid = self._class_grid
        for old in self._class_parts:
            grid.removeWidget(old)
            old.deleteLater()
        self._class_parts = []
        self.sliders = {}
        for row, tissue_class in enumerate(classes or ()):
            color = PlainLabel()
            color.setPixmap(swatch(tissue_class.color).pixmap(QSize(14, 14)))
            slider = _slider(TOOLTIPS["inspect_class_opacity"])
            slider.setAccessibleName(f"Opacity of {tissue_class.name}")
            opacities = {} if self._view is None else self._view.opacities
            slider.setValue(round(100 * opacities.get(tissue_class.name, 1.0)))
            slider.valueChanged.connect(
                lambda percent, name=tissue_class.name: self._on_class_opacity(name, percent)
            )
            self.sliders[tissue_class.name] = slider
            for column, part in enumerate((color, PlainLabel(tissue_class.name), slider)):
                grid.addWidget(part, row, column)
                self._class_parts.append(part)

    def _on_class_opacity(self, name: str, percent: int) -> None:
        if self._view is not None:
            self._view.set_opacity(name, percent / 100)


def _uncertainty(view: MaskView) -> tuple[MaskView, NDArray[Any]]:
    confidence = confidence_values(view.store, view.step)
    computed = view.layer.data != NOT_COMPUTED
    return view, np.where(computed, 255 - confidence, np.uint8(0))


def _slider(tooltip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, 100)
    slider.setToolTip(plain(tooltip))
    return slider
