"""`plimseg train`: recipe, run folder, dry run, list of models."""

from __future__ import annotations

import argparse
import functools
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.cli.console import TRAINING_COMMANDS, add_command
from napari_plimseg.cli.stopping import exit_code_of
from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import atomic_write, sha256
from napari_plimseg.training_runs import EFFORTS, RunFolder
from plimseg_training.commands.scan import scanned, show_report
from plimseg_training.config import Recipe, chosen_recipe, load_recipe, with_effort
from plimseg_training.console import add_map_options, time_left
from plimseg_training.run_folder import RunError, StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg.cli.console import Commands
    from plimseg_training.console import TrainingConsole
    from plimseg_training.promptable import HintRecipe


EXIT_CODES = """exit codes: 0 done, 1 unexpected error, 2 wrong option or recipe, 3 slide can't be
opened, 4 model can't be used, 5 images or tags are wrong, 6 run folder damaged or disk full,
130 interrupted and 143 terminated (finished work is kept; --resume continues).
For research use only; not a medical device."""
RUNS = Path("runs")


def add_parser(commands: Commands) -> None:
    """Add `plimseg train`."""
    parser = add_command(
        commands, "train", _run, help=TRAINING_COMMANDS["train"], epilog=EXIT_CODES
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="RECIPE|FOLDER",
        help="a recipe (YAML file, or the name of a bundled one), or a folder of tagged images, "
        "which gets the default recipe; not needed with --resume and --out",
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/NAME OF THE RECIPE)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe: --set stage1.epochs=2; may be repeated",
    )
    add_map_options(parser)
    parser.add_argument(
        "--effort", choices=tuple(EFFORTS), default="balanced", help="how long (default: balanced)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the training in a run folder"
    )
    parser.add_argument(
        "--list",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="copy the model to the list of models when done (default)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the images and print what would be trained"
    )


def _run(options: argparse.Namespace, console: TrainingConsole) -> int:
    recipe = _hint_recipe(options) or _recipe(options)
    if not isinstance(recipe, Recipe) and (options.map or options.ignore):
        raise ConfigError(
            "a promptable model is trained on objects, which have no masks of classes",
            remedy="Leave out --map and --ignore.",
        )
    run = RunFolder(options.out or RUNS / recipe.name)
    if options.dry_run:
        if isinstance(recipe, Recipe):
            return dry_run(recipe, run, console, at_effort=functools.partial(_recipe_at, options))
        return _dry_run_of_hints(recipe, run, console)
    _check_run_folder(run, resume=options.resume)
    console.say(f"run folder: {run.root}")
    stop = StopRequest(run.root)
    model_file = _trained(recipe, run, options.resume, console, stop)
    if model_file is None:
        console.say(
            f"Stopped; finished work is kept. To resume: plimseg train --resume --out {run.root}"
        )
        return exit_code_of(stop.number or signal.SIGINT)
    _print_files(recipe, run, model_file, list_model=options.list, console=console)
    return 0


def _trained(
    recipe: Recipe | HintRecipe,
    run: RunFolder,
    resume: bool,
    console: TrainingConsole,
    stop: StopRequest,
) -> Path | None:
    """Train a recipe and return the model file; None when it was stopped."""
    with stop as asked_to_stop:
        if not isinstance(recipe, Recipe):
            from plimseg_training.promptable import train_hint_recipe

            return train_hint_recipe(
                recipe, run.root, resume=resume, on_event=console.event, should_stop=asked_to_stop
            )
        from plimseg_training.loop import Stopped
        from plimseg_training.pipeline import train_recipe

        try:
            return train_recipe(
                recipe, run.root, resume=resume, on_event=console.event, should_stop=asked_to_stop
            )
        except Stopped:
            return None
        except TagError:
            _show_all_mistakes(recipe, console)
            raise


def _print_files(
    recipe: Recipe | HintRecipe,
    run: RunFolder,
    model_file: Path,
    *,
    list_model: bool,
    console: TrainingConsole,
) -> None:
    """Print what a training wrote, and copy its models to the list of models if wanted."""
    files = {"model": model_file}
    if isinstance(recipe, Recipe):
        files["report"] = run.report
    if run.fast_model_file.exists():
        files["fast"] = run.fast_model_file
    for path in files.values():
        console.text(f"  wrote {path}")
    if list_model:
        files["listed"] = listed(model_file, recipe.name)
        if "fast" in files:
            files["fast_listed"] = listed(files["fast"], f"{recipe.name} (fast)")
    for name in ("listed", "fast_listed"):
        if name in files:
            console.text(f"  in the list of models as '{files[name].stem}'")
    console.facts("files", {name: str(path) for name, path in files.items()})


