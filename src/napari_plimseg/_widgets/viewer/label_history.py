"""Writing into a Labels layer so that napari's own undo knows it: all that depends on its inside.

napari keeps a change either as a window with a mask, which is small, or as lists of indices, which
for a region of a slide are gigabytes. The first way has no public door; where a version of napari
lacks it, the public one is taken.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._widgets.viewer.napari_private import draw_part, edit_spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari.layers import Labels

    from napari_plimseg._widgets.viewer.napari_private import PixelSpan
    from napari_plimseg.results.editing.operations import Edit


_INDEX_BYTES = 17  # of one pixel in lists of indices: row, column and value before
_MANY_PIXELS = 1024
_LARGE_PIXELS = 2**20


def write(layer: Labels, edit: Edit, *, refresh: bool = True) -> None:
    """Change pixels of a layer in one step of its history.

    Inside a stroke of the mouse the change belongs to the stroke's step.

    Parameters
    ----------
    layer : Labels
        Of two dimensions, without proxy.
    edit : Edit
        Of its pixels.
    refresh : bool
        Whether to draw the change at once.
    """
    if not edit.size:
        return
    values = edit.values
    ids = np.unique(values)
    with _one_step(layer):
        if _fits_windows(layer, edit, len(ids)):
            for mask_id in ids:
                where = edit.changed if len(ids) == 1 else edit.changed & (edit.new == mask_id)
                layer._paint_region_with_mask(
                    edit.window, where, int(mask_id), [0, 1], refresh=False
                )
            if refresh:
                layer._partial_labels_refresh()
        else:
            layer.data_setitem(edit.indices, values, refresh=refresh)


def write_pieces(layer: Labels, pieces: Iterable[Edit]) -> Iterator[PixelSpan]:
    """Change pixels piece by piece in one step of the history; yield the window of each.

    Nothing else may change the layer before the iterator has ended.
    """
    if not hasattr(layer, "_staged_history") or not hasattr(layer, "_append_to_undo_history"):
        for piece in pieces:
            write(layer, piece)
            yield piece.window
        return
    gathered: list[Any] = []
    try:
        for piece in pieces:
            with _gathering(layer, gathered):
                write(layer, piece)
            yield piece.window
    finally:
        if gathered:
            layer._append_to_undo_history(gathered)


def is_drawing(layer: Labels) -> bool:
    """Whether a stroke of the mouse gathers its changes for one step of the history."""
    return bool(getattr(layer, "_block_history", False))


def undo(layer: Labels) -> Iterator[PixelSpan]:
    """Take the last change back, a large one in pieces; yield each window that changed."""
    return _replay(layer, "_undo_history", "_redo_history", "undo")


def redo(layer: Labels) -> Iterator[PixelSpan]:
    """Make the change that was taken back last again, a large one in pieces."""
    return _replay(layer, "_redo_history", "_undo_history", "redo")


def can_undo(layer: Labels) -> bool:
    """Whether there is a change to take back."""
    return bool(getattr(layer, "_undo_history", True))


def can_redo(layer: Labels) -> bool:
    """Whether there is a change to make again."""
    return bool(getattr(layer, "_redo_history", True))


def _fits_windows(layer: Labels, edit: Edit, values: int) -> bool:
    if not hasattr(layer, "_paint_region_with_mask") or not hasattr(
        layer, "_partial_labels_refresh"
    ):
        return False
    if layer.preserve_labels:  # a switch of napari's own that must not cut our edits
        return False
    small = edit.size < _MANY_PIXELS and values > 1
    return not small and edit.changed.size * values < edit.size * _INDEX_BYTES * 4


@contextlib.contextmanager
def _one_step(layer: Labels) -> Iterator[None]:
    if is_drawing(layer):  # a stroke gathers its changes already
        yield
    else:
        with layer.block_history():
            yield


@contextlib.contextmanager
def _gathering(layer: Labels, gathered: list[Any]) -> Iterator[None]:
    kept, blocked = layer._staged_history, layer._block_history
    layer._staged_history, layer._block_history = gathered, True
    try:
        yield
    finally:
        layer._staged_history, layer._block_history = kept, blocked


def _replay(layer: Labels, name: str, other: str, method: str) -> Iterator[PixelSpan]:
    history = getattr(layer, name, None)
    replay = getattr(type(layer), method)
    shape = layer.data.shape
    if history is None or not hasattr(layer, "_block_refresh"):
        replay(layer)
        yield slice(0, shape[0]), slice(0, shape[1])
        return
    if not history:
        return
    item = history[-1]
    spans = [*edit_spans(item)]
    rows, columns = (
        slice(min(span[axis].start for span in spans), max(span[axis].stop for span in spans))
        for axis in (0, 1)
    )
    pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
    if pixels > _LARGE_PIXELS and hasattr(layer, "_replay_masked_atom") and _is_masked(item):
        history.pop()
        getattr(layer, other).append([*reversed(item)])
        for edit, span in zip(reversed(item), reversed(spans), strict=True):
            layer._replay_masked_atom(edit, method == "undo")
            draw_part(layer, *span)
            yield span
        return
    # napari would upload the whole mask
    with layer._block_refresh():
        replay(layer)
    draw_part(layer, rows, columns)
    yield rows, columns


def _is_masked(item: Sequence[Any]) -> bool:
    return all(hasattr(edit, "slice_key") for edit in item)
