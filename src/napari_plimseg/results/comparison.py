"""Two masks of one slide side by side: where they agree, and scores in numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError
from napari_plimseg.results.measure import Agreement, agreement, iter_bands
from napari_plimseg.results.other_mask import ResampledMask
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.results.other_mask import OtherMask

NOTHING, AGREE, DISAGREE, ONLY_MASK, ONLY_OTHER = range(5)
"""Values of an agreement map; background that only one of the masks has counts as nothing."""
MAP_SIDE = 8192
"""Pixels a side of the agreement map; of larger masks every so manyth is shown."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far a mask agrees with another one of the same slide.

    Parameters
    ----------
    title : str
        What the mask was compared with.
    agreement : Agreement
        Pixels that both give a class; rows are the other mask, columns the mask.
    map : ndarray of uint8, shape (h, w)
        `AGREE` and so on, of every `map_step`-th mask pixel.
    map_step : int
    pixel_area_mm2 : float or None
        Of one counted pixel; None when unknown.
    """

    title: str
    agreement: Agreement
    map: NDArray[np.uint8]
    map_step: int
    pixel_area_mm2: float | None

    @property
    def counted(self) -> int:
        """Pixels that both masks give a class."""
        return int(self.agreement.confusion.sum())

    def rows(self) -> list[ClassScore]:
        """Return the scores of the classes that occur, in mask-id order."""
        scores = self.agreement
        in_other, in_mask = scores.confusion.sum(1), scores.confusion.sum(0)
        return [
            ClassScore(name, float(iou), float(dice), int(other), int(own))
            for name, iou, dice, other, own in zip(
                scores.names, scores.iou, scores.dice, in_other, in_mask, strict=True
            )
            if other or own
        ]

    def confusions(self, most: int = 3) -> list[tuple[str, str, int]]:
        """Return (class there, class here, pixels) of the most frequent disagreements."""
        off = self.agreement.confusion.copy()
        np.fill_diagonal(off, 0)
        names = self.agreement.names
        order = np.argsort(-off, axis=None, kind="stable")[:most]
        pairs = [np.unravel_index(i, off.shape) for i in order]
        return [(names[t], names[m], int(off[t, m])) for t, m in pairs if off[t, m]]

    def to_csv(self) -> str:
        """Return scores and confusion matrix as CSV text; empty cells where nothing occurs."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        scores = self.agreement
        write(["compared with", self.title])
        write(["pixels", self.counted])
        for name, value in (
            ("mIoU", scores.miou),
            ("mean Dice", scores.mean_dice),
            ("pixel accuracy", scores.pixel_accuracy),
        ):
            write([name, _number(value)])
        write([])
        write(["class", "IoU", "Dice", "pixels there", "pixels here"])
        for row in self.rows():
            write([row.name, _number(row.iou), _number(row.dice), row.in_other, row.in_mask])
        write([])
        write(["there \\ here", *scores.names])
        for name, counts in zip(scores.names, scores.confusion, strict=True):
            write([name, *counts.tolist()])
        return text.getvalue()


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class: IoU and Dice from 0 to 1, pixels in the other mask and here."""

    name: str
    iou: float
    dice: float
    in_other: int
    in_mask: int


def compare(
    mask: MaskArray,
    info: MaskInfo,
    other: OtherMask,
    mapping: Mapping[int, int],
    *,
    mask_step: int = 1,
    count_background: bool = True,
) -> Comparison:
    """Compare a mask with another one of the same slide, band by band.

    The other mask is brought into the frame of the mask by nearest pixels. A pixel is counted
    when both give it a class.

    Parameters
    ----------
    mask : array of uint8, shape (h, w)
        Every `mask_step`-th pixel of the frame of `info`.
    info : MaskInfo
    other : OtherMask
    mapping : mapping of int to int
        Mask id by other id, see `match_classes`; 0 leaves a class out.
    mask_step : int
    count_background : bool
        Whether a pixel that either mask calls background is counted.

    Raises
    ------
    ConfigError
        When no class of the other mask is matched, the masks do not overlap, or the mask holds an
        id of no class.
    """
    classes = info.classes
    if not any(1 <= mask_id <= len(classes) for mask_id in mapping.values()):
        raise ConfigError(
            f"no class of '{other.title}' is a class of this mask",
            remedy="Say which number stands for which class.",
        )
    truth = ResampledMask(other, mapping, info, mask_step)
    names, ignored = classes.names, [NOT_COMPUTED, UNREADABLE]
    if not count_background and classes.background_id is not None:
        names, ignored = names[:-1], [*ignored, classes.background_id]
    scores = agreement([(truth, mask)], names, ignore=ignored)
    if not scores.confusion.any():
        raise ConfigError(
            f"'{other.title}' and the mask have no pixel in common",
            remedy="Check that both are of this slide and that the classes are matched.",
        )
    map_step = max(1, -(-max(truth.shape) // MAP_SIDE))
    size = info.pixel_area_mm2
    return Comparison(
        title=other.title,
        agreement=scores,
        map=_agreement_map(truth, mask, info, map_step),
        map_step=map_step * mask_step,
        pixel_area_mm2=None if size is None else size * mask_step**2,
    )


def _agreement_map(
    truth: ResampledMask, mask: MaskArray, info: MaskInfo, step: int
) -> NDArray[np.uint8]:
    height, width = truth.shape
    out = np.zeros((-(-height // step), -(-width // step)), np.uint8)
    has_class = np.zeros(256, bool)
    has_class[1 : len(info.classes) + 1] = True
    has_tissue = np.zeros(256, bool)
    has_tissue[list(info.classes.tissue_ids)] = True
    rows = 512 * step
    for top, (there, here) in enumerate(
        zip(iter_bands(_Thin(truth, step), 512), iter_bands(_Thin(mask, step), 512), strict=True)
    ):
        both = has_class[there] & has_class[here]
        out[top * rows // step : top * rows // step + len(there)] = np.select(
            [
                both & (there == here),
                both,
                has_tissue[here] & ~has_class[there],
                has_tissue[there] & ~has_class[here],
            ],
            [AGREE, DISAGREE, ONLY_MASK, ONLY_OTHER],
            NOTHING,
        )
    return out


class _Thin:
    """Every `step`-th pixel of a mask, as bands of rows."""

    def __init__(self, mask: MaskArray, step: int) -> None:
        self._mask, self._step = mask, step
        self.shape = (-(-mask.shape[0] // step), -(-mask.shape[1] // step))

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        step = self._step
        last = min(rows.stop * step, self._mask.shape[0])
        return np.asarray(self._mask[rows.start * step : last])[::step, ::step]


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"
