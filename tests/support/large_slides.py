"""A huge pyramidal TIFF in a few megabytes: most of its tiles are the same tile of glass."""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

TILE = 512
GLASS = (243, 242, 244)


@dataclass(frozen=True)
class TissueBlock:
    """A rectangle of level-0 pixels that shows tissue; its sides are multiples of 32 tiles."""

    y: int
    x: int
    height: int
    width: int


def write_huge_slide(
    path: Path, height: int, width: int, block: TissueBlock, *, mpp: float = 0.25
) -> Path:
    """Write a BigTIFF with levels of a fourth each.

    Parameters
    ----------
    path : Path
    height, width : int
        Level-0 pixels.
    block : TissueBlock
        Where tissue is; 16 tiles of noise are repeated there.
    mpp : float
        Micrometers per level-0 pixel.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<2s3HQ", b"II", 43, 8, 0, 0))
        link = 8
        downsample = 1
        while True:
            offsets, counts = _write_tiles(file, height, width, block, downsample)
            link = _write_directory(file, link, height, width, offsets, counts, downsample, mpp)
            if max(height, width) <= 4 * TILE:
                return path
            height, width, downsample = height // 4, width // 4, downsample * 4


def _write_tiles(
    file: BinaryIO, height: int, width: int, block: TissueBlock, downsample: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write the tiles of a level; return where each is and how long."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    glass = np.full((TILE, TILE, 3), GLASS, np.uint8)
    place = _put(file, glass)
    offsets = np.full((rows, columns), place[0], np.uint64)
    counts = np.full((rows, columns), place[1], np.uint64)
    rng = np.random.default_rng(downsample)
    whole: list[tuple[int, int]] = []
    sides = (block.y, block.x, block.y + block.height, block.x + block.width)
    top, left, bottom, right = (side // downsample for side in sides)
    spans = (range(top // TILE, -(-bottom // TILE)), range(left // TILE, -(-right // TILE)))
    for number, (row, column) in enumerate(itertools.product(*spans)):
        y, x = row * TILE, column * TILE
        inside = (
            slice(max(top - y, 0), min(bottom - y, TILE)),
            slice(max(left - x, 0), min(right - x, TILE)),
        )
        is_whole = inside == (slice(0, TILE), slice(0, TILE))
        if is_whole and len(whole) >= 16:
            offsets[row, column], counts[row, column] = whole[(number * 7) % 16]
            continue
        tile = glass.copy()
        tile[inside] = _tissue(rng)[inside]
        put = _put(file, tile)
        offsets[row, column], counts[row, column] = put
        if is_whole:
            whole.append(put)
    return offsets.ravel(), counts.ravel()


def _tissue(rng: np.random.Generator) -> np.ndarray:
    """Return a tile of pink with purple dots."""
    coarse = rng.random((TILE // 8, TILE // 8)).repeat(8, 0).repeat(8, 1)
    tile = np.empty((TILE, TILE, 3), np.uint8)
    tile[:] = (224, 160, 200)
    tile[coarse > 0.7] = (120, 70, 150)
    return tile


def _put(file: BinaryIO, tile: np.ndarray) -> tuple[int, int]:
    packed = zlib.compress(tile.tobytes(), 6)
    at = file.tell()
    file.write(packed)
    return at, len(packed)


def _write_directory(
    file: BinaryIO, link: int, height: int, width: int, offsets: np.ndarray, counts: np.ndarray,
    downsample: int, mpp: float,
) -> int:  # fmt: skip
    """Write a directory and link it from the one before; return where its own link is."""
    tables = []
    for values in (offsets, counts):
        tables.append(file.tell())
        file.write(values.astype("<u8").tobytes())
    bits = struct.unpack("<Q", struct.pack("<4H", 8, 8, 8, 0))[0]
    resolution = struct.unpack("<Q", struct.pack("<2I", round(10_000 / mpp / downsample), 1))[0]
    entries = [
        (254, 4, 1, int(downsample > 1)), (256, 4, 1, width), (257, 4, 1, height),
        (258, 3, 3, bits), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3),
        (282, 5, 1, resolution), (283, 5, 1, resolution), (284, 3, 1, 1), (296, 3, 1, 3),
        (322, 4, 1, TILE), (323, 4, 1, TILE),
        (324, 16, len(offsets), tables[0] if len(offsets) > 1 else int(offsets[0])),
        (325, 16, len(counts), tables[1] if len(counts) > 1 else int(counts[0])),
    ]  # fmt: skip
    at = file.tell()
    file.write(struct.pack("<Q", len(entries)))
    for entry in entries:
        file.write(struct.pack("<2H2Q", *entry))
    own = file.tell()
    file.write(struct.pack("<Q", 0))
    file.seek(link)
    file.write(struct.pack("<Q", at))
    file.seek(0, 2)
    return own
