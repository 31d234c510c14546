"""Painting on a mask with limits, with napari's own brush, polygon, eraser and undo."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._reader import MASK_KEY
from napari_plimseg._widgets.common.background_job import TimeSlicedTask
from napari_plimseg._widgets.viewer import label_history
from napari_plimseg._widgets.viewer.mask_layer import mask_view_of
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg.results.editing.operations import Edit, allowed_pixels, region_within, relabel
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer.mask_layer import MaskView
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.slides.tissue_mask import TissueMask

    Mask = NDArray[np.uint8]
    Pixels = NDArray[np.bool_]


QUICK_SIDE = 1024
"""Regions within this window around a click are found at once, larger ones in a thread."""


@dataclass(frozen=True, eq=False)
class EditTarget:
    """A labels layer that can be corrected, and where it lies on its slide.

    Parameters
    ----------
    layer : Labels
        Of two dimensions, uint8 mask ids; without napari's proxy.
    layer_info : MaskInfo
        Classes and pixel size of the mask.
    downsample : float
        Level-0 pixels per pixel of the layer and side.
    slide : Slide, optional
        For finding tissue.
    origin : tuple of int
        Where the layer begins, in its own pixels counted from the slide's corner (y, x).
    model_output : callable, optional
        Returns the model's mask ids of rows and columns, for erasing.
    view : MaskView, optional
        The mask behind the layer.
    noted : callable, optional
        Called with rows and columns of the layer that were changed; when None, the recorder of
        the view's corrections is.
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
        """Return the target of a mask that this program computed."""
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
        """Return the target of a layer: a mask, or an exported one that was opened; else None."""
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
        """Classes and pixel size as they are now; people rename and type anew."""
        return self.layer_info if self.view is None else self.view.info

    @property
    def pixel_um(self) -> float | None:
        """Micrometres per pixel of the layer, None when unknown."""
        return None if self.info.mpp is None else self.info.mpp * self.downsample

    def note(self, rows: slice, columns: slice) -> None:
        """Tell the recorder of corrections that a window changed."""
        recorder = None if self.view is None else self.view.recorder
        if self.noted is not None:
            self.noted(rows, columns)
        elif recorder is not None:
            recorder.note(rows, columns)


class MaskPainter:
    """Stands between napari's tools and a mask: limits what they may change.

    napari asks nobody before it paints, but its brush, polygon and bucket all go through the
    layer's public methods `paint`, `paint_polygon` and `fill`, and its undo keys through `undo`
    and `redo`. These are replaced on this one layer until `detach`.

    Parameters
    ----------
    target : EditTarget
        What is painted on.
    on_changed : callable
        Called without arguments when the history may have changed.
    on_refused : callable
        Called with a sentence when nothing is painted and why.
    on_large_fill : callable
        Called with y, x and the mask id when a region is too large to be filled at once.
    cancel : callable
        Called before an undo; returns whether there was an edit still being looked for, which is
        then called off in place of undoing the last one.

    Attributes
    ----------
    pieces : TimeSlicedTask
        A large change that is being made or taken back; finished before anything else changes.
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
        self._call_off = cancel
        self.pieces = TimeSlicedTask()
        layer = target.layer
        self._names = ("paint", "paint_polygon", "fill", "undo", "redo")
        for name in self._names:
            setattr(layer, name, getattr(self, name))
        layer.events.paint.connect(self._on_paint)

    def detach(self) -> None:
        """Give the layer its own methods back."""
        self.pieces.finish()
        layer = self.target.layer
        for name in self._names:
            layer.__dict__.pop(name, None)
        layer.events.paint.disconnect(self._on_paint)

    def allowed(self, rows: slice, columns: slice) -> Pixels:
        """Return where a window (h, w) may be changed now."""
        tissue = None
        if self.only_tissue:
            tissue = self._tissue_in(rows, columns)
        return allowed_pixels(
            np.asarray(self.target.layer.data[rows, columns]),
            tissue=tissue,
            protected=self.protected,
        )

    def apply(self, edit: Edit, *, refresh: bool = True) -> int:
        """Make an edit where it is allowed, as one step of the history; return how many pixels."""
        self.pieces.finish()
        edit = self._limited(edit)
        size = edit.size
        if size:
            label_history.write(self.target.layer, edit, refresh=refresh)
            self.target.note(*edit.window)
        return size

    def apply_pieces(
        self, pieces: Sequence[tuple[Edit, Mask]], on_done: Callable[[int], None]
    ) -> None:
        """Make a large edit where it is allowed, as one step of the history, without a long wait.

        Parameters
        ----------
        pieces : sequence of (Edit, ndarray of uint8)
            Its parts, and the mask ids of their windows as they were when it was looked for: what
            was painted since stays.
        on_done : callable
            Called with the number of pixels that changed.
        """
        layer, sizes = self.target.layer, [0]

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
        if label_history.is_drawing(layer):  # before the next piece of the stroke
            self.pieces.finish()

    def paint(self, coord: Sequence[float], new_label: int, refresh: bool = True) -> None:
        """Set down the brush once; 0 brings the model's output back."""
        y, x = (round(float(c)) for c in coord)
        stamp = brush_stamp(int(self.target.layer.brush_size))  # (s, s)
        half = stamp.shape[0] // 2
        self._paint_shape(y - half, x - half, stamp, new_label, refresh)

    def paint_polygon(self, points: Any, new_label: int) -> None:
        """Paint the inside of an outline (N, 2) of y and x; 0 brings the model's output back."""
        outline = np.asarray(points, float)[:, -2:]
        top, left, inside = polygon_pixels(outline, self.target.layer.data.shape)
        self._paint_shape(top, left, inside, new_label, True)

    def fill(self, coord: Sequence[float], new_label: int, refresh: bool = True) -> None:
        """Give the region under a pixel another class."""
        self.pieces.finish()
        y, x = (round(float(c)) for c in coord)
        mask = self.target.layer.data
        if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]) or mask[y, x] == new_label:
            return
        if not self._is_class(new_label):
            return
        if not self.allowed(slice(y, y + 1), slice(x, x + 1)).all():
            self._on_refused("This place is protected or no tissue, so it stays as it is.")
            return
        part = region_within(mask, y, x, QUICK_SIDE)
        if part is None:
            self._on_large_fill(y, x, new_label)
        else:
            self.apply(relabel(part, new_label), refresh=refresh)

    def undo(self) -> None:
        """Take the last change back, or call off the one that is still being looked for."""
        if not self._call_off():
            self._replay(label_history.undo)

    def redo(self) -> None:
        """Make the change that was taken back last again."""
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
            self._on_refused("The tissue is still being found: nothing is painted until then.")
            return np.zeros(shape, np.bool_)
        y, x = self.target.origin
        return self.tissue.window(self.target.downsample, y + rows.start, x + columns.start, *shape)

    def _is_class(self, mask_id: int, *, or_none: bool = False) -> bool:
        if mask_id == NOT_COMPUTED and or_none:
            return True
        if self.target.info.classes.by_id(mask_id) is not None:
            return True
        self._on_refused(f"Label {mask_id} is no class of this mask. Choose a class to paint with.")
        return False

    def _on_paint(self, event: Any = None) -> None:
        self._on_changed()


