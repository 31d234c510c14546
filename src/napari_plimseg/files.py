"""Crash-safe writing, what a killed process leaves behind, and the folders of this package."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_plimseg.errors import DiskError, PlimsegError, access_problem, user_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

APP_NAME = "napari-plimseg"
_DAY = 24 * 3600
_SWEEP_INTERVAL = 60.0
_TEMPORARY = re.compile(
    r"(?:\.(?:partial|import|removed|labels)-|plimseg-(?=[0-9a-f]{8}-\d+-))"
    r"(?:(?P<place>[0-9a-f]{8})-(?P<process>\d+)-)?.+"
    r"|.+\.[0-9a-f]{32}\.partial"  # zarr's
)
_last_sweeps: dict[Path, float] = {}


def user_data_dir() -> Path:
    """Return the user's folder for models and results; it may not exist yet."""
    override = os.environ.get("PLIMSEG_DATA_DIR")
    return user_path(override) if override else Path(platformdirs.user_data_dir(APP_NAME, False))


def user_cache_dir() -> Path:
    """Return the user's folder for data that can be computed again; it may not exist yet."""
    override = os.environ.get("PLIMSEG_CACHE_DIR")
    return user_path(override) if override else Path(platformdirs.user_cache_dir(APP_NAME, False))


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the operating system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(paths: Collection[Path]) -> None:
    """Write files and their directory entries durably to disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder in {path.parent for path in paths}:
        sync_folder(folder)


def temporary_prefix(kind: str) -> str:
    """Return how the names of a process's temporary files begin, so that `sweep` knows the owner.

    Parameters
    ----------
    kind : {"partial", "import", "labels", "removed"}
        A file being written, a folder being imported, labels being written into a slide, or a
        folder being deleted.
    """
    return f".{kind}-{_owner()}-"


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is not complete yet, or is being deleted."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path, *, deep: bool = False, exclusive: bool = False) -> None:
    """Delete the temporary files and folders that killed processes left in a folder.

    Those of living processes are kept: a file whose owner is unknown, such as one of another
    computer, is deleted a day after its last change. Parts of downloads are no leftovers.

    Parameters
    ----------
    folder : Path
        Nothing happens when it does not exist; what can't be deleted is kept.
    deep : bool
        Also look into its subfolders.
    exclusive : bool
        Whether a lock keeps other processes from writing there: then every such file is a leftover.
    """
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        with contextlib.suppress(OSError):
            is_folder = entry.is_dir(follow_symlinks=False)
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None:
                if deep and is_folder:
                    sweep(Path(entry.path), deep=True, exclusive=exclusive)
            elif exclusive or _is_abandoned(entry, match):
                if is_folder:
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink()


def _is_abandoned(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    if match["place"] == _place() and os.name != "nt":
        try:
            os.kill(int(match["process"]), 0)  # sends nothing; on Windows it would end the process
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # it lives, as another user
        return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY


def _owner() -> str:
    return f"{_place()}-{os.getpid()}"


@functools.cache
def _place() -> str:
    """Return hex digits of this computer, or of the container, in which process ids are unique."""
    place = platform.node()
    with contextlib.suppress(OSError):
        place += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _sweep_now_and_then(folder: Path) -> None:
    now = time.monotonic()
    if now - _last_sweeps.get(folder, -_SWEEP_INTERVAL) >= _SWEEP_INTERVAL:
        _last_sweeps[folder] = now
        sweep(folder)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; when the block succeeds, it replaces `path`.

    Readers see the old file or the new one, never a part. On any exception, including
    `KeyboardInterrupt`, the temporary file is deleted and the old file stays. What a killed process
    left in the folder is deleted by a later write.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is created when missing.

    Yields
    ------
    Path
        Where to write. It has the suffix of `path`, since some writers choose the format by it.

    Raises
    ------
    DiskError
        When the disk is full or refuses, whatever library notices it.
    """
    path = Path(path)
    with disk_errors(path), _replacing(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_now_and_then(path.parent)
        handle, name = tempfile.mkstemp(
            prefix=temporary_prefix("partial"), suffix="".join(path.suffixes), dir=path.parent
        )
        temporary = Path(name)
        os.close(handle)
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
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an error of the system inside the block into one that names the file.

    Raises
    ------
    DiskError
        When the disk is full or refuses, whatever library notices it.
    """
    try:
        yield
    except Exception as error:
        code = _system_code(error)
        if code is None or isinstance(error, PlimsegError):
            raise
        raise DiskError(code, path=path) from error


@contextlib.contextmanager
def access_errors(path: str | Path, error_class: type[PlimsegError]) -> Iterator[None]:
    """Turn what the system refuses inside the block into an error that names the file.

    Already asking whether a file exists is refused where its folder may not be entered.

    Raises
    ------
    PlimsegError
        Of the given class, with the cause and what to do.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, PlimsegError):
            raise
        problem, remedy = access_problem(error)
        raise error_class(problem, path=path, remedy=remedy) from error


def _system_code(error: BaseException) -> int | None:
    """Return the system's `errno` behind an error; None when the system is not to blame."""
    if isinstance(error, OSError):
        return error.errno
    # safetensors only puts it into the text
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder that is deleted afterwards; by a later call if this process is killed.

    It is in the system's folder for temporary files, and only this user can read it.
    """
    sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"plimseg-{_owner()}-") as name:
        yield Path(name)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a whole file as hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
