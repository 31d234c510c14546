"""Scores of a model on images with known masks, under the published protocols."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_plimseg.errors import ConfigError, TagError
from plimseg_training.data import read_pixels, read_truth
from plimseg_training.evaluation.predict import TILE_SIZE, predict_maps
from plimseg_training.evaluation.protocols import Protocol, chosen_protocols

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel
    from napari_plimseg.tissue import TissueClasses
    from plimseg_training.data import TaggedFolder
    from plimseg_training.evaluation.metrics import Score
    from plimseg_training.evaluation.predict import ImageMaps


LEFT_OUT = "-"
ALL_OTHERS = "*"


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Maps the channels of a model to the classes of a data set.

    Parameters
    ----------
    matrix : ndarray of bool, shape (K, C)
        Whether channel `c` of the model counts for class `k` of the data set. Several channels of
        one class are summed.
    """

    matrix: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the model can predict each class of the data set, (K,)."""
        known: NDArray[np.bool_] = np.asarray(self.matrix.any(1))
        return known

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert probabilities (C, H, W) of the model to those of the data's classes (K, H, W)."""
        rows, count = len(self.matrix), len(probabilities)
        if rows <= count and np.array_equal(self.matrix, np.eye(rows, count, dtype=bool)):
            return probabilities[:rows]  # the same classes in the same order: no copy
        return np.tensordot(self.matrix.astype(np.float32), probabilities, 1)

    @classmethod
    def between(
        cls, model: TissueClasses, data: TissueClasses, chosen: Mapping[str, str] | None = None
    ) -> Self:
        """Match classes by name, and as the user specifies.

        Parameters
        ----------
        model, data : TissueClasses
        chosen : mapping of str to str, optional
            Name of a model's class -> name of a data set's class, or "-" to ignore it; "*"
            means every class without a counterpart of the same name.

        Raises
        ------
        ConfigError
            When a tissue class of the model has no counterpart, a name is unknown, or no class of
            the data set can be predicted.
        """
        matrix = np.zeros((len(data), len(model)), bool)
        chosen = dict(chosen or {})
        others = chosen.pop(ALL_OTHERS, None)
        wanted = {_column(model, old, "model"): new for old, new in chosen.items()}
        names = {name.casefold(): row for row, name in enumerate(data.names)}
        for column, name in enumerate(model.names):
            if others is not None and column not in wanted and name.casefold() not in names:
                wanted[column] = others
            target = wanted.get(column, name)
            if target == LEFT_OUT:
                continue
            if column in wanted:
                matrix[_column(data, target, "data"), column] = True
            elif column + 1 == model.background_id:
                if data.background_id is not None:
                    matrix[data.background_id - 1, column] = True
            elif name.casefold() in names:
                matrix[names[name.casefold()], column] = True
            else:
                raise ConfigError(
                    f"the data has no class '{name}' of the model, only {', '.join(data.names)}",
                    remedy=f"Map it with --map '{name}=CLASS', or ignore it with --map '{name}=-'.",
                )
        if not matrix[[i - 1 for i in data.tissue_ids]].any():
            raise ConfigError(
                "the model has none of the data's tissue classes",
                remedy=f"Its classes are {', '.join(model.names)}.",
            )
        return cls(matrix)


def _column(classes: TissueClasses, name: str, whose: str) -> int:
    if name.casefold().strip() not in {known.casefold() for known in classes.names}:
        raise ConfigError(
            f"the {whose} has no class '{name}', which the class map names",
            remedy=f"Classes of the {whose}: {', '.join(classes.names)}.",
        )
    return classes.mask_id(name) - 1


def parse_class_map(entries: Sequence[str]) -> dict[str, str]:
    """Read `--map "model class=data class"` entries.

    Raises
    ------
    ConfigError
        When an entry has no equals sign or an empty side.
    """
    chosen = {}
    for entry in entries:
        old, sign, new = (part.strip() for part in entry.rpartition("="))
        if not (old and sign and new):
            raise ConfigError(
                f"'{entry}' does not match two classes", remedy="Write 'MODEL CLASS=DATA CLASS'."
            )
        chosen[old] = new
    return chosen


@dataclass(frozen=True)
class ImageScore:
    """The score of one image.

    Parameters
    ----------
    name : str
    score : Score
    """

    name: str
    score: Score


@dataclass(frozen=True)
class ProtocolResult:
    """Result of a model on a data set under one protocol.

    Parameters
    ----------
    protocol : Protocol
    tta : bool
        Whether predictions are averaged over flips and quarter turns.
    score : Score
        Score over the pixels of all images together.
    images : tuple of ImageScore
    """

    protocol: Protocol
    tta: bool
    score: Score
    images: tuple[ImageScore, ...]

    @property
    def title(self) -> str:
        """Title for display."""
        return self.protocol.title + (", TTA" if self.tta else "")

    @property
    def background(self) -> tuple[int, int]:
        """Counted background pixels of the truth, and those of them that the mask calls tissue."""
        score = self.score
        rows = np.setdiff1d(np.arange(len(score.names)), score.scored)
        counted = score.confusion[rows]
        return int(counted.sum()), int(counted[:, list(score.scored)].sum())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        found = {
            "protocol": self.protocol.key,
            "title": self.title,
            "oracle_tags": self.protocol.oracle_tags,
            "tta": self.tta,
            **self.score.to_dict(),
            "background_pixels": self.background[0],
            "background_as_tissue": self.background[1],
        }
        if self.protocol.key == "oeem":
            found["oeem_dice"] = found["dice_of_miou"]
            found["true_dice_of_first_class"] = next(iter(found["dice"].values()))
        found["images"] = [
            {"name": i.name, "miou": i.score.to_dict()["miou"], "iou": i.score.to_dict()["iou"]}
            for i in self.images
        ]
        return found


