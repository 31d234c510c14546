"""One training in its own process: start, watch, stop, resume."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import scratch_folder
from napari_plimseg.training_runs.events import Event
from napari_plimseg.training_runs.history import LineTail, RunHistory
from napari_plimseg.training_runs.run_folder import RunFolder, RunStatus, last_end, name_problem

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_plimseg.tissue import TissueClasses


MODULE = "plimseg_training"
POLL_SECONDS = 0.1
_PATIENCE = 3.0
_NEW_GROUP_NO_WINDOW = 0x200 | 0x08000000  # what Windows calls these two flags


def training_program(what: str = "training") -> list[str]:
    """Return the command that starts the training package.

    Parameters
    ----------
    what : str
        What needs it, for the message.

    Raises
    ------
    ConfigError
        When it is not installed.
    """
    if importlib.util.find_spec(MODULE) is None:
        raise ConfigError(
            f"{what} needs the training package, which is not installed",
            remedy="Install napari-plimseg again: pip install --force-reinstall napari-plimseg.",
        )
    # -P: "-m" alone would import modules of the current folder first, such as a dataset's torch.py
    return [sys.executable, "-P", "-m", MODULE]


def start_process(command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives the viewer or terminal that started it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell reads them.
    output : Path
        Receives what it prints, errors included. With a pipe instead, the process would die at
        its first print after the viewer closed.

    Returns
    -------
    subprocess.Popen
    """
    environment = dict(os.environ)
    # one core stays free, so that the window keeps responding
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))
    environment["PYTHONIOENCODING"] = "utf-8"
    detached: dict[str, Any] = (
        {"creationflags": _NEW_GROUP_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    )
    with output.open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - no shell, our own interpreter
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            **detached,
        )


def run_command(
    arguments: Sequence[str], program: Sequence[str] | None = None
) -> Generator[dict[str, Any] | None, None, int]:
    """Run a command and yield the JSON objects that it prints.

    Closing the generator ends the process.

    Parameters
    ----------
    arguments : sequence of str
        The command and its options; `--json` is added.
    program : sequence of str, optional
        Started instead of the training package.

    Yields
    ------
    dict or None
        A printed object, or None when nothing was printed for a while, so that the caller can
        cancel.

    Returns
    -------
    int
        The exit code: 0, or 5 when images or tags are wrong, as the objects describe.

    Raises
    ------
    TagError
        When the command failed; with its error message.
    """
    started = training_program() if program is None else list(program)
    with scratch_folder() as folder:
        output = folder / "output.jsonl"
        process = start_process([*started, *arguments, "--json"], output)
        tail, failure, last_line = LineTail(output), "", ""
        try:
            while True:
                running = process.poll() is None
                objects, others = tail.new_objects()
                for found in objects:
                    if found["kind"] == "failed":
                        failure = str(found.get("message", ""))
                    else:
                        yield found
                last_line = others[-1] if others else last_line
                if not running and not objects and not others:
                    break
                yield None
                if running:
                    time.sleep(POLL_SECONDS)
        finally:
            end_process(process)
    code = process.returncode
    if failure or code not in (0, TagError.exit_code):
        raise CommandError(failure or f"The command ended with code {code}. {last_line}".strip())
    return code


class CommandError(TagError):
    """A command of the training package failed; the message is the command's own."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for it: first politely, then, if it does not react, at once."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


EFFORTS = {"quick": 0.3, "balanced": 1.0, "best": 2.5}
"""The factor by which each multiplies the epochs of all stages."""
LABEL_SOURCES = ("auto", "cams", "words", "mean")
"""What pseudo masks are made of: the recipe key `pseudo_masks.source`."""
_STOPPED_CODES = (130, 143)
_LOCK_SECONDS = 1.0
_KEPT_LINES = 20
_UNEXPECTED = (
    "The training stopped unexpectedly{why}. Its work is saved: press Resume to continue from the "
    "last checkpoint."
)
_NOTHING_SAVED = "The training stopped unexpectedly{why} before it saved anything. Start it again."


class TrainingState(Enum):
    """What a training process is doing."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self in (TrainingState.STARTING, TrainingState.RUNNING, TrainingState.STOPPING)


