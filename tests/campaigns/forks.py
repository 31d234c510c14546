"""Work in forks of a warm process: limited, killed or failing at one event, and what came of it.

Everything is imported once, in the parent. The parent itself starts no thread and touches no
store, so that its forks are sound.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import PlimsegError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PATIENCE = 120.0
"""Seconds after which a fork counts as hanging."""
CHANGES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link",
}  # fmt: skip
_at_start: list[Callable[[], Any]] = []


def at_start(prepare: Callable[[], Any]) -> None:
    """Call a function at the start of every fork, such as one that takes a guard out."""
    _at_start.append(prepare)


@dataclass(frozen=True)
class Ended:
    """How a fork ended.

    Parameters
    ----------
    signal : int
        What killed it, 0 when it ended by itself.
    value : object
        What the work returned, as JSON.
    error : str
        Class of its exception; empty without one.
    text : str
        Its message.
    is_ours : bool
        Whether it is a `PlimsegError` that says what to do.
    trace : str
        Where it came from.
    seconds : float
    """

    signal: int = 0
    value: Any = None
    error: str = ""
    text: str = ""
    is_ours: bool = False
    trace: str = ""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether the work was done."""
        return not self.signal and not self.error

    def told(self) -> str:
        """Return how it ended, in a line."""
        if self.signal:
            name = signal.Signals(self.signal).name
            return "hang" if self.signal == signal.SIGALRM else f"death by {name}"
        if not self.error:
            return "done"
        places = [line.strip() for line in self.trace.splitlines() if line.startswith("  File")]
        return f"{self.error}: {self.text} [{'; '.join(places[-3:])}]"


def in_fork(
    work: Callable[[], Any],
    *,
    before: Callable[[], None] | None = None,
    kill_after: float | None = None,
    patience: float = PATIENCE,
) -> Ended:
    """Do work in a fork and return how it ended.

    Parameters
    ----------
    work : callable
        Returns something that JSON can hold.
    before : callable, optional
        Called in the fork just before, to set limits.
    kill_after : float, optional
        Seconds after which the fork is killed with SIGKILL.
    patience : float
        Seconds after which it counts as hanging.
    """
    begin = time.monotonic()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _child(work, before, reading, writing)
    os.close(writing)
    killed = None if kill_after is None else begin + kill_after
    said = b""
    sent = 0
    with contextlib.closing(os.fdopen(reading, "rb", buffering=0)) as pipe:
        while True:
            now = time.monotonic()
            until = min(killed or now + patience, begin + patience)
            if until <= now and not sent:
                sent = signal.SIGKILL if killed is not None and killed <= now else signal.SIGALRM
                os.kill(child, signal.SIGKILL)
            wait = max(0.0, until - now) if not sent else None
            if select.select([pipe], [], [], wait)[0]:
                part = pipe.read(1 << 16)
                if not part:
                    break
                said += part
    status = os.waitpid(child, 0)[1]
    seconds = time.monotonic() - begin
    if os.WIFSIGNALED(status):
        return Ended(signal=sent or os.WTERMSIG(status), seconds=seconds)
    try:
        return Ended(**json.loads(said), seconds=seconds)
    except (ValueError, TypeError):
        code = os.waitstatus_to_exitcode(status)
        return Ended(error="SystemExit", text=f"ended with {code} and no answer", seconds=seconds)


def _child(
    work: Callable[[], Any], before: Callable[[], None] | None, reading: int, writing: int
) -> None:
    os.close(reading)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    gc.disable()  # it would copy what parent and fork share
    answer: dict[str, Any] = {}
    try:
        with contextlib.ExitStack() as stack:
            for prepare in _at_start:
                stack.enter_context(prepare())
            if before is not None:
                before()
            answer = {"value": work()}
    except BaseException as error:  # noqa: BLE001 - a fork must not go on in the parent's code
        answer = {
            "error": type(error).__name__,
            "text": str(error)[:2000],
            # of a shortage of memory, docks and command line make the message
            "is_ours": (isinstance(error, PlimsegError) and bool(error.remedy))
            or is_out_of_memory(error),
            "trace": "",
        }
        with contextlib.suppress(Exception):
            answer["trace"] = "".join(traceback.format_exception(error))[-6000:]
    try:
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def spread(
    work: Callable[[Any], Any], items: Sequence[Any], processes: int
) -> list[tuple[Any, Any]]:
    """Do work on items in several forks at once; return (item, what came of it) of all.

    What a fork that died left undone is missing in the answer, and an exception is raised.
    """
    pipes = []
    for number in range(max(1, min(processes, len(items)))):
        mine = list(range(number, len(items), processes))
        reading, writing = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if not child:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                try:
                    for index in mine:
                        pipe.write(json.dumps([index, work(items[index])]) + "\n")
                        pipe.flush()
                except BaseException as error:  # noqa: BLE001 - told to the parent
                    text = "".join(traceback.format_exception(error))
                    pipe.write(json.dumps([-1, text]) + "\n")
                    pipe.flush()
            os._exit(0)
        os.close(writing)
        pipes.append((child, os.fdopen(reading)))
    found = {}
    for child, pipe in pipes:
        with pipe:
            for line in pipe:
                index, value = json.loads(line)
                found[index] = value
        os.waitpid(child, 0)
    if -1 in found:
        raise RuntimeError(f"a worker failed: {found[-1]}")
    if len(found) != len(items):
        raise RuntimeError("a worker died")
    return [(items[index], value) for index, value in sorted(found.items())]


def on_change(folder: Path, do: Callable[[int], None]) -> None:
    """Call a function before every change of a file below a folder, with the change's number.

    Opening a file for writing, renaming, removing, truncating and making folders are changes.
    The function may raise an error, or end the process. It stays until the process ends.
    """
    count = 0
    start = os.path.realpath(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in CHANGES:
            return
        for argument in arguments[:2]:
            if isinstance(argument, (str, bytes, os.PathLike)):
                path = os.fsdecode(argument)
                if path.startswith((start, str(folder))):
                    count += 1
                    do(count - 1)
                    return

    sys.addaudithook(hook)


def count_changes(work: Callable[[], Any], folder: Path) -> int:
    """Return how many changes of files below a folder some work makes; it is done in a fork."""

    def counted() -> int:
        count = 0

        def add(number: int) -> None:
            nonlocal count
            count = number + 1

        on_change(folder, add)
        work()
        return count

    ended = in_fork(counted)
    if not ended.is_good:
        raise RuntimeError(f"it fails without any fault: {ended.told()}")
    return int(ended.value)


def die_at_change(folder: Path, number: int) -> Callable[[], None]:
    """Return what makes a fork kill itself just before a change of a file below a folder."""

    def prepare() -> None:
        def die(now: int) -> None:
            if now == number:
                os.kill(os.getpid(), signal.SIGKILL)

        on_change(folder, die)

    return prepare


def tree(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder by its relative path; locks left out."""
    import hashlib

    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files below a folder."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if "partial" in path.name or path.name.endswith(".tmp") or path.name.startswith(".import-")
    )
