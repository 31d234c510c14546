"""`plimseg demo`: segment the sample slide and show the result."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import add_command, exit_code
from napari_plimseg.cli.export import parse_formats
from napari_plimseg.cli.segment import job_from_options, segment_options, segment_slides

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.console import Commands, Output


def add_parser(commands: Commands) -> None:
    """Add `plimseg demo`."""
    parser = add_command(
        commands, "demo", _run, help="segment the sample slide and show the result"
    )
    parser.add_argument("--out", type=Path, default=Path("demo-results"), help="folder for results")
    parser.add_argument("--no-viewer", action="store_true", help="do not open napari")


def _run(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg._sample_data import SAMPLE_PATH

    job = job_from_options(
        segment_options([str(SAMPLE_PATH), "--out", str(options.out), "--probabilities"]),
        parse_formats("all"),
    )
    failures = segment_slides(job, [SAMPLE_PATH], [SAMPLE_PATH.stem], output)
    if not failures and not options.no_viewer:
        show_result(SAMPLE_PATH, options.out / f"{SAMPLE_PATH.stem}.plimseg", output)
    return exit_code(failures, 1)


def show_result(path: Path, store: Path, output: Output) -> None:
    """Open napari with a slide and its mask, or print why that is not possible.

    Parameters
    ----------
    path : Path
        The slide.
    store : Path
        Its mask store.
    output : Output
    """
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        output.say("There is no screen, so the viewer is not opened. Look at the overlay picture.")
        return
    try:
        from napari_plimseg._widgets.open_in_viewer import show_slide_and_mask
    except ImportError as error:
        output.say(
            f"The viewer needs napari with a Qt binding (pip install 'napari[all]'): {error}"
        )
        return
    show_slide_and_mask(path, store)
