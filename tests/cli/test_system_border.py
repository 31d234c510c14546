"""Names, paths and permissions that the system makes difficult."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg import models
from napari_plimseg.cli import main
from napari_plimseg.results import MaskStore
from plimseg_training.__main__ import main as training_main
from tests.support.models import ColorModel, painted

if TYPE_CHECKING:
    from napari_plimseg.tissue import TissueClasses

LONG = "x" * 300 + ".tif"


@pytest.fixture(autouse=True)
def color_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes no time, unless a file is named."""
    load_model = models.load_model

    def load(name: str, classes: TissueClasses | None = None) -> ColorModel:
        if name != "bundled":
            load_model(name, classes)
        return ColorModel()

    monkeypatch.setattr(models, "load_model", load)


def picture(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(painted(200, 240)).save(path)
    return path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", ["病理 切片.png", "café.png", os.fsdecode(b"caf\xe9.png")])
def test_any_name_is_printed_in_any_encoding(
    encoding: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(picture(tmp_path / name))
    run = ["segment", path, "--mpp", "0.5", "--out", str(tmp_path / "out")]
    for arguments in (["info", path], ["info", "--json", path], run, [*run, "--json"]):
        output = io.BytesIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding))
            assert main(arguments) == 0
            sys.stdout.flush()
            text = output.getvalue().decode(encoding)
        if "--json" in arguments:
            assert json.loads(text.splitlines()[-1])["slide"].endswith(".png")
        else:
            assert ".png" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", LONG],
        ["segment", LONG, "--out", "o"],
        ["segment", "good.png", "--mpp", "0.5", "--model", LONG, "--out", "o"],
        ["segment", "good.png", "--classes", f"{LONG}.yaml"],
        ["export", LONG],
        ["objects", LONG, "--slide", "good.png", "--out", "o"],
        ["models", "import", LONG],
        ["train", LONG],
        ["train", LONG, "--dry-run"],
        ["scan", LONG],
        ["evaluate", "bundled", LONG],
        ["cut", LONG, "a.geojson", "--out", "o", "--classes", "glas"],
        ["cut", "good.png", LONG, "--out", "o", "--classes", "glas"],
    ],
    ids=lambda arguments: " ".join(arguments)[:24],
)
def test_a_path_that_the_system_refuses_is_one_sentence(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "good.png")
    trained = arguments[0] in {"train", "scan", "evaluate", "cut"}
    assert (training_main if trained else main)(arguments) not in (0, 1)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "Traceback" not in text
    assert "unexpected" not in text
    assert "too long" in text


def test_without_permission_only_that_file_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, good = picture(tmp_path / "secret" / "a.png"), picture(tmp_path / "good.png")
    stat = Path.stat

    def refusing(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self.parent.name == "secret":
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refusing)
    out = str(tmp_path / "o")
    for arguments in (["info"], ["segment", "--mpp", "0.5", "--out", out, "--quiet"]):
        assert main([*arguments, str(secret), str(good)]) == 8
        captured = capsys.readouterr()
        assert "good.png" in captured.out
        assert "permission" in captured.err
    assert main(["export", str(secret.with_suffix(".plimseg"))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plimseg: file 'a.plimseg': there is no permission to use it.")
    assert "secret" not in error


def test_a_name_that_a_table_can_not_hold_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / os.fsdecode(b"caf\xe9.png"))
    drawn = tmp_path / "m.png"
    Image.fromarray(np.ones((200, 240), np.uint8)).save(drawn)
    command = ["cut", str(source), str(drawn), "--out", str(tmp_path / "o"), "--classes", "glas"]
    assert training_main([*command, "--patch", "64"]) == 2
    error = capsys.readouterr().err
    assert error == "plimseg: file 'caf\\udce9.png': it is not named in UTF-8. Rename it.\n"


def test_scores_that_can_not_be_written_are_not_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "img" / "a.png")
    Image.fromarray(np.ones((200, 240), np.uint8)).save((tmp_path / "a file"), "PNG")
    out = tmp_path / "a file" / "scores.json"
    assert training_main(["evaluate", "bundled", str(tmp_path), "--out", str(out)]) == 7
    assert "export 'a file': can't be written to" in capsys.readouterr().err


def test_the_home_folder_is_meant_by_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    assert main(["segment", "~/a.png", "--mpp", "0.5", "--out=~/o", "--format", "csv"]) == 0
    assert main(["export", "~/o/a.plimseg", "--format", "geojson", "--slide=~/a.png"]) == 0
    assert (tmp_path / "o" / "a.geojson").is_file()
    assert MaskStore.open("~/o/a.plimseg").done_fraction == 1
    assert not (tmp_path / "~").exists()


def test_a_folder_is_named_by_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = picture(tmp_path / "a.png"), tmp_path / "o"
    assert main(["segment", str(path), "--mpp", "0.5", "--out", str(out), "--format", "none"]) == 0
    monkeypatch.chdir(out / "a.plimseg")
    assert main(["export", ".", "--format", "csv"]) == 0
    assert (out / "a.areas.csv").is_file()
    store = MaskStore.open(".")
    assert store.path.parent == out  # where its corrections are
    np.testing.assert_array_equal(
        store.read_classes(), MaskStore.open(out / "a.plimseg").read_classes()
    )
    capsys.readouterr()
    monkeypatch.setattr(Path, "touch", _refuse)
    assert main(["segment", str(path), "--mpp", "0.5"]) == 7
    assert "export 'a.plimseg': can't be written to" in capsys.readouterr().err


def _refuse(self: Path) -> None:
    raise PermissionError(13, "Permission denied", str(self))
