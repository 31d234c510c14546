"""`MaskStore`: a mask on disk that survives a crash, resumes, and detects damage.

A store is a folder, `<stem>.plimseg`:

`manifest.json`
    The `MaskInfo`, the layout and the recipe; written once, before the first tile.
`classes.zarr`, `confidence.zarr`, `probabilities.zarr`
    One chunk per tile, so that a tile is written without reading its neighbors and a lost file
    costs one tile. Zstandard with checksum, so that a flipped bit is an error and not a class.
`journal.json`
    The finished tiles. A tile enters it only after its chunks are durably on disk; tiles that are
    not in the journal are computed again. Without it, a chunk that a crash left half written would
    look finished.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import filelock
import numpy as np
import zarr
from zarr import create_array
from zarr.codecs import ZstdCodec

from napari_plimseg._version import __version__
from napari_plimseg.errors import StoreError
from napari_plimseg.files import sync_folder, write_json
from napari_plimseg.reading import read_json
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.tissue import NOT_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import NDArray

    from napari_plimseg.tiling import TileIndex, Window
    from napari_plimseg.tissue import TissueClasses


DISK_RESERVE = 200 << 20
"""Bytes that a run leaves free on the disk."""


@dataclass(frozen=True)
class StoreLayout:
    """How a store's arrays are divided into chunks.

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
    """Create an array of chunks with checksums, all "not computed"."""
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
    """Turn an OSError into a StoreError that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "the disk is full; everything finished so far is kept",
            path=path,
            remedy="Free some space and start again: the run resumes where it stopped.",
        )
    return StoreError(
        f"can't be written ({error.strerror or error})",
        path=path,
        remedy="Choose a folder that you may write to.",
    )


def sync_file(path: Path) -> None:
    """Write a file and its directory entry durably to disk."""
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
    if not path.exists():
        raise StoreError(
            "is not a mask store", path=store, remedy="Choose a folder made by plimseg segment."
        )
    try:
        wrapped = read_json(path, StoreError)
        content, digest = wrapped["content"], wrapped["sha256"]
    except (StoreError, KeyError) as error:
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


FORMAT_VERSION = 1
SUFFIX = ".plimseg"
_JOURNAL_INTERVAL = 1.0

TileState = Literal["done", "partial", "unreadable"]


class MaskStore:
    """Classes, confidence and probabilities of one slide on disk.

    Use `create` or `open`. One process writes at a time; any number may read.

    Attributes
    ----------
    path : Path
        The folder.
    info : MaskInfo
        Frame, classes and origin.
    layout : StoreLayout
        How it is divided into tiles.
    created : str
        ISO date and time.
    classes : zarr.Array of uint8, shape (h, w)
        Mask ids.
    confidence : zarr.Array of uint8, shape (h, w)
        Probability of the chosen class, 255 = 1.
    probabilities : zarr.Array of uint8, shape (C, h, w), or None
        Probability of each class, 255 = 1.
    """

    def __init__(
        self, path: Path, info: MaskInfo, layout: StoreLayout, created: str, *, writable: bool
    ) -> None:
        self.path = path
        self.info = info
        self.layout = layout
        self.created = created
        self.writable = writable
        self._lock = filelock.FileLock(path / ".lock")
        if writable:
            try:
                self._lock.acquire(timeout=0)
            except (filelock.Timeout, OSError) as error:
                raise StoreError(
                    "another program is writing to it or the folder is read-only",
                    path=path,
                    remedy="Close the other program, or choose another folder for the results.",
                ) from error
        try:
            mode: Literal["r", "r+"] = "r+" if writable else "r"
            self.classes = self._array("classes", info.shape, mode)
            self.confidence = self._array("confidence", info.shape, mode)
            self.probabilities = (
                self._array("probabilities", (len(info.classes), *info.shape), mode)
                if layout.has_probabilities
                else None
            )
            self._tiles = self._read_journal()
        except BaseException:
            self._lock.release()
            raise
        self._unsynced: list[TileIndex] = []
        self._journal_time = time.monotonic()

    @classmethod
    def create(cls, path: str | Path, info: MaskInfo, layout: StoreLayout) -> Self:
        """Create an empty store and open it for writing; an old store at `path` is deleted.

        Raises
        ------
        StoreError
            When the folder can't be created, the disk has too little room, or `path` is not a
            store.
        """
        path = Path(path)
        if path.exists() and not (path / "manifest.json").exists() and any(path.iterdir()):
            raise StoreError(
                "the folder holds other files", path=path, remedy="Choose an empty folder."
            )
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True, exist_ok=True)
            check_room(path, info, layout)
            shape, (height, width) = info.shape, layout.tile_shape
            create_store_array(path / "classes.zarr", shape, (height, width))
            create_store_array(path / "confidence.zarr", shape, (height, width))
            if layout.has_probabilities:
                count = len(info.classes)
                create_store_array(
                    path / "probabilities.zarr", (count, *shape), (count, height, width)
                )
            created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            _write_manifest(path, info, layout, created)
        except OSError as error:
            raise disk_error(error, path) from error
        return cls(path, info, layout, created, writable=True)

    @classmethod
    def open(cls, path: str | Path, *, writable: bool = False) -> Self:
        """Open a store.

        Raises
        ------
        StoreError
            When it is not a store, is damaged, comes from a newer version, or another process
            writes to it.
        """
        path = Path(path)
        content = read_checked(path / "manifest.json", path)
        try:
            if int(content["format"]) > FORMAT_VERSION:
                raise StoreError(
                    f"was written by a newer version ({content['software']})",
                    path=path,
                    remedy="Update napari-plimseg.",
                )
            layout = StoreLayout.from_dict(content["layout"])
            info = MaskInfo.from_dict(content["info"], path=path)
            created = str(content["created"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StoreError("its manifest is incomplete", path=path) from error
        return cls(path, info, layout, created, writable=writable)

    @property
    def tile_count(self) -> int:
        """Number of tiles of the whole slide."""
        rows, columns = (
            -(-side // tile)
            for side, tile in zip(self.info.shape, self.layout.tile_shape, strict=True)
        )
        return rows * columns

    @property
    def done_fraction(self) -> float:
        """Part of the slide's tiles that are finished as a whole, 0 to 1."""
        whole = sum(entry["state"] != "partial" for entry in self._tiles.values())
        return float(whole / self.tile_count)

    @property
    def unreadable_tiles(self) -> int:
        """Number of tiles that could not be read from the slide."""
        return sum(entry["state"] == "unreadable" for entry in self._tiles.values())

    def state(self, tile: TileIndex, region_key: str | None = None) -> TileState | None:
        """Return the state of a tile, None when it is to be computed.

        A tile that was done for another region only is to be computed.
        """
        entry = self._tiles.get(_key(tile))
        if entry is None or (entry["state"] == "partial" and entry["region"] != region_key):
            return None
        state: TileState = entry["state"]
        return state

    def write_tile(
        self,
        tile: TileIndex,
        window: Window,
        classes: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        probabilities: NDArray[np.uint8] | None,
        *,
        state: TileState = "done",
        inside: NDArray[np.bool_] | None = None,
        region_key: str | None = None,
    ) -> None:
        """Write one tile.

        Parameters
        ----------
        tile : tuple of int
            Its row and column.
        window : Window
            Its mask pixels.
        classes, confidence : ndarray of uint8, shape (h, w)
            What to write there.
        probabilities : ndarray of uint8, shape (C, h, w), optional
            Not needed where the store keeps none.
        state : {"done", "partial", "unreadable"}
            "partial" when only a region of the tile was asked for.
        inside : ndarray of bool, shape (h, w), optional
            Pixels to write; the others stay as they are.
        region_key : str, optional
            The region of a partial tile.

        Raises
        ------
        StoreError
            When the disk is full or fails; what was finished before stays.
        """
        rows, columns = window.slices
        try:
            # what is not in the journal may be half written: it counts as empty
            known = _key(tile) in self._tiles
            for array, block in (
                (self.classes, classes),
                (self.confidence, confidence),
                (self.probabilities, probabilities),
            ):
                if array is None or block is None:
                    continue
                if inside is not None:
                    old = array[(..., rows, columns)] if known else np.uint8(NOT_COMPUTED)
                    block = np.where(inside, block, old)
                array[(..., rows, columns)] = block
            self._tiles[_key(tile)] = {"state": state, "region": region_key}
            self._unsynced.append(tile)
            if time.monotonic() - self._journal_time >= _JOURNAL_INTERVAL:
                self.flush()
        except OSError as error:
            self._tiles.pop(_key(tile), None)
            raise disk_error(error, self.path) from error

    def recolor(self, classes: TissueClasses) -> None:
        """Change the colors of the classes."""
        if classes.names != self.info.classes.names:
            raise StoreError("has other classes", path=self.path)
        self.info = replace(self.info, classes=classes)
        try:
            _write_manifest(self.path, self.info, self.layout, self.created)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def flush(self) -> None:
        """Write all finished tiles durably to disk, then enter them in the journal."""
        if not self._unsynced:
            return
        try:
            for row, column in self._unsynced:
                for chunk in self._chunk_files(row, column):
                    sync_file(chunk)
            write_checked(self.path / "journal.json", self._tiles)
        except OSError as error:
            raise disk_error(error, self.path) from error
        self._unsynced.clear()
        self._journal_time = time.monotonic()

    def read_classes(self) -> NDArray[np.uint8]:
        """Return the whole mask (h, w) in memory; damaged and unfinished tiles are 0.

        Tiles that are not in the journal may be half written, so they are left out.
        """
        mask = np.full(self.info.shape, NOT_COMPUTED, np.uint8)
        for tile in self._finished():
            window = self._window(tile)
            block = self._read_chunk(self.classes, window)
            if block is not None:
                mask[window] = block
        return mask

    def forget_damaged(self) -> int:
        """Remove tiles whose chunks can't be decoded from the journal; return their number."""
        arrays = [a for a in (self.classes, self.confidence, self.probabilities) if a is not None]
        damaged = [
            tile
            for tile in self._finished()
            if any(self._read_chunk(array, self._window(tile)) is None for array in arrays)
        ]
        for tile in damaged:
            del self._tiles[_key(tile)]
        return len(damaged)

    def close(self) -> None:
        """Flush and let other processes write; closing twice is allowed."""
        try:
            if self.writable:
                self.flush()
        finally:
            self.writable = False
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _array(
        self, name: str, shape: tuple[int, ...], mode: Literal["r", "r+"]
    ) -> zarr.Array[Any]:
        path = self.path / f"{name}.zarr"
        try:
            array = zarr.open_array(path, mode=mode)
            # chunks of zeros are written too, or a lost chunk would read like a finished one
            array = array.with_config({"write_empty_chunks": True})
        except Exception as error:
            raise StoreError(
                f"'{name}' can't be opened ({type(error).__name__})",
                path=self.path,
                remedy="Delete the folder and run the segmentation again.",
            ) from error
        chunk = self.layout.tile_shape
        if (
            tuple(array.shape) != tuple(shape)
            or array.dtype != np.uint8
            or tuple(array.chunks[-2:]) != chunk
            or array.fill_value != NOT_COMPUTED
        ):
            raise StoreError(
                f"'{name}' does not fit the manifest",
                path=self.path,
                remedy="Delete the folder and run the segmentation again.",
            )
        return array

    def _read_journal(self) -> dict[str, dict[str, Any]]:
        path = self.path / "journal.json"
        if not path.exists():
            return {}
        try:
            tiles = read_checked(path, self.path)
        except StoreError:
            # a damaged journal costs time, not correctness: every tile is computed again
            return {}
        return {str(key): dict(entry) for key, entry in tiles.items()}

    def _finished(self) -> list[TileIndex]:
        return [(int(r), int(c)) for r, c in (key.split(",") for key in self._tiles)]

    def _window(self, tile: TileIndex) -> tuple[slice, slice]:
        height, width = self.layout.tile_shape
        rows, columns = self.info.shape
        y, x = tile[0] * height, tile[1] * width
        return slice(y, min(y + height, rows)), slice(x, min(x + width, columns))

    def _read_chunk(
        self, array: zarr.Array[Any], window: tuple[slice, slice]
    ) -> NDArray[np.uint8] | None:
        try:
            block: NDArray[np.uint8] = np.asarray(array[(..., *window)])
        except Exception:  # noqa: BLE001 - damaged chunks raise any exception of their codec
            return None
        row, column = (
            w.start // side for w, side in zip(window, self.layout.tile_shape, strict=True)
        )
        lead = "" if array.ndim == 2 else "0/"
        name = Path(str(array.store_path.store.root)).name  # type: ignore[attr-defined]
        present = (self.path / name / "c" / f"{lead}{row}" / str(column)).exists()
        return block if present else None

    def _chunk_files(self, row: int, column: int) -> list[Path]:
        files = [
            self.path / f"{name}.zarr" / "c" / str(row) / str(column)
            for name in ("classes", "confidence")
        ]
        if self.probabilities is not None:
            files.append(self.path / "probabilities.zarr" / "c" / "0" / str(row) / str(column))
        return files


def _write_manifest(path: Path, info: MaskInfo, layout: StoreLayout, created: str) -> None:
    content = {
        "format": FORMAT_VERSION,
        "software": f"napari-plimseg {__version__}",
        "created": created,
        "info": info.to_dict(),
        "layout": layout.to_dict(),
    }
    write_checked(path / "manifest.json", content)


def _key(tile: TileIndex) -> str:
    return f"{tile[0]},{tile[1]}"
