"""Two masks of one slide side by side: where they agree, and scores in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ConfigError, PlimsegError
from napari_plimseg.reading import check_page, open_picture
from napari_plimseg.results.mask_store import MaskStore
from napari_plimseg.results.measure import Agreement, agreement, iter_bands
from napari_plimseg.tables import csv_text
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray


_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class OtherMask:
    """Another mask of the slide, with its own grid.

    Parameters
    ----------
    title : str
        Its name, for people.
    ids : array of uint8, shape (h, w)
        Read band by band.
    downsample : tuple of float
        Level-0 pixels (y, x) per pixel.
    corner : tuple of float
        Level-0 (y, x) of the outer corner of the first pixel.
    names : mapping of int to str, optional
        Class name by id; None when only the ids are known.
    """

    title: str
    ids: MaskArray
    downsample: tuple[float, float]
    corner: tuple[float, float] = (0.0, 0.0)
    names: Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        if len(self.ids.shape) != 2 or min(self.ids.shape) < 1:
            raise ConfigError(f"'{self.title}' has the shape {tuple(self.ids.shape)}, not (y, x)")
        if not all(math.isfinite(d) and d > 0 for d in self.downsample):
            raise ConfigError(f"'{self.title}' has pixels of {self.downsample} slide pixels")

    def present_ids(self) -> tuple[int, ...]:
        """Return the ids that occur, without "not computed" and "unreadable" of named masks."""
        seen = np.zeros(256, bool)
        for band in iter_bands(self.ids):
            seen |= np.bincount(band.ravel(), minlength=256).astype(bool)
        if self.names is not None:
            seen[[NOT_COMPUTED, UNREADABLE]] = False
        return tuple(int(i) for i in np.flatnonzero(seen))

    def name(self, other_id: int) -> str:
        """Return the name of an id."""
        return (self.names or {}).get(other_id, f"id {other_id}")


def match_classes(other: OtherMask, info: MaskInfo) -> dict[int, int]:
    """Return the mask id for each id that occurs in another mask; 0 ignores it.

    Named classes are matched by name, ignoring case; others by number, where 0 and 255 are
    ignored.
    """
    own = {name.casefold().strip(): i for i, name in enumerate(info.classes.names, 1)}
    mapping = {}
    for each in other.present_ids():
        if other.names is not None:
            mapping[each] = own.get(other.name(each).casefold().strip(), NOT_COMPUTED)
        else:
            mapping[each] = each if each <= len(info.classes) else NOT_COMPUTED
    return mapping


class ResampledMask:
    """Another mask in the frame of a mask: nearest pixels, ids mapped, read band by band.

    Parameters
    ----------
    other : OtherMask
    mapping : mapping of int to int
        Mask id by other id; ids that are missing become "not computed".
    info : MaskInfo
        The frame.
    step : int
        Every `step`-th pixel of the frame.

    Attributes
    ----------
    shape : tuple of int
        Pixels (y, x).
    """

    def __init__(
        self, other: OtherMask, mapping: Mapping[int, int], info: MaskInfo, step: int = 1
    ) -> None:
        self._ids = other.ids
        self._table = np.zeros(256, np.uint8)
        for other_id, mask_id in mapping.items():
            self._table[other_id] = mask_id
        height, width = info.shape
        self.shape = (-(-height // step), -(-width // step))
        self._rows, self._columns = (
            _nearest(length, step, info.downsample, other.corner[axis], other.downsample[axis])
            for axis, length in enumerate(self.shape)
        )
        self._inside = (self._columns >= 0) & (self._columns < other.ids.shape[1])

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Return some rows, (h, w); what the other mask does not cover is "not computed"."""
        wanted = self._rows[rows]
        out = np.zeros((len(wanted), self.shape[1]), np.uint8)
        covered = (wanted >= 0) & (wanted < self._ids.shape[0])
        if covered.any() and self._inside.any():
            first, last = int(wanted[covered].min()), int(wanted[covered].max())
            band = np.asarray(self._ids[first : last + 1])
            columns = self._columns[self._inside]
            picked = band[(wanted[covered] - first)[:, None], columns[None, :]]
            out[np.ix_(covered, self._inside)] = self._table[picked]
        return out


def _nearest(
    length: int, step: int, downsample: float, corner: float, other: float
) -> NDArray[np.int64]:
    centers = (np.arange(length) * step + 0.5) * downsample
    nearest: NDArray[np.int64] = np.floor((centers - corner) / other).astype(np.int64)
    return nearest


def read_other_mask(path: str | Path, info: MaskInfo) -> OtherMask:
    """Read a truth or another result of the slide of a mask.

    Parameters
    ----------
    path : str or Path
        A mask store, a label TIFF of this package, or a TIFF or PNG of class numbers (any size)
        that covers the whole slide.
    info : MaskInfo
        The mask to compare with.

    Raises
    ------
    PlimsegError
        When it can't be read, holds colors, or belongs to another slide.
    """
    path = Path(path)
    if path.is_dir():
        store = MaskStore.open(path)
        edits = store.class_edits
        shown = edits.applied(store.read_classes())
        return _named(path.stem, shown, edits.described(store.info), info)
    if not path.is_file():
        raise ConfigError(f"'{path.name}' does not exist", remedy="Choose another file.")
    try:
        from napari_plimseg.results.export import read_label_tiff

        if path.suffix.lower() in (".tif", ".tiff") and _is_ours(path):
            ids, own = read_label_tiff(path)
            return _named(path.name, ids, own, info)
        return _foreign(path, info)
    except PlimsegError:
        raise
    except Exception as error:  # a picture decoder raises anything; this is the boundary
        raise ConfigError(
            f"'{path.name}' can't be read ({type(error).__name__}: {error})",
            remedy="Choose a TIFF or PNG whose pixels are class numbers.",
        ) from error


