"""The part of the slide that is in view or drawn, in level-0 pixels."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg._widgets.viewer.camera import get_camera
from napari_plimseg._widgets.viewer.slide_groups import OWNER_KEY, slide_of
from napari_plimseg.errors import ConfigError
from napari_plimseg.slides import Region

if TYPE_CHECKING:
    from napari.layers import Image, Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg.inference import RunRegion


class RunOn(Enum):
    """The part of the slide to segment."""

    WHOLE = "whole slide"
    VISIBLE = "what I see"
    SHAPES = "shapes drawn"


REGION_LAYER = "PLIMSeg region"
_CLOSED = ("rectangle", "polygon", "ellipse")
_ELLIPSE_CORNERS = 72


def visible_region(layer: Image) -> Region:
    """Return the part of a slide layer that the window shows.

    Raises
    ------
    ConfigError
        When the window shows nothing of the slide.
    """
    factors = layer.downsample_factors[layer.data_level]  # (2,)
    top_left, bottom_right = np.asarray(layer.corner_pixels, float) * factors  # (2, 2)
    height, width = bottom_right - top_left + factors
    if height <= factors[0] or width <= factors[1]:
        raise ConfigError(
            "the window shows nothing of the slide",
            remedy="Move the view over the tissue, or run on the whole slide.",
        )
    return Region(float(top_left[0]), float(top_left[1]), float(height), float(width))


def view_center(viewer: Viewer, layer: Image) -> tuple[float, float]:
    """Return the level-0 (y, x) in the middle of the window."""
    y, x = np.asarray(layer.world_to_data(np.asarray(get_camera(viewer).center)[-2:]), float)
    return float(y), float(x)


def closed_shapes(layer: Shapes | None) -> int:
    """Return how many shapes of a layer enclose an area."""
    return 0 if layer is None else sum(kind in _CLOSED for kind in layer.shape_type)


def drawn_polygons(shapes: Shapes, slide_layer: Image) -> list[NDArray[np.float64]]:
    """Return the outlines of closed shapes, each (N, 2) of level-0 (y, x).

    napari's origin is the center of the first pixel, the slide's is the pixel's corner.
    """
    polygons = []
    for kind, corners in zip(shapes.shape_type, shapes.data, strict=True):
        if kind not in _CLOSED:
            continue
        outline = _ellipse(corners) if kind == "ellipse" else np.asarray(corners, float)
        world = np.array([shapes.data_to_world(point) for point in outline])
        level_0 = np.array([slide_layer.world_to_data(point) for point in world])
        polygons.append(level_0[:, -2:] + 0.5)
    return polygons


def _ellipse(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an outline (N, 2) of the ellipse in a box of four corners, which may be rotated."""
    corners = np.asarray(box, float)
    center = corners.mean(0)
    half_a, half_b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    return center + np.cos(angles)[:, None] * half_a + np.sin(angles)[:, None] * half_b


def chosen_region(viewer: Viewer, layer: Image, run_on: RunOn) -> RunRegion | None:
    """Return the part of a slide to run on; None is the whole slide.

    Raises
    ------
    ConfigError
        When that part is empty.
    """
    from napari_plimseg.inference import RunRegion

    if run_on is RunOn.VISIBLE:
        return RunRegion.rectangle(visible_region(layer))
    shapes = find_region_layer(viewer, layer)
    if run_on is RunOn.SHAPES and shapes is not None:
        return RunRegion.polygons(drawn_polygons(shapes, layer))
    return None


def find_region_layer(viewer: Viewer, slide_layer: Image | None) -> Shapes | None:
    """Return the layer for regions drawn on a slide, or None."""
    from napari.layers import Shapes

    slide = slide_of(slide_layer)
    for layer in viewer.layers:
        if isinstance(layer, Shapes) and slide is not None:
            owner = layer.metadata.get(OWNER_KEY)
            if owner is slide or (owner is None and layer.name.startswith(REGION_LAYER)):
                return layer
    return None


def add_region_layer(viewer: Viewer, slide_layer: Image) -> Shapes:
    """Add the layer for drawn regions and activate its rectangle tool."""
    line = 5.0 * max(slide_layer.level_shapes[0][:2]) / 1000
    shapes = viewer.add_shapes(
        name=f"{REGION_LAYER} · {slide_layer.name}",
        ndim=2,
        scale=slide_layer.scale,
        translate=slide_layer.translate,
        units=slide_layer.units,
        edge_color="#ffd400",
        face_color=[1.0, 0.83, 0.0, 0.08],
        metadata={OWNER_KEY: slide_of(slide_layer)},
    )
    shapes.current_edge_width = line
    return shapes
