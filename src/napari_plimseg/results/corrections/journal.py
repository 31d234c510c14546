"""`CorrectionsJournal`: the corrections of one slide, in memory and in a file that survives a kill.

There is one journal per slide and process: two masks of a slide, made by two models, share it.
Staged changes are in memory at once; `flush`, which any thread may call, writes them to disk. The
file's format, and why it only grows, is described in `journal_file`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import numpy as np

from napari_plimseg.errors import CorrectionsError
from napari_plimseg.files import atomic_write, sweep, sync_folder
from napari_plimseg.results.corrections.journal_file import (
    KEPT,
    MAX_CLASSES,
    CorrectionContent,
    CorrectionFrame,
    Description,
    description_record,
    pixels_record,
    read_content,
)
from napari_plimseg.results.corrections.sparse_mask import SparseMask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


FILE_NAME = "journal.bin"
_DISCARDED = "discarded"
COMPACT_BYTES = 64 << 20
"""A larger file is compacted when it is released: many strokes over one place take little space
then."""
_open_journals: weakref.WeakValueDictionary[Path, CorrectionsJournal] = (
    weakref.WeakValueDictionary()
)
_opening = threading.Lock()

_Change = tuple[int, int, "NDArray[np.uint8]"]


class CorrectionsJournal:
    """Corrections in the frame and class order of their file.

    Parameters
    ----------
    folder : Path
        `<slide>.plimseg-corrections`; it is created when there is something to save.
    frame : CorrectionFrame
        The frame of new corrections.

    Attributes
    ----------
    frame : CorrectionFrame
        The frame of the file.
    names : tuple of str
        Class names in the order of the file's ids, which start at 1; it only grows.
    mask : SparseMask
        Ids of the file, 0 where nothing was corrected.
    generation : int
        Changes when `mask` is replaced as a whole.
    problem : str
        What is wrong with the file, as a sentence; empty when nothing is.

    Raises
    ------
    CorrectionsError
        When the file can't be read or comes from a newer version.
    """

    def __init__(self, folder: Path, frame: CorrectionFrame) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.generation = 0
        self.problem = ""
        self._lock = threading.RLock()
        self._disk = threading.RLock()
        self._file_lock = filelock.FileLock(folder / ".lock", thread_local=False)
        self._pending: list[_Change | Description] = []
        self._is_writing = self._rewrites = self._set_aside = False
        self._created = _now().isoformat(timespec="seconds")
        self._resume_from(self._load(frame))

    def _resume_from(self, content: CorrectionContent) -> None:
        """Continue from what was read."""
        self.frame, self.names, self.mask = content.frame, content.names, content.mask
        self._end, self._records = content.end, content.records
        self._sequence = content.sequence
        self._seen = self._signature()

    @classmethod
    def of(cls, folder: Path, frame: CorrectionFrame) -> CorrectionsJournal:
        """Return the journal of a folder, the same object as long as it is in use."""
        key = Path(os.path.realpath(folder))
        with _opening:
            journal = _open_journals.get(key)
            if journal is None:
                journal = _open_journals[key] = cls(folder, frame)
            return journal

    @property
    def is_saved(self) -> bool:
        """Whether everything staged is on the disk."""
        with self._lock:
            return not (self._pending or self._rewrites or self._is_writing)

    def class_ids(self, names: Sequence[str]) -> list[int]:
        """Return the file's ids of class names; a new name gets a new id."""
        with self._lock:
            known = {name.casefold(): i for i, name in enumerate(self.names, start=1)}
            added = [name for name in names if name.casefold() not in known]
            if added:
                if len(self.names) + len(added) > MAX_CLASSES:
                    raise CorrectionsError(
                        f"more than {MAX_CLASSES} class names were used on this slide",
                        path=self.folder,
                        remedy="Discard the corrections to start from scratch.",
                    )
                self.names = (*self.names, *added)
                self._pending.append(self._description())
                known = {name.casefold(): i for i, name in enumerate(self.names, start=1)}
            return [known[name.casefold()] for name in names]

    def stage(self, y: int, x: int, changes: NDArray[np.uint8]) -> None:
        """Stage changed pixels (h, w) in ids of the file; 0 erases, `KEPT` changes nothing."""
        with self._lock:
            self.mask.write(y, x, changes, changes != KEPT)
            self._pending.append((y, x, changes))

    def reframe(self, frame: CorrectionFrame, resample: Callable[[SparseMask], SparseMask]) -> None:
        """Continue at another resolution; the old file is kept as `journal.earlier-<time>`."""
        with self._lock:
            self.mask = resample(self.mask)
            self.frame = frame
            self.generation += 1
            self._pending.clear()  # the file is rewritten from `mask`
            self._rewrites = self._set_aside = True

    def flush(self) -> None:
        """Write all staged changes durably to disk.

        Raises
        ------
        CorrectionsError
            When the disk is full or can't be written, or another program has the file open;
            everything stays in memory, and the next call tries again.
        """
        with self._disk:
            with self._lock:
                batch, self._pending = self._pending, []
                rewrites = self._rewrites
                self._rewrites = False
                if not batch and not rewrites:
                    return
                self._is_writing = True
            try:
                batch = self._acquire(batch)
                whole = not self.path.exists() or self.path.stat().st_size != self._end
                if rewrites or whole or self._set_aside or self._end > COMPACT_BYTES:
                    self._rewrite()
                else:
                    self._append(batch)
            except (OSError, CorrectionsError) as error:
                with self._lock:
                    if not self._rewrites:
                        self._pending = batch + self._pending
                    self._rewrites |= rewrites
                if isinstance(error, CorrectionsError):
                    raise
                raise _not_saved(error, self.folder) from error
            finally:
                self._is_writing = False

    def flush_and_release(self) -> None:
        """Flush, compact the file and let other programs write; staging again later is allowed."""
        with self._disk:
            try:
                self.flush()
                # many strokes over the same place: their result is much smaller
                if self._file_lock.is_locked and self._records > 4 * len(self.mask.windows()) + 64:
                    with contextlib.suppress(OSError):
                        self._rewrite()
            finally:
                self._file_lock.release()

    def discard(self) -> Path | None:
        """Discard all corrections; return where the folder went, None when there was none.

        Raises
        ------
        CorrectionsError
            When another program has the file or the folder can't be renamed.
        """
        with self._disk, self._lock:
            target = None
            with contextlib.suppress(CorrectionsError):
                self.flush()  # the last strokes can be restored too
            if self.folder.exists():
                self._acquire([])
                self._file_lock.release()
                target = _free_name(self.folder, _DISCARDED)
                try:
                    self.folder.rename(target)
                except OSError as error:
                    raise _not_saved(error, self.folder) from error
            self.mask = SparseMask(self.frame.shape)
            self._pending.clear()
            self._rewrites = self._set_aside = False
            self._end = self._records = 0
            self._seen = None
            self.problem = ""
            self.generation += 1
            return target

    def list_discarded(self) -> list[Path]:
        """Return the folders that `discard` left next to this one, newest first."""
        if not self.folder.parent.is_dir():
            return []
        start = f"{self.folder.name}.{_DISCARDED}-"
        found = [path for path in self.folder.parent.iterdir() if path.name.startswith(start)]
        return sorted((path for path in found if (path / FILE_NAME).is_file()), reverse=True)

    def restore(self, folder: Path) -> None:
        """Restore discarded corrections; the current ones are discarded in their place.

        Raises
        ------
        CorrectionsError
            When another program has the file, or the folder can't be renamed or read.
        """
        with self._disk, self._lock:
            self.discard()
            try:
                folder.rename(self.folder)
            except OSError as error:
                raise _not_saved(error, folder) from error
            self._resume_from(self._load(self.frame))

    def _description(self) -> Description:
        return Description(self.frame, self.names, self._created)

    def _signature(self) -> tuple[int, int] | None:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns

    def _load(self, frame: CorrectionFrame) -> CorrectionContent:
        """Read the file; `problem` says what is wrong with it."""
        content = read_content(self.path, frame)
        self._set_aside |= content.is_useless
        self.problem = content.problem or self.problem
        self._created = content.created or self._created
        return content

    def _acquire(self, batch: list[_Change | Description]) -> list[_Change | Description]:
        """Take the lock for writing; return what is to be written."""
        if self._file_lock.is_locked:
            return batch
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            sync_folder(self.folder.parent)
        try:
            self._file_lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise CorrectionsError(
                "another program is correcting this slide",
                path=self.folder,
                remedy="Close the slide there: what you paint here stays and is saved then.",
            ) from error
        sweep(self.folder, exclusive=True)
        if self._signature() != self._seen:
            batch = self._take_over(batch)
        elif self._seen and not self._set_aside and self.path.stat().st_size > self._end:
            with self.path.open("rb+") as file:
                file.truncate(self._end)  # a half-written record of a crash
        return batch

    def _take_over(self, batch: list[_Change | Description]) -> list[_Change | Description]:
        """Apply unsaved changes over what another program wrote since the file was read."""
        with self._lock:
            content = self._load(self.frame)
            if self._set_aside or not content.frame.same_pixels(self.frame):
                self._set_aside = True
                return batch
            unsaved = batch + self._pending
            own, self.names = self.names, content.names
            self._end, self._records = content.end, content.records
            self._sequence = content.sequence
            self._pending = []
            table = np.zeros(256, np.uint8)
            table[KEPT] = KEPT
            table[1 : len(own) + 1] = self.class_ids(own)
            self.mask = content.mask
            for item in unsaved:
                if not isinstance(item, Description):
                    y, x, changes = item
                    self.stage(y, x, table[changes])
            self.generation += 1
            mapped, self._pending = self._pending, []
            with self.path.open("rb+") as file:
                file.truncate(self._end)
            return mapped

    def _append(self, batch: list[_Change | Description]) -> None:
        parts = []
        for item in batch:
            self._sequence += 1
            if isinstance(item, Description):
                parts.append(description_record(item, self._sequence))
            else:
                parts.append(pixels_record(self._sequence, *item))
        data = b"".join(parts)
        with self.path.open("rb+") as file:
            try:
                file.seek(self._end)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self._end)
                raise
        self._end += len(data)
        self._records += len(parts)
        self._seen = self._signature()

    def _rewrite(self) -> None:
        if self._set_aside and self.path.exists():
            shutil.copy2(self.path, _free_name(self.path, "damaged" if self.problem else "earlier"))
        with self._lock:
            description, mask = self._description(), self.mask
        windows = mask.windows()
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            for _ in range(2):
                self._sequence += 1
                file.write(description_record(description, self._sequence))
            for window in windows:
                self._sequence += 1
                block = mask.read(*window.slices)
                file.write(pixels_record(self._sequence, window.y, window.x, block))
        self._end = self.path.stat().st_size
        self._records = 2 + len(windows)
        self._set_aside = False
        self._seen = self._signature()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _free_name(path: Path, word: str) -> Path:
    """Return a free name next to `path` with a word and the time."""
    base = f"{path.name}.{word}-{_now():%Y%m%d-%H%M%S}"
    target, number = path.with_name(base), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{base}-{number}")
    return target


def _not_saved(error: OSError, folder: Path) -> CorrectionsError:
    return CorrectionsError(
        f"can't be saved ({error.strerror or error})",
        path=folder,
        remedy="Free some space or make the folder writable: what you painted stays and is saved "
        "as soon as that works.",
    )
