"""Child processes under limits that read damaged copies, so that one bad copy costs only itself.

A server process imports the program once. For every few mutants it forks; the fork reads them one
after the other and reports each before and after. If it dies, the mutant that it announced is to
blame, and another fork takes the rest. Limits are those of one mutant: processor time, waiting
time, and memory, whose peak is reset before each.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

MEMORY = 3 << 30
"""Bytes in memory that no mutant may exceed."""
HEADROOM = 5 << 30
"""Bytes of addresses that a fork may add: above `MEMORY`, so that an excess is seen as one."""
SECONDS = 30
"""Of processor time that no mutant may exceed."""
WAIT = "PLIMSEG_CAMPAIGN_WAITING"
WAITING = int(os.environ.get(WAIT, "60"))
"""Seconds of any kind: for what waits and does not compute."""
BATCH = 40


@dataclass(frozen=True)
class Outcome:
    """What came of one mutant.

    Parameters
    ----------
    index : int
    result : str
        "fine", "refused", or what is wrong with it.
    seconds : float
        Of processor time.
    memory : int
        Peak in bytes.
    damage : str
        What was done to it.
    """

    index: int
    result: str
    seconds: float = 0.0
    memory: int = 0
    damage: str = ""

    @property
    def is_good(self) -> bool:
        return self.result in ("fine", "refused")


Read = Callable[[int, Callable[[str], None]], str]
"""Takes the index of a mutant, and what to tell the damage before it reads; returns the result."""


def serve(read: Read, indices: list[int]) -> None:
    """Read mutants in forks and print an `Outcome` of each as a line of JSON."""
    left = list(indices)
    while left:
        receiving, sending = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(receiving)
            with os.fdopen(sending, "w") as out:
                _read_batch(read, left[:BATCH], out.write)
                out.flush()
            os._exit(0)
        os.close(sending)
        done, begun, damage = set(), None, ""
        with os.fdopen(receiving) as lines:
            for line in lines:
                try:
                    content = json.loads(line)
                except ValueError:
                    continue  # cut off by a death
                if "begun" in content:
                    begun, damage = content["begun"], content["damage"]
                else:
                    done.add(content["index"])
                    print(line, end="", flush=True)  # noqa: T201 - the protocol
        _, status = os.waitpid(process, 0)
        if status and begun is not None and begun not in done:
            done.add(begun)
            outcome = Outcome(begun, _ended(status), damage=damage)
            print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201
        if not done:
            raise RuntimeError(f"a fork ended with {status} before its first mutant")
        left = [index for index in left if index not in done]


def _ended(status: int) -> str:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGALRM:
        return f"hang: more than {WAITING} s of waiting"
    if number == signal.SIGPROF:
        return f"hang: more than {SECONDS} s of work"
    name = signal.Signals(number).name if number else f"exit code {os.WEXITSTATUS(status)}"
    return f"death: {name}"


def _read_batch(read: Read, indices: list[int], write: Callable[[str], object]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    limit = _address_bytes() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # a death is reported once, by its parent
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for good
    for index in indices:
        _reset_peak()
        told = [""]

        def tell(damage: str, index: int = index, told: list[str] = told) -> None:
            told[0] = damage
            _say(write, {"begun": index, "damage": damage})

        tell("none yet")
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        try:
            result = read(index, tell)
        except Exception as error:  # noqa: BLE001 - of the campaign itself
            result = f"the campaign broke: {type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        peak = _peak()
        if peak > MEMORY and result in ("fine", "refused"):
            result = f"memory: {peak / 2**30:.1f} GiB"
        _say(write, asdict(Outcome(index, result, time.process_time() - start, peak, told[0])))


def _say(write: Callable[[str], object], content: object) -> None:
    write(json.dumps(content) + "\n")
    owner = getattr(write, "__self__", None)
    if owner is not None:
        owner.flush()


def _address_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


@contextlib.contextmanager
def quiet_folder() -> Iterator[Path]:
    """Yield a temporary folder; what is left of it in the end does not matter."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def forbid_connections(on_attempt: Callable[[str], None]) -> None:
    """Report, from now on, when this process looks up a name, connects or runs a shell.

    Parameters
    ----------
    on_attempt : callable
        Gets what was tried.
    """

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("socket.getaddrinfo", "socket.gethostbyname", "os.system"):
            on_attempt(f"{event} {arguments[:1]}")
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            on_attempt(f"{event} {arguments[1:]}")

    sys.addaudithook(hook)
