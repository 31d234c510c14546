"""Fingerprints: what identifies a slide by its content."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.files import is_temporary, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator


_HEAD_AND_TAIL = 4 << 20
_WHOLE_FILE_LIMIT = 64 << 20
# of folders: a few hundred reads take milliseconds, and hundreds of thousands would take minutes
_WHOLE_FOLDER_FILES = 512
_SAMPLED_FILES = 96
_SAMPLE = 4 << 10
_METADATA_LIMIT = 1 << 20
_ZARR_GROUP = frozenset({".zgroup", ".zattrs", "zarr.json"})
_METADATA = frozenset({*_ZARR_GROUP, ".zarray", ".zmetadata", "dicomdir"})
_METADATA_SUFFIXES = (".ini", ".xml", ".json", ".txt")


def fingerprint(path: str | Path) -> str:
    """Identify a slide's content quickly, as hex digits.

    Files up to 64 MiB are hashed whole; larger ones by size, head and tail, since hashing gigabytes
    takes minutes; head and tail hold the directories of all slide formats.

    A folder is identified by the names and sizes of its files, the content of all metadata files,
    and samples of the others: the head, the middle and the tail of files chosen evenly over the
    folder. Small folders are hashed whole. The `labels` of an OME-Zarr image are left out: they are
    not part of the image, and results may be written there. A MIRAX slide is its file and the
    folder beside it.

    Raises
    ------
    SlideError
        When it can't be read, or can't be read any more.
    """
    path = Path(path)
    with _read_errors_told(path):
        if path.is_dir():
            return _folder_fingerprint(path)
        beside = _mirax_folder(path)
        if beside is None:
            return _file_fingerprint(path)
        whole = _file_fingerprint(path) + _folder_fingerprint(beside)
        return hashlib.sha256(whole.encode()).hexdigest()


def former_fingerprints(path: str | Path) -> tuple[str, ...]:
    """Return the fingerprints that version 0.1 could have given a slide; none if unchanged since.

    It identified folders by names and sizes only, labels included, and MIRAX slides by their file.

    Raises
    ------
    SlideError
        As `fingerprint` does.
    """
    path = Path(path)
    found = []
    with _read_errors_told(path):
        if not path.is_dir():
            return () if _mirax_folder(path) is None else (_file_fingerprint(path),)
        for with_labels in (True, False):
            digest = hashlib.sha256()
            files = _files(path, with_labels=with_labels)
            for parts, size in sorted(files, key=lambda file: [*map(os.path.normcase, file[0])]):
                digest.update(_line(str(Path(*parts)), size))
            found.append(digest.hexdigest())
    return tuple(dict.fromkeys(found))


def is_fingerprint_of(digest: str, path: str | Path) -> bool:
    """Whether a fingerprint is that of a slide, as this or an earlier version computed it."""
    return digest == fingerprint(path) or digest in former_fingerprints(path)


@contextlib.contextmanager
def _read_errors_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SlideError(
            f"it can't be read ({error.strerror or error})",
            path=path,
            remedy="Check the drive and the connection, and try again.",
        ) from error


def _file_fingerprint(path: Path) -> str:
    size = path.stat().st_size
    if size <= _WHOLE_FILE_LIMIT:
        return sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_HEAD_AND_TAIL))
        stream.seek(-_HEAD_AND_TAIL, os.SEEK_END)
        digest.update(stream.read())
    return digest.hexdigest()


def _folder_fingerprint(path: Path) -> str:
    files = sorted(_files(path, with_labels=False))
    digest = hashlib.sha256(b"folder, sampled\n")
    for parts, size in files:
        digest.update(_line("/".join(parts), size))
    data = [i for i, (parts, _) in enumerate(files) if not _is_metadata(parts[-1])]
    if len(files) <= _WHOLE_FOLDER_FILES and sum(s for _, s in files) <= _WHOLE_FILE_LIMIT:
        sampled, most = set(data), _WHOLE_FILE_LIMIT
    else:
        count = min(len(data), _SAMPLED_FILES)
        sampled, most = {data[k * len(data) // count] for k in range(count)}, 3 * _SAMPLE
    for i, (parts, size) in enumerate(files):
        if _is_metadata(parts[-1]):
            digest.update(_parts_of(path.joinpath(*parts), size, _METADATA_LIMIT))
        elif i in sampled:
            digest.update(_parts_of(path.joinpath(*parts), size, most))
    return digest.hexdigest()


def _line(name: str, size: int) -> bytes:
    return f"{name}:{size}\n".encode(errors="surrogateescape")


def _parts_of(path: Path, size: int, most: int) -> bytes:
    """Return a file's content, or the same amount of its head, middle and tail if it is larger."""
    try:
        with path.open("rb") as stream:
            if size <= most:
                return stream.read(most)
            content = []
            for start in (0, (size - most // 3) // 2, size - most // 3):
                stream.seek(start)
                content.append(stream.read(most // 3))
            return b"".join(content)
    except OSError:
        return b"unreadable"  # the run will report the tiles that it costs


def _files(folder: Path, *, with_labels: bool) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the path (as parts) and the size of each file of a folder, in no special order."""
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(folder.joinpath(*above)) as entries:
                found = list(entries)
        except OSError:
            continue  # as if it were empty, so that a slide that can be shown has an identity
        is_image = not with_labels and not _ZARR_GROUP.isdisjoint(e.name for e in found)
        for entry in found:
            if is_temporary(entry.name) or (is_image and entry.name == "labels"):
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((*above, entry.name))
                elif entry.is_file():
                    yield (*above, entry.name), entry.stat().st_size


def _is_metadata(name: str) -> bool:
    lower = name.lower()
    return lower in _METADATA or lower.endswith(_METADATA_SUFFIXES)


def _mirax_folder(path: Path) -> Path | None:
    folder = path.with_suffix("")
    return folder if path.suffix.lower() == ".mrxs" and folder.is_dir() else None
