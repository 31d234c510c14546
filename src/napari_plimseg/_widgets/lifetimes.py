"""What is to be done when an object of Qt goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject

_kept: set[Callable[..., None]] = set()


def when_gone(watched: QObject, work: Callable[[], object]) -> None:
    """Call a function once, when an object of Qt is destroyed, whoever destroys it.

    It is kept until then. A function that nothing but the connection holds becomes garbage together
    with the object; Python empties garbage before it frees it, and PyQt would call what is empty,
    which is the end of the program.

    Parameters
    ----------
    watched : QObject
    work : callable
        Without arguments. It is not to hold `watched` if that has no parent, or neither goes.
    """

    def go(*_: object) -> None:
        _kept.discard(go)
        work()

    _kept.add(go)
    watched.destroyed.connect(go)
