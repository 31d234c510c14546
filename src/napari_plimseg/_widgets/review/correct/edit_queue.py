"""Edits of large parts of a mask: computed in a thread, applied in pieces, one after another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.common import BackgroundJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_plimseg._widgets.review.correct.painter import MaskPainter
    from napari_plimseg.results import Edit

    Work = Callable[[NDArray[np.uint8]], Edit]


PIECE_SIDE = 512
"""Applying and drawing a square change with this side in pixels takes about a millisecond."""


@dataclass(frozen=True, eq=False)
class EditRequest:
    """A requested edit.

    Parameters
    ----------
    painter : MaskPainter
        Applies it.
    work : callable
        Takes a copy of the mask and returns the edit.
    what : str
        Its name in messages.
    note : str
        A sentence for the message about its result.
    """

    painter: MaskPainter
    work: Work
    what: str
    note: str = ""


class EditQueue(QObject):
    """Computes edits without blocking the window, and applies them.

    Parameters
    ----------
    parent : QObject
        Owner.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    changed : Signal()
        `is_working` or `can_cancel` may have changed.
    """

    messageEmitted = Signal(str, str)
    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._waiting: deque[EditRequest] = deque()
        self._now: EditRequest | None = None
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_found)
        self._job.failed.connect(lambda text: self.messageEmitted.emit("error", text))
        self._job.finished.connect(lambda _: self._advance())

    @property
    def is_working(self) -> bool:
        """Whether an edit is being computed, applied or waiting."""
        return self._job.is_running or self._is_applying or bool(self._waiting)

    @property
    def _is_applying(self) -> bool:
        return self._now is not None and self._now.painter.pieces.is_running

    @property
    def can_cancel(self) -> bool:
        """Whether an edit is still being computed, so that nothing has changed yet."""
        return self._now is not None and self._job.is_running

    def add(self, request: EditRequest) -> None:
        """Apply an edit after those requested before it."""
        self._waiting.append(request)
        self._next()

    def cancel(self) -> bool:
        """Drop the edit being computed and those waiting; return whether there was one."""
        if not self.can_cancel or self._now is None:
            return False
        self.messageEmitted.emit("info", f"{self._now.what}: cancelled.")
        self.clear()
        return True

    def clear(self) -> None:
        """Drop all edits; the thread runs to its end and its result is ignored."""
        self._waiting.clear()
        self._now = None
        self._job.stop()
        self.changed.emit()

    def _next(self) -> None:
        if not self._waiting or self._job.is_running or self._is_applying:
            return
        request = self._now = self._waiting.popleft()
        data = request.painter.target.layer.data

        def find() -> list[tuple[Edit, NDArray[np.uint8]]]:
            mask = np.array(data)  # a copy, because the layer can be painted meanwhile
            pieces = request.work(mask).split(PIECE_SIDE)
            return [(piece, mask[piece.window]) for piece in pieces]

        self._job.start(find)
        self.changed.emit()

    def _on_found(self, pieces: list[tuple[Edit, NDArray[np.uint8]]]) -> None:
        request = self._now
        if request is not None:
            request.painter.apply_pieces(pieces, lambda size: self._on_applied(request, size))

    def _on_applied(self, request: EditRequest, size: int) -> None:
        if size:
            area = request.painter.target.area_text(size)
            kind, text = "good", f"{request.what}: {area} changed. {request.note}"
        else:
            kind, text = "info", f"{request.what}: nothing to change. {request.note}"
        self.messageEmitted.emit(kind, text.rstrip())
        self._advance()

    def _advance(self) -> None:
        self._next()
        self.changed.emit()
