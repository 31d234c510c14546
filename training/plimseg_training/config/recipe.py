"""The recipe of a training: typed, documented, checked before anything runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import atomic_write
from napari_plimseg.tissue import PRESETS, TissueClasses
from plimseg_training.config.schema import (
    Range,
    build,
    check_fields,
    nearest,
    parse_recipe_text,
    plain,
    read_recipe_text,
    resolved,
    set_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


_ANY = float("inf")
_Weight = Annotated[float, Range(0, 1000)]
_Rate = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are split.

    Parameters
    ----------
    train : Path or None
        Folder of tagged images, or a CSV of tags. Relative to the recipe's folder; None when the
        command line names it.
    more : tuple of Path
        Further folders with the same classes, or some of them, that are only trained on.
    validation : Path or None
        Folder that is only measured on; None splits it off `train`.
    layout : str
        Layout of the folder: "auto", or a name that `scan` knows ("names", "csv", "folders", ...).
    classes : str or dict
        "auto" (from the folder), the name of a preset, a YAML file of classes, or the classes
        themselves (`classes:` with name, color and prompts).
    mpp : float or None
        Pixel size of the images in um; None when the folder tells it.
    validation_fraction : float
        Share of the images split off for validation, by whole slides or patients; 0 for none.
    validation_groups : tuple of str
        Slides or patients for validation by name, in place of the fraction.
    white_background : bool
        Whether white pixels are background of their own.
    """

    train: Path | None = None
    more: tuple[Path, ...] = ()
    validation: Path | None = None
    layout: str = "auto"
    classes: str | dict[str, Any] = "auto"
    mpp: Annotated[float | None, Range(0.05, 20)] = None
    validation_fraction: Annotated[float, Range(0, 0.5)] = 0.15
    validation_groups: tuple[str, ...] = ()
    white_background: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.classes, dict):
            try:
                TissueClasses.from_dict(self.classes)
            except ConfigError as error:
                remedy = error.remedy or "Correct it under the key 'data.classes'."
                raise ConfigError(error.problem, remedy=remedy) from error
        elif self.classes not in {"auto", *PRESETS} and not self.classes.endswith(
            (".yaml", ".yml")
        ):
            guess = nearest(self.classes, PRESETS)
            raise ConfigError(
                f"the key 'data.classes' is '{self.classes}', which is neither a preset nor a "
                f"YAML file" + (f"; did you mean '{guess}'?" if guess else ""),
                remedy=f"Presets: {', '.join(PRESETS)}; or 'auto'.",
            )

    def tissue_classes(self) -> TissueClasses | None:
        """Return the classes that the recipe names, or None for "auto".

        Raises
        ------
        ConfigError
            When the YAML file of classes is missing or wrong.
        """
        if isinstance(self.classes, dict):
            return TissueClasses.from_dict(self.classes)
        if self.classes == "auto":
            return None
        return PRESETS.get(self.classes) or TissueClasses.from_yaml(self.classes)


@dataclass(frozen=True)
class ModelConfig:
    """The networks of both stages.

    Parameters
    ----------
    backbone : str
        Image encoder: "bundled", or a name that the catalogue of backbones knows.
    train_blocks : str
        Which blocks of the encoder are trained: "none", "last" or "all".
    width : int
        Channels of the heads.
    pooling : str
        How a window's cams become its score: their "mean", or a "smooth_max" (`windows`), for
        which a class that fills a small part of a window is enough.
    """

    backbone: str = "bundled"
    train_blocks: Literal["none", "last", "all"] = "none"
    width: Annotated[int, Range(8, 2048)] = 96
    pooling: Literal["mean", "smooth_max"] = "smooth_max"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % 8:
            raise ConfigError(
                f"the key 'model.width' is {self.width}", remedy="Write a multiple of 8."
            )


