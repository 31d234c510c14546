"""What all exporters share: checks, atomic writing, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import shutil
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import ExportError, disk_problem
from napari_plimseg.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray


RESEARCH_USE = "Research use only; not a medical device."


@contextlib.contextmanager
def export_to(path: Path, mask: MaskArray, info: MaskInfo, *, at_least: int = 0) -> Iterator[Path]:
    """Check a mask and yield a temporary path that replaces `path` when the block ends well.

    Every exporter starts with this.

    Parameters
    ----------
    path : Path
        The file to write.
    mask : array of uint8, shape (y, x)
        Must fit its description.
    info : MaskInfo
        What the mask is a mask of.
    at_least : int
        Bytes that the file needs at least; checked before any work is done.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    ExportError
        When the mask does not fit its description, the disk is full or the file can't be
        written; an old file of that name stays.
    """
    dtype = getattr(mask, "dtype", None)
    if tuple(mask.shape) != info.shape or dtype != np.uint8:
        raise ExportError(
            f"the mask has {dtype} {tuple(mask.shape)} pixels but its description says "
            f"uint8 {info.shape}",
            path=path,
        )
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        _check_space(path, at_least)
        with atomic_write(path) as temporary:
            yield temporary
    except OSError as error:
        problem, remedy = disk_problem(error)
        raise ExportError(problem, path=path, remedy=remedy) from error


def without_ignored(mask: MaskArray, info: MaskInfo) -> MaskArray:
    """Return a mask whose ignored classes are 0, for formats that hold every pixel."""
    ignored = info.classes.ignored_ids
    if not ignored:
        return mask
    table = np.arange(256, dtype=np.uint8)
    table[list(ignored)] = 0  # as where nothing is computed
    kept: NDArray[np.uint8] = np.take(table, np.asarray(mask[:]))
    return kept


def _check_space(path: Path, at_least: int) -> None:
    existing = next((folder for folder in path.parents if folder.is_dir()), None)
    if existing is None:
        return
    free = shutil.disk_usage(existing).free
    if free < at_least:
        raise ExportError(
            f"it needs at least {at_least / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free",
            path=path,
            remedy="Free some space or choose another folder.",
        )
