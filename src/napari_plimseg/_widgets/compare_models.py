"""Two models on what the window shows, and how far they agree: no Qt, no napari."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg._widgets.run_steps import Stage, run_settings
from napari_plimseg.errors import ConfigError
from napari_plimseg.inference.engine_lock import ENGINE
from napari_plimseg.results.measure import agreement
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_plimseg._settings import DockSettings
    from napari_plimseg.slides.slide import Region, Slide
    from napari_plimseg.tissue import TissueClasses

_LARGEST_SIDE_MM = 6.0


@dataclass(frozen=True, eq=False)
class PartMask:
    """A model's mask of a part of a slide.

    Parameters
    ----------
    title : str
        Name of the model.
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    classes : TissueClasses
    downsample : float
        Level-0 pixels per mask pixel.
    first : tuple of int
        Row and column of the first pixel in the mask of the whole slide.
    """

    title: str
    mask: NDArray[np.uint8]
    classes: TissueClasses
    downsample: float
    first: tuple[int, int]

    def ids_at(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return the mask ids at level-0 rows `y` and columns `x`, shape (len(y), len(x))."""
        places = []
        for level_0, first, size in zip((y, x), self.first, self.mask.shape, strict=True):
            index = np.floor(level_0 / self.downsample).astype(int) - first
            places.append(np.clip(index, 0, size - 1))
        return self.mask[np.ix_(*places)]


@dataclass(frozen=True)
class ClassComparison:
    """One class in the masks of two models.

    Parameters
    ----------
    name : str
    overlap : float
        Intersection over union of both masks, 0 to 1; NaN where only one model has the class.
    shares : tuple of float
        Part of the computed pixels that each model gives it, 0 to 1.
    """

    name: str
    overlap: float
    shares: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ComparedModels:
    """The masks of two models of the same part of a slide.

    Parameters
    ----------
    parts : tuple of PartMask
        The new model's and the other one's.
    rows : tuple of ClassComparison
        Classes of the first model, then those that only the second has.
    same : float
        Part of the pixels to which both give a class of the same name, 0 to 1.
    differ : ndarray of uint8, shape (h, w)
        1 where they don't, in the pixels of the first.
    """

    parts: tuple[PartMask, PartMask]
    rows: tuple[ClassComparison, ...]
    same: float
    differ: NDArray[np.uint8]


def compared(first: PartMask, second: PartMask) -> ComparedModels:
    """Compare two masks by the names of their classes, on the pixels of the first."""
    rows = (first.first[0] + np.arange(first.mask.shape[0]) + 0.5) * first.downsample
    columns = (first.first[1] + np.arange(first.mask.shape[1]) + 0.5) * first.downsample
    names = list(first.classes.names)
    known = {name.casefold(): i for i, name in enumerate(names)}
    for name in second.classes.names:
        if name.casefold() not in known:
            known[name.casefold()] = len(names)
            names.append(name)
    masks = []
    for part, ids in ((first, first.mask), (second, second.ids_at(rows, columns))):
        table = np.zeros(256, np.uint8)
        table[UNREADABLE] = UNREADABLE
        for mask_id, name in enumerate(part.classes.names, start=1):
            table[mask_id] = known[name.casefold()] + 1
        masks.append(table[ids])
    found = agreement([(masks[0], masks[1])], names)
    both = (masks[0] != NOT_COMPUTED) & (masks[1] != NOT_COMPUTED)
    total = max(1, int(both.sum()))
    shares = [np.bincount(mask[both], minlength=256) / total for mask in masks]
    owners = [{n.casefold() for n in part.classes.names} for part in (first, second)]
    return ComparedModels(
        (first, second),
        tuple(
            ClassComparison(
                name,
                float(found.iou[i]) if all(name.casefold() in o for o in owners) else math.nan,
                (float(shares[0][i + 1]), float(shares[1][i + 1])),
            )
            for i, name in enumerate(names)
        ),
        found.pixel_accuracy,
        (both & (masks[0] != masks[1])).astype(np.uint8),
    )


def compare_steps(
    slide: Slide, region: Region, models: tuple[str, str], settings: DockSettings
) -> Generator[Stage | ComparedModels, None, None]:
    """Run two models on a part of a slide and compare what they say.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    region : Region
        Level-0 pixels.
    models : tuple of str
        Names in the catalogue.
    settings : DockSettings
        Device and tiles.

    Yields
    ------
    Stage or ComparedModels
        What goes on, and at the end the comparison.

    Raises
    ------
    PlimsegError
        When the part is too large to wait for, or a model can't be used.
    """
    side = max(region.height, region.width) * (slide.mpp or 0) / 1000
    if side > _LARGEST_SIDE_MM:
        raise ConfigError(
            f"the window shows {side:.0f} mm of the slide, which takes long to compare",
            remedy=f"Zoom in until it shows {_LARGEST_SIDE_MM:g} mm at most.",
        )
    with ENGINE.held_by("the comparison of two models"):
        parts = []
        for name in models:
            yield Stage(f"Loading {name}…")
            with tempfile.TemporaryDirectory(prefix="plimseg-") as folder:
                for step in _part_steps(slide, region, name, settings, Path(folder)):
                    if isinstance(step, PartMask):
                        parts.append(step)
                    else:
                        yield step
    yield compared(parts[0], parts[1])


def _part_steps(
    slide: Slide, region: Region, name: str, settings: DockSettings, folder: Path
) -> Generator[Stage | PartMask, None, None]:
    from napari_plimseg.inference.engine import open_store, segment_slide
    from napari_plimseg.inference.run_region import RunRegion
    from napari_plimseg.models.catalogue import load_model

    model = load_model(name)
    run = run_settings(settings)
    with open_store(slide, model, folder / "part.plimseg", settings=run) as store:
        for progress in segment_slide(
            slide, model, store, region=RunRegion.rectangle(region), settings=run
        ):
            yield Stage(f"{model.name}: {progress.tiles_done} of {progress.tiles_total} tiles")
        size = store.info.downsample
        spans = [
            (math.floor(max(0.0, start) / size), math.ceil((start + length) / size))
            for start, length in ((region.y, region.height), (region.x, region.width))
        ]
        (top, bottom), (left, right) = spans
        mask = store.read_classes()[top:bottom, left:right].copy()
        yield PartMask(model.name, mask, store.info.classes, size, (top, left))
