"""The work behind the training dock's buttons, as generators that a thread runs: no Qt."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_plimseg._widgets.common.background_job import on_destroyed
from napari_plimseg.files import user_data_dir
from napari_plimseg.training_runs.folder_facts import FolderFacts, TrainingPlan
from napari_plimseg.training_runs.process import run_command
from napari_plimseg.training_runs.run_folder import usable_name
from napari_plimseg.training_runs.slide_patches import SlideMask, cut_slides

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer.mask_layer import MaskView
    from napari_plimseg.tissue import TissueClasses
    from napari_plimseg.training_runs.process import TrainingProcess, TrainingRequest


def scan_folder(
    folder: Path, program: Sequence[str] | None = None
) -> Generator[dict[str, Any] | FolderFacts | None, None, None]:
    """Yield how far the look through a folder is, and at the end what it holds."""
    told = []
    for one in run_command(["scan", str(folder)], program):
        if one is not None and one["kind"] == "counted":
            yield one
        else:
            yield None
            told += [one] if one is not None else []
    yield FolderFacts.of(told)


def make_plan(
    request: TrainingRequest, program: Sequence[str] | None = None
) -> Generator[TrainingPlan | None, None, None]:
    """Yield what a training would take, after Nones while that is found out."""
    with tempfile.TemporaryDirectory(prefix="plimseg-") as folder:
        told = []
        arguments = request.arguments(Path(folder))
        for one in run_command([*arguments, "--dry-run"], program):
            yield None
            told += [one] if one is not None else []
        yield TrainingPlan.of(told)


def patches_folder(stem: str) -> Path:
    """Return a new folder for the patches of open slides; it is not made yet."""
    parent, number = user_data_dir() / "patches", 1
    name = usable_name(stem)
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
        number += 1


def cut_open_slides(
    shown: Sequence[tuple[MaskView, NDArray[np.uint8]]],
    out: Path,
    program: Sequence[str] | None = None,
) -> Generator[dict[str, Any] | Path | FolderFacts | TissueClasses | None, None, None]:
    """Cut the slides of masks into patches, then look through these.

    Parameters
    ----------
    shown : sequence of (MaskView, ndarray of uint8, shape (h, w))
        Masks with what their layers show.
    out : Path
        Takes the patches.
    program : sequence of str, optional
        In place of the training package.

    Yields
    ------
    dict, Path, FolderFacts, TissueClasses or None
        How far it is; the folder when the patches are cut; what it holds; the masks' classes with
        their colours and words, which a table of tags does not have.
    """
    slides = []
    for view, pixels in shown:
        mask = view.full_mask(pixels)
        given = view.slide.mpp_is_given
        slides.append(SlideMask(view.slide.path, mask, view.info, mpp_is_given=given))
        yield None
    for one in cut_slides(slides, out):
        yield one if one is not None and one["kind"] == "counted" else None
    yield out
    yield from scan_folder(out, program)
    yield slides[0].info.classes


POLL_MS = 250
PATIENCE_SECONDS = 5.0


class ProcessMonitor(QObject):
    """Polls a training and tells what changed.

    When the dock goes or the program ends, the training is asked to stop, unless it is to go on.
    The program waits five seconds for it; a training that needs longer for its step saves and ends
    by itself afterwards.

    Parameters
    ----------
    parent : QObject
        The dock.

    Attributes
    ----------
    changed : Signal()
        The training told something.
    ended : Signal()
        It is over, one way or the other.
    """

    changed = Signal()
    ended = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.process: TrainingProcess | None = None
        self._going_on = _GoingOn()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.poll)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.let_go)
        going_on = self._going_on
        # this object can't be asked any more when it is destroyed, and a script that ends without
        # an event loop destroys nothing
        on_destroyed(self, going_on.stop)
        atexit.register(going_on.stop)

    @property
    def keep_on(self) -> bool:
        """Whether a training goes on after the viewer is closed."""
        return self._going_on.keep_on

    @keep_on.setter
    def keep_on(self, wanted: bool) -> None:
        self._going_on.keep_on = wanted

    def take(self, process: TrainingProcess) -> None:
        """Look after another training."""
        self.process = self._going_on.process = process
        self._timer.start()
        self.poll()

    def poll(self) -> None:
        """Read what is new."""
        process = self.process
        if process is None:
            return
        changed = process.poll()
        if changed:
            self.changed.emit()
        if not process.state.is_alive and self._timer.isActive():
            self._timer.stop()
            self.ended.emit()

    def let_go(self) -> None:
        """Ask the training to stop, and wait for it five seconds at most."""
        process = self.process
        if process is not None and not self.keep_on:
            process.stop_and_wait(PATIENCE_SECONDS)


class _GoingOn:
    """What is left of a keeper when its window is gone."""

    def __init__(self) -> None:
        self.process: TrainingProcess | None = None
        self.keep_on = False

    def stop(self) -> None:
        atexit.unregister(self.stop)
        if self.process is not None and not self.keep_on:
            self.process.stop()
