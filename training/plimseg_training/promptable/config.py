"""The recipe of a model for hints: `kind: hints`, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path  # noqa: TC003 (types of fields are read at run time)
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import yaml

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import atomic_write
from plimseg_training.config.recipe import DataConfig, Recipe, StageConfig
from plimseg_training.config.schema import (
    Range,
    build,
    check_fields,
    parse_recipe_text,
    plain,
    read_recipe_text,
    set_key,
)
from plimseg_training.promptable.simulated_prompts import DrawConfig

if TYPE_CHECKING:
    from collections.abc import Iterable


KIND = "hints"


@dataclass(frozen=True)
class ObjectConfig:
    """What counts as an object.

    Parameters
    ----------
    leave_out : tuple of str
        Classes whose regions are none: "other tissue".
    min_area : int
        Smallest one, in pixels of the HR patch.
    mpp : float
        Micrometres per pixel of the HR patch; the LR patch has twice that.
    shift : float
        How far from the patch's middle an object may lie at most, in sides of the patch.
    views : int
        Patches an object, each with its own shift and flip; epochs take turns. What the frozen
        encoder gives of them is kept, so few make short epochs.
    """

    leave_out: tuple[str, ...] = ()
    min_area: Annotated[int, Range(1, 1_000_000)] = 64
    mpp: Annotated[float, Range(0.05, 20)] = 1.0
    shift: Annotated[float, Range(0, 0.4)] = 0.15
    views: Annotated[int, Range(1, 1000)] = 8

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class HintModelConfig:
    """What is trained.

    Parameters
    ----------
    start : str
        "bundled" (the model for hints that comes along, trained on), the file of another one,
        "sam:FOLDER", "sam:FILE" or "hf-hub:ORG/REPO" (SAM, SAM-HQ or MobileSAM: only WSI-SAM's
        new parts are trained), or "backbone:NAME" (everything on a frozen backbone, from the
        beginning).
    resolutions : str
        "both", or only "hr" or "lr" (the ablation); a model for hints keeps its own.
    side : int
        Of the patches in pixels, where the start leaves it open: a backbone or a TinyViT.
    embed_dim, mlp_dim : int
        Of a decoder on a backbone.
    frozen_inside : bool
        Whether the pretrained weights go into the model file too.
    """

    start: str = "bundled"
    resolutions: Literal["both", "hr", "lr"] = "both"
    side: Annotated[int, Range(64, 2048)] = 512
    embed_dim: Annotated[int, Range(32, 1024)] = 128
    mlp_dim: Annotated[int, Range(32, 4096)] = 256
    frozen_inside: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.side % 64 or self.embed_dim % 32:
            raise ConfigError(
                f"the keys 'model.side' and 'model.embed_dim' are {self.side} and {self.embed_dim}",
                remedy="Write multiples of 64 and of 32.",
            )


@dataclass(frozen=True)
class HintRecipe:
    """A training from images with masks to a model for hints.

    Parameters
    ----------
    name : str
        Name of the model that it makes; also that of the file.
    data : DataConfig
        The images, with masks.
    training : StageConfig
        How long and how fast.
    kind : str
        "hints".
    objects : ObjectConfig
        What of the masks is an object.
    model : HintModelConfig
        What is trained.
    draws : DrawConfig
        Which hints are drawn.
    seed : int
        Of every random choice.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    name: str
    data: DataConfig
    training: StageConfig
    kind: Literal["hints"] = "hints"
    objects: ObjectConfig = field(default_factory=ObjectConfig)
    model: HintModelConfig = field(default_factory=HintModelConfig)
    draws: DrawConfig = field(default_factory=DrawConfig)
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        # names and devices are checked as those of any recipe
        Recipe(self.name, self.data, self.training, self.training, device=self.device)

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, path: Path | None = None) -> HintRecipe:
        """Build from plain data, as `Recipe.from_dict`."""
        return build(cls, data, path=path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        return plain(self)

    def to_yaml(self, path: Path) -> None:
        """Write the recipe, atomically."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, "utf-8")

    def override(self, settings: Iterable[str]) -> HintRecipe:
        """Return a copy with keys set as on a command line: "training.epochs=2"."""
        data = self.to_dict()
        for setting in settings:
            key, sign, text = setting.partition("=")
            if not sign or not key.strip():
                raise ConfigError(
                    f"the setting '{setting}' is not key=value",
                    remedy="Write it like training.epochs=2.",
                )
            set_key(data, key.strip(), parse_recipe_text(f"value: {text.strip()}")["value"])
        return build(type(self), data)

    def with_epochs(self, factor: float) -> HintRecipe:
        """Return a copy with so many times as many epochs, at least one."""
        epochs = max(1, round(self.training.epochs * factor))
        return replace(self, training=replace(self.training, epochs=epochs))

    def for_data(self) -> Recipe:
        """Return a recipe with the same data and seed, for `TrainingData.of`."""
        return Recipe(self.name, self.data, self.training, self.training, seed=self.seed)


def is_hint_recipe(path: Path) -> bool:
    """Whether a recipe's file says that it is for a model for hints."""
    return path.is_file() and cast("object", read_recipe_text(path).get("kind")) == KIND


def load_hint_recipe(path: Path) -> HintRecipe:
    """Read a recipe; paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        As `load_recipe`.
    """
    return HintRecipe.from_dict(read_recipe_text(path), path=path)
