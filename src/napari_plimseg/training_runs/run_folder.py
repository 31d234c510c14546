"""The folders of trainings: where they are, how they stand, and which can go on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import filelock

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import user_data_dir
from napari_plimseg.models.library import RESERVED

if TYPE_CHECKING:
    from pathlib import Path


_ENDS = ("start", "stopped", "done", "failed")
_NAME = re.compile(r"\w[\w .+-]{0,79}")
_TAIL_BYTES = 1 << 16


class RunStatus(Enum):
    """How the training in a folder stands."""

    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True)
class RunFiles:
    """The files of one training that this side reads.

    Parameters
    ----------
    root : Path
        The run folder; it need not exist yet.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """Written when the images were found in order: from then on the training can go on."""
        return self.root / "recipe.yaml"

    @property
    def progress(self) -> Path:
        """Events, one JSON object a line."""
        return self.root / "progress.jsonl"

    @property
    def console(self) -> Path:
        """What the process printed."""
        return self.root / "console.log"

    @property
    def classes(self) -> Path:
        """The tissue classes that the user edited."""
        return self.root / "classes.yaml"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def model(self) -> Path:
        """What the training is for."""
        return self.root / "model.safetensors"

    @property
    def stop_file(self) -> Path:
        """When this file appears, the training finishes its step, saves and ends."""
        return self.root / "stop"

    @property
    def is_locked(self) -> bool:
        """Whether a process trains here."""
        lock = self.root / ".lock"
        if not lock.exists():
            return False
        try:
            with filelock.FileLock(lock, timeout=0):
                return False
        except (filelock.Timeout, OSError):
            return True

    @property
    def can_resume(self) -> bool:
        """Whether there is something to go on with."""
        return self.recipe.is_file() and not self.model.is_file()

    def status(self) -> RunStatus:
        """Return how the training stands; one that was killed counts as stopped."""
        if self.is_locked:
            return RunStatus.RUNNING
        if self.model.is_file():
            return RunStatus.FINISHED
        last = last_end(self.progress)
        if last is None:
            return RunStatus.NEW
        ends = {"done": RunStatus.FINISHED, "failed": RunStatus.FAILED}
        return ends.get(last, RunStatus.STOPPED)


@dataclass(frozen=True)
class KnownRun:
    """One training in the list of trainings.

    Parameters
    ----------
    files : RunFiles
    status : RunStatus
    changed : float
        Seconds since 1970 of its last event.
    """

    files: RunFiles
    status: RunStatus
    changed: float

    @property
    def name(self) -> str:
        """What people call it."""
        return self.files.root.name


def runs_folder() -> Path:
    """Return where the dock's trainings lie; it may not exist yet."""
    return user_data_dir() / "trainings"


def list_runs(folder: Path | None = None) -> list[KnownRun]:
    """Return the trainings that run, can go on or are finished, newest first."""
    found = []
    for progress in (folder or runs_folder()).glob("*/progress.jsonl"):
        files = RunFiles(progress.parent)
        status = files.status()
        if status is RunStatus.RUNNING or files.recipe.is_file():
            try:
                changed = progress.stat().st_mtime
            except OSError:
                continue  # removed meanwhile
            found.append(KnownRun(files, status, changed))
    return sorted(found, key=lambda run: -run.changed)


def new_run_folder(name: str, folder: Path | None = None) -> Path:
    """Return a folder for a training that no other has; it is not made yet.

    Raises
    ------
    ConfigError
        When no file can have that name.
    """
    why_not = name_problem(name)
    if why_not:
        raise ConfigError(why_not)
    parent = folder or runs_folder()
    number = 1
    while True:
        root = parent / (name if number == 1 else f"{name}-{number}")
        if not root.exists():
            return root
        number += 1


def name_problem(name: str) -> str:
    """Return why a model can't have a name, as a sentence; empty when it can."""
    if not name.strip():
        return "Type a name for the model."
    if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
        return "A model's name has letters, digits, spaces and .+-_ only, 80 at most."
    if name.casefold() in RESERVED:
        return f"'{name}' is the name of a model that comes along: type another one."
    return ""


def usable_name(text: str) -> str:
    """Return a name for a model that is like `text`."""
    kept = "".join(c if c.isalnum() or c in " .+-_" else "-" for c in text)
    return kept.lstrip(" .+-_")[:60].rstrip(" .") or "my tissue"


def last_end(progress: Path) -> str | None:
    """Return how the last part of a training began or ended; None when nothing was told.

    Parameters
    ----------
    progress : Path
        A `progress.jsonl`.

    Returns
    -------
    str or None
        "start", "stopped", "done" or "failed".
    """
    try:
        with progress.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    if not lines:
        return None
    for line in reversed(lines):
        try:
            kind = json.loads(line)["kind"]
        except (ValueError, TypeError, KeyError):
            continue
        if kind in _ENDS:
            return str(kind)
    return "start"
