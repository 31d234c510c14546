"""`plimseg export`: a finished mask in other formats."""

from __future__ import annotations

import argparse
import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_plimseg.cli.console import (
    add_command,
    add_damaged_option,
    check_writable,
    mask_for_export,
    note_damage,
)
from napari_plimseg.errors import ConfigError, ExportError, named_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.cli.console import Commands, Output
    from napari_plimseg.results import MaskArray


def add_parser(commands: Commands) -> None:
    """Add `plimseg export`."""
    parser = add_command(commands, "export", _run, help="export a finished mask")
    parser.add_argument(
        "mask", metavar="MASK", help="a .plimseg folder, or a label TIFF of this program"
    )
    parser.add_argument("--slide", help="the slide itself, for the overlay picture")
    parser.add_argument(
        "--into-slide",
        nargs="?",
        const="plimseg",
        metavar="NAME",
        help="write labels NAME (default: plimseg) into the OME-Zarr slide given with --slide, and "
        "no other export unless --format names some",
    )
    parser.add_argument("--replace", action="store_true", help="replace labels of that name")
    parser.add_argument(
        "--corrections",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="include the corrections found next to the mask (default)",
    )
    add_damaged_option(parser)
    add_export_options(parser)


def add_export_options(parser: argparse.ArgumentParser, *, out: bool = True) -> None:
    """Add the options that choose what is exported, and where to."""
    from napari_plimseg.results import FORMATS

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


def parse_formats(text: str) -> tuple[str, ...]:
    """Read `--format`: names with commas, "all" or "none".

    Raises
    ------
    ConfigError
        When a format is unknown.
    """
    from napari_plimseg.results import FORMATS

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


def _run(options: argparse.Namespace, output: Output) -> int:
    if options.into_slide is not None:
        output.files([write_into_slide(options, output)])
        if options.formats == "all":
            return 0
    files = export_mask(
        named_path(options.mask),
        slide_path=options.slide,
        folder=options.out,
        formats=parse_formats(options.formats),
        explicit=options.formats != "all",
        at=options.at,
        with_corrections=options.corrections,
        allow_damaged=options.allow_damaged,
        output=output,
    )
    output.files(files)
    return 0


def write_into_slide(options: argparse.Namespace, output: Output) -> Path:
    """Write the mask as labels into its OME-Zarr slide; return their group.

    What is damaged is printed where that is allowed.
    """
    from napari_plimseg.api import Segmentation

    if options.slide is None:
        raise ConfigError("--into-slide needs the slide", remedy="Give it with --slide SLIDE.")
    if not options.corrections:
        raise ConfigError(
            "labels in a slide hold the corrections", remedy="Leave out --no-corrections."
        )
    found = Segmentation.open(options.mask, options.slide, allow_damaged=options.allow_damaged)
    path = found.write_labels(options.into_slide, replace=options.replace)
    note_damage(found.damage().sentence, output)
    return path


def export_mask(
    path: Path,
    *,
    slide_path: str | None,
    folder: Path | None,
    formats: Sequence[str],
    explicit: bool,
    at: Literal["mask", "slide"],
    with_corrections: bool,
    allow_damaged: bool,
    output: Output,
) -> list[Path]:
    """Export a mask store or a label TIFF in other formats; return the files.

    A store is exported with the corrections in its folder, unless they are not wanted. A damaged
    one is refused, unless that is allowed.
    """
    from napari_plimseg.results import FORMATS, MaskStore, corrected, export_all, read_label_tiff
    from napari_plimseg.slides import open_slide

    mask: MaskArray
    if path.is_dir():
        with MaskStore.open(path) as store:
            mask, info = mask_for_export(store, output, allow_damaged=allow_damaged)
            if with_corrections:
                mask, corrections = corrected(mask, info, path.parent)
                if corrections.pixels:
                    output.say(f"  with corrections: {corrections.pixels:,} pixels")
                if corrections.note():
                    output.say(f"  note: {corrections.note()}")
    else:
        mask, info = read_label_tiff(path)
    if slide_path is None:
        without = [key for key in formats if not FORMATS[key].needs_slide]
        if explicit and len(without) < len(formats):
            (missing, *_) = (FORMATS[key] for key in formats if key not in without)
            raise ExportError(
                f"the export '{missing.title}' needs the slide",
                remedy="Give it with --slide SLIDE.",
            )
        formats = without
    stem = re.sub(r"\.(plimseg|mask\.ome\.tif|tiff?)$", "", path.name, flags=re.IGNORECASE)
    target = path.parent if folder is None else folder
    check_writable(target)
    with contextlib.ExitStack() as stack:
        slide = None if slide_path is None else stack.enter_context(open_slide(slide_path))
        if slide is not None and slide.shape != info.slide_shape:
            raise ExportError(
                f"the mask belongs to a slide of {info.slide_shape[1]} x {info.slide_shape[0]} "
                f"pixels, not to '{slide.name}'",
                path=path,
                remedy="Give the slide that the mask was made of.",
            )
        files: list[Path] = []
        for key in formats:
            names = f" ({', '.join(file.name for file in files)})" if files else ""
            output.kept = f"{len(files)} of {len(formats)} files are written{names}; run it again"
            files += export_all(target, stem, mask, info, slide, formats=(key,), at=at)
        return files
