"""The commands `plimseg train | evaluate | scan | cut`, also as `python -m plimseg_training`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.program import common_options
from napari_plimseg.errors import PlimsegError
from plimseg_training.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_INTERRUPTED = 130
_EPILOG = """exit codes: 0 done, 1 unexpected error, 2 wrong option or recipe, 3 slide can't be
opened, 4 model can't be used, 5 images or tags are wrong, 6 run folder damaged or disk full,
130 stopped (what is done is kept).
For research use only; not a medical device."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a training command and return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    console = Console(as_json=options.json, quiet=options.quiet)
    command: Callable[[argparse.Namespace, Console], int] = options.command
    try:
        return command(options, console)
    except KeyboardInterrupt:
        console.error("interrupted", EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    except PlimsegError as error:
        if options.verbose:
            logging.getLogger(__name__).exception("what led to the error")
        console.error(str(error), error.exit_code)
        return error.exit_code
    except BrokenPipeError:
        # the reader of our output has left (`| head`): nothing to say and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.verbose:
            raise
        text = f"unexpected error: {error or type(error).__name__} ({type(error).__name__})."
        console.error(f"{text} Run it again with --verbose and report what it prints.", 1)
        return 1


def _parser() -> argparse.ArgumentParser:
    common = common_options()

    parser = argparse.ArgumentParser(
        prog="plimseg",
        description="Train tissue segmentation from image-level tags.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands, common)
    _add_evaluate(commands, common)
    _add_scan(commands, common)
    _add_cut(commands, common)
    return parser


def _add_train(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    from plimseg_training.config.shipped import EFFORTS

    train = commands.add_parser(
        "train",
        parents=[common],
        help="train a model from tagged images",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument(
        "source",
        nargs="?",
        metavar="RECIPE|FOLDER",
        help="a recipe (YAML file, or the name of one that comes along), or a folder of tagged "
        "images for the default recipe; not needed with --resume and --out",
    )
    train.add_argument("--out", type=Path, help="run folder (default: runs/NAME OF THE RECIPE)")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe: --set stage1.epochs=2; may be repeated",
    )
    train.add_argument(
        "--effort", choices=tuple(EFFORTS), default="balanced", help="how long (default: balanced)"
    )
    train.add_argument("--resume", action="store_true", help="go on in a run folder")
    train.add_argument(
        "--list",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="copy the model to the list of models when done (default)",
    )
    train.add_argument(
        "--dry-run", action="store_true", help="check the images and say what would be trained"
    )
    train.set_defaults(command=_train)


def _add_evaluate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    evaluate = commands.add_parser(
        "evaluate", parents=[common], help="score a model on images with known masks"
    )
    evaluate.add_argument("model", metavar="MODEL", help="a name of `plimseg models`, or a file")
    evaluate.add_argument("data", type=Path, metavar="DATA", help="folder of images and masks")
    evaluate.add_argument(
        "--protocol",
        default="all",
        help="A (tissue only), B (background counted), C (oracle tags), oeem, or all (default)",
    )
    evaluate.add_argument("--tta", action="store_true", help="also average over flips and turns")
    evaluate.add_argument(
        "--gate",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave classes out where the model does not see them (default: as its file says)",
    )
    _add_data_options(evaluate)
    evaluate.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="'MODEL CLASS=DATA CLASS'",
        help="match classes whose names differ; '*=CLASS' for all others, 'CLASS=-' leaves one "
        "out; may be repeated",
    )
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    evaluate.add_argument("--tile-size", type=int, default=1024, help="pixels (default 1024)")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write the scores as JSON")
    evaluate.add_argument(
        "--per-image", type=Path, metavar="FILE", help="write the scores of each image as CSV"
    )
    evaluate.set_defaults(command=_evaluate)


def _add_scan(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    scan = commands.add_parser(
        "scan", parents=[common], help="check a folder of tagged images and count its tags"
    )
    scan.add_argument("folder", type=Path, metavar="FOLDER")
    _add_data_options(scan)
    scan.set_defaults(command=_scan)


def _add_cut(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    cut = commands.add_parser(
        "cut", parents=[common], help="cut tagged patches out of annotated slides or images"
    )
    cut.add_argument("source", type=Path, metavar="SOURCE", help="a slide or an image")
    cut.add_argument(
        "annotation", type=Path, metavar="ANNOTATION", help="its GeoJSON outlines or its mask"
    )
    cut.add_argument("--out", type=Path, required=True, help="folder for the patches")
    cut.add_argument("--classes", required=True, help="a preset's name or a YAML file")
    cut.add_argument("--patch", type=int, default=224, help="side in pixels (default 224)")
    cut.add_argument("--stride", type=int, help="step in pixels (default: the patch's side)")
    cut.add_argument(
        "--mpp", type=float, help="um per pixel of the patches (default: the source's)"
    )
    cut.add_argument(
        "--source-mpp", type=float, help="um per pixel of the source, where its file lacks it"
    )
    cut.add_argument(
        "--share", type=float, default=0.05, help="least part of a patch for a tag (default 0.05)"
    )
    cut.add_argument(
        "--unknown",
        type=float,
        default=0.25,
        help="largest part of a patch that nobody annotated (default 0.25)",
    )
    cut.add_argument(
        "--windows",
        action="store_true",
        help="write no images, only windows of the source into tags.csv",
    )
    cut.set_defaults(command=_cut)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layout", default="auto", help="layout of the folder (default: auto)")
    parser.add_argument("--classes", default="auto", help="a preset's name or a YAML file")
    parser.add_argument("--mpp", type=float, help="um per pixel of the images")
    parser.add_argument(
        "--part",
        choices=("auto", "train", "validation", "test"),
        default="auto",
        help="which part of a data set that has parts",
    )


def _train(options: argparse.Namespace, console: Console) -> int:
    from plimseg_training.commands import run_train

    return run_train(options, console)


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    from plimseg_training.commands import run_evaluate

    return run_evaluate(options, console)


def _scan(options: argparse.Namespace, console: Console) -> int:
    from plimseg_training.commands import run_scan

    return run_scan(options, console)


def _cut(options: argparse.Namespace, console: Console) -> int:
    from plimseg_training.commands import run_cut

    return run_cut(options, console)


if __name__ == "__main__":
    sys.exit(main())
