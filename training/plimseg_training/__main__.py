"""`python -m plimseg_training`: the program behind `plimseg train | evaluate | scan | cut`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import make_parser, run_program
from plimseg_training.commands import cut, evaluate, scan, train
from plimseg_training.console import TrainingConsole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = (train, evaluate, scan, cut)
"""Modules with `add_parser(commands)`, in the order of `--help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a training command and return the exit code."""
    return run_program(build_parser(), arguments, TrainingConsole)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all training commands."""
    what = "Train tissue segmentation from image-level tags."
    return make_parser(what, train.EXIT_CODES, COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
