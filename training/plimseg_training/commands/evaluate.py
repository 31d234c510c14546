"""`plimseg evaluate`: score a model on images with known masks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import add_command
from napari_plimseg.cli.train import COMMANDS
from napari_plimseg.errors import ConfigError
from napari_plimseg.files import write_json
from plimseg_training.commands.scan import add_data_options, scanned_by_options

if TYPE_CHECKING:
    from napari_plimseg.cli.console import Commands
    from plimseg_training.console import TrainingConsole


def add_parser(commands: Commands) -> None:
    """Add `plimseg evaluate`."""
    parser = add_command(commands, "evaluate", _run, help=COMMANDS["evaluate"])
    parser.add_argument("model", metavar="MODEL", help="a name of `plimseg models`, or a file")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of images and masks")
    parser.add_argument(
        "--protocol",
        default="all",
        help="A (tissue only), B (background counted), C (oracle tags), oeem, or all (default)",
    )
    parser.add_argument("--tta", action="store_true", help="also average over flips and rotations")
    parser.add_argument(
        "--gate",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave out classes where the model does not see them (default: as in its file)",
    )
    add_data_options(parser)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="'MODEL CLASS=DATA CLASS'",
        help="match classes with different names; '*=CLASS' for all others, 'CLASS=-' ignores "
        "one; may be repeated",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--tile-size", type=int, default=1024, help="pixels (default 1024)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores as JSON")
    parser.add_argument(
        "--per-image", type=Path, metavar="FILE", help="write the scores of each image as CSV"
    )


def _run(options: argparse.Namespace, console: TrainingConsole) -> int:
    from plimseg_training.data.layouts import has_part
    from plimseg_training.evaluation.scoring import evaluate, parse_class_map
    from plimseg_training.evaluation.text import evaluation_text, write_image_scores

    if options.tile_size < 32:
        raise ConfigError(f"--tile-size {options.tile_size} is too small", remedy="Choose 1024.")
    class_map = parse_class_map(options.map)
    part = options.part
    if part == "auto":
        parts = (p for p in ("test", "validation") if has_part(options.data, p))
        part = next(parts, "train")
    folder = scanned_by_options(options, options.data, part, console).raise_if_fatal()
    found = evaluate(
        options.model,
        folder,
        protocol=options.protocol,
        tta=options.tta,
        device=options.device,
        class_map=class_map,
        tile_size=options.tile_size,
        gate=options.gate,
        on_progress=console.evaluated,
    )
    console.facts("evaluation", found.to_dict())
    console.text(evaluation_text(found))
    if options.out is not None:
        write_json(options.out, found.to_dict())
    if options.per_image is not None:
        write_image_scores(options.per_image, found)
    return 0
