"""The file format of corrections: records that are only appended, each with checksums.

Appending is what makes strokes safe: nothing that was saved is ever rewritten while a person
paints, so a crash or a full disk can only lose the last record, which then counts as never written.

A record is a head of fixed size and a body. The head holds the record's window in the mask and the
length of its body, and ends with its own checksum, apart from the body's: a damaged body can be
skipped because its length is still known, and after a damaged head the next one is found by its
first four bytes.

There are two kinds of bodies. Kind 1 is a JSON description of frame and classes; without it no
pixel means anything, so it is written twice at the start, and again whenever classes are added.
Kind 2 is the changed pixels of a window, compressed: ids of the file, 0 for a correction that was
removed, and `KEPT` for pixels that the record does not change.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import CorrectionsError
from napari_plimseg.reading import check_regular, parse_json
from napari_plimseg.results.corrections.sparse_mask import SparseMask
from napari_plimseg.results.mask_info import SOFTWARE, MaskInfo
from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


FORMAT_VERSION = 1
KEPT = 255
"""In a record: the pixel is unchanged."""
MAX_CLASSES = 254
"""Ids in a record are bytes, and two of them mean other things."""
DESCRIPTION, PIXELS = 1, 2
_MAGIC = b"\xf1PLC"
_HEAD = struct.Struct("<4sBQdIIIIII")
_CRC = struct.Struct("<I")
_HEAD_SIZE = _HEAD.size + _CRC.size
_MAX_PIXELS = 1 << 28


@dataclass(frozen=True)
class CorrectionFrame:
    """The pixels that corrections are counted in.

    Parameters
    ----------
    slide_name, slide_fingerprint : str
        File name and digest of the slide.
    slide_shape : tuple of int
        Level-0 pixels (y, x).
    shape : tuple of int
        Mask pixels (y, x).
    downsample : float
        Level-0 pixels per mask pixel and side.
    """

    slide_name: str
    slide_fingerprint: str
    slide_shape: tuple[int, int]
    shape: tuple[int, int]
    downsample: float

    def __post_init__(self) -> None:
        for name in ("slide_shape", "shape"):
            height, width = getattr(self, name)
            object.__setattr__(self, name, (int(height), int(width)))
        if min(*self.shape, *self.slide_shape) < 1 or not self.downsample > 0:
            raise CorrectionsError(
                f"corrections of {self.shape} pixels at downsample {self.downsample}"
            )

    @classmethod
    def of(cls, info: MaskInfo) -> CorrectionFrame:
        """Return the frame of a mask."""
        return cls(
            info.slide_name, info.slide_fingerprint, info.slide_shape, info.shape, info.downsample
        )

    def same_pixels(self, other: CorrectionFrame) -> bool:
        """Whether a pixel of one frame is the same part of the slide in the other."""
        return self.shape == other.shape and abs(self.downsample / other.downsample - 1) < 1e-9


@dataclass(frozen=True)
class Description:
    """The description in a file of corrections: the frame, and the classes in id order."""

    frame: CorrectionFrame
    names: tuple[str, ...]
    created: str

    def to_bytes(self) -> bytes:
        """Return JSON for `from_bytes`."""
        frame = self.frame
        content = {
            "format": FORMAT_VERSION,
            "software": SOFTWARE,
            "created": self.created,
            "slide_name": frame.slide_name,
            "slide_fingerprint": frame.slide_fingerprint,
            "slide_shape": list(frame.slide_shape),
            "shape": list(frame.shape),
            "downsample": frame.downsample,
            "classes": list(self.names),
        }
        return json.dumps(content, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, body: bytes, path: Path) -> Description:
        """Read the result of `to_bytes`; CorrectionsError when it is damaged or newer."""
        try:
            content: Mapping[str, Any] = parse_json(body, CorrectionsError, path=path)
            if int(content["format"]) > FORMAT_VERSION:
                raise CorrectionsError(
                    f"the corrections were written by a newer version ({content['software']})",
                    path=path,
                    remedy="Update napari-plimseg.",
                )
            frame = CorrectionFrame(
                slide_name=str(content["slide_name"]),
                slide_fingerprint=str(content["slide_fingerprint"]),
                slide_shape=content["slide_shape"],
                shape=content["shape"],
                downsample=float(content["downsample"]),
            )
            names = content["classes"]
            if not isinstance(names, list) or len(names) > MAX_CLASSES:
                raise ValueError("no list of classes")
            return cls(frame, tuple(map(str, names)), str(content["created"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorrectionsError(
                f"the description of the corrections is incomplete ({type(error).__name__})",
                path=path,
            ) from error


@dataclass(frozen=True)
class Record:
    """One record of the file, its body still compressed."""

    kind: int
    sequence: int
    time: float
    window: Window
    body: bytes

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The changed pixels (h, w); None when they don't fill the window."""
        height, width = self.window.height, self.window.width
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(self.body, height * width + 1)
        except zlib.error:
            return None
        if len(raw) != height * width:
            return None
        return np.frombuffer(raw, np.uint8).reshape(height, width)


@dataclass(frozen=True)
class Scan:
    """The good records of a file.

    Parameters
    ----------
    records : tuple of Record
        In the order written.
    damaged : int
        Number of records or stretches with a wrong checksum.
    end : int
        Bytes up to the end of the last good record; the rest is half written.
    """

    records: tuple[Record, ...]
    damaged: int
    end: int


def description_record(description: Description, sequence: int) -> bytes:
    """Return the bytes of a description."""
    return _record(DESCRIPTION, sequence, Window(0, 0, 0, 0), description.to_bytes())


