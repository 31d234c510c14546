"""The recipe of a training: every key, documented, and checked before anything runs."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
)

from napari_plimseg.errors import ConfigError
from napari_plimseg.models import Surroundings
from napari_plimseg.tissue import PRESETS, TissueClasses
from plimseg_training.config.schema import (
    Items,
    Number,
    RecipeFile,
    RecipePath,
    between,
    did_you_mean,
    multiple_of,
    named,
    read_recipe_text,
    refusal,
    resolved,
    section,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def _checked_classes(value: Any, info: ValidationInfo) -> str | dict[str, Any]:
    if isinstance(value, dict):
        try:
            TissueClasses.from_dict(value)
        except ConfigError as error:
            remedy = error.remedy or "Correct it under the key 'data.classes'."
            raise ConfigError(error.problem, remedy=remedy) from error
        return value
    if not isinstance(value, str):
        raise refusal(f"holds {named(value)}", "Write keys and values, or a name.")
    if value.endswith((".yaml", ".yml")):
        return value if info.context is None else str(resolved(value, info))
    if value not in {"auto", *PRESETS}:
        raise refusal(
            f"is '{value}', which is neither a preset nor a YAML file"
            + did_you_mean(value, PRESETS),
            f"Presets: {', '.join(PRESETS)}; or 'auto'.",
        )
    return value


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w .+-]{0,79}", name):
        raise refusal(
            f"is '{name}', which can't be the name of a file",
            "Use letters, digits, spaces and .+-_ only, 80 at most.",
        )
    return name


def _checked_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise refusal(f"is '{device}'", "Write auto, cpu, cuda, cuda:1 or mps.")
    return device


def _map_of_names(value: Any) -> Any:
    """Return keys as text: YAML reads those of `3: stroma` as numbers."""
    if not isinstance(value, dict):
        return value
    named_none = [key for key, name in value.items() if key is None or name is None]
    if named_none:
        raise refusal("has a name or a class that is empty", "Put colors in quotes: '#0000ff'.")
    numbers = (int, str)
    return {
        str(key) if isinstance(key, numbers) and not isinstance(key, bool) else key: name
        for key, name in value.items()
    }


def _names(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if None in value:
        raise refusal("has an empty name", "Put colors in quotes: '#0000ff'.")
    return tuple(str(n) if isinstance(n, int) and not isinstance(n, bool) else n for n in value)


def _not_empty(scales: tuple[float, ...]) -> tuple[float, ...]:
    if not scales:
        raise refusal("is empty", "Write [1.0] for one scale.")
    return scales


ModelName = Annotated[StrictStr, AfterValidator(_checked_name)]
Device = Annotated[StrictStr, AfterValidator(_checked_device)]
Seed = Annotated[StrictInt, between(0, 2**32 - 1)]
Share = Annotated[Number, between(0, 1)]
_Weight = Annotated[Number, between(0, 1000)]
_Rate = Annotated[Number, between(0, 1, above=True)]
_Epochs = Annotated[StrictInt, between(1, 100_000)]
_BatchSize = Annotated[StrictInt, between(1, 65_536)]
_Crop = Annotated[StrictInt, between(32, 8192, or_zero=True)]
_Augment = Literal["none", "flips", "full"]


@section
class DataConfig:
    """Which images, and how they are split.

    Parameters
    ----------
    train : Path or None
        Folder of tagged images, or a CSV file of tags. Relative to the recipe's folder; None when
        the command line names it.
    more : tuple of Path
        Further folders with the same classes, or some of them, used for training only.
    validation : Path or None
        Folder used for validation only; None splits it off `train`.
    layout : str
        Layout of the folder: "auto", or a name that `plimseg scan` prints ("names", "csv",
        "folders", ...).
    classes : str or dict
        "auto" (from the folder), the name of a preset, a YAML file of classes, or the classes
        themselves (`classes:` with name, color and prompts).
    mpp : float or None
        Pixel size of the images in um; None when the folder states it.
    validation_fraction : float
        Fraction of the images split off for validation, by whole slides or patients; 0 for none.
    validation_groups : tuple of str
        Slides or patients for validation by name, instead of the fraction.
    white_background : bool
        Whether white pixels form a background class.
    map : dict of str to str
        The class of a number, a color ("#0000ff") or a class name of the truth masks that is no
        class: `3: stroma`; "*" stands for all others, and the class "-" ignores one. As `--map`.
    ignore : tuple of str
        Numbers, colors and class names of the truth masks that count as not annotated; "*" stands
        for all others. As `--ignore`.
    """

    train: RecipePath | None = None
    more: Items[RecipePath] = ()
    validation: RecipePath | None = None
    layout: StrictStr = "auto"
    classes: Annotated[str | dict[str, Any], PlainValidator(_checked_classes)] = "auto"
    mpp: Annotated[Number | None, between(0.05, 20)] = None
    validation_fraction: Annotated[Number, between(0, 0.5)] = 0.15
    validation_groups: Items[StrictStr] = ()
    white_background: StrictBool = False
    map: Annotated[dict[StrictStr, StrictStr], BeforeValidator(_map_of_names)] = field(
        default_factory=dict
    )
    ignore: Annotated[Items[StrictStr], BeforeValidator(_names)] = ()

    @property
    def maps(self) -> tuple[str, ...]:
        """What `map` says, as `--map` is given."""
        return tuple(f"{name}={chosen}" for name, chosen in self.map.items())

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


@section
class ModelConfig:
    """The networks of both stages.

    Parameters
    ----------
    backbone : str
        Image encoder: "bundled", or the name of another one (`plimseg models list`).
    train_blocks : str
        Which blocks of the encoder are trained: "none", "last" or "all".
    segmenter : str
        Image encoder of stage 2: "backbone" (that of stage 1), "small" (EfficientNet-Lite0 of
        ImageNet, fast enough to be trained on a CPU), or the name of another one.
    segmenter_blocks : str
        Which blocks of it are trained, unless it is that of stage 1: "none", "last" or "all".
    decoder : str
        Head of stage 2: "pyramid" (a feature pyramid, masks at stride 4 where the encoder allows
        it), or "context" (dilated convolutions at stride 8).
    width : int
        Channels of the heads; the pyramid always has 64.
    window : int
        Side of what the trained model sees at once, in pixels, every 256 pixels. Larger windows see
        more around each pixel and take longer: 448 twice as long as 320.
    pooling : str
        How a window's CAMs become its score: their "mean", or a "smooth_max", for which a class
        that fills a small part of a window is enough.
    """

    backbone: StrictStr = "bundled"
    train_blocks: Literal["none", "last", "all"] = "none"
    segmenter: StrictStr = "backbone"
    segmenter_blocks: Literal["none", "last", "all"] = "all"
    decoder: Literal["context", "pyramid"] = "context"
    width: Annotated[StrictInt, between(8, 2048), multiple_of(8)] = 96
    window: Annotated[StrictInt, between(256, 1024), multiple_of(32)] = 320
    pooling: Literal["mean", "smooth_max"] = "smooth_max"


@section
class MatchingConfig:
    """The three language-image matching losses.

    Parameters
    ----------
    form : str
        Similarity of a region and a text: "clims" (clamped cosine), "contrastive" or "sigmoid".
    space : str
        Where regions are masked: in the "image" (as in CLIMS) or in the matcher's "features".
    prototypes : str
        What stands for a class: its "text"; "learnt", several vectors a class that start from its
        text and are trained by the tags, kept apart by a diversity term (the matching losses still
        use the text); or "class_means" of image features (a control).
    per_class : int
        Number of learnt prototypes of each class.
    diversity : float
        Weight of the mean squared cosine between learnt prototypes of a class.
    matcher : str
        The frozen image-text model: "backbone" (the one of the backbone, or the bundled one where
        the backbone is vision-only), the name of an encoder, or "random" (a control).
    ftm : float
        Weight of `loss_ftm`: the region under a class's CAM matches that class's text.
    btm : float
        Weight of `loss_btm`: the rest of the window does not.
    cbs : float
        Weight of `loss_cbs`: the region does not match texts of absent classes and non-tissue. Off
        by default: the contrastive form of `loss_ftm` already divides by these texts, and this
        term added nothing to it on either benchmark (docs/training.md).
    area : float
        Weight of the area term, which keeps CAMs as small as they can be.
    pairs_on : str
        Which windows are matched: "all", or "multi" (those with two or more tags).
    pairs_at_once : int
        Masked windows of an image per pass through the matcher, in the space "image".
    btm_on : str
        Which windows `loss_btm` uses: "all", or "multi" (those with two or more tags).
    temperature : float
        Of the contrastive form.
    threshold : float or None
        Cosine below which `loss_cbs` ignores a text in the form "clims"; None uses the median of
        mismatched cosines of the training windows.
    fill : str
        What replaces masked pixels: the "mean" color, a "blur" of them, or "zero".
    warm_up_epochs : int
        Epochs of plain classification before these losses begin.
    most_single_tags : float
        Share of windows with a single tag, in [0, 1], above which these losses are left out. Such
        windows show where a class is without any help; the losses then draw regions too large
        (docs/training.md).
    other_losses : dict of str to float
        Weights of further losses between regions and texts, by name (`stages.losses.LOSSES`).
    """

    form: Literal["clims", "contrastive", "sigmoid"] = "contrastive"
    space: Literal["image", "features"] = "features"
    prototypes: Literal["text", "class_means", "learnt"] = "text"
    per_class: Annotated[StrictInt, between(2, 64)] = 4
    diversity: _Weight = 0.1
    matcher: StrictStr = "backbone"
    ftm: _Weight = 0.1
    btm: _Weight = 0.1
    cbs: _Weight = 0.0
    area: _Weight = 0.0
    pairs_on: Literal["all", "multi"] = "all"
    pairs_at_once: Annotated[StrictInt, between(1, 4096)] = 16
    btm_on: Literal["all", "multi"] = "multi"
    temperature: Annotated[Number, between(0, 10, above=True)] = 0.07
    threshold: Annotated[Number | None, between(-1, 1)] = None
    fill: Literal["mean", "blur", "zero"] = "mean"
    warm_up_epochs: Annotated[StrictInt, between(0, 1000)] = 2
    most_single_tags: Share = 1.0
    other_losses: dict[StrictStr, Number] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of all losses by name; those of `other_losses` come last."""
        named = {"ftm": self.ftm, "btm": self.btm, "cbs": self.cbs, "area": self.area}
        return named | self.other_losses

    @property
    def is_used(self) -> bool:
        """Whether any of these losses has a weight."""
        return any(self.weights.values())

    def suited_to(self, single_tags: float) -> MatchingConfig:
        """Return the losses for images of which a share of the windows has a single tag."""
        if single_tags <= self.most_single_tags:
            return self
        others = dict.fromkeys(self.other_losses, 0.0)
        return replace(self, ftm=0.0, btm=0.0, cbs=0.0, area=0.0, other_losses=others)


