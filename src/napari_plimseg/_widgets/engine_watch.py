"""Tells when another dock begins or ends a run of the engine."""

from __future__ import annotations

from qtpy.QtCore import QObject, QTimer, Signal

from napari_plimseg.inference.devices import ENGINE

_POLL_MS = 1000


class EngineWatch(QObject):
    """Looks once a second who runs the engine: any thread may begin or end a run.

    Attributes
    ----------
    changed : Signal()
        Somebody else runs it now, or nobody.
    """

    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._owner = ENGINE.owner
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()

    def look(self) -> None:
        """Look now."""
        if ENGINE.owner != self._owner:
            self._owner = ENGINE.owner
            self.changed.emit()