@dataclass(frozen=True)
class TrainingRequest:
    """What to train.

    Parameters
    ----------
    source : Path
        Folder, or CSV file, of tagged images.
    name : str
        Of the model.
    effort : str
        One of `EFFORTS`.
    backbone : str
        Name of an image encoder.
    label_source : str, optional
        One of `LABEL_SOURCES`; None is what the recipe says.
    classes : TissueClasses, optional
        As edited by the user; None uses those of the folder.
    mpp : float, optional
        Pixel size of the images in um; None when the folder states it.
    mask_values : str
        What numbers, colors and names of the masks mean, as typed: "3=stroma, 7=-".

    Raises
    ------
    ConfigError
        When the name, the effort, the source or the pixel size can't be used.
    """

    source: Path
    name: str
    effort: str = "balanced"
    backbone: str = "bundled"
    label_source: str | None = None
    classes: TissueClasses | None = None
    mpp: float | None = None
    mask_values: str = ""

    def __post_init__(self) -> None:
        why_not = name_problem(self.name)
        if why_not:
            raise ConfigError(why_not)
        if self.effort not in EFFORTS:
            raise ConfigError(f"'{self.effort}' is not one of the efforts {', '.join(EFFORTS)}")
        if self.label_source not in (None, *LABEL_SOURCES):
            raise ConfigError(
                f"'{self.label_source}' is not one of the sources {', '.join(LABEL_SOURCES)}"
            )
        if self.mpp is not None and not 0.05 <= self.mpp <= 20:
            raise ConfigError(
                f"a pixel can't be {self.mpp:g} µm", remedy="Typical: 0.25 at 40x, 0.5 at 20x."
            )

    def arguments(self, run_folder: Path) -> list[str]:
        """Write the classes into the run folder and return the command's arguments."""
        set_to: dict[str, Any] = {"name": self.name, "model.backbone": self.backbone}
        if self.label_source is not None:
            set_to["pseudo_masks.source"] = self.label_source
        if self.mpp is not None:
            set_to["data.mpp"] = self.mpp
        if self.classes is not None:
            classes = RunFolder(run_folder).classes
            self.classes.to_yaml(classes)
            set_to["data.classes"] = str(classes)
        options = ["train", str(self.source), "--out", str(run_folder), "--effort", self.effort]
        for key, value in set_to.items():
            options += ["--set", f"{key}={json.dumps(value)}"]
        return [*options, *map_arguments(self.mask_values)]


def map_arguments(typed: str) -> list[str]:
    """Return the arguments for what a user typed about values of masks: "3=stroma, 7=-"."""
    entries = [entry.strip() for entry in re.split(r"[,;\n]", typed)]
    return [word for entry in entries if entry for word in ("--map", entry)]