@dataclass(frozen=True)
class Skipped:
    """An image that was not scored.

    Parameters
    ----------
    file : str
        File name.
    reason : str
    """

    file: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a data set.

    Parameters
    ----------
    model : str
        Name for display.
    model_identity : str
    data : str
        Name of the data's folder.
    classes : tuple of str
        Classes of the data.
    results : tuple of ProtocolResult
        One per protocol, without and then with TTA.
    images : int
        Number of images scored.
    skipped : tuple of Skipped
    notes : tuple of str
        Caveats for readers of the scores.
    seconds : float
    device : str
        Description of the device.
    """

    model: str
    model_identity: str
    data: str
    classes: tuple[str, ...]
    results: tuple[ProtocolResult, ...]
    images: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    seconds: float
    device: str

    def result(self, key: str, *, tta: bool = False) -> ProtocolResult:
        """Return the result of a protocol."""
        return next(r for r in self.results if r.protocol.key == key and r.tta == tta)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "model": self.model,
            "model_identity": self.model_identity,
            "data": self.data,
            "classes": list(self.classes),
            "results": [result.to_dict() for result in self.results],
            "images": self.images,
            "skipped": [{"file": s.file, "reason": s.reason} for s in self.skipped],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
            "device": self.device,
        }


@dataclass(frozen=True)
class EvaluationProgress:
    """Progress of an evaluation.

    Parameters
    ----------
    done, total : int
        Number of images.
    name : str
        The latest image.
    seconds_left : float
        Estimated from the pixels of the images.
    """

    done: int
    total: int
    name: str
    seconds_left: float = 0.0


def evaluate(
    model: DenseModel | str | Path,
    folder: TaggedFolder,
    *,
    protocol: str = "all",
    tta: bool = False,
    device: torch.device | str = "auto",
    class_map: Mapping[str, str] | None = None,
    tile_size: int = TILE_SIZE,
    gate: bool | None = None,
    on_progress: Callable[[EvaluationProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Score a model on the images of a folder that have known masks.

    Every image is predicted at the model's pixel size and compared at its own. Only protocol C
    uses tags, and takes them from the truth. Images are read one by one.

    Parameters
    ----------
    model : DenseModel, str or Path
        A model, or a name or file for `load_model`. A model that reads text is told the folder's
        classes; with a class map it keeps its own.
    folder : TaggedFolder
    protocol : str
        "A", "B", "C", "oeem", or "all" that are meaningful for the classes.
    tta : bool
        Whether to score predictions averaged over the eight flips and quarter turns too.
    device : torch.device or str
        "auto", or a device of this computer.
    class_map : mapping of str to str, optional
        Class of the model -> class of the data, where names differ.
    tile_size : int
        Side of a tile in the model's pixels.
    gate : bool, optional
        Whether to suppress classes that the model does not detect around a place; None uses the
        setting of its file.
    on_progress : callable, optional
        Called after every image.
    should_stop : callable, optional
        Asked after every image; the others are then in `Evaluation.skipped`.

    Raises
    ------
    TagError
        When no image has truth, or none can be read.
    ConfigError
        When classes don't match each other or the protocol, or the model has no gate.
    ModelError
        When the model can't be loaded.
    """
    from napari_plimseg.inference import describe_device, pick_device

    begin = time.monotonic()
    where = pick_device(str(device))
    protocols = chosen_protocols(protocol, folder.classes)
    with_truth = [image for image in folder.images if image.truth is not None]
    if not with_truth:
        raise TagError(
            "no image has a known mask, so nothing can be measured",
            path=folder.root,
            remedy="Evaluate on a part with masks: a folder 'mask' beside 'img', for example.",
        )
    if isinstance(model, str | Path):
        model = _loaded(model, folder, class_map)
    model = _with_gate(model, gate)
    classes = ClassMap.between(model.classes, folder.classes, class_map)
    model = model.to(where)
    counts: dict[tuple[str, bool], list[ImageScore]] = {
        (p.key, averaged): []
        for p in protocols
        for averaged in ((False, True) if tta else (False,))
    }
    skipped = [
        Skipped(image.path.name, "no known mask") for image in folder.images if image.truth is None
    ]
    unscored, started = 0, time.monotonic()
    pixels = sum(math.prod(image.size) for image in with_truth)
    for done, image in enumerate(with_truth, 1):
        try:
            rgb, truth = read_pixels(image), read_truth(image, folder)
        except TagError as error:
            skipped.append(Skipped(image.path.name, error.problem))
        else:
            unscored += int((truth == 0).sum())
            maps = predict_maps(model, rgb, folder.mpp, tta=tta, device=where, tile_size=tile_size)
            for (key, averaged), scores in counts.items():
                chosen = maps[1] if averaged else maps[0]
                counted = next(p for p in protocols if p.key == key)
                if chosen is not None:
                    score = _score(counted, chosen, classes, truth, folder)
                    scores.append(ImageScore(image.name, score))
        ahead = sum(math.prod(other.size) for other in with_truth[done:])
        left = (time.monotonic() - started) * ahead / (pixels - ahead)
        if on_progress is not None:
            on_progress(EvaluationProgress(done, len(with_truth), image.name, left))
        if should_stop is not None and should_stop() and any(counts.values()):
            skipped += [Skipped(other.path.name, "stopped before") for other in with_truth[done:]]
            break
    results = tuple(
        ProtocolResult(p, averaged, _pooled(counts[p.key, averaged], folder, skipped), images)
        for p in protocols
        for averaged in ((False, True) if tta else (False,))
        for images in [tuple(counts[p.key, averaged])]
    )
    return Evaluation(
        model=model.name,
        model_identity=model.identity,
        data=folder.root.name,
        classes=folder.classes.names,
        results=results,
        images=len(results[0].images),
        skipped=tuple(skipped),
        notes=_notes(model, folder, classes, results, unscored),
        seconds=time.monotonic() - begin,
        device=describe_device(where),
    )


