"""What a training writes while it runs: events as JSON lines, and one history row per epoch."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from napari_plimseg.files import atomic_write, disk_errors
from napari_plimseg.tables import csv_text, read_csv
from napari_plimseg.training_runs import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_PATH = re.compile(
    r"(?<![\w./\\~-])"
    r"(?:[A-Za-z]:[\\/]|\\\\|~[\w.-]*[\\/]|/(?=[^\s/]+/))"  # C:\, \\server, ~user/, /folder/
    r"(?:[^\n'\"<>|:*?]*[\\/])?"
)


def without_folders(text: str) -> str:
    """Return a text with file names in place of paths: folders are named after users and patients.

    Of a path, everything up to its last separator is left out, spaces included, as far as quotation
    marks and colons allow. So are the names of the user's own folder.
    """
    with contextlib.suppress(RuntimeError):  # a user without a home
        # not inside of a longer path, which would lose its separator
        text = re.sub(rf"(?<![\w.-]){re.escape(f'{Path.home()}{os.sep}')}", "", text)
    return _PATH.sub("", text)


class ProgressLog:
    """Appends events to the run folder's `progress.jsonl` and, at once, to a stream.

    Parameters
    ----------
    path : Path
        The file; lines are appended to it.
    stream : text stream, optional
        Where a program reads the same lines, for example `sys.stdout`.
    """

    def __init__(self, path: Path, stream: TextIO | None = None) -> None:
        self._path = path
        self._stream = stream
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # a training killed while writing leaves half a line; end it, so that only that line is
            # lost
            if path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    def __call__(self, event: Event) -> None:
        """Write one event; raises DiskError when the disk is full."""
        line = event.to_json() + "\n"
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        if self._stream is not None:
            self._stream.write(line)
            self._stream.flush()


def read_events(path: str | Path) -> list[Event]:
    """Return the events in a `progress.jsonl`; incomplete and unknown lines are skipped.

    A missing file holds no events.
    """
    if not Path(path).is_file():  # opening a pipe would wait forever
        return []
    try:
        lines = Path(path).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            events.append(Event.from_json(line))
        except ValueError:
            continue
    return events


def write_history(path: Path, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a stage's rows to `history.csv`, atomically; other stages' rows are kept.

    Parameters
    ----------
    path : Path
        The file.
    stage : str
        Its old rows are replaced.
    rows : sequence of mappings
        One per epoch; the columns are those of all rows together.
    """
    kept = [
        {name: _as_number(cell) for name, cell in row.items()}
        for row in read_history(path)
        if row.get("stage") != stage
    ]
    everything = [*kept, *({"stage": stage, **row} for row in rows)]
    columns = list(dict.fromkeys(name for row in everything for name in row))
    cells = [[row.get(name, "") for name in columns] for row in everything]
    with atomic_write(path) as temporary:
        temporary.write_text(csv_text([columns, *cells], end="\r\n"), "utf-8", newline="")


def read_history(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a `history.csv` as text, without empty cells."""
    try:
        # a damaged curve must not stop a training that could resume
        text = Path(path).read_bytes().decode("utf-8", errors="replace")
        header, *rows = read_csv(text) or [[]]
    except FileNotFoundError:
        return []
    named = (zip(header, row, strict=False) for row in rows)
    return [{name: cell for name, cell in row if name and cell} for row in named]


def _as_number(cell: str) -> str | float:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return int(cell) if cell.lstrip("-").isdecimal() else number


def memory_mb(device_type: str) -> float:
    """Return the peak memory so far: of a CUDA device, else of this process; 0 if unknown."""
    if device_type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)
