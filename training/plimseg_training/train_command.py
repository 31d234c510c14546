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
from napari_plimseg.files import atomic_write, sha256
from plimseg_training.config import load_recipe
from plimseg_training.console import time_left
from plimseg_training.data_commands import scanned, show_report
from plimseg_training.hint_command import hint_recipe_of, run_hint_train
from plimseg_training.progress import memory_mb
from plimseg_training.recipes import EFFORTS, chosen_recipe, with_effort
from plimseg_training.runs import RunError, RunFolder, StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimseg_training.config import Recipe
    from plimseg_training.console import Console
    from plimseg_training.tagged_folder import TaggedFolder

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
    from plimseg_training.pipeline import Stopped, train_recipe

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
    from plimseg_training.training_data import TrainingData

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
    from plimseg_training.features import BUDGET_BYTES

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
