"""The arrays of a mask store: chunk files that prove themselves, and coarser levels.

Chunks are read and written here and not through Zarr. So each is written atomically, decoded with a
limit, and known by the checksum that its file ends with; and reading many small ones is several
times faster. Zarr and every program that knows it reads the same files.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_plimseg.results.ngff import LEVEL_CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.ngff import Level
    from napari_plimseg.tiling import TileIndex


Check = Literal["crc32c", "zstd"]
"""What proves a chunk: the CRC-32C behind the Zstandard frame, or the checksum inside of it."""
_CRC_BYTES = 4


@dataclass(frozen=True)
class StoreArray:
    """One array of uint8 on disk, of one chunk per tile.

    Parameters
    ----------
    folder : Path
        The Zarr array.
    shape : tuple of int
        (y, x), or (c, y, x); a chunk holds all of c.
    tile_shape : tuple of int
        Pixels (y, x) of a chunk.
    check : {"crc32c", "zstd"}
        What proves a chunk.
    """

    folder: Path
    shape: tuple[int, ...]
    tile_shape: tuple[int, int]
    check: Check = "crc32c"
    _folders: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return (*self.shape[:-2], *self.tile_shape)

    def file(self, tile: TileIndex) -> Path:
        """Return the file of a chunk."""
        lead = ("0",) * (len(self.shape) - 2)
        return self.folder.joinpath("c", *lead, str(tile[0]), str(tile[1]))

    def read(self, tile: TileIndex) -> tuple[NDArray[np.uint8], str] | None:
        """Return a chunk, with its checksum as hex digits ("" where it is inside of the frame).

        Returns
        -------
        (ndarray of uint8, shape `chunk_shape`; str) or None
            None when the chunk is missing or damaged.
        """
        from imagecodecs import zstd_decode

        found = self._frame(tile)
        if found is None:
            return None
        frame, digest = found
        try:
            # the size is a limit: a damaged frame may ask for gigabytes
            block = np.frombuffer(zstd_decode(frame, out=self._size), np.uint8)
            return block.reshape(self.chunk_shape), digest
        except (RuntimeError, ValueError):
            return None

    def checksum(self, tile: TileIndex) -> str | None:
        """Return the checksum of a chunk as of `read`; None when it is missing or damaged."""
        found: tuple[object, str] | None
        # a frame with its right CRC-32C is what was written, so it need not be decoded
        found = self._frame(tile) if self.check == "crc32c" else self.read(tile)
        return None if found is None else found[1]

    def write(self, tile: TileIndex, block: NDArray[np.uint8]) -> str:
        """Write a chunk atomically, but not durably; return its checksum as of `read`.

        Parameters
        ----------
        tile : tuple of int
        block : ndarray of uint8, shape (..., h, w)
            At most a chunk; at the edges of the mask, zeros are added.

        Raises
        ------
        OSError
            When the disk is full or fails.
        """
        if block.shape != self.chunk_shape:
            whole = np.zeros(self.chunk_shape, np.uint8)
            whole[..., : block.shape[-2], : block.shape[-1]] = block
            block = whole
        packed, digest = self._encoded(block.tobytes())
        path = self.file(tile)
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        # one process writes, so the name is free; what a kill leaves is overwritten
        partial = path.with_name(f".partial-{path.name}")
        try:
            partial.write_bytes(packed)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        return digest

    def remove(self, tile: TileIndex) -> None:
        """Remove a chunk, so that it reads as "not computed"."""
        self.file(tile).unlink(missing_ok=True)

    @property
    def _size(self) -> int:
        return math.prod(self.chunk_shape)

    def _frame(self, tile: TileIndex) -> tuple[bytes, str] | None:
        """Return the Zstandard frame of a chunk and its checksum."""
        packed = _regular_bytes(self.file(tile), limit=self._size + self._size // 128 + 1024)
        if packed is None or self.check == "zstd":
            return None if packed is None else (packed, "")
        frame, found = packed[:-_CRC_BYTES], packed[-_CRC_BYTES:]
        return (frame, found.hex()) if _crc32c(frame) == found else None

    def _encoded(self, block: bytes) -> tuple[bytes, str]:
        if self.check == "zstd":
            from numcodecs.zstd import compress

            return bytes(compress(block, 1, True)), ""
        from imagecodecs import zstd_encode

        frame = bytes(zstd_encode(block, 1))
        digest = _crc32c(frame)
        return frame + digest, digest.hex()


def _crc32c(data: bytes) -> bytes:
    """Return the checksum as Zarr's codec "crc32c" writes it."""
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "little")


