"""The folder of one training: its paths, its lock, how it stands, and how to stop it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import filelock

from napari_plimseg.errors import StoreError
from plimseg_training.events import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


Status = Literal["new", "running", "stopped", "finished", "failed"]

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCK_SECONDS = 2  # a reader of `status` holds the lock for a moment


class RunError(StoreError):
    """A run folder can't be read or written, or belongs to another training."""

    subject = "training run"


@dataclass(frozen=True)
class RunFolder:
    """The paths in the folder of one training.

    Parameters
    ----------
    root : Path
        The folder; it need not exist yet.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """The exact recipe, with every key."""
        return self.root / "recipe.yaml"

    @property
    def folder_summary(self) -> Path:
        """What the scan of the tagged folder found, with its digest."""
        return self.root / "folder.json"

    @property
    def progress(self) -> Path:
        """Events, one JSON object a line."""
        return self.root / "progress.jsonl"

    @property
    def history(self) -> Path:
        """One row an epoch."""
        return self.root / "history.csv"

    @property
    def pseudo_masks(self) -> Path:
        """Folder of pseudo masks."""
        return self.root / "pseudo_masks"

    @property
    def previews(self) -> Path:
        """Folder of pictures for people."""
        return self.root / "previews"

    @property
    def live(self) -> Path:
        """Folder of pictures that are drawn anew while a stage trains."""
        return self.root / "live"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def model_file(self) -> Path:
        """What the training is for."""
        return self.root / "model.safetensors"

    @property
    def fast_model_file(self) -> Path:
        """The fast student, where the recipe asks for one."""
        return self.root / "fast.safetensors"

    @property
    def stop_file(self) -> Path:
        """When this file appears, the training finishes its step, saves and ends."""
        return self.root / "stop"

    @property
    def lock_file(self) -> Path:
        """Held by the process that trains here."""
        return self.root / ".lock"

    def stage(self, name: str) -> Path:
        """Return the folder of a stage's checkpoints."""
        return self.root / name

    def request_stop(self) -> None:
        """Ask the training here to finish its step, save and end."""
        self.stop_file.touch()

    def status(self) -> Status:
        """Return how the training here stands; one that was killed counts as stopped."""
        if self._is_locked():
            return "running"
        if self.model_file.exists():
            return "finished"
        kinds = [event.kind for event in read_events(self.progress)]
        ends = [kind for kind in kinds if kind in {"start", "stopped", "done", "failed"}]
        if not kinds:
            return "new"
        return {"done": "finished", "failed": "failed"}.get(ends[-1] if ends else "", "stopped")  # type: ignore[return-value]

    def _is_locked(self) -> bool:
        if not self.lock_file.exists():
            return False
        try:
            with filelock.FileLock(self.lock_file, timeout=0):
                return False
        except (filelock.Timeout, OSError):
            return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other trainings out of it inside the block.

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
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.lock_file, timeout=_LOCK_SECONDS)
            try:
                lock.acquire()
            except filelock.Timeout as error:
                raise RunError(
                    "another training is running in this folder",
                    path=self.root,
                    remedy="Stop it first, or choose another folder.",
                ) from error
        try:
            with writing(self.root):
                self.stop_file.unlink(missing_ok=True)
                for left_over in self.root.rglob(".partial-*"):
                    left_over.unlink(missing_ok=True)
            yield
        finally:
            lock.release()


class StopRequest(contextlib.AbstractContextManager["StopRequest"]):
    """Whether somebody asked the training to stop; for `train(should_stop=...)`.

    SIGTERM, SIGINT (and CTRL_BREAK on Windows) or the run folder's stop file ask. A second signal
    acts as if this object were not there.

    Parameters
    ----------
    run_folder : Path
        Where the stop file may appear.
    """

    def __init__(self, run_folder: Path) -> None:
        self._stop_file = RunFolder(run_folder).stop_file
        self._asked = False
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
        return self._asked or self._stop_file.exists()

    def _on_signal(self, number: int, frame: object) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the disk inside the block into one clear sentence.

    Raises
    ------
    RunError
        Saying what is wrong and what to do; what was complete before stays complete.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_full(path) from error
        raise RunError(
            f"it can't be written ({error.strerror or error})",
            path=path,
            remedy="Choose a folder that you may write to.",
        ) from error
    except Exception as error:
        # safetensors gives the system's error as text
        if "os error 28" in str(error) or "No space left" in str(error):
            raise _disk_full(path) from error
        raise


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start when the disk has no room.

    Parameters
    ----------
    folder : Path
        An existing folder on the disk concerned.
    needed : int
        Bytes.

    Raises
    ------
    RunError
        Saying how much is needed and how much is free.
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
        remedy="The checkpoint before is intact: free some space and resume.",
    )
