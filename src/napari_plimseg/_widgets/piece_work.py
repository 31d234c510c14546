"""Work of the main thread that is done a few milliseconds at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUDGET_SECONDS = 0.008
_AT_ONCE = 4  # steps, however long they take: what is small is done when `start` returns


class PieceWork:
    """Goes through an iterator bit by bit; the window answers in between.

    What must not happen in the middle of it calls `finish` first.
    """

    def __init__(self) -> None:
        self._steps: Iterator[object] | None = None
        self._on_done: Callable[[], None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether something is left to do."""
        return self._steps is not None

    def start(self, steps: Iterator[object], on_done: Callable[[], None] | None = None) -> None:
        """Finish what was begun before, and begin something else; a little of it is done at once.

        Parameters
        ----------
        steps : iterator
            Each of its steps is short.
        on_done : callable, optional
            Called once there are no more.
        """
        self.finish()
        self._steps, self._on_done = steps, on_done
        self._go_on()

    def finish(self) -> None:
        """Do what is left now."""
        steps = self._steps
        if steps is not None:
            for _ in steps:
                pass
            self._end()

    def _go_on(self) -> None:
        steps = self._steps
        if steps is None:
            return
        end = time.perf_counter() + _BUDGET_SECONDS
        for count, _ in enumerate(steps, start=1):
            if count > _AT_ONCE and time.perf_counter() > end:
                QTimer.singleShot(0, self._go_on)
                return
        self._end()

    def _end(self) -> None:
        on_done, self._steps, self._on_done = self._on_done, None, None
        if on_done is not None:
            on_done()
