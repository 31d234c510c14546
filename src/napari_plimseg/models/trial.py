"""Load a model in a process of its own, to find out whether it can be loaded.

A file or folder of a stranger may crash a library, hang it, or take all memory. In a child process
that costs nothing but the child: the parent watches its memory and its time, and ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from napari_plimseg import limits
from napari_plimseg.errors import ModelError, PlimsegError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_LONGEST_ANSWER = 20_000
_POLL_SECONDS = 0.1
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_NO_WINDOW = 0x08000000
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from napari_plimseg.models.trial import answer; answer(*sys.argv[2:])"
)
KINDS = ("masks", "prompts", "file", "encoder")
"""What is tried: a model for masks or prompts with its encoder, a model file alone, an encoder."""
_SLACK = 2 << 30
_TOO_LARGE = "Close other programs, or use a smaller model."
_BROKEN = "It may be damaged; export or download it again."


@dataclass(frozen=True)
class TrialLimits:
    """What a trial may take.

    Parameters
    ----------
    seconds : float
        From the start of the process.
    memory_bytes : int
        Resident memory.
    """

    seconds: float
    memory_bytes: int

    @classmethod
    def for_bytes(cls, size: int) -> TrialLimits:
        """Return the limits for files of a size: slow disks take a second per 20 MB.

        Memory is the limit `model-bytes` and what the libraries take, but never more than the
        computer has free, so that the child is ended before the computer swaps.
        """
        free = int(0.9 * psutil.virtual_memory().available)
        return cls(120 + size / 20e6, min(limits.get("model-bytes") + (2 << 30), free))


def try_loading(
    name: str, kind: str, place: Path, allowed: TrialLimits | None = None
) -> Generator[None, None, None]:
    """Load a model or an encoder in a child process; closing the generator ends it.

    Parameters
    ----------
    name : str
        An encoder's name for "encoder", otherwise the path of a model file.
    kind : str
        One of `KINDS`.
    place : Path
        The file or folder that messages name.
    allowed : TrialLimits, optional
        By the size of the files when None.

    Yields
    ------
    None
        While it runs.

    Raises
    ------
    ModelError
        When it can't be loaded, crashes, hangs, or takes more memory than allowed.
    """
    allowed = allowed or TrialLimits.for_bytes(_size_of(place))
    process = _started(name, kind, allowed)
    try:
        yield from watch(process, place, allowed)
        output = process.stdout.read(_LONGEST_ANSWER) if process.stdout else b""
    finally:
        _end(process)
    check_answer(output, process.returncode, place)


def watch(
    process: subprocess.Popen[bytes], place: Path, allowed: TrialLimits
) -> Generator[None, None, None]:
    """Wait for a process; end it and raise ModelError when it takes more than allowed."""
    end = time.monotonic() + allowed.seconds
    while process.poll() is None:
        if time.monotonic() > end:
            raise ModelError(
                f"can't be loaded: it was not ready after {allowed.seconds:.0f} seconds",
                path=place,
                remedy=_BROKEN,
            )
        taken = memory_of(process.pid)
        if taken > allowed.memory_bytes:
            raise ModelError(
                f"can't be loaded: it takes more than {allowed.memory_bytes / 1e9:.1f} GB of "
                "memory",
                path=place,
                remedy=_TOO_LARGE,
            )
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 when it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def check_answer(output: bytes, code: int | None, place: Path) -> None:
    """Raise the child's error, or say that it crashed."""
    found: Any = None
    try:
        found = json.loads(output.decode("utf-8"))
        loaded, problem, remedy = found["loaded"], found["problem"], found["remedy"]
    except (ValueError, TypeError, KeyError, RecursionError):
        loaded, problem, remedy = False, "", ""
    if loaded is True and code == 0:
        return
    if not isinstance(problem, str) or not problem:
        problem = f"can't be loaded: the program crashed while it was tried (code {code})"
        remedy = _BROKEN
    file = found.get("file") if isinstance(found, dict) else None
    if isinstance(file, str) and place.is_dir() and file in {p.name for p in place.iterdir()}:
        place = place / file  # the one file of the folder that has the problem
    raise ModelError(
        problem,
        path=place,
        remedy=remedy if isinstance(remedy, str) else None,
    )


def answer(name: str, kind: str, memory_bytes: str) -> None:
    """Load in the child process, and print the outcome as JSON."""
    with os.fdopen(os.dup(1), "wb") as result:
        os.dup2(2, 1)  # what libraries print is no answer
        limit_memory(int(memory_bytes))
        problem, remedy, file = _problem_of(name, kind)
        content = {
            "loaded": not problem,
            "problem": problem[:1000],
            "remedy": remedy[:1000],
            "file": file,
        }
        result.write(json.dumps(content).encode())


def limit_memory(most: int) -> None:
    """Bound the memory of this process by the system too, where it can."""
    if os.name == "nt":
        return
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # of data, not of addresses, which libraries reserve by the hundred GB
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _problem_of(name: str, kind: str) -> tuple[str, str, str]:
    """Return problem, remedy and the name of the file, of a folder's files, that has it."""
    try:
        load(name, kind)
    except PlimsegError as error:
        return error.problem, error.remedy or "", error.path.name if error.path else ""
    except MemoryError:
        return "can't be loaded: memory ran out", _TOO_LARGE, ""
    except Exception as error:  # noqa: BLE001 - a stranger's file, and any library's exception
        return f"can't be loaded ({type(error).__name__}: {error})", "", ""
    return "", "", ""


def load(name: str, kind: str) -> None:
    """Load a model or an encoder and let go of it; raises whatever its loading does."""
    if kind == "encoder":
        from napari_plimseg.models.encoders import load_encoder
        from napari_plimseg.models.promptable import load_sam

        (load_sam if name.startswith("sam:") else load_encoder)(name)
    elif kind == "file":
        from napari_plimseg.models.model_file import load_model_file

        load_model_file(name)
    else:
        from napari_plimseg.models.loading import load_model, load_promptable_model

        (load_promptable_model if kind == "prompts" else load_model)(name)


def _started(name: str, kind: str, allowed: TrialLimits) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **dict.fromkeys(_OFFLINE, "1"), "OMP_NUM_THREADS": "1"}
    code = [_CHILD, json.dumps(sys.path), name, kind, str(allowed.memory_bytes + _SLACK)]
    return subprocess.Popen(  # noqa: S603 - no shell, our own interpreter
        [sys.executable, "-I", "-c", *code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        creationflags=_NO_WINDOW if os.name == "nt" else 0,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _size_of(place: Path) -> int:
    files = place.iterdir() if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())
