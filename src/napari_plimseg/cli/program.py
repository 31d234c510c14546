"""The command line: `plimseg info | segment | export | models | demo | train | evaluate | ...`."""

from __future__ import annotations

import argparse
import glob
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg import __version__
from napari_plimseg.cli.models import add_models_parser
from napari_plimseg.cli.train import COMMANDS as TRAINING_COMMANDS
from napari_plimseg.cli.train import run_training_command
from napari_plimseg.errors import ConfigError, PlimsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_plimseg.cli.output import Output


EXIT_SOME_FAILED = 8
EXIT_INTERRUPTED = 130
_EPILOG = """exit codes: 0 done, 1 unexpected error, 2 wrong option, 3 slide can't be opened,
4 model can't be used, 6 mask store damaged or disk full, 7 export can't be written,
8 some of several slides failed (the others are done), 130 interrupted (what is done is kept).
For research use only; not a medical device."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given and given[0] in TRAINING_COMMANDS:
        try:
            return run_training_command(given, replace_process=arguments is None)
        except PlimsegError as error:
            sys.stderr.write(f"plimseg: {error}\n")
            return error.exit_code
    options = _parser().parse_args(given)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    from napari_plimseg.cli.output import Output

    output = Output(as_json=options.json, quiet=options.quiet)
    command: Callable[[argparse.Namespace, Output], int] = options.command
    try:
        return command(options, output)
    except KeyboardInterrupt:
        output.error("interrupted; what is finished is kept, run the command again to go on")
        return EXIT_INTERRUPTED
    except PlimsegError as error:
        output.error(str(error), code=error.exit_code)
        return error.exit_code
    except BrokenPipeError:
        # the reader of our output has left (`| head`): nothing to say and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def common_options() -> argparse.ArgumentParser:
    """Return the options that every command has."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object a line")
    common.add_argument("--quiet", action="store_true", help="print results and errors only")
    common.add_argument("--verbose", action="store_true", help="print what the libraries say")
    return common


