from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_plimseg import files
from napari_plimseg.files import atomic_write, fingerprint, sha256, write_json

if TYPE_CHECKING:
    from pathlib import Path


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "naïve 幻灯片.txt"
    for text in ("first", "second"):
        with atomic_write(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert target.read_text() == text
    assert names_in(target.parent) == [target.name]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def half_a_write() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half_a_write()
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a.json"]


STEPS = ["fsync", "chmod", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="needs os._exit in the middle of POSIX calls")
@pytest.mark.parametrize("step", STEPS)
def test_death_between_any_two_steps_leaves_old_or_new(tmp_path: Path, step: str) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = f"""
import os, pathlib
from napari_plimseg.files import atomic_write
def die(*a, **k): os._exit(9)
if {step!r} == "fsync": os.fsync = die
else: setattr(pathlib.Path, {step!r}, die)
with atomic_write({str(target)!r}) as t:
    t.write_text("new")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert target.read_text() == "old"


def test_json_keeps_what_people_write(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Größe 幻", "n": [1, None, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {
        "name": "Größe 幻",
        "n": [1, None, 2.5],
    }


def test_a_fingerprint_sees_head_tail_size_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WHOLE_FILE_LIMIT", 1000)
    monkeypatch.setattr(files, "_HEAD_AND_TAIL", 100)
    big = tmp_path / "big"
    content = bytearray(os.urandom(5000))
    big.write_bytes(content)
    first = fingerprint(big)
    for at in (0, 4999):
        changed = bytearray(content)
        changed[at] ^= 1
        big.write_bytes(changed)
        assert fingerprint(big) != first
    big.write_bytes(content)
    assert fingerprint(big) == first
    small = tmp_path / "small"
    small.write_bytes(b"x")
    assert fingerprint(small) == sha256(small)
    folder = tmp_path / "zarr"
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "a").write_bytes(b"12")
    before = fingerprint(folder)
    (folder / "0" / "a").write_bytes(b"123")
    assert fingerprint(folder) != before


def test_the_users_folders_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLIMSEG_DATA_DIR", str(tmp_path))
    assert files.user_data_dir() == tmp_path
    monkeypatch.delenv("PLIMSEG_DATA_DIR")
    assert files.user_data_dir().name == files.APP_NAME
