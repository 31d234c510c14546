"""Two processes train as one does with batches of twice the size."""

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
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no forks")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def state_in(folder: Path) -> TrainState:
    found = read_state(folder / "stage1")
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings by one process ("alone") and the same ones by two ("together")."""
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, "-m", SCRIPT, str(folder), "2", "1", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("name", "steps"), [("straight", 4 * 5), ("one_item", 4)])
def test_two_processes_are_as_one_with_twice_the_batch(name: str, steps: int, runs: Path) -> None:
    alone, together = state_in(runs / "alone" / name), state_in(runs / "together" / name)
    assert alone.position.step_total == together.position.step_total == steps
    weights = [key for key in alone.tensors if not key.startswith("rng.")]
    assert {key.split(".")[0] for key in weights} == {"network", "ema", "optimizer"}
    # a weight that no loss used has no state of the optimizer in either
    assert weights == [key for key in together.tensors if not key.startswith("rng.")]
    assert not any(key.startswith("optimizer.") and "unused" in key for key in weights)
    for key in weights:
        ours, theirs = alone.tensors[key].double(), together.tensors[key].double()
        assert torch.allclose(ours, theirs, atol=1e-5), key
    assert together.config["processes"] == 2


def test_each_process_draws_its_own_numbers_and_all_are_kept(runs: Path) -> None:
    tensors = state_in(runs / "together" / "straight").tensors
    first, second = (tensors[f"rng.{rank}.torch"] for rank in range(2))
    assert not torch.equal(first, second)


def test_two_processes_resume_to_the_bit(runs: Path) -> None:
    straight, resumed = (
        state_in(runs / "together" / name).tensors for name in ("straight", "resumed")
    )
    assert straight.keys() == resumed.keys()
    for key, tensor in straight.items():
        assert torch.equal(tensor.nan_to_num(), resumed[key].nan_to_num()), key
