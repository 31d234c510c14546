"""Checks in pure Python of Zarr arrays and their chunks, before zarr decodes any of them.

The metadata of an array name its codecs, some of which unpickle, and declare the size of its
chunks; a compressed chunk may hold a thousand times that. Only known codecs pass, and the decoded
size of each chunk is computed from its own header, or by counting.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_plimseg import limits
from napari_plimseg.errors import SlideError
from napari_plimseg.reading import kind_of, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_REMEDY = "Write it again as OME-Zarr 0.4 or 0.5, for example with bioformats2raw."
_SIMPLE_DTYPE = re.compile(r"[<>|=]?[biuf][1248]")
_DATA_TYPES = {
    "bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2,
    "uint32": 4, "uint64": 8, "float16": 2, "float32": 4, "float64": 8,
}  # fmt: skip
_COMPRESSORS_2 = ("blosc", "zstd", "gzip", "zlib", "lz4")
_COMPRESSORS_3 = ("blosc", "zstd", "gzip")
_MAX_SIDE = 2**31
_MAX_AXES = 8
_MOST_CODECS = 8
_WINDOW = 1024
_SMALL = 16 << 20
_ZSTD_BLOCK = 128 << 10
_MOST_BLOCKS = 100_000
_DEFLATE = 1_040  # deflate inflates at most 1,032 times


@dataclass(frozen=True)
class ZarrArray:
    """How an array stores its chunks.

    Parameters
    ----------
    zarr_format : int
        2 or 3.
    shape : tuple of int
    chunks : tuple of int
        What is decoded as a whole: for a sharded array, a chunk inside of a shard.
    chunk_bytes : int
        Bytes of a decoded chunk.
    compressor : str
        The name of its codec; empty when chunks are not compressed.
    checksum : bool
        Whether four bytes of CRC-32C follow each chunk.
    shard_chunks : int
        Chunks in a shard; 0 when the array is not sharded.
    index_bytes : int
        Bytes of the index of a shard.
    index_first : bool
        Whether the index is at the beginning of the file.
    """

    zarr_format: Literal[2, 3]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    chunk_bytes: int
    compressor: str = ""
    checksum: bool = False
    shard_chunks: int = 0
    index_bytes: int = 0
    index_first: bool = False

    @property
    def file_bytes(self) -> int:
        """Largest sensible size of a file: its chunks, a bit more than uncompressed."""
        chunks = max(1, self.shard_chunks)
        return chunks * (self.chunk_bytes + self.chunk_bytes // 8 + 4096) + self.index_bytes

    @property
    def chunks_at_once(self) -> int:
        """How many chunks to decode together, as zarr does: no more bytes than one may have."""
        return max(1, limits.get("segment-bytes") // self.chunk_bytes)

    @property
    def metadata_bytes(self) -> int:
        """Largest file of metadata."""
        return limits.get("header-bytes")

    def check_file(self, content: memoryview, slide: Path, name: str) -> None:
        """Check the content of a whole file: a chunk or a shard.

        Raises
        ------
        SlideError
            When a chunk decodes to more than the metadata declare.
        """
        if not self.shard_chunks:
            self.check_chunk(content, slide, name)
            return
        index = content[: self.index_bytes] if self.index_first else content[-self.index_bytes :]
        if len(index) != self.index_bytes:
            return  # zarr reports that it is cut
        table = np.frombuffer(index[: 16 * self.shard_chunks], "<u8").reshape(-1, 2)
        for start, length in table.tolist():
            if start + length <= len(content):
                self.check_chunk(content[start : start + length], slide, name)

    def check_chunk(self, content: memoryview, slide: Path, name: str) -> None:
        """Check one stored chunk: its decoded size must not exceed `chunk_bytes`.

        Raises
        ------
        SlideError
            When it does, or when the chunk is shorter than it declares.
        """
        if self.checksum:
            content = content[:-4]
        # Blosc reads as many bytes as the chunk declares, also those behind its end
        if self.compressor == "blosc" and int.from_bytes(content[12:16], "little") != len(content):
            raise SlideError(
                f"the chunk '{name}' is not as long as it declares",
                path=slide,
                remedy="The file is damaged; copy it again from its source.",
            )
        size = _DECODED[self.compressor](content, self.chunk_bytes)
        if size > self.chunk_bytes:
            raise SlideError(
                f"the chunk '{name}' would inflate to {max(size, 1) / 1e6:,.1f} MB or more "
                f"instead of {self.chunk_bytes / 1e6:,.1f} MB",
                path=slide,
                remedy="The file is damaged; copy it again from its source.",
            )


def read_attributes(slide: Path, folder: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr group.

    Parameters
    ----------
    slide : Path
        The slide, for messages.
    folder : Path
        Of the group.

    Raises
    ------
    SlideError
        When it is no group, or its metadata can't be read.
    """
    if (folder / "zarr.json").exists():
        content = _read(slide, folder / "zarr.json")
        if content.get("node_type") != "group":
            raise SlideError("it is not a Zarr group", path=slide, remedy=_REMEDY)
        attributes = content.get("attributes", {})
    elif (folder / ".zgroup").exists() or (folder / ".zattrs").exists():
        attributes = _read(slide, folder / ".zattrs") if (folder / ".zattrs").exists() else {}
    else:
        raise SlideError("it is not a Zarr group", path=slide, remedy=_REMEDY)
    if not isinstance(attributes, dict):
        raise SlideError(
            f"its attributes are {kind_of(attributes)}, not keys and values",
            path=slide,
            remedy=_REMEDY,
        )
    return attributes


