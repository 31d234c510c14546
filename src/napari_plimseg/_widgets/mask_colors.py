"""Colours of masks and of the overlays on them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from napari.utils.colormaps import Colormap, DirectLabelColormap

    from napari_plimseg.tissue import TissueClasses

UNREADABLE_COLOR = (1.0, 0.0, 1.0, 1.0)
COLORMAPS = ("magma", "viridis", "inferno", "turbo", "gray")


def recolored(shown: TissueClasses, edited: TissueClasses) -> TissueClasses:
    """Return `shown` with the colours that classes of the same names have in `edited`."""
    colors = {c.name: c.color for c in edited}
    return dataclasses.replace(
        shown,
        classes=tuple(dataclasses.replace(c, color=colors.get(c.name, c.color)) for c in shown),
    )


def label_colors(
    classes: TissueClasses,
    hidden: Collection[str] = (),
    opacities: Mapping[str, float] | None = None,
) -> dict[int | None, tuple[float, float, float, float]]:
    """Return red, green, blue and alpha (0 to 1) by mask id.

    Hidden classes are transparent; of the others, `opacities` gives alpha by name, else it is 1.
    """
    clear = (0.0, 0.0, 0.0, 0.0)
    colors: dict[int | None, tuple[float, float, float, float]] = {
        None: clear,
        NOT_COMPUTED: clear,
        UNREADABLE: UNREADABLE_COLOR,
    }
    for mask_id, tissue_class in enumerate(classes, start=1):
        red, green, blue = (c / 255 for c in tissue_class.color)
        alpha = (opacities or {}).get(tissue_class.name, 1.0)
        colors[mask_id] = clear if tissue_class.name in hidden else (red, green, blue, alpha)
    return colors


def label_colormap(
    classes: TissueClasses,
    hidden: Collection[str] = (),
    opacities: Mapping[str, float] | None = None,
) -> DirectLabelColormap:
    """Return the colormap of a mask layer."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict=label_colors(classes, hidden, opacities))


def fading_colormap(name: str) -> Colormap:
    """Return a colormap of napari that fades to transparent at its low end."""
    from napari.utils.colormaps import Colormap, ensure_colormap

    colors = ensure_colormap(name).map(np.linspace(0, 1, 64)).copy()  # (64, 4)
    colors[:, 3] = np.clip(np.linspace(0, 2.0, 64), 0, 1)
    return Colormap(colors, name=f"{name} on clear")
