"""`plimseg cut`: cut tagged patches out of annotated slides or images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import TRAINING_COMMANDS, add_command
from napari_plimseg.errors import ConfigError
from plimseg_training.console import add_map_options

if TYPE_CHECKING:
    import argparse

    from napari_plimseg.cli.console import Commands
    from plimseg_training.console import TrainingConsole


def add_parser(commands: Commands) -> None:
    """Add `plimseg cut`."""
    parser = add_command(commands, "cut", _run, help=TRAINING_COMMANDS["cut"])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a slide or an image")
    parser.add_argument(
        "annotation",
        type=Path,
        metavar="ANNOTATION",
        help="its GeoJSON outlines (also .geojson.gz or in a .zip) or its mask",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the patches")
    parser.add_argument("--classes", required=True, help="a preset's name or a YAML file")
    parser.add_argument("--patch", type=int, default=224, help="side in pixels (default 224)")
    parser.add_argument("--stride", type=int, help="step in pixels (default: the patch's side)")
    parser.add_argument(
        "--mpp", type=float, help="um per pixel of the patches (default: the source's)"
    )
    parser.add_argument(
        "--source-mpp", type=float, help="um per pixel of the source, if missing in its file"
    )
    parser.add_argument(
        "--override-mpp",
        action="store_true",
        help="take --source-mpp also where the file has another pixel size",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=0.05,
        help="smallest part of a patch that makes a tag (default 0.05)",
    )
    parser.add_argument(
        "--unknown",
        type=float,
        default=0.25,
        help="largest part of a patch without annotation (default 0.25)",
    )
    add_map_options(parser)
    parser.add_argument(
        "--windows",
        action="store_true",
        help="write no images, only list windows of the source in tags.csv",
    )


def _run(options: argparse.Namespace, console: TrainingConsole) -> int:
    from plimseg_training.config import DataConfig
    from plimseg_training.data import cut_patches

    classes = DataConfig(classes=options.classes).tissue_classes()
    if classes is None:
        raise ConfigError(
            "patches can't be tagged without classes",
            remedy="Give --classes PRESET or --classes FILE.yaml.",
        )
    found = cut_patches(
        options.source,
        options.annotation,
        options.out,
        patch=options.patch,
        stride=options.patch if options.stride is None else options.stride,
        classes=classes,
        mpp=options.mpp,
        minimum_fraction=options.share,
        write_images=not options.windows,
        maximum_unknown=options.unknown,
        source_mpp=options.source_mpp,
        maps=options.map,
        ignored=options.ignore,
        override_mpp=options.override_mpp,
        on_progress=lambda done, total: console.counted("patches", done, total),
    )
    names = [classes.names[i - 1] for i in classes.tissue_ids]
    tags = dict(zip(names, found.tag_counts, strict=True))
    facts = {"table": str(found.table), "patches": found.patches, "written": found.written}
    console.facts("cut", {**facts, "tags": tags, "notes": list(found.notes)})
    listing = ", ".join(f"{name} {count}" for name, count in tags.items())
    console.text(f"{found.patches} patches, {found.written} of them new: {listing}")
    for note in found.notes:
        console.text(f"  note: {note}")
    console.text(f"  wrote {found.table}")
    return 0
