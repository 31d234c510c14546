"""The parts of the batch dock and where they stand; what they do is in `batch_dock`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_plimseg._widgets.banner import Banner, FlowText
from napari_plimseg._widgets.batch_table import BatchTable
from napari_plimseg._widgets.dock_state import Phase
from napari_plimseg._widgets.icons import arrow
from napari_plimseg._widgets.model_choice import ModelChoice
from napari_plimseg._widgets.run_panel import BUTTON_STYLE
from napari_plimseg._widgets.tooltips import TOOLTIPS
from napari_plimseg.inference.cohort import ItemState
from napari_plimseg.results.export.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_plimseg._widgets.batch_state import BatchState

HINT = "Drop slides or folders here, or press Add."


class BatchParts(QWidget):
    """Builds the dock: message on top, the list in the middle, the big button below.

    Parameters
    ----------
    model : str
        Name of the model to begin with.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.banner = Banner()
        self.table = BatchTable()
        self.hint = FlowText(HINT)
        self.add_button = QPushButton("Add")
        menu = QMenu(self.add_button)
        self.files_action = menu.addAction("Slides…")
        self.folder_action = menu.addAction("Folder…")
        self.add_button.setMenu(menu)
        self.remove_button = QPushButton("Remove")
        self.retry_button = QPushButton("Retry failed")
        self.open_button = QPushButton("Open result")
        self.mpp_edit = QLineEdit()
        self.mpp_edit.setPlaceholderText("for example 0.25")
        self.mpp_edit.setToolTip(TOOLTIPS["batch_mpp"])
        self.mpp_row = self._build_mpp_row()
        self.model_choice = ModelChoice(model)
        self.formats = {key: QCheckBox(kind.title) for key, kind in FORMATS.items()}
        self.folder_label = FlowText()
        self.folder_button = QPushButton("Change…")
        self.settings = QCollapsible("Exports and folder")
        self.settings.toggleButton().setToolTip(TOOLTIPS["fold"])
        self.settings.addWidget(self._build_settings())
        self.settings.layout().setContentsMargins(0, 0, 0, 0)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.line = FlowText()
        self.run_button = QPushButton("Run all")
        self.run_button.setStyleSheet(BUTTON_STYLE)
        self.stop_button = QPushButton("Stop")
        self._lay_out()
        self.setMinimumWidth(340)

    def _build_mpp_row(self) -> QWidget:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(QLabel("Pixel size"))
        line.addWidget(self.mpp_edit, 1)
        line.addWidget(QLabel("µm/px"))
        return row

    def _build_settings(self) -> QWidget:
        content = QWidget()
        grid = QGridLayout(content)
        grid.setContentsMargins(0, 2, 0, 2)
        grid.setVerticalSpacing(4)
        for i, box in enumerate(self.formats.values()):
            grid.addWidget(box, i // 2, i % 2)
        row = grid.rowCount()
        grid.addWidget(QLabel("Results in"), row, 0)
        grid.addWidget(self.folder_button, row, 1)
        grid.addWidget(self.folder_label, row + 1, 0, 1, 2)
        return content

    def _lay_out(self) -> None:
        model = QHBoxLayout()
        label = QLabel("Model")
        label.setStyleSheet("font-weight: bold;")
        model.addWidget(label)
        model.addWidget(self.model_choice, 1)
        buttons = QHBoxLayout()
        for button in (
            self.add_button, self.remove_button, self.retry_button, self.open_button,
        ):  # fmt: skip
            buttons.addWidget(button)
        progress = QHBoxLayout()
        progress.addWidget(self.bar, 1)
        progress.addWidget(self.stop_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.banner)
        layout.addLayout(model)
        layout.addWidget(self.settings)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.hint)
        layout.addWidget(self.mpp_row)
        layout.addLayout(buttons)
        layout.addWidget(self.run_button)
        layout.addLayout(progress)
        layout.addWidget(self.line)

    def show_theme(self, color: str) -> None:
        """Draw icons in the text colour of the viewer's theme."""
        self.settings.setExpandedIcon(arrow(True, QColor(color)))
        self.settings.setCollapsedIcon(arrow(False, QColor(color)))

    def show_folder(self, folder: Path) -> None:
        """Show where results go."""
        self.folder_label.setText(str(folder))
        self.folder_label.setToolTip(str(folder))

    def show_formats(self, chosen: Sequence[str]) -> None:
        """Tick the exports that are chosen."""
        for key, box in self.formats.items():
            box.setChecked(key in chosen)

    @property
    def chosen_formats(self) -> tuple[str, ...]:
        """The exports that are ticked."""
        return tuple(key for key, box in self.formats.items() if box.isChecked())

    def show_state(self, state: BatchState) -> None:
        """Enable what can be pressed now and say why the rest can't."""
        for control, button in (
            ("add", self.add_button),
            ("remove", self.remove_button),
            ("retry", self.retry_button),
            ("open", self.open_button),
            ("run", self.run_button),
            ("stop", self.stop_button),
        ):
            why_not = state.why_not(control)
            button.setEnabled(not why_not)
            button.setToolTip(why_not or TOOLTIPS[f"batch_{control}"])
        why_not = state.why_not("setup")
        self.model_choice.set_enabled(why_not)
        self.folder_button.setEnabled(not why_not)
        self.folder_button.setToolTip(why_not or TOOLTIPS["batch_folder"])
        for box in self.formats.values():
            box.setEnabled(not why_not)
            box.setToolTip(why_not or TOOLTIPS["batch_setup"])
        running = state.phase is not Phase.IDLE
        self.bar.setVisible(running)
        self.stop_button.setVisible(running)
        self.run_button.setVisible(not running)
        self.mpp_row.setVisible(not state.why_not("mpp"))
        self.hint.setVisible(not state.items)
        if not running:
            self.line.setText(_summary(state) if state.items else "")
        self.line.setVisible(bool(self.line.text()))


def _summary(state: BatchState) -> str:
    counts = [(sum(item.state is kind for item in state.items), kind.value) for kind in ItemState]
    text = ", ".join(f"{count} {name}" for count, name in counts if count)
    slides = "1 slide" if len(state.items) == 1 else f"{len(state.items)} slides"
    return f"{slides}: {text}."
