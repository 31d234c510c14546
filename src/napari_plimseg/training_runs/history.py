"""A training so far: its progress, curves, pictures and scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_plimseg.training_runs.events import ENDS, facts_of_line

if TYPE_CHECKING:
    from pathlib import Path

    from napari_plimseg.training_runs.events import Event


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
    """Summary of a training's events, updated with each of them in order.

    Parameters
    ----------
    root : Path or None
        The run folder, in which the pictures are.
    stage : str
        One of `STAGES`; rounds of self-training count as the second stage. Empty before.
    epoch, epochs, step, steps : int
        Of the last event.
    seconds_left : float or None
        Estimate for the stage.
    device : str
    memory_mb : float
        Peak memory so far.
    tags : dict of str to int
        Training windows per tag.
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

    root: Path | None = None
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
        """The current stage, for people."""
        return _TITLES.get(self.stage, "Checking the images")

    @property
    def fraction(self) -> float:
        """Roughly how much of the training is done, 0 to 1."""
        if self.last_kind == "done":
            return 1.0
        if self.stage not in _BEGINS:
            return 0.0
        inside = self.step / self.steps if self.steps else 0.0
        if self.epochs:
            inside = (max(self.epoch - 1, 0) + inside) / self.epochs
        return _BEGINS[self.stage] + _LENGTHS[self.stage] * min(inside, 1.0)

    def add(self, event: Event) -> None:
        """Take one event into account."""
        if event.kind in ENDS:
            self.last_kind = event.kind
        match event.kind:
            case "start":
                self.error, self.seconds_left, self.stage = "", None, ""
                self.device = str(event.data.get("device", ""))
            case "scan":
                tags = event.data.get("tags")
                self.tags = dict(tags) if isinstance(tags, dict) else {}
            case "warning":
                self.warnings = [*self.warnings, event.message][-_KEPT_WARNINGS:]
            case "failed":
                self.error = event.message or "The training failed without an error message."
            case "done":
                self.scores = _finite(event.scores)
            case "preview":
                self._add_picture(str(event.data.get("file", "")))
            case "stage" | "step" | "epoch":
                self._add_progress(event)
        if event.message and event.kind not in ("preview", "checkpoint", "step"):
            self.message = event.message

    def _add_picture(self, path: str) -> None:
        if path:
            path = str(path if self.root is None else self.root / path)
            self.pictures[path] = self.pictures.pop(path, 0) + 1

    def _add_progress(self, event: Event) -> None:
        stage = "stage2" if event.stage.startswith("stage2") else event.stage
        if stage not in STAGES:
            return
        self.stage = stage
        self.epoch, self.epochs = event.epoch, event.epochs
        self.step, self.steps = event.step, event.steps
        left = event.seconds_left
        self.seconds_left = left if left and math.isfinite(left) else None
        self.memory_mb = max(self.memory_mb, event.memory_mb)
        if event.kind == "step" and self.epochs:
            at = self.epoch - 1 + self.step / max(self.steps, 1)
            _extend(self.losses.setdefault(stage, []), at, _finite(event.losses).get("loss"))
        elif event.kind == "epoch":
            self.step = self.steps = 0
            self.epoch = min(self.epoch + 1, self.epochs)
            scores = _finite(event.scores)
            miou = scores.get("miou", scores.get("score"))
            _extend(self.mious.setdefault(stage, []), float(event.epoch), miou)


def _finite(values: dict[str, float]) -> dict[str, float]:
    """Return the values that a curve or a table can show."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _extend(points: list[Point], at: float, value: float | None) -> None:
    """Add a point; a resumed training repeats some of its steps, so later points are replaced."""
    while points and points[-1][0] >= at:
        points.pop()
    if value is not None:
        points.append((at, value))
    if len(points) > _MOST_POINTS:
        del points[: len(points) // 2 : 2]  # old points are closer together than screen pixels


_MOST_BYTES = 1 << 18


class LineTail:
    """Reads the complete lines appended to a file since the last call.

    A line still being written is read once it is complete. A file that became shorter is read
    from its beginning.

    Parameters
    ----------
    path : Path
        It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """Return the lines added, at most a quarter of a megabyte; the next call returns more.

        The limit keeps the window responsive when it attaches to a long training.
        """
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
            return []  # not created yet, or deleted
        end = added.rfind(b"\n") + 1
        if end == 0 and len(added) == _MOST_BYTES:
            end = len(added)  # none of our lines is this long: skip it
        self._offset += end
        return added[:end].decode("utf-8", errors="replace").splitlines()

    def new_objects(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the JSON objects with a "kind" that were added, and all other lines."""
        objects, others = [], []
        for line in self.new_lines():
            facts = facts_of_line(line)
            if facts is not None:
                objects.append(facts)
            elif line.strip():
                others.append(line)
        return objects, others