def pixels_record(sequence: int, y: int, x: int, changes: NDArray[np.uint8]) -> bytes:
    """Return the bytes of changed pixels (h, w) with their corner at (y, x)."""
    height, width = changes.shape
    body = zlib.compress(np.ascontiguousarray(changes).tobytes(), 1)
    return _record(PIXELS, sequence, Window(y, x, height, width), body)


def scan(data: bytes) -> Scan:
    """Find every good record in the bytes of a file; never raises."""
    records: list[Record] = []
    damaged = position = end = 0
    while position < len(data):
        record, size = _record_at(data, position)
        if record is not None:
            records.append(record)
            position = end = position + size
        elif size:  # the head is good and the body is not
            damaged += 1
            position += size
            end = position
        else:
            following = _next_head(data, position + 1)
            if following is None:
                if _is_damage(data[position:]):
                    damaged += 1
                    end = len(data)
                break
            damaged += 1
            position = following
    return Scan(tuple(records), damaged, end)


def _is_damage(tail: bytes) -> bool:
    """Whether the end of a file is a damaged record, not one that a crash left unfinished.

    Records are appended, so an unfinished one has a whole head before its body begins. Zeros are
    space that the system had reserved.
    """
    if len(tail) < _HEAD_SIZE or not any(tail):
        return False
    head = tail[: _HEAD.size]
    return head[:4] != _MAGIC or _CRC.unpack_from(tail, _HEAD.size)[0] != zlib.crc32(head)


def _record(kind: int, sequence: int, window: Window, body: bytes) -> bytes:
    head = _HEAD.pack(
        _MAGIC,
        kind,
        sequence,
        time.time(),
        window.y,
        window.x,
        window.height,
        window.width,
        len(body),
        zlib.crc32(body),
    )
    return head + _CRC.pack(zlib.crc32(head)) + body


def _record_at(data: bytes, position: int) -> tuple[Record | None, int]:
    """Return the record at a position and its size; size 0 when there is no whole record."""
    head = data[position : position + _HEAD.size]
    stop = position + _HEAD_SIZE
    if len(head) < _HEAD.size or stop > len(data) or head[:4] != _MAGIC:
        return None, 0
    if _CRC.unpack_from(data, position + _HEAD.size)[0] != zlib.crc32(head):
        return None, 0
    _, kind, sequence, when, y, x, height, width, length, checksum = _HEAD.unpack(head)
    if stop + length > len(data):
        return None, 0
    body = data[stop : stop + length]
    window = Window(y, x, height, width)
    good = zlib.crc32(body) == checksum and height * width <= _MAX_PIXELS
    record = Record(kind, sequence, when, window, body) if good else None
    return record, _HEAD_SIZE + length


def _next_head(data: bytes, position: int) -> int | None:
    for found in _positions(data, position):
        if _record_at(data, found)[1]:
            return found
    return None


def _positions(data: bytes, position: int) -> Iterator[int]:
    found = data.find(_MAGIC, position)
    while found >= 0:
        yield found
        found = data.find(_MAGIC, found + 1)


@dataclass(frozen=True, eq=False)
class CorrectionContent:
    """The corrections that a file amounts to.

    Parameters
    ----------
    frame : CorrectionFrame
    names : tuple of str
        Class names in the order of the file's ids, which start at 1.
    mask : SparseMask
        Ids of the file, 0 where nothing was corrected.
    created : str
        When the file was created; empty without a usable file.
    end : int
        Bytes up to where the last whole record ends.
    records, sequence : int
        Number of records, and the highest sequence number.
    problem : str
        What is wrong with the file, as a sentence; empty when nothing is.
    is_useless : bool
        Whether there is a file of which nothing can be used; it must be renamed, not overwritten.
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
        """Return no corrections; with a problem, for a file of which nothing can be used."""
        return cls(frame, (), SparseMask(frame.shape), problem=problem, is_useless=bool(problem))


def read_content(path: Path, frame: CorrectionFrame) -> CorrectionContent:
    """Read a file of corrections; a missing file is empty.

    Parameters
    ----------
    path : Path
    frame : CorrectionFrame
        Of the slide, for corrections that begin now.

    Raises
    ------
    CorrectionsError
        When the file can't be read or comes from a newer version.
    """
    folder = path.parent
    if path.exists():
        check_regular(path, CorrectionsError)
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
    descriptions = [
        Description.from_bytes(record.body, folder)
        for record in found.records
        if record.kind == DESCRIPTION
    ]
    if not descriptions:
        return CorrectionContent.empty(
            frame, "The corrections saved for this slide are damaged; the file is kept."
        )
    if descriptions[0].frame.slide_fingerprint != frame.slide_fingerprint:
        return CorrectionContent.empty(
            frame, "The corrections in the folder belong to another slide; the file is kept."
        )
    mask = SparseMask(descriptions[0].frame.shape)
    damaged = found.damaged
    height, width = mask.shape
    for record in found.records:
        if record.kind == PIXELS:
            window = record.window
            inside = window.y + window.height <= height and window.x + window.width <= width
            changes = record.pixels if inside else None
            if changes is None:
                damaged += 1
            else:
                mask.write(window.y, window.x, changes, changes != KEPT)
    problem = (
        f"{damaged} parts of the saved corrections are damaged and were skipped; "
        "the rest is loaded."
    )
    return CorrectionContent(
        frame=descriptions[0].frame,
        names=max((d.names for d in descriptions), key=len),
        mask=mask,
        created=descriptions[0].created,
        end=found.end,
        records=len(found.records),
        sequence=max(record.sequence for record in found.records),
        problem=problem if damaged else "",
    )
