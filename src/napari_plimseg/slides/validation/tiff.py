"""TIFF directories read in pure Python, under limits, before any C library sees the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_plimseg import limits
from napari_plimseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


MAX_DIRECTORIES = 1_000
"""Slides have tens of directories; a circle through many would otherwise be followed for long."""
MAX_TAGS = 4_096
MAX_SIDE = 2**31
"""C decoders count pixels in signed 32-bit numbers."""
_VALUE_LIMIT = 1 << 30
"""Bytes of one tag; the tile table of a slide of 200,000 pixels a side has 5 MB."""
_TYPES = {
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2",
    9: "i4", 10: "u8", 11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_TEXT = 2

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
DESCRIPTION, MAKE, SAMPLES, ROWS_PER_STRIP, PLANAR, SOFTWARE = 270, 271, 277, 278, 284, 305
STRIP_OFFSETS, STRIP_COUNTS, TILE_WIDTH, TILE_LENGTH = 273, 279, 322, 323
TILE_OFFSETS, TILE_COUNTS, SUB_IFDS, XMP = 324, 325, 330, 700
NDPI_VERSION, NDPI_FILTER_SET = 65420, 65434
_WANTED = frozenset(
    {WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, MAKE, SAMPLES, ROWS_PER_STRIP,
     PLANAR, SOFTWARE, STRIP_OFFSETS, STRIP_COUNTS, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS,
     TILE_COUNTS, SUB_IFDS, XMP, NDPI_VERSION, NDPI_FILTER_SET}
)  # fmt: skip
_REMEDY = "The file may be damaged or incomplete; copy it again from the scanner."


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file, as its directory declares it.

    Parameters
    ----------
    tags : mapping of int to ndarray or str
        The tags about how pixels are stored and who wrote them.
    """

    tags: Mapping[int, Any]

    def numbers(self, tag: int) -> NDArray[Any]:
        """Return all values of a tag; none when it is absent or, in damaged files, a text."""
        value = self.tags.get(tag)
        return np.zeros(0, np.uint64) if value is None or isinstance(value, str) else value

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        values = self.numbers(tag)
        return int(values[0]) if len(values) else default

    def text(self, tag: int) -> str:
        """Return the text of a tag, empty when it is absent."""
        value = self.tags.get(tag, "")
        return value if isinstance(value, str) else bytes(value.astype(np.uint8)).decode("latin-1")

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (y, x)."""
        return self.number(LENGTH), self.number(WIDTH)

    @property
    def is_tiled(self) -> bool:
        """Whether the pixels are stored in tiles and not in strips."""
        return TILE_OFFSETS in self.tags or TILE_WIDTH in self.tags

    @property
    def segment_shape(self) -> tuple[int, int]:
        """Pixels (y, x) of a tile or a strip."""
        if self.is_tiled:
            return self.number(TILE_LENGTH), self.number(TILE_WIDTH)
        height, width = self.shape
        return min(self.number(ROWS_PER_STRIP, height), height), width

    @property
    def bits(self) -> int:
        """Bits of the widest sample."""
        values = self.numbers(BITS)
        return int(values.max()) if len(values) else 1

    @property
    def samples(self) -> int:
        """Samples per pixel."""
        return self.number(SAMPLES, 1)

    @property
    def is_planar(self) -> bool:
        """Whether each sample has its own segments."""
        return self.number(PLANAR, 1) == 2

    @property
    def segment_bytes(self) -> int:
        """Bytes of one decoded segment."""
        height, width = self.segment_shape
        return height * width * (1 if self.is_planar else self.samples) * -(-self.bits // 8)

    @property
    def segments(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Offsets and byte counts of the segments; empty where the tag is absent."""
        tags = (TILE_OFFSETS, TILE_COUNTS) if self.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        offsets, counts = (self.numbers(tag) for tag in tags)
        # some writers put tiles under the strip tags
        return (
            offsets if len(offsets) else self.numbers(STRIP_OFFSETS),
            counts if len(counts) else self.numbers(STRIP_COUNTS),
        )

    @property
    def segment_count(self) -> int:
        """Segments that an image of this shape needs."""
        height, width = self.shape
        tall, wide = self.segment_shape
        return -(-height // tall) * -(-width // wide) * (self.samples if self.is_planar else 1)


class _Reader:
    """One TIFF file: byte order, width of offsets, and reads that never pass the file's end."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.size = file, path, size
        head = self.read(0, 8)
        self.order = "<" if head[:2] == b"II" else ">"
        self.is_big = self.unpack("H", head[2:4]) == 43
        self.is_long_ndpi = False
        if self.is_big:
            self.first = self.unpack("Q", self.read(8, 8))
        else:
            self.first = self.unpack("I", head[4:8])

    def refuse(self, problem: str) -> SlideError:
        return SlideError(problem, path=self.path, remedy=_REMEDY)

    def read(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.refuse(
                f"it points to byte {offset + count:,}, but ends at byte {self.size:,}"
            )
        self.file.seek(offset)
        content = self.file.read(count)
        if len(content) != count:
            raise self.refuse("it became shorter while being read")
        return content

    def unpack(self, code: str, content: bytes) -> int:
        return int(struct.unpack(self.order + code, content)[0])

    def directory(self, offset: int) -> tuple[Directory, int]:
        """Read the directory at `offset`; return it and the offset of the next."""
        if self.is_big:
            count = self.unpack("Q", self.read(offset, 8))
            entry_size, start = 20, offset + 8
        else:
            count = self.unpack("H", self.read(offset, 2))
            entry_size, start = 12, offset + 2
        if not 0 < count <= MAX_TAGS:
            raise self.refuse(f"a directory has {count} tags")
        entries = self.read(start, count * entry_size)
        after = start + len(entries)
        if offset == self.first and not self.is_big and self.size >= 2**32:
            codes = {
                self.unpack("H", entries[i : i + 2]) for i in range(0, len(entries), entry_size)
            }
            self.is_long_ndpi = NDPI_VERSION in codes
        high = b""
        if self.is_long_ndpi:
            # NDPI beyond 4 GB: the next offset has 8 bytes, then the high words of all values
            following = self.unpack("Q", self.read(after, 8))
            high = self.read(after + 8, 4 * count)
        elif self.is_big:
            following = self.unpack("Q", self.read(after, 8))
        else:
            following = self.unpack("I", self.read(after, 4))
        tags = {}
        for i in range(count):
            entry = entries[i * entry_size : (i + 1) * entry_size]
            code = self.unpack("H", entry[:2])
            if code in _WANTED:
                tags[code] = self.value(entry, high[4 * i : 4 * i + 4])
        return Directory(tags), following

    def value(self, entry: bytes, high: bytes) -> Any:
        kind = self.unpack("H", entry[2:4])
        inline = entry[12:] if self.is_big else entry[8:]
        count = self.unpack("Q" if self.is_big else "I", entry[4:12] if self.is_big else entry[4:8])
        if kind not in _TYPES:
            raise self.refuse(f"a tag has the unknown type {kind}")
        dtype = np.dtype(self.order + _TYPES[kind])
        length = count * dtype.itemsize
        if length > _VALUE_LIMIT:
            raise self.refuse(f"a tag has {length:,} bytes")
        if high and length <= 4:
            if count == 1 and kind == 4:
                return np.frombuffer(inline + high, self.order + "u8")
            content = inline[:length]
        elif length <= len(inline):
            content = inline[:length]
        else:
            where = (
                self.unpack("Q", inline + high)
                if high
                else self.unpack("Q" if self.is_big else "I", inline)
            )
            content = self.read(where, length)
        if kind == _TEXT:
            return content.split(b"\0")[0].decode("utf-8", "replace")
        return np.frombuffer(content, dtype)


def read_directories(path: Path) -> list[Directory]:
    """Return all directories of a TIFF or BigTIFF file, those of SubIFDs included.

    Parameters
    ----------
    path : Path
        A regular file that starts like a TIFF.

    Raises
    ------
    SlideError
        When directories form a circle, exceed their limit, or point outside the file.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path, path.stat().st_size)
        found: list[Directory] = []
        seen: set[int] = set()
        listed: set[int] = set()  # pyramids may name a level as SubIFD and in the chain as well
        waiting = [reader.first]
        while waiting:
            offset = waiting.pop(0)
            if offset == 0:
                continue
            if offset in seen and offset in listed:
                continue
            if offset in seen:
                raise reader.refuse("its directories form a circle")
            limits.check(SlideError, "directories", len(seen) + 1, path=path, what="it has")
            seen.add(offset)
            directory, following = reader.directory(offset)
            found.append(directory)
            sub = directory.numbers(SUB_IFDS)
            limits.check(SlideError, "directories", len(sub), path=path, what="it has")
            listed.update(int(o) for o in sub)
            waiting += [int(o) for o in sub]
            waiting.insert(0, following)
    if not found:
        raise SlideError("it holds no image", path=path, remedy=_REMEDY)
    return found
