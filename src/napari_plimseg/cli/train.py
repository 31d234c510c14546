"""`plimseg train | evaluate | scan | cut`: run by the training package in its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from napari_plimseg.cli.console import TRAINING_COMMANDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.cli.console import Commands


def add_parser(commands: Commands) -> None:
    """Add the commands to the list that `plimseg --help` prints; `main` never parses them."""
    for name, what in TRAINING_COMMANDS.items():
        commands.add_parser(name, help=what)


def run_training_command(arguments: Sequence[str], *, replace_process: bool = False) -> int:
    """Run a training command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str
        The command and its options, untouched.
    replace_process : bool
        Replace this process by the command where the system can, so that signals, SIGKILL
        included, reach the training itself.

    Raises
    ------
    ConfigError
        When the training package is not installed.
    """
    from napari_plimseg.training_runs import training_program

    command = [*training_program(f"'{arguments[0]}'"), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if replace_process and os.name == "posix":
        os.execv(sys.executable, command)  # noqa: S606 - the interpreter that runs us
    return _supervised(command)


def _supervised(command: list[str]) -> int:
    """Run a process, forward each signal to it once, and return its exit code.

    It gets its own process group: otherwise Ctrl-C would reach it twice, from the terminal and
    from here, and the second signal ends a training without saving.
    """
    on_windows = sys.platform == "win32"
    own_group: dict[str, Any] = (
        {"creationflags": 0x200} if on_windows else {"process_group": 0}
    )  # 0x200: CREATE_NEW_PROCESS_GROUP
    process = subprocess.Popen(command, **own_group)  # noqa: S603 - no shell, our own interpreter

    def forward(number: int, frame: object) -> None:
        # on Windows, a process group only receives CTRL_BREAK
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", number) if on_windows else number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None:
                before[number] = signal.signal(number, forward)
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code
