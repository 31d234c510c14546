"""What to segment and how: the area of the slide, the device, and the settings panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import PushButton
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QPushButton,
    QRadioButton,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, OptionsForm, plain
from napari_plimseg._widgets.viewer import RunOn, add_region_layer, find_region_layer
from napari_plimseg.settings import DockSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_plimseg._widgets.generate.state import DockState

_DEVICE_NAMES = {"cpu": "CPU", "mps": "Apple GPU", "cuda": "NVIDIA GPU"}


def device_title(name: str) -> str:
    """Return the display name of a device: "cuda:1" is "NVIDIA GPU 1"."""
    kind, _, number = name.partition(":")
    title = _DEVICE_NAMES.get(kind, name)
    return f"{title} {number}" if number else title


class RunOnChoice(QWidget):
    """Chooses the area to segment.

    Attributes
    ----------
    changed : Signal()
        Another area was chosen.
    drawRequested : Signal()
        The user wants to draw regions.
    """

    changed = Signal()
    drawRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self.buttons: dict[RunOn, QRadioButton] = {}
        grid = QGridLayout(self)  # two lines: a single one would be wider than the dock
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        for place, (choice, text) in enumerate(
            (
                (RunOn.WHOLE, "Whole slide"),
                (RunOn.VISIBLE, "Current view"),
                (RunOn.SHAPES, "Drawn regions"),
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
        """The chosen area."""
        return next(choice for choice, button in self.buttons.items() if button.isChecked())

    def set_enabled(self, why_not: str, why_not_draw: str) -> None:
        """Allow changes, or say why not."""
        for choice, button in self.buttons.items():
            button.setEnabled(not why_not)
            button.setToolTip(plain(why_not or TOOLTIPS[choice.name.lower()]))
        self.draw_button.setEnabled(not why_not_draw)
        self.draw_button.setToolTip(plain(why_not_draw or TOOLTIPS["draw"]))

    def choose(self, choice: RunOn) -> None:
        """Choose from code."""
        self.buttons[choice].setChecked(True)


def draw_regions(viewer: Viewer, slide_layer: Image) -> None:
    """Activate the rectangle tool on the layer for regions; the layer is added if missing."""
    shapes = find_region_layer(viewer, slide_layer) or add_region_layer(viewer, slide_layer)
    shapes.visible = True
    viewer.layers.selection.active = shapes
    shapes.mode = "add_rectangle"


def rescale_regions(viewer: Viewer, slide_layer: Image | None) -> None:
    """Keep drawn regions on their tissue when the slide got another pixel size."""
    shapes = find_region_layer(viewer, slide_layer)
    if shapes is not None and slide_layer is not None:
        shapes.scale = slide_layer.scale
        shapes.units = slide_layer.units


class SettingsForm(OptionsForm[DockSettings]):
    """Edits a `DockSettings`. The dock places the control of the device beside the model.

    Parameters
    ----------
    settings : DockSettings
        The choices of the last time.
    default_folder : Path
        Where results are saved while no folder is chosen.

    Attributes
    ----------
    tissueRequested : Signal()
        The user wants to see the tissue mask.
    """

    tissueRequested = Signal()

    def __init__(
        self, settings: DockSettings, default_folder: Path, parent: QWidget | None = None
    ) -> None:
        super().__init__(settings, apart=("device",), parent=parent)
        self.folder("results_folder").default = str(default_folder)
        button = PushButton(text="Show tissue mask")
        self.insert_after("remove_pen", button)
        self.show_tissue: QWidget = button.native
        self.show_tissue.clicked.connect(lambda: self.tissueRequested.emit())

    def show_devices(self, names: Sequence[str]) -> None:
        """List the devices of this computer; the first is what "auto" takes."""
        automatic = (f"Automatic ({device_title(names[0])})", "auto")
        self.show_choices("device", [automatic, *((device_title(name), name) for name in names)])

    def show_state(self, state: DockState) -> None:
        """Allow changes, or say why not."""
        self.set_enabled(state.why_not("setup"))
        why_not = state.why_not("tissue")
        self.show_tissue.setEnabled(not why_not)
        self.show_tissue.setToolTip(plain(why_not or TOOLTIPS["show_tissue"]))