@section
class StageConfig:
    """How one network is trained.

    Parameters
    ----------
    epochs : int
        Passes over the items.
    batch_size : int
        Items per forward pass.
    accumulate : int
        Batches per optimizer step: a step sees `batch_size * accumulate` items.
    learning_rate : float
        Of the head, after warm-up.
    backbone_learning_rate : float
        Of the trained blocks of the encoder.
    weight_decay : float
        Of AdamW; biases and norms have none.
    schedule : str
        "cosine", or "poly" with power 0.9.
    warm_up_fraction : float
        Fraction of all steps in which the learning rate rises from 0.
    crop : int
        Side of random square crops in pixels; 0 for whole images.
    steps : int
        Steps of stage 2 in all its epochs, whatever the number of images: each is drawn as often
        as that takes. 0 draws each image once per epoch.
    balance : bool
        Whether images with a rare tag are drawn more often in stage 2, up to four times.
    augment : str
        "none", "flips" (and quarter turns), or "full" (stain, scale of crops, blur and JPEG too).
    ema : float
        Decay per step of the averaged weights, which are then validated and saved; 0 for none.
    keep : str
        Which epoch's weights are kept: the "best" on the validation images, or the "last", so
        that nothing is chosen on the images that give the score.
    tag_weight : float
        Weight of the tags' loss relative to that of the pseudo masks, in stage 2.
    hard_pixels : str
        "none", or "oeem" (pixels that fit their pseudo mask weigh more).
    loss_form : str
        "cross_entropy", "symmetric" or "bootstrap"; the last two tolerate wrong labels better.
    self_training_rounds : int
        Further rounds of stage 2. Each trains a new network on what the one before it sees, as
        the mean over eight turned views, where the tags allow it.
    round_margin : float
        As `pseudo_masks.ignore_margin`, for the labels of further rounds.
    precision : str
        "auto" (what the device does well), "float32", "bfloat16" or "float16".
    clip_norm : float
        Largest gradient norm of a step; 0 does not clip.
    """

    _: KW_ONLY
    epochs: _Epochs
    batch_size: _BatchSize
    accumulate: Annotated[StrictInt, between(1, 4096)] = 1
    learning_rate: _Rate
    backbone_learning_rate: Share = 0.0
    weight_decay: Share = 1e-2
    schedule: Literal["cosine", "poly"] = "cosine"
    warm_up_fraction: Annotated[Number, between(0, 1, below=True)] = 0.1
    crop: _Crop = 0
    steps: Annotated[StrictInt, between(0, 1_000_000)] = 0
    balance: StrictBool = False
    augment: _Augment = "flips"
    ema: Annotated[Number, between(0, 1, below=True)] = 0.0
    keep: Literal["best", "last"] = "best"
    tag_weight: _Weight = 0.3
    hard_pixels: Literal["none", "oeem"] = "none"
    loss_form: Literal["cross_entropy", "symmetric", "bootstrap"] = "cross_entropy"
    self_training_rounds: Annotated[StrictInt, between(0, 20)] = 0
    round_margin: Share = 0.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    clip_norm: Annotated[Number, between(0)] = 1.0


