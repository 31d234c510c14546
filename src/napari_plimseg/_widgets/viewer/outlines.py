"""Outlines of the classes with the same thickness on the screen at every zoom.

napari's contours are lines of data pixels, which vanish when zoomed out, and computing them for a
mask of 16,384 pixels per side takes most of a minute. Here the part of the mask in view is sampled
at screen resolution, outlined, and shown in a separate layer. This takes a few milliseconds for a
mask of any size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_plimseg._widgets.viewer.camera import CameraWatch, get_camera
from napari_plimseg._widgets.viewer.napari_private import canvas_size

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer.mask_layer import MaskView


SCREEN_PIXELS = 2
"""Thickness of the line inside each of two neighboring classes."""
_AROUND = 0.25  # margin, in sides of the window, so that small movements need no new lines
_THROTTLE_MS = 60


def outline_ids(ids: NDArray[np.uint8], thickness: int = SCREEN_PIXELS) -> NDArray[np.uint8]:
    """Return the ids of pixels at the border of their region, 0 elsewhere.

    Parameters
    ----------
    ids : ndarray of uint8, shape (h, w)
    thickness : int
        Pixels from the border inward, along rows and columns.
    """
    edge = np.zeros(ids.shape, bool)
    for shift in range(1, thickness + 1):
        differs = ids[shift:] != ids[:-shift]
        edge[shift:] |= differs
        edge[:-shift] |= differs
        differs = ids[:, shift:] != ids[:, :-shift]
        edge[:, shift:] |= differs
        edge[:, :-shift] |= differs
    return np.where(edge, ids, np.uint8(0))


def without_specks(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace structures less than two pixels thick by a neighbor that is thicker.

    Sampling hits structures smaller than a screen pixel at random. Outlined, they would appear as
    crosses all over the slide.

    Parameters
    ----------
    ids : ndarray of uint8, shape (h, w)
    """
    if min(ids.shape) < 2:
        return ids
    first, *others = ids[:-1, :-1], ids[1:, :-1], ids[:-1, 1:], ids[1:, 1:]
    block = np.logical_and.reduce([first == other for other in others])  # (h - 1, w - 1)
    solid = np.zeros((ids.shape[0] + 2, ids.shape[1] + 2), bool)  # a rim of one pixel
    for y, x in ((1, 1), (2, 1), (1, 2), (2, 2)):
        solid[y : y + block.shape[0], x : x + block.shape[1]] |= block
    padded = np.pad(ids, 1)
    out = ids.copy()
    left = ~solid[1:-1, 1:-1]
    for rows, columns in (
        (slice(None, -2), slice(1, -1)),
        (slice(1, -1), slice(None, -2)),
        (slice(2, None), slice(1, -1)),
        (slice(1, -1), slice(2, None)),
    ):
        take = left & solid[rows, columns]
        np.copyto(out, padded[rows, columns], where=take)
        left &= ~take
    return out


