"""The Smart select tool: its keys, clicks and drags on the layer of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.common import BackgroundJob
from napari_plimseg._widgets.review.promptable.jobs import level_0_of
from napari_plimseg._widgets.viewer import LayerBindings
from napari_plimseg.slides import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from napari_plimseg._widgets.review.correct import EditTarget
    from napari_plimseg._widgets.review.promptable.proposals import Start

    Work = Callable[[], Start]


KEYS = {"P": "point_in", "Shift-P": "point_out", "X": "box", "M": "refine", "Z": ""}
"""Which tool a key activates while one is active; "" deactivates it."""
_HELD_PIXELS = 4  # a click may move the mouse this far; beyond that it is a drag


class PromptTool:
    """Turns the mouse into points and boxes in level-0 pixels.

    Parameters
    ----------
    on_point : callable
        Called with y, x and whether it is inside the object.
    on_box : callable
        Called with the drawn region, or None after a click without a drag.
    on_drawing : callable
        Called with the region while it is being drawn.
    on_refine : callable
        Called with y and x inside the region of the mask to refine.
    """

    def __init__(
        self,
        on_point: Callable[[float, float, bool], None],
        on_box: Callable[[Region | None], None],
        on_drawing: Callable[[Region], None],
        on_refine: Callable[[float, float], None],
    ) -> None:
        self._on_point, self._on_box, self._on_drawing = on_point, on_box, on_drawing
        self._on_refine = on_refine
        self._bindings = LayerBindings()

    def activate(
        self, tool: str, target: EditTarget, keys: Mapping[str, Callable[[], None]]
    ) -> None:
        """Activate a tool of `PROMPT_TOOLS` on a layer.

        Parameters
        ----------
        tool : str
        target : EditTarget
        keys : mapping of str to callable
            Act on the layer while the tool is active.
        """
        self.deactivate()
        bindings, layer = self._bindings, target.layer
        for key, act in keys.items():
            bindings.bind_key(layer, key, act)
        bindings.on_drag(layer, lambda _, event: self._on_mouse(tool, target, event))
        bindings.set_attribute(layer, "cursor", "cross", "standard")
        if tool == "box":  # dragging draws the box instead of moving the slide
            bindings.set_attribute(layer, "mouse_pan", False, True)

    def deactivate(self) -> None:
        """Leave the layer as it was."""
        self._bindings.release()

    def _on_mouse(self, tool: str, target: EditTarget, event: Any) -> Generator[None, None, None]:
        if event.button != 1:
            return
        began, start = np.asarray(event.pos), _place(target, event)
        inverted = "Shift" in event.modifiers
        yield
        while event.type == "mouse_move":
            box = _between(start, _place(target, event))
            if tool == "box" and box is not None:
                self._on_drawing(box)
            yield
        moved = np.abs(np.asarray(event.pos) - began).max() > _HELD_PIXELS
        if tool == "box":
            self._on_box(_between(start, _place(target, event)) if moved else None)
        elif moved:  # the drag moved the slide
            return
        elif tool == "refine":
            self._on_refine(*start)
        else:
            self._on_point(*start, (tool == "point_in") != inverted)


def _place(target: EditTarget, event: Any) -> tuple[float, float]:
    y, x = np.asarray(target.layer.world_to_data(event.position), float)[-2:]
    return level_0_of(target, float(y), float(x))


def _between(one: tuple[float, float], other: tuple[float, float]) -> Region | None:
    """Return the box between two corners; None for a line or a point, which encloses nothing."""
    (y0, y1), (x0, x1) = (sorted(pair) for pair in zip(one, other, strict=True))
    return Region(y0, x0, y1 - y0, x1 - x0) if y1 > y0 and x1 > x0 else None


class RegionPicker(QObject):
    """Runs the work of `region_search`; only the result of the last request is emitted.

    Parameters
    ----------
    parent : QObject
        Owner.

    Attributes
    ----------
    found : Signal(object)
        The `Start`.
    failed : Signal(str)
        The error message.
    finished : Signal()
        `is_running` has changed.
    """

    found = Signal(object)
    failed = Signal(str)
    finished = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._next: Work | None = None
        self._is_wanted = False
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_found)
        self._job.failed.connect(self._on_failed)
        self._job.finished.connect(self._on_finished)

    @property
    def is_running(self) -> bool:
        """Whether a region is being searched for."""
        return self._job.is_running

    def find(self, work: Work) -> None:
        """Find a region; an earlier request is dropped."""
        if self._job.is_running:
            self.stop()
            self._next = work
        else:
            self._is_wanted = True
            self._job.start(work)

    def stop(self) -> None:
        """Drop the request; the thread runs to its end and its result is ignored."""
        self._is_wanted, self._next = False, None
        self._job.stop()

    def _on_found(self, start: Start) -> None:
        if self._is_wanted:
            self.found.emit(start)

    def _on_failed(self, text: str) -> None:
        if self._is_wanted:
            self.failed.emit(text)

    def _on_finished(self, _: bool) -> None:
        work, self._next = self._next, None
        if work is not None:
            self.find(work)
        else:
            self.finished.emit()
