"""The network: downloads, only on request, resumable and checked; and `offline` for all else.

`hf_hub_download` of huggingface_hub downloads a file in one blocking call. Here a download is
a generator, which yields its progress and is cancelled by closing it. Session, headers and metadata
are those of huggingface_hub's public functions.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_plimseg.errors import ModelError
from napari_plimseg.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence


HUB_PAGE = "https://huggingface.co"
PART_SUFFIX = ".part"
CHUNK = 1 << 20
DISK_RESERVE = 200 << 20
"""Bytes that stay free on the disk."""
_REPORT_BYTES = 4 << 20


_OFFLINE_NAMES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_CONNECTING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_thread = threading.local()


def _depth() -> int:
    """Return how many blocks of `offline` this thread is in."""
    return int(getattr(_thread, "offline", 0))


class _HubSwitch:
    """Turns huggingface_hub off while models are loaded, and lets downloads wait for that.

    Its switch is one for the whole process, but a download may run beside the loading of a model:
    requests of a download begin only while nothing is loaded, and the other way round.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._loads = self._requests = 0
        self._before: dict[str, str | None] = {}

    def enter_load(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._requests)
            self._loads += 1
            if self._loads == 1:
                self._before = {name: os.environ.get(name) for name in _OFFLINE_NAMES}
                os.environ.update(dict.fromkeys(_OFFLINE_NAMES, "1"))
                self._set_constant(True)

    def leave_load(self) -> None:
        with self._changed:
            self._loads -= 1
            if not self._loads:
                for name, value in self._before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
                wanted = any(
                    (value or "").upper() in ("1", "ON", "YES", "TRUE")
                    for value in self._before.values()
                )
                self._set_constant(wanted)
                self._changed.notify_all()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        if _depth():
            raise ConnectionError("the network is not used while a model is loaded")
        with self._changed:
            self._changed.wait_for(lambda: not self._loads)
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                self._changed.notify_all()

    @staticmethod
    def _set_constant(value: bool) -> None:
        # read once at import; a first import while models are loaded must not last
        constants = sys.modules.get("huggingface_hub.constants")
        if constants is not None:
            constants.HF_HUB_OFFLINE = value  # type: ignore[attr-defined]


_hub = _HubSwitch()


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Forbid the network to this thread, and to the libraries of the hub, inside of a block.

    It encloses each loading of a model: only a click on *Download* or `plimseg models download`
    connects.

    Raises
    ------
    ConnectionError
        From a connection or a look-up of a host's name that is tried inside.
    """
    _watch_connections()
    depth = _depth()
    _thread.offline = depth + 1
    if not depth:
        _hub.enter_load()
    try:
        yield
    finally:
        _thread.offline = depth
        if not depth:
            _hub.leave_load()


@functools.cache
def _watch_connections() -> None:
    """Have Python report connections; such a hook stays until the process ends."""
    sys.addaudithook(_refuse_connections)


def _refuse_connections(event: str, arguments: tuple[object, ...]) -> None:
    if event in _CONNECTING and _depth():
        address = arguments[-1] if event != "socket.getaddrinfo" else ()
        if isinstance(address, tuple) or event == "socket.gethostbyname":
            raise ConnectionError("the network is not used while a model is loaded")


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Parameters
    ----------
    repository, name : str
        Where it is; the local file has the same name.
    url : str
        Of exactly the version that `size` and `digest` describe.
    size : int
        Bytes.
    digest : str
        "sha256:" or "git-sha1:" and hex digits; "" when the host gives none.
    """

    repository: str
    name: str
    url: str
    size: int
    digest: str = ""

    def __post_init__(self) -> None:
        if self.size < 0 or "/" in self.name or "\\" in self.name or self.name in ("", ".", ".."):
            raise ModelError(f"'{self.name}' of {self.repository} is not a file to download")


class Remote(Protocol):
    """Where files come from; tests replace it."""

    def find(self, repository: str, name: str) -> RemoteFile | None:
        """Return the facts about a file, None when the repository has no such file.

        Raises
        ------
        ModelError
            When the host can't be reached or refuses.
        """

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """Yield the content, starting at byte `start`.

        Raises
        ------
        ModelError
            When the connection is lost.
        """


