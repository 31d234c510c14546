"""Edits that go through much of a mask: found in a thread, made in pieces, one after another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.common.background_job import BackgroundJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_plimseg._widgets.review.correct.painter import MaskPainter
    from napari_plimseg.results.editing.operations import Edit

    Work = Callable[[NDArray[np.uint8]], Edit]


PIECE_SIDE = 512
"""A change of so many pixels a side takes about a millisecond to make and to draw."""


@dataclass(frozen=True, eq=False)
class EditRequest:
    """An edit that somebody asked for.

    Parameters
    ----------
    painter : MaskPainter
        Makes it.
    work : callable
        Gets a copy of the mask and returns what is to change.
    what : str
        What it is called in messages.
    """

    painter: MaskPainter
    work: Work
    what: str


class EditQueue(QObject):
    """Finds out what is to change without holding up the window, and has it changed.

    Parameters
    ----------
    parent : QObject
        Owner.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        A kind of message, as `Banner.show_message` takes it, and a sentence.
    changed : Signal()
        `is_working` or `can_call_off` may have changed.
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
        self._job.finished.connect(lambda _: self._go_on())

    @property
    def is_working(self) -> bool:
        """Whether something is looked for, made or waits."""
        return self._job.is_running or self._is_making or bool(self._waiting)

    @property
    def _is_making(self) -> bool:
        return self._now is not None and self._now.painter.pieces.is_running

    @property
    def can_call_off(self) -> bool:
        """Whether an edit is still being looked for, so that nothing has changed yet."""
        return self._now is not None and self._job.is_running

    def add(self, order: EditRequest) -> None:
        """Make an edit as soon as those before it are made."""
        self._waiting.append(order)
        self._next()

    def cancel(self) -> bool:
        """Forget what is looked for and what waits; return whether there was something."""
        if not self.can_call_off or self._now is None:
            return False
        self.messageEmitted.emit("info", f"{self._now.what}: called off.")
        self.clear()
        return True

    def clear(self) -> None:
        """Forget everything; the thread ends by itself, and what it finds is dropped."""
        self._waiting.clear()
        self._now = None
        self._job.stop()
        self.changed.emit()

    def _next(self) -> None:
        if not self._waiting or self._job.is_running or self._is_making:
            return
        order = self._now = self._waiting.popleft()
        data = order.painter.target.layer.data

        def find() -> list[tuple[Edit, NDArray[np.uint8]]]:
            mask = np.array(data)  # a copy, because the layer can be painted meanwhile
            pieces = order.work(mask).split(PIECE_SIDE)
            return [(piece, mask[piece.window]) for piece in pieces]

        self._job.start(find)
        self.changed.emit()

    def _on_found(self, pieces: list[tuple[Edit, NDArray[np.uint8]]]) -> None:
        order = self._now
        if order is not None:
            order.painter.apply_pieces(pieces, lambda size: self._on_made(order, size))

    def _on_made(self, order: EditRequest, size: int) -> None:
        pixel = order.painter.target.pixel_um
        area = "" if pixel is None else f" ({size * (pixel / 1000) ** 2:.3g} mm²)"
        if size:
            self.messageEmitted.emit("good", f"{order.what}: {size:,} pixels changed{area}.")
        else:
            self.messageEmitted.emit("info", f"{order.what}: nothing to change.")
        self._go_on()

    def _go_on(self) -> None:
        self._next()
        self.changed.emit()
