"""The recipe of a promptable model: `kind: hints`, checked before anything runs."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import StrictBool, StrictInt, StrictStr

from plimseg_training.config import (
    DataConfig,
    Device,
    Items,
    ModelName,
    Number,
    Recipe,
    RecipeFile,
    Seed,
    StageConfig,
    between,
    multiple_of,
    read_recipe_text,
    recipes_folder,
    section,
)
from plimseg_training.promptable.simulated_prompts import DrawConfig

if TYPE_CHECKING:
    from pathlib import Path


KIND = "hints"
"""How a recipe's file states that it is one of these; the name is kept for old files."""


@section
class ObjectConfig:
    """What counts as an object.

    Parameters
    ----------
    leave_out : tuple of str
        Classes whose regions are not objects: "other tissue".
    min_area : int
        Smallest one, in pixels of the HR patch.
    mpp : float
        Micrometers per pixel of the HR patch; the LR patch has twice that.
    shift : float
        Largest distance of an object from the patch's center, in sides of the patch.
    views : int
        Patches per object, each with its own shift and flip; epochs take turns. The frozen
        encoder's features of each are cached, so fewer views make shorter epochs.
    """

    leave_out: Items[StrictStr] = ()
    min_area: Annotated[StrictInt, between(1, 1_000_000)] = 64
    mpp: Annotated[Number, between(0.05, 20)] = 1.0
    shift: Annotated[Number, between(0, 0.4)] = 0.15
    views: Annotated[StrictInt, between(1, 1000)] = 8


@section
class HintModelConfig:
    """What is trained.

    Parameters
    ----------
    start : str
        "bundled" (fine-tunes the bundled promptable model), the file of another one,
        "sam:FOLDER", "sam:FILE" or "hf-hub:ORG/REPO" (SAM, SAM-HQ or MobileSAM: only WSI-SAM's
        new parts are trained), or "backbone:NAME" (everything on a frozen backbone, from
        scratch).
    resolutions : str
        "both", or only "hr" or "lr" (the ablation); a promptable model keeps its own.
    side : int
        Of the patches in pixels, where the start leaves it open: a backbone or a TinyViT.
    embed_dim, mlp_dim : int
        Of a decoder on a backbone.
    frozen_inside : bool
        Whether the pretrained weights go into the model file too.
    """

    start: StrictStr = "bundled"
    resolutions: Literal["both", "hr", "lr"] = "both"
    side: Annotated[StrictInt, between(64, 2048), multiple_of(64)] = 512
    embed_dim: Annotated[StrictInt, between(32, 1024), multiple_of(32)] = 128
    mlp_dim: Annotated[StrictInt, between(32, 4096)] = 256
    frozen_inside: StrictBool = False


@section
class HintRecipe(RecipeFile):
    """A training from images with masks to a promptable model.

    Parameters
    ----------
    name : str
        Name of the model, and of its file.
    data : DataConfig
        The images, with masks.
    training : StageConfig
        How long and how fast.
    kind : str
        "hints".
    objects : ObjectConfig
        Which parts of the masks are objects.
    model : HintModelConfig
        What is trained.
    draws : DrawConfig
        Which prompts are simulated.
    seed : int
        Of every random choice.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    name: ModelName
    data: DataConfig
    training: StageConfig
    kind: Literal["hints"] = "hints"
    objects: ObjectConfig = field(default_factory=ObjectConfig)
    model: HintModelConfig = field(default_factory=HintModelConfig)
    draws: DrawConfig = field(default_factory=DrawConfig)
    seed: Seed = 0
    device: Device = "auto"

    def with_epochs(self, factor: float) -> HintRecipe:
        """Return a copy with the epochs multiplied by `factor`, at least one."""
        epochs = max(1, round(self.training.epochs * factor))
        return replace(self, training=replace(self.training, epochs=epochs))

    def for_data(self) -> Recipe:
        """Return a recipe with the same data and seed, for `TrainingData.of`."""
        return Recipe(self.name, self.data, self.training, self.training, seed=self.seed)


def hint_recipes() -> dict[str, Path]:
    """Return the bundled recipes of promptable models by name."""
    return {path.stem: path for path in sorted((recipes_folder() / "hints").glob("*.yaml"))}


def is_hint_recipe(path: Path) -> bool:
    """Whether a recipe's file states that it is for a promptable model."""
    return path.is_file() and cast("object", read_recipe_text(path).get("kind")) == KIND


def load_hint_recipe(path: Path) -> HintRecipe:
    """Read a recipe; paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        As `load_recipe`.
    """
    return HintRecipe.from_dict(read_recipe_text(path), path=path)
