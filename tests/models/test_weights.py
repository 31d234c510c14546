"""Weight files of others: tensors only, and checked whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from napari_plimseg.errors import ModelError
from napari_plimseg.models.weights import (
    SCALE_SUFFIX,
    check_weights,
    dequantized,
    load_checked,
    quantized,
    read_weights,
)

if TYPE_CHECKING:
    from pathlib import Path


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, suffix: str) -> None:
    path, marker = tmp_path / f"model{suffix}", tmp_path / "was-run"
    torch.save({"weight": torch.zeros(2), "payload": RunsCode(marker)}, path)
    with pytest.raises(ModelError, match="more than tensors"):
        read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a readable|more than tensors"),
        (b"\x80\x04garbage", "not a readable|more than tensors"),
        (b"PK\x03\x04 cut off", "not a readable|more than tensors"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused(
    tmp_path: Path, suffix: str, content: bytes, problem: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=problem):
        read_weights(path)


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'gone\.pt': the file does not exist") as caught:
        read_weights(tmp_path / "gone.pt")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_usual_wrappers_are_taken_off(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    tensors = {f"{prefix}weight": torch.arange(3.0)}
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, tmp_path / "m.pt")
    found = read_weights(tmp_path / "m.pt")
    assert list(found) == ["weight"]
    assert found["weight"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weight": torch.zeros(3, 3)}, r"shape \(3, 3\) instead of \(2, 3\)"),
        ({"weight": torch.full((2, 3), float("nan"))}, "not finite"),
        ({"bias": torch.tensor([0.0, float("inf")])}, "not finite"),
        ({"other": torch.zeros(1)}, "'other' is not known"),
        ({"bias": None}, "'bias' is missing"),
    ],
)
def test_weights_of_another_network_are_refused_whole(
    tmp_path: Path, change: dict[str, torch.Tensor | None], problem: str
) -> None:
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.clone()
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)} | change
    path = tmp_path / "m.safetensors"
    save_file({k: v for k, v in state.items() if v is not None}, path)
    with pytest.raises(ModelError, match=problem):
        load_checked(layer, path)
    assert torch.equal(layer.weight, before)


def test_fitting_weights_are_loaded(tmp_path: Path) -> None:
    layer, path = torch.nn.Linear(3, 2), tmp_path / "m.safetensors"
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, path)
    assert len(load_checked(layer, path)) == 64
    assert layer.weight.eq(1).all()


def test_check_weights_accepts_the_networks_own_state() -> None:
    state = torch.nn.Conv2d(2, 3, 1).state_dict()
    check_weights(state, state, path="own.safetensors")


@pytest.mark.parametrize("spread", [1e-6, 1.0, 100.0])
def test_quantized_rows_differ_by_at_most_half_a_step(spread: float) -> None:
    weight = torch.randn(50, 64, generator=torch.Generator().manual_seed(1)) * spread
    weight[7] = 0
    values, scales = quantized(weight)
    back = dequantized({"w": values, f"w{SCALE_SUFFIX}": scales})
    assert list(back) == ["w"]
    assert values.dtype == torch.int8
    largest = weight.abs().amax(1, keepdim=True)
    assert ((back["w"] - weight).abs() <= largest / 254 * 1.001 + 1e-12).all()


def test_dequantizing_makes_half_precision_single() -> None:
    back = dequantized({"h": torch.ones(2, dtype=torch.float16), "n": torch.tensor([3])})
    assert back["h"].dtype == torch.float32
    assert back["n"].dtype == torch.int64