@dataclass(frozen=True)
class DownloadProgress:
    """The progress of a download.

    Parameters
    ----------
    name : str
        The current file.
    bytes_done, bytes_total : int
        Of all files, including those downloaded earlier.
    seconds_left : float or None
        Estimated.
    message : str
        "Downloading" or "Checking".
    """

    name: str
    bytes_done: int
    bytes_total: int
    seconds_left: float | None = None
    message: str = "Downloading"


def part_path(folder: Path, file: RemoteFile) -> Path:
    """Return where an unfinished download is kept.

    The name depends on the version, so that a download is never resumed with another one.
    """
    version = hashlib.sha256(f"{file.digest}:{file.size}".encode()).hexdigest()[:8]
    return folder / f"{file.name}.{version}{PART_SUFFIX}"


def is_fetched(folder: Path, file: RemoteFile) -> bool:
    """Whether a file is complete, by its size; its checksum was compared after the download."""
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size


def cached_folder(repository: str, needed: Iterable[Sequence[str]]) -> Path | None:
    """Return where the hub's own cache, which other programs share, holds a repository.

    Parameters
    ----------
    repository : str
        ORG/REPO.
    needed : iterable of sequence of str
        File names, each with its alternatives.

    Returns
    -------
    Path or None
        None when a file is missing or the repository's name is impossible. No network is used.
    """
    import huggingface_hub

    folder: Path | None = None
    for names in needed:
        try:
            found = (huggingface_hub.try_to_load_from_cache(repository, name) for name in names)
            file = next((path for path in found if isinstance(path, str)), None)
        except ValueError:
            return None
        if file is None:
            return None
        folder = Path(file).parent
    return folder


