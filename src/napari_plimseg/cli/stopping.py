"""Ctrl-C and SIGTERM: stop at once and cleanly, or after the piece of work that is under way.

Schedulers send SIGTERM when the time of a job is over; Python would die of it without a word.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType


EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
_TERMINATING = ("SIGTERM", "SIGBREAK")
_STDERR = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM, or CTRL_BREAK on Windows, raised where Ctrl-C raises KeyboardInterrupt."""


def exit_code_of(number: int) -> int:
    """Return the exit code of a command that a signal ended."""
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED


@contextlib.contextmanager
def terminating_as_interrupting() -> Iterator[None]:
    """Raise `Terminated` for SIGTERM inside the block, so that files are left whole."""

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    before = _handle(_TERMINATING, terminate)
    try:
        yield
    finally:
        _restore(before)


class Finishing(contextlib.AbstractContextManager["Finishing"]):
    """Whether a signal asked to stop: the block asks after each piece of work and ends itself.

    A second signal has its usual effect, so that a hanging piece can be ended.

    Parameters
    ----------
    what : str
        A piece of work, for people: "tile".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._before: dict[int, Any] = {}
        self.number = 0
        """The signal; 0 before one came."""

    def __enter__(self) -> Finishing:
        self._before = _handle(("SIGINT", *_TERMINATING), self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _restore(self._before)

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.number != 0

    def raise_if_asked(self) -> None:
        """Raise what the signal would have raised.

        Raises
        ------
        KeyboardInterrupt
            `Terminated` for SIGTERM.
        """
        if self.number:
            raise KeyboardInterrupt if self.number == signal.SIGINT else Terminated

    def _on_signal(self, number: int, frame: object) -> None:
        self.number = number
        _restore(self._before)
        # not through sys.stderr, in whose write the signal may have come
        text = f"\nplimseg: stopping after this {self._what}; a second signal stops at once.\n"
        with contextlib.suppress(OSError):
            os.write(_STDERR, text.encode())


def _handle(names: tuple[str, ...], handler: Callable[[int, object], None]) -> dict[int, Any]:
    """Set a handler of signals; return those before it."""
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        return before
    for name in names:
        number = getattr(signal, name, None)
        # what the shell lets a background job ignore stays ignored
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    return before


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
    before.clear()
