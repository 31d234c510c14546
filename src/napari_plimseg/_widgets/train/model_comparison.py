"""Runs two models on the current view and compares their masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._widgets.common import Stage
from napari_plimseg._widgets.viewer import MASK_OPACITY, OWNER_KEY, label_colormap, mask_views
from napari_plimseg.errors import ConfigError
from napari_plimseg.files import scratch_folder
from napari_plimseg.inference import ENGINE
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg.results import Comparison, MaskInfo, OtherMask
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.slides import Region, Slide


_LARGEST_SIDE_MM = 6.0


@dataclass(frozen=True, eq=False)
class PartMask:
    """The mask of one model of a part of a slide.

    Parameters
    ----------
    title : str
        Name of the model.
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    info : MaskInfo
        Describes the mask of the whole slide.
    first : tuple of int
        Row and column in that mask of the first pixel.
    """

    title: str
    mask: NDArray[np.uint8]
    info: MaskInfo
    first: tuple[int, int]

    def seen_from(self, other: PartMask) -> OtherMask:
        """Return this mask for a comparison with `other`, positioned relative to it."""
        from napari_plimseg.results import OtherMask

        own, theirs = self.info.downsample, other.info.downsample
        y, x = (a * own - b * theirs for a, b in zip(self.first, other.first, strict=True))
        names = dict(enumerate(self.info.classes.names, start=1))
        return OtherMask(self.title, self.mask, (own, own), (y, x), names)


@dataclass(frozen=True, eq=False)
class ComparedModels:
    """The masks of two models of the same part of a slide.

    Parameters
    ----------
    parts : tuple of PartMask
        Of the new model and of the other one.
    result : Comparison
        Of the first mask with the second, on the pixel grid of the first.
    left_out : tuple of str
        Classes that only one model has; their pixels are not compared.
    """

    parts: tuple[PartMask, PartMask]
    result: Comparison
    left_out: tuple[str, ...]


def compared(first: PartMask, second: PartMask) -> ComparedModels:
    """Compare two masks by class names, where both have a class that both models know.

    Raises
    ------
    ConfigError
        When there is nothing to compare.
    """
    from napari_plimseg.results import compare, match_classes

    names, others = ([*part.info.classes.names] for part in (first, second))
    here, there = ({name.casefold() for name in each} for each in (names, others))
    left_out = [name for name in (*names, *others) if name.casefold() not in here & there]
    if not here & there:
        raise ConfigError(
            f"{first.title} and {second.title} have no class name in common",
            remedy="Compare with a model that has the same classes.",
        )
    known = np.zeros(256, bool)
    known[1 : len(names) + 1] = [name.casefold() in there for name in names]
    mask = np.where(known[first.mask], first.mask, NOT_COMPUTED)
    other = second.seen_from(first)
    mapping = match_classes(other, first.info)
    if not mask.any() or not any(mapping.values()):
        raise ConfigError(
            "in this view there is no class that both models know",
            remedy="Move the view to the tissue.",
        )
    info = replace(first.info, shape=mask.shape)
    return ComparedModels((first, second), compare(mask, info, other, mapping), tuple(left_out))


def compare_steps(
    slide: Slide, region: Region, models: tuple[str, str], settings: DockSettings
) -> Generator[Stage | ComparedModels, None, None]:
    """Run two models on a part of a slide and compare their masks.

    Parameters
    ----------
    slide : Slide
        With a known pixel size.
    region : Region
        In level-0 pixels.
    models : tuple of str
        Names in the library.
    settings : DockSettings
        Device and tile size are taken from it.

    Yields
    ------
    Stage or ComparedModels
        Progress, and finally the comparison.

    Raises
    ------
    PlimsegError
        When the part is too large, or a model can't be used.
    """
    side = max(region.height, region.width) * (slide.mpp or 0) / 1000
    if side > _LARGEST_SIDE_MM:
        raise ConfigError(
            f"the view is {side:.0f} mm wide, which takes too long to compare",
            remedy=f"Zoom in to at most {_LARGEST_SIDE_MM:g} mm.",
        )
    with ENGINE.held_by("the comparison of two models"):
        parts = []
        for name in models:
            yield Stage(f"Loading {name}…")
            with scratch_folder() as folder:
                for step in _part_steps(slide, region, name, settings, folder):
                    if isinstance(step, PartMask):
                        parts.append(step)
                    else:
                        yield step
    yield compared(parts[0], parts[1])


def _part_steps(
    slide: Slide, region: Region, name: str, settings: DockSettings, folder: Path
) -> Generator[Stage | PartMask, None, None]:
    from napari_plimseg.inference import RunRegion, open_store, segment_slide
    from napari_plimseg.models import load_model

    model = load_model(name)
    run = settings.run_settings()
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
        yield PartMask(model.name, mask, store.info, (top, left))


_DIFFERENT = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: (1.0, 0.9, 0.0, 1.0)}


class ComparisonLayers:
    """The layers of a comparison; one comparison is shown at a time.

    Parameters
    ----------
    viewer : napari.Viewer
        The layers are added to it.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.layers: list[Labels] = []

    def show(self, found: ComparedModels, slide: Slide) -> None:
        """Replace the layers by those of another comparison and show the first mask.

        Parameters
        ----------
        found : ComparedModels
        slide : Slide
            The one on which they were compared, with which the layers are shown and hidden; its
            pixel size is known.
        """
        from napari.utils.colormaps import DirectLabelColormap

        from napari_plimseg.results import DISAGREE

        self.remove()
        active = self._viewer.layers.selection.active
        for part in found.parts:
            colormap = label_colormap(part.info.classes)
            self._add(f"{part.title} · compared", part.mask, part, colormap, slide)
        differ = (found.result.map == DISAGREE).astype(np.uint8)
        colors = DirectLabelColormap(color_dict=_DIFFERENT)
        self._add(
            "differences · compared", differ, found.parts[0], colors, slide, found.result.map_step
        )
        self._viewer.layers.selection.active = active
        for view in mask_views(self._viewer):
            view.layer.visible = False  # three masks on top of each other can't be read
        self.show_only(0)

    def _add(
        self, name: str, mask: Any, part: PartMask, colormap: Any, slide: Slide, step: int = 1
    ) -> None:
        mpp = slide.mpp or 1.0
        size = part.info.downsample * mpp
        # napari's origin is the center of the first pixel, the slide's its corner
        shift = [(first + 0.5) * size - mpp / 2 for first in part.first]
        layer = self._viewer.add_labels(
            mask,
            name=name,
            opacity=MASK_OPACITY,
            colormap=colormap,
            scale=(step * size, step * size),
            translate=shift,
            units=("micrometer", "micrometer"),
            metadata={"plimseg_overlay": True, OWNER_KEY: slide},
        )
        layer.editable = False
        self.layers.append(layer)

    def show_only(self, number: int) -> None:
        """Show one layer: 0 and 1 are the models, 2 the differences."""
        for place, layer in enumerate(self.layers):
            layer.visible = place == number

    def remove(self) -> None:
        """Remove the layers that the user has not removed already."""
        for layer in self.layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.layers = []
