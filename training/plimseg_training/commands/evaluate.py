"""`plimseg evaluate`: score a model on images with known masks."""

from __future__ import annotations

import argparse
import functools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import TRAINING_COMMANDS, add_command, check_writable
from napari_plimseg.cli.stopping import Finishing
from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import atomic_write, write_json
from napari_plimseg.tables import csv_text
from plimseg_training.commands.scan import add_data_options, data_by_options, scanned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.cli.console import Commands
    from plimseg_training.console import TrainingConsole
    from plimseg_training.data import FolderReport
    from plimseg_training.evaluation import Evaluation, ProtocolResult


_MASK_VALUE = re.compile(r"\s*(\d+|#[0-9a-fA-F]{6})\s*=")


def percent(score: float) -> str:
    """Return a score in percent with two decimals; a dash if it is undefined."""
    return "-" if math.isnan(score) else f"{100 * score:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def summary_rows(results: Sequence[ProtocolResult]) -> list[list[str]]:
    """Return one row of mean scores per protocol, below a row of headings."""
    rows = [["protocol", "mIoU", "FwIoU", "Dice (true)", "2m/(1+m)", "pixel acc."]]
    for result in results:
        score = result.score
        values = (score.miou, score.fwiou, score.mean_dice, score.dice_of_miou)
        rows.append([result.title, *map(percent, values), percent(score.pixel_accuracy)])
    return rows


def class_rows(results: Sequence[ProtocolResult]) -> list[list[str]]:
    """Return IoU and true Dice per class and protocol, below a row of headings."""
    names: list[str] = []
    for result in results:
        names += [name for name in result.score.names if name not in names]
    rows = [["protocol", "score", *names]]
    for result in results:
        for title, values in (("IoU", result.score.iou), ("Dice", result.score.dice)):
            by_name = dict(zip(result.score.names, values, strict=True))
            rows.append([result.title, title, *(percent(by_name.get(n, math.nan)) for n in names)])
    return rows


def confusion_rows(result: ProtocolResult) -> list[list[str]]:
    """Return the confusion matrix in percent of the truth, below a row of headings."""
    score = result.score
    rows = [["truth \\ mask", *score.names, "pixels"]]
    for name, counts in zip(score.names, score.confusion, strict=True):
        total = int(counts.sum())
        shares = [f"{100 * c / total:.1f}" if total else "-" for c in counts]
        rows.append([name, *shares, f"{total:,}"])
    return rows