def _is_ours(path: Path) -> bool:
    from tifffile import TiffFile

    from napari_plimseg.results.export import NAMESPACE

    with TiffFile(path) as tiff:
        return NAMESPACE in (tiff.pages[0].description or "")


def _named(title: str, ids: MaskArray, own: MaskInfo, info: MaskInfo) -> OtherMask:
    if own.slide_shape != info.slide_shape:
        raise ConfigError(
            f"'{title}' belongs to the slide {own.slide_name}, which has another size",
            remedy="Choose a mask of this slide.",
        )
    names = dict(enumerate(own.classes.names, 1))
    return OtherMask(title, ids, (own.downsample, own.downsample), names=names)


def _foreign(path: Path, info: MaskInfo) -> OtherMask:
    ids = _read_numbers(path)
    downsample = tuple(
        whole / part for whole, part in zip(info.slide_shape, ids.shape, strict=True)
    )
    if abs(downsample[0] / downsample[1] - 1) > _ASPECT_TOLERANCE:
        raise ConfigError(
            f"'{path.name}' has {ids.shape[1]:,} x {ids.shape[0]:,} pixels, which is not the shape "
            f"of the slide ({info.slide_shape[1]:,} x {info.slide_shape[0]:,})",
            remedy="Choose a mask that covers the whole slide.",
        )
    return OtherMask(path.name, ids, (downsample[0], downsample[1]))


def _read_numbers(path: Path) -> NDArray[np.uint8]:
    if path.suffix.lower() in (".tif", ".tiff"):
        from tifffile import TiffFile

        with TiffFile(path) as tiff:
            check_page(path, tiff.pages[0], ConfigError)
            ids: NDArray[Any] = tiff.pages[0].asarray()
    else:
        with open_picture(path, ConfigError) as picture:
            ids = np.asarray(picture)
    if ids.ndim != 2 or ids.dtype.kind not in "bui":
        raise ConfigError(
            f"'{path.name}' holds colors or measurements, not class numbers",
            remedy="Choose a gray or palette picture whose pixels are 1, 2, 3, ...",
        )
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > UNREADABLE):
        raise ConfigError(
            f"'{path.name}' has numbers from {ids.min()} to {ids.max()}; class numbers are 0 to 255"
        )
    return ids.astype(np.uint8, copy=False)


NOTHING, AGREE, DISAGREE, ONLY_MASK, ONLY_OTHER = range(5)
"""Values of an agreement map; background in only one of the masks counts as no class."""
MAP_SIDE = 8192
"""Largest side of the agreement map; larger masks are decimated."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far a mask agrees with another one of the same slide.

    Parameters
    ----------
    title : str
        The name of the other mask.
    agreement : Agreement
        Of the pixels with a class in both; rows are the other mask, columns the mask.
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
        """Return (other mask's class, mask's class, pixels) of the most frequent confusions."""
        off = self.agreement.confusion.copy()
        np.fill_diagonal(off, 0)
        names = self.agreement.names
        order = np.argsort(-off, axis=None, kind="stable")[:most]
        pairs = [np.unravel_index(i, off.shape) for i in order]
        return [(names[t], names[m], int(off[t, m])) for t, m in pairs if off[t, m]]

    def to_csv(self) -> str:
        """Return scores and confusion matrix as CSV text; empty cells where nothing occurs."""
        scores = self.agreement
        rows: list[list[object]] = [
            ["compared with", self.title],
            ["pixels", self.counted],
            ["mIoU", _number(scores.miou)],
            ["mean Dice", _number(scores.mean_dice)],
            ["pixel accuracy", _number(scores.pixel_accuracy)],
            [],
            ["class", "IoU", "Dice", "pixels there", "pixels here"],
        ]
        rows += [
            [row.name, _number(row.iou), _number(row.dice), row.in_other, row.in_mask]
            for row in self.rows()
        ]
        rows += [[], ["there \\ here", *scores.names]]
        rows += [
            [name, *counts.tolist()]
            for name, counts in zip(scores.names, scores.confusion, strict=True)
        ]
        return csv_text(rows)


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

    The other mask is resampled to the frame of the mask by nearest neighbor. A pixel is counted
    when both give it a class.

    Parameters
    ----------
    mask : array of uint8, shape (h, w)
        Every `mask_step`-th pixel of the frame of `info`.
    info : MaskInfo
    other : OtherMask
    mapping : mapping of int to int
        Mask id by other id, see `match_classes`; 0 ignores a class.
    mask_step : int
    count_background : bool
        Whether pixels that are background in either mask are counted.

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
            remedy="Choose the class of each number.",
        )
    truth = ResampledMask(other, mapping, info, mask_step)
    names, ignored = classes.names, [NOT_COMPUTED, UNREADABLE, *classes.ignored_ids]
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
