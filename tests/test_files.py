from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_plimseg import files
from napari_plimseg.errors import DiskError, StoreError
from napari_plimseg.files import atomic_write, write_json

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


HALF_A_WRITE = """
import os, sys
from pathlib import Path
from napari_plimseg.files import atomic_write, temporary_prefix
folder = Path(sys.argv[1])
(folder / (temporary_prefix("import") + "x")).mkdir()
(folder / (temporary_prefix("removed") + "x")).mkdir()
with atomic_write(folder / "a.txt") as temporary:
    temporary.write_text("half")
    if sys.argv[2] == "die":
        os._exit(9)
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="there, the age alone decides")
def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_kept(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HALF_A_WRITE, str(tmp_path)]
    assert subprocess.run([*command, "die"], check=False).returncode == 9
    left = set(names_in(tmp_path))
    assert len(left) == 3
    with subprocess.Popen(
        [*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        written = set(names_in(tmp_path)) - left
        assert not left & set(names_in(tmp_path)), "the write of the other process swept"
        files._last_sweeps.clear()
        write_json(tmp_path / "b.json", 1)
        assert set(names_in(tmp_path)) == {*written, "b.json"}
        other.communicate("")
    assert other.returncode == 0
    assert (tmp_path / "a.txt").read_text() == "half"


def test_the_age_decides_where_the_owner_is_unknown(tmp_path: Path) -> None:
    old = ".partial-abcd1234.json", ".import-abcd1234", f"0.{'ab' * 16}.partial"
    elsewhere = ".partial-00000000-1-abcd.json"
    for name in (*old, elsewhere):
        (tmp_path / name).write_text("")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / elsewhere).write_text("")
    for name in ("model.safetensors.part", "notes.partial", "plimseg-notes", ".hidden"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1, 1))  # old, and not ours: always kept
    kept = set(names_in(tmp_path))
    files.sweep(tmp_path, deep=True)
    assert set(names_in(tmp_path)) == kept, "all of them are young"
    for name in old:
        os.utime(tmp_path / name, (1, 1))
    files.sweep(tmp_path)
    assert set(names_in(tmp_path)) == kept - set(old)
    files.sweep(tmp_path, deep=True, exclusive=True)
    assert set(names_in(tmp_path)) == kept - {*old, elsewhere}
    assert names_in(tmp_path / "below") == []
    files.sweep(tmp_path / "missing")


def test_a_scratch_folder_is_deleted_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "import os, napari_plimseg.files as f\n"
        "with f.scratch_folder() as x: (x / 'mask').touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert len(names_in(tmp_path)) == 1
    monkeypatch.setattr(files.tempfile, "tempdir", None)
    with files.scratch_folder() as folder:
        assert names_in(tmp_path) == [folder.name]
    assert names_in(tmp_path) == []


def test_the_users_folders_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLIMSEG_DATA_DIR", str(tmp_path))
    assert files.user_data_dir() == tmp_path
    monkeypatch.delenv("PLIMSEG_DATA_DIR")
    assert files.user_data_dir().name == files.APP_NAME


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk is read-only"),
        (OSError(errno.EIO, "Input/output error"), r"can't be written \(Input/output error\)"),
        # what safetensors raises
        (RuntimeError("Error while serializing: I/O error: ... (os error 28)"), "the disk is full"),
    ],
)
def test_a_disk_error_names_the_file_and_what_to_do(
    tmp_path: Path, cause: Exception, told: str
) -> None:
    with (
        pytest.raises(DiskError, match=rf"^file 'a\.json': .*{told}.*Choose|Free") as refused,
        atomic_write(tmp_path / "a.json"),
    ):
        raise cause
    assert isinstance(refused.value, OSError)
    assert refused.value.errno == getattr(cause, "errno", errno.ENOSPC)
    assert str(tmp_path) not in str(refused.value)
    assert refused.value.__cause__ is cause
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for cause in (ValueError("a number"), OSError("without a code"), StoreError("ours")):
        with pytest.raises(type(cause)) as raised, atomic_write(tmp_path / "a.json"):
            raise cause
        assert raised.value is cause
