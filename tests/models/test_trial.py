"""Loading in a process of its own: what crashes, hangs or grows there is an error here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import torch

from napari_plimseg.errors import ModelError
from napari_plimseg.models import trial
from napari_plimseg.models.importing import import_model
from napari_plimseg.models.library import models_folder
from napari_plimseg.models.trial import TrialLimits, check_answer, try_loading, watch
from tests.support.library import own, take

if TYPE_CHECKING:
    from pathlib import Path

PLENTY = TrialLimits(60, 8 << 30)


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("code", "allowed", "problem"),
    [
        ("import time; time.sleep(60)", TrialLimits(0.5, 8 << 30), "not ready after"),
        (
            "import time; x = bytearray(300 << 20); time.sleep(60)",
            TrialLimits(60, 200 << 20),
            "more than 0.2 GB of memory",
        ),
    ],
    ids=["hangs", "grows"],
)
def test_a_process_beyond_its_limits_is_ended(
    tmp_path: Path, code: str, allowed: TrialLimits, problem: str
) -> None:
    child = process(code)
    try:
        with pytest.raises(ModelError, match=problem) as caught:
            list(watch(child, tmp_path / "m.safetensors", allowed))
        assert "'m.safetensors'" in str(caught.value)
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("output", "code", "problem"),
    [
        (b"", -11, r"crashed while it was tried \(code -11\)"),
        (b"not JSON", 0, "crashed"),
        (b"[" * 20_000, 0, "crashed"),
        (b'{"loaded": true, "problem": "", "remedy": ""}', 1, "crashed"),
        (b'{"loaded": 1, "problem": "", "remedy": ""}', 0, "crashed"),
        (b'{"loaded": false, "problem": "it is odd", "remedy": "Go on."}', 0, "it is odd. Go on."),
    ],
)
def test_only_a_clear_answer_counts(tmp_path: Path, output: bytes, code: int, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        check_answer(output, code, tmp_path / "m.safetensors")


def test_closing_it_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def sleeping(*_: object) -> subprocess.Popen[bytes]:
        child = process("import time; time.sleep(60)")
        started.append(child.pid)
        return child

    monkeypatch.setattr(trial, "_started", sleeping)
    steps = try_loading("m", "file", tmp_path / "m.safetensors", PLENTY)
    next(steps)
    steps.close()
    assert not psutil.pid_exists(started[0])


def test_a_model_that_another_encoder_made_is_not_imported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="other weights of its encoder 'bundled'") as caught:
        take(import_model(own(tmp_path / "m.safetensors", encoder_identity="0" * 64)))
    assert "'m.safetensors'" in str(caught.value)
    assert not models_folder().exists()


def test_an_encoder_s_folder_that_is_none_is_not_imported(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}}))
    torch.save({"w": torch.zeros(1)}, folder / "open_clip_pytorch_model.bin")
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"'open_clip_config\.json'"):
        take(import_model(folder))
    assert time.monotonic() - started < 60
