"""Edits of a labels layer that napari's own undo and redo know.

napari stores a change either as a window with a mask, which is small, or as lists of pixel
indices, which for a large region of a slide take gigabytes. The first way is private; where a
version of napari lacks it, the public one is used.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._widgets.viewer.napari_private import (
    append_step,
    can_collect_steps,
    can_paint_windows,
    can_replay_edits,
    collecting,
    draw_painted,
    draw_part,
    edit_spans,
    history_stacks,
    is_drawing,
    paint_window,
    replay_edit,
    replay_undrawn,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari.layers import Labels

    from napari_plimseg._widgets.viewer.napari_private import PixelSpan
    from napari_plimseg.results import Edit


_INDEX_BYTES = 17  # of one pixel in index lists: row, column and value before
_MANY_PIXELS = 1024
_LARGE_PIXELS = 2**20


def write(layer: Labels, edit: Edit, *, refresh: bool = True) -> None:
    """Change pixels of a layer in one step of its history.

    During a mouse stroke the change belongs to the step of the stroke.

    Parameters
    ----------
    layer : Labels
        Two-dimensional, without proxy.
    edit : Edit
        Of its pixels.
    refresh : bool
        Whether to draw the change now.
    """
    if not edit.size:
        return
    values = edit.values
    ids = np.unique(values)
    with _one_step(layer):
        if _fits_windows(layer, edit, len(ids)):
            for mask_id in ids:
                where = edit.changed if len(ids) == 1 else edit.changed & (edit.new == mask_id)
                paint_window(layer, edit.window, where, int(mask_id))
            if refresh:
                draw_painted(layer)
        else:
            layer.data_setitem(edit.indices, values, refresh=refresh)


def write_pieces(layer: Labels, pieces: Iterable[Edit]) -> Iterator[PixelSpan]:
    """Change pixels piece by piece in one step of the history; yield the window of each.

    Nothing else may change the layer before the iterator has ended.
    """
    if not can_collect_steps(layer):
        for piece in pieces:
            write(layer, piece)
            yield piece.window
        return
    edits: list[Any] = []
    try:
        for piece in pieces:
            with collecting(layer, edits):
                write(layer, piece)
            yield piece.window
    finally:
        if edits:
            append_step(layer, edits)


def undo(layer: Labels) -> Iterator[PixelSpan]:
    """Undo the last change, a large one in pieces; yield each window that changed."""
    return _replay(layer, "undo")


def redo(layer: Labels) -> Iterator[PixelSpan]:
    """Redo the change undone last, a large one in pieces; yield each window that changed."""
    return _replay(layer, "redo")


def can_undo(layer: Labels) -> bool:
    """Whether there is a change to undo; True when that is unknown."""
    stacks = history_stacks(layer)
    return stacks is None or bool(stacks[0])


def can_redo(layer: Labels) -> bool:
    """Whether there is a change to redo; True when that is unknown."""
    stacks = history_stacks(layer)
    return stacks is None or bool(stacks[1])


def _fits_windows(layer: Labels, edit: Edit, values: int) -> bool:
    if not can_paint_windows(layer):
        return False
    if layer.preserve_labels:  # napari's own option, which must not change our edits
        return False
    small = edit.size < _MANY_PIXELS and values > 1
    return not small and edit.changed.size * values < edit.size * _INDEX_BYTES * 4


@contextlib.contextmanager
def _one_step(layer: Labels) -> Iterator[None]:
    if is_drawing(layer):  # a stroke collects its changes already
        yield
    else:
        with layer.block_history():
            yield


def _replay(layer: Labels, method: str) -> Iterator[PixelSpan]:
    stacks = history_stacks(layer)
    if stacks is None:
        replay_undrawn(layer, method)
        layer.refresh(extent=False)
        yield slice(0, layer.data.shape[0]), slice(0, layer.data.shape[1])
        return
    history, other = stacks if method == "undo" else (stacks[1], stacks[0])
    if not history:
        return
    item = history[-1]
    spans = [*edit_spans(item)]
    rows, columns = (
        slice(min(span[axis].start for span in spans), max(span[axis].stop for span in spans))
        for axis in (0, 1)
    )
    pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
    if pixels > _LARGE_PIXELS and can_replay_edits(layer, item):
        history.pop()
        other.append([*reversed(item)])
        for edit, span in zip(reversed(item), reversed(spans), strict=True):
            replay_edit(layer, edit, undo=method == "undo")
            draw_part(layer, *span)
            yield span
        return
    if replay_undrawn(layer, method):
        draw_part(layer, rows, columns)
    yield rows, columns
