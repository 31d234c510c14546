"""Fixtures for every test: data, and no network."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"


def _shared_data_folder() -> Path | None:
    named = os.environ.get("PLIMSEG_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def sample_path() -> Path:
    """The CC0 slide that ships with the package."""
    return SAMPLE


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides whose licences keep them out of the repository."""
    folder = _shared_data_folder()
    if folder is None:
        pytest.skip("real slides are not here: set PLIMSEG_SHARED_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Fail any test that opens a network connection; `loopback` allows those to this computer."""
    loopback = request.node.get_closest_marker("loopback") is not None

    def refusing(connect: Any) -> Any:
        def refuse(self: socket.socket, address: Any) -> Any:
            own = loopback and address[0] in ("127.0.0.1", "::1")
            if own or self.family == socket.AF_UNIX:
                return connect(self, address)
            pytest.fail(f"a test tried to connect to {address!r}")

        return refuse

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refusing(getattr(socket.socket, name)))


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own data and cache folders out of the tests' reach."""
    base = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("PLIMSEG_DATA_DIR", str(base / "data"))
    monkeypatch.setenv("PLIMSEG_CACHE_DIR", str(base / "cache"))
