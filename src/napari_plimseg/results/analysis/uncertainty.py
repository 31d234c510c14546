"""Where a model is uncertain over a large area: the parts of a mask to review first."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.results.analysis.review_log import reviewed_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_plimseg.results.analysis.review_log import ReviewedRegion
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.mask_store import MaskStore
    from napari_plimseg.results.measure import MaskArray


MAX_SIDE = 2048
"""Largest side of the analyzed array; larger masks are decimated."""
GRID_UM = 8.0
"""Finest analyzed um/px: regions are hundreds of micrometers large."""
SMOOTHING_UM = 16.0
"""Lines thinner than about twice this, such as borders between classes, are smoothed away."""
MIN_AREA_MM2 = 0.004
MAX_SIDE_UM = 1500.0
"""Larger regions are split, so that each can be reviewed in one view."""
LEAST_UNCERTAINTY = 0.1
MOST_UNCERTAIN_SHARE = 0.15
REVIEWED_FROM = 0.8
"""Part of a region's pixels that must be reviewed for the region to count as reviewed."""
_UM_WHEN_UNKNOWN = 2.0  # lengths of the filters for masks without a pixel size


@dataclass(frozen=True)
class UncertainRegion:
    """A part of a mask where the model was uncertain.

    Parameters
    ----------
    rank : int
        1 is to be reviewed first.
    y, x, height, width : int
        Mask pixels: the rectangle around the uncertain pixels.
    pixels : int
        Uncertain mask pixels in it.
    area_mm2 : float or None
        Their area; None when the pixel size is unknown.
    mean_confidence : float
        Of these pixels, 0 to 1.
    classes : tuple of str
        Their classes, at most two, the more frequent first.
    reviewed : bool
        Whether a person has reviewed it.
    """

    rank: int
    y: int
    x: int
    height: int
    width: int
    pixels: int
    area_mm2: float | None
    mean_confidence: float
    classes: tuple[str, ...]
    reviewed: bool = False


def analysis_step(info: MaskInfo, mask_step: int = 1) -> int:
    """Return the decimation of the analysis, a multiple of `mask_step`."""
    coarse = max(info.shape) / MAX_SIDE
    fine = GRID_UM / info.mask_mpp if info.mask_mpp else 1.0
    return mask_step * max(1, math.ceil(coarse / mask_step), math.floor(fine / mask_step))


def worklist(
    store: MaskStore,
    mask: MaskArray,
    *,
    reviewed: Iterable[ReviewedRegion] = (),
    mask_step: int = 1,
    corrected: NDArray[np.uint8] | None = None,
) -> list[UncertainRegion]:
    """Return the uncertain regions that are not reviewed, the most important first.

    Parameters
    ----------
    store : MaskStore
        Its confidence is read tile by tile, and only where the mask has tissue.
    mask : array of uint8, shape (h, w)
        Mask ids as shown: every `mask_step`-th pixel of the store's frame.
    reviewed : iterable of ReviewedRegion
        Regions to leave out.
    mask_step : int
        Decimation of `mask`.
    corrected : ndarray of uint8, shape (gh, gw), optional
        Every `analysis_step`-th pixel of the corrections. Where a person decided, it is not 0 and
        nothing is uncertain.

    Returns
    -------
    list of UncertainRegion
        Ranks count from 1.
    """
    info = store.class_edits.described(store.info)
    step = analysis_step(info, mask_step)
    jump = step // mask_step
    ids = np.asarray(mask[::jump, ::jump])  # (gh, gw)
    confidence = _sampled_confidence(store, info, ids, step)
    if corrected is not None:
        confidence[corrected != 0] = 255
    done = reviewed_map(reviewed, info, step)
    regions = uncertain_regions(ids, confidence, info, step=step, reviewed=done)
    left = (region for region in regions if not region.reviewed)
    return [dataclasses.replace(region, rank=rank) for rank, region in enumerate(left, 1)]


