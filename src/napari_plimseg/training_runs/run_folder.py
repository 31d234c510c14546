"""The folders of trainings: their files, their states, and which can resume."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import filelock

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import user_data_dir
from napari_plimseg.models import RESERVED
from napari_plimseg.training_runs.events import ENDS, facts_of_line

if TYPE_CHECKING:
    from pathlib import Path


_NAME = re.compile(r"\w[\w .+-]{0,79}")
_TAIL_BYTES = 1 << 16


class RunStatus(StrEnum):
    """The state of the training in a folder."""

    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True)
class RunFolder:
    """The files of one training: the trainer writes them, docks and reports read them.

    Parameters
    ----------
    root : Path
        The folder; it need not exist yet.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """The exact recipe, with every key.

        Written once the images have passed their checks: from then on the training can resume.
        """
        return self.root / "recipe.yaml"

    @property
    def folder_summary(self) -> Path:
        """What the scan of the tagged folder found, with its digest."""
        return self.root / "folder.json"

    @property
    def classes(self) -> Path:
        """The tissue classes as the user edited them in the dock."""
        return self.root / "classes.yaml"

    @property
    def progress(self) -> Path:
        """Events, one JSON object per line."""
        return self.root / "progress.jsonl"

    @property
    def console(self) -> Path:
        """What the process printed, when a dock started it."""
        return self.root / "console.log"

    @property
    def history(self) -> Path:
        """One row per epoch."""
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
        """Folder of pictures that are redrawn while a stage trains."""
        return self.root / "live"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def model_file(self) -> Path:
        """The trained model, written last: a folder with this file is finished."""
        return self.root / "model.safetensors"

    @property
    def fast_model_file(self) -> Path:
        """The fast student, where the recipe asks for one."""
        return self.root / "fast.safetensors"

    @property
    def cams_file(self) -> Path:
        """The CAM network of stage 1, where the recipe trains one; for the dock's CAMs."""
        return self.root / "cams.safetensors"

    @property
    def stop_file(self) -> Path:
        """When this file appears, the training finishes its step, saves and ends.

        A file works on every system and from every process, where signals do not.
        """
        return self.root / "stop"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that trains here."""
        return self.root / ".lock"

    def stage(self, name: str) -> Path:
        """Return the folder of a stage's checkpoints."""
        return self.root / name

    @property
    def is_locked(self) -> bool:
        """Whether a process trains here."""
        if not self.lock_file.exists():
            return False
        try:
            with filelock.FileLock(self.lock_file, timeout=0):
                return False
        except (filelock.Timeout, OSError):
            return True

    @property
    def can_resume(self) -> bool:
        """Whether there is an unfinished training to resume."""
        return self.recipe.is_file() and not self.model_file.is_file()

    def status(self) -> RunStatus:
        """Return the training's state; one that was killed counts as stopped."""
        if self.is_locked:
            return RunStatus.RUNNING
        if self.model_file.is_file():
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
    files : RunFolder
    status : RunStatus
    changed : float
        Seconds since 1970 of its last event.
    """

    files: RunFolder
    status: RunStatus
    changed: float

    @property
    def name(self) -> str:
        """What people call it."""
        return self.files.root.name


def runs_folder() -> Path:
    """Return the folder of the dock's trainings; it may not exist yet."""
    return user_data_dir() / "trainings"


def list_runs(folder: Path | None = None) -> list[KnownRun]:
    """Return the trainings that are running, can resume or are finished, newest first."""
    found = []
    for progress in (folder or runs_folder()).glob("*/progress.jsonl"):
        files = RunFolder(progress.parent)
        status = files.status()
        if status is RunStatus.RUNNING or files.recipe.is_file():
            try:
                changed = progress.stat().st_mtime
            except OSError:
                continue  # removed meanwhile
            found.append(KnownRun(files, status, changed))
    return sorted(found, key=lambda run: -run.changed)


def new_run_folder(name: str, folder: Path | None = None) -> Path:
    """Return an unused folder for a training; it is not created yet.

    Raises
    ------
    ConfigError
        When a file can't have that name.
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
    """Return why a model can't have this name, as a sentence; empty when it can."""
    if not name.strip():
        return "Type a name for the model."
    if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
        return "A model's name has letters, digits, spaces and .+-_ only, 80 at most."
    if name.casefold() in RESERVED:
        return f"'{name}' is the name of a bundled model: type another one."
    return ""


def usable_name(text: str) -> str:
    """Return a valid model name made from `text`."""
    kept = "".join(c if c.isalnum() or c in " .+-_" else "-" for c in text)
    return kept.lstrip(" .+-_")[:60].rstrip(" .") or "my tissue"


def last_end(progress: Path) -> str | None:
    """Return how the last session of a training began or ended; None without any event.

    Parameters
    ----------
    progress : Path
        A `progress.jsonl`.

    Returns
    -------
    str or None
        "start", "stopped", "done" or "failed".
    """
    if not progress.is_file():  # opening a pipe would wait forever
        return None
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
        facts = facts_of_line(line)
        if facts is not None and facts["kind"] in ENDS:
            return str(facts["kind"])
    return "start"