@section
class PseudoMaskConfig:
    """How CAMs, the text model, or both become pseudo masks.

    Parameters
    ----------
    source : str
        "cams" of stage 1; "words", what the text model sees at every pixel without training, times
        the tags, which needs no stage 1; "mean", the mean of both, each weighted by how well it
        predicts the tags of the training windows; "model", what a trained model of tissue classes
        sees, times the tags; or "auto": "model" where it predicts the tags of the training images
        well (`stages.TRUSTED`), without having seen any of them, and "mean" elsewhere.
    model : str
        The model of the sources "model" and "auto": a name or a file. Its classes stand for those
        of the recipe as their texts are alike.
    scales : tuple of float
        Image scales whose scores are averaged; 1 is the image's own size.
    flips : bool
        Whether mirrored images are averaged too.
    gate_by_tags : bool
        Whether a pixel only gets a class that its window is tagged with.
    fill_single_tag : bool
        Whether windows with one tag are filled with that class.
    refine : str
        "none", or "pamr" (local affinities of colors).
    refine_iterations : int
        Iterations of the refinement.
    ignore_margin : float
        Pixels whose best two classes are closer than this are ignored in stage 2; 0 for none.
        Scores of the text model add up to 1 under the tags: 0.2 there is "unsure below 0.6".
    ignore_share : float
        Share of each class's pixels in an image, the least sure ones, that are ignored in stage 2,
        where several tags leave a choice. Unlike a margin it does not take more of one class than
        of the others.
    """

    source: Literal["cams", "words", "mean", "model", "auto"] = "cams"
    model: StrictStr = "bundled-tissue"
    scales: Annotated[Items[Annotated[Number, between(0.1, 4)]], AfterValidator(_not_empty)] = (
        1.0,
    )
    flips: StrictBool = True
    gate_by_tags: StrictBool = True
    fill_single_tag: StrictBool = True
    refine: Literal["none", "pamr"] = "none"
    refine_iterations: Annotated[StrictInt, between(1, 1000)] = 10
    ignore_margin: Share = 0.5
    ignore_share: Share = 0.0

    @property
    def sources(self) -> tuple[str, ...]:
        """What has to be known of each image: of "cams", "words" and "model"."""
        return ("cams", "words") if self.source == "mean" else (self.source,)