class TrainingProcess:
    """Watches the training in a run folder, whichever program started it.

    The two processes share only files: the training prints into one and is stopped by another.
    So it can outlive the viewer, and another viewer can attach to it, on every system.

    Parameters
    ----------
    run_folder : Path
    process : subprocess.Popen, optional
        When it was started by this program.
    """

    def __init__(self, run_folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        self.files = RunFolder(run_folder)
        self.history = RunHistory(run_folder)
        self.state = TrainingState.STARTING
        self.error = ""
        self.listed_as = ""
        self.stopping_since = 0.0
        self._process = process
        self._events = LineTail(self.files.progress)
        self._printed = LineTail(self.files.console)
        self._last_lines: list[str] = []
        self._lock_looked_at = 0.0
        self._locked = True

    @classmethod
    def start(
        cls, request: TrainingRequest, run_folder: Path, program: Sequence[str] | None = None
    ) -> TrainingProcess:
        """Start a training in a new folder.

        Raises
        ------
        PlimsegError
            When the folder can't be written or there is no training package.
        """
        _create(run_folder)
        return cls._launch(request.arguments(run_folder), run_folder, program)

    @classmethod
    def resume(cls, run_folder: Path, program: Sequence[str] | None = None) -> TrainingProcess:
        """Resume the training in a folder.

        Raises
        ------
        ConfigError
            When there is nothing to resume.
        """
        if not RunFolder(run_folder).can_resume:
            raise ConfigError(
                "there is no training to resume", path=run_folder, remedy="Start a new one."
            )
        return cls._launch(["train", "--resume", "--out", str(run_folder)], run_folder, program)

    @classmethod
    def _launch(
        cls, arguments: Sequence[str], run_folder: Path, program: Sequence[str] | None
    ) -> TrainingProcess:
        started = training_program() if program is None else list(program)
        files = RunFolder(run_folder)
        with contextlib.suppress(OSError):
            files.stop_file.unlink(missing_ok=True)
        try:
            process = start_process([*started, *arguments, "--json"], files.console)
        except OSError as error:
            raise ConfigError(
                f"the training can't be started ({error.strerror or error})", path=run_folder
            ) from error
        return cls(run_folder, process)

    @property
    def is_ours(self) -> bool:
        """Whether this program started the process."""
        return self._process is not None

    def poll(self) -> bool:
        """Read new events and output; return whether there were any. Never waits."""
        before = self.state
        alive = self.state.is_alive and self._is_alive()
        events, _ = self._events.new_objects()
        for found in events:
            with contextlib.suppress(ValueError):  # a damaged line costs that line only
                self.history.add(Event.from_dict(found))
        printed = self._read_printed()
        if self.state is TrainingState.STARTING and self.history.stage:
            self.state = TrainingState.RUNNING
        if self.state is TrainingState.STOPPING and alive:
            self._request_stop()  # again: a training that is just starting removes old stop files
        if self.state.is_alive and not alive and not events and not printed:
            self._on_end()
        return bool(events) or printed or self.state is not before

    def stop(self) -> None:
        """Ask the training to finish its step, save and exit."""
        if self.state.is_alive and self.state is not TrainingState.STOPPING:
            self.state = TrainingState.STOPPING
            self.stopping_since = time.monotonic()
            self._request_stop()

    def kill(self) -> None:
        """End the process at once; it can resume from its last checkpoint."""
        if self._process is not None and self._process.poll() is None:
            self.state = TrainingState.STOPPING
            self._process.kill()

    def stop_and_wait(self, seconds: float) -> bool:
        """Ask to stop and wait for at most `seconds`; return whether the process ended."""
        self.stop()
        end = time.monotonic() + seconds
        while self.state.is_alive and time.monotonic() < end:
            self.poll()
            time.sleep(0.02)
        return not self.state.is_alive

    def _is_alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        if time.monotonic() - self._lock_looked_at >= _LOCK_SECONDS:
            self._lock_looked_at = time.monotonic()
            self._locked = self.files.is_locked
        return self._locked

    def _read_printed(self) -> bool:
        objects, others = self._printed.new_objects()
        for found in objects:
            if found["kind"] == "failed":
                self.error = str(found.get("message", ""))
            elif found["kind"] == "files" and found.get("listed"):
                self.listed_as = Path(str(found["listed"])).stem
        self._last_lines = [*self._last_lines, *others][-_KEPT_LINES:]
        return bool(objects or others)

    def _request_stop(self) -> None:
        with contextlib.suppress(OSError):
            if not self.files.stop_file.exists():
                self.files.stop_file.touch()

    def _on_end(self) -> None:
        code = None if self._process is None else self._process.returncode
        status = self.files.status()
        last = last_end(self.files.progress)
        if status is RunStatus.FINISHED and code in (None, 0):
            self.state = TrainingState.FINISHED
            self.error = ""
        elif self.state is TrainingState.STOPPING or code in _STOPPED_CODES or last == "stopped":
            self.state = TrainingState.STOPPED
        else:
            self.state = TrainingState.FAILED
            self.error = self.history.error or self.error or self._unexpected(code)

    def _unexpected(self, code: int | None) -> str:
        why = f" (signal {-code})" if code is not None and code < 0 else ""
        if code is not None and code > 0:
            why = f" (code {code})"
        text = (_UNEXPECTED if self.files.can_resume else _NOTHING_SAVED).format(why=why)
        return f"{text} Its last output: {self._last_lines[-1][:200]}" if self._last_lines else text


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder for the training can't be created ({error.strerror or error})",
            path=folder,
            remedy="Free some space, or set PLIMSEG_DATA_DIR to a folder that you can write to.",
        ) from error
