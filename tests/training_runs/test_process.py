"""A training is started, watched, stopped, killed and gone on with."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import filelock
import pytest

from napari_plimseg.errors import ConfigError
from napari_plimseg.tissue import GLAS, TissueClasses
from napari_plimseg.training_runs.process import (
    TrainingProcess,
    TrainingRequest,
    TrainingState,
    training_program,
)
from napari_plimseg.training_runs.run_folder import (
    RunFolder,
    RunStatus,
    list_runs,
    name_problem,
    new_run_folder,
    runs_folder,
    usable_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 30


def until(process: TrainingProcess, reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        process.poll()
        assert time.monotonic() < end, (process.state, process.error)
        time.sleep(0.01)


def until_end(process: TrainingProcess) -> TrainingProcess:
    until(process, lambda: not process.state.is_alive)
    return process


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "glands"


@pytest.fixture
def start(run: Path, program: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Callable:
    def start(behaviour: str = "good", step: str = "0.01") -> TrainingProcess:
        monkeypatch.setenv("FAKE_TRAINING", behaviour)
        monkeypatch.setenv("FAKE_STEP", step)
        return TrainingProcess.start(TrainingRequest(run, "glands"), run, program)

    return start


def test_a_training_to_its_end(start: Callable, run: Path) -> None:
    process = start()
    assert process.state is TrainingState.STARTING
    assert process.is_ours
    until_end(process)
    assert process.state is TrainingState.FINISHED
    assert process.listed_as == "fake"
    history = process.history
    assert history.fraction == 1.0
    assert history.scores == {"mIoU (A)": 51.5}
    assert len(history.losses["stage1"]) == 8
    assert history.losses["stage2"][-1][0] == 3.0
    assert history.mious["stage2"] == [(1.0, 0.1), (2.0, 0.2), (3.0, pytest.approx(0.3))]
    assert history.device == "CPU, 2 cores"
    assert history.memory_mb == 900
    assert RunFolder(run).status() is RunStatus.FINISHED
    # another viewer finds it as it is
    later = until_end(TrainingProcess(run))
    assert (later.state, later.listed_as) == (TrainingState.FINISHED, "fake")


def test_stop_and_resume(start: Callable, run: Path, program: tuple[str, ...]) -> None:
    process = start(step="0.05")
    until(process, lambda: bool(process.history.losses))
    process.stop()
    assert process.state is TrainingState.STOPPING
    until_end(process)
    assert process.state is TrainingState.STOPPED
    assert not process.error
    assert process.files.can_resume
    os.environ["FAKE_STEP"] = "0.01"
    process = until_end(TrainingProcess.resume(run, program))
    assert process.state is TrainingState.FINISHED
    xs = [x for x, _ in process.history.losses["stage1"]]
    assert xs == sorted(set(xs))  # what was done twice is drawn once


def test_a_stop_that_comes_too_early_is_not_lost(start: Callable) -> None:
    process = start(step="0.05")
    process.stop()  # the program removes an old stop file when it begins
    assert until_end(process).state is TrainingState.STOPPED


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_killed_training_says_so_and_can_go_on(start: Callable, run: Path) -> None:
    process = start(step="0.05")
    until(process, lambda: bool(process.history.losses))
    os.kill(int((run / "pid").read_text()), signal.SIGKILL)
    until_end(process)
    assert process.state is TrainingState.FAILED
    assert "stopped unexpectedly (signal 9)" in process.error
    assert "Resume" in process.error
    assert process.files.can_resume


def test_killed_on_purpose_is_no_failure(start: Callable) -> None:
    process = start(step="0.5")
    until(process, lambda: bool(process.history.losses))
    process.stop()
    process.kill()
    assert until_end(process).state is TrainingState.STOPPED


@pytest.mark.parametrize(
    ("behaviour", "says", "resumes"),
    [
        ("fails", "the disk is full. Free some.", True),
        ("refuses", "the folder is wrong. Correct it.", False),
        ("crashes at once", "ImportError: no such thing", False),
    ],
)
def test_failures_have_their_sentence(
    start: Callable, behaviour: str, says: str, resumes: bool
) -> None:
    process = until_end(start(behaviour))
    assert process.state is TrainingState.FAILED
    assert says in process.error
    assert process.files.can_resume is resumes


def test_closing_waits_no_longer_than_asked(start: Callable) -> None:
    process = start(step="3")
    until(process, lambda: bool(process.history.losses))
    begin = time.monotonic()
    assert not process.stop_and_wait(0.3)
    assert time.monotonic() - begin < 2
    assert process.files.stop_file.exists()  # it ends by itself later
    process.kill()
    until_end(process)


def test_a_training_of_another_viewer_is_taken_up_and_stopped(tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")
    files.root.mkdir()
    files.recipe.write_text("name: x\n")
    step = {"kind": "step", "stage": "stage1", "epoch": 1, "epochs": 2, "step": 1, "steps": 2}
    files.progress.write_text('{"kind": "start"}\n' + json.dumps(step) + "\n")
    lock = filelock.FileLock(files.root / ".lock")
    with lock:
        process = TrainingProcess(files.root)
        process.poll()
        assert process.state is TrainingState.RUNNING
        assert not process.is_ours
        process.stop()
        assert files.stop_file.exists()
        with files.progress.open("a") as file:
            file.write('{"kind": "stopped"}\n')
    assert until_end(process).state is TrainingState.STOPPED


def test_what_was_interrupted_is_listed_first(tmp_path: Path) -> None:
    for number, (name, last, model) in enumerate(
        [("done", "done", True), ("stopped", "stopped", False), ("killed", "step", False),
         ("refused", "failed", False)]
    ):  # fmt: skip
        files = RunFolder(runs_folder() / name)
        files.root.mkdir(parents=True)
        files.progress.write_text(f'{{"kind": "start"}}\n{{"kind": "{last}"}}\n{{"kind": "st')
        os.utime(files.progress, (1000 + number, 1000 + number))
        if name != "refused":  # it never came so far
            files.recipe.write_text("name: x\n")
        if model:
            files.model_file.write_bytes(b"")
    found = [(run.name, run.status) for run in list_runs()]
    assert found == [
        ("killed", RunStatus.STOPPED), ("stopped", RunStatus.STOPPED), ("done", RunStatus.FINISHED),
    ]  # fmt: skip


def test_the_request_becomes_the_command(tmp_path: Path) -> None:
    request = TrainingRequest(
        tmp_path / "images", "my glands 2", effort="quick", classes=GLAS, mpp=0.5
    )
    arguments = request.arguments(tmp_path / "run")
    assert arguments[:2] == ["train", str(tmp_path / "images")]
    settings = dict(
        pair.split("=", 1) for flag, pair in itertools.pairwise(arguments)
        if flag == "--set"
    )  # fmt: skip
    assert json.loads(settings["name"]) == "my glands 2"
    assert settings["data.mpp"] == "0.5"
    assert TissueClasses.from_yaml(json.loads(settings["data.classes"])) == GLAS
    assert arguments[arguments.index("--effort") + 1] == "quick"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a/b"},
        {"effort": "much"},
        {"label_source": "tea"},
        {"mpp": 0.0},
        {"mpp": 500.0},
    ],
)
def test_requests_check_themselves(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        TrainingRequest(tmp_path, **{"name": "x", **wrong})


@pytest.mark.parametrize("source", [None, "cams", "words", "mean"])
def test_the_source_of_labels_is_passed_on_if_it_is_chosen(
    tmp_path: Path, source: str | None
) -> None:
    request = TrainingRequest(tmp_path / "images", "a", label_source=source)
    told = [part for part in request.arguments(tmp_path) if part.startswith("pseudo_masks")]
    assert told == ([] if source is None else [f'pseudo_masks.source="{source}"'])


def test_names_and_folders(tmp_path: Path) -> None:
    assert name_problem("my tissue") == ""
    assert "bundled model" in name_problem("Bundled-Tissue")
    assert usable_name("été/2024: A") == "été-2024- A"
    assert usable_name("///") == "my tissue" or name_problem(usable_name("///")) == ""
    first = new_run_folder("a", tmp_path)
    first.mkdir()
    assert new_run_folder("a", tmp_path).name == "a-2"
    with pytest.raises(ConfigError):
        TrainingProcess.resume(first)


def test_modules_of_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plimseg_training", "numpy", "torch", "yaml", "secrets"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w').close()\nraise SystemExit(9)\n")
    command = [*training_program(), "train", "nothing.yaml"]
    monkeypatch.chdir(tmp_path)
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "nothing.yaml" in found.stderr
    assert not (tmp_path / "imported").exists()
