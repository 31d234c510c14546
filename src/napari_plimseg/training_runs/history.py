"""What a training has told so far: how far it is, its curves, pictures and scores."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


Point = tuple[float, float]

STAGES = ("stage1", "pseudo_masks", "stage2")
_BEGINS = {"stage1": 0.05, "pseudo_masks": 0.45, "stage2": 0.5}
_LENGTHS = {"stage1": 0.4, "pseudo_masks": 0.05, "stage2": 0.5}
_TITLES = {
    "stage1": "Learning the tags (1 of 2)",
    "pseudo_masks": "Making pseudo masks",
    "stage2": "Learning the masks (2 of 2)",
}
_KEPT_WARNINGS = 20
_MOST_POINTS = 4000


@dataclass
class RunHistory:
    """Grows with the events of a training, in the order in which they were told.

    Parameters
    ----------
    stage : str
        One of `STAGES`; rounds of self-training count as the second stage. Empty before.
    epoch, epochs, step, steps : int
        As the last event told.
    seconds_left : float or None
        Estimate for the stage.
    device : str
    memory_mb : float
        Most memory used so far.
    tags : dict of str to int
        Windows of each tag that are trained on.
    message, error : str
        The last message for people; why the training failed.
    warnings : list of str
    scores : dict of str to float
        Of the finished model, in percent.
    losses, mious : dict of str to list of (float, float)
        Epoch and value by stage. mIoU (0 to 1) is known only where there are expert masks.
    pictures : dict of str to int
        Paths, with how often each was drawn; the last one drawn comes last.
    last_kind : str
        "start", "stopped", "done" or "failed", whichever came last.
    """

    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    device: str = ""
    memory_mb: float = 0.0
    tags: dict[str, int] = field(default_factory=dict)
    message: str = ""
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    losses: dict[str, list[Point]] = field(default_factory=dict)
    mious: dict[str, list[Point]] = field(default_factory=dict)
    pictures: dict[str, int] = field(default_factory=dict)
    last_kind: str = ""

    @property
    def title(self) -> str:
        """What goes on, for people."""
        return _TITLES.get(self.stage, "Checking the images")

    @property
    def fraction(self) -> float:
        """Roughly how much of everything is done, 0 to 1."""
        if self.last_kind == "done":
            return 1.0
        if self.stage not in _BEGINS:
            return 0.0
        inside = self.step / self.steps if self.steps else 0.0
        if self.epochs:
            inside = (max(self.epoch - 1, 0) + inside) / self.epochs
        return _BEGINS[self.stage] + _LENGTHS[self.stage] * min(inside, 1.0)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event; what is missing or of another type in it is left out."""
        kind = event["kind"]
        told = _Told(event)
        if kind in ("start", "stopped", "done", "failed"):
            self.last_kind = kind
        stage = "stage2" if told.text("stage").startswith("stage2") else told.text("stage")
        if kind == "start":
            self.error, self.seconds_left, self.stage = "", None, ""
            self.device = str(told.mapping("data").get("device", ""))
        elif kind == "scan":
            tags = told.mapping("data").get("tags")
            self.tags = dict(tags) if isinstance(tags, dict) else {}
        elif kind == "warning":
            self.warnings = [*self.warnings, told.text("message")][-_KEPT_WARNINGS:]
        elif kind == "failed":
            self.error = told.text("message") or "The training failed without saying why."
        elif kind == "done":
            self.scores = told.numbers("scores")
        elif kind == "preview":
            self._add_picture(str(told.mapping("data").get("file", "")))
        elif kind in ("stage", "step", "epoch") and stage in STAGES:
            self._add_progress(kind, stage, told)
        if kind not in ("preview", "checkpoint", "step") and told.text("message"):
            self.message = told.text("message")

    def _add_picture(self, path: str) -> None:
        if path:
            self.pictures[path] = self.pictures.pop(path, 0) + 1

    def _add_progress(self, kind: str, stage: str, told: _Told) -> None:
        self.stage = stage
        for name in ("epoch", "epochs", "step", "steps"):
            setattr(self, name, int(told.number(name)))
        left = told.number("seconds_left")
        self.seconds_left = left or None
        self.memory_mb = max(self.memory_mb, told.number("memory_mb"))
        if kind == "step" and self.epochs:
            at = self.epoch - 1 + self.step / max(self.steps, 1)
            _continue(self.losses.setdefault(stage, []), at, told.numbers("losses").get("loss"))
        elif kind == "epoch":
            self.step = self.steps = 0
            self.epoch = min(self.epoch + 1, self.epochs)
            scores = told.numbers("scores")
            miou = scores.get("miou", scores.get("score"))
            _continue(self.mious.setdefault(stage, []), told.number("epoch"), miou)


class _Told:
    """An event whose values may be of any type."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event

    def text(self, name: str) -> str:
        value = self._event.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> float:
        value = self._event.get(name)
        usable = isinstance(value, int | float) and math.isfinite(value)
        return float(value) if usable and value is not None else 0.0

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._event.get(name)
        return value if isinstance(value, dict) else {}

    def numbers(self, name: str) -> dict[str, float]:
        return {
            key: float(value)
            for key, value in self.mapping(name).items()
            if isinstance(value, int | float) and math.isfinite(value)
        }


def _continue(points: list[Point], at: float, value: float | None) -> None:
    """Add a point; a training that was resumed does some of its steps again."""
    while points and points[-1][0] >= at:
        points.pop()
    if value is not None:
        points.append((at, value))
    if len(points) > _MOST_POINTS:
        del points[: len(points) // 2 : 2]  # old points stand closer than a screen shows


_MOST_BYTES = 1 << 18


class LineTail:
    """Gives the whole lines that were added since the last time.

    A line that is still being written waits for its end. A file that became shorter is read from
    its beginning.

    Parameters
    ----------
    path : Path
        It need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """Return the lines added, a quarter of a megabyte at most; the rest comes the next time."""
        try:
            size = self._path.stat().st_size
            if size < self._offset:
                self._offset = 0
            if size == self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read(_MOST_BYTES)
        except OSError:
            return []  # not there yet, or gone: there is nothing to read
        end = added.rfind(b"\n") + 1
        if end == 0 and len(added) == _MOST_BYTES:
            end = len(added)  # no line of ours is so long
        self._offset += end
        return added[:end].decode("utf-8", errors="replace").splitlines()

    def new_objects(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the JSON objects added, and the lines that are none."""
        objects, others = [], []
        for line in self.new_lines():
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if isinstance(value, dict) and isinstance(value.get("kind"), str):
                objects.append(value)
            elif line.strip():
                others.append(line)
        return objects, others
