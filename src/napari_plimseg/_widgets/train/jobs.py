"""Background work of the training dock, and the monitor of its training process."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_plimseg._widgets.common import end_at_closing, on_destroyed
from napari_plimseg.files import scratch_folder, user_data_dir
from napari_plimseg.training_runs import (
    FolderFacts,
    SlideMask,
    TrainingPlan,
    cut_slides,
    map_arguments,
    run_command,
    usable_name,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.tissue import TissueClasses
    from napari_plimseg.training_runs import TrainingProcess, TrainingRequest


def scan_folder(
    folder: Path, program: Sequence[str] | None = None, mask_values: str = ""
) -> Generator[dict[str, Any] | FolderFacts | None, None, None]:
    """Check a folder; yield progress events, None while there are none, and finally its facts.

    `mask_values` says what values of its masks mean, see `TrainingRequest`.
    """
    events = []
    for one in run_command(["scan", str(folder), *map_arguments(mask_values)], program):
        if one is not None and one["kind"] == "counted":
            yield one
        else:
            yield None
            events += [one] if one is not None else []
    yield FolderFacts.of(events)


def make_plan(
    request: TrainingRequest, program: Sequence[str] | None = None
) -> Generator[TrainingPlan | None, None, None]:
    """Estimate a training; yield None while that takes, and finally the plan."""
    with scratch_folder() as folder:
        events = []
        arguments = request.arguments(folder)
        for one in run_command([*arguments, "--dry-run"], program):
            yield None
            events += [one] if one is not None else []
        yield TrainingPlan.of(events)


def patches_folder(stem: str) -> Path:
    """Return an unused folder for the patches of open slides; it is not created yet."""
    parent, number = user_data_dir() / "patches", 1
    name = usable_name(stem)
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
        number += 1


@dataclass(frozen=True)
class CutNotes:
    """What cutting slides into patches left out or changed.

    Parameters
    ----------
    texts : tuple of str
        Each begins with the name of the slide.
    """

    texts: tuple[str, ...]


def cut_open_slides(
    shown: Sequence[tuple[MaskView, NDArray[np.uint8]]],
    out: Path,
    program: Sequence[str] | None = None,
) -> Generator[CutNotes | dict[str, Any] | Path | FolderFacts | TissueClasses | None, None, None]:
    """Cut the slides of masks into patches, then check these as a folder of images.

    Parameters
    ----------
    shown : sequence of (MaskView, ndarray of uint8, shape (h, w))
        Masks, with the pixels that their layers show.
    out : Path
        Folder for the patches.
    program : sequence of str, optional
        Replaces the command that starts the training package.

    Yields
    ------
    dict, Path, FolderFacts, TissueClasses, CutNotes or None
        Progress events; the folder once the patches are cut; its facts; the classes of the masks,
        whose colors and prompts a table of tags can't store; and what cutting left out or changed.
    """
    slides, notes, number_of_cut = [], list[str](), 0
    for view, pixels in shown:
        mask = view.full_mask(pixels)
        given = view.slide.mpp_is_given
        slides.append(SlideMask(view.slide.path, mask, view.info, mpp_is_given=given))
        yield None
    for one in cut_slides(slides, out):
        yield one if one is not None and one["kind"] == "counted" else None
        if one is not None and one["kind"] == "cut":
            name = slides[number_of_cut].path.name
            notes += [f"{name}: {note}" for note in one.get("notes", ())]
            number_of_cut += 1
    yield out
    yield from scan_folder(out, program)
    yield slides[0].info.classes
    yield CutNotes(tuple(notes))


POLL_MS = 250


class ProcessMonitor(QObject):
    """Polls a training process and emits what changed.

    When the dock is destroyed or the program ends, the training is asked to stop, unless `keep_on`
    is set. The program waits half a second for it; a training whose step
    takes longer saves and ends afterwards, since it is a process of its own.

    Parameters
    ----------
    parent : QObject
        The dock.

    Attributes
    ----------
    changed : Signal()
        There is news from the training.
    ended : Signal()
        The training is over: finished, stopped or failed.
    """

    changed = Signal()
    ended = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.process: TrainingProcess | None = None
        self._at_end = _AtEnd()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.poll)
        at_end = self._at_end
        end_at_closing(at_end.ask, at_end.wait)
        # two ways, since a destroyed QObject can't be used any more, and a script that ends without
        # an event loop destroys none
        on_destroyed(self, at_end.stop)
        atexit.register(at_end.stop)

    @property
    def keep_on(self) -> bool:
        """Whether the training continues after the viewer is closed."""
        return self._at_end.keep_on

    @keep_on.setter
    def keep_on(self, wanted: bool) -> None:
        self._at_end.keep_on = wanted

    def take(self, process: TrainingProcess) -> None:
        """Monitor another training."""
        self.process = self._at_end.process = process
        self._timer.start()
        self.poll()

    def poll(self) -> None:
        """Read the news of the training."""
        process = self.process
        if process is None:
            return
        changed = process.poll()
        if changed:
            self.changed.emit()
        if not process.state.is_alive and self._timer.isActive():
            self._timer.stop()
            self.ended.emit()


class _AtEnd:
    """Stops the training when its monitor is destroyed; holds no reference to the monitor."""

    def __init__(self) -> None:
        self.process: TrainingProcess | None = None
        self.keep_on = False

    def stop(self) -> None:
        atexit.unregister(self.stop)
        self.ask()

    def ask(self) -> None:
        """Ask the training to stop."""
        if self.process is not None and not self.keep_on:
            self.process.stop()

    def wait(self, seconds: float) -> None:
        """Wait for the training to stop, at most `seconds`."""
        if self.process is not None and not self.keep_on:
            self.process.stop_and_wait(seconds)
