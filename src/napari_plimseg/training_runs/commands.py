"""Commands of the training package, run as processes whose JSON lines are read as they come."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.training_runs.line_tail import LineTail

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

MODULE = "plimseg_training"
POLL_SECONDS = 0.1
_PATIENCE = 3.0
_NEW_GROUP_NO_WINDOW = 0x200 | 0x08000000  # what Windows calls these two flags


def training_program() -> list[str]:
    """Return the command that starts the training package.

    Raises
    ------
    ConfigError
        When it is not installed.
    """
    if importlib.util.find_spec(MODULE) is None:
        raise ConfigError(
            "the training package is not installed",
            remedy="Install napari-plimseg again: pip install --force-reinstall napari-plimseg.",
        )
    return [sys.executable, "-m", MODULE]


def start_process(command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    """Start a process that a closing viewer or terminal does not take with it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell reads them.
    output : Path
        Takes what it prints, errors too; a pipe would end the process when the viewer is gone.

    Returns
    -------
    subprocess.Popen
    """
    environment = dict(os.environ)
    # one core is left to the window
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))
    environment["PYTHONIOENCODING"] = "utf-8"
    apart: dict[str, Any] = (
        {"creationflags": _NEW_GROUP_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    )
    with output.open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - no shell, our own interpreter
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            **apart,
        )


def run_command(
    arguments: Sequence[str], program: Sequence[str] | None = None
) -> Generator[dict[str, Any] | None, None, int]:
    """Run a command to its end and yield the JSON objects that it prints.

    Closing the generator ends the process.

    Parameters
    ----------
    arguments : sequence of str
        The command and its options; `--json` is added.
    program : sequence of str, optional
        What is started in place of the training package.

    Yields
    ------
    dict or None
        What it told, or None where it told nothing for a while.

    Returns
    -------
    int
        The exit code: 0, or 5 when images or tags are wrong and the lines say how.

    Raises
    ------
    TagError
        When the command failed; with the sentence that it told.
    """
    started = training_program() if program is None else list(program)
    with tempfile.TemporaryDirectory(prefix="plimseg-") as folder:
        output = Path(folder) / "output.jsonl"
        process = start_process([*started, *arguments, "--json"], output)
        tail, failure, last_words = LineTail(output), "", ""
        try:
            while True:
                running = process.poll() is None
                objects, others = tail.new_objects()
                for found in objects:
                    if found["kind"] == "failed":
                        failure = str(found.get("message", ""))
                    else:
                        yield found
                last_words = others[-1] if others else last_words
                if not running and not objects and not others:
                    break
                yield None
                if running:
                    time.sleep(POLL_SECONDS)
        finally:
            end_process(process)
    code = process.returncode
    if failure or code not in (0, TagError.exit_code):
        raise CommandError(failure or f"The command ended with code {code}. {last_words}".strip())
    return code


class CommandError(TagError):
    """A command of the training package failed; its own sentence says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process that is not wanted any more and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
