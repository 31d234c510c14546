"""A hub on this computer, which answers as the real one: addresses, headers, refusals, faults."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import huggingface_hub.constants
import pytest

from napari_plimseg.models import downloads
from tests.support.clips import TEXT, VIT, write_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "c0ffee" * 6 + "c0ff"
TOKEN = "hf_" + "t" * 34
CHUNK = 1 << 16
QUILT_REPOSITORY = "wisdomik/QuiltNet-B-32"


@dataclass
class Repository:
    """What the hub has under one name.

    Parameters
    ----------
    files : dict
        Content by file name.
    large : set of str
        Files in large file storage: their address redirects and their tag is a SHA-256.
    gated : bool
        Whether its authors require an agreement.
    """

    files: dict[str, bytes]
    large: set[str] = field(default_factory=set)
    gated: bool = False

    def tag(self, name: str) -> str:
        """Return the ETag of a file: of git's object, or the SHA-256 in large file storage."""
        content = self.files[name]
        if name in self.large:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


@dataclass
class Hub:
    """The hub's content, its faults, and what it was asked.

    Parameters
    ----------
    repositories : dict
        By ORG/REPO.
    accepted : bool
        Whether the holder of the token has been given access to gated repositories.
    cut_after : int or None
        After how many bytes of a large file the connection breaks.
    lies : bool
        Whether a large file arrives with other bytes.
    pause : threading.Event or None
        A large file stops after its first chunk until this is set.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    accepted: bool = False
    cut_after: int | None = None
    lies: bool = False
    pause: threading.Event | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""

    def add_folder(self, repository: str, folder: Path, **settings: Any) -> Repository:
        """Put a folder's files into a repository; weights go into large file storage."""
        files = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
        large = {n for n in files if n.endswith((".safetensors", ".bin", ".pt"))}
        self.repositories[repository] = Repository(files, large, **settings)
        return self.repositories[repository]

    def ranges(self, name: str) -> list[str]:
        """Return the ranges that were asked of a file's content."""
        return [r for method, path, r in self.asked if method == "GET" and path.endswith(name)]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
            parts = unquote(self.path).strip("/").split("/")
            stored = parts[0] == "storage"
            name = "/".join(parts[1:3] if stored else parts[:2])
            repository = hub.repositories.get(name)
            if repository is None:  # the real hub hides whether it exists
                self._refuse(401, "RepoNotFound", "Invalid username or password.")
            elif repository.gated and not stored and not self._may_read():
                pass
            elif parts[-1] not in repository.files:
                self._refuse(404, "EntryNotFound", "Entry not found")
            elif parts[-1] in repository.large and not stored:
                self._redirect(repository, name, parts[-1])
            else:
                self._send(repository, parts[-1], with_content=with_content)

        def _may_read(self) -> bool:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._refuse(401, "GatedRepo", "Access to model is restricted. Please log in.")
                return False
            if not hub.accepted:
                self._refuse(403, "GatedRepo", "You are not in the authorized list.")
                return False
            return True

        def _refuse(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _redirect(self, repository: Repository, name: str, file: str) -> None:
            self.send_response(302)
            self.send_header("Location", f"{hub.address}/storage/{name}/{file}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(repository.files[file])))
            self.send_header("X-Linked-Etag", f'"{repository.tag(file)}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, repository: Repository, file: str, *, with_content: bool) -> None:
            content = repository.files[file]
            wanted = self.headers.get("Range", "")
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{repository.tag(file)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if with_content:
                self._stream(content, start, large=file in repository.large)

        def _stream(self, content: bytes, start: int, *, large: bool) -> None:
            for at in range(start, len(content), CHUNK):
                if large and hub.cut_after is not None and at - start >= hub.cut_after:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if large and hub.pause is not None and at > start:
                    hub.pause.wait(30)
                piece = content[at : at + CHUNK]
                with contextlib.suppress(ConnectionError):  # who asked has gone
                    self.wfile.write(bytes(len(piece)) if large and hub.lies else piece)

    return Handler


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Serve an empty hub on this computer."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        if hub.pause is not None:
            hub.pause.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def local_hub(patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub and have huggingface_hub ask it; no other address can be reached.

    The variable `HF_ENDPOINT` does the same for a program of its own (`environment`).
    """
    with serve() as hub:
        constants = huggingface_hub.constants
        patch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _only_to(hub, getattr(socket.SocketType, name)))
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


def environment(hub: Hub) -> dict[str, str]:
    """Return the variables with which another process asks this hub."""
    return {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}


def _only_to(hub: Hub, connect: Any) -> Any:
    def checked(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and f"http://{address[0]}:{address[1]}" != hub.address:
            pytest.fail(f"a test tried to connect to {address!r}")
        return connect(self, address)

    return checked


@contextlib.contextmanager
def small_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """Serve a small QuiltNet and a gated encoder, whose files are made in a folder."""
    monkeypatch.setattr(downloads, "_REPORT_BYTES", CHUNK)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "token"))
    write_clip(folder / "quilt", VIT, TEXT)
    gated = folder / "gated"
    gated.mkdir()
    (gated / "config.json").write_text("{}")
    (gated / "pytorch_model.bin").write_bytes(bytes(1000))
    with local_hub(monkeypatch) as found:
        found.add_folder(QUILT_REPOSITORY, folder / "quilt")
        found.add_folder("MahmoodLab/UNI2-h", gated, gated=True)
        yield found
