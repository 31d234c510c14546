"""Looks after a training process from the main thread, and lets it go when the viewer closes."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_plimseg._widgets.lifetimes import when_gone

if TYPE_CHECKING:
    from napari_plimseg.training_runs.process import TrainingProcess

POLL_MS = 250
PATIENCE_SECONDS = 5.0


class ProcessKeeper(QObject):
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
        when_gone(self, going_on.stop)
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
