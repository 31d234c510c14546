"""What a mask store writes about itself: the manifest, the metadata that it proves, the journal."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from napari_plimseg.errors import StoreError
from napari_plimseg.files import atomic_write, sync_files, write_json
from napari_plimseg.reading import parse_json, read_bytes, read_json
from napari_plimseg.results import ngff
from napari_plimseg.results.mask_info import SOFTWARE, MaskInfo
from napari_plimseg.results.store_layout import StoreLayout, grid_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_plimseg.results.store_arrays import StoreArray
    from napari_plimseg.results.store_layout import TileIndex


FORMAT_VERSION = 2
MANIFEST = "manifest.json"
START_OVER = "Delete the folder and run the segmentation again."


def write_checked(path: Path, content: Any, *, owner: str = "") -> None:
    """Write JSON with its own checksum, and perhaps whose it is, atomically."""
    body = json.dumps(content, sort_keys=True, ensure_ascii=False)
    wrapped = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "content": content}
    write_json(path, wrapped | ({"owner": owner} if owner else {}))


def read_checked(path: Path, store: Path, *, owner: str = "") -> Any:
    """Read JSON written by `write_checked`; raise StoreError when it is damaged.

    Where an owner is given, what names another one is damaged as well.
    """
    if not path.exists():
        raise StoreError(
            "is not a mask store", path=store, remedy="Choose a folder made by plimseg segment."
        )
    try:
        wrapped = read_json(path, StoreError)
        content, digest = wrapped["content"], wrapped["sha256"]
    except (StoreError, KeyError, TypeError) as error:  # TypeError: it is no object
        raise StoreError(
            f"its {path.name} is damaged",
            path=store,
            remedy=START_OVER,
        ) from error
    body = json.dumps(content, sort_keys=True, ensure_ascii=False)
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        raise StoreError(
            f"its {path.name} is damaged: the checksum does not fit",
            path=store,
            remedy=START_OVER,
        )
    if owner and wrapped.get("owner", owner) != owner:
        raise StoreError(
            f"its {path.name} is damaged: it is of another mask", path=store, remedy=START_OVER
        )
    return content


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


def check_former_array(array: StoreArray, name: str, path: Path) -> None:
    """Check the metadata of an array of format 1, which has no checksum."""
    try:
        found = read_json(array.folder / "zarr.json", StoreError)
        chunks = found["chunk_grid"]["configuration"]["chunk_shape"]
        facts = (found["shape"], chunks, found["data_type"], found["fill_value"])
    except (StoreError, KeyError, TypeError) as error:
        raise StoreError(
            f"'{name}' can't be opened ({type(error).__name__})", path=path, remedy=START_OVER
        ) from error
    if facts != (list(array.shape), list(array.chunk_shape), "uint8", ngff.FILL):
        raise StoreError(f"'{name}' does not fit the manifest", path=path, remedy=START_OVER)


class StoreManifest:
    """What `manifest.json` holds, and the `zarr.json` files that it proves.

    The metadata for other programs follows from the manifest, so it can always be written again.
    The manifest holds the checksum of every version of a file that is allowed at present. A new
    version is allowed before it is written, so that a kill in between does no harm.

    Attributes
    ----------
    path : Path
        The store's folder.
    info : MaskInfo
    layout : StoreLayout
    created : str
        ISO date and time.
    version : int
        Of the format; version 1 has no metadata to prove.
    damaged : tuple of str
        Paths, in the store, of metadata that is damaged or lost.
    """

    def __init__(
        self,
        path: Path,
        info: MaskInfo,
        layout: StoreLayout,
        created: str,
        version: int = FORMAT_VERSION,
        checksums: dict[str, list[str]] | None = None,
    ) -> None:
        self.path = path
        self.info = info
        self.layout = layout
        self.created = created
        self.version = version
        self._checksums = checksums or {}
        self.damaged: tuple[str, ...] = ()
        self._listing: set[str] = set()
        self._examine()

    @classmethod
    def create(cls, path: Path, info: MaskInfo, layout: StoreLayout, created: str) -> Self:
        """Write the manifest and the metadata of a new store into an empty folder."""
        manifest = cls(path, info, layout, created)
        files = {path / name: c for name, c in manifest._metadata(levels=False).items()}
        for file, content in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        sync_files(list(files))
        manifest._allow()
        return manifest

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the manifest of a store.

        Raises
        ------
        StoreError
            When the folder is not a store, or the manifest is damaged or of a newer version.
        """
        content = read_checked(path / MANIFEST, path)
        try:
            version = int(content["format"])
            if version > FORMAT_VERSION:
                raise StoreError(
                    f"was written by a newer version ({content['software']})",
                    path=path,
                    remedy="Update napari-plimseg.",
                )
            layout = StoreLayout.from_dict(content["layout"])
            info = MaskInfo.from_dict(content["info"], path=path)
            created = str(content["created"])
            checksums = {
                str(name): [str(value) for value in values]
                for name, values in (content["zarr"] if version > 1 else {}).items()
            }
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise StoreError("its manifest is incomplete", path=path) from error
        return cls(path, info, layout, created, version, checksums)

    @property
    def levels_listed(self) -> bool:
        """Whether all coarser levels are up to date and listed."""
        return len(self._listing) == len(_LISTS)

    def rewrite(self, info: MaskInfo | None = None) -> None:
        """Write manifest and metadata again, with another description if one is given."""
        listed = self.levels_listed
        self.info = info or self.info
        self._allow()
        if self.version > 1:
            self._write_metadata(levels=listed)

    def list_levels(self, *, on: bool) -> None:
        """List the coarser levels in the metadata, or level 0 alone, durably.

        Raises
        ------
        OSError
            When the disk is full or fails.
        """
        if self.version > 1 and (on or self._listing):
            self._write_metadata(levels=on)

    def _metadata(self, *, levels: bool) -> dict[str, bytes]:
        return ngff.store_metadata(
            self.info,
            self.layout.tile_shape,
            self.created,
            probabilities=self.layout.has_probabilities,
            levels=levels,
        )

    def _write_metadata(self, *, levels: bool) -> None:
        wanted = self._metadata(levels=levels)
        if any(_sha256(b) not in self._checksums.get(name, ()) for name, b in wanted.items()):
            self._allow()  # another version of this program makes other metadata
        for name, content in wanted.items():
            if _content(self.path / name) != content:
                with atomic_write(self.path / name) as temporary:
                    temporary.write_bytes(content)
        self._examine()

    def _allow(self) -> None:
        """Write the manifest; it allows the metadata that is here, and that of now."""
        if self.version > 1:
            allowed: dict[str, list[str]] = {}
            for levels in (False, True):
                for name, content in self._metadata(levels=levels).items():
                    found = allowed.setdefault(name, [])
                    here = _sha256(_content(self.path / name))
                    kept = [here] if here in self._checksums.get(name, ()) else []
                    found += [c for c in (_sha256(content), *kept) if c not in found]
            self._checksums = allowed
        described: dict[str, Any] = {
            "format": self.version,
            "software": SOFTWARE,
            "created": self.created,
            "info": self.info.to_dict(),
            "layout": self.layout.to_dict(),
        }
        write_checked(
            self.path / MANIFEST,
            described | ({"zarr": self._checksums} if self.version > 1 else {}),
        )

    def _examine(self) -> None:
        """Compare the metadata with its checksums."""
        here = {name: _content(self.path / name) for name in self._checksums}
        self.damaged = tuple(
            name for name, content in here.items() if _sha256(content) not in self._checksums[name]
        )
        self._listing = {
            name
            for name in _LISTS
            if name not in self.damaged and _lists_levels(here.get(name, b""))
        }


