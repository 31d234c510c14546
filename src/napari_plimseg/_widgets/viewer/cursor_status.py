"""The class under the cursor and the model's confidence, in the status bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._widgets.common import plain
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer.mask_layer import MaskView


_BLOCK = 256
_SEPARATOR = "  ·  "
_NOTHING_UNDER_THE_CURSOR = "Ready"  # napari's status when the mouse leaves the slide


class StoreBlocks:
    """Reads single pixels of a store through a cached block.

    A store decodes a whole tile to read one pixel, and a moving mouse reads many pixels per tile.
    """

    def __init__(self) -> None:
        self._key: tuple[int, int, int] | None = None
        self._block: NDArray[np.uint8] | None = None  # (2, h, w)

    def forget(self) -> None:
        """Drop the block after the store changed."""
        self._key = None

    def at(self, view: MaskView, row: int, column: int) -> tuple[int, int]:
        """Return the model's mask id and its confidence, 0 to 255, at a mask pixel."""
        top, left = row // _BLOCK * _BLOCK, column // _BLOCK * _BLOCK
        key = (id(view), top, left)
        if self._key != key or self._block is None:
            window = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            self._block = np.stack(
                [view.store.read("classes", *window), view.store.read("confidence", *window)]
            )
            self._key = key
        mask_id, confidence = self._block[:, row - top, column - left]
        return int(mask_id), int(confidence)


def describe_pixel(view: MaskView, world: NDArray[np.float64], blocks: StoreBlocks) -> str:
    """Return "stroma · 87 %" for a world position; empty outside the mask.

    A corrected pixel has the painted class and no confidence.
    """
    pixel = view.mask_pixel(world)
    if pixel is None:
        return ""
    mask_id = int(view.layer.data[pixel])
    if mask_id == NOT_COMPUTED:
        return ""
    if mask_id == UNREADABLE:
        return "unreadable part of the slide"
    tissue_class = view.info.classes.by_id(mask_id)
    if tissue_class is None:
        return f"label {mask_id}, not a class"
    try:
        predicted, confidence = blocks.at(view, pixel[0] * view.step, pixel[1] * view.step)
    except Exception:  # noqa: BLE001 - a result deleted meanwhile must not break the mouse
        return tissue_class.name
    if view.edits.table[predicted] != mask_id:
        return f"{tissue_class.name} · painted"
    return f"{tissue_class.name} · {100 * confidence / 255:.0f} %"


_UM_AT_1X = 10.0
"""Micrometers per pixel that people call 1x: 0.25 at 40x."""


def describe_place(um_per_pixel: float, world: NDArray[np.float64]) -> str:
    """Return "12.5x · x 1,200 y 300 µm".

    Parameters
    ----------
    um_per_pixel : float
        Micrometers per pixel of the screen.
    world : ndarray of float, shape (2,)
        Position (y, x) in micrometers.
    """
    y, x = world
    return f"{_UM_AT_1X / um_per_pixel:.3g}x · x {x:,.0f} y {y:,.0f} µm"


class CursorStatus:
    """Appends magnification, place in micrometers and class to napari's status bar.

    Parameters
    ----------
    viewer : napari.Viewer
        Its cursor and status bar.
    current_view : callable
        Returns the current mask, or None.
    um_per_pixel : callable, optional
        Returns the micrometers per pixel of the screen, None when they are unknown; then no
        magnification and place are shown.
    """

    def __init__(
        self,
        viewer: Viewer,
        current_view: Callable[[], MaskView | None],
        um_per_pixel: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._viewer = viewer
        self._current_view = current_view
        self._um_per_pixel = um_per_pixel
        self.blocks = StoreBlocks()
        self.text = ""
        self._writing = False
        viewer.cursor.events.position.connect(self._on_moved)
        viewer.events.status.connect(self._on_status)

    def disconnect(self) -> None:
        """Stop following the viewer."""
        self._viewer.cursor.events.position.disconnect(self._on_moved)
        self._viewer.events.status.disconnect(self._on_status)

    def _on_moved(self, event: Any = None) -> None:
        view = self._current_view()
        before, self.text = self.text, ""
        world = np.asarray(self._viewer.cursor.position, float)[-2:]
        um = self._um_per_pixel()
        if um is not None:
            self.text = describe_place(um, world)
        if view is not None and view.layer.visible and view.is_in(self._viewer):
            tissue = plain(describe_pixel(view, world, self.blocks))
            self.text = _SEPARATOR.join(filter(None, (self.text, tissue)))
        if self.text != before:
            self._write(without(self._viewer.status, before))

    def _on_status(self, event: Any = None) -> None:
        # napari writes its status from another thread, at any time after the move
        if self._writing:
            return
        if self._viewer.status == _NOTHING_UNDER_THE_CURSOR:
            self.text = ""
        self._write(self._viewer.status)

    def _write(self, status: Any) -> None:
        self._writing = True
        try:
            self._viewer.status = with_text(status, self.text)
        finally:
            self._writing = False


def with_text(status: Any, text: str) -> Any:
    """Return a status of napari, a string or a dictionary, with a text appended once."""
    if not text:
        return status
    if isinstance(status, dict):
        shown = str(status.get("coordinates", ""))
        return {**status, "coordinates": with_text(shown, text)}
    return status if str(status).endswith(text) else f"{status}{_SEPARATOR}{text}"


def without(status: Any, text: str) -> Any:
    """Return a status of napari without an appended text."""
    if not text:
        return status
    if isinstance(status, dict):
        return {**status, "coordinates": without(str(status.get("coordinates", "")), text)}
    return str(status).removesuffix(f"{_SEPARATOR}{text}")
