"""`Corrections`: what a person painted over the masks of a slide.

Corrections belong to the slide, not to one model's result: a folder
`<slide>-<fingerprint>.plimseg-corrections` next to the results holds them, and every mask of the
slide shows them. A mask may have its classes in another order, lack some, or be coarser; then ids
are matched by name and pixels by nearest neighbor. Corrections to classes that a mask lacks are
kept and not shown. The model's output is never changed: it stays in its `MaskStore`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from napari_plimseg.results.corrections.journal import CorrectionsJournal
from napari_plimseg.results.corrections.journal_file import KEPT, CorrectionFrame
from napari_plimseg.results.corrections.sparse_mask import SparseMask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo


SUFFIX = ".plimseg-corrections"


def corrections_path(folder: Path, info: MaskInfo) -> Path:
    """Return the path of the corrections of a mask's slide in a folder of results.

    They are found by content: a renamed slide keeps its corrections.
    """
    digest = info.slide_fingerprint[:12]
    path = folder / f"{Path(info.slide_name).stem[:80]}-{digest}{SUFFIX}"
    if not path.exists() and digest:
        found = sorted(folder.glob(f"*-{digest}{SUFFIX}"))
        return found[0] if found else path
    return path


def has_corrections(folder: Path, fingerprint: str) -> bool:
    """Whether a folder of results holds corrections of the slide with this fingerprint."""
    return any(folder.glob(f"*-{fingerprint[:12]}{SUFFIX}"))


class Corrections:
    """The corrections of a slide in the pixels and mask ids of one of its masks.

    Parameters
    ----------
    journal : CorrectionsJournal
        Holds and saves them.
    info : MaskInfo
        The mask.
    """

    def __init__(self, journal: CorrectionsJournal, info: MaskInfo) -> None:
        self.journal = journal
        self.info = info
        self._frame = CorrectionFrame.of(info)

    @classmethod
    def open(cls, folder: Path, info: MaskInfo) -> Self:
        """Open the corrections in a folder of results; there may be none yet.

        Raises
        ------
        CorrectionsError
            When the file can't be read or comes from a newer version.
        """
        path = corrections_path(folder, info)
        return cls(CorrectionsJournal.of(path, CorrectionFrame.of(info)), info)

    @property
    def is_resampled(self) -> bool:
        """Whether they were painted at another resolution than this mask's."""
        return bool(self.journal.mask) and not self.journal.frame.same_pixels(self._frame)

    @property
    def is_saved(self) -> bool:
        """Whether all of them are on the disk."""
        return self.journal.is_saved

    @property
    def pixels(self) -> int:
        """Number of pixels of this mask that are corrected and shown."""
        shown = self.journal.mask.counts()[self._to_mask() > 0].sum()
        scale = self.journal.frame.downsample / self.info.downsample
        return round(float(shown) * scale**2)

    @property
    def not_shown(self) -> dict[str, int]:
        """Pixels corrected to classes that this mask does not have, by class name."""
        counts = self.journal.mask.counts()
        table = self._to_mask()
        return {
            name: int(counts[i])
            for i, name in enumerate(self.journal.names, start=1)
            if counts[i] and not table[i]
        }

    def note(self) -> str:
        """Return sentences about what is unusual about them; empty when nothing is."""
        notes = [self.journal.problem] if self.journal.problem else []
        if self.is_resampled:
            notes.append("Your corrections were painted at another resolution and are resampled.")
        for name, count in self.not_shown.items():
            notes.append(
                f"Corrections to '{name}' ({count:,} pixels) are kept but not shown: "
                "this mask has no such class."
            )
        return " ".join(notes)

    def read(self, rows: slice, columns: slice, step: int = 1) -> NDArray[np.uint8]:
        """Return corrected mask ids, 0 where nothing was corrected.

        Parameters
        ----------
        rows, columns : slice
            Inside the mask as it is shown, that is in every `step`-th of its pixels.
        step : int
            1 for the mask itself.

        Returns
        -------
        ndarray of uint8, shape (h, w)
            A copy.
        """
        journal = self.journal
        table = self._to_mask()
        same = journal.frame.same_pixels(self._frame)
        if same and step == 1:
            return np.take(table, journal.mask.read(rows, columns))
        places = (
            self._places(np.arange(part.start, part.stop), step, side)
            for part, side in zip((rows, columns), journal.frame.shape, strict=True)
        )
        return np.take(table, journal.mask.pick(*places))

    def write(
        self, y: int, x: int, block: NDArray[np.uint8], where: NDArray[np.bool_] | None = None
    ) -> None:
        """Correct a block of the mask at its full resolution; `flush` saves it.

        Parameters
        ----------
        y, x : int
            Corner in mask pixels.
        block : ndarray of uint8, shape (h, w)
            Mask ids; 0, and ids without a class, remove corrections. Pixels outside the mask
            are ignored.
        where : ndarray of bool, shape (h, w), optional
            The pixels to correct; all when None.
        """
        if not self.journal.frame.same_pixels(self._frame):
            self.journal.reframe(self._frame, self._resampled)
        block = block[: self.info.shape[0] - y, : self.info.shape[1] - x]
        where = None if where is None else where[: block.shape[0], : block.shape[1]]
        names = [each[0] for each in _stored_names(self.info)]
        table = np.zeros(256, np.uint8)
        table[1 : len(names) + 1] = self.journal.class_ids(names)
        changes = np.take(table, block)
        if where is not None:
            np.putmask(changes, ~where, KEPT)
        self.journal.stage(y, x, changes)

    def record(
        self,
        y: int,
        x: int,
        shown: NDArray[np.uint8],
        model: NDArray[np.uint8],
        step: int = 1,
    ) -> bool:
        """Record the difference between what is shown and what was shown before.

        Pixels that show the model's output again, or no class, are no longer corrections.

        Parameters
        ----------
        y, x : int
            Corner in shown pixels: every `step`-th of the mask.
        shown : ndarray of uint8, shape (h, w)
            Mask ids as painted.
        model : ndarray of uint8, shape (h, w)
            The model's output at the same pixels.
        step : int
            1 for the mask itself; else each pixel represents `step` x `step` of the mask.

        Returns
        -------
        bool
            Whether any correction was added or removed.
        """
        height, width = shown.shape
        known = self.read(slice(y, y + height), slice(x, x + width), step)
        changed = shown != np.where(known > 0, known, model)
        if not changed.any():
            return False
        wanted = np.where((shown == model) | (shown > len(self.info.classes)), 0, shown)
        changed &= (wanted > 0) | (known > 0)  # only a correction can be removed
        if not changed.any():
            return False
        rows, columns = _extent(changed)
        wanted, changed = wanted[rows, columns], changed[rows, columns]
        y, x = (y + rows.start) * step, (x + columns.start) * step
        if step > 1:
            wanted, changed = (a.repeat(step, 0).repeat(step, 1) for a in (wanted, changed))
        self.write(y, x, wanted, changed)
        return True

    def apply(self, mask: NDArray[np.uint8], step: int = 1) -> None:
        """Apply the corrections to every `step`-th pixel of the mask, in place."""
        for rows, columns in self.windows(step):
            block = self.read(rows, columns, step)
            np.copyto(mask[rows, columns], block, where=block > 0)

    def windows(self, step: int = 1) -> Iterator[tuple[slice, slice]]:
        """Yield rows and columns of the mask as it is shown that hold all corrections."""
        scale = self.journal.frame.downsample / (self.info.downsample * step)
        sides = [-(-side // step) for side in self.info.shape]
        for window in self.journal.mask.windows():
            spans = (
                (window.y, window.y + window.height, sides[0]),
                (window.x, window.x + window.width, sides[1]),
            )
            rows, columns = (
                slice(max(0, int(start * scale) - 1), min(side, int(stop * scale) + 2))
                for start, stop, side in spans
            )
            yield rows, columns

    def flush(self) -> None:
        """Save everything; CorrectionsError when that fails, and then nothing is lost."""
        self.journal.flush()

    def flush_and_release(self) -> None:
        """Save everything and let other programs write."""
        self.journal.flush_and_release()

    def discard(self) -> Path | None:
        """Discard all corrections of the slide; return where the folder went, for `restore`."""
        return self.journal.discard()

    def list_discarded(self) -> list[Path]:
        """Return the folders of discarded corrections of the slide, newest first."""
        return self.journal.list_discarded()

    def restore(self, folder: Path) -> None:
        """Restore discarded corrections; the current ones are discarded in their place."""
        self.journal.restore(folder)

    def _to_mask(self) -> NDArray[np.uint8]:
        """Return the mask id (256,) of each of the journal's ids; 0 where there is no class."""
        ids = {
            name.casefold(): i
            for i, names in enumerate(_stored_names(self.info), start=1)
            for name in names
        }
        table = np.zeros(256, np.uint8)
        for i, name in enumerate(self.journal.names, start=1):
            table[i] = ids.get(name.casefold(), 0)
        return table

    def _places(self, shown: NDArray[np.intp], step: int, side: int) -> NDArray[np.intp]:
        """Return the journal's pixels below the centers of the mask's pixels, along one axis."""
        if self.journal.frame.same_pixels(self._frame):
            return shown * step
        scale = self.info.downsample / self.journal.frame.downsample
        places = ((shown * step + 0.5) * scale).astype(np.intp)
        return np.minimum(places, side - 1)

    def _resampled(self, old: SparseMask) -> SparseMask:
        """Return the journal's ids in the pixels of this mask."""
        new = SparseMask(self.info.shape)
        for rows, columns in self.windows():
            places = (
                self._places(np.arange(part.start, part.stop), 1, side)
                for part, side in zip((rows, columns), old.shape, strict=True)
            )
            block = old.pick(*places)
            new.write(rows.start, columns.start, block, block > 0)
        return new


def corrected(
    mask: NDArray[np.uint8], info: MaskInfo, folder: Path
) -> tuple[NDArray[np.uint8], Corrections]:
    """Return a mask with the corrections in a folder of results applied, and the corrections.

    Parameters
    ----------
    mask : ndarray of uint8, shape (h, w)
        The model's output; changed in place.
    info : MaskInfo
        What the mask is a mask of.
    folder : Path
        The folder that holds the mask's store.

    Raises
    ------
    CorrectionsError
        When corrections exist and can't be read.
    """
    corrections = Corrections.open(folder, info)
    corrections.apply(mask)
    return mask, corrections


def _stored_names(info: MaskInfo) -> Sequence[tuple[str, ...]]:
    """Return the names of each class in the file, the one to write first."""
    return info.stored_names or [(name,) for name in info.classes.names]


def _extent(where: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns of the smallest window around what is true."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