@dataclass(frozen=True)
class MatchingConfig:
    """The three language-image-matching losses.

    Parameters
    ----------
    form : str
        Similarity of a region and a text: "clims" (clamped cosine), "contrastive" or "sigmoid".
    space : str
        Where regions are masked: in the "image" (as CLIMS) or in the matcher's "features".
    prototypes : str
        What a class is matched with: its "text", or "class_means" of image features (a control).
    matcher : str
        The frozen image-text model: "backbone" (the bundled one of the backbone), the name of an
        encoder, or "random" (a control).
    ftm : float
        Weight of `loss_ftm`: the region under a class's cam matches that class's text.
    btm : float
        Weight of `loss_btm`: the rest of the window does not.
    cbs : float
        Weight of `loss_cbs`: the region does not match texts of absent classes and non-tissue. Off
        by default: the contrastive form of `loss_ftm` divides by these texts already, and this
        term added nothing to it on either benchmark (docs/training.md).
    area : float
        Weight of the area term: cams are not larger than they need to be.
    pairs_on : str
        Windows that are matched at all: "all", or "multi" (with two tags and more).
    pairs_at_once : int
        Masked windows of an image that go through the matcher, in the space "image".
    btm_on : str
        Windows for `loss_btm`: "all", or "multi" (with two tags and more).
    temperature : float
        Of the contrastive form.
    threshold : float or None
        Cosine below which `loss_cbs` leaves a text alone in the form "clims"; None takes the
        median of mismatched cosines of the training windows.
    fill : str
        What stands in place of masked pixels: the "mean" colour, a "blur" of them, or "zero".
    warm_up_epochs : int
        Epochs of plain classification before these losses begin.
    other_losses : dict of str to float
        Weights of further losses between regions and texts, by name (`stages.losses.LOSSES`).
    """

    form: Literal["clims", "contrastive", "sigmoid"] = "contrastive"
    space: Literal["image", "features"] = "features"
    prototypes: Literal["text", "class_means"] = "text"
    matcher: str = "backbone"
    ftm: _Weight = 0.1
    btm: _Weight = 0.1
    cbs: _Weight = 0.0
    area: _Weight = 0.0
    pairs_on: Literal["all", "multi"] = "all"
    pairs_at_once: Annotated[int, Range(1, 4096)] = 16
    btm_on: Literal["all", "multi"] = "multi"
    temperature: Annotated[float, Range(0, 10, above=True)] = 0.07
    threshold: Annotated[float | None, Range(-1, 1)] = None
    fill: Literal["mean", "blur", "zero"] = "mean"
    warm_up_epochs: Annotated[int, Range(0, 1000)] = 2
    other_losses: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of all losses by name; those of `other_losses` come last."""
        named = {"ftm": self.ftm, "btm": self.btm, "cbs": self.cbs, "area": self.area}
        return named | self.other_losses

    @property
    def is_used(self) -> bool:
        """Whether any of these losses has a weight."""
        return any(self.weights.values())


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """How one network is trained.

    Parameters
    ----------
    epochs : int
        Passes over the items.
    batch_size : int
        Items a forward pass.
    accumulate : int
        Batches a step: a step sees `batch_size * accumulate` items.
    learning_rate : float
        Of the head, after warm-up.
    backbone_learning_rate : float
        Of the trained blocks of the encoder.
    weight_decay : float
        Of AdamW; biases and norms have none.
    schedule : str
        "cosine", or "poly" with power 0.9.
    warm_up_fraction : float
        Share of all steps in which the learning rate rises from 0.
    crop : int
        Side of random square crops in pixels; 0 for whole images.
    augment : str
        "none", "flips" (and quarter turns), or "full" (stain, blur and scale too).
    ema : float
        Decay a step of the averaged weights, which are then measured and kept; 0 for none.
    tag_weight : float
        Of the tags' own loss beside that of pseudo masks, in stage 2.
    hard_pixels : str
        "none", or "oeem" (pixels that fit their pseudo mask weigh more).
    self_training_rounds : int
        Rounds of relabelling by the network itself.
    precision : str
        "auto" (what the device does well), "float32", "bfloat16" or "float16".
    clip_norm : float
        Longest gradient of a step; 0 does not clip.
    """

    epochs: Annotated[int, Range(1, 100_000)]
    batch_size: Annotated[int, Range(1, 65_536)]
    accumulate: Annotated[int, Range(1, 4096)] = 1
    learning_rate: Annotated[float, Range(0, 1, above=True)]
    backbone_learning_rate: _Rate = 0.0
    weight_decay: _Rate = 1e-2
    schedule: Literal["cosine", "poly"] = "cosine"
    warm_up_fraction: Annotated[float, Range(0, 1, below=True)] = 0.1
    crop: Annotated[int, Range(32, 8192, or_zero=True)] = 0
    augment: Literal["none", "flips", "full"] = "flips"
    ema: Annotated[float, Range(0, 1, below=True)] = 0.0
    tag_weight: _Weight = 0.3
    hard_pixels: Literal["none", "oeem"] = "none"
    self_training_rounds: Annotated[int, Range(0, 20)] = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    clip_norm: Annotated[float, Range(0, _ANY)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PseudoMaskConfig:
    """How cams become pseudo masks.

    Parameters
    ----------
    scales : tuple of float
        Image sizes whose cams are averaged; 1 is the image's own.
    flips : bool
        Whether mirrored images are averaged too.
    gate_by_tags : bool
        Whether a pixel only gets a class that its window is tagged with.
    fill_single_tag : bool
        Whether windows with one tag are filled with that class.
    refine : str
        "none", or "pamr" (local affinities of colours).
    refine_iterations : int
        Iterations of the refinement.
    ignore_margin : float
        Pixels whose best two classes are closer than this are ignored in stage 2; 0 for none.
    """

    scales: tuple[Annotated[float, Range(0.1, 4)], ...] = (1.0,)
    flips: bool = True
    gate_by_tags: bool = True
    fill_single_tag: bool = True
    refine: Literal["none", "pamr"] = "none"
    refine_iterations: Annotated[int, Range(1, 1000)] = 10
    ignore_margin: Annotated[float, Range(0, 1)] = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.scales:
            raise ConfigError(
                "the key 'pseudo_masks.scales' is empty", remedy="Write [1.0] for one scale."
            )


@dataclass(frozen=True)
class GateConfig:
    """Whether the trained network leaves out classes that it does not see around a place.

    Parameters
    ----------
    by : str
        "none", or "tags": a class is left out where its score over a field around the place, the
        smooth maximum of its log-odds, is below a threshold. The network learns the tags by just
        that score, so it is an image-level classifier too.
    field : float
        Side of the field in sides of a tagged window.
    keep : float or None
        Share of the training windows tagged with a class in which the threshold keeps it; None
        takes even odds, 0, which is where the tags' loss draws the line.
    """

    by: Literal["none", "tags"] = "none"
    field: Annotated[float, Range(0.1, 100)] = 2.0
    keep: Annotated[float | None, Range(0.5, 1)] = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DistillConfig:
    """A small, fast network that learns what the trained one predicts.

    Parameters
    ----------
    student : str
        "none", or "small": a network of about a million weights, written as a second model file.
    epochs : int
        Passes over the images.
    batch_size : int
        Images a step.
    learning_rate : float
        Of all weights, after warm-up.
    crop : int
        Side of random square crops in pixels; 0 for whole images.
    temperature : float
        Both predictions are flattened by it before they are compared.
    tag_weight : float
        Of the tags' own loss beside that of the predictions.
    augment : str
        "none", "flips" or "full", as in the stages; predictions to learn are those of the image
        as it is.
    unlabelled : tuple of Path
        Folders of further images without tags, at the pixel size of the others.
    start : Path or None
        A model file of the same student, whose encoder's weights it begins with.
    """

    student: Literal["none", "small"] = "none"
    epochs: Annotated[int, Range(1, 100_000)] = 30
    batch_size: Annotated[int, Range(1, 65_536)] = 8
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 2e-3
    crop: Annotated[int, Range(32, 8192, or_zero=True)] = 256
    temperature: Annotated[float, Range(0.1, 100)] = 2.0
    tag_weight: _Weight = 0.3
    augment: Literal["none", "flips", "full"] = "full"
    unlabelled: tuple[Path, ...] = ()
    start: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def stage(self) -> StageConfig:
        """Return how the student is trained, for the training loop."""
        return StageConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            backbone_learning_rate=self.learning_rate,
            crop=self.crop,
            augment=self.augment,
            tag_weight=self.tag_weight,
        )


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
