"""The recipe of a training: typed, documented, checked before anything runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import atomic_write
from plimseg_training.checked import Range, build, check_fields, plain, resolved, set_key
from plimseg_training.recipe_parts import (
    DataConfig,
    DistillConfig,
    GateConfig,
    MatchingConfig,
    ModelConfig,
    PseudoMaskConfig,
    StageConfig,
)
from plimseg_training.recipe_text import parse_recipe_text, read_recipe_text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DataConfig",
    "DistillConfig",
    "GateConfig",
    "MatchingConfig",
    "ModelConfig",
    "PseudoMaskConfig",
    "Recipe",
    "StageConfig",
    "load_recipe",
]

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Recipe:
    """A whole training, from a tagged folder to a model file.

    Parameters
    ----------
    name : str
        Name of the model that it makes; also that of the file.
    data : DataConfig
        The images.
    stage1, stage2 : StageConfig
        Training of the cam network and of the segmentation network.
    model : ModelConfig
        The networks.
    matching : MatchingConfig
        The language-image-matching losses of stage 1.
    pseudo_masks : PseudoMaskConfig
        From cams to pseudo masks.
    gate : GateConfig
        Whether classes are left out where the network does not see them.
    distill : DistillConfig
        The fast student.
    seed : int
        Of every random choice: order, augmentation, initial weights, dropout.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    name: str
    data: DataConfig
    stage1: StageConfig
    stage2: StageConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    pseudo_masks: PseudoMaskConfig = field(default_factory=PseudoMaskConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if not re.fullmatch(r"\w[\w .+-]{0,79}", self.name):
            raise ConfigError(
                f"the key 'name' is '{self.name}', and a file will have that name",
                remedy="Use letters, digits, spaces and .+-_ only, 80 at most.",
            )
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(
                f"the key 'device' is '{self.device}'",
                remedy="Write auto, cpu, cuda, cuda:1 or mps.",
            )
        rates = (self.stage1.backbone_learning_rate, self.stage2.backbone_learning_rate)
        if self.model.train_blocks != "none" and not any(rates):
            raise ConfigError(
                f"the key 'model.train_blocks' is '{self.model.train_blocks}', and both stages "
                "have no 'backbone_learning_rate'",
                remedy="Set stage1.backbone_learning_rate, for example 1.0e-5, or train_blocks: "
                "none.",
            )

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, path: str | Path | None = None) -> Recipe:
        """Build from plain data.

        Parameters
        ----------
        data : dict
            As YAML gives it.
        path : str or Path, optional
            The recipe's file, for messages; relative paths in it are resolved against its folder.

        Raises
        ------
        ConfigError
            Naming the key, the file and what to write instead.
        """
        path = None if path is None else Path(path)
        recipe = build(cls, data, path=path)
        classes = recipe.data.classes
        if path is None or not isinstance(classes, str) or not classes.endswith((".yaml", ".yml")):
            return recipe
        data = plain(recipe)
        data["data"]["classes"] = str(resolved(classes, "data.classes", path))
        return build(cls, data)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        return plain(self)

    def to_text(self) -> str:
        """Return the recipe as YAML text with every key."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_yaml(self, path: str | Path) -> None:
        """Write the recipe for `load_recipe`, atomically."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.to_text(), "utf-8")

    def override(self, settings: str | Iterable[str]) -> Recipe:
        """Return a copy with keys set as on a command line: "stage1.epochs=2".

        Paths are relative to the working folder, as everywhere on a command line.

        Raises
        ------
        ConfigError
            When a setting is not `key=value`, or the key or value is wrong.
        """
        data = self.to_dict()
        for setting in [settings] if isinstance(settings, str) else settings:
            key, sign, text = setting.partition("=")
            if not sign or not key.strip():
                raise ConfigError(
                    f"the setting '{setting}' is not key=value",
                    remedy="Write it like stage1.epochs=2.",
                )
            value = parse_recipe_text(f"value: {text.strip()}")["value"]
            set_key(data, key.strip(), value)
        return build(type(self), data)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe; paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        When the file is missing, is not YAML, or a key or value is wrong; naming the key, the
        file and what to write instead.
    """
    path = Path(path)
    return Recipe.from_dict(read_recipe_text(path), path=path)
