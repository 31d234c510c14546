"""Two processes are as one with batches of twice the size."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from plimseg_training.loop.state import TrainState, read_state
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "tests.support.one_of_many"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def state_in(folder: Path) -> TrainState:
    found = read_state(folder / "stage1")
    assert found is not None
    assert found[0].position.step_total == 4 * 5
    return found[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no forks")
def test_two_processes_are_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", SCRIPT, str(tmp_path), "2", "1", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    alone, together = state_in(tmp_path / "alone"), state_in(tmp_path / "together")
    weights = [name for name in alone.tensors if not name.startswith("rng.")]
    assert {name.split(".")[0] for name in weights} == {"network", "ema", "optimizer"}
    for name in weights:
        ours, theirs = alone.tensors[name].double(), together.tensors[name].double()
        assert torch.allclose(ours, theirs, atol=1e-5), name
    # each process draws its own numbers, and all of them are kept
    first, second = (together.tensors[f"rng.{rank}.torch"] for rank in range(2))
    assert not torch.equal(first, second)
    assert together.config["processes"] == 2
