"""`MaskStore`: a mask on disk that survives a crash, resumes, and detects damage.

A store is a folder, `<stem>.plimseg`. It is a valid OME-Zarr (OME-NGFF 0.5) image with labels:

`manifest.json`
    The `MaskInfo`, the layout, the recipe, and the checksum of each `zarr.json`.
`labels/classes`, `labels/confidence`, `probabilities`
    Images of the standard. Their array `0` has one chunk per tile, so that a tile is written
    without reading its neighbors and a lost file costs one tile. Each chunk ends with its CRC-32C,
    so that a flipped bit is an error and not a class.
`labels/*/1`, `labels/*/2`, ...
    Coarser levels for other programs. They are made when a run ends. While level 0 changes, the
    metadata lists level 0 alone, so that nobody sees older ones.
`journal.json`
    The finished tiles and the checksums of their chunks. A tile enters it only after its chunks are
    durably on disk; tiles that are not in the journal are computed again. Without it, a chunk that
    a crash left half written would look finished. An empty one is written with the store, so a
    journal that is not there is damage.

Stores of format 1 hold the arrays as `classes.zarr`, `confidence.zarr` and `probabilities.zarr`,
with checksums inside of the chunks. They are read, resumed and written as they are.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import filelock
import numpy as np

from napari_plimseg.errors import DamagedStoreError, StoreError, named_path, user_path
from napari_plimseg.files import (
    access_errors,
    sweep,
    sync_files,
    sync_folder,
    temporary_prefix,
)
from napari_plimseg.results import ngff
from napari_plimseg.results.class_edits import ClassEdits
from napari_plimseg.results.store_arrays import (
    StoreArray,
    overlap,
    tiles_of,
    update_levels,
    within,
)
from napari_plimseg.results.store_damage import StoreDamage
from napari_plimseg.results.store_layout import StoreLayout, tile_total
from napari_plimseg.results.store_manifest import (
    JournalEntry,
    StoreJournal,
    StoreManifest,
    TileState,
    check_former_array,
    disk_error,
    write_checked,
)
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.store_layout import TileIndex, Window


DISK_RESERVE = 200 << 20
"""Bytes that a run leaves free on the disk."""


def check_room(path: Path, info: MaskInfo, layout: StoreLayout) -> None:
    """Raise StoreError when the disk has too little room for a mask."""
    planes = 2 + (len(info.classes) if layout.has_probabilities else 0)
    # classes compress many times, probabilities about twice; half of the raw size is enough
    needed = info.shape[0] * info.shape[1] * planes // 2 + DISK_RESERVE
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreError(
            f"the disk has {free >> 20} MB free and this mask may need {needed >> 20} MB",
            path=path,
            remedy="Free some space or choose another folder for the results.",
        )


SUFFIX = ".plimseg"
_JOURNAL_INTERVAL = 1.0
_RUN_AGAIN = (
    "Run the segmentation again: only these parts are computed. "
    "Or take them as unreadable: --allow-damaged, allow_damaged=True in Python."
)

ArrayName = Literal["classes", "confidence", "probabilities"]
_LEVELED: tuple[ArrayName, ...] = ("classes", "confidence")


class MaskStore:
    """Classes, confidence and probabilities of one slide on disk.

    Use `create` or `open`. One process writes at a time; any number may read. What is read is
    checked: a finished tile that is damaged or lost raises DamagedStoreError.

    Attributes
    ----------
    path : Path
        The folder.
    layout : StoreLayout
        How it is divided into tiles.
    created : str
        ISO date and time.
    version : int
        Of the format.
    dropped : StoreDamage
        What `forget_damaged` removed; false when it was nothing.
    """

    def __init__(self, manifest: StoreManifest, *, writable: bool) -> None:
        self.path = path = manifest.path
        self.layout = manifest.layout
        self.created = manifest.created
        self.version = manifest.version
        self.writable = writable
        self._manifest = manifest
        self.dropped = StoreDamage(self.info, self.layout)
        self._lock = filelock.FileLock(path / ".lock")
        if writable:
            try:
                self._lock.acquire(timeout=0)
            except (filelock.Timeout, OSError) as error:
                raise _other_writer(path) from error
            sweep(path, deep=True)
        try:
            self._arrays = _arrays_of(path, self.info, self.layout, self.version)
            self._journal = StoreJournal(path, self.info, self.layout, self._arrays)
        except BaseException:
            self._lock.release()
            raise
        self._damaged: dict[ArrayName, set[TileIndex]] = {name: set() for name in self._arrays}
        self._changed: set[TileIndex] = set()
        self._levels_were_listed = manifest.levels_listed

    @classmethod
    def create(cls, path: str | Path, info: MaskInfo, layout: StoreLayout) -> Self:
        """Create an empty store and open it for writing; an old store at `path` is deleted.

        It appears as a whole, so that a crash leaves the old store or the new one.

        Raises
        ------
        StoreError
            When the folder can't be created, the disk has too little room, `path` is not a
            store, or another process writes to it.
        """
        path = Path(path)
        replaced = path.exists()
        if replaced and not (path / "manifest.json").exists() and any(path.iterdir()):
            remedy = "Choose an empty folder."
            raise StoreError("the folder holds other files", path=path, remedy=remedy)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_room(path, info, layout)
            with tempfile.TemporaryDirectory(
                prefix=temporary_prefix("partial"), dir=path.parent, ignore_cleanup_errors=True
            ) as outer:
                folder = Path(outer) / path.name
                folder.mkdir()
                write_checked(folder / "journal.json", {})
                StoreManifest.create(folder, info, layout, created)
                if replaced:
                    _keep_class_edits(path, folder, info)
                    _delete_store(path)
                folder.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            raise disk_error(error, path) from error
        return cls(StoreManifest.read(path), writable=True)

    @classmethod
    def open(cls, path: str | Path, *, writable: bool = False) -> Self:
        """Open a store.

        Raises
        ------
        StoreError
            When it is not a store, is damaged as a whole, comes from a newer version, or another
            process writes to it. Damaged parts are noticed when they are read.
        """
        path = named_path(user_path(path))  # corrections are searched beside it
        with access_errors(path, StoreError):
            manifest = StoreManifest.read(path)
            if manifest.damaged:
                # another process may have replaced the manifest and the metadata meanwhile
                manifest = StoreManifest.read(path)
        return cls(manifest, writable=writable)

    @property
    def info(self) -> MaskInfo:
        """Frame, classes and origin."""
        return self._manifest.info

    @property
    def class_edits(self) -> ClassEdits:
        """What a person changed about the classes; StoreError when that is damaged."""
        return ClassEdits.read(self.path, self.info.classes)

    @property
    def tile_count(self) -> int:
        """Number of tiles of the whole slide."""
        return tile_total(self.info, self.layout)

    @property
    def done_fraction(self) -> float:
        """Part of the slide's tiles that are finished as a whole, 0 to 1."""
        return (len(self._journal) - self._journal.count("partial")) / self.tile_count

    @property
    def unreadable_tiles(self) -> int:
        """Number of tiles that could not be read from the slide."""
        return self._journal.count("unreadable")

    def state(self, tile: TileIndex, region_key: str | None = None) -> TileState | None:
        """Return the state of a tile, None when it is to be computed.

        A tile that was done for another region only is to be computed.
        """
        entry = self._journal.get(tile)
        if entry is None or (entry.state == "partial" and entry.region != region_key):
            return None
        return entry.state

    def has(self, tile: TileIndex) -> bool:
        """Whether a tile was computed, at least for some region."""
        return tile in self._journal

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
        blocks = {"classes": classes, "confidence": confidence, "probabilities": probabilities}
        try:
            self._manifest.list_levels(on=False)
            # a kill must not leave a new chunk and the checksum of the old one
            self._journal.expect(tile)
            checksums = []
            for name, array in self._arrays.items():
                block = blocks[name]
                if block is None:
                    raise StoreError(f"the tile {tile} has no {name}", path=self.path)
                if inside is not None:
                    # what is not in the journal may be half written: it counts as empty
                    old = self._chunk(name, tile) if tile in self._journal else None
                    height, width = inside.shape
                    kept = np.uint8(NOT_COMPUTED) if old is None else old[..., :height, :width]
                    block = np.where(inside, block, kept)
                checksums.append(array.write(tile, block))
            crc = tuple(checksums) if self.version > 1 else None
            self._journal.add(tile, JournalEntry(state, region_key, crc))
            for damaged in self._damaged.values():
                damaged.discard(tile)
            self._changed.add(tile)
            if self._journal.age >= _JOURNAL_INTERVAL:
                self.flush()
        except OSError as error:
            self._journal.forget([tile])
            raise disk_error(error, self.path) from error

    def describe(self, info: MaskInfo) -> None:
        """Change the description of the mask: the colors of the classes, or notes."""
        if info.classes.names != self.info.classes.names:
            raise StoreError("has other classes", path=self.path)
        try:
            self._manifest.rewrite(info)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def flush(self) -> None:
        """Write all finished tiles durably to disk, then enter them in the journal."""
        try:
            self._journal.flush()
        except OSError as error:
            raise disk_error(error, self.path) from error

    def read(
        self,
        name: ArrayName,
        rows: slice,
        columns: slice,
        *,
        step: int = 1,
        channel: int | None = None,
        allow_damaged: bool = False,
    ) -> NDArray[np.uint8]:
        """Return a part of an array, every chunk of it checked.

        Parameters
        ----------
        name : {"classes", "confidence", "probabilities"}
            Mask ids; the probability of the chosen class; that of each class (255 = 1).
        rows, columns : slice
            Start and stop in mask pixels; what is beyond the mask is left out.
        step : int
            Every `step`-th pixel is returned.
        channel : int, optional
            The class whose probability is returned, from 0; all when None.
        allow_damaged : bool
            Whether tiles that are damaged or lost read as 255, "unreadable", in the classes, and
            as 0 elsewhere; otherwise they are an error. When the journal is lost, every chunk that
            can be read is returned.

        Returns
        -------
        ndarray of uint8, shape (h, w), or (C, h, w) for all probabilities
            0 where nothing is computed.

        Raises
        ------
        DamagedStoreError
            When a tile that was finished is damaged or lost, or the journal or metadata is.
        StoreError
            When the store keeps no probabilities.
        """
        array = self._arrays.get(name)
        if array is None:
            raise StoreError(f"keeps no {name}", path=self.path)
        if not allow_damaged:
            self._refuse(StoreDamage(self.info, self.layout, (), *self._damaged_as_a_whole))
        rows, columns = map(within, (rows, columns), self.info.shape)
        lead = array.shape[:-2] if channel is None else ()
        sides = (-(-(part.stop - part.start) // step) for part in (rows, columns))
        out = np.full((*lead, *sides), NOT_COMPUTED, np.uint8)
        damaged: list[TileIndex] = []
        height, width = self.layout.tile_shape
        for tile in tiles_of(rows, columns, self.layout.tile_shape):
            if tile not in self._journal and not (self._journal.lost and array.file(tile).exists()):
                continue
            to_rows, from_rows = overlap(rows, tile[0] * height, height, step)
            to_columns, from_columns = overlap(columns, tile[1] * width, width, step)
            block = self._chunk(name, tile)
            if block is None:
                damaged.append(tile)
                out[..., to_rows, to_columns] = UNREADABLE if name == "classes" else 0
            else:
                part = block if channel is None else block[channel]
                out[..., to_rows, to_columns] = part[..., from_rows, from_columns]
        if damaged and not allow_damaged:
            self._refuse(StoreDamage(self.info, self.layout, ((name, tuple(damaged)),)))
        return out

    def read_classes(self, *, allow_damaged: bool = False) -> NDArray[np.uint8]:
        """Return the whole mask (h, w) in memory; what is not finished is 0. See `read`.

        Tiles that are not in the journal may be half written, so they are left out.
        """
        height, width = self.info.shape
        return self.read("classes", slice(0, height), slice(0, width), allow_damaged=allow_damaged)

    def damage(self) -> StoreDamage:
        """Check every finished tile of every array, and the metadata; return what is damaged."""
        for tile in self._journal.finished():
            for place, (name, array) in enumerate(self._arrays.items()):
                checksum = array.checksum(tile)
                if checksum is None or not self._journal.proves(tile, place, checksum):
                    self._chunk(name, tile)
        return self.found_damage

    @property
    def found_damage(self) -> StoreDamage:
        """What was found to be damaged so far, by opening and by reading."""
        tiles = tuple((name, tuple(sorted(found))) for name, found in self._damaged.items())
        return StoreDamage(self.info, self.layout, tiles, *self._damaged_as_a_whole)

    def check(self) -> None:
        """Raise DamagedStoreError when anything in the store is damaged; see `damage`."""
        self._refuse(self.damage())

    def forget_damaged(self) -> int:
        """Forget tiles that are damaged, so that they are computed again; return their number.

        `dropped` says what it was. In a store open for writing, damaged metadata is written again.
        """
        self.dropped = self.damage()
        self._journal.forget(self.dropped.damaged_tiles)
        self._journal.lost = False
        self._changed |= self.dropped.damaged_tiles
        for found in self._damaged.values():
            found.clear()
        if self.writable and self._manifest.damaged:
            try:
                self._manifest.rewrite()
            except OSError as error:
                raise disk_error(error, self.path) from error
        return len(self.dropped.damaged_tiles)

    def close(self, *, levels: bool = True) -> None:
        """Flush and let other processes write; closing twice is allowed.

        Parameters
        ----------
        levels : bool
            Whether coarser levels, which other programs read, are brought up to date.
        """
        try:
            if self.writable:
                self.flush()
                if levels:
                    self._complete_levels()
        finally:
            self.writable = False
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(levels=kind is None)  # whoever stops a run should not wait

    @property
    def _damaged_as_a_whole(self) -> tuple[bool, tuple[str, ...]]:
        return self._journal.lost, self._manifest.damaged

    def _refuse(self, damage: StoreDamage) -> None:
        if damage:
            raise DamagedStoreError(damage.sentence, path=self.path, remedy=_RUN_AGAIN)

    def _chunk(self, name: ArrayName, tile: TileIndex) -> NDArray[np.uint8] | None:
        """Return the chunk of a tile; None, and noted, when it is damaged or lost."""
        array, place = self._arrays[name], list(self._arrays).index(name)
        while True:
            found = array.read(tile)
            if found is not None and self._journal.proves(tile, place, found[1]):
                return found[0]
            # another process may have written the tile since the journal was read
            if self.writable or not self._journal.was_renewed():
                self._damaged[name].add(tile)
                return None

    def _complete_levels(self) -> None:
        """Bring the coarser levels up to date, and list them."""
        levels = ngff.levels_of(self.info.shape)
        if self.version == 1 or len(levels) == 1 or not len(self._journal):
            return
        if self._manifest.levels_listed and not self._changed:
            return
        # levels that were up to date need only what has changed since
        changed = self._changed if self._levels_were_listed else set(self._journal.finished())
        written: list[Path] = []
        try:
            self._manifest.list_levels(on=False)
            for name in _LEVELED:
                written += update_levels(
                    self.path / "labels" / name,
                    levels,
                    partial(self.read, name, allow_damaged=True),
                    changed,
                    self.layout.tile_shape,
                )
            sync_files(written)
            self._manifest.list_levels(on=True)
        except OSError:
            # the disk may be full: everything computed is safe, and level 0 alone is valid
            return
        self._levels_were_listed = True
        self._changed.clear()


def mask_to_export(
    store: MaskStore, *, allow_damaged: bool = False
) -> tuple[NDArray[np.uint8], MaskInfo]:
    """Return the whole mask of a store (h, w), and its description with what is damaged.

    The classes are those of the person who edited them, see `ClassEdits`.

    Exports of masks come after this, so that nobody takes a damaged one for a whole one.

    Parameters
    ----------
    store : MaskStore
    allow_damaged : bool
        Whether damaged parts are exported as unreadable.

    Raises
    ------
    DamagedStoreError
        When any part of the store is damaged, and that is not allowed.
    StoreError
        When the edits of its classes are damaged.
    """
    if allow_damaged:
        store.damage()
    else:
        store.check()
    mask = store.read_classes(allow_damaged=allow_damaged)
    edits = store.class_edits
    info = replace(edits.described(store.info), damage=store.found_damage.sentence)
    return edits.applied(mask), info


def _arrays_of(
    path: Path, info: MaskInfo, layout: StoreLayout, version: int
) -> dict[ArrayName, StoreArray]:
    """Return the arrays of a store by name, in the order of the checksums in the journal."""
    names: list[ArrayName] = ["classes", "confidence"]
    if layout.has_probabilities:
        names.append("probabilities")
    arrays = {}
    for name in names:
        lead = (len(info.classes),) if name == "probabilities" else ()
        shape = (*lead, *info.shape)
        if version == 1:
            folder = path / f"{name}.zarr"
            arrays[name] = StoreArray(folder, shape, layout.tile_shape, "zstd")
            check_former_array(arrays[name], name, path)
        else:
            folder = path / ("" if lead else "labels") / name / "0"
            arrays[name] = StoreArray(folder, shape, layout.tile_shape)
    return arrays


def _keep_class_edits(old: Path, new: Path, info: MaskInfo) -> None:
    """Copy what a person said about the classes, if the new mask has the same ones."""
    with contextlib.suppress(StoreError):
        edits = ClassEdits.read(old, info.classes)
        if edits != ClassEdits.of(info.classes):
            edits.write(new)


def delete_store(path: Path) -> None:
    """Delete a mask store; corrections of its slide are kept.

    Raises
    ------
    StoreError
        When a run is writing to it, it is no store, or the folder is read-only.
    """
    StoreManifest.read(path)
    try:
        _delete_store(path)
    except OSError as error:
        raise disk_error(error, path) from error


def _delete_store(path: Path) -> None:
    """Delete a store, unless another process writes to it; an empty folder is no store."""
    lock = filelock.FileLock(path / ".lock")
    try:
        if any(path.iterdir()):
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise _other_writer(path) from error
    finally:
        lock.release()
    # what is deleted only in part would neither open nor be replaced
    doomed = Path(tempfile.mkdtemp(prefix=temporary_prefix("removed"), dir=path.parent))
    path.rename(doomed / path.name)
    shutil.rmtree(doomed, ignore_errors=True)


def _other_writer(path: Path) -> StoreError:
    return StoreError(
        "another program is writing to it or the folder is read-only",
        path=path,
        remedy="Close the other program, or choose another folder for the results.",
    )
