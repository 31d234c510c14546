"""Checks in pure Python that the frames of DICOM files are where their tables say.

OpenSlide's DICOM library follows the table of frame offsets without a check, so a damaged table
crashes the process, and napari with it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from napari_plimseg.errors import SlideError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


_MAX_DEPTH = 16
_MAX_VALUE = 1 << 28
_UNDEFINED = 0xFFFFFFFF
_LONG_FORMS = {
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
}  # fmt: skip
_IMPLICIT = "1.2.840.10008.1.2"
_UNREADABLE = {"1.2.840.10008.1.2.2": "big-endian", "1.2.840.10008.1.2.1.99": "deflated"}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_TRANSFER_SYNTAX, _SERIES = 0x00020010, 0x0020000E
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = (
    0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
)  # fmt: skip
_LONG_OFFSETS, _PIXELS = 0x7FE00001, 0x7FE00010
_KEPT = {_TRANSFER_SYNTAX, _SERIES, _SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS, _LONG_OFFSETS}


@dataclass
class _Header:
    """The elements before the pixels, and where the pixels begin."""

    values: dict[int, bytes] = field(default_factory=dict)
    pixels_at: int = 0
    pixels_length: int = 0

    def text(self, tag: int) -> str:
        return self.values.get(tag, b"").decode("latin-1").strip(" \0")

    def number(self, tag: int, default: int) -> int:
        value = self.values.get(tag, b"")
        return int.from_bytes(value[:2], "little") if value else default


class _Walker:
    """Steps over the elements of one file."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.size = file, path, size
        self.is_implicit = False

    def refuse(self, problem: str) -> SlideError:
        return SlideError(
            problem,
            path=self.path,
            remedy="The file may be damaged or incomplete; copy it again from the scanner.",
        )

    def read(self, count: int) -> bytes:
        content = self.file.read(count)
        if len(content) != count:
            raise self.refuse("a DICOM element ends beyond the end of the file")
        return content

    def skip(self, count: int) -> None:
        if self.file.seek(count, 1) > self.size:
            raise self.refuse("a DICOM element ends beyond the end of the file")

    def element(self) -> tuple[int, int]:
        """Return tag and length of the next element and move to its value."""
        group, number, kind, short = struct.unpack("<HH2sH", self.read(8))
        tag = group << 16 | number
        if group == 0xFFFE or (self.is_implicit and group != 2):
            return tag, int.from_bytes(kind, "little") | short << 16
        if kind in _LONG_FORMS:
            return tag, int.from_bytes(self.read(4), "little")
        return tag, short

    def skip_value(self, length: int, depth: int) -> None:
        """Step over a value; one of undefined length is a sequence of items."""
        if length != _UNDEFINED:
            self.skip(length)
            return
        if depth > _MAX_DEPTH:
            raise self.refuse("its DICOM sequences are nested too deeply")
        while True:
            tag, length = self.element()
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise self.refuse("a DICOM sequence holds something else than items")
            if length != _UNDEFINED:
                self.skip(length)
                continue
            while True:
                tag, length = self.element()
                if tag == _ITEM_END:
                    break
                self.skip_value(length, depth + 1)

    def header(self) -> _Header:
        """Read up to the pixels."""
        found = _Header()
        self.file.seek(132)
        while self.file.tell() < self.size:
            start = self.file.tell()
            tag, length = self.element()
            if tag >> 16 != 2 and not self.is_implicit:
                syntax = found.text(_TRANSFER_SYNTAX)
                if syntax in _UNREADABLE:
                    raise SlideError(
                        f"it is stored as {_UNREADABLE[syntax]} DICOM",
                        path=self.path,
                        remedy="Export it with explicit little-endian encoding.",
                    )
                if syntax == _IMPLICIT:
                    self.is_implicit = True
                    self.file.seek(start)
                    tag, length = self.element()
            if tag == _PIXELS:
                found.pixels_at, found.pixels_length = self.file.tell(), length
                return found
            if tag in _KEPT and length < _MAX_VALUE:
                found.values[tag] = self.read(length)
            else:
                self.skip_value(length, 0)
        return found


def check_dicom(path: Path) -> None:
    """Check a DICOM file, and the files of the same slide in its folder.

    Parameters
    ----------
    path : Path
        A file that starts like DICOM.

    Raises
    ------
    SlideError
        When a file's elements or frames are not inside the file.
    """
    from napari_plimseg.slides.validation.files import dicom_files

    series = _check_file(path, None)
    for other in dicom_files(path.parent):
        if other != path:
            _check_file(other, series)


def _check_file(path: Path, series: str | None) -> str:
    """Check one file, its frames only when it is of this series; return its series."""
    from napari_plimseg.slides.validation.files import check_segment

    size = path.stat().st_size
    with path.open("rb") as file:
        walker = _Walker(file, path, size)
        header = walker.header()
        own_series = header.text(_SERIES)
        if not header.pixels_at or series not in (None, own_series):
            return own_series
        frame_bytes = (
            header.number(_ROWS, 0)
            * header.number(_COLUMNS, 0)
            * header.number(_SAMPLES, 1)
            * -(-header.number(_BITS, 8) // 8)
        )
        check_segment(path, frame_bytes, "its frames have")
        if header.pixels_length != _UNDEFINED:
            frames = header.text(_FRAMES) or "1"
            expected = frame_bytes * int(frames) if frames.isdecimal() else size
            if expected > header.pixels_length or header.pixels_at + header.pixels_length > size:
                raise walker.refuse("its pixels end beyond the end of the file")
            return own_series
        _check_frames(walker, header)
    return own_series


def _check_frames(walker: _Walker, header: _Header) -> None:
    """Check that every offset of the table, or every step from item to item, meets an item."""
    walker.file.seek(header.pixels_at)
    tag, length = walker.element()
    if tag != _ITEM or length > min(walker.size, _MAX_VALUE) or length % 4:
        raise walker.refuse("its table of frames is damaged")
    offsets: NDArray[np.uint64] = np.frombuffer(walker.read(length), "<u4").astype(np.uint64)
    start = walker.file.tell()
    long_table = header.values.get(_LONG_OFFSETS, b"")
    if long_table and len(long_table) % 8 == 0:
        offsets = np.frombuffer(long_table, "<u8").astype(np.uint64)
    if len(offsets):
        inside = offsets < np.uint64(walker.size)
        frames = header.text(_FRAMES) or "1"
        if frames.isdecimal() and len(offsets) < int(frames):
            raise walker.refuse(f"its table of frames has {len(offsets)} of {frames} frames")
        if offsets[0] != 0 or not inside.all() or (offsets[1:] <= offsets[:-1]).any():
            raise walker.refuse("its table of frames is damaged")
        for offset in offsets.tolist():
            walker.file.seek(start + offset)
            tag, length = walker.element()
            if tag != _ITEM or walker.file.tell() + length > walker.size:
                raise walker.refuse("its table of frames points to something else than frames")
        return
    while walker.file.tell() < walker.size:
        tag, length = walker.element()
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise walker.refuse("its frames are damaged")
        walker.skip(length)
