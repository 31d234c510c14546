"""Events survive a kill in mid-line, and history has one row an epoch."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from napari_plimseg.training_runs.events import KINDS, Event
from plimseg_training.events import (
    ProgressLog,
    read_events,
    read_history,
    without_folders,
    write_history,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_events_come_back_from_file_and_stream(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = ProgressLog(tmp_path / "run" / "progress.jsonl", stream)
    events = [Event(kind, f"naïve {kind}", stage="stage1", epoch=2) for kind in KINDS]
    events.append(Event("step", losses={"loss_cls": 0.1 + 0.2}, seconds_left=3.5, data={"n": [1]}))
    for event in events:
        log(event)
    assert read_events(tmp_path / "run" / "progress.jsonl") == events
    assert [Event.from_json(line) for line in stream.getvalue().splitlines()] == events


def test_lines_are_strict_json_even_for_numbers_that_json_lacks() -> None:
    event = Event("step", losses={"a": float("nan"), "b": float("inf")}, scores={"score": 0.5})
    line = event.to_json()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = Event.from_json(line)
    assert str(back.losses["a"]) == "nan"
    assert back.losses["b"] == float("inf")


def test_a_torn_line_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    ProgressLog(path)(Event("start"))
    with path.open("ab") as file:
        file.write(b'{"kind": "step", "losses": {"lo\xc3')
    assert [e.kind for e in read_events(path)] == ["start"]
    ProgressLog(path)(Event("done"))
    assert [e.kind for e in read_events(path)] == ["start", "done"]
    with path.open("a") as file:
        file.write(
            '[]\n{"kind": "party"}\n{"kind": "step", "losses": 3}\n{"kind": "step", "x": 1}\n'
        )
    assert [e.kind for e in read_events(path)] == ["start", "done", "step"]
    assert read_events(tmp_path / "missing.jsonl") == []


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="party"):
        Event("party")


def test_history_has_each_stage_s_rows_once(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_history(path, "stage1", [{"epoch": 1, "loss": 0.5}])
    write_history(path, "stage1", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    write_history(path, "stage2", [{"epoch": 1, "loss": 1.0, "miou": 0.75}])
    assert read_history(path) == [
        {"stage": "stage1", "epoch": "1", "loss": "0.5"},
        {"stage": "stage1", "epoch": "2", "loss": "0.25"},
        {"stage": "stage2", "epoch": "1", "loss": "1.0", "miou": "0.75"},
    ]
    path.write_bytes(path.read_bytes().replace(b"0.75", b"\xff.75"))
    assert [row["epoch"] for row in read_history(path)] == ["1", "2", "1"]


def test_the_home_folder_is_left_out_and_no_other_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert without_folders("at /h/patient/a.png") == "at patient/a.png"
    assert without_folders("s/h/a and/or /h/b") == "s/h/a and/or b"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert without_folders(f"{tmp_path}/a.png is damaged") == "a.png is damaged"
