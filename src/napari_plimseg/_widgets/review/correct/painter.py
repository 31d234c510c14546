"""Painting on a mask within limits, with napari's own brush, polygon, eraser and undo."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._reader import MASK_KEY
from napari_plimseg._widgets.common import TimeSlicedTask
from napari_plimseg._widgets.viewer import is_drawing, label_history, mask_view_of, unwrapped
from napari_plimseg.results import Edit, allowed_pixels, region_within, relabel
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import MaskInfo
    from napari_plimseg.slides import Slide, TissueMask

    Mask = NDArray[np.uint8]
    Pixels = NDArray[np.bool_]


_SMALLEST_MM2 = 0.1
"""Smaller areas are given in µm²."""
QUICK_SIDE = 1024
"""Regions within this window around a click are found immediately, larger ones in a thread."""


@dataclass(frozen=True, eq=False)
class EditTarget:
    """A labels layer that can be corrected, and where it is on its slide.

    Parameters
    ----------
    layer : Labels
        Two-dimensional, uint8 mask ids; without napari's proxy.
    layer_info : MaskInfo
        Classes and pixel size of the mask.
    downsample : float
        Level-0 pixels per pixel of the layer along one side.
    slide : Slide, optional
        For finding tissue.
    origin : tuple of int
        Where the layer begins (y, x), in its own pixels counted from the slide's corner.
    model_output : callable, optional
        Returns the model's mask ids in given rows and columns, for erasing.
    view : MaskView, optional
        The mask behind the layer.
    noted : callable, optional
        Called with the rows and columns of the layer that changed. When None, the change goes to
        the recorder of the view's corrections.
    """

    layer: Labels
    layer_info: MaskInfo
    downsample: float
    slide: Slide | None = None
    origin: tuple[int, int] = (0, 0)
    model_output: Callable[[slice, slice], Mask] | None = None
    view: MaskView | None = None
    noted: Callable[[slice, slice], None] | None = None

    @classmethod
    def of_view(cls, view: MaskView) -> EditTarget:
        """Return the target of a mask computed by this plugin."""
        return cls(
            unwrapped(view.layer),
            view.info,
            view.info.downsample * view.step,
            slide=view.slide,
            model_output=lambda rows, columns: view.pixels.model[rows, columns],
            view=view,
        )

    @classmethod
    def of_layer(cls, layer: Layer) -> EditTarget | None:
        """Return the target of a mask layer, computed or opened from an export; else None."""
        view = mask_view_of(layer)
        if view is not None:
            return cls.of_view(view)
        layer = unwrapped(layer)
        info = layer.metadata.get(MASK_KEY)
        data = getattr(layer, "data", None)
        if info is None or not isinstance(data, np.ndarray) or data.ndim != 2:
            return None
        if data.dtype != np.uint8:
            return None
        return cls(layer, info, info.downsample)

    @property
    def info(self) -> MaskInfo:
        """Classes and pixel size as they are now; people rename classes and edit the pixel size."""
        return self.layer_info if self.view is None else self.view.info

    @property
    def pixel_um(self) -> float | None:
        """Micrometers per pixel of the layer, None when unknown."""
        return None if self.info.mpp is None else self.info.mpp * self.downsample

    def area_text(self, pixels: int) -> str:
        """Return the area of a number of pixels with its unit, for messages."""
        size = self.pixel_um
        if size is None:
            return f"{pixels:,} pixels"
        mm2 = pixels * (size / 1000) ** 2
        return f"{mm2:.3g} mm²" if mm2 >= _SMALLEST_MM2 else f"{mm2 * 1e6:,.0f} µm²"

    def note(self, rows: slice, columns: slice) -> None:
        """Record that a window changed."""
        recorder = None if self.view is None else self.view.recorder
        if self.noted is not None:
            self.noted(rows, columns)
        elif recorder is not None:
            recorder.note(rows, columns)


class MaskPainter:
    """Limits what napari's tools may change on one mask layer.

    napari has no event before it paints. But its brush, polygon and bucket all call the layer's
    public methods `paint`, `paint_polygon` and `fill`, and its undo keys call `undo` and `redo`.
    These methods are replaced on this one layer until `detach`.

    Parameters
    ----------
    target : EditTarget
        What to paint on.
    on_changed : callable
        Called without arguments when the history may have changed.
    on_refused : callable
        Called with the reason when nothing is painted.
    on_large_fill : callable
        Called with y, x and the mask id when a region is too large to fill immediately.
    cancel : callable
        Called before an undo. Returns True when it cancelled an edit that was still being computed;
        then nothing is undone.

    Attributes
    ----------
    pieces : TimeSlicedTask
        A large change being made or undone; it is finished before anything else changes.
    """

    def __init__(
        self,
        target: EditTarget,
        *,
        on_changed: Callable[[], None],
        on_refused: Callable[[str], None],
        on_large_fill: Callable[[int, int, int], None],
        cancel: Callable[[], bool],
    ) -> None:
        self.target = target
        self.only_tissue = False
        self.tissue: TissueMask | None = None
        self.protected: frozenset[int] = frozenset()
        self._on_changed = on_changed
        self._on_refused = on_refused
        self._on_large_fill = on_large_fill
        self._cancel = cancel
        self.pieces = TimeSlicedTask()
        layer = target.layer
        self._names = ("paint", "paint_polygon", "fill", "undo", "redo")
        for name in self._names:
            setattr(layer, name, getattr(self, name))
        layer.events.paint.connect(self._on_paint)

    def detach(self) -> None:
        """Restore the layer's own methods."""
        self.pieces.finish()
        layer = self.target.layer
        for name in self._names:
            layer.__dict__.pop(name, None)
        layer.events.paint.disconnect(self._on_paint)

    def allowed(self, rows: slice, columns: slice) -> Pixels:
        """Return which pixels (h, w) of a window may be changed."""
        tissue = None
        if self.only_tissue:
            tissue = self._tissue_in(rows, columns)
        return allowed_pixels(
            np.asarray(self.target.layer.data[rows, columns]),
            tissue=tissue,
            protected=self.protected,
        )

    def apply(self, edit: Edit, *, refresh: bool = True) -> int:
        """Apply an edit where allowed, as one undo step; return the number of changed pixels."""
        self.pieces.finish()
        edit = self._limited(edit)
        size = edit.size
        if size:
            self._show()
            label_history.write(self.target.layer, edit, refresh=refresh)
            self.target.note(*edit.window)
        return size

    def _show(self) -> None:
        """Show a hidden mask: what is painted must be seen."""
        if not self.target.layer.visible:  # else napari would change the tool, even in a stroke
            self.target.layer.visible = True

    def apply_pieces(
        self, pieces: Sequence[tuple[Edit, Mask]], on_done: Callable[[int], None]
    ) -> None:
        """Apply a large edit where allowed, as one undo step, without blocking the window.

        Parameters
        ----------
        pieces : sequence of (Edit, ndarray of uint8)
            Its parts, and the mask ids of their windows when the edit was computed. Pixels painted
            since then are not changed.
        on_done : callable
            Called with the number of changed pixels.
        """
        layer, sizes = self.target.layer, [0]
        self._show()

        def allowed() -> Iterator[Edit]:
            for edit, before in pieces:
                limited = self._limited(edit.limited(before == layer.data[edit.window]))
                sizes.append(limited.size)
                if limited.size:
                    yield limited

        def steps() -> Iterator[None]:
            for window in label_history.write_pieces(layer, allowed()):
                self.target.note(*window)
                yield

        self.pieces.start(steps(), lambda: on_done(sum(sizes)))
        if is_drawing(layer):  # the edit belongs to this stroke and must come before its next stamp
            self.pieces.finish()

    def paint(self, coord: Sequence[float], new_label: int, refresh: bool = True) -> None:
        """Apply one stamp of the brush; 0 restores the model's output."""
        y, x = (round(float(c)) for c in coord)
        stamp = brush_stamp(int(self.target.layer.brush_size))  # (s, s)
        half = stamp.shape[0] // 2
        self._paint_shape(y - half, x - half, stamp, new_label, refresh)

    def paint_polygon(self, points: Any, new_label: int) -> None:
        """Paint the inside of an outline (N, 2) of y and x; 0 restores the model's output."""
        outline = np.asarray(points, float)[:, -2:]
        top, left, inside = polygon_pixels(outline, self.target.layer.data.shape)
        self._paint_shape(top, left, inside, new_label, True)

    def fill(self, coord: Sequence[float], new_label: int, refresh: bool = True) -> None:
        """Set the connected region under a pixel to another class."""
        self.pieces.finish()
        y, x = (round(float(c)) for c in coord)
        mask = self.target.layer.data
        if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]) or mask[y, x] == new_label:
            return
        if not self._is_class(new_label):
            return
        if not self.allowed(slice(y, y + 1), slice(x, x + 1)).all():
            self._on_refused("This place is protected or outside the tissue; nothing was painted.")
            return
        part = region_within(mask, y, x, QUICK_SIDE)
        if part is None:
            self._on_large_fill(y, x, new_label)
        else:
            self.apply(relabel(part, new_label), refresh=refresh)

    def undo(self) -> None:
        """Cancel the edit that is still being computed, or else undo the last change."""
        if not self._cancel():
            self._replay(label_history.undo)

    def redo(self) -> None:
        """Redo the change undone last."""
        self._replay(label_history.redo)

    def _replay(self, replay: Callable[[Labels], Iterator[tuple[slice, slice]]]) -> None:
        def steps() -> Iterator[None]:
            for window in replay(self.target.layer):
                self.target.note(*window)
                yield

        self.pieces.start(steps(), self._on_changed)

    def _limited(self, edit: Edit) -> Edit:
        if edit.size and (self.only_tissue or self.protected):
            return edit.limited(self.allowed(*edit.window))
        return edit

    def _paint_shape(
        self, top: int, left: int, shape: Pixels, new_label: int, refresh: bool
    ) -> None:
        self.pieces.finish()
        layer = self.target.layer
        height, width = layer.data.shape
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(height, top + shape.shape[0]), min(width, left + shape.shape[1])
        if y0 >= y1 or x0 >= x1 or not self._is_class(new_label, or_none=True):
            return
        shape = shape[y0 - top : y1 - top, x0 - left : x1 - left]
        rows, columns = slice(y0, y1), slice(x0, x1)
        new: Mask
        if new_label == NOT_COMPUTED and self.target.model_output is not None:
            new = self.target.model_output(rows, columns)
        else:
            new = np.broadcast_to(np.uint8(new_label), shape.shape)
        old = np.asarray(layer.data[rows, columns])
        self.apply(Edit.between(y0, x0, old, new, shape), refresh=refresh)

    def _tissue_in(self, rows: slice, columns: slice) -> Pixels:
        shape = rows.stop - rows.start, columns.stop - columns.start
        if self.tissue is None:
            self._on_refused("Still looking for tissue; nothing was painted. Try again soon.")
            return np.zeros(shape, np.bool_)
        y, x = self.target.origin
        return self.tissue.window(self.target.downsample, y + rows.start, x + columns.start, *shape)

    def _is_class(self, mask_id: int, *, or_none: bool = False) -> bool:
        if mask_id == NOT_COMPUTED and or_none:
            return True
        if self.target.info.classes.by_id(mask_id) is not None:
            return True
        self._on_refused(f"Label {mask_id} is not a class of this mask; nothing was painted.")
        return False

    def _on_paint(self, event: Any = None) -> None:
        self._on_changed()


@functools.lru_cache(maxsize=8)
def brush_stamp(size: int) -> Pixels:
    """Return the disc (s, s) that a brush of a diameter in pixels covers, same as napari's."""
    half = size // 2
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    stamp: Pixels = y * y + x * x <= (half + 0.5) ** 2 if size > 1 else np.ones((1, 1), np.bool_)
    return stamp


def polygon_pixels(outline: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, Pixels]:
    """Return top, left and pixels (h, w) inside an outline (N, 2), clipped to a mask's `shape`."""
    from PIL import Image, ImageDraw

    low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, shape)
    height, width = np.maximum(high - low, 0)
    if not height or not width:
        return 0, 0, np.zeros((0, 0), np.bool_)
    picture = Image.new("L", (int(width), int(height)))
    corners = [(float(x), float(y)) for y, x in outline - low]
    ImageDraw.Draw(picture).polygon(corners, fill=1, outline=1)
    return int(low[0]), int(low[1]), np.asarray(picture).astype(np.bool_)
