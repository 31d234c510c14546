"""A training that is killed or stopped, as a process: it goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.paths import ROOT

SCRIPT = "tests.support.killed_training"
RUNS = 3
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither forks nor SIGKILL")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of trainings killed with SIGKILL and stopped in three ways."""
    process = subprocess.run(
        [sys.executable, "-m", SCRIPT, str(tmp_path_factory.mktemp("runs")), str(RUNS)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    answer: dict[str, Any] = json.loads(process.stdout)
    return answer


def test_the_compared_state_is_the_whole_one(found: dict[str, Any]) -> None:
    straight = found["straight"]
    assert straight["steps"] == 20
    assert len(straight["history"]) == 4
    parts = {name.split(".")[0] for name in straight["tensors"]}
    assert parts == {"network", "ema", "optimizer", "rng", "best"}


@pytest.mark.parametrize("run", range(RUNS))
def test_three_kills_change_no_bit(run: int, found: dict[str, Any]) -> None:
    broken = found["broken"][run]
    assert broken["status"] == 0
    assert broken["kills"] >= 2  # one may come after the end
    assert broken["differs"] == []


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "file"])
def test_a_stopped_process_saves_and_ends_well(how: str, found: dict[str, Any]) -> None:
    assert found["stops"][how] == {
        "status": 0,
        "last": ["checkpoint", "stopped"],
        "run": "stopped",
    }
