"""The files of a mask store: layout, arrays, checked JSON, room on the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr import create_array
from zarr.codecs import ZstdCodec

from napari_plimseg.errors import StoreError
from napari_plimseg.files import sync_folder, write_json
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo

DISK_RESERVE = 200 << 20
"""Bytes that a run leaves free on the disk."""


@dataclass(frozen=True)
class StoreLayout:
    """How a store's arrays are cut.

    Parameters
    ----------
    tile_shape : tuple of int
        Mask pixels (y, x) of a tile, which is also the chunk.
    tile_size : int
        The engine's tile size in working pixels that gave `tile_shape`.
    has_probabilities : bool
        Whether the probability of every class is kept.
    recipe : str
        Hex digest of everything that decides the mask: model, resolution, tissue settings.
    """

    tile_shape: tuple[int, int]
    tile_size: int
    has_probabilities: bool
    recipe: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "tile_shape": list(self.tile_shape),
            "tile_size": self.tile_size,
            "has_probabilities": self.has_probabilities,
            "recipe": self.recipe,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StoreLayout:
        """Build from plain data; raises KeyError, TypeError, ValueError or IndexError."""
        height, width = data["tile_shape"]
        return cls(
            tile_shape=(int(height), int(width)),
            tile_size=int(data["tile_size"]),
            has_probabilities=bool(data["has_probabilities"]),
            recipe=str(data["recipe"]),
        )


def create_store_array(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """Make an array of chunks with checksums, all "not computed"."""
    create_array(
        path,
        shape=shape,
        chunks=chunks,
        dtype="uint8",
        fill_value=NOT_COMPUTED,
        compressors=ZstdCodec(level=1, checksum=True),
        config={"write_empty_chunks": True},
    )


def read_chunk(array: Path, tile: tuple[int, int], layout: StoreLayout) -> NDArray[np.uint8] | None:
    """Return one chunk of an array made by `create_store_array`, without zarr.

    Parameters
    ----------
    array : Path
        The array's folder; it holds one plane.
    tile : tuple of int
        Row and column of the chunk.
    layout : StoreLayout
        Gives its shape.

    Returns
    -------
    ndarray of uint8, shape `layout.tile_shape`, or None
        None when the chunk is missing or damaged.
    """
    from imagecodecs import zstd_decode

    try:
        packed = (array / "c" / str(tile[0]) / str(tile[1])).read_bytes()
        return np.frombuffer(zstd_decode(packed), np.uint8).reshape(layout.tile_shape)
    except (OSError, RuntimeError, ValueError):
        return None


def check_room(path: Path, info: MaskInfo, layout: StoreLayout) -> None:
    """Raise StoreError when the disk has too little room for a mask."""
    planes = 2 + (len(info.classes) if layout.has_probabilities else 0)
    # classes compress many times, probabilities about twice; half of the raw size is enough
    needed = info.shape[0] * info.shape[1] * planes // 2 + DISK_RESERVE
    free = shutil.disk_usage(path).free
    if free < needed:
        raise StoreError(
            f"the disk has {free >> 20} MB free and this mask may need {needed >> 20} MB",
            path=path,
            remedy="Free some space or choose another folder for the results.",
        )


def disk_error(error: OSError, path: Path) -> StoreError:
    """Say what an OSError means for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "the disk is full; everything finished so far is kept",
            path=path,
            remedy="Free some space and start again: the run goes on where it stopped.",
        )
    return StoreError(
        f"can't be written ({error.strerror or error})",
        path=path,
        remedy="Choose a folder that you may write to.",
    )


def sync_file(path: Path) -> None:
    """Put a file and its name on the disk for good."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def write_checked(path: Path, content: Any) -> None:
    """Write JSON with its own checksum, atomically."""
    body = json.dumps(content, sort_keys=True, ensure_ascii=False)
    write_json(path, {"sha256": hashlib.sha256(body.encode()).hexdigest(), "content": content})


def read_checked(path: Path, store: Path) -> Any:
    """Read JSON written by `write_checked`; raise StoreError when it is damaged."""
    try:
        wrapped = json.loads(path.read_text("utf-8"))
        content, digest = wrapped["content"], wrapped["sha256"]
    except FileNotFoundError as error:
        raise StoreError(
            "is not a mask store", path=store, remedy="Choose a folder made by plimseg segment."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"its {path.name} is damaged",
            path=store,
            remedy="Delete the folder and run the segmentation again.",
        ) from error
    body = json.dumps(content, sort_keys=True, ensure_ascii=False)
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        raise StoreError(
            f"its {path.name} is damaged: the checksum does not fit",
            path=store,
            remedy="Delete the folder and run the segmentation again.",
        )
    return content