@functools.lru_cache(maxsize=8)
def brush_stamp(size: int) -> Pixels:
    """Return the disc (s, s) that a brush of a diameter in pixels covers, as napari's does."""
    half = size // 2
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    stamp: Pixels = y * y + x * x <= (half + 0.5) ** 2 if size > 1 else np.ones((1, 1), np.bool_)
    return stamp


def polygon_pixels(outline: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, Pixels]:
    """Return top, left and the pixels (h, w) inside an outline (N, 2), cut to a mask of `shape`."""
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


class TargetLink:
    """Everything that hangs on one layer while it is corrected, taken off by `disconnect`.

    Parameters
    ----------
    painter : MaskPainter
        On that layer already.
    """

    def __init__(self, painter: MaskPainter) -> None:
        self.painter = painter
        self._undone: list[Callable[[], Any]] = [painter.detach]
        self._signals: list[tuple[Any, Callable[..., Any]]] = []

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot` on an event of napari until `disconnect`."""
        emitter.connect(slot)
        self._undone.append(lambda: emitter.disconnect(slot))

    def connect_signal(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Call the slot of a widget on a Qt signal until `disconnect`."""
        signal.connect(slot)
        self._signals.append((signal, slot))

    def bind_key(self, key: str, act: Callable[[], None]) -> None:
        """Let a key act on this layer only; napari's own key of that name rests."""
        layer = self.painter.target.layer
        before = layer.bind_key(key, lambda _: act(), overwrite=True)
        self._undone.append(lambda: layer.bind_key(key, before, overwrite=True))

    def on_click(self, callback: Callable[[Any, Any], Any]) -> None:
        """Call a mouse callback of the layer."""
        callbacks = self.painter.target.layer.mouse_drag_callbacks
        callbacks.append(callback)
        self._undone.append(lambda: callbacks.remove(callback))

    def disconnect(self, *, widget_is_gone: bool = False) -> None:
        """Leave the layer as it was; Qt itself takes the slots of a widget that is gone off."""
        while self._undone:
            self._undone.pop()()
        while self._signals and not widget_is_gone:
            signal, slot = self._signals.pop()
            signal.disconnect(slot)


class HeldLink:
    """The link of a section, which outlives it, so that it is taken off in any case."""

    def __init__(self) -> None:
        self.link: TargetLink | None = None

    def let_go(self, *, widget_is_gone: bool = False) -> None:
        """Leave the layer as it was, if there is one."""
        if self.link is not None:
            self.link.disconnect(widget_is_gone=widget_is_gone)
            self.link = None
