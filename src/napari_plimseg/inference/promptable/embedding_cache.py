"""What an image encoder made of patches, kept in memory and on the disk."""

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
from napari_plimseg.models.promptable.dual_decoder import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


MEMORY_BYTES = 512 << 20
DISK_BYTES = 2 << 30
PREPROCESSING_VERSION = 1
"""Of how patches are read and brought to the encoder; another one makes entries useless."""
_SUFFIX = ".maps"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class PatchKey:
    """Which patch of which slide was seen by which encoder.

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
        """Hex digest of all of it: the entry's file name."""
        # the number is written to its last bit: 1.9998 and 2 are other pixels
        content = {**asdict(self), "downsample": struct.pack("<d", self.downsample).hex()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class EmbeddingCache:
    """Maps of patches: those used last in memory, more of them on the disk.

    Maps are kept in half precision, and what is computed is rounded before it is used, so that it
    makes no difference whether a patch was known. An entry on the disk that is damaged is removed
    and computed again; a disk that can't be written costs speed and nothing else. Safe from
    several threads and processes.

    Parameters
    ----------
    folder : Path, optional
        None keeps nothing on the disk.
    memory_bytes, disk_bytes : int
        What may be kept at most.
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
        """Return a cache in the user's own cache folder."""
        return cls(user_cache_dir() / "embeddings")

    def __contains__(self, key: PatchKey) -> bool:
        """Whether a patch needs no encoder, as far as can be told without reading it."""
        with self._lock:
            if key.digest in self._known:
                return True
        path = self._path(key.digest)
        return path is not None and path.is_file()

    def get(self, key: PatchKey, encode: Callable[[], Encoded]) -> Encoded:
        """Return the maps of a patch in half precision, from `encode` when they are not known."""
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
        """Forget everything, on the disk too."""
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
        if path is None:
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
            os.utime(path)  # used now: among the last to go
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
