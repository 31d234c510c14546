"""One run of the engine at a time in a process: two would only slow each other down."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from collections.abc import Iterator


class EngineLock:
    """Says who runs the engine now; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = ""

    @property
    def owner(self) -> str:
        """Who runs the engine, for people; empty when nobody does."""
        return self._owner

    @contextlib.contextmanager
    def held_by(self, owner: str) -> Iterator[None]:
        """Hold the engine for the length of the block.

        Parameters
        ----------
        owner : str
            For people: "the batch".

        Raises
        ------
        PlimsegError
            When somebody else runs it.
        """
        if not self._lock.acquire(blocking=False):
            raise PlimsegError(
                f"{self._owner or 'another run'} is going on, and two at a time are not possible",
                remedy="Wait until it is done, or stop it.",
            )
        try:
            self._owner = owner
            yield
        finally:
            self._owner = ""
            self._lock.release()


ENGINE = EngineLock()
"""The engine of this process."""
