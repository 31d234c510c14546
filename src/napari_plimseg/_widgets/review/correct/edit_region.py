"""*Edit region*: a window of a downsampled mask in a separate layer, at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QCoreApplication, QObject, QTimer

from napari_plimseg._widgets.review.correct.painter import EditTarget
from napari_plimseg._widgets.review.messages import MOVE_VIEW, OFF_VIEW
from napari_plimseg._widgets.viewer import (
    MASK_OPACITY,
    OWNER_KEY,
    edit_spans,
    label_colormap,
    unwrapped,
)
from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer import MaskView


MAX_SIDE = 4096
REGION_KEY = "plimseg_edit_region"
"""Key of a labels layer's metadata that marks the window being edited."""
WRITE_MS = 400


@dataclass(frozen=True, eq=False)
class OpenRegion:
    """The open window.

    Parameters
    ----------
    view : MaskView
        The mask that it is a part of.
    layer : Labels
        The layer of the window.
    y, x : int
        Its corner in mask pixels.
    before : ndarray of uint8, shape (h, w)
        The corrections in the window when it was opened, 0 for none.
    model : ndarray of uint8, shape (h, w)
        The model's output.
    """

    view: MaskView
    layer: Labels
    y: int
    x: int
    before: NDArray[np.uint8]
    model: NDArray[np.uint8]


