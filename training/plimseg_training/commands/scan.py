"""`plimseg scan`: check a folder of tagged images and count its tags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import TRAINING_COMMANDS, add_command
from napari_plimseg.errors import ConfigError, TagError
from plimseg_training.console import add_map_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from napari_plimseg.cli.console import Commands
    from plimseg_training.config import DataConfig
    from plimseg_training.console import TrainingConsole
    from plimseg_training.data import FolderReport, TaggedFolder


SAMPLES = 6
"""Images per tag that a program can show."""


def add_parser(commands: Commands) -> None:
    """Add `plimseg scan`."""
    parser = add_command(commands, "scan", _run, help=TRAINING_COMMANDS["scan"])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    add_data_options(parser)
    add_map_options(parser)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a folder of images."""
    parser.add_argument("--layout", default="auto", help="layout of the folder (default: auto)")
    parser.add_argument("--classes", default="auto", help="a preset's name or a YAML file")
    parser.add_argument("--mpp", type=float, help="um per pixel of the images")
    parser.add_argument(
        "--part",
        choices=("auto", "train", "validation", "test"),
        default="auto",
        help="which part of a data set with several parts",
    )


def _run(options: argparse.Namespace, console: TrainingConsole) -> int:
    part = "train" if options.part == "auto" else options.part
    data = data_by_options(options, options.folder)
    report = scanned(data, part, console, maps=options.map, ignored=options.ignore)
    show_report(report, console)
    return TagError.exit_code if report.fatal else 0


def show_report(report: FolderReport, console: TrainingConsole) -> None:
    """Print the problems, counts and tags found in a folder."""
    folder = report.folder
    for problem in report.problems:
        console.facts(
            "problem",
            {
                "file": problem.file,
                "problem": problem.kind,
                "text": problem.text,
                "fatal": problem.fatal,
            },
        )
    console.text(report.table())
    if folder is None:
        console.facts("folder", {"usable": False})
        return
    counts = tag_table(folder)
    console.facts(
        "folder",
        {
            "usable": True,
            "layout": folder.layout,
            "images": len(folder.images),
            "windows": sum(len(image.windows) for image in folder.images),
            "groups": len(folder.groups),
            "mpp": folder.mpp,
            "tags": dict(counts),
            "with_truth": sum(image.truth is not None for image in folder.images),
            "classes": folder.classes.to_dict(),
            "samples": tagged_samples(folder),
        },
    )
    mpp = "pixel size unknown" if folder.mpp is None else f"{folder.mpp:g} um/px"
    console.text(
        f"{folder.root.name}: {len(folder.images)} images of {len(folder.groups)} slides or "
        f"patients, {sum(len(i.windows) for i in folder.images)} tagged windows, {mpp}, layout "
        f"'{folder.layout}'"
    )
    width = max(len(name) for name, _ in counts)
    for name, count in counts:
        console.text(f"  {name:<{width}}  {count:>7} windows")


def tag_table(folder: TaggedFolder) -> list[tuple[str, int]]:
    """Return class names and the number of windows with each tag."""
    names = [folder.classes.names[i - 1] for i in folder.classes.tissue_ids]
    return [(n, int(c)) for n, c in zip(names, folder.tag_counts(), strict=True)]


def tagged_samples(folder: TaggedFolder, each: int = SAMPLES) -> dict[str, list[str]]:
    """Return paths of some images per tag, spread over the folder; all of a rare tag."""
    samples = {}
    for column, (name, _) in enumerate(tag_table(folder)):
        tagged = [image for image in folder.images if image.tags[:, column].any()]
        chosen = tagged[:: max(1, len(tagged) // each)][:each]
        samples[name] = [str(image.path) for image in chosen]
    return samples


def data_by_options(options: argparse.Namespace, root: Path) -> DataConfig:
    """Return the folder that the options of a command describe."""
    from plimseg_training.config import DataConfig

    return DataConfig(train=root, layout=options.layout, classes=options.classes, mpp=options.mpp)


def scanned(
    data: DataConfig,
    part: str,
    console: TrainingConsole,
    *,
    whole: bool = True,
    maps: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> FolderReport:
    """Check a part of a recipe's folder and show the progress.

    Parameters
    ----------
    data : DataConfig
    part : str
    console : TrainingConsole
    whole : bool
        False for images that are only scored, which need not show every class.
    maps, ignored : sequence of str
        As `scan_folder` takes them, beside those of `data`.
    """
    if data.train is None:
        raise ConfigError(
            "the recipe names no folder of tagged images",
            remedy="Write data.train, or give it with --set data.train=FOLDER.",
        )
    from plimseg_training.data import scan_folder

    report = scan_folder(
        data.train,
        classes=data.tissue_classes(),
        layout=data.layout,
        split=part,
        mpp=data.mpp,
        whole=whole,
        maps=(*data.maps, *maps),
        ignored=(*data.ignore, *ignored),
        on_progress=lambda done, total: console.counted("files", done, total),
    )
    console.end_progress()
    return report
