"""What a mask's layer shows: the model's output and the corrections over it; no Qt, no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.results.corrections.corrections import Corrections


class MaskPixels:
    """The array of a mask's layer, and the model's output below what a person painted.

    Both take memory: two bytes a shown pixel, so that what was painted is told from what a run
    fills in without reading the disk.

    Parameters
    ----------
    mask : ndarray of uint8, shape (H, W)
        The model's output at full resolution.
    step : int
        Every how manyth pixel is shown.
    corrections : Corrections or None
        None where they can't be kept.

    Attributes
    ----------
    model, shown : ndarray of uint8, shape (h, w)
        Mask ids; `shown` is the layer's own array.
    shows_corrections : bool
        False while the model's output is shown alone.
    """

    def __init__(self, mask: NDArray[np.uint8], step: int, corrections: Corrections | None) -> None:
        self.step = step
        self.corrections = corrections
        self.shows_corrections = True
        self.model = np.ascontiguousarray(mask[::step, ::step])
        self.shown = self.model.copy()
        if corrections is not None:
            corrections.apply(self.shown, step)

    def is_news(self, rows: slice, columns: slice, block: NDArray[np.uint8]) -> bool:
        """Whether an output of the model for a part differs from the last one."""
        return bool(np.any((block != NOT_COMPUTED) & (block != self.model[rows, columns])))

    def fill(self, rows: slice, columns: slice, block: NDArray[np.uint8]) -> None:
        """Take over a new output of the model for a part; corrections stay over it."""
        part = self.model[rows, columns]
        np.copyto(part, block, where=block != NOT_COMPUTED)
        if self.corrections is None:  # painting can't be told from older output: it stays
            shown = self.shown[rows, columns]
            empty = (shown == NOT_COMPUTED) | (shown == UNREADABLE)
            np.copyto(shown, part, where=empty)
        else:
            self.redraw(rows, columns)

    def redraw(self, rows: slice, columns: slice) -> None:
        """Show again what is known of a part; what was painted and not recorded goes."""
        self.shown[rows, columns] = self.merged(rows, columns)

    def redraw_all(self) -> None:
        """Show again what is known everywhere."""
        np.copyto(self.shown, self.model)
        if self.corrections is not None and self.shows_corrections:
            self.corrections.apply(self.shown, self.step)

    def merged(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Return the model's output of a part with the corrections over it, where they show."""
        block = self.model[rows, columns].copy()
        if self.corrections is not None and self.shows_corrections:
            painted = self.corrections.read(rows, columns, self.step)
            np.copyto(block, painted, where=painted > 0)
        return block

    def record(self, rows: slice, columns: slice) -> tuple[bool, bool]:
        """Make corrections of what was painted in a part.

        Returns
        -------
        recorded : bool
            Whether a correction was made or taken back.
        restored : bool
            Whether pixels were erased, and so show the model's output again.
        """
        if self.corrections is None or not self.shows_corrections:
            return False, False
        shown, model = self.shown[rows, columns], self.model[rows, columns]
        recorded = self.corrections.record(rows.start, columns.start, shown, model, self.step)
        no_class = (shown == 0) | (shown > len(self.corrections.info.classes))
        erased = no_class & (shown != model)
        if not erased.any():
            return recorded, False
        np.copyto(shown, model, where=erased)
        return recorded, True
