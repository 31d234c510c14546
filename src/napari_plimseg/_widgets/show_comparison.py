"""The layers of a comparison: both masks, and where they differ; main thread only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._widgets.layer_views import MASK_OPACITY, label_colormap, mask_views

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_plimseg._widgets.compare_models import ComparedModels, PartMask

_DIFFERENT = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: (1.0, 0.9, 0.0, 1.0)}


class ComparisonLayers:
    """Shows one comparison at a time.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layers; those of the last comparison go.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.layers: list[Labels] = []

    def show(self, found: ComparedModels, mpp: float) -> None:
        """Add the layers and show the first model's mask.

        Parameters
        ----------
        found : ComparedModels
        mpp : float
            Micrometres per level-0 pixel of the slide.
        """
        from napari.utils.colormaps import DirectLabelColormap

        from napari_plimseg.results.analysis.comparison import DISAGREE

        self.remove()
        active = self._viewer.layers.selection.active
        for part in found.parts:
            colormap = label_colormap(part.info.classes)
            self._add(f"{part.title} · compared", part.mask, part, colormap, mpp)
        differ = (found.result.map == DISAGREE).astype(np.uint8)
        colors = DirectLabelColormap(color_dict=_DIFFERENT)
        self._add(
            "differences · compared", differ, found.parts[0], colors, mpp, found.result.map_step
        )
        self._viewer.layers.selection.active = active
        for view in mask_views(self._viewer):
            view.layer.visible = False  # colours of three masks on top of each other tell nothing
        self.show_only(0)

    def _add(
        self, name: str, mask: Any, part: PartMask, colormap: Any, mpp: float, step: int = 1
    ) -> None:
        size = part.info.downsample * mpp
        # napari's origin is the centre of the first pixel
        shift = [(first + 0.5) * size - mpp / 2 for first in part.first]
        layer = self._viewer.add_labels(
            mask,
            name=name,
            opacity=MASK_OPACITY,
            colormap=colormap,
            scale=(step * size, step * size),
            translate=shift,
            units=("micrometer", "micrometer"),
        )
        layer.editable = False
        self.layers.append(layer)

    def show_only(self, number: int) -> None:
        """Show one of the layers: 0 and 1 the models, 2 the differences."""
        for place, layer in enumerate(self.layers):
            layer.visible = place == number

    def remove(self) -> None:
        """Take the layers away, those that a person has not."""
        for layer in self.layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.layers = []