@section
class GateConfig:
    """Whether the trained network leaves out classes that it does not see around a place.

    Parameters
    ----------
    by : str
        "none", or "tags": a class is left out where its score over a field around the place, the
        smooth maximum of its log-odds, is below a threshold. The network learns the tags by
        exactly that score, so it is an image-level classifier too.
    field : float
        Side of the field, in sides of a tagged window.
    keep : float or None
        Fraction of the training windows tagged with a class in which the threshold keeps it; None
        uses even odds, 0, where the tags' loss draws the line.
    """

    by: Literal["none", "tags"] = "none"
    field: Annotated[Number, between(0.1, 100)] = 2.0
    keep: Annotated[Number | None, between(0.5, 1)] = None


@section
class SurroundingsConfig:
    """What the trained network's maps take from the surroundings of a pixel.

    Parameters
    ----------
    smoothing : float
        Standard deviation of the Gaussian over its logits, in um; 0 for none. Removes specks.
    together : tuple of str
        Classes that are grades of one tissue, such as tumor epithelium and normal mucosa: which of
        them a pixel of the tissue is, the tissue around it votes on. None by default.
    vote : float
        Standard deviation of the Gaussian over these votes, in um.
    least : float
        Area of the smallest piece of a class, in square um; smaller ones become what is next to
        them. 0 keeps all.
    """

    smoothing: Annotated[Number, between(0, 100)] = 0.0
    together: Items[StrictStr] = ()
    vote: Annotated[Number, between(1, 1000)] = 40.0
    least: Annotated[Number, between(0, 1e6)] = 0.0

    def for_classes(self, classes: TissueClasses) -> Surroundings | None:
        """Return them for a model with some classes; None when they change nothing.

        Raises
        ------
        ConfigError
            When `together` names a class that isn't a tissue of the model.
        """
        if not (self.smoothing or self.together or self.least):
            return None
        tissue = classes.names[: len(classes.tissue_ids)]
        unknown = [name for name in self.together if name not in tissue]
        if unknown:
            raise ConfigError(
                f"the key 'surroundings.together' names '{unknown[0]}', which is not a tissue",
                remedy=f"Its names may be: {', '.join(tissue)}.",
            )
        group = tuple(tissue.index(name) for name in self.together)
        return Surroundings(self.smoothing, group, self.vote if group else 0.0, self.least)


