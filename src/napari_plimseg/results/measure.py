"""Areas of tissue classes, and agreement of a mask with a truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from napari_plimseg.errors import ConfigError
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo

_ROWS_AT_ONCE = 512

AreaKind = Literal["tissue", "background", "not computed", "unreadable", "unknown"]


class MaskArray(Protocol):
    """A 2-D uint8 array of mask ids: NumPy, memory-mapped or zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels (y, x)."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return a window as a NumPy array."""


@dataclass(frozen=True)
class ClassArea:
    """The area of one class in a mask, by counting pixels.

    Parameters
    ----------
    name : str
        Class name, or the meaning of the mask id.
    mask_id : int
    kind : str
        "tissue", "background", "not computed", "unreadable", or "unknown" for an id of no class.
    pixels : int
        Mask pixels.
    mm2 : float or None
        Square millimeters; None when the pixel size is unknown.
    percent_of_tissue : float or None
        Percent of the pixels of all tissue classes; None for rows that are not tissue.
    """

    name: str
    mask_id: int
    kind: AreaKind
    pixels: int
    mm2: float | None
    percent_of_tissue: float | None


def iter_bands(mask: MaskArray, rows: int = _ROWS_AT_ONCE) -> Iterator[NDArray[np.uint8]]:
    """Yield a mask in bands of rows, so that memory stays small for any size."""
    for start in range(0, mask.shape[0], rows):
        yield np.asarray(mask[start : start + rows])


def count_ids(mask: MaskArray) -> NDArray[np.int64]:
    """Return how many pixels have each mask id, as (256,)."""
    counts = np.zeros(256, np.int64)
    for band in iter_bands(mask):
        counts += np.bincount(band.ravel(), minlength=256)
    return counts


def area_table(mask: MaskArray, info: MaskInfo) -> tuple[ClassArea, ...]:
    """Return the area of each class, then of everything that is not tissue.

    Parameters
    ----------
    mask : array of uint8, shape (y, x)
        Read band by band.
    info : MaskInfo

    Returns
    -------
    tuple of ClassArea
        Tissue classes in mask-id order, also those that do not occur, without those that are
        ignored; background; "not computed"
        and "unreadable"; ids of no class only where they occur.
    """
    counts = count_ids(mask)
    classes = info.classes
    all_tissue = int(counts[list(classes.tissue_ids)].sum())
    size = info.pixel_area_mm2

    def row(name: str, mask_id: int, kind: AreaKind) -> ClassArea:
        pixels = int(counts[mask_id])
        percent = None
        if kind == "tissue":
            percent = 100 * pixels / all_tissue if all_tissue else 0.0
        return ClassArea(
            name, mask_id, kind, pixels, None if size is None else pixels * size, percent
        )

    rows = [row(classes[i - 1].name, i, "tissue") for i in classes.tissue_ids]
    if classes.background_id is not None and not classes[-1].ignored:
        rows.append(row(classes[-1].name, classes.background_id, "background"))
    rows.append(row("not computed", NOT_COMPUTED, "not computed"))
    rows.append(row("unreadable", UNREADABLE, "unreadable"))
    strays = np.flatnonzero(counts[len(classes) + 1 : UNREADABLE]) + len(classes) + 1
    rows += [row(f"id {i}, no class", int(i), "unknown") for i in strays]
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of masks with truths, from one confusion matrix over all pixels counted.

    Classes that occur neither in truth nor in mask have no score (NaN) and are left out of means.

    Parameters
    ----------
    confusion : ndarray of int64, shape (C, C)
        Pixels; rows are the truth, columns the mask.
    names : tuple of str
        The C class names.
    """

    confusion: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.confusion.shape != (len(self.names), len(self.names)):
            raise ConfigError(
                f"a confusion matrix of {self.confusion.shape} for {len(self.names)} classes"
            )

    def __add__(self, other: Agreement) -> Agreement:
        """Pool the pixels of two sets of images of the same classes."""
        if self.names != other.names:
            raise ConfigError("agreements over different classes can't be pooled")
        return Agreement(self.confusion + other.confusion, self.names)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class, (C,)."""
        hits, in_truth, in_mask = self._sums()
        return _ratio(hits, in_truth + in_mask - hits)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice coefficient per class, 2 x intersection / (truth + mask), (C,)."""
        hits, in_truth, in_mask = self._sums()
        return _ratio(2 * hits, in_truth + in_mask)

    @property
    def miou(self) -> float:
        """Mean of the IoU over classes."""
        return _mean(self.iou)

    @property
    def mean_dice(self) -> float:
        """Mean of the Dice coefficient over classes."""
        return _mean(self.dice)

    @property
    def dice_of_miou(self) -> float:
        """2m / (1 + m) with m the mIoU: what several papers print as Dice; not the mean Dice."""
        return 2 * self.miou / (1 + self.miou)

    @property
    def fwiou(self) -> float:
        """IoU weighted by how often each class occurs in the truth."""
        _, in_truth, _ = self._sums()
        total = in_truth.sum()
        return float((in_truth * np.nan_to_num(self.iou)).sum() / total) if total else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels whose class is right."""
        total = self.confusion.sum()
        return float(np.trace(self.confusion) / total) if total else float("nan")

    def _sums(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return np.diagonal(self.confusion), self.confusion.sum(1), self.confusion.sum(0)


def agreement(
    pairs: Iterable[tuple[MaskArray, MaskArray]],
    names: Sequence[str],
    *,
    first_id: int = 1,
    ignore: Sequence[int] = (NOT_COMPUTED, UNREADABLE),
) -> Agreement:
    """Compare masks with truths over all pixels of a set of images.

    A truth pixel with an ignored id is not counted. So is a pixel that the mask leaves without a
    class; the published protocol A (truth background ignored, no background predicted) is what
    comes out when background is in `ignore` and not in `names`.

    Parameters
    ----------
    pairs : iterable of (truth, mask)
        Arrays of the same shape, read band by band.
    names : sequence of str
        Class `i` has id `first_id + i` in truth and mask.
    first_id : int
        Id of the first class.
    ignore : sequence of int
        Ids that are not counted, in truth or mask.

    Raises
    ------
    ConfigError
        When shapes differ, or a truth or mask holds an id that is neither a class nor ignored.
    """
    count = len(names)
    index = np.full(256, -2, np.int64)
    index[first_id : first_id + count] = np.arange(count)
    index[list(ignore)] = -1
    confusion = np.zeros(count * count, np.int64)
    for truth, mask in pairs:
        if tuple(truth.shape) != tuple(mask.shape):
            raise ConfigError(f"a truth of {truth.shape} pixels for a mask of {mask.shape}")
        for truth_band, mask_band in zip(iter_bands(truth), iter_bands(mask), strict=True):
            true, found = index[truth_band.ravel()], index[mask_band.ravel()]
            for ids, band in ((true, truth_band), (found, mask_band)):
                if (ids == -2).any():
                    stray = int(band.ravel()[ids == -2][0])
                    raise ConfigError(
                        f"id {stray} is none of the {count} classes",
                        remedy="Ignore it, or name its class.",
                    )
            counted = (true >= 0) & (found >= 0)
            confusion += np.bincount(
                true[counted] * count + found[counted], minlength=count * count
            )
    return Agreement(confusion.reshape(count, count), tuple(names))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = np.full(len(part), np.nan)
    np.divide(part, whole, out=scores, where=whole > 0)
    return scores


def _mean(scores: NDArray[np.float64]) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else float("nan")
