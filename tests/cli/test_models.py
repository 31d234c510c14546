"""`plimseg models`: the library on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_plimseg.cli import main
from napari_plimseg.models import downloads
from napari_plimseg.models.encoders.cards import CONFIG_FILE, WEIGHT_FILES
from napari_plimseg.models.library import models_folder
from tests.support.library import CONFIG, QUILT, WEIGHTS, FakeRemote, own, try_here

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def trial_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_plimseg.models.importing.try_loading", try_here)


@pytest.fixture(autouse=True)
def remote(monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    remote = FakeRemote({CONFIG_FILE: CONFIG, WEIGHT_FILES[1]: WEIGHTS})
    monkeypatch.setattr(downloads, "HubRemote", lambda: remote)
    return remote


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert main(["models", "list", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {event["key"]: event["state"] for event in events}


def test_import_and_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own(tmp_path / "glands.safetensors")
    assert main(["models", "import", str(path)]) == 0
    assert "imported as 'glands'" in capsys.readouterr().out
    assert states(capsys)["glands"] == "ready"
    assert main(["models", "remove", "glands"]) == 2
    assert "Add --yes" in capsys.readouterr().err
    assert main(["models", "remove", "glands", "--yes"]) == 0
    assert not list(models_folder().iterdir())


def test_download_shows_size_and_license_first(
    remote: FakeRemote, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "download", QUILT]) == 2
    shown = capsys.readouterr()
    assert "1 MB, license MIT" in shown.out
    assert "--yes" in shown.err
    assert not remote.asked
    assert main(["models", "download", QUILT, "--yes"]) == 0
    assert states(capsys)[QUILT] == "ready"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["remove", "bundled", "--yes"], "belongs to the plugin"),
        (["remove", "nothing", "--yes"], "there is no model 'nothing'"),
        (["download", "PathCLIP", "--yes"], "can't be downloaded"),
        (["import", "missing.safetensors"], "does not exist"),
        (["import", "missing.pt", "--encoder", "bundled"], "there is no encoder"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments]) == 4
    assert says in capsys.readouterr().err


def test_without_a_network_it_is_said(
    remote: FakeRemote, capsys: pytest.CaptureFixture[str]
) -> None:
    remote.offline = True
    assert main(["models", "download", QUILT, "--yes"]) == 4
    assert "into the folder" in capsys.readouterr().err