@section
class DistillConfig:
    """A small, fast network that learns what the trained one predicts.

    Parameters
    ----------
    student : str
        "none", or "small": a network of about a million weights, written as a second model file.
    epochs : int
        Passes over the images.
    batch_size : int
        Images per step.
    learning_rate : float
        Of all weights, after warm-up.
    crop : int
        Side of random square crops in pixels; 0 for whole images.
    temperature : float
        Divides the logits of both networks before they are compared.
    tag_weight : float
        Weight of the tags' loss relative to that of the predictions.
    augment : str
        "none", "flips" or "full", as in the stages; the predictions to learn are those of the
        unaugmented image.
    unlabelled : tuple of Path
        Folders of further images without tags, at the same pixel size.
    start : Path or None
        A model file of the same student, whose encoder provides the initial weights.
    """

    student: Literal["none", "small"] = "none"
    epochs: _Epochs = 30
    batch_size: _BatchSize = 8
    learning_rate: _Rate = 2e-3
    crop: _Crop = 256
    temperature: Annotated[Number, between(0.1, 100)] = 2.0
    tag_weight: _Weight = 0.3
    augment: _Augment = "full"
    unlabelled: Items[RecipePath] = ()
    start: RecipePath | None = None

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


@section
class Recipe(RecipeFile):
    """A whole training, from a tagged folder to a model file.

    Parameters
    ----------
    name : str
        Name of the model, and of its file.
    data : DataConfig
        The images.
    stage1, stage2 : StageConfig
        Training of the CAM network and of the segmentation network.
    model : ModelConfig
        The networks.
    matching : MatchingConfig
        The language-image matching losses of stage 1.
    pseudo_masks : PseudoMaskConfig
        From CAMs to pseudo masks.
    gate : GateConfig
        Whether classes are left out where the network does not see them.
    surroundings : SurroundingsConfig
        Whether specks are smoothed and grades decided together.
    distill : DistillConfig
        The fast student.
    seed : int
        Of every random choice: order, augmentation, initial weights, dropout.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    name: ModelName
    data: DataConfig
    stage1: StageConfig
    stage2: StageConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    pseudo_masks: PseudoMaskConfig = field(default_factory=PseudoMaskConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    seed: Seed = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        rates = (self.stage1.backbone_learning_rate, self.stage2.backbone_learning_rate)
        if self.model.train_blocks != "none" and not any(rates):
            raise ConfigError(
                f"the key 'model.train_blocks' is '{self.model.train_blocks}', but neither stage "
                "has a 'backbone_learning_rate'",
                remedy="Set stage1.backbone_learning_rate, for example 1.0e-5, or train_blocks: "
                "none.",
            )

    def with_masks_read(self, maps: Sequence[str], ignored: Sequence[str]) -> Recipe:
        """Return a copy with more entries of `data.map` and `data.ignore`.

        Parameters
        ----------
        maps : sequence of str
            Each "NAME=CLASS", as of `--map`.
        ignored : sequence of str
            As of `--ignore`.

        Raises
        ------
        ConfigError
            When an entry has no equals sign.
        """
        chosen = dict(self.data.map)
        for entry in maps:
            name, sign, other = entry.rpartition("=")
            if not (name.strip() and sign and other.strip()):
                raise ConfigError(
                    f"--map has '{entry}', which does not name two classes",
                    remedy="Write NAME=CLASS, where CLASS is one of yours.",
                )
            if chosen.setdefault(name.strip(), other.strip()) != other.strip():
                raise ConfigError(
                    f"--map or the key 'data.map' gives '{name.strip()}' two classes",
                    remedy="Keep one of them.",
                )
        data = replace(self.data, map=chosen, ignore=(*self.data.ignore, *ignored))
        return replace(self, data=data)


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
