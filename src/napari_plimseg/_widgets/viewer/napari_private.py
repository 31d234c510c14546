"""The few things that napari's public interface does not offer, each with a plain way round.

Docks get napari's objects behind a proxy that warns of every private name; `unwrapped` gives the
object itself. Where a later napari lacks one of the private names used here, things get slower,
not wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari.layers import Labels


PixelSpan = tuple[slice, slice]


def unwrapped(thing: Any) -> Any:
    """Return a napari object without the proxy that plugins get it in."""
    return getattr(thing, "__wrapped__", thing)


def edit_spans(item: Sequence[Any]) -> Iterator[PixelSpan]:
    """Yield rows and columns around each edit of an item of a labels layer's history."""
    for edit in item:
        place = getattr(edit, "slice_key", None)
        if place is None:
            place = tuple(
                slice(int(np.min(along)), int(np.max(along)) + 1) if np.size(along) else slice(0, 0)
                for along in edit[0]
            )
        yield place[0], place[1]


def erases(item: Sequence[Any]) -> bool:
    """Whether an item of a labels layer's history paints 0."""
    return any(np.any(np.asarray(edit[-1]) == 0) for edit in item)


class HistoryWatch:
    """Tells what was painted, undone and redone on a labels layer since the last look.

    napari tells of painting only; undo and redo show in its two stacks.

    Parameters
    ----------
    layer : napari.layers.Labels
        Without proxy.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._tops: list[Any] = [None, None]
        self.new_items()

    def new_items(self) -> list[Any] | None:
        """Return the history items that came since; None when that can't be known."""
        try:
            stacks = (self._layer._undo_history, self._layer._redo_history)
        except AttributeError:
            return None
        found: list[Any] = []
        for number, stack in enumerate(stacks):
            known, items = self._tops[number], []
            for item in reversed(stack):
                if item is known:
                    break
                items.append(item)
            else:
                if known is not None:  # it was taken off: nothing came on top
                    items = []
            found += items
            self._tops[number] = stack[-1] if stack else None
        return found


class HistoryKept:
    """Keeps a labels layer's undo over a time in which it can't be edited."""

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._stacks = {
            name: getattr(layer, name)
            for name in ("_undo_history", "_redo_history")
            if hasattr(layer, name)
        }

    def put_back(self) -> None:
        """Let the person undo again what was painted before."""
        for name, stack in self._stacks.items():
            setattr(self._layer, name, stack)


def draw_part(layer: Labels, rows: slice, columns: slice) -> None:
    """Draw a part of a labels layer whose array was changed, without drawing all of it."""
    try:
        flat = tuple(layer._slice_input.displayed) == (0, 1)
        if not (flat and layer.visible and layer._slicing_state.loaded) or layer.contour:
            raise AttributeError
        view = layer._slice.image.view
        if not np.shares_memory(view, layer.data):
            view[rows, columns] = layer.colormap._data_to_texture(layer.data[rows, columns])
        layer._accumulate_updated_slice((rows, columns))
        layer._partial_labels_refresh()
    except AttributeError:
        layer.refresh(extent=False)
