"""What the training commands print: lines for people, or JSON lines for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from plimseg_training.events import Event

if TYPE_CHECKING:
    from plimseg_training.evaluation.evaluate import EvaluationProgress

COUNT_SECONDS = 0.5
"""Programs are told how far a pass is no more often."""
_PERCENT = ("miou", "score", "accuracy", "dice", "iou")


class Console:
    """Prints to standard output, and one line that changes to a terminal on standard error.

    Of several processes of one training (torchrun), only the first prints.

    Parameters
    ----------
    as_json : bool
        One JSON object a line on standard output, nothing else there.
    quiet : bool
        Results and errors only.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.failed = False
        self._silent = os.environ.get("RANK", "0") != "0"
        self._changing = 0
        self._counted_at = time.monotonic()

    def event(self, event: Event) -> None:
        """Print what a training says."""
        self.failed = self.failed or event.kind == "failed"
        if self._silent:
            return
        if self.as_json:
            self._line(event.to_json())
        elif event.kind == "step":
            self._change(_step_text(event))
        elif event.kind == "epoch":
            self.say(_epoch_text(event))
        # a failure is raised as well, and printed as an error there
        elif event.message and event.kind not in {"failed", "checkpoint", "preview"}:
            self.say(event.message)

    def evaluated(self, progress: EvaluationProgress) -> None:
        """Show how far an evaluation is."""
        if self.as_json:
            facts = {"done": progress.done, "total": progress.total, "image": progress.name}
            self.facts("progress", facts)
        else:
            self._change(f"{progress.done}/{progress.total} images  {progress.name}")

    def counted(self, what: str, done: int, total: int) -> None:
        """Show how far a pass over files or patches is."""
        if not self.as_json:
            self._change(f"{done}/{total} {what}")
        elif time.monotonic() - self._counted_at >= COUNT_SECONDS:
            self._counted_at = time.monotonic()
            self.facts("counted", {"what": what, "done": done, "total": total})

    def say(self, text: str) -> None:
        """Tell people something; programs don't need it."""
        if not (self.as_json or self.quiet):
            self.result(text)

    def result(self, text: str) -> None:
        """Print what a command was asked for, as text."""
        if not self.as_json and not self._silent:
            self.end_line()
            self._line(text)

    def facts(self, kind: str, facts: dict[str, Any]) -> None:
        """Print a JSON line for programs."""
        if self.as_json and not self._silent:
            self._line(json.dumps({"kind": kind, **facts}, ensure_ascii=False, allow_nan=False))

    def error(self, text: str, code: int) -> None:
        """Print an error: as a JSON line unless the training said it, or on standard error."""
        self.end_line()
        if self._silent:
            return
        if not self.as_json:
            sys.stderr.write(f"plimseg: {text}\n")
        elif not self.failed:
            self._line(Event("failed", message=text, data={"code": code}).to_json())

    def end_line(self) -> None:
        """Take the changing line away."""
        if self._changing:
            sys.stderr.write("\r" + " " * self._changing + "\r")
            sys.stderr.flush()
            self._changing = 0

    def _change(self, text: str) -> None:
        if self.quiet or self._silent or not sys.stderr.isatty():
            return
        shown = text[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + shown.ljust(self._changing))
        sys.stderr.flush()
        self._changing = len(shown)

    def _line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def time_left(seconds: float) -> str:
    """Return a time for people, in steps that do not flicker: "3 min"."""
    if seconds < 60:
        return "under a minute"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _step_text(event: Event) -> str:
    parts = [event.stage]
    if event.epochs:
        parts.append(f"epoch {event.epoch}/{event.epochs}")
    if event.steps:
        parts.append(f"step {event.step}/{event.steps}")
    parts += _numbers(event)
    if event.items_per_second:
        parts.append(f"{event.items_per_second:.1f}/s")
    if event.seconds_left is not None:
        parts.append(f"{time_left(event.seconds_left)} left")
    return "  ".join(parts)


def _epoch_text(event: Event) -> str:
    parts = [event.stage, f"epoch {event.epoch}/{event.epochs}", *_numbers(event)]
    if event.seconds_left:
        parts.append(f"{time_left(event.seconds_left)} left")
    return "  ".join(parts)


def _numbers(event: Event) -> list[str]:
    losses = [f"{name} {value:.4g}" for name, value in event.losses.items()]
    scores = [
        f"{name} {100 * value:.1f} %" if name.endswith(_PERCENT) else f"{name} {value:.4g}"
        for name, value in event.scores.items()
    ]
    return losses + scores
