"""Which slide an exported file is of, so that no slide's exports replace another's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_plimseg.errors import ExportError
from napari_plimseg.reading import open_regular
from napari_plimseg.results.mask_info import SLIDE_KEY, MaskInfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_HEAD = 64 << 10  # exports begin with what they are about
_IN_TEXT = re.compile(SLIDE_KEY.encode() + rb'"?: ?"?([\w-]+)')
# the checksum follows without a gap, and may look like more of the text
_IN_PNG = re.compile(rb"(.{4})tEXt" + SLIDE_KEY.encode() + rb"\0([\w-]+)", re.DOTALL)
_IN_TABLE = re.compile(SLIDE_KEY.encode() + rb"\r?\n[^\r\n]*,([\w-]+)\r?\n")


def exported_slide(path: Path) -> str:
    """Return the fingerprint of the slide that an exported file is of.

    Parameters
    ----------
    path : Path
        A file that this program may have written.

    Returns
    -------
    str
        Empty when there is no file, or it does not say.
    """
    try:
        with open_regular(path, ExportError) as file:
            head = file.read(_HEAD)
    except (ExportError, OSError):
        return ""
    chunk = _IN_PNG.search(head)
    if chunk:
        size = int.from_bytes(chunk[1], "big") - len(SLIDE_KEY) - 1
        return chunk[2][:size].decode()
    found = _IN_TEXT.search(head) or _IN_TABLE.search(head)
    return found[1].decode() if found else ""


def of_another_slide(paths: Iterable[Path], info: MaskInfo) -> Path | None:
    """Return the first of some files that is the export of another slide; None when there is none.

    Parameters
    ----------
    paths : iterable of Path
        Files that are to be written.
    info : MaskInfo
        Of the mask that is to be exported.
    """
    return next((p for p in paths if exported_slide(p) not in ("", info.slide_fingerprint)), None)
