"""The layers that show prompts and the preview of their answer in the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_plimseg._widgets.review.promptable.jobs import pixel_of, pixels_inside
from napari_plimseg._widgets.viewer import OWNER_KEY, get_camera

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_plimseg._widgets.review.correct import EditTarget
    from napari_plimseg._widgets.review.promptable.proposals import PromptDraft
    from napari_plimseg.inference import HintMask
    from napari_plimseg.slides import Region


PREVIEW = "Smart select: preview"
POINTS = "Smart select: points"
BOXES = "Smart select: boxes"
_INSIDE, _RIM, _REMOVED = 1, 2, 3
_POSITIVE, _NEGATIVE = "#30e060", "#ff3040"
_POINT_SIZE, _BOX_WIDTH = 13, 2.5  # in screen pixels


class PromptLayers:
    """Shows points, boxes and the proposed objects; nothing in these layers is saved.

    Parameters
    ----------
    viewer : napari.Viewer
        Without proxy.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}

    def show_preview(
        self,
        target: EditTarget,
        masks: Sequence[HintMask],
        color: tuple[int, int, int],
        before: HintMask | None = None,
    ) -> int:
        """Show objects in the color of their class; return their number of pixels in the layer.

        Pixels of the region `before` that are no longer part of it are shown dark.
        """
        others = [] if before is None else [before]
        top, left, inside = pixels_inside(target, masks, around=others)
        self._remove(PREVIEW)
        count = int(inside.sum())
        if not count:
            return 0
        wide = np.pad(inside, 1)
        shown = wide.astype(np.uint8)
        if others:
            had = np.pad(pixels_inside(target, others, around=masks)[2], 1)
            shown[had & ~wide] = _REMOVED
        shown[ndimage.binary_dilation(wide) & ~wide] = _RIM
        colors = {
            None: (0, 0, 0, 0), 0: (0, 0, 0, 0),
            _INSIDE: (*(c / 255 for c in color), 1.0), _RIM: (1, 1, 1, 1),
            _REMOVED: (0.1, 0.1, 0.1, 1.0),
        }  # fmt: skip
        self._add(
            PREVIEW, target, "add_labels", shown, (top - 1, left - 1), opacity=0.75, colormap=colors
        )
        layers = self._viewer.layers
        prompts = [layers.index(self._layers[n]) for n in (POINTS, BOXES) if n in self._layers]
        if prompts:
            layers.move(layers.index(self._layers[PREVIEW]), min(prompts))
        return count

    def show_draft(self, target: EditTarget, draft: PromptDraft) -> None:
        """Show points (green inside, red outside) and the box."""
        self.show_box(target, draft.box)
        self._remove(POINTS)
        if not draft.points:
            return
        self._add(
            POINTS, target, "add_points",
            np.array([pixel_of(target, y, x) for y, x, _ in draft.points]), (0, 0),
            face_color=[_POSITIVE if positive else _NEGATIVE for *_, positive in draft.points],
            border_color="white", size=_POINT_SIZE * self._screen_pixel(target),
            canvas_size_limits=(8, 2 * _POINT_SIZE),
        )  # fmt: skip

    def show_box(self, target: EditTarget, box: Region | None) -> None:
        """Show a box, also while it is being drawn; None hides it."""
        self._remove(BOXES)
        if box is None:
            return
        y0, x0 = pixel_of(target, box.y, box.x)
        y1, x1 = pixel_of(target, box.y + box.height, box.x + box.width)
        self._add(
            BOXES, target, "add_shapes", np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]]), (0, 0),
            shape_type="rectangle", edge_color="#ffd400", face_color="transparent",
            edge_width=_BOX_WIDTH * self._screen_pixel(target),
        )  # fmt: skip

    def is_tiny(self, target: EditTarget, masks: Sequence[HintMask]) -> bool:
        """Whether objects are hidden under the dots of their points at this zoom."""
        side = self._screen_pixel(target) * target.downsample  # level-0 pixels per screen pixel
        boxes = [box for mask in masks if (box := mask.bounding_box) is not None]
        return POINTS in self._layers and all(
            max(box.height, box.width) < _POINT_SIZE * side for box in boxes
        )

    def clear(self) -> None:
        """Remove the layers."""
        for name in (PREVIEW, POINTS, BOXES):
            self._remove(name)

    def _add(
        self, name: str, target: EditTarget, how: str, data: Any, corner: tuple[int, int],
        **options: Any,
    ) -> None:  # fmt: skip
        placed = target.layer
        scale = np.asarray(placed.scale)[-2:]
        layers = self._viewer.layers
        chosen = layers.selection.active
        colors = options.pop("colormap", None)
        if colors is not None:
            from napari.utils.colormaps import DirectLabelColormap

            options["colormap"] = DirectLabelColormap(color_dict=colors)
        layer = getattr(self._viewer, how)(
            data, name=name, scale=scale, units=tuple(placed.units)[-2:],
            translate=np.asarray(placed.translate)[-2:] + np.asarray(corner) * scale,
            metadata={OWNER_KEY: target.slide}, **options,
        )  # fmt: skip
        layer.editable = False
        layers.selection.active = chosen  # so that keys and clicks still go to the mask
        self._layers[name] = layer

    def _remove(self, name: str) -> None:
        layer = self._layers.pop(name, None)
        layers = self._viewer.layers
        if layer is not None and layer in layers:
            chosen = layers.selection.active
            layers.remove(layer)
            if chosen is not layer and chosen in layers:
                layers.selection.active = chosen

    def _screen_pixel(self, target: EditTarget) -> float:
        """Return the length of a screen pixel in pixels of the layer."""
        return float(1 / (get_camera(self._viewer).zoom * np.asarray(target.layer.scale)[-1]))
