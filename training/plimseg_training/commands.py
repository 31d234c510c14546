"""What `plimseg train` does around a training: recipe, run folder, dry run, list of models."""

from __future__ import annotations

import argparse
import functools
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import atomic_write, sha256, write_json
from plimseg_training.config.recipe import DataConfig, load_recipe
from plimseg_training.config.shipped import EFFORTS, chosen_recipe, with_effort
from plimseg_training.console import time_left
from plimseg_training.data.scan import scan_folder
from plimseg_training.events import memory_mb
from plimseg_training.promptable.training import hint_recipe_of, run_hint_train
from plimseg_training.run_folder import RunError, RunFolder, StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimseg_training.config.recipe import Recipe
    from plimseg_training.console import Console
    from plimseg_training.data.scan import FolderReport
    from plimseg_training.data.tagged_folder import TaggedFolder


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
    from plimseg_training.data.layouts import has_part
    from plimseg_training.evaluation.evaluate import evaluate, parse_class_map
    from plimseg_training.evaluation.text import evaluation_text, write_image_scores

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
    from plimseg_training.data.cut import cut_patches

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
    report = scan_folder(
        data.train,
        classes=data.tissue_classes(),
        layout=data.layout,
        split=part,
        mpp=data.mpp,
        on_progress=lambda done, total: console.counted("files", done, total),
    )
    console.end_line()
    return report


STOPPED = 130
RUNS = Path("runs")
_LARGEST_SIDE = 1024
_HEADS_MB = 200
"""The matcher, the heads and a batch of maps, where the encoder is small."""
_BACKWARD = 3
"""A step that trains the encoder costs about so many passes through it."""


def run_train(options: argparse.Namespace, console: Console) -> int:
    """Train, or with `--dry-run` say what would be trained; return the exit code."""
    for_hints = hint_recipe_of(options)
    if for_hints is not None:
        return run_hint_train(for_hints, options, console, listed)
    recipe = _recipe(options)
    run = RunFolder(options.out or RUNS / recipe.name)
    if options.dry_run:
        return dry_run(recipe, run, console, at_effort=functools.partial(_recipe_at, options))
    _check_run_folder(run, resume=options.resume)
    from plimseg_training.loop.task import Stopped
    from plimseg_training.pipeline import train_recipe

    console.say(f"run folder: {run.root}")
    with StopRequest(run.root) as asked_to_stop:
        try:
            model_file = train_recipe(
                recipe,
                run.root,
                resume=options.resume,
                on_event=console.event,
                should_stop=asked_to_stop,
            )
        except Stopped:
            console.say(
                f"Stopped; what is done is kept. To go on: plimseg train --resume --out {run.root}"
            )
            return STOPPED
        except TagError:
            _show_all_mistakes(recipe, console)
            raise
    files = {"model": model_file, "report": run.report}
    if options.list:
        files["listed"] = listed(model_file, recipe.name)
    if run.fast_model_file.exists():
        files["fast"] = run.fast_model_file
        if options.list:
            files["fast_listed"] = listed(run.fast_model_file, f"{recipe.name} (fast)")
    console.facts("files", {name: str(path) for name, path in files.items()})
    console.result(f"  wrote {model_file}")
    console.result(f"  wrote {run.report}")
    for name in ("listed", "fast_listed"):
        if name in files:
            console.result(f"  in the list of models as '{files[name].stem}'")
    return 0


def dry_run(
    recipe: Recipe,
    run: RunFolder,
    console: Console,
    *,
    at_effort: Callable[[str], Recipe] | None = None,
) -> int:
    """Check the images and print what would be trained; return the exit code.

    Parameters
    ----------
    recipe : Recipe
    run : RunFolder
        Where it would be trained.
    console : Console
    at_effort : callable, optional
        Gives the recipe at each effort, so that programs can show what each would take.
    """
    from plimseg_training.data.datasets import TrainingData

    try:
        data = TrainingData.of(recipe)
    except TagError:
        _show_all_mistakes(recipe, console)
        raise
    show_report(data.report, console)
    training, validation = data.train, data.validation
    cost = estimated_cost(recipe, training)
    seconds = cost.seconds(recipe)
    held_out = 0 if validation is None else len(validation.images)
    measured = 0 if validation is None else sum(i.truth is not None for i in validation.images)
    console.facts(
        "plan",
        {
            "name": recipe.name,
            "run_folder": str(run.root),
            "training_images": len(training.images),
            "validation_images": held_out,
            "seconds": round(seconds),
            "efforts": {
                effort: round(cost.seconds(at_effort(effort)))
                for effort in EFFORTS
                if at_effort is not None
            },
            "memory_mb": round(cost.memory_mb),
            "device": cost.device,
            "mpp": training.mpp,
            "measured": measured,
            "recipe": recipe.to_dict(),
        },
    )
    one, two = recipe.stage1, recipe.stage2
    for line in (
        f"Would train '{recipe.name}' into {run.root}:",
        f"  images   {len(training.images)} to train on, {held_out} to measure on",
        f"  encoder  {recipe.model.backbone}, trained blocks: {recipe.model.train_blocks}",
        f"  stage 1  {one.epochs} epochs, {one.batch_size * one.accumulate} images a step",
        f"  stage 2  {two.epochs} epochs, {two.batch_size * two.accumulate} images a step",
        f"  time     roughly {time_left(seconds)}, from one image timed on this machine",
    ):
        console.result(line)
    return 0


