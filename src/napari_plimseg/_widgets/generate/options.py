"""What a run shall do: the part of the slide, the device, and the collapsible settings."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QWidget,
)

from napari_plimseg._widgets.common.banner import FlowText
from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg._widgets.viewer.regions import RunOn
from napari_plimseg.settings import TILE_SIZES, DockSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_DEVICE_NAMES = {"cpu": "CPU", "mps": "Apple GPU", "cuda": "NVIDIA GPU"}


def device_title(name: str) -> str:
    """Return a device's name for people: "cuda:1" is "NVIDIA GPU 1"."""
    kind, _, number = name.partition(":")
    title = _DEVICE_NAMES.get(kind, name)
    return f"{title} {number}" if number else title


class RunOnChoice(QWidget):
    """Chooses the part of the slide.

    Attributes
    ----------
    changed : Signal()
        Another part was chosen.
    drawRequested : Signal()
        The user wants to draw.
    """

    changed = Signal()
    drawRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self.buttons: dict[RunOn, QRadioButton] = {}
        grid = QGridLayout(self)  # two lines: one would widen the dock
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        for place, (choice, text) in enumerate(
            (
                (RunOn.WHOLE, "Whole slide"),
                (RunOn.VISIBLE, "What I see"),
                (RunOn.SHAPES, "Shapes drawn"),
            )
        ):
            button = QRadioButton(text)
            self._group.addButton(button)
            self.buttons[choice] = button
            grid.addWidget(button, place // 2, place % 2)
        self.buttons[RunOn.WHOLE].setChecked(True)
        self.draw_button = QPushButton("Draw")
        self.draw_button.clicked.connect(lambda: self.drawRequested.emit())
        grid.addWidget(self.draw_button, 1, 1)
        grid.setColumnStretch(2, 1)
        self._group.buttonToggled.connect(lambda _, on: self.changed.emit() if on else None)

    @property
    def choice(self) -> RunOn:
        """What is chosen."""
        return next(choice for choice, button in self.buttons.items() if button.isChecked())

    def set_enabled(self, why_not: str, why_not_draw: str) -> None:
        """Allow another choice, or say why not."""
        for choice, button in self.buttons.items():
            button.setEnabled(not why_not)
            button.setToolTip(why_not or TOOLTIPS[choice.name.lower()])
        self.draw_button.setEnabled(not why_not_draw)
        self.draw_button.setToolTip(why_not_draw or TOOLTIPS["draw"])

    def choose(self, choice: RunOn) -> None:
        """Choose from code."""
        self.buttons[choice].setChecked(True)


class SettingsForm(QWidget):
    """Edits a `DockSettings`.

    Attributes
    ----------
    changed : Signal()
        A setting was changed by hand.
    tissueRequested : Signal()
        The user wants to see the tissue mask.
    """

    changed = Signal()
    tissueRequested = Signal()

    def __init__(
        self, settings: DockSettings, default_folder: Path, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._settings = settings
        self._default_folder = default_folder
        self.tile_size = QComboBox()
        for size in TILE_SIZES:
            self.tile_size.addItem(f"{size} px", size)
        self.tile_size.setCurrentIndex(TILE_SIZES.index(settings.tile_size))
        self.batch_size = QSpinBox()
        self.batch_size.setRange(0, 64)
        self.batch_size.setSpecialValueText("automatic")
        self.batch_size.setValue(settings.batch_size)
        self.tissue_only = QCheckBox("Tissue only")
        self.tissue_only.setChecked(settings.tissue_only)
        self.remove_pen = QCheckBox("Leave out pen marks")
        self.remove_pen.setChecked(settings.remove_pen)
        self.tissue_threshold = QDoubleSpinBox()
        self.tissue_threshold.setDecimals(3)
        self.tissue_threshold.setRange(0.01, 0.12)
        self.tissue_threshold.setSingleStep(0.005)
        self.tissue_threshold.setValue(settings.tissue_threshold)
        self.show_tissue = QPushButton("Show tissue mask")
        self.keep_probabilities = QCheckBox("Keep class probabilities")
        self.keep_probabilities.setChecked(settings.keep_probabilities)
        self.folder_label = FlowText()
        self.folder_button = QPushButton("Change…")
        self.folder_default = QPushButton("Default")
        for name in (
            "tile_size",
            "batch_size",
            "tissue_only",
            "remove_pen",
            "tissue_threshold",
            "show_tissue",
            "keep_probabilities",
        ):
            getattr(self, name).setToolTip(TOOLTIPS[name])
        self.folder_button.setToolTip(TOOLTIPS["results_folder"])
        self.folder_default.setToolTip(TOOLTIPS["results_default"])
        self._build_form()
        self._show_folder()
        self.tile_size.activated.connect(self._on_changed)
        for box in (self.batch_size, self.tissue_threshold):
            box.valueChanged.connect(self._on_changed)
        for check in (self.tissue_only, self.remove_pen, self.keep_probabilities):
            check.toggled.connect(self._on_changed)
        self.show_tissue.clicked.connect(lambda: self.tissueRequested.emit())
        self.folder_button.clicked.connect(self._on_folder)
        self.folder_default.clicked.connect(lambda: self._set_folder(""))

    def _build_form(self) -> None:
        folder = QHBoxLayout()
        folder.addWidget(self.folder_button)
        folder.addWidget(self.folder_default)
        form = QFormLayout(self)
        form.setContentsMargins(0, 2, 0, 2)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Tile size", self.tile_size)
        form.addRow("Tiles at once", self.batch_size)
        form.addRow(self.tissue_only)
        form.addRow("Tissue from", self.tissue_threshold)
        form.addRow(self.remove_pen)
        form.addRow(self.show_tissue)
        form.addRow(self.keep_probabilities)
        form.addRow("Results in", self.folder_label)
        form.addRow("", folder)

    @property
    def settings(self) -> DockSettings:
        """The settings as they are now."""
        return dataclasses.replace(
            self._settings,
            tile_size=int(self.tile_size.currentData()),
            batch_size=self.batch_size.value(),
            tissue_only=self.tissue_only.isChecked(),
            tissue_threshold=round(self.tissue_threshold.value(), 3),
            remove_pen=self.remove_pen.isChecked(),
            keep_probabilities=self.keep_probabilities.isChecked(),
        )

    def remember(self, **changes: str) -> None:
        """Take choices that are made elsewhere in the dock."""
        self._settings = dataclasses.replace(self._settings, **changes)  # type: ignore[arg-type]

    def set_enabled(self, why_not_setup: str, why_not_tissue: str) -> None:
        """Allow changes, or say why there are none."""
        for name in (
            "tile_size",
            "batch_size",
            "tissue_only",
            "remove_pen",
            "tissue_threshold",
            "keep_probabilities",
        ):
            widget = getattr(self, name)
            widget.setEnabled(not why_not_setup)
            widget.setToolTip(why_not_setup or TOOLTIPS[name])
        for button, name in (
            (self.folder_button, "results_folder"),
            (self.folder_default, "results_default"),
        ):
            button.setEnabled(not why_not_setup)
            button.setToolTip(why_not_setup or TOOLTIPS[name])
        self.show_tissue.setEnabled(not why_not_tissue)
        self.show_tissue.setToolTip(why_not_tissue or TOOLTIPS["show_tissue"])
        if not why_not_setup:
            for name in ("tissue_threshold", "remove_pen"):
                widget = getattr(self, name)
                widget.setEnabled(self.tissue_only.isChecked())
                if not self.tissue_only.isChecked():
                    widget.setToolTip("This is for 'Tissue only', which is off.")

    def _show_folder(self) -> None:
        chosen = self._settings.results_folder
        self.folder_label.setText(chosen or "your user folder")
        self.folder_label.setToolTip(chosen or str(self._default_folder))

    def _on_folder(self) -> None:
        start = self._settings.results_folder or str(self._default_folder)
        folder = QFileDialog.getExistingDirectory(self, "Keep results in", start)
        if folder:
            self._set_folder(folder)

    def _set_folder(self, folder: str) -> None:
        self.remember(results_folder=folder)
        self._show_folder()
        self.changed.emit()

    def _on_changed(self) -> None:
        self.changed.emit()


class DeviceChoice(QComboBox):
    """Chooses the device; "Automatic" says which one it takes."""

    def __init__(self, chosen: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(TOOLTIPS["device"])
        self.addItem("Automatic", "auto")
        self._wanted = chosen

    def show_devices(self, names: Sequence[str]) -> None:
        """List the devices of this machine; the first is what "auto" takes."""
        self.clear()
        self.addItem(f"Automatic ({device_title(names[0])})", "auto")
        for name in names:
            self.addItem(device_title(name), name)
        self.setCurrentIndex(max(0, self.findData(self._wanted)))

    def set_enabled(self, why_not: str) -> None:
        """Allow another choice, or say why not."""
        self.setEnabled(not why_not)
        self.setToolTip(why_not or TOOLTIPS["device"])

    @property
    def choice(self) -> str:
        """The device's name for the engine."""
        return str(self.currentData() or "auto")