def check_zarr_array(slide: Path, folder: Path, name: str, axes: str) -> ZarrArray:
    """Return how an array is stored, when it is safe to decode.

    Parameters
    ----------
    slide : Path
        The slide, for messages.
    folder : Path
        Of the array.
    name : str
        Of the level, for messages.
    axes : str
        A letter per axis, such as "tczyx".

    Raises
    ------
    SlideError
        When its metadata are of wrong types, its chunks are too large or too small, or it needs a
        codec that is not known.
    """
    check = _Check(slide, name)
    if (folder / "zarr.json").exists():
        found = check.format_3(_read(slide, folder / "zarr.json"))
    elif (folder / ".zarray").exists():
        found = check.format_2(_read(slide, folder / ".zarray"))
    else:
        raise SlideError(
            f"its level '{name}' is missing", path=slide, remedy="Copy the whole folder again."
        )
    if len(found.shape) != len(axes):
        raise check.refuse("does not fit its axes")
    parts = 1
    for axis, side, chunk in zip(axes, found.shape, found.chunks, strict=True):
        if axis in "yxc":
            parts *= -(-min(side, _WINDOW) // chunk)
    limits.check(
        SlideError,
        "window-chunks",
        parts,
        path=slide,
        what=f"level '{name}' stores {_WINDOW} x {_WINDOW} pixels in",
        remedy="Write it again with larger chunks.",
    )
    return found


def _read(slide: Path, path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path, SlideError, limit="header-bytes", finite=False)
    except SlideError as error:
        raise SlideError(
            f"its '{path.name}' can't be used: {error.problem}",
            path=slide,
            remedy=error.remedy or "Copy the whole folder again.",
        ) from error
    return found


class _Check:
    """Checks the metadata of one array."""

    def __init__(self, slide: Path, name: str) -> None:
        self.slide, self.name = slide, name

    def refuse(self, problem: str) -> SlideError:
        return SlideError(f"its level '{self.name}' {problem}", path=self.slide, remedy=_REMEDY)

    def format_2(self, content: dict[str, Any]) -> ZarrArray:
        shape = self.sides(content.get("shape"), "shape")
        chunks = self.sides(content.get("chunks"), "chunks", len(shape))
        dtype = content.get("dtype")
        if not isinstance(dtype, str) or not _SIMPLE_DTYPE.fullmatch(dtype):
            raise self.refuse(f"holds {str(dtype)[:40]!r} instead of numbers")
        for step in self.items(content.get("filters")):
            if not isinstance(step, dict) or step.get("id") != "shuffle":
                raise self.refuse_codec(step, "id", "no filter")
        compressor = content.get("compressor")
        known = ""
        if compressor is not None:
            if not isinstance(compressor, dict) or compressor.get("id") not in _COMPRESSORS_2:
                raise self.refuse_codec(compressor, "id", ", ".join(_COMPRESSORS_2))
            known = str(compressor["id"])
        return self.checked(ZarrArray(2, shape, chunks, math.prod(chunks) * int(dtype[-1]), known))

    def format_3(self, content: dict[str, Any]) -> ZarrArray:
        if content.get("node_type") != "array":
            raise self.refuse("is not an array")
        shape = self.sides(content.get("shape"), "shape")
        dtype = content.get("data_type")
        if not isinstance(dtype, str) or dtype not in _DATA_TYPES:
            raise self.refuse(f"holds {str(dtype)[:40]!r} instead of numbers")
        grid = self.configuration(content.get("chunk_grid"), "regular")
        encoding = content.get("chunk_key_encoding")
        if not isinstance(encoding, dict) or encoding.get("name") not in ("default", "v2"):
            raise self.refuse("names its chunks in an unknown way")
        if content.get("storage_transformers"):
            raise self.refuse("needs a storage transformer, and none is known")
        chunks = self.sides(grid.get("chunk_shape"), "chunks", len(shape))
        codecs = self.items(content.get("codecs"))
        size = _DATA_TYPES[dtype]
        if not any(self.codec_name(codec) == "sharding_indexed" for codec in codecs):
            compressor, checksum = self.codecs(codecs)
            return self.checked(
                ZarrArray(3, shape, chunks, math.prod(chunks) * size, compressor, checksum)
            )
        if len(codecs) != 1:
            raise self.refuse("combines sharding with other codecs")
        shard = self.configuration(codecs[0], "sharding_indexed")
        inner = self.sides(shard.get("chunk_shape"), "chunks", len(shape))
        if any(side % part for side, part in zip(chunks, inner, strict=True)):
            raise self.refuse("has shards that its chunks do not divide")
        index = [self.codec_name(codec) for codec in self.items(shard.get("index_codecs"))]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise self.refuse("has an index of shards in an unknown format")
        count = math.prod(chunks) // math.prod(inner)
        index_bytes = 16 * count + 4 * (len(index) - 1)
        limits.check(
            SlideError, "header-bytes", index_bytes, path=self.slide,
            what=f"an index of shards of its level '{self.name}' takes",
        )  # fmt: skip
        compressor, checksum = self.codecs(self.items(shard.get("codecs")))
        first = shard.get("index_location", "end") == "start"
        return self.checked(
            ZarrArray(
                *(3, shape, inner, math.prod(inner) * size, compressor, checksum),
                *(count, index_bytes, first),
            )
        )

    def checked(self, found: ZarrArray) -> ZarrArray:
        limits.check(
            SlideError,
            "segment-bytes",
            found.chunk_bytes,
            path=self.slide,
            what=f"level '{self.name}' is stored in chunks that decode to",
            remedy="Write it again with smaller chunks.",
        )
        return found

    def codecs(self, codecs: Sequence[Any]) -> tuple[str, bool]:
        """Return the compressor and whether a checksum follows, for "bytes" and what is around."""
        names = [self.codec_name(codec) for codec in codecs]
        for name, codec in zip(names, codecs, strict=True):
            if name not in ("transpose", "bytes", "crc32c", *_COMPRESSORS_3):
                raise self.refuse_codec(codec, "name", ", ".join(_COMPRESSORS_3))
        used = [name for name in names if name in _COMPRESSORS_3]
        tail = names[names.index("bytes") + 1 :] if "bytes" in names else names
        # a chunk that is compressed twice could inflate a million times
        if len(used) > 1 or tail not in ([], used, [*used, "crc32c"]):
            raise self.refuse(f"has an unknown combination of codecs: {', '.join(names)[:80]}")
        return (used[0] if used else ""), bool(tail) and tail[-1] == "crc32c"

    def codec_name(self, codec: Any) -> str:
        name = codec.get("name") if isinstance(codec, dict) else codec
        if not isinstance(name, str):
            raise self.refuse("has a codec without a name")
        return name

    def refuse_codec(self, codec: Any, key: str, known: str) -> SlideError:
        name = codec.get(key) if isinstance(codec, dict) else codec
        return self.refuse(f"needs the codec {str(name)[:40]!r}; known are: {known}")

    def configuration(self, value: Any, name: str) -> dict[str, Any]:
        inner = value.get("configuration") if isinstance(value, dict) else None
        if not isinstance(inner, dict) or value.get("name") != name:
            raise self.refuse(f"has chunks that are not '{name}'")
        return inner

    def items(self, value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refuse(f"has {kind_of(value)} instead of a list of codecs")
        if len(value) > _MOST_CODECS:
            # each of them passes over each chunk
            raise self.refuse(f"has {len(value):,} codecs")
        return value

    def sides(self, value: Any, what: str, count: int | None = None) -> tuple[int, ...]:
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= _MAX_AXES
            or not all(type(side) is int and 1 <= side < _MAX_SIDE for side in value)
            or (count is not None and len(value) != count)
        ):
            raise self.refuse(f"has the {what} {str(value)[:60]}")
        return tuple(value)


def _blosc(content: memoryview, expected: int) -> int:
    return int.from_bytes(content[4:8], "little") if len(content) >= 16 else 0


def _lz4(content: memoryview, expected: int) -> int:
    return int.from_bytes(content[:4], "little")


def _stored(content: memoryview, expected: int) -> int:
    return len(content)


def _deflated(content: memoryview, expected: int) -> int:
    """Count what gzip or zlib hold, in pieces; small ones can't do harm."""
    if len(content) * _DEFLATE <= max(expected, _SMALL):
        return 0
    total, rest = 0, bytes(content)
    try:
        while rest and total <= expected:
            inflate = zlib.decompressobj(47)
            while rest and not inflate.eof and total <= expected:
                total += len(inflate.decompress(rest, 1 << 20))
                rest = inflate.unconsumed_tail
            if not inflate.eof:
                break
            rest = inflate.unused_data
    except zlib.error:
        return min(total, expected)  # the decoder reports the damage, no later than here
    return total


def _zstd(content: memoryview, expected: int) -> int:
    """Return the size that the frames declare, or the most that their blocks can hold."""
    total, at, blocks = 0, 0, 0
    while at + 8 <= len(content):
        magic = int.from_bytes(content[at : at + 4], "little")
        if magic & ~15 == 0x184D2A50:  # skippable
            at += 8 + int.from_bytes(content[at + 4 : at + 8], "little")
            continue
        if magic != 0xFD2FB528:
            return total
        flags = content[at + 4]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        size = (single, 2, 4, 8)[flags >> 6]
        if size:
            declared = int.from_bytes(content[at : at + size], "little")
            # what the decoder allocates, and it stops there
            return total + declared + (256 if size == 2 else 0)
        last = False
        while not last and at + 3 <= len(content):
            header = int.from_bytes(content[at : at + 3], "little")
            last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
            at += 3 + (1 if kind == 1 else length)
            total += min(length, _ZSTD_BLOCK) if kind < 2 else _ZSTD_BLOCK
            blocks += 1
            if blocks > _MOST_BLOCKS:
                return max(total, expected + 1)
        at += 4 * (flags >> 2 & 1)
    # blocks are rarely full: only what can do harm counts
    return total if total > max(2 * expected, _SMALL) else 0


_DECODED = {
    "": _stored, "blosc": _blosc, "lz4": _lz4, "zstd": _zstd, "gzip": _deflated, "zlib": _deflated,
}  # fmt: skip