def _parser() -> argparse.ArgumentParser:
    common = common_options()

    parser = argparse.ArgumentParser(
        prog="plimseg",
        description="Tissue maps of H&E slides.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"plimseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", parents=[common], help="say what a slide is")
    info.add_argument("slides", nargs="+", metavar="SLIDE")
    info.set_defaults(command=_info)

    segment = commands.add_parser(
        "segment",
        parents=[common],
        help="segment slides and export the masks",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    segment.add_argument("slides", nargs="+", metavar="SLIDE", help="files, folders or patterns")
    _add_run_options(segment)
    segment.set_defaults(command=_segment)

    export = commands.add_parser("export", parents=[common], help="export a finished mask")
    export.add_argument("mask", metavar="MASK", help="a .plimseg folder or a label TIFF of ours")
    export.add_argument("--slide", help="the slide itself, for the overlay picture")
    export.add_argument(
        "--corrections",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with what a person painted over the mask, where the folder holds it (default)",
    )
    _add_export_options(export)
    export.set_defaults(command=_export)

    objects = commands.add_parser(
        "objects",
        parents=[common],
        help="write what you corrected as images with outlines, to train points and boxes on",
    )
    objects.add_argument("mask", type=Path, metavar="MASK", help="a .plimseg folder")
    objects.add_argument("--slide", required=True, help="the slide itself")
    objects.add_argument(
        "--out", type=Path, required=True, help="folder; it may hold those of other slides"
    )
    objects.set_defaults(command=_objects)

    models = commands.add_parser(
        "models", parents=[common], help="list, import, remove or download models"
    )
    add_models_parser(models, common)

    demo = commands.add_parser(
        "demo", parents=[common], help="segment the sample slide and show the result"
    )
    demo.add_argument("--out", type=Path, default=Path("demo-results"), help="folder for results")
    demo.add_argument("--no-viewer", action="store_true", help="do not open napari")
    demo.set_defaults(command=_demo)
    for name, what in TRAINING_COMMANDS.items():  # for the list that --help prints
        commands.add_parser(name, help=what)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model and classes")
    model.add_argument("--model", default="bundled", help="a name of `plimseg models`, or a file")
    model.add_argument(
        "--classes",
        metavar="LIST",
        help="'gland, stroma, fat', a YAML file, or one of: colorectal, luad_histoseg, ...",
    )
    model.add_argument(
        "--prompts", metavar="FILE", help="YAML: class name -> words that describe it"
    )
    where = parser.add_argument_group("where and how fine")
    where.add_argument("--region", metavar="X,Y,W,H", help="level-0 pixels; default: all")
    where.add_argument("--mpp", type=float, help="um per level-0 pixel, when the file has none")
    where.add_argument("--no-tissue", action="store_true", help="run on the empty glass as well")
    run = parser.add_argument_group("how to run")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    run.add_argument("--tile-size", type=int, default=1024, help="pixels (default 1024)")
    run.add_argument("--batch-size", type=int, default=0, help="tiles at once (default: chosen)")
    run.add_argument("--readers", type=int, default=2, help="reading threads (default 2)")
    run.add_argument("--threads", type=int, default=0, help="CPU threads of the model")
    run.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with an earlier run (default); --no-resume starts anew",
    )
    run.add_argument(
        "--probabilities", action="store_true", help="keep the probability of every class"
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder for results")
    _add_export_options(parser, out=False)


def _add_export_options(parser: argparse.ArgumentParser, *, out: bool = True) -> None:
    from napari_plimseg.results.export.formats import FORMATS

    group = parser.add_argument_group("exports")
    if out:
        group.add_argument("--out", type=Path, help="folder (default: beside the mask)")
    group.add_argument(
        "--format",
        "--formats",
        dest="formats",
        default="all",
        metavar="LIST",
        help=f"{', '.join(FORMATS)}, several with commas, all (default) or none",
    )
    group.add_argument(
        "--at",
        choices=("mask", "slide"),
        default="mask",
        help="resolution of the label TIFF (default: the mask's own)",
    )


def _formats(text: str) -> tuple[str, ...]:
    from napari_plimseg.results.export.formats import FORMATS

    if text == "all":
        return tuple(FORMATS)
    wanted = tuple(part.strip() for part in text.split(",") if part.strip() and part != "none")
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown:
        raise ConfigError(
            f"there is no export format '{unknown[0]}'",
            remedy=f"Known: {', '.join(FORMATS)}, all, none.",
        )
    return wanted


def _info(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.slides import open_slide

    failures = []
    for path in expand(options.slides):
        try:
            with open_slide(path) as slide:
                height, width = slide.shape
                facts: dict[str, Any] = {
                    "slide": slide.name,
                    "format": slide.format_name,
                    "width": width,
                    "height": height,
                    "mpp": slide.mpp,
                    "levels": [
                        {
                            "width": level.shape[1],
                            "height": level.shape[0],
                            "downsample": round(level.downsample, 5),
                        }
                        for level in slide.levels
                    ],
                    "bounds": [
                        slide.bounds.x,
                        slide.bounds.y,
                        slide.bounds.width,
                        slide.bounds.height,
                    ],
                    "notes": list(slide.notes),
                }
                output.slide_facts(facts)
        except PlimsegError as error:
            output.error(str(error), code=error.exit_code, slide=path.name)
            failures.append(error.exit_code)
    return _exit_code(failures, len(options.slides))


def _segment(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.cli.segment import job_from_options, segment_slides

    formats = _formats(options.formats)
    paths = expand(options.slides)
    job = job_from_options(options, formats)
    failures = segment_slides(job, paths, distinct_stems(paths), output, mpp=options.mpp)
    return _exit_code(failures, len(paths))


def _exit_code(failures: list[int], count: int) -> int:
    if not failures:
        return 0
    return failures[0] if count == 1 else EXIT_SOME_FAILED


def _export(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.cli.segment import export_mask

    files = export_mask(
        Path(options.mask),
        slide_path=options.slide,
        folder=options.out,
        formats=_formats(options.formats),
        explicit=options.formats != "all",
        at=options.at,
        with_corrections=options.corrections,
        output=output,
    )
    output.files(files)
    return 0


def _objects(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg.cli.segment import export_objects

    output.files([export_objects(options.mask, options.slide, options.out, output)])
    return 0


def _demo(options: argparse.Namespace, output: Output) -> int:
    from napari_plimseg._sample_data import SAMPLE_PATH
    from napari_plimseg.cli.segment import job_from_options, segment_slides, show_result

    job = job_from_options(
        _parser().parse_args(
            ["segment", str(SAMPLE_PATH), "--out", str(options.out), "--probabilities"]
        ),
        _formats("all"),
    )
    failures = segment_slides(job, [SAMPLE_PATH], [SAMPLE_PATH.stem], output)
    if not failures and not options.no_viewer:
        show_result(SAMPLE_PATH, options.out / f"{SAMPLE_PATH.stem}.plimseg", output)
    return _exit_code(failures, 1)


def expand(patterns: Sequence[str]) -> list[Path]:
    """Return the paths of files, folders and patterns that a shell has not expanded.

    Raises
    ------
    ConfigError
        When a pattern matches nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        if Path(pattern).exists() or not glob.has_magic(pattern):
            paths.append(Path(pattern))
            continue
        found = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 - pathlib can't take a whole path with wildcards
        if not found:
            raise ConfigError(f"no file matches '{pattern}'", remedy="Check the folder's name.")
        paths += found
    return paths


def distinct_stems(paths: Sequence[Path]) -> list[str]:
    """Return a name for each slide's results, distinct also when files of two folders share one.

    The result does not depend on the other slides of a call, unless their names clash.
    """
    from napari_plimseg.inference.job import results_stem

    stems = [results_stem(path) for path in paths]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{path.resolve().parent.name}-{path.suffix[1:]}"
        for stem, path in zip(stems, paths, strict=True)
    ]