def evaluation_text(evaluation: Evaluation) -> str:
    """Return an evaluation as text: means, classes, confusion, notes and skipped images."""
    first = evaluation.results[0]
    parts = [
        f"{evaluation.model} on {evaluation.data}: {evaluation.images} images, "
        f"{first.score.pixels:,} pixels, {evaluation.seconds:.1f} s ({evaluation.device})",
        "All scores in percent, over the pixels of all images together.",
        aligned(summary_rows(evaluation.results)),
        aligned(class_rows(evaluation.results)),
    ]
    oeem = [r for r in evaluation.results if r.protocol.key == "oeem"]
    parts += [
        f"{r.title}: OEEM-Dice, which is 2m/(1+m), {percent(r.score.dice_of_miou)}; true Dice of "
        f"{r.score.names[0]} {percent(float(r.score.dice[0]))}."
        for r in oeem
    ]
    parts.append(
        f"Confusion under {first.title}, in percent of each truth class:\n"
        + aligned(confusion_rows(first))
    )
    if any(r.protocol.oracle_tags for r in evaluation.results):
        parts.append(
            "Oracle tags: classes missing in the truth of an image can't be predicted on it. "
            "No user has such tags."
        )
    parts += [f"Note: {note}" for note in evaluation.notes]
    if evaluation.skipped:
        listed = aligned([[s.file, s.reason] for s in evaluation.skipped[:20]])
        more = len(evaluation.skipped) - 20
        parts.append(
            f"Not scored, {len(evaluation.skipped)} images:\n{listed}"
            + (f"\n... and {more} more" if more > 0 else "")
        )
    return "\n\n".join(parts)


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation as JSON."""
    write_json(path, evaluation.to_dict())


def write_image_scores(path: Path, evaluation: Evaluation) -> None:
    """Write the scores of every image under every protocol as a CSV file.

    A column with a class's name holds its IoU; three more hold its counted pixels in the truth, in
    the mask, and in both.
    """
    names = evaluation.classes
    counts = [f"{name}, {of}" for name in names for of in ("truth px", "mask px", "both px")]
    head = ["image", "protocol", "tta", "pixels", "pixel accuracy", "miou", *names, *counts]
    rows: list[list[object]] = [[*head]]
    for result in evaluation.results:
        for image in result.images:
            score = image.score
            by_name = dict(zip(score.names, score.iou, strict=True))
            values = (score.pixel_accuracy, score.miou, *(by_name.get(n, math.nan) for n in names))
            numbers = ["" if math.isnan(v) else f"{v:.6f}" for v in values]
            pixels: list[object] = []
            for name in names:
                if name in by_name:
                    row = score.names.index(name)
                    truth, mask = score.confusion[row].sum(), score.confusion[:, row].sum()
                    pixels += [int(truth), int(mask), int(score.confusion[row, row])]
                else:
                    pixels += ["", "", ""]
            about = [image.name, result.protocol.title, result.tta, score.pixels]
            rows.append([*about, *numbers, *pixels])
    with atomic_write(path) as temporary:
        temporary.write_text(csv_text(rows, end="\r\n"), "utf-8", newline="")


_LEFT_OUT = (
    "not annotated", "missing mask", "unreadable mask", "empty mask", "unreadable", "missing file",
    "too small", "not in table",
)  # fmt: skip
"""Kinds of problems by which images, or parts of their masks, are not scored."""


def left_out(report: FolderReport) -> list[str]:
    """Return what of a folder is not scored and why, one sentence for each reason."""
    files: dict[tuple[str, str], list[str]] = {}
    for problem in report.problems:
        if problem.kind in _LEFT_OUT:
            files.setdefault((problem.kind, problem.text), []).append(problem.file)
    notes = []
    for (kind, text), names in files.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        notes.append(text if kind == "not annotated" else f"{names[0]}{more}: {text}")
    return notes


def add_parser(commands: Commands) -> None:
    """Add `plimseg evaluate`."""
    parser = add_command(commands, "evaluate", _run, help=TRAINING_COMMANDS["evaluate"])
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
        "one; or say what a number or color of the masks means: '3=CLASS', '#0000ff=CLASS'; may "
        "be repeated",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="VALUE",
        help="a number or color of the masks that is not scored; '*' for all that are no class",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--tile-size", type=int, default=1024, help="pixels (default 1024)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores as JSON")
    parser.add_argument(
        "--per-image",
        type=Path,
        metavar="FILE",
        help="write scores and pixel counts of each image as CSV",
    )


def _run(options: argparse.Namespace, console: TrainingConsole) -> int:
    from plimseg_training.data import has_part
    from plimseg_training.evaluation import evaluate, model_with_classes, parse_class_map

    if options.tile_size < 32:
        raise ConfigError(f"--tile-size {options.tile_size} is too small", remedy="Choose 1024.")
    of_masks = [entry for entry in options.map if _MASK_VALUE.match(entry)]
    for path in (options.out, options.per_image):
        if path is not None:
            check_writable(path.absolute().parent)  # before hours of computing
    class_map = parse_class_map([entry for entry in options.map if entry not in of_masks])
    scan = functools.partial(scanned, whole=False, maps=of_masks, ignored=options.ignore)
    part = options.part
    if part == "auto":
        parts = (p for p in ("test", "validation") if has_part(options.data, p))
        part = next(parts, "train")
    data = data_by_options(options, options.data)
    report = scan(data, part, console)
    model = options.model
    if any(problem.kind == "unknown classes" for problem in report.fatal) and not class_map:
        # nothing else says what the values of the masks mean
        model = model_with_classes(model) or model
        if model is not options.model:
            own = replace(data, classes=model.classes.to_dict())
            report = scan(own, part, console)
            names = ", ".join(model.classes.names)
            console.say(f"Classes of the masks, from the model: {names}.")
    if any(problem.kind in ("unknown layout", "no images") for problem in report.fatal):
        raise TagError(
            "there are no images with masks",
            path=options.data,
            remedy="Put images into 'img' and masks with the same names into 'mask', or write a "
            "tags.csv with a column 'truth'.",
        )
    folder = report.raise_if_fatal()
    for note in left_out(report):
        console.say(f"note: {note}")
    with Finishing("image") as stop:
        found = evaluate(
            model,
            folder,
            protocol=options.protocol,
            tta=options.tta,
            device=options.device,
            class_map=class_map,
            tile_size=options.tile_size,
            gate=options.gate,
            on_progress=console.evaluated,
            should_stop=stop,
        )
    console.facts("evaluation", found.to_dict())
    console.text(evaluation_text(found))
    written = []
    for path, write in ((options.out, write_scores), (options.per_image, write_image_scores)):
        if path is not None:
            # scores of some images never replace those of all
            written.append(path.with_stem(f"{path.stem}.partial") if stop() else path)
            write(written[-1], found)
    names = f" and in {', '.join(path.name for path in written)}" if written else ""
    console.kept = (
        f"the scores of {found.images} of {found.images + len(found.skipped)} images are above"
        f"{names}; run it again to score all"
    )
    stop.raise_if_asked()
    return 0
