"""Checkpoints: the whole state comes back, and nothing damaged is ever taken for whole."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from plimseg_training.loop import state as state_module
from plimseg_training.loop.state import (
    LAST,
    PREVIOUS,
    Position,
    TrainState,
    random_states,
    read_state,
    read_weights_of_run,
    seed_everything,
    set_random_states,
    write_state,
    write_weights,
)
from plimseg_training.run_folder import RunError

if TYPE_CHECKING:
    from pathlib import Path


def a_state(epoch: int = 1, **changes: Any) -> TrainState:
    tensors = {
        "network.weight": torch.arange(6.0).reshape(2, 3) + epoch,
        "network.count": torch.tensor(epoch),
        "ema.weight": torch.ones(2, 3, dtype=torch.bfloat16),
        "rng.0.python_gauss": torch.tensor([float("nan")]),
    }
    position = Position(epoch=epoch, loss_sums={"loss": 0.1 + 0.2}, best_score=0.75)
    config = {"stage1": {"epochs": 3, "scales": [1.0]}, "device": "cpu"}
    return TrainState(tensors, position, config=config, digest="abc", **changes)


def test_a_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    state = a_state(scaler={"scale": 1024.0, "_growth_tracker": 3})
    write_state(tmp_path, state)
    found = read_state(tmp_path)
    assert found is not None
    back, problem = found
    assert problem is None
    assert back.position == state.position
    assert (back.scaler, back.config, back.digest) == (state.scaler, state.config, "abc")
    assert set(back.tensors) == set(state.tensors)
    for name, tensor in state.tensors.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert torch.equal(back.tensors[name].nan_to_num(), tensor.nan_to_num())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    for epoch in (1, 2, 3):
        write_state(tmp_path, a_state(epoch))
    assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert state_module._read_state(tmp_path / LAST).position.epoch == 3
    assert state_module._read_state(tmp_path / PREVIOUS).position.epoch == 2


def test_a_damaged_last_one_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_state(tmp_path, a_state(1))
    write_state(tmp_path, a_state(2))
    last = tmp_path / LAST
    last.write_bytes(last.read_bytes()[:-5])
    found = read_state(tmp_path)
    assert found is not None
    assert found[0].position.epoch == 1
    assert found[1] is not None
    assert "last.ckpt" in found[1]
    assert "previous.ckpt" in found[1]
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(RunError, match="damaged") as raised:
        read_state(tmp_path)
    assert raised.value.exit_code == 6


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    write_state(tmp_path, a_state(1))
    path = tmp_path / LAST
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in {*rng.integers(0, len(content), 200), *range(8), len(content) - 1}:
        broken = bytearray(content)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(RunError):
            read_state(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LAST)
    with pytest.raises(RunError, match="damaged"):
        read_state(tmp_path)
    with pytest.raises(RunError, match="not a regular file"):
        read_weights_of_run(tmp_path / LAST)


def test_pickled_files_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / LAST)
    with pytest.raises(RunError, match="damaged"):
        read_state(tmp_path)


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_a_checkpoint_and_says_so(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path, a_state(1))

    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(state_module, "save_file", full)
    elif moment == "fsync":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(RunError, match="the disk is full") as raised:
        write_state(tmp_path, a_state(2))
    assert "resume" in str(raised.value)
    monkeypatch.undo()
    found = read_state(tmp_path)
    assert found is not None
    assert found[0].position.epoch == 1
    assert not list(tmp_path.glob(".partial-*"))


def test_another_recipe_or_other_data_are_refused_by_name(tmp_path: Path) -> None:
    state = a_state()
    state.check_same({"stage1": {"epochs": 3, "scales": (1.0,)}, "device": "cuda"}, "abc",
                     path=tmp_path)  # fmt: skip
    with pytest.raises(RunError, match=r"stage1\.epochs was 3 and is 4") as raised:
        state.check_same({**state.config, "stage1": {"epochs": 4, "scales": [1.0]}}, "abc",
                         path=tmp_path)  # fmt: skip
    assert "new run folder" in str(raised.value)
    with pytest.raises(RunError, match="images or their tags"):
        state.check_same(state.config, "abd", path=tmp_path)
    with pytest.raises(RunError, match=r"seed was None and is 1"):
        state.check_same({**state.config, "seed": 1}, "abc", path=tmp_path)


def test_weights_that_are_not_finite_are_named() -> None:
    state = a_state()
    assert state.not_finite() is None
    state.tensors["network.weight"][1, 2] = float("inf")
    assert state.not_finite() == "network.weight"


def test_weights_alone_come_back_with_their_header(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 3)
    path = tmp_path / "best.safetensors"
    write_weights(path, network, {"epoch": 2, "score": float("-inf")})
    tensors, about = read_weights_of_run(path)
    assert about == {"epoch": 2, "score": float("-inf")}
    assert torch.equal(tensors["weight"], network.weight)
    with pytest.raises(RunError, match="does not exist"):
        read_weights_of_run(tmp_path / "no.safetensors")


def drawn() -> tuple[float, ...]:
    python = (random.random(), random.gauss(0, 1))  # noqa: S311
    numpy = (float(np.random.rand()), float(np.random.standard_normal()))
    return (*python, *numpy, float(torch.rand(1)), float(torch.randn(1)))


def test_all_random_generators_go_on_where_they_were() -> None:
    before = random_states(torch.device("cpu"))
    try:
        seed_everything((1, 2, 3))
        first = drawn()  # leaves half a Gaussian pair in python and NumPy
        states = random_states(torch.device("cpu"))
        wanted = drawn()
        seed_everything((4,))
        assert drawn() != wanted
        set_random_states(states, torch.device("cpu"))
        assert drawn() == wanted
        seed_everything((1, 2, 3))
        assert drawn() == first
    finally:
        set_random_states(before, torch.device("cpu"))
