"""What the training dock says of trainings that ended or ran earlier. Without Qt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_plimseg.training_runs.process import TrainingState
from napari_plimseg.training_runs.run_folder import RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.training_runs.process import TrainingProcess
    from napari_plimseg.training_runs.run_folder import KnownRun


def line_of(run: KnownRun) -> str:
    """Return an earlier training as a line of a list."""
    when = time.strftime("%d %b %H:%M", time.localtime(run.changed))
    return f"{run.name} · {run.status.value} · {when}"


def run_to_take_up(runs: Sequence[KnownRun]) -> KnownRun | None:
    """Return the training that goes on, else one that was stopped, else None."""
    wanted = (RunStatus.RUNNING, RunStatus.STOPPED)
    return next((run for status in wanted for run in runs if run.status is status), None)


def how_it_ended(process: TrainingProcess) -> tuple[str, str]:
    """Return a kind of message, as `Banner.tell` takes it, and a sentence on a training's end."""
    name = process.files.root.name
    if process.state is TrainingState.FINISHED:
        listed = process.listed_as
        place = f" and in the list of models as '{listed}'" if listed else ""
        return "good", f"'{name}' is trained{place}."
    if process.state is TrainingState.STOPPED:
        return "info", f"'{name}' was stopped; Resume goes on where it was."
    return "error", process.error
