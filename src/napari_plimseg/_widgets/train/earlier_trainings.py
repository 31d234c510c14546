"""The list of trainings on this computer: one of them is shown again, or resumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg.training_runs.run_folder import RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg._widgets.train.state import TrainDockState
    from napari_plimseg.training_runs.run_folder import KnownRun


def run_title(run: KnownRun) -> str:
    """Return an earlier training as a line of the list."""
    when = time.strftime("%d %b %H:%M", time.localtime(run.changed))
    return f"{run.name} · {run.status.value} · {when}"


def unfinished_run(runs: Sequence[KnownRun]) -> KnownRun | None:
    """Return the training that is running, else the newest that was stopped, else None."""
    wanted = (RunStatus.RUNNING, RunStatus.STOPPED)
    return next((run for status in wanted for run in runs if run.status is status), None)


class EarlierTrainings(QWidget):
    """Lists trainings, newest first.

    Attributes
    ----------
    showRequested : Signal(object)
        A `KnownRun` is to be shown.
    """

    showRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs: list[KnownRun] = []
        self.runs = QComboBox()
        self.runs.setToolTip(TOOLTIPS["train_runs"])
        self.runs.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.runs.setMinimumContentsLength(12)
        self.show_button = QPushButton("Show")
        self.show_button.clicked.connect(self._on_show)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.runs, 1)
        line.addWidget(self.show_button)

    @property
    def is_empty(self) -> bool:
        """Whether there was no training yet."""
        return not self._runs

    def show_runs(self, runs: Sequence[KnownRun]) -> None:
        """List other trainings."""
        self._runs = list(runs)
        self.runs.clear()
        self.runs.addItems([run_title(run) for run in runs])

    def show_state(self, state: TrainDockState) -> None:
        """Enable what can be pressed now and say why the rest can't."""
        why_not = state.why_not("earlier")
        for control in (self.runs, self.show_button):
            control.setEnabled(not why_not)
            control.setToolTip(why_not or TOOLTIPS["train_runs"])

    def _on_show(self) -> None:
        place = self.runs.currentIndex()
        if 0 <= place < len(self._runs):
            self.showRequested.emit(self._runs[place])