def model_with_classes(name: str | Path) -> DenseModel | None:
    """Load a model that has classes of its own; None for one that reads text.

    Raises
    ------
    ModelError
        When it can't be loaded.
    """
    from napari_plimseg.models import is_encoder_name, load_model

    return None if is_encoder_name(str(name)) else load_model(name)


def _loaded(
    name: str | Path, folder: TaggedFolder, class_map: Mapping[str, str] | None
) -> DenseModel:
    from napari_plimseg.models import load_model

    if class_map:
        return load_model(name)  # a model that reads text keeps its classes, as a model file does
    return model_with_classes(name) or load_model(name, folder.classes)


def _with_gate(model: DenseModel, wanted: bool | None) -> DenseModel:
    from napari_plimseg.models import SegModel

    own = model.gate if isinstance(model, SegModel) else None
    if wanted and own is None:
        raise ConfigError(
            f"the model '{model.name}' has no class gate",
            remedy="Train it with gate.by=tags, or omit --gate.",
        )
    if wanted is False and isinstance(model, SegModel) and own is not None:
        return model.without_gate()
    return model


def _score(
    protocol: Protocol,
    maps: ImageMaps,
    classes: ClassMap,
    truth: NDArray[np.uint8],
    folder: TaggedFolder,
) -> Score:
    allowed = protocol.predictable(folder.classes, truth, classes.known)
    mask = np.empty(truth.shape, np.uint8)
    for band, probabilities in maps.bands():
        mask[band] = mask_of(classes(probabilities), allowed)
    return protocol.score(truth, mask, folder.classes)


def mask_of(
    probabilities: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Return the mask ids (H, W) of the most probable classes.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, H, W)
    allowed : ndarray of bool, shape (K,), optional
        The classes to choose from; None allows all.
    """
    if allowed is not None:
        probabilities = np.where(allowed[:, None, None], probabilities, -np.inf)
    mask: NDArray[np.uint8] = (probabilities.argmax(0) + 1).astype(np.uint8)
    return mask


def _pooled(images: list[ImageScore], folder: TaggedFolder, skipped: list[Skipped]) -> Score:
    if not images:
        raise TagError(
            f"none of its images could be scored; the last one: {skipped[-1].reason}",
            path=folder.root,
        )
    total = images[0].score
    for image in images[1:]:
        total = total + image.score
    return total


def _notes(
    model: DenseModel,
    folder: TaggedFolder,
    classes: ClassMap,
    results: Sequence[ProtocolResult],
    unscored: int,
) -> tuple[str, ...]:
    notes = []
    if folder.mpp is None:
        notes.append(
            f"The pixel size of the images is unknown; the model's {model.mpp:g} um/px was "
            "assumed. "
            "Set it with --mpp."
        )
    missing = [n for n, k in zip(folder.classes.names, classes.known, strict=True) if not k]
    if missing:
        notes.append(f"The model can't predict: {', '.join(missing)}.")
    counted = [r for r in results if r.background[0]]
    for result in counted:
        pixels, wrong = result.background
        notes.append(
            f"{result.title}: {pixels:,} background pixels are counted, of which {wrong:,} are "
            "predicted as tissue."
        )
    if counted and folder.layout == "bcss_wsss":
        notes.append(
            "In BCSS-WSSS, background is the value 4, which means 'excluded': not always glass."
        )
    if unscored:
        notes.append(f"{unscored:,} pixels have no truth and are not counted.")
    return tuple(notes)
