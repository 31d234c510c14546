"""What a training says while it runs: events as JSON lines, and one history row an epoch."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from napari_plimseg.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


KINDS = (
    "start", "scan", "stage", "step", "epoch", "preview", "checkpoint", "warning", "stopped",
    "done", "failed",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One thing that a training says.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    message : str
        For people.
    stage : str
        "stage1", "pseudo_masks", "stage2", or "" outside of stages.
    epoch, epochs : int
        Epochs begun, from 1, and all epochs; 0 where there are none.
    step, steps : int
        Steps done in this epoch, and all of its steps.
    seconds_left : float or None
        Estimate for the stage; None before there is one.
    losses : dict
        Loss terms by name; means over the epoch in an "epoch" event.
    scores : dict
        Measured on validation images.
    learning_rate : float
        Of the first group of weights.
    items_per_second : float
        Since the last "step" event.
    memory_mb : float
        Most memory so far, of the device or of the process.
    data : dict
        More for programs: a preview's file, a scan's counts.
    time : float
        Seconds since 1970.
    """

    kind: str
    message: str = ""
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    items_per_second: float = 0.0
    memory_mb: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"'{self.kind}' is not a kind of event")

    def to_json(self) -> str:
        """Return one line of strict JSON, without fields that say nothing."""
        said = {
            name: value
            for name, value in asdict(self).items()
            if value not in ("", 0, None, {}) or name == "kind"
        }
        return json.dumps(_finite(said), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Event:
        """Read a line of `to_json`; keys of newer versions are left out.

        Raises
        ------
        ValueError
            When the line is no event.
        """
        data = json.loads(line)
        if not isinstance(data, dict) or "kind" not in data:
            raise ValueError("no event")
        known = {f.name for f in fields(cls)}
        for name in {"losses", "scores"} & set(data):
            data[name] = {key: float(number) for key, number in data[name].items()}
        return cls(**{name: value for name, value in data.items() if name in known})


class ProgressLog:
    """Writes events to the run folder's `progress.jsonl` and, as they come, to a stream.

    Parameters
    ----------
    path : Path
        The file; lines are added to it.
    stream : text stream, optional
        Where a program reads the same lines, for example `sys.stdout`.
    """

    def __init__(self, path: Path, stream: TextIO | None = None) -> None:
        self._path = path
        self._stream = stream
        path.parent.mkdir(parents=True, exist_ok=True)
        # a training that was killed while writing leaves half a line
        if path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def __call__(self, event: Event) -> None:
        """Write one event."""
        line = event.to_json() + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        if self._stream is not None:
            self._stream.write(line)
            self._stream.flush()


def read_events(path: str | Path) -> list[Event]:
    """Return the events in a `progress.jsonl`; torn or foreign lines are left out.

    A missing file holds no events.
    """
    try:
        lines = Path(path).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            events.append(Event.from_json(line))
        except (ValueError, TypeError, AttributeError):
            continue
    return events


def write_history(path: Path, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a stage's rows to `history.csv`, atomically; rows of other stages stay.

    Parameters
    ----------
    path : Path
        The file.
    stage : str
        Its old rows are replaced.
    rows : sequence of mappings
        One an epoch; the columns are those of all rows together.
    """
    kept = [row for row in read_history(path) if row.get("stage") != stage]
    everything = [*kept, *({"stage": stage, **row} for row in rows)]
    columns = list(dict.fromkeys(name for row in everything for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(everything)


def read_history(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a `history.csv` as text, cells that are empty left out."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    return [{name: cell for name, cell in row.items() if name and cell} for row in rows]


def memory_mb(device_type: str) -> float:
    """Return the most memory used so far: of a CUDA device, else of this process; 0 if unknown."""
    if device_type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)


def _finite(value: Any) -> Any:
    """Return plain data in which numbers that JSON lacks are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
