"""How well a model's masks agree with known ones, under the published protocols."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError, TagError
from plimseg_training.class_map import ClassMap
from plimseg_training.predict import TILE_SIZE, predict_maps
from plimseg_training.protocols import Protocol, chosen_protocols
from plimseg_training.tagged_folder import read_pixels, read_truth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from numpy.typing import NDArray

    from napari_plimseg.models.segmentation.base import DenseModel
    from plimseg_training.metrics import Score
    from plimseg_training.predict import ImageMaps
    from plimseg_training.tagged_folder import TaggedFolder


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
    """What one protocol says of a model on a data set.

    Parameters
    ----------
    protocol : Protocol
    tta : bool
        Whether predictions are means over flips and quarter turns.
    score : Score
        Over the pixels of all images together.
    images : tuple of ImageScore
    """

    protocol: Protocol
    tta: bool
    score: Score
    images: tuple[ImageScore, ...]

    @property
    def title(self) -> str:
        """What people read."""
        return self.protocol.title + (", TTA" if self.tta else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        found = {
            "protocol": self.protocol.key,
            "title": self.title,
            "oracle_tags": self.protocol.oracle_tags,
            "tta": self.tta,
            **self.score.to_dict(),
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
        Its name.
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
        What people call it.
    model_identity : str
    data : str
        Name of the data's folder.
    classes : tuple of str
        The data's classes.
    results : tuple of ProtocolResult
        A protocol each, first without TTA, then with it.
    images : int
        Number of images scored.
    skipped : tuple of Skipped
    notes : tuple of str
        What a reader of the numbers has to know.
    seconds : float
    device : str
        In words.
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
    """How far an evaluation is.

    Parameters
    ----------
    done, total : int
        Images.
    name : str
        The image done last.
    """

    done: int
    total: int
    name: str


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
) -> Evaluation:
    """Score a model on the images of a folder whose masks are known.

    Every image is predicted at the model's pixel size and compared at its own. Tags are used by
    protocol C only, and there they come from the truth. Images are read one by one.

    Parameters
    ----------
    model : DenseModel, str or Path
        A model, or what `load_model` takes. One that reads text is told the folder's classes.
    folder : TaggedFolder
    protocol : str
        "A", "B", "C", "oeem", or "all" that say something about the classes.
    tta : bool
        Also score means over the eight flips and quarter turns.
    device : torch.device or str
        "auto", or a device of this machine.
    class_map : mapping of str to str, optional
        Class of the model -> class of the data, for names that differ.
    tile_size : int
        Side of a tile in the model's pixels.
    gate : bool, optional
        Whether classes are left out where the model does not see them; None does as its file
        says.
    on_progress : callable, optional
        Called after every image.

    Raises
    ------
    TagError
        When no image has a truth, or none can be read.
    ConfigError
        When classes don't fit each other or the protocol, or the model has no gate.
    ModelError
        When the model can't be loaded.
    """
    from napari_plimseg.inference.devices import describe_device, pick_device

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
        model = _loaded(model, folder)
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
    unscored = 0
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
        if on_progress is not None:
            on_progress(EvaluationProgress(done, len(with_truth), image.name))
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
        notes=_notes(model, folder, classes, unscored),
        seconds=time.monotonic() - begin,
        device=describe_device(where),
    )


def _loaded(name: str | Path, folder: TaggedFolder) -> DenseModel:
    from napari_plimseg.models.library import BUNDLED
    from napari_plimseg.models.loading import load_model

    # a model file keeps its own classes, which the class map then matches
    is_file = str(name).endswith(".safetensors")
    reads_text = not is_file and (str(name) == BUNDLED or ":" in str(name))
    return load_model(name, folder.classes if reads_text else None)


def _with_gate(model: DenseModel, wanted: bool | None) -> DenseModel:
    from napari_plimseg.models.segmentation.seg_model import SegModel

    own = model.gate if isinstance(model, SegModel) else None
    if wanted and own is None:
        raise ConfigError(
            f"the model '{model.name}' has no class gate",
            remedy="Train it with gate.by=tags, or leave --gate out.",
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
    """Return the mask ids (H, W) of the likeliest classes.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, H, W)
    allowed : ndarray of bool, shape (K,), optional
        The classes to choose from; all when None.
    """
    if allowed is not None:
        probabilities = np.where(allowed[:, None, None], probabilities, -np.inf)
    mask: NDArray[np.uint8] = (probabilities.argmax(0) + 1).astype(np.uint8)
    return mask


def _pooled(images: list[ImageScore], folder: TaggedFolder, skipped: list[Skipped]) -> Score:
    if not images:
        raise TagError(
            f"none of its images could be scored; the last: {skipped[-1].reason}", path=folder.root
        )
    total = images[0].score
    for image in images[1:]:
        total = total + image.score
    return total


def _notes(
    model: DenseModel, folder: TaggedFolder, classes: ClassMap, unscored: int
) -> tuple[str, ...]:
    notes = []
    if folder.mpp is None:
        notes.append(
            f"The pixel size of the images is not known; they were taken to be at the model's "
            f"{model.mpp:g} um/px. Give it with --mpp."
        )
    missing = [n for n, k in zip(folder.classes.names, classes.known, strict=True) if not k]
    if missing:
        notes.append(f"The model can't predict: {', '.join(missing)}.")
    if unscored:
        notes.append(f"{unscored} pixels have no truth and are not counted.")
    return tuple(notes)
