"""`plimseg objects`: corrected objects as images with outlines, to train a promptable model on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import (
    add_command,
    add_damaged_option,
    check_writable,
    mask_for_export,
)
from napari_plimseg.errors import ExportError

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.console import Commands, Output


def add_parser(commands: Commands) -> None:
    """Add `plimseg objects`."""
    parser = add_command(
        commands,
        "objects",
        _run,
        help="write corrected objects as images with outlines, to train points and boxes on",
    )
    parser.add_argument("mask", type=Path, metavar="MASK", help="a .plimseg folder")
    parser.add_argument("--slide", required=True, help="the slide itself")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; it may hold objects of other slides"
    )
    add_damaged_option(parser)


def _run(options: argparse.Namespace, output: Output) -> int:
    table = export_objects(
        options.mask, options.slide, options.out, output, allow_damaged=options.allow_damaged
    )
    output.files([table])
    return 0


def export_objects(
    path: Path, slide_path: str, folder: Path, output: Output, *, allow_damaged: bool = False
) -> Path:
    """Write what a person corrected in a mask as images with outlines; return the table."""
    from napari_plimseg.fingerprints import is_fingerprint_of
    from napari_plimseg.results import MaskStore, corrected, export_corrected_objects
    from napari_plimseg.slides import open_slide

    check_writable(folder)
    with MaskStore.open(path) as store, open_slide(slide_path) as slide:
        if not is_fingerprint_of(store.info.slide_fingerprint, slide.path):
            raise ExportError(
                f"the mask belongs to '{store.info.slide_name}', not to '{slide.name}'",
                path=path,
                remedy="Give the slide that the mask was made of.",
            )
        mask, info = mask_for_export(store, output, allow_damaged=allow_damaged)
        mask, corrections = corrected(mask, info, store.path.parent)
        found = export_corrected_objects(folder, slide, mask, corrections)
    output.say(
        f"  {found.objects} corrected object(s) in {found.fields} field(s). To train on them: "
        f"plimseg train wsi_sam --set data.train={folder}"
    )
    return found.table
