"""What only the trainer does in a run folder: lock it, watch for a stop, handle a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING, Any

import filelock

from napari_plimseg.errors import StoreError
from napari_plimseg.files import sweep
from napari_plimseg.training_runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCK_SECONDS = 2  # `RunFolder.is_locked` holds the lock for a moment


class RunError(StoreError):
    """A run folder can't be read or written, or belongs to another training."""

    subject = "training run"


@contextlib.contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Create the folder and keep other trainings out of it inside the block.

    An old stop file and half-written files of a killed training are removed. Under torchrun
    the first process holds the lock for all.

    Raises
    ------
    RunError
        When the folder can't be written, or another training runs in it.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    with writing(run.root):
        run.root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(run.lock_file, timeout=_LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunError(
                "another training is running in this folder",
                path=run.root,
                remedy="Stop it first, or choose another folder.",
            ) from error
    try:
        with writing(run.root):
            run.stop_file.unlink(missing_ok=True)
            sweep(run.root, deep=True, exclusive=True)
        yield
    finally:
        lock.release()


class StopRequest(contextlib.AbstractContextManager["StopRequest"]):
    """Whether the training was asked to stop; for `train(should_stop=...)`.

    SIGTERM, SIGINT (CTRL_BREAK on Windows) and the run folder's stop file all ask. A second signal
    has its usual effect, so that a hanging step can be ended.

    Parameters
    ----------
    run_folder : Path
        Its stop file is watched.
    """

    def __init__(self, run_folder: Path) -> None:
        self._stop_file = RunFolder(run_folder).stop_file
        self.number = 0
        """The signal that asked; 0 when none did."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.number != 0 or self._stop_file.exists()

    def _on_signal(self, number: int, frame: object) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn disk errors inside the block into one clear sentence.

    Raises
    ------
    RunError
        With what is wrong and what to do; files that were complete stay complete.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_full(path) from error
        raise RunError(
            f"it can't be written ({error.strerror or error})",
            path=path,
            remedy="Choose a folder that you can write to.",
        ) from error


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start when the disk has too little free space.

    Parameters
    ----------
    folder : Path
        An existing folder on that disk.
    needed : int
        Bytes.

    Raises
    ------
    RunError
        With the space needed and the space free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"its checkpoints need {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free",
            path=folder,
            remedy=f"Free {(needed - free) / 1e6:,.0f} MB or choose another folder.",
        )


def _disk_full(path: Path) -> RunError:
    return RunError(
        "the disk is full",
        path=path,
        remedy="The previous checkpoint is intact: free some space and resume.",
    )
