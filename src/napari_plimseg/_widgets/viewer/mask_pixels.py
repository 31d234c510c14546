"""What a mask layer shows: the model's output and the corrections over it. No Qt, no napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.results import Corrections


class MaskPixels:
    """The array of a mask layer, and the model's output below the corrections.

    Both are kept in memory, two bytes per shown pixel, so that painting can be distinguished from
    the output of a run without reading the disk.

    Parameters
    ----------
    mask : ndarray of uint8, shape (H, W)
        The model's output at full resolution.
    step : int
        Every `step`-th pixel is shown.
    corrections : Corrections or None
        None if they can't be saved.
    table : ndarray of uint8, shape (256,), optional
        The id shown for each id of the model, see `ClassEdits`; None for the same.

    Attributes
    ----------
    model, shown : ndarray of uint8, shape (h, w)
        Mask ids; `shown` is the layer's own array.
    shows_corrections : bool
        False while only the model's output is shown.
    """

    def __init__(
        self,
        mask: NDArray[np.uint8],
        step: int,
        corrections: Corrections | None,
        table: NDArray[np.uint8] | None = None,
    ) -> None:
        self.step = step
        self.corrections = corrections
        self.shows_corrections = True
        self._output = np.ascontiguousarray(mask[::step, ::step])  # in ids of the model
        self.use_table(table)
        self.shown = self.model.copy()
        if corrections is not None:
            corrections.apply(self.shown, step)

    def use_table(self, table: NDArray[np.uint8] | None) -> None:
        """Give each id of the model another id; what is shown follows with `redraw_all`."""
        self._table = table
        # one array serves as both as long as no id changes
        self.model = self._output if table is None else np.take(table, self._output)

    def is_news(self, rows: slice, columns: slice, block: NDArray[np.uint8]) -> bool:
        """Whether new output of the model for a part differs from the current one."""
        return bool(np.any((block != NOT_COMPUTED) & (block != self._output[rows, columns])))

    def fill(self, rows: slice, columns: slice, block: NDArray[np.uint8]) -> None:
        """Replace the model's output of a part; corrections stay on top."""
        np.copyto(self._output[rows, columns], block, where=block != NOT_COMPUTED)
        part = self._output[rows, columns]
        if self._table is not None:
            self.model[rows, columns] = part = np.take(self._table, part)
        if self.corrections is None:  # painting can't be distinguished from older output: both stay
            shown = self.shown[rows, columns]
            empty = (shown == NOT_COMPUTED) | (shown == UNREADABLE)
            np.copyto(shown, part, where=empty)
        else:
            self.redraw(rows, columns)

    def redraw(self, rows: slice, columns: slice) -> None:
        """Show model output and corrections of a part; unrecorded painting is lost."""
        self.shown[rows, columns] = self.merged(rows, columns)

    def redraw_all(self) -> None:
        """Show model output and corrections everywhere; unrecorded painting is lost."""
        np.copyto(self.shown, self.model)
        if self.corrections is not None and self.shows_corrections:
            self.corrections.apply(self.shown, self.step)

    def merged(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Return the model's output of a part, with the corrections over it if they are shown."""
        block = self.model[rows, columns].copy()
        if self.corrections is not None and self.shows_corrections:
            painted = self.corrections.read(rows, columns, self.step)
            np.copyto(block, painted, where=painted > 0)
        return block

    def record(self, rows: slice, columns: slice) -> tuple[bool, bool]:
        """Record what was painted in a part as corrections.

        Returns
        -------
        recorded : bool
            Whether a correction was added or removed.
        restored : bool
            Whether pixels were erased, so that the model's output is shown again.
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