def _regular_bytes(path: Path, *, limit: int) -> bytes | None:
    """Return the content of a regular file of at most `limit` bytes; None for anything else.

    `reading.open_regular` also says what is wrong, which takes a fifth of the time of reading
    a mask, and here nobody asks.
    """
    try:
        # a pipe in place of a chunk would block forever
        with open(path, "rb", opener=_open_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
                return None
            return file.read(limit)
    except OSError:
        return None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def within(part: slice, side: int) -> slice:
    """Return the part of a window, along one axis, that is within a mask of that side."""
    return slice(part.start, min(part.stop, side))


def tiles_of(rows: slice, columns: slice, tile_shape: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Yield the tiles that a window (its `start` and `stop` given) touches, row by row."""
    height, width = tile_shape
    for row in range(rows.start // height, -(-rows.stop // height)):
        for column in range(columns.start // width, -(-columns.stop // width)):
            yield row, column


def overlap(part: slice, start: int, side: int, step: int) -> tuple[slice, slice]:
    """Return the samples of a tile that every `step`-th pixel of a window takes, along one axis.

    Parameters
    ----------
    part : slice
        The window; its first pixel is the first sample.
    start, side : int
        First pixel and length of the tile.
    step : int

    Returns
    -------
    target, source : slice
        In the samples of the window, and in the pixels of the tile.
    """
    first = max(0, -(-(start - part.start) // step))
    last = -(-(min(part.stop, start + side) - part.start) // step)
    return slice(first, max(first, last)), slice(
        part.start + first * step - start,
        max(0, part.start + (max(first, last) - 1) * step - start + 1),
        step,
    )


def update_levels(
    folder: Path,
    levels: Sequence[Level],
    read: Callable[..., NDArray[np.uint8]],
    tiles: Iterable[TileIndex],
    tile_shape: tuple[int, int],
) -> list[Path]:
    """Write the chunks of coarser levels that changed tiles are a part of.

    Each level is made of the one before, so that the mask is read once. Memory is bounded: a chunk
    and the four that it is made of.

    Parameters
    ----------
    folder : Path
        Holds an array per level.
    levels : sequence of Level
        The mask itself first.
    read : callable
        Takes rows, columns and `step=`; returns every step-th pixel of the mask in that window.
    tiles : iterable of tuple of int
        Rows and columns of the changed tiles.
    tile_shape : tuple of int
        Pixels (y, x) of a tile of the mask.

    Returns
    -------
    list of Path
        The chunks written, which are not durable yet.
    """
    full = levels[0].shape
    side = 2 * LEVEL_CHUNK
    changed = {
        chunk
        for row, column in tiles
        for chunk in tiles_of(
            slice(row * tile_shape[0], min((row + 1) * tile_shape[0], full[0])),
            slice(column * tile_shape[1], min((column + 1) * tile_shape[1], full[1])),
            (side, side),
        )
    }
    written = []
    finer: StoreArray | None = None
    for level in levels[1:]:
        array = level_array(folder, level)
        for chunk in sorted(changed):
            block = None if finer is None else _from_finer(finer, chunk)
            if block is None:
                rows, columns = (
                    slice(
                        at * LEVEL_CHUNK * level.factor,
                        min((at + 1) * LEVEL_CHUNK * level.factor, length),
                    )
                    for at, length in zip(chunk, full, strict=True)
                )
                block = read(rows, columns, step=level.factor)
            if block.any():
                array.write(chunk, block)
                written.append(array.file(chunk))
            else:
                array.remove(chunk)
        changed = {(row // 2, column // 2) for row, column in changed}
        finer = array
    return written


def level_array(folder: Path, level: Level) -> StoreArray:
    """Return the array of a coarser level."""
    return StoreArray(folder / level.path, level.shape, (LEVEL_CHUNK, LEVEL_CHUNK))


def _from_finer(finer: StoreArray, chunk: TileIndex) -> NDArray[np.uint8] | None:
    """Return a chunk made of the four below it; None when one of them is damaged."""
    whole = np.zeros((2 * LEVEL_CHUNK, 2 * LEVEL_CHUNK), np.uint8)
    for y in (0, 1):
        for x in (0, 1):
            below = (2 * chunk[0] + y, 2 * chunk[1] + x)
            found = finer.read(below)
            if found is not None:
                part = slice(y * LEVEL_CHUNK, (y + 1) * LEVEL_CHUNK)
                whole[part, x * LEVEL_CHUNK : (x + 1) * LEVEL_CHUNK] = found[0]
            elif finer.file(below).exists():
                return None
    return whole[::2, ::2]
