"""Image layers that show values in colors, and the bar that explains these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.utils.colormaps import Colormap
    from napari.viewer import Viewer
    from numpy.typing import NDArray


COLORMAPS = ("magma", "viridis", "inferno", "turbo", "gray")


def fading_colormap(name: str) -> Colormap:
    """Return a colormap of napari that fades to transparent at its low end."""
    from napari.utils.colormaps import Colormap, ensure_colormap

    colors = ensure_colormap(name).map(np.linspace(0, 1, 64)).copy()  # (64, 4)
    colors[:, 3] = np.clip(np.linspace(0, 2.0, 64), 0, 1)
    return Colormap(colors, name=f"{name} on clear")


def add_value_layer(
    viewer: Viewer,
    values: NDArray[Any],
    *,
    below: Labels | None,
    limits: tuple[float, float],
    colormap: str,
    **about: Any,
) -> Image:
    """Add an image layer that shows values in colors, with napari's color bar.

    The selected layer stays selected: users look at the map while they paint on the mask.

    Parameters
    ----------
    viewer : napari.Viewer
    values : ndarray, shape (h, w)
    below : napari.layers.Labels or None
        The mask that is drawn on top of it; None puts it on top of all layers.
    limits : tuple of float
        Values of the first and the last color.
    colormap : str
        One of napari's.
    **about
        Of the layer: name, opacity, scale, translate, units, metadata.
    """
    from napari.layers import Image

    layer = Image(
        values,
        rgb=False,
        contrast_limits=limits,
        colormap=fading_colormap(colormap),
        blending="translucent",
        interpolation2d="linear",
        **about,
    )
    layers = viewer.layers
    active = layers.selection.active
    place = layers.index(below) if below is not None and below in layers else len(layers)
    layers.insert(place, layer)
    layers.selection.active = active if active is not None else layer
    show_color_bar(layer)
    return layer


def colors_of(layer: Image | None) -> tuple[list[tuple[float, float, float]], float, float] | None:
    """Return the colors of a layer, 0 to 1, and its limits, where napari has no color bar.

    Returns
    -------
    tuple or None
        Colors from the lowest value to the highest, and both; None for no layer, and where napari
        shows its own bar.
    """
    if layer is None or getattr(layer, "colorbar", None) is not None:
        return None
    colors = np.asarray(layer.colormap.map(np.linspace(0, 1, 16)), float)  # (16, 4)
    low, high = (float(value) for value in layer.contrast_limits)
    return [(red, green, blue) for red, green, blue, _ in colors.tolist()], low, high


def show_color_bar(layer: Image) -> bool:
    """Show napari's color bar of a layer; return False in a napari that has none."""
    bar = getattr(layer, "colorbar", None)
    if bar is None:
        return False
    if hasattr(bar, "box"):
        bar.box = True  # white glass behind it would hide its numbers
    bar.visible = True
    return True
