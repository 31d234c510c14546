"""The run folder: how it stands, its lock, and the ways to stop a training."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from typing import TYPE_CHECKING

import pytest

from napari_plimseg.errors import StoreError
from napari_plimseg.training_runs.events import Event
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.events import ProgressLog
from plimseg_training.run_folder import RunError, StopRequest, check_space, locked

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys, time
from pathlib import Path
from napari_plimseg.training_runs.run_folder import RunFolder
from plimseg_training.run_folder import locked
with locked(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_how_a_run_stands(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.status() == "new"
    with locked(run):
        assert run.status() == "running"
        log = ProgressLog(run.progress)
        log(Event("start"))
    assert run.status() == "stopped"  # it was killed
    log(Event("stopped"))
    assert run.status() == "stopped"
    log(Event("start"))
    log(Event("failed", "The disk is full."))
    assert run.status() == "failed"
    log(Event("start"))
    log(Event("step"))
    assert run.status() == "stopped"
    log(Event("done"))
    assert run.status() == "finished"


def test_a_model_file_is_a_finished_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.model_file.touch()
    assert run.status() == "finished"


def test_two_trainings_do_not_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plimseg_training.run_folder._LOCK_SECONDS", 0)
    run = RunFolder(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        assert run.status() == "running"
        with pytest.raises(RunError, match="another training is running"), locked(run):
            pytest.fail("two trainings in one folder")
        monkeypatch.setenv("RANK", "1")  # unless torchrun started them together
        with locked(run):
            pass
        monkeypatch.delenv("RANK")
        other.kill()  # a killed process leaves no lock behind
        other.wait()
    with locked(run):
        pass
    assert issubclass(RunError, StoreError)


def test_left_overs_go_when_a_training_begins(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.stage("stage1").mkdir()
    half = run.stage("stage1") / ".partial-xyz.ckpt"
    half.touch()
    run.stop_file.touch()
    with locked(run):
        assert not half.exists()
        assert not run.stop_file.exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="'run'") as raised, locked(RunFolder(tmp_path / "run")):
        pytest.fail("a file is no folder")
    assert raised.value.remedy


def test_the_stop_file_stops(tmp_path: Path) -> None:
    with StopRequest(tmp_path) as should_stop:
        assert not should_stop()
        RunFolder(tmp_path).stop_file.touch()
        assert should_stop()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_once_and_then_acts(number: signal.Signals, tmp_path: Path) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    with StopRequest(tmp_path) as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
        assert signal.getsignal(number) == before[number]
    assert {s: signal.getsignal(s) for s in before} == before


def test_too_little_space_is_told_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2 * 10**6))
    check_space(tmp_path, 10**6)
    with pytest.raises(RunError, match="need 5 MB and 2 MB are free") as raised:
        check_space(tmp_path, 5 * 10**6)
    assert "Free 3 MB" in str(raised.value)