def _dry_run_of_hints(recipe: HintRecipe, run: RunFolder, console: TrainingConsole) -> int:
    from plimseg_training.promptable import objects_of

    _, objects, validation = objects_of(recipe)
    held_out = len(validation) if validation else 0
    console.text(f"Would train '{recipe.name}' into {run.root}:")
    console.text(f"  objects  {len(objects)} for training, {held_out} for validation")
    console.text(f"  start    {recipe.model.start}")
    console.text(f"  epochs   {recipe.training.epochs}")
    return 0


def dry_run(
    recipe: Recipe,
    run: RunFolder,
    console: TrainingConsole,
    *,
    at_effort: Callable[[str], Recipe] | None = None,
) -> int:
    """Check the images and print what would be trained; return the exit code.

    Parameters
    ----------
    recipe : Recipe
    run : RunFolder
        Where it would be trained.
    console : TrainingConsole
    at_effort : callable, optional
        Returns the recipe at an effort, so that programs can show the duration of each.
    """
    from plimseg_training.data import TrainingData
    from plimseg_training.timing import estimated_cost

    try:
        data = TrainingData.of(recipe)
    except TagError:
        _show_all_mistakes(recipe, console)
        raise
    show_report(data.report, console)
    training, validation = data.train, data.validation
    cost = estimated_cost(recipe, data)
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
        f"  images   {len(training.images)} for training, {held_out} for validation",
        f"  encoder  {recipe.model.backbone}, trained blocks: {recipe.model.train_blocks}",
        f"  stage 1  {one.epochs} epochs, {one.batch_size * one.accumulate} images per step",
        f"  stage 2  {two.epochs} epochs, {two.batch_size * two.accumulate} images per step"
        + (f", {two.steps} steps" if two.steps else "")
        + (f", {two.self_training_rounds} rounds more" if two.self_training_rounds else ""),
        f"  time     roughly {time_left(seconds)}, from a few steps timed on this computer",
    ):
        console.text(line)
    return 0


def listed(model_file: Path, name: str) -> Path:
    """Copy a model to the user's list of models; an older model of that name is kept.

    Parameters
    ----------
    model_file : Path
    name : str
        Its name in the list; a number is appended when another model has that name.

    Returns
    -------
    Path
        The copy.
    """
    from napari_plimseg.models import models_folder

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


def _show_all_mistakes(recipe: Recipe, console: TrainingConsole) -> None:
    """Print every mistake of the folder: the error only has the first one."""
    if recipe.data.train is not None:
        report = scanned(recipe.data, "train", console)
        if report.fatal:
            show_report(report, console)


def _recipe_at(options: argparse.Namespace, effort: str) -> Recipe:
    return _recipe(argparse.Namespace(**{**vars(options), "effort": effort}))


def _hint_recipe(options: argparse.Namespace) -> HintRecipe | None:
    """Return the recipe of a promptable model that the options name, None for other recipes."""
    from plimseg_training.promptable import hint_recipes, is_hint_recipe, load_hint_recipe

    if options.source is None:
        kept = RunFolder(options.out).recipe if options.resume and options.out else None
        if kept is None or not is_hint_recipe(kept):
            return None
        return load_hint_recipe(kept).override(options.set)
    path = hint_recipes().get(str(options.source), Path(options.source))
    if path.suffix.lower() not in {".yaml", ".yml"} or not is_hint_recipe(path):
        return None
    return load_hint_recipe(path).with_epochs(EFFORTS[options.effort]).override(options.set)


def _recipe(options: argparse.Namespace) -> Recipe:
    if options.source is None:
        if not (options.resume and options.out):
            raise ConfigError(
                "there is nothing to train on",
                remedy="Give a recipe or a folder of images; or --resume --out RUN_FOLDER.",
            )
        kept = RunFolder(options.out).recipe
        if not kept.is_file():
            raise RunError(
                "there is no training to resume",
                path=options.out,
                remedy="Give the recipe or the folder of images, without --resume.",
            )
        return load_recipe(kept).override(options.set)
    recipe = with_effort(chosen_recipe(options.source), options.effort).override(options.set)
    return recipe.with_masks_read(options.map, options.ignore)


def _check_run_folder(run: RunFolder, *, resume: bool) -> None:
    if not resume and run.status() != "new":
        raise RunError(
            f"it already holds a training ({run.status()})",
            path=run.root,
            remedy="Add --resume to continue it, or choose another folder with --out.",
        )