@dataclass(frozen=True)
class Cost:
    """What a training takes on this machine, roughly.

    Parameters
    ----------
    pass_seconds : float
        One image through the encoder.
    images : int
        That are trained on.
    memory_mb : float
        Of the device, or of the process on the processor.
    device : str
        For people.
    """

    pass_seconds: float
    images: int
    memory_mb: float
    device: str

    def seconds(self, recipe: Recipe) -> float:
        """Return the time of a recipe, if every image passes the encoder in every epoch.

        Frozen encoders whose features are kept take less.
        """
        rounds = 1 + recipe.stage2.self_training_rounds
        epochs = recipe.stage1.epochs + recipe.stage2.epochs * rounds
        cost = 1 if recipe.model.train_blocks == "none" else _BACKWARD
        pseudo = len(recipe.pseudo_masks.scales) * (2 if recipe.pseudo_masks.flips else 1)
        return self.pass_seconds * self.images * (epochs * cost + pseudo)


def estimated_cost(recipe: Recipe, training: TaggedFolder) -> Cost:
    """Return roughly what a training takes, from passing one image through its encoder.

    Parameters
    ----------
    recipe : Recipe
    training : TaggedFolder
        The images trained on.
    """
    import torch

    from napari_plimseg.inference.devices import describe_device, pick_device
    from napari_plimseg.models.encoders.loading import load_backbone
    from plimseg_training.stages.features import BUDGET_BYTES

    device = pick_device(recipe.device)
    backbone = load_backbone(recipe.model.backbone).to(device).eval()
    before = memory_mb(device.type)
    height, width = (min(side, _LARGEST_SIDE) for side in training.images[0].size)
    image = torch.rand(1, 3, max(height, 32), max(width, 32), device=device)
    took = []
    with torch.inference_mode():
        for _ in range(2):  # the first pass also warms up
            begin = time.monotonic()
            maps = backbone(image)
            maps[-1].sum().item()
            took.append(time.monotonic() - begin)
    one_pass = memory_mb(device.type) - before
    kept = 0.0
    if recipe.model.train_blocks == "none":
        of_image = sum(m.numel() * 2 for m in maps) / 1e6  # remembered with 2 bytes a value
        kept = min(of_image * len(training.images), BUDGET_BYTES / 1e6)
    else:
        one_pass *= _BACKWARD * max(recipe.stage1.batch_size, recipe.stage2.batch_size)
    memory = before + one_pass + kept + _HEADS_MB
    return Cost(min(took), len(training.images), memory, describe_device(device))


def listed(model_file: Path, name: str) -> Path:
    """Copy a model to the user's list of models; an older one of that name stays.

    Parameters
    ----------
    model_file : Path
    name : str
        What it is called in the list; a number is added when another model has that name.

    Returns
    -------
    Path
        The copy.
    """
    from napari_plimseg.models.library import models_folder

    digest = sha256(model_file)
    number = 1
    while True:
        stem = name if number == 1 else f"{name}-{number}"
        target = models_folder() / f"{stem}.safetensors"
        if not target.exists():
            with atomic_write(target) as temporary:
                shutil.copyfile(model_file, temporary)
            return target
        if sha256(target) == digest:
            return target
        number += 1


def _show_all_mistakes(recipe: Recipe, console: Console) -> None:
    """Print every mistake of the folder: only the first one is in the error."""
    if recipe.data.train is not None:
        report = scanned(recipe.data, "train", console)
        if report.fatal:
            show_report(report, console)


def _recipe_at(options: argparse.Namespace, effort: str) -> Recipe:
    return _recipe(argparse.Namespace(**{**vars(options), "effort": effort}))


def _recipe(options: argparse.Namespace) -> Recipe:
    if options.source is None:
        if not (options.resume and options.out):
            raise ConfigError(
                "nothing was named to train on",
                remedy="Give a recipe or a folder of images; or --resume --out RUN_FOLDER.",
            )
        kept = RunFolder(options.out).recipe
        if not kept.is_file():
            raise RunError(
                "there is no training to go on with",
                path=options.out,
                remedy="Give the recipe or the folder of images, without --resume.",
            )
        return load_recipe(kept).override(options.set)
    return with_effort(chosen_recipe(options.source), options.effort).override(options.set)


def _check_run_folder(run: RunFolder, *, resume: bool) -> None:
    if not resume and run.status() != "new":
        raise RunError(
            f"it holds a training ({run.status()})",
            path=run.root,
            remedy="Add --resume to go on with it, or choose another folder with --out.",
        )