class OutlineLayer(QObject):
    """Shows the outlines of a mask in a separate layer, redrawn when the camera moves.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer.
    view : MaskView
        The mask.
    parent : QObject
        Owner.

    Attributes
    ----------
    layer : napari.layers.Labels
        The lines; read-only.
    removed : Signal()
        The user deleted the layer.
    """

    removed = Signal()

    def __init__(self, viewer: Viewer, view: MaskView, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._view = view
        self._drawn: tuple[float, float, float, float, float] | None = None
        active = viewer.layers.selection.active
        self.layer: Labels = viewer.add_labels(
            np.zeros((1, 1), np.uint8),
            name=f"{view.layer.name} · outlines",
            opacity=1.0,
            colormap=self._colormap(),
            metadata={"plimseg_overlay": True, "plimseg_owner": view.slide},
            units=view.placement()["units"],
        )
        self.layer.editable = False
        viewer.layers.selection.active = active
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_THROTTLE_MS)
        self._timer.timeout.connect(self.draw)
        self._camera = CameraWatch(viewer, self._on_moved)
        view.layer.events.colormap.connect(self._on_colormap)
        viewer.layers.events.removed.connect(self._on_removed)
        self.draw()

    def close(self) -> None:
        """Take the layer away and stop listening."""
        self.disconnect_viewer()
        if self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)

    def disconnect_viewer(self) -> None:
        """Leave the viewer alone."""
        self._timer.stop()
        self._camera.disconnect()
        self._view.layer.events.colormap.disconnect(self._on_colormap)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def mask_changed(self) -> None:
        """Redraw the lines soon, because the mask changed."""
        self._drawn = None
        if not self._timer.isActive():
            self._timer.start()

    def draw(self) -> None:
        """Outline the part of the mask that the window shows."""
        mask = self._view.layer
        pixel = float(mask.scale[-1])
        sample = 1 / (get_camera(self._viewer).zoom * pixel)  # mask pixels a screen pixel
        window = self._window(sample, 0.0)
        wanted = (*window, sample)
        if self._drawn is not None and _covers(self._drawn, wanted):
            return
        top, left, bottom, right = self._window(sample, _AROUND)
        # the grid of samples does not move with the window, so lines don't flicker
        first_row, first_column = int(top // sample), int(left // sample)
        height, width = mask.data.shape
        rows = _samples(first_row, bottom, sample, height)
        columns = _samples(first_column, right, sample, width)
        if not len(rows) or not len(columns):
            lines = np.zeros((1, 1), np.uint8)
        else:
            ids = _sampled(mask.data, rows, columns)
            lines = outline_ids(without_specks(ids) if sample > 1 else ids)
        self._drawn = (top, left, bottom, right, sample)
        origin = np.array([first_row + 0.5, first_column + 0.5]) * sample - 0.5
        self._place(lines, sample * pixel, origin * pixel + np.asarray(mask.translate[-2:]))

    def _place(self, lines: NDArray[np.uint8], scale: float, shift: NDArray[np.float64]) -> None:
        # each setter makes napari update all layers, so only set what changed
        layer = self.layer
        if layer.data.shape == lines.shape:
            layer.data[:] = lines
            layer.refresh(extent=False, thumbnail=False)
        else:
            layer.data = lines
        if not np.allclose(layer.scale, scale, rtol=1e-9, atol=0):
            layer.scale = np.full(2, scale)
        if not np.allclose(layer.translate, shift, rtol=0, atol=1e-6 * scale):
            layer.translate = shift

    def _window(self, sample: float, around: float) -> tuple[float, float, float, float]:
        """Return top, left, bottom, right of the window in mask pixels, inside the mask."""
        mask = self._view.layer
        center = np.asarray(mask.world_to_data(get_camera(self._viewer).center[-2:]), float) + 0.5
        half = np.array(canvas_size(self._viewer)) * sample * (0.5 + around)
        limits = np.array(mask.data.shape, float)
        top, left = np.clip(center - half, 0, limits)
        bottom, right = np.clip(center + half, 0, limits)
        return float(top), float(left), float(bottom), float(right)

    def _colormap(self) -> DirectLabelColormap:
        from napari.utils.colormaps import DirectLabelColormap

        background = self._view.info.classes.background_id
        colors = {
            mask_id: (*color[:3], float(color[3] > 0 and mask_id != background))
            for mask_id, color in self._view.layer.colormap.color_dict.items()
        }
        return DirectLabelColormap(color_dict=colors)

    def _on_colormap(self, event: Any = None) -> None:
        if hasattr(self._view.layer.colormap, "color_dict"):  # else napari's shuffle is undone soon
            self.layer.colormap = self._colormap()

    def _on_moved(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.removed.emit()


def _samples(first: int, end: float, sample: float, length: int) -> NDArray[np.int64]:
    count = int(np.ceil(end / sample)) - first
    at = np.floor((np.arange(first, first + count) + 0.5) * sample).astype(np.int64)
    return at[at < length]


def _sampled(
    mask: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return the mask at rows and columns, both ascending.

    Contiguous parts of rows are read first: reading single pixels of a large mask would miss the
    processor's cache every time.
    """
    pieces = np.asarray(mask[rows, columns[0] : columns[-1] + 1])
    return pieces[:, columns - columns[0]]


def _covers(
    drawn: tuple[float, float, float, float, float],
    wanted: tuple[float, float, float, float, float],
) -> bool:
    inside = drawn[0] <= wanted[0] and drawn[1] <= wanted[1]
    inside = inside and drawn[2] >= wanted[2] and drawn[3] >= wanted[3]
    return inside and abs(drawn[4] / wanted[4] - 1) < 0.02
