"""Everything that depends on napari's private interface, each with a public fallback.

napari has no public way to change a window of a labels layer within its undo history, to redraw
only a part of a layer, or to read that history. Where a later napari lacks one of the private
names used here, the plugin gets slower, not wrong. No other module uses private names of napari.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.layers import Labels
    from napari.viewer import Viewer
    from numpy.typing import NDArray
    from qtpy.QtWidgets import QWidget


PixelSpan = tuple[slice, slice]
"""Rows and columns of a layer."""


def unwrapped(thing: Any) -> Any:
    """Return a napari object without the proxy that plugins receive.

    The proxy warns about every private name and makes `is` comparisons fail.
    """
    return getattr(thing, "__wrapped__", thing)


def key_action(thing: Any, key: str, *, own: bool = False) -> Callable[[Any], Any] | None:
    """Return what a key does on a layer or viewer, None for nothing.

    Parameters
    ----------
    thing : napari.layers.Layer or napari.Viewer
        To be passed to the result.
    key : str
        For example "Control-Z".
    own : bool
        Whether only what was bound on this very object counts, not on all of its kind.
    """
    from napari.utils.key_bindings import coerce_keybinding

    binding = coerce_keybinding(key)
    maps = [thing.keymap]
    if not own:
        maps += [kind.class_keymap for kind in type(thing).__mro__ if hasattr(kind, "class_keymap")]
    found = next((keys[binding] for keys in maps if keys.get(binding) is not None), None)
    return None if found is Ellipsis else found


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Return the canvas's screen pixels (height, width); public from napari 0.9 on."""
    canvas = getattr(viewer, "canvas", None)
    height, width = viewer._canvas_size if canvas is None else canvas.size
    return int(height), int(width)


def canvas_widget(viewer: Viewer) -> QWidget | None:
    """Return the widget that shows the layers, to place others on it; None where it is unknown."""
    try:
        found = viewer.window._qt_viewer.canvas.native
    except AttributeError:
        return None
    return found if hasattr(found, "installEventFilter") else None


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


def history_stacks(layer: Labels) -> tuple[list[Any], list[Any]] | None:
    """Return a layer's undo and redo stacks, last item on top; None where they can't be read."""
    try:
        return layer._undo_history, layer._redo_history
    except AttributeError:
        return None


class HistoryWatch:
    """Finds what was painted, undone and redone on a labels layer since the last look.

    napari emits an event for painting only; undo and redo are visible in its two stacks.

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
        """Return the history items added since the last call; None when that is unknown."""
        stacks = history_stacks(self._layer)
        if stacks is None:
            return None
        found: list[Any] = []
        for number, stack in enumerate(stacks):
            known, items = self._tops[number], []
            for item in reversed(stack):
                if item is known:
                    break
                items.append(item)
            else:
                if known is not None:  # the known item was removed: nothing was added on top
                    items = []
            found += items
            self._tops[number] = stack[-1] if stack else None
        return found


class SavedHistory:
    """Keeps a labels layer's undo history while it can't be edited.

    napari empties the history of a layer that becomes read-only.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._stacks = {
            name: getattr(layer, name)
            for name in ("_undo_history", "_redo_history")
            if hasattr(layer, name)
        }

    @property
    def stacks(self) -> tuple[list[Any], ...]:
        """What can be undone and redone, last step on top."""
        return tuple(self._stacks.values())

    def restore(self) -> None:
        """Make it possible again to undo what was painted before."""
        for name, stack in self._stacks.items():
            setattr(self._layer, name, stack)


class NumberedHistory:
    """Keeps a labels layer's undo history while its classes get other ids, and back.

    Two classes that became one can't be told apart in the history any more, so its steps are kept
    from before: they are right again when the classes are as they were and nothing was painted
    meanwhile.
    """

    def __init__(self) -> None:
        self._former: list[tuple[object, list[list[Any]], list[list[Any]]]] = []

    def renumber(
        self,
        stacks: Sequence[list[Any]],
        before: object,
        after: object,
        table: NDArray[np.uint8] | None,
    ) -> bool:
        """Replace the ids of all steps; return whether steps were lost.

        Parameters
        ----------
        stacks : sequence of list
            The steps of the layer, see `history_stacks`.
        before, after : object
            What the classes were, and what they are now.
        table : ndarray of uint8, shape (256,), or None
            The new id of each id; None where one becomes several.
        """
        now = [[*stack] for stack in stacks]
        new = self._taken_back(after, now)
        if new is None:
            new = [_renumbered_steps(steps, table) for steps in now]
            self._former.append((before, now, new))
            del self._former[:-_MOST_FORMER]
        for stack, steps in zip(stacks, new, strict=True):
            stack.clear()
            stack.extend(steps)
        return sum(len(steps) for steps in now) > sum(len(steps) for steps in new)

    def _taken_back(self, after: object, now: list[list[Any]]) -> list[list[Any]] | None:
        """Return the steps from before the last change, if this one takes it back."""
        if not self._former:
            return None
        state, old, seen = self._former[-1]
        if state != after or not _same_steps(seen, now):
            return None
        self._former.pop()
        return old