def fetch(
    remote: Remote, files: list[RemoteFile], folder: Path
) -> Generator[DownloadProgress, None, None]:
    """Download files into a folder, one after another.

    A file gets its name only when it is complete and its checksum matches. After closing the
    generator (which cancels) or a lost connection, the next call resumes the unfinished file.

    Raises
    ------
    ModelError
        When the disk is full, the connection is lost, or a checksum does not match; in the last
        case the file is deleted.
    """
    total = sum(file.size for file in files)
    done = sum(file.size for file in files if is_fetched(folder, file))
    wanted = [file for file in files if not is_fetched(folder, file)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(folder, wanted)
        begin, fresh = time.monotonic(), 0
        for file in wanted:
            part = part_path(folder, file)
            kept = _size(part)
            reported = -_REPORT_BYTES
            for here in _fetch_part(remote, file, part):
                fresh_now = fresh + here - kept
                if here - reported >= _REPORT_BYTES or here == file.size:
                    reported = here
                    rate = fresh_now / max(time.monotonic() - begin, 1e-6)
                    left = (total - done - here) / rate if rate else None
                    yield DownloadProgress(file.name, done + here, total, left)
            fresh += file.size - kept
            done += file.size
            yield DownloadProgress(file.name, done, total, None, "Checking")
            _check(part, file)
            part.replace(folder / file.name)
            sync_folder(folder)
            for stale in folder.glob(f"{file.name}.*{PART_SUFFIX}"):
                stale.unlink()  # of an earlier version
    except OSError as error:
        raise _disk_error(error, folder) from error


def _fetch_part(remote: Remote, file: RemoteFile, part: Path) -> Iterator[int]:
    """Append to the unfinished file until it is complete; yield its size so far."""
    size = _size(part)
    if size > file.size:
        part.unlink()
        size = 0
    with part.open("ab") as stream:
        yield size
        if size == file.size:
            return
        try:
            for chunk in remote.read(file, size):
                stream.write(chunk)
                size += len(chunk)
                if size > file.size:
                    break
                yield size
        finally:
            stream.flush()
            os.fsync(stream.fileno())
    if size != file.size:
        if size > file.size:
            part.unlink()
        raise ModelError(
            f"'{file.name}' of {file.repository} has {size:,} of {file.size:,} bytes",
            remedy="Start the download again to resume it.",
        )


def _check(part: Path, file: RemoteFile) -> None:
    kind, _, wanted = file.digest.partition(":")
    if not wanted:
        return
    if kind == "sha256":
        digest = hashlib.sha256()
    else:  # small files of the hub are in git, which names them by this digest
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with part.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != wanted:
        part.unlink()
        raise ModelError(
            f"the checksum of '{file.name}' of {file.repository} does not match; it was deleted",
            remedy="Download it again. If that does not help, something between this computer and "
            "the host, such as a proxy, changes files.",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check_room(folder: Path, files: list[RemoteFile]) -> None:
    needed = sum(f.size - min(f.size, _size(part_path(folder, f))) for f in files) + DISK_RESERVE
    free = shutil.disk_usage(folder).free
    if files and free < needed:
        raise ModelError(
            f"the disk has {free >> 20} MB free and this download needs {needed >> 20} MB",
            remedy="Free some space and start again.",
        )


def _disk_error(error: OSError, folder: Path) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(
            "the disk is full; the unfinished download is kept",
            remedy="Free some space and start the download again to resume it.",
        )
    return ModelError(
        f"can't be written ({error.strerror or error})",
        path=folder,
        remedy="Set PLIMSEG_DATA_DIR to a folder that you may write to.",
    )


_SHA256_DIGITS, _SHA1_DIGITS = 64, 40
_FORBIDDEN = 403


class HubRemote:
    """Downloads from the Hugging Face hub, with the user's token if there is one.

    `HF_HUB_OFFLINE`, `HF_ENDPOINT` and proxies are respected, because huggingface_hub connects.
    """

    def find(self, repository: str, name: str) -> RemoteFile | None:
        """Return size, checksum and address of a file; None when the repository has none."""
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]

        url = huggingface_hub.hf_hub_url(repository, name)
        try:
            with _hub.request():
                facts = huggingface_hub.get_hf_file_metadata(url)
        except EntryNotFoundError:
            return None
        except (HTTPError, OSError, ValueError) as error:
            raise _refusal(repository, error) from error
        if facts.size is None:
            raise ModelError(f"the hub does not say how large '{name}' of {repository} is")
        if facts.commit_hash:
            # pinned, in case its authors upload another version during the download
            url = huggingface_hub.hf_hub_url(repository, name, revision=facts.commit_hash)
        return RemoteFile(repository, name, url, facts.size, _digest(facts.etag or ""))

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """Yield the content, starting at byte `start`."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported lazily
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with contextlib.ExitStack() as stack:
                with _hub.request():
                    answer = stack.enter_context(
                        get_session().stream(
                            "GET", file.url, headers=headers, follow_redirects=True
                        )
                    )
                hf_raise_for_status(answer)
                # a host without support for ranges sends the whole file again
                skip = start if start and answer.status_code != 206 else 0
                # as they arrive: what waits for a chunk to fill is lost with the connection
                for chunk in answer.iter_bytes():
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    yield chunk[skip:]
                    skip = 0
        except (HTTPError, OSError) as error:
            raise _refusal(file.repository, error) from error


def _digest(etag: str) -> str:
    etag = etag.strip('"')
    if len(etag) == _SHA256_DIGITS:
        return f"sha256:{etag}"
    return f"git-sha1:{etag}" if len(etag) == _SHA1_DIGITS else ""


def _refusal(repository: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        page = f"{HUB_PAGE}/{repository}"
        if getattr(error.response, "status_code", None) == _FORBIDDEN:  # logged in already
            return ModelError(
                f"the authors of {repository} have not given your account access yet",
                remedy=f"Agree to their terms on {page}; some authors then answer by mail. "
                "Download it again when they have accepted.",
            )
        return ModelError(
            f"the authors of {repository} require an agreement first",
            remedy=f"Agree to their terms on {page}, log in on this computer (hf auth login), "
            "then download it again.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"{repository} is not on the hub, or only visible after logging in",
            remedy="Check its page, and log in with: hf auth login.",
        )
    if isinstance(error, OfflineModeIsEnabled):
        return ModelError("downloads are disabled (HF_HUB_OFFLINE)", remedy="Unset it to download.")
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "an error")
        return ModelError(
            f"the hub answered {status} for {repository}",
            remedy="Try again later; the unfinished download is kept.",
        )
    return ModelError(
        "the hub can't be reached: this computer seems to be offline",
        remedy="The unfinished download is kept; try again with a network.",
    )
