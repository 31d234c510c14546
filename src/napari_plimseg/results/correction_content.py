"""What a file of corrections comes to: all its records laid over each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.errors import CorrectionsError
from napari_plimseg.results.correction_file import (
    DESCRIPTION,
    KEPT,
    PIXELS,
    CorrectionFrame,
    Description,
    scan,
)
from napari_plimseg.results.sparse_mask import SparseMask

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, eq=False)
class CorrectionContent:
    """What a file came to.

    Parameters
    ----------
    frame : CorrectionFrame
    names : tuple of str
        Class names in the order of the file's ids, which start at 1.
    mask : SparseMask
        Ids of the file, 0 where nothing was corrected.
    created : str
        When the file was begun; empty without a file that can be used.
    end : int
        Bytes up to where the last whole record ends.
    records, sequence : int
        How many there are, and the highest of their numbers.
    problem : str
        What is wrong with the file, as a sentence; empty when nothing is.
    is_useless : bool
        Whether there is a file of which nothing can be used; it must be kept beside.
    """

    frame: CorrectionFrame
    names: tuple[str, ...]
    mask: SparseMask
    created: str = ""
    end: int = 0
    records: int = 0
    sequence: int = 0
    problem: str = ""
    is_useless: bool = False

    @classmethod
    def empty(cls, frame: CorrectionFrame, problem: str = "") -> CorrectionContent:
        """Return no corrections; with a problem, those of a file of which nothing can be used."""
        return cls(frame, (), SparseMask(frame.shape), problem=problem, is_useless=bool(problem))


def read_content(path: Path, frame: CorrectionFrame) -> CorrectionContent:
    """Read a file of corrections; one that is not there is empty.

    Parameters
    ----------
    path : Path
    frame : CorrectionFrame
        Of the slide that is asked for, and of corrections that begin now.

    Raises
    ------
    CorrectionsError
        When the file can't be read or comes from a newer version.
    """
    folder = path.parent
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return CorrectionContent.empty(frame)
    except OSError as error:
        raise CorrectionsError(
            f"can't be read ({error.strerror or error})",
            path=folder,
            remedy="Make the folder readable and open the slide again.",
        ) from error
    found = scan(data)
    said = [
        Description.from_bytes(record.body, folder)
        for record in found.records
        if record.kind == DESCRIPTION
    ]
    if not said:
        return CorrectionContent.empty(
            frame, "The corrections saved for this slide are damaged; the file is kept."
        )
    if said[0].frame.slide_fingerprint != frame.slide_fingerprint:
        return CorrectionContent.empty(
            frame, "The corrections in the folder belong to another slide; the file is kept."
        )
    mask = SparseMask(said[0].frame.shape)
    damaged = found.damaged
    height, width = mask.shape
    for record in found.records:
        if record.kind == PIXELS:
            window, changes = record.window, record.pixels
            inside = window.y + window.height <= height and window.x + window.width <= width
            if changes is None or not inside:
                damaged += 1
            else:
                mask.write(window.y, window.x, changes, changes != KEPT)
    problem = (
        f"{damaged} parts of the saved corrections are damaged and left out; the rest is there."
    )
    return CorrectionContent(
        frame=said[0].frame,
        names=max((d.names for d in said), key=len),
        mask=mask,
        created=said[0].created,
        end=found.end,
        records=len(found.records),
        sequence=max(record.sequence for record in found.records),
        problem=problem if damaged else "",
    )
