"""Crash-safe writing, content digests, and the folders of this package."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Iterator

APP_NAME = "napari-plimseg"
_HEAD_AND_TAIL = 4 << 20
_WHOLE_FILE_LIMIT = 64 << 20


def user_data_dir() -> Path:
    """Return the user's folder for models and results; it may not exist yet."""
    override = os.environ.get("PLIMSEG_DATA_DIR")
    return Path(override) if override else Path(platformdirs.user_data_dir(APP_NAME, False))


def user_cache_dir() -> Path:
    """Return the user's folder for data that can be computed again; it may not exist yet."""
    override = os.environ.get("PLIMSEG_CACHE_DIR")
    return Path(override) if override else Path(platformdirs.user_cache_dir(APP_NAME, False))


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the operating system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; when the block succeeds, it replaces `path`.

    Readers see the old file or the new one, never a part. On any exception, including
    `KeyboardInterrupt`, the temporary file is deleted and the old file stays.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is created when missing.

    Yields
    ------
    Path
        Where to write. It has the suffix of `path`, since some writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=".partial-", suffix="".join(path.suffixes), dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; the result follows the user's umask like other files
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a whole file as hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: str | Path) -> str:
    """Identify a slide's content quickly, as hex digits.

    Files up to 64 MiB are hashed whole; larger ones by size, head and tail, since hashing gigabytes
    takes minutes; head and tail hold the directories of all slide formats. A folder is identified
    by the names and sizes of its files.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}:{file.stat().st_size}\n".encode())
        return digest.hexdigest()
    size = path.stat().st_size
    if size <= _WHOLE_FILE_LIMIT:
        return sha256(path)
    digest.update(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_HEAD_AND_TAIL))
        stream.seek(-_HEAD_AND_TAIL, os.SEEK_END)
        digest.update(stream.read())
    return digest.hexdigest()