def uncertain_regions(
    ids: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    info: MaskInfo,
    *,
    step: int = 1,
    reviewed: NDArray[np.bool_] | None = None,
) -> list[UncertainRegion]:
    """Find regions where the model was uncertain, and rank them by area times uncertainty.

    The uncertainty (1 - confidence) of tissue is smoothed, which removes thin lines. The limit is
    what the most uncertain 15 % of the tissue exceed; a region's pixels exceed it before and after
    smoothing. Where everything is equally certain there are no regions.

    Parameters
    ----------
    ids, confidence : ndarray of uint8, shape (gh, gw)
        Every `step`-th pixel of the mask and of its confidence, 255 = 1.
    info : MaskInfo
        Frame and classes of the whole mask.
    step : int
        Decimation of both arrays.
    reviewed : ndarray of bool, shape (gh, gw), optional
        What a person has reviewed.

    Returns
    -------
    list of UncertainRegion
        The highest first; ranks count from 1.
    """
    from scipy import ndimage

    tissue = np.isin(ids, info.classes.tissue_ids)
    if not tissue.any():
        return []
    pixel_um = (info.mask_mpp or _UM_WHEN_UNKNOWN) * step
    doubt = np.where(tissue, 1 - confidence / np.float32(255), np.float32(0))
    smooth = ndimage.gaussian_filter(doubt, SMOOTHING_UM / pixel_um, mode="constant")
    limit = max(float(np.quantile(smooth[tissue], 1 - MOST_UNCERTAIN_SHARE)), LEAST_UNCERTAINTY)
    labels, _ = ndimage.label(smooth > limit, structure=np.ones((3, 3)))
    labels[doubt <= limit] = 0
    fewest = MIN_AREA_MM2 / (pixel_um / 1000) ** 2
    labels[np.bincount(labels.ravel())[labels] < fewest] = 0
    seen = np.zeros_like(tissue) if reviewed is None else reviewed
    found = []
    for rows, columns, inside in _pieces(labels, max(1, round(MAX_SIDE_UM / pixel_um))):
        count = int(inside.sum())
        if count < fewest:
            continue
        sure = confidence[rows, columns][inside].mean() / 255
        pixels = count * step * step
        found.append(
            UncertainRegion(
                rank=0,
                y=rows.start * step,
                x=columns.start * step,
                height=min(rows.stop * step, info.shape[0]) - rows.start * step,
                width=min(columns.stop * step, info.shape[1]) - columns.start * step,
                pixels=pixels,
                area_mm2=None if info.pixel_area_mm2 is None else pixels * info.pixel_area_mm2,
                mean_confidence=float(sure),
                classes=_top_two(ids[rows, columns][inside], info),
                reviewed=bool(seen[rows, columns][inside].mean() >= REVIEWED_FROM),
            )
        )
    found.sort(key=lambda r: (-r.pixels * (1 - r.mean_confidence), r.y, r.x))
    return [dataclasses.replace(region, rank=rank) for rank, region in enumerate(found, 1)]


def reviewed_share(
    mask: MaskArray,
    info: MaskInfo,
    reviewed: Iterable[ReviewedRegion],
    *,
    mask_step: int = 1,
) -> float:
    """Return the part of the tissue in reviewed regions, 0 to 1; 0 without tissue.

    `mask` holds every `mask_step`-th pixel of the frame of `info`.
    """
    step = analysis_step(info, mask_step)
    jump = step // mask_step
    tissue = np.isin(np.asarray(mask[::jump, ::jump]), info.classes.tissue_ids)
    if not tissue.any():
        return 0.0
    return float(reviewed_map(reviewed, info, step)[tissue].mean())


def _pieces(
    labels: NDArray[np.int32], max_side: int
) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
    """Yield rows, columns and pixels of each label; those longer than `max_side` in parts."""
    from scipy import ndimage

    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        rows, columns = box
        inside = labels[box] == number
        for top, bottom in _cuts(inside.shape[0], max_side):
            for left, right in _cuts(inside.shape[1], max_side):
                part = inside[top:bottom, left:right]
                if part.any():
                    tight = ndimage.find_objects(part.astype(np.uint8))[0]
                    y, x = rows.start + top, columns.start + left
                    yield (
                        slice(y + tight[0].start, y + tight[0].stop),
                        slice(x + tight[1].start, x + tight[1].stop),
                        part[tight],
                    )


def _cuts(length: int, max_side: int) -> list[tuple[int, int]]:
    count = -(-length // max_side)
    ends = [round(length * i / count) for i in range(count + 1)]
    return list(itertools.pairwise(ends))


def _top_two(ids: NDArray[np.uint8], info: MaskInfo) -> tuple[str, ...]:
    counts = np.bincount(ids, minlength=len(info.classes) + 1)[: len(info.classes) + 1]
    best = np.argsort(-counts, kind="stable")[:2]
    return tuple(info.classes[int(i) - 1].name for i in best if counts[i])


def _sampled_confidence(
    store: MaskStore, info: MaskInfo, ids: NDArray[np.uint8], step: int
) -> NDArray[np.uint8]:
    """Return every `step`-th pixel (gh, gw) of the confidence; 255 where there is no tissue.

    Tiles that are not computed count as certain.
    """
    out = np.full(ids.shape, 255, np.uint8)
    tile_height, tile_width = store.layout.tile_shape
    tissue = np.isin(ids, info.classes.tissue_ids)
    for row in range(-(-store.info.shape[0] // tile_height)):
        rows = _samples(row, tile_height, step)
        for column in range(-(-store.info.shape[1] // tile_width)):
            columns = _samples(column, tile_width, step)
            part = out[rows, columns]
            if store.has((row, column)) and tissue[rows, columns].any():
                spans = (
                    slice(samples.start * step, (samples.start + count - 1) * step + 1)
                    for samples, count in zip((rows, columns), part.shape, strict=True)
                )
                part[:] = store.read("confidence", *spans, step=step)
    return out


def _samples(tile: int, side: int, step: int) -> slice:
    """Return the samples on a tile, along one axis."""
    return slice(-(-tile * side // step), -(-(tile + 1) * side // step))
