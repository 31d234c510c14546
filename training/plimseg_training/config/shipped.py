"""The bundled recipes, the default one for a folder, and how much effort they take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError
from napari_plimseg.training_runs import EFFORTS
from plimseg_training.config.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from plimseg_training.config.recipe import StageConfig


DEFAULT = "bundled"


def recipes_folder() -> Path:
    """Return the folder of the bundled recipes: in this package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def known_recipes() -> dict[str, Path]:
    """Return the bundled recipes by name."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def chosen_recipe(source: str | Path) -> Recipe:
    """Return the recipe for what a user named.

    Parameters
    ----------
    source : str or Path
        A recipe's file, the name of a bundled one, or a folder (or CSV file) of tagged images,
        which gets the default recipe.

    Raises
    ------
    ConfigError
        When it is none of these.
    """
    path, known = Path(source), known_recipes()
    if path.is_dir() or path.suffix.lower() == ".csv":
        if DEFAULT not in known:
            raise ConfigError(
                f"the recipe '{DEFAULT}' is missing", remedy="Install napari-plimseg again."
            )
        recipe = load_recipe(known[DEFAULT])
        return replace(
            recipe, name=_name_for(path), data=replace(recipe.data, train=path.resolve())
        )
    if path.suffix.lower() in {".yaml", ".yml"}:
        return load_recipe(path)
    if str(source) in known:
        return load_recipe(known[str(source)])
    raise ConfigError(
        f"'{path.name}' is neither a recipe nor a folder of images",
        remedy=f"Bundled recipes: {', '.join(known) or 'none'}.",
    )


def with_effort(recipe: Recipe, effort: str) -> Recipe:
    """Return a recipe with fewer or more epochs and steps; less effort has no further rounds."""
    factor = EFFORTS[effort]
    if factor == 1:
        return recipe

    def scaled(stage: StageConfig) -> StageConfig:
        epochs, steps = (round(count * factor) for count in (stage.epochs, stage.steps))
        rounds = stage.self_training_rounds if factor > 1 else 0
        return replace(
            stage,
            epochs=max(1, epochs),
            steps=max(1, steps) if stage.steps else 0,
            self_training_rounds=rounds,
        )

    student = replace(recipe.distill, epochs=max(1, round(recipe.distill.epochs * factor)))
    return replace(
        recipe, stage1=scaled(recipe.stage1), stage2=scaled(recipe.stage2), distill=student
    )


def _name_for(path: Path) -> str:
    kept = "".join(c if c.isalnum() or c in " .+-_" else "-" for c in path.resolve().stem)
    kept = kept.lstrip(" .+-")[:80]
    return kept or DEFAULT
