"""`plimseg demo`: segment the sample slides, say how far they are right, and show the result."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.cli.console import add_command, exit_code
from napari_plimseg.cli.export import parse_formats
from napari_plimseg.cli.segment import job_from_options, segment_options, segment_slides

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.console import Commands, Output


def add_parser(commands: Commands) -> None:
    """Add `plimseg demo`."""
    parser = add_command(
        commands, "demo", _run, help="segment the sample slides and show the result"
    )
    parser.add_argument("--out", type=Path, default=Path("demo-results"), help="folder for results")
    parser.add_argument("--no-viewer", action="store_true", help="do not open napari")


def _run(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg._sample_data import COLORECTAL_TILES, SKIN

    failures: list[int] = []
    for sample in (COLORECTAL_TILES, SKIN):
        slide, model = str(sample.path), sample.model
        job = job_from_options(
            segment_options(
                [slide, "--out", str(options.out), "--probabilities", "--model", model]
            ),
            parse_formats("all"),
        )
        failures += segment_slides(job.loaded(), [sample.path], [sample.path.stem], output)
    if failures:
        return exit_code(failures, 2)
    output.say(agreement(_store(options.out, COLORECTAL_TILES.path)))
    output.say(
        "The skin model knows only the tags of 88 tiles of this very slide: epidermis, keratin, "
        "dermis, glass. Its model card says what it gets wrong."
    )
    if not options.no_viewer:
        show_result(SKIN.path, _store(options.out, SKIN.path), output)
    return 0


def _store(folder: Path, slide: Path) -> Path:
    from napari_plimseg.results import SUFFIX

    return folder / f"{slide.stem}{SUFFIX}"


def agreement(store: Path) -> str:
    """Return how many tiles of the colorectal sample have their known class, as text.

    A tile has the class that most of its pixels have.

    Parameters
    ----------
    store : Path
        The sample's mask store.
    """
    from napari_plimseg._sample_data import known_tiles
    from napari_plimseg.results import MaskStore, mask_to_export

    mask, info = mask_to_export(MaskStore.open(store))
    right: Counter[str] = Counter()
    known: Counter[str] = Counter()
    step = info.downsample
    for tile in known_tiles():
        top, left, end = (round(value / step) for value in (tile.y, tile.x, tile.side))
        part = mask[top : top + end, left : left + end]
        largest = int(np.bincount(part.ravel(), minlength=len(info.classes) + 1)[1:].argmax())
        known[tile.tissue] += 1
        right[tile.tissue] += info.classes.names[largest] == tile.tissue
    each = ", ".join(f"{name} {right[name]} of {count}" for name, count in known.items())
    return (
        f"Colorectal tiles, which no shipped model was trained on: "
        f"{right.total()} of {known.total()} have their known class ({each})."
    )


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
