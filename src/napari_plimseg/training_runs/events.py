"""The lines of a training's `progress.jsonl`: the trainer writes them, docks and reports read."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_plimseg.reading import UnreadableError, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping


EventKind = Literal[
    "start", "scan", "stage", "step", "epoch", "preview", "checkpoint", "warning", "stopped",
    "done", "failed",
]  # fmt: skip
KINDS: tuple[EventKind, ...] = get_args(EventKind)
ENDS: tuple[EventKind, ...] = ("start", "stopped", "done", "failed")
"""Kinds that change a run's status; the last one in the file counts."""


@dataclass(frozen=True)
class Event:
    """One message of a training.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    message : str
        For people.
    stage : str
        "stage1", "pseudo_masks", "stage2", or "" outside of stages.
    epoch, epochs : int
        The current epoch, from 1, and the number of epochs; 0 where there are none.
    step, steps : int
        Steps done in this epoch, and steps per epoch.
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
        Peak memory so far, of the device or of the process.
    data : dict
        Further facts for programs: a preview's file, a scan's counts.
    time : float
        Seconds since 1970.

    Raises
    ------
    ValueError
        When the kind is unknown.
    """

    kind: EventKind
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
        """Return one line of strict JSON, without empty fields."""
        filled = {
            name: value
            for name, value in asdict(self).items()
            if value not in ("", 0, None, {}) or name == "kind"
        }
        return json.dumps(_strict(filled), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Event:
        """Read a line of `to_json`.

        Raises
        ------
        ValueError
            When the line is no event.
        """
        try:
            return cls.from_dict(parse_json(line, UnreadableError))
        except UnreadableError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Event:
        """Build from a parsed line; keys of newer versions are ignored.

        Raises
        ------
        ValueError
            When it is no event, or a value has the wrong type.
        """
        try:
            known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
            for name in known:
                known[name] = _READERS[name](known[name])
            return cls(**known)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not an event ({error})") from error


def facts_of_line(line: str) -> dict[str, Any] | None:
    """Return the JSON object with a "kind" in a line that the trainer printed, or None."""
    try:
        found: dict[str, Any] = parse_json(line, UnreadableError, finite=False)
    except UnreadableError:
        return None
    return found if isinstance(found.get("kind"), str) else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _numbers(value: Any) -> dict[str, float]:
    return {name: float(number) for name, number in value.items()}


_READERS: dict[str, Any] = {
    **dict.fromkeys(("kind", "message", "stage"), _text),
    **dict.fromkeys(("epoch", "epochs", "step", "steps"), int),
    **dict.fromkeys(("learning_rate", "items_per_second", "memory_mb", "time"), float),
    **dict.fromkeys(("losses", "scores"), _numbers),
    "seconds_left": lambda value: None if value is None else float(value),
    "data": lambda value: dict(value.items()),
}


def _strict(value: Any) -> Any:
    """Return plain data in which numbers that JSON lacks (NaN, infinity) are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _strict(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return value
