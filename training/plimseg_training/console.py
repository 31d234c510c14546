"""What the training commands print: text for people, or JSON lines for programs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import Console
from napari_plimseg.training_runs import Event

if TYPE_CHECKING:
    import argparse

    from plimseg_training.evaluation import EvaluationProgress

LINE_SECONDS = 20.0
"""Time between two lines about progress where no line can change: in a file or a pipe."""
COUNT_SECONDS = 0.5
"""Shortest time between two JSON lines about the progress of a pass."""
_PERCENT = ("miou", "score", "accuracy", "dice", "iou")


class TrainingConsole(Console):
    """Prints events, counts and tables of the training commands.

    Of several processes of one training (torchrun), only the first prints.

    Parameters
    ----------
    as_json, quiet : bool
        As of `Console`.
    """

    kind_key = "kind"

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        super().__init__(as_json=as_json, quiet=quiet)
        self._failure_printed = False
        self._silent = os.environ.get("RANK", "0") != "0"
        self._shown = 0
        self._counted_at = time.monotonic()
        self._written_at = time.monotonic()

    def event(self, event: Event) -> None:
        """Print an event of a training."""
        self._failure_printed = self._failure_printed or event.kind == "failed"
        if self.as_json:
            self._line(event.to_json())
        elif event.kind == "step":
            self._show(_step_text(event))
        elif event.kind == "epoch":
            self.say(_epoch_text(event))
        # a failure is raised as well, and printed as an error there
        elif event.message and event.kind not in {"failed", "checkpoint", "preview"}:
            self.say(event.message)

    def evaluated(self, progress: EvaluationProgress) -> None:
        """Show the progress of an evaluation."""
        if self.as_json:
            facts = {
                "done": progress.done,
                "total": progress.total,
                "image": progress.name,
                "seconds_left": round(progress.seconds_left, 1),
            }
            self.facts("progress", facts)
        else:
            left = f"  {time_left(progress.seconds_left)} left" if progress.seconds_left else ""
            self._show(f"{progress.done}/{progress.total} images  {progress.name}{left}")

    def counted(self, what: str, done: int, total: int) -> None:
        """Show the progress of a pass over files or patches."""
        if not self.as_json:
            self._show(f"{done}/{total} {what}")
        elif time.monotonic() - self._counted_at >= COUNT_SECONDS:
            self._counted_at = time.monotonic()
            self.facts("counted", {"what": what, "done": done, "total": total})

    def error(self, text: str, *, code: int | None = None, slide: str | None = None) -> None:
        """Print an error, unless another process does."""
        if not self._silent:
            super().error(text, code=code, slide=slide)

    def end_progress(self) -> None:
        """Clear the changing line."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0

    def _json_error(self, text: str, code: int | None, slide: str | None) -> None:
        if not self._failure_printed:  # as an event of the training
            self._line(Event("failed", message=text, data={"code": code}).to_json())

    def _show(self, text: str) -> None:
        """Replace the changing line of a terminal; elsewhere write a line from time to time."""
        if self.quiet or self._silent:
            return
        if not sys.stderr.isatty():
            if time.monotonic() - self._written_at >= LINE_SECONDS:
                self._written_at = time.monotonic()
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
            return
        fitting = text[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + fitting.ljust(self._shown))
        sys.stderr.flush()
        self._shown = len(fitting)

    def _line(self, text: str) -> None:
        if not self._silent:
            super()._line(text)


def add_map_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what names, numbers and colors of annotations mean."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="NAME=CLASS",
        help="the class of a name, a number (3=stroma) or a color (#0000ff=stroma) of the "
        "annotation that is no class; '*=CLASS' for all others; may be repeated",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a name, number or color that counts as not annotated; '*' for all others",
    )


def time_left(seconds: float) -> str:
    """Return a duration for people, coarse enough not to flicker: "3 min"."""
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