def visible_pixels(layer: Labels, step: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of a mask of `shape` in view, from its downsampled layer.

    Raises
    ------
    ConfigError
        When nothing is in view, or more than `MAX_SIDE` pixels per side.
    """
    top_left, bottom_right = np.asarray(layer.corner_pixels, int)[:, -2:] * step
    top, left = np.maximum(top_left, 0)
    bottom, right = np.minimum(bottom_right + step, shape)
    if bottom - top <= step or right - left <= step:
        raise ConfigError(OFF_VIEW, remedy=MOVE_VIEW)
    if max(bottom - top, right - left) > MAX_SIDE:
        raise ConfigError(
            f"the view shows {right - left:,} x {bottom - top:,} pixels of the mask; at most "
            f"{MAX_SIDE:,} per side can be edited at full resolution",
            remedy="Zoom in and try again.",
        )
    return slice(int(top), int(bottom)), slice(int(left), int(right))


class EditRegion(QObject):
    """Opens one window at a time and saves what is painted there as corrections.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._open: OpenRegion | None = None
        self._dirty: list[tuple[slice, slice]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(WRITE_MS)
        self._timer.timeout.connect(self.write_back)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._on_quit)

    @property
    def view(self) -> MaskView | None:
        """The mask whose window is open."""
        return None if self._open is None else self._open.view

    def is_layer(self, layer: Any) -> bool:
        """Whether a layer is the open window."""
        return self._open is not None and self._open.layer is layer

    def open(self, view: MaskView) -> EditTarget:
        """Open the part of a mask that is in view; a window open before is closed.

        Raises
        ------
        ConfigError
            When too little or too much of the mask is in view, or corrections can't be saved.
        StoreError
            When the mask is damaged there.
        """
        self.done()
        if view.corrections is None:
            raise ConfigError(
                "corrections of this mask can't be saved",
                remedy="See the message in the PLIMSeg dock.",
            )
        rows, columns = visible_pixels(unwrapped(view.layer), view.step, view.info.shape)
        if view.recorder is not None:
            view.recorder.commit_all()
        before = view.corrections.read(rows, columns)
        model = view.edits.applied(view.store.read("classes", rows, columns))
        shown = np.where(before > 0, before, model)
        size = view.info.napari_scale[0]
        shift = view.info.napari_translate[0]
        coarse = unwrapped(view.layer)
        layer = self._viewer.add_labels(
            shown,
            name=f"{coarse.name} · region",
            opacity=MASK_OPACITY,
            colormap=label_colormap(view.info.classes),
            scale=(size, size),
            translate=(shift + rows.start * size, shift + columns.start * size),
            units=coarse.units,
            metadata={REGION_KEY: True, OWNER_KEY: view.slide},
        )
        layer.selected_label = coarse.selected_label
        layer.brush_size = coarse.brush_size * view.step
        coarse.visible = False
        self._open = OpenRegion(view, layer, rows.start, columns.start, before, model)
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_redrawn)
        layer.events.labels_update.connect(self._on_drawn)
        self._viewer.layers.events.removed.connect(self._on_removed)
        target = self.target
        assert target is not None  # noqa: S101 - it is open
        return target

    @property
    def target(self) -> EditTarget | None:
        """The open window as the target of painting."""
        opened = self._open
        if opened is None:
            return None
        return EditTarget(
            opened.layer,
            opened.view.info,
            opened.view.info.downsample,
            slide=opened.view.slide,
            origin=(opened.y, opened.x),
            model_output=lambda rows, columns: opened.model[rows, columns],
            view=opened.view,
            noted=self._note,
        )

    def write_back(self) -> None:
        """Record what was painted since the last call as corrections; saving follows."""
        opened = self._open
        spans, self._dirty = self._dirty, []
        if opened is None or not spans:
            return
        rows = slice(min(s[0].start for s in spans), max(s[0].stop for s in spans))
        columns = slice(min(s[1].start for s in spans), max(s[1].stop for s in spans))
        shown = np.asarray(opened.layer.data[rows, columns])
        model = opened.model[rows, columns]
        self._write(opened, rows, columns, np.where(shown == model, 0, shown).astype(np.uint8))

    def done(self) -> None:
        """Record what is left and close the window."""
        self.write_back()
        self._close()

    def discard(self) -> None:
        """Restore the corrections from before and close the window."""
        opened = self._open
        self._dirty = []
        if opened is not None:
            height, width = opened.before.shape
            self._write(opened, slice(0, height), slice(0, width), opened.before)
        self._close()

    def _write(
        self, opened: OpenRegion, rows: slice, columns: slice, block: NDArray[np.uint8]
    ) -> None:
        view = opened.view
        if view.corrections is None:
            return
        if view.recorder is not None:
            # otherwise it would record its older, downsampled pixels over these
            view.recorder.commit_all()
        y, x = opened.y + rows.start, opened.x + columns.start
        view.corrections.write(y, x, block)
        view.refresh_window(slice(y, y + block.shape[0]), slice(x, x + block.shape[1]))
        if view.recorder is not None:  # so that the recorder saves them
            rows, columns = (
                slice(start // view.step, -(-(start + side) // view.step))
                for start, side in zip((y, x), block.shape, strict=True)
            )
            view.recorder.note(rows, columns)

    def _note(self, rows: slice, columns: slice) -> None:
        self._dirty.append((rows, columns))
        if not self._timer.isActive():
            self._timer.start()

    def _on_drawn(self, event: Any) -> None:
        (y, x), (height, width) = event.offset[:2], event.data.shape[:2]
        self._note(slice(y, y + height), slice(x, x + width))

    def _on_paint(self, event: Any) -> None:
        for span in edit_spans(event.value):
            self._note(*span)

    def _on_redrawn(self, event: Any = None) -> None:
        if self._open is not None:
            height, width = self._open.layer.data.shape
            self._note(slice(0, height), slice(0, width))

    def _on_quit(self) -> None:
        opened = self._open
        self.write_back()
        if opened is not None and opened.view.recorder is not None:
            opened.view.recorder.flush_and_release()

    def _on_removed(self, event: Any) -> None:
        if self._open is not None and unwrapped(event.value) is self._open.layer:
            self.done()

    def _close(self) -> None:
        opened, self._open = self._open, None
        self._timer.stop()
        if opened is None:
            return
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        events = opened.layer.events
        events.paint.disconnect(self._on_paint)
        events.set_data.disconnect(self._on_redrawn)
        events.labels_update.disconnect(self._on_drawn)
        if opened.layer in self._viewer.layers:
            self._viewer.layers.remove(opened.layer)
        unwrapped(opened.view.layer).visible = True