_MOST_FORMER = 100


def _same_steps(first: list[list[Any]], second: list[list[Any]]) -> bool:
    return [[id(step) for step in steps] for steps in first] == [
        [id(step) for step in steps] for steps in second
    ]


def _renumbered_steps(steps: list[Any], table: NDArray[np.uint8] | None) -> list[Any]:
    """Return steps with other ids; none where that is impossible or their format is unknown."""
    if table is not None:
        with contextlib.suppress(AttributeError, IndexError, TypeError, ValueError):
            return [[_renumbered(edit, table) for edit in step] for step in steps]
    return []


def _renumbered(edit: Any, table: NDArray[np.uint8]) -> Any:
    def new(ids: Any) -> Any:
        replaced = np.take(table, ids)
        return replaced if np.ndim(ids) else int(replaced)

    if hasattr(edit, "slice_key"):
        return edit._replace(old_values=new(edit.old_values), new_value=new(edit.new_value))
    indices, before, after = edit
    return indices, new(before), new(after)


def is_drawing(layer: Labels) -> bool:
    """Whether a mouse stroke is collecting its changes for one step of the history."""
    return bool(getattr(layer, "_block_history", False))


def can_paint_windows(layer: Labels) -> bool:
    """Whether `paint_window` works: history items are windows with a mask, not index lists."""
    return hasattr(layer, "_paint_region_with_mask") and hasattr(layer, "_partial_labels_refresh")


def paint_window(layer: Labels, window: PixelSpan, where: NDArray[np.bool_], mask_id: int) -> None:
    """Set pixels of a window, without drawing them.

    Parameters
    ----------
    layer : napari.layers.Labels
    window : tuple of slice
        Rows and columns.
    where : ndarray of bool, shape (h, w)
        Which pixels of the window change.
    mask_id : int
        Their new value.
    """
    layer._paint_region_with_mask(window, where, mask_id, [0, 1], refresh=False)


def draw_painted(layer: Labels) -> None:
    """Draw what `paint_window` changed."""
    layer._partial_labels_refresh()


def can_collect_steps(layer: Labels) -> bool:
    """Whether `collecting` and `append_step` work."""
    return hasattr(layer, "_staged_history") and hasattr(layer, "_append_to_undo_history")


@contextlib.contextmanager
def collecting(layer: Labels, edits: list[Any]) -> Iterator[None]:
    """Add the changes made inside to `edits` instead of to the undo history."""
    staged, blocked = layer._staged_history, layer._block_history
    layer._staged_history, layer._block_history = edits, True
    try:
        yield
    finally:
        layer._staged_history, layer._block_history = staged, blocked


def append_step(layer: Labels, edits: list[Any]) -> None:
    """Add collected changes to the undo history as one step."""
    layer._append_to_undo_history(edits)


def can_replay_edits(layer: Labels, item: Sequence[Any]) -> bool:
    """Whether `replay_edit` works for every edit of a history item."""
    return hasattr(layer, "_replay_masked_atom") and all(
        hasattr(edit, "slice_key") for edit in item
    )


def replay_edit(layer: Labels, edit: Any, *, undo: bool) -> None:
    """Undo or redo one edit of a history item, without drawing it."""
    layer._replay_masked_atom(edit, undo)


def replay_undrawn(layer: Labels, method: str) -> bool:
    """Call napari's own "undo" or "redo" without drawing; return False where it drew everything.

    Drawing uploads the whole mask, which takes seconds on a large one.
    """
    replay = getattr(type(layer), method)
    if not hasattr(layer, "_block_refresh"):
        replay(layer)
        return False
    with layer._block_refresh():
        replay(layer)
    return True


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
