"""`plimseg train | evaluate | scan | cut`: handed to the training package, in its own process."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


COMMANDS = {
    "train": "train a model from tagged images",
    "evaluate": "score a model on images with known masks",
    "scan": "check a folder of tagged images and count its tags",
    "cut": "cut tagged patches out of annotated slides or images",
}
_MODULE = "plimseg_training"


def run_training_command(arguments: Sequence[str], *, replace_process: bool = False) -> int:
    """Run a training command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str
        The command and its options, untouched.
    replace_process : bool
        Let the command take this process over where the system can, so that signals, and being
        killed, reach it and nothing else.

    Raises
    ------
    ConfigError
        When the training package is not installed.
    """
    if importlib.util.find_spec(_MODULE) is None:
        raise ConfigError(
            f"'{arguments[0]}' needs the training package, which is not installed",
            remedy="Install napari-plimseg again: pip install --force-reinstall napari-plimseg.",
        )
    command = [sys.executable, "-m", _MODULE, *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if replace_process and os.name == "posix":
        os.execv(sys.executable, command)  # noqa: S606 - the interpreter that runs us
    return _supervised(command)


def _supervised(command: list[str]) -> int:
    """Run a process in a group of its own, hand it each signal once, return its exit code."""
    on_windows = sys.platform == "win32"
    own_group: dict[str, Any] = (
        {"creationflags": 0x200} if on_windows else {"process_group": 0}
    )  # 0x200: CREATE_NEW_PROCESS_GROUP
    process = subprocess.Popen(command, **own_group)  # noqa: S603 - no shell, our own interpreter

    def forward(number: int, frame: object) -> None:
        # a group of its own on Windows can be told CTRL_BREAK only
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
