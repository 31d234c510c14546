"""What `plimseg scan`, `evaluate` and `cut` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import write_json
from plimseg_training.config import DataConfig
from plimseg_training.tagged_folder import scan

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from plimseg_training.console import Console
    from plimseg_training.tagged_folder import FolderReport, TaggedFolder

SAMPLES = 6
"""Images of each tag that a program can show."""


def run_scan(options: argparse.Namespace, console: Console) -> int:
    """Print the problems and the tags of a folder; return the exit code."""
    part = "train" if options.part == "auto" else options.part
    report = _scanned(options, options.folder, part, console)
    show_report(report, console)
    return TagError.exit_code if report.fatal else 0


def show_report(report: FolderReport, console: Console) -> None:
    """Print what the check of a folder found."""
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
    console.result(report.table())
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
    mpp = "pixel size not known" if folder.mpp is None else f"{folder.mpp:g} um/px"
    console.result(
        f"{folder.root.name}: {len(folder.images)} images of {len(folder.groups)} slides or "
        f"patients, {sum(len(i.windows) for i in folder.images)} tagged windows, {mpp}, layout "
        f"'{folder.layout}'"
    )
    width = max(len(name) for name, _ in counts)
    for name, count in counts:
        console.result(f"  {name:<{width}}  {count:>7} windows")


def tag_table(folder: TaggedFolder) -> list[tuple[str, int]]:
    """Return class names and how many windows have each tag."""
    names = [folder.classes.names[i - 1] for i in folder.classes.tissue_ids]
    return [(n, int(c)) for n, c in zip(names, folder.tag_counts(), strict=True)]


def tagged_samples(folder: TaggedFolder, each: int = SAMPLES) -> dict[str, list[str]]:
    """Return paths of some images of each tag, spread over the folder; rare tags come whole."""
    samples = {}
    for column, (name, _) in enumerate(tag_table(folder)):
        tagged = [image for image in folder.images if image.tags[:, column].any()]
        chosen = tagged[:: max(1, len(tagged) // each)][:each]
        samples[name] = [str(image.path) for image in chosen]
    return samples


def run_evaluate(options: argparse.Namespace, console: Console) -> int:
    """Score a model and print the tables; return the exit code."""
    from plimseg_training.class_map import parse_class_map
    from plimseg_training.evaluate import evaluate
    from plimseg_training.evaluation_text import evaluation_text, write_image_scores
    from plimseg_training.layouts import has_part

    if options.tile_size < 32:
        raise ConfigError(f"--tile-size {options.tile_size} is too small", remedy="Choose 1024.")
    class_map = parse_class_map(options.map)
    part = options.part
    if part == "auto":
        parts = (p for p in ("test", "validation") if has_part(options.data, p))
        part = next(parts, "train")
    folder = _scanned(options, options.data, part, console).raise_if_fatal()
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
    console.result(evaluation_text(found))
    if options.out is not None:
        write_json(options.out, found.to_dict())
    if options.per_image is not None:
        write_image_scores(options.per_image, found)
    return 0


def run_cut(options: argparse.Namespace, console: Console) -> int:
    """Cut tagged patches; return the exit code."""
    from plimseg_training.cut import cut_patches

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
        on_progress=lambda done, total: console.counted("patches", done, total),
    )
    names = [classes.names[i - 1] for i in classes.tissue_ids]
    tags = dict(zip(names, found.tag_counts, strict=True))
    facts = {"table": str(found.table), "patches": found.patches, "written": found.written}
    console.facts("cut", {**facts, "tags": tags})
    told = ", ".join(f"{name} {count}" for name, count in tags.items())
    console.result(f"{found.patches} patches, {found.written} of them new: {told}")
    console.result(f"  wrote {found.table}")
    return 0


def _scanned(options: argparse.Namespace, root: Path, part: str, console: Console) -> FolderReport:
    data = DataConfig(train=root, layout=options.layout, classes=options.classes, mpp=options.mpp)
    return scanned(data, part, console)


def scanned(data: DataConfig, part: str, console: Console) -> FolderReport:
    """Check a part of a recipe's folder, telling how far it is."""
    if data.train is None:
        raise ConfigError(
            "the recipe names no folder of tagged images",
            remedy="Write data.train, or give it with --set data.train=FOLDER.",
        )
    report = scan(
        data.train,
        classes=data.tissue_classes(),
        layout=data.layout,
        split=part,
        mpp=data.mpp,
        on_progress=lambda done, total: console.counted("files", done, total),
    )
    console.end_line()
    return report
