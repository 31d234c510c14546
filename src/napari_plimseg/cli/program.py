"""The command `plimseg`: assembled from one module per command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_plimseg._version import __version__
from napari_plimseg.cli import demo, export, info, models, objects, segment, train
from napari_plimseg.cli.console import TRAINING_COMMANDS, Output, make_parser, run_program
from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = (info, segment, export, objects, models, demo, train)
"""Modules with `add_parser(commands)`, in the order of `plimseg --help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given and given[0] in TRAINING_COMMANDS:
        # before anything is parsed: the trainer's options are the trainer's business
        try:
            return train.run_training_command(given, replace_process=arguments is None)
        except PlimsegError as error:
            Output().error(str(error))
            return error.exit_code
    return run_program(build_parser(), given, Output)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = make_parser("Tissue maps of H&E slides.", segment.EXIT_CODES, COMMANDS)
    parser.add_argument("--version", action="version", version=f"plimseg {__version__}")
    return parser