TileState = Literal["done", "partial", "unreadable"]


@dataclass(frozen=True)
class JournalEntry:
    """A finished tile.

    Parameters
    ----------
    state : {"done", "partial", "unreadable"}
    region : str or None
        The region of a partial tile.
    crc : tuple of str or None
        Checksum of its chunk in each array; None while they are being replaced, and in format 1.
    """

    state: TileState
    region: str | None = None
    crc: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        entry: dict[str, Any] = {"state": self.state, "region": self.region}
        return entry if self.crc is None else entry | {"crc": " ".join(self.crc)}


class StoreJournal:
    """The finished tiles of a store.

    Parameters
    ----------
    path : Path
        The store's folder.
    info, layout
        Of the store.
    arrays : mapping of str to StoreArray
        Its arrays.

    Attributes
    ----------
    lost : bool
        Whether the file is lost or damaged, so that it is not known what was finished.
    """

    def __init__(
        self,
        path: Path,
        info: MaskInfo,
        layout: StoreLayout,
        arrays: Mapping[Any, StoreArray],
    ) -> None:
        self._store = path
        self._file = path / "journal.json"
        self._arrays = tuple(arrays.values())
        self._grid = grid_shape(info, layout)
        # the journal and the chunks of another mask prove each other
        about = (info.slide_fingerprint, info.model_identity, layout.recipe)
        self._owner = _sha256(json.dumps(about).encode())
        self._pending: list[TileIndex] = []
        self._written = time.monotonic()
        self._read()

    def __len__(self) -> int:
        return len(self._tiles)

    def __contains__(self, tile: TileIndex) -> bool:
        return tile in self._tiles

    @property
    def age(self) -> float:
        """Seconds since the journal was written."""
        return time.monotonic() - self._written

    def get(self, tile: TileIndex) -> JournalEntry | None:
        """Return the entry of a tile."""
        return self._tiles.get(tile)

    def count(self, state: TileState) -> int:
        """Return the number of tiles in a state."""
        return sum(entry.state == state for entry in self._tiles.values())

    def finished(self) -> list[TileIndex]:
        """Return the finished tiles."""
        return list(self._tiles)

    def proves(self, tile: TileIndex, place: int, checksum: str) -> bool:
        """Whether a chunk is the one that was written, and no older or other one.

        Parameters
        ----------
        tile : tuple of int
        place : int
            Number of the array.
        checksum : str
            Of the chunk's file.
        """
        entry = self._tiles.get(tile)
        return entry is None or entry.crc is None or entry.crc[place] == checksum

    def expect(self, tile: TileIndex) -> None:
        """Note, durably, that the chunks of a finished tile are being replaced."""
        entry = self._tiles.get(tile)
        if entry is not None and entry.crc is not None and tile not in self._pending:
            self._tiles[tile] = replace(entry, crc=None)
            self._write()

    def add(self, tile: TileIndex, entry: JournalEntry) -> None:
        """Enter a tile whose chunks are written; `flush` makes it durable."""
        self._tiles[tile] = entry
        self._pending.append(tile)

    def forget(self, tiles: Iterable[TileIndex]) -> None:
        """Remove tiles."""
        for tile in tiles:
            self._tiles.pop(tile, None)

    def flush(self) -> None:
        """Write chunks that are not durable yet, then the journal.

        Raises
        ------
        OSError
            When the disk is full or fails.
        """
        if self._pending:
            self._write()

    def was_renewed(self) -> bool:
        """Read the journal again if another process has written it since."""
        if _identity(self._file) == self._identity:
            return False
        self._read()
        return True

    def _write(self) -> None:
        sync_files([array.file(tile) for tile in self._pending for array in self._arrays])
        write_checked(
            self._file,
            {f"{row},{column}": e.to_dict() for (row, column), e in self._tiles.items()},
            owner=self._owner,
        )
        self.lost = False
        self._pending.clear()
        self._written = time.monotonic()

    def _read(self) -> None:
        self._identity = _identity(self._file)
        self._tiles: dict[TileIndex, JournalEntry] = {}
        self.lost = False
        former = any(array.check == "zstd" for array in self._arrays)
        if former and not self._file.exists():
            # format 1 had no journal until the first tiles of a run were finished
            self.lost = any((array.folder / "c").exists() for array in self._arrays)
            return
        try:
            content = read_checked(self._file, self._store, owner=self._owner)
            self._tiles = {self._tile(k): self._entry(e) for k, e in content.items()}
        except (StoreError, AttributeError, KeyError, TypeError, ValueError):
            self.lost = True

    def _tile(self, key: str) -> TileIndex:
        row, column = (int(part) for part in key.split(","))
        if not (0 <= row < self._grid[0] and 0 <= column < self._grid[1]):
            raise ValueError(key)
        return row, column

    def _entry(self, data: Mapping[str, Any]) -> JournalEntry:
        state, region, crc = data["state"], data["region"], data.get("crc")
        parts = None if crc is None else tuple(crc.split(" "))
        if (
            state not in get_args(TileState)
            or not isinstance(region, str | None)
            or (parts is not None and len(parts) != len(self._arrays))
        ):
            raise ValueError(state)
        return JournalEntry(state, region, parts)


_LISTS = ("zarr.json", "labels/classes/zarr.json", "labels/confidence/zarr.json")


def _content(path: Path) -> bytes:
    """Return the content of a file of metadata; empty when it can't be read."""
    try:
        return read_bytes(path, StoreError, limit="header-bytes")
    except StoreError:
        return b""


def _lists_levels(content: bytes) -> bool:
    """Whether a `zarr.json` of a group lists more than one level of its image."""
    try:
        ome = parse_json(content, StoreError)["attributes"]["ome"]
        return len(ome["multiscales"][0]["datasets"]) > 1
    except (StoreError, KeyError, TypeError, IndexError):
        return False


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None when there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
