"""Embeddings of patches, cached in memory and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from napari_plimseg.files import atomic_write, user_cache_dir
from napari_plimseg.models import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


MEMORY_BYTES = 512 << 20
DISK_BYTES = 2 << 30
PREPROCESSING_VERSION = 1
"""Version of how patches are read and preprocessed; a change invalidates all entries."""
_SUFFIX = ".maps"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class PatchKey:
    """Identifies a patch of a slide and the encoder.

    Parameters
    ----------
    slide : str
        Fingerprint of the slide's content.
    downsample : float
        Level-0 pixels per pixel of the patch.
    y, x, side : int
        The patch in pixels of that virtual level.
    encoder : str
        Digest of the encoder's weights and settings.
    preprocessing : int
    """

    slide: str
    downsample: float
    y: int
    x: int
    side: int
    encoder: str
    preprocessing: int = PREPROCESSING_VERSION

    @property
    def digest(self) -> str:
        """Hex digest of all fields: the entry's file name."""
        # the number is written exactly: 1.9998 and 2 are different pixels
        content = {**asdict(self), "downsample": struct.pack("<d", self.downsample).hex()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class EmbeddingCache:
    """Embeddings of patches: the last used ones in memory, more of them on disk.

    They are stored in half precision, and new ones are rounded before use, so that results do not
    depend on whether a patch was cached. A damaged entry on disk is removed and computed again; a
    disk that can't be written costs only speed. Safe for several threads and processes.

    Parameters
    ----------
    folder : Path, optional
        None stores nothing on disk.
    memory_bytes, disk_bytes : int
        Largest size in memory and on disk.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self.folder = folder
        self.memory_bytes = memory_bytes
        self.disk_bytes = disk_bytes
        self._known: OrderedDict[str, Encoded] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    @classmethod
    def of_user(cls) -> EmbeddingCache:
        """Return a cache in the user's cache folder."""
        return cls(user_cache_dir() / "embeddings")

    def __contains__(self, key: PatchKey) -> bool:
        """Whether a patch is cached; its entry is not read, so it may still be damaged."""
        with self._lock:
            if key.digest in self._known:
                return True
        path = self._path(key.digest)
        return path is not None and path.is_file()

    def get(self, key: PatchKey, encode: Callable[[], Encoded]) -> Encoded:
        """Return the embedding of a patch in half precision; call `encode` if it is not cached."""
        digest = key.digest
        with self._lock:
            found = self._known.get(digest)
            if found is not None:
                self._known.move_to_end(digest)
                return found
        found = self._read(digest)
        if found is None:
            found = encode().to(device="cpu", dtype=torch.half)
            self._write(digest, found)
        self._remember(digest, found)
        return found

    def clear(self) -> None:
        """Delete all entries, also on disk."""
        with self._lock:
            self._known.clear()
            self._held = 0
        for path in self._files():
            _remove(path)

    def _remember(self, digest: str, maps: Encoded) -> None:
        with self._lock:
            before = self._known.pop(digest, None)
            self._held += _bytes(maps) - (_bytes(before) if before is not None else 0)
            self._known[digest] = maps
            while self._held > self.memory_bytes and len(self._known) > 1:
                _, oldest = self._known.popitem(last=False)
                self._held -= _bytes(oldest)

    def _path(self, digest: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{digest}{_SUFFIX}"

    def _files(self) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        return list(self.folder.glob(f"*{_SUFFIX}"))

    def _read(self, digest: str) -> Encoded | None:
        path = self._path(digest)
        if path is None or not path.is_file():  # reading a pipe would wait forever
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        body, checksum = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        try:
            if hashlib.sha256(body).digest() != checksum:
                raise ValueError("the checksum does not fit")
            maps = safetensors.torch.load(body)
            found = Encoded(maps["final"], maps["early"])
        except (ValueError, KeyError, safetensors.SafetensorError):
            _remove(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # just used, so it is evicted late
        return found

    def _write(self, digest: str, maps: Encoded) -> None:
        path = self._path(digest)
        if path is None:
            return
        body = safetensors.torch.save(
            {"final": maps.final.contiguous(), "early": maps.early.contiguous()}
        )
        if len(body) > self.disk_bytes:
            return
        with contextlib.suppress(OSError), atomic_write(path) as temporary:
            temporary.write_bytes(body + hashlib.sha256(body).digest())
        self._make_room()

    def _make_room(self) -> None:
        entries = sorted(_listed(self._files()))
        used = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if used <= self.disk_bytes:
                return
            _remove(path)
            used -= size


def _listed(paths: Iterable[Path]) -> list[tuple[int, int, Path]]:
    """Return (time of last use, bytes, path) of files; another process may remove some."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            about = path.stat()
            found.append((about.st_mtime_ns, about.st_size, path))
    return found


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _bytes(maps: Encoded) -> int:
    return maps.final.nbytes + maps.early.nbytes
