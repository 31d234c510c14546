"""What `plimseg train` does with a recipe of kind `hints`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plimseg_training.hint_config import is_hint_recipe, load_hint_recipe
from plimseg_training.recipes import EFFORTS, recipes_folder
from plimseg_training.runs import RunError, RunFolder, StopRequest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from plimseg_training.console import Console
    from plimseg_training.hint_config import HintRecipe

STOPPED = 130
RUNS = Path("runs")


def hint_recipes() -> dict[str, Path]:
    """Return the recipes for hints that come along, by name."""
    return {path.stem: path for path in sorted((recipes_folder() / "hints").glob("*.yaml"))}


def hint_recipe_of(options: argparse.Namespace) -> HintRecipe | None:
    """Return the recipe that the options of `plimseg train` name, None when it is no such one.

    Raises
    ------
    ConfigError
        When a key or value is wrong.
    """
    if options.source is None:
        kept = RunFolder(options.out).recipe if options.resume and options.out else None
        if kept is None or not is_hint_recipe(kept):
            return None
        return load_hint_recipe(kept).override(options.set)
    path = hint_recipes().get(str(options.source), Path(options.source))
    if path.suffix.lower() not in {".yaml", ".yml"} or not is_hint_recipe(path):
        return None
    recipe = load_hint_recipe(path).with_epochs(EFFORTS[options.effort])
    return recipe.override(options.set)


def run_hint_train(
    recipe: HintRecipe,
    options: argparse.Namespace,
    console: Console,
    listed: Callable[[Path, str], Path],
) -> int:
    """Train a model for hints, or with `--dry-run` say what would be; return the exit code.

    Parameters
    ----------
    recipe : HintRecipe
    options : argparse.Namespace
        Of `plimseg train`.
    console : Console
    listed : callable
        Copies a model of a name to the list of models.
    """
    from plimseg_training.hint_training import objects_of, train_hint_recipe

    run = RunFolder(options.out or RUNS / recipe.name)
    if options.dry_run:
        _, objects, validation = objects_of(recipe)
        held = len(validation) if validation else 0
        console.result(f"Would train '{recipe.name}' into {run.root}:")
        console.result(f"  objects  {len(objects)} to train on, {held} to measure on")
        console.result(f"  start    {recipe.model.start}")
        console.result(f"  epochs   {recipe.training.epochs}")
        return 0
    if not options.resume and run.status() != "new":
        raise RunError(
            f"it holds a training ({run.status()})",
            path=run.root,
            remedy="Add --resume to go on with it, or choose another folder with --out.",
        )
    console.say(f"run folder: {run.root}")
    with StopRequest(run.root) as asked_to_stop:
        model_file = train_hint_recipe(
            recipe,
            run.root,
            resume=options.resume,
            on_event=console.event,
            should_stop=asked_to_stop,
        )
    if model_file is None:
        console.say(
            f"Stopped; what is done is kept. To go on: plimseg train --resume --out {run.root}"
        )
        return STOPPED
    files = {"model": model_file}
    if options.list:
        files["listed"] = listed(model_file, recipe.name)
    console.facts("files", {name: str(path) for name, path in files.items()})
    console.result(f"  wrote {model_file}")
    if "listed" in files:
        console.result(f"  in the list of models as '{files['listed'].stem}'")
    return 0
