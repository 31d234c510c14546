"""Scores of a segmentation, all computed from one confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError
from napari_plimseg.results import Agreement

if TYPE_CHECKING:
    from numpy.typing import NDArray


def confusion_matrix(
    truth: NDArray[np.uint8], mask: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Count the pixels of each pair of truth and mask id.

    Parameters
    ----------
    truth : ndarray of uint8
        Mask ids; 0 is not counted.
    mask : ndarray of uint8, of the same shape
        Mask ids 1 to `classes`.
    classes : int
        K, the number of classes.

    Returns
    -------
    ndarray of int64, shape (K, K)
        Rows are the truth, columns the mask; row `i` is mask id `i + 1`.

    Raises
    ------
    ConfigError
        When the shapes differ or an id is not that of a class.
    """
    if truth.shape != mask.shape:
        raise ConfigError(f"truth and mask differ in shape: {truth.shape} and {mask.shape}")
    counted = truth > 0
    true, found = truth[counted].astype(np.int64), mask[counted].astype(np.int64)
    if len(true) and (true.max() > classes or found.max() > classes or found.min() < 1):
        raise ConfigError(f"an id is not one of the {classes} classes")
    pairs = (true - 1) * classes + found - 1
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True, eq=False)
class Score:
    """Agreement of masks with truths under one protocol.

    A class that occurs neither in truth nor in mask has no score (NaN) and is excluded from means.

    Parameters
    ----------
    confusion : ndarray of int64, shape (K, K)
        Pixels; rows are the truth, columns the mask.
    names : tuple of str
        The K class names.
    scored : tuple of int
        Rows of the classes included in the means; the others only count as wrong predictions.
    """

    confusion: NDArray[np.int64]
    names: tuple[str, ...]
    scored: tuple[int, ...]

    def __post_init__(self) -> None:
        Agreement(self.confusion, self.names)
        if not self.scored or not set(self.scored) <= set(range(len(self.names))):
            raise ConfigError(f"rows {self.scored} of {len(self.names)} classes can't be scored")

    def __add__(self, other: Score) -> Score:
        """Pool the pixels of two sets of images."""
        if (self.names, self.scored) != (other.names, other.scored):
            raise ConfigError("scores over different classes can't be pooled")
        return Score(self.confusion + other.confusion, self.names, self.scored)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class, (K,)."""
        return self._agreement.iou

    @property
    def dice(self) -> NDArray[np.float64]:
        """True Dice coefficient per class, 2 x intersection / (truth + mask), (K,)."""
        return self._agreement.dice

    @property
    def miou(self) -> float:
        """Mean of the IoU over the scored classes."""
        return _mean(self.iou[list(self.scored)])

    @property
    def mean_dice(self) -> float:
        """Mean of the true Dice coefficient over the scored classes."""
        return _mean(self.dice[list(self.scored)])

    @property
    def dice_of_miou(self) -> float:
        """2m / (1 + m) with m the mIoU, which several papers report as Dice; not the mean Dice."""
        return 2 * self.miou / (1 + self.miou)

    @property
    def fwiou(self) -> float:
        """IoU of the scored classes, weighted by their frequency in the truth."""
        rows = list(self.scored)
        weights = self.confusion.sum(1)[rows]
        total = weights.sum()
        return float((weights * np.nan_to_num(self.iou[rows])).sum() / total) if total else math.nan

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels with the right class."""
        return self._agreement.pixel_accuracy

    @property
    def pixels(self) -> int:
        """Number of counted pixels."""
        return int(self.confusion.sum())

    @property
    def _agreement(self) -> Agreement:
        return Agreement(self.confusion, self.names)

    def to_dict(self) -> dict[str, Any]:
        """Return every score by name, for JSON; undefined scores are None."""
        return {
            "miou": _plain(self.miou),
            "fwiou": _plain(self.fwiou),
            "mean_dice": _plain(self.mean_dice),
            "dice_of_miou": _plain(self.dice_of_miou),
            "pixel_accuracy": _plain(self.pixel_accuracy),
            "iou": {n: _plain(v) for n, v in zip(self.names, self.iou, strict=True)},
            "dice": {n: _plain(v) for n, v in zip(self.names, self.dice, strict=True)},
            "scored_classes": [self.names[row] for row in self.scored],
            "pixels": self.pixels,
            "confusion": self.confusion.tolist(),
        }


def _mean(scores: NDArray[np.float64]) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else math.nan


def _plain(score: float) -> float | None:
    return None if math.isnan(score) else float(score)
