"""Networks computed by OpenVINO: the same numbers, a cache that heals, nothing sent."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import user_cache_dir
from napari_plimseg.models import (
    TORCH,
    Engine,
    EngineError,
    acceleration,
    engines_for,
    has_bfloat16,
)
from napari_plimseg.models.acceleration import Network

if TYPE_CHECKING:
    from pathlib import Path

FAST = Engine("openvino")


def network(seed: int = 0, key: str = "a" * 8) -> Network:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    return Network(nn.Sequential(*layers).eval(), 32, key)


def cached() -> list[Path]:
    return sorted((user_cache_dir() / "networks").glob("*.network"))


def test_every_engine_computes_the_same() -> None:
    own, windows = network(), torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected, found = own(windows), own.on(FAST)(windows)
        assert torch.allclose(found, expected, atol=1e-5)
        # each window alone gives the same bits, and the module stays as it was
        assert torch.equal(own.on(FAST)(windows[1:2])[0], found[1])
        assert torch.equal(own(windows), expected)


def test_inputs_of_other_sizes_are_computed_by_torch() -> None:
    own, image = network(), torch.rand(1, 3, 16, 48)
    with torch.inference_mode():
        assert torch.equal(own.on(FAST)(image), own(image))


def test_bfloat16_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    own, windows = network(), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        found, expected = own.on(Engine("openvino", "bfloat16"))(windows), own(windows)
    assert torch.allclose(found, expected, atol=0.03)
    assert not has_bfloat16() or not torch.equal(found, expected)


def test_the_precision_follows_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [Engine("openvino", "bfloat16"), FAST]
    for instructions, expected in (("avx512_bf16", both), ("amx_bf16", both), ("avx2", [FAST])):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda i=instructions: {i: True})
        assert engines_for("auto") == expected
        assert engines_for("float32") == [FAST]
    with pytest.raises(EngineError, match="no instructions for bfloat16"):
        engines_for("bfloat16")


def test_an_engine_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError):
        Engine("torch", "bfloat16")
    assert network().on(TORCH).engine == TORCH


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_cache_is_built_again(damage: str) -> None:
    own, windows = network(), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = own.on(FAST)(windows)
        (file,) = cached()
        content = bytearray(file.read_bytes())
        good = bytes(content)
        content[len(content) // 2] ^= 1
        file.unlink()
        if damage == "folder":
            file.mkdir()
        else:
            kinds = {"cut": good[:100], "flipped": bytes(content), "empty": b""}
            file.write_bytes(kinds[damage])
        # another module of the same weights, as after a restart
        assert torch.equal(network().on(FAST)(windows), expected)
    if damage != "folder":
        # names in the description are numbered anew, so it need not be the same file
        assert acceleration._read(file) is not None


def test_the_cache_is_read_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network().on(FAST)
    (first,) = cached()
    with monkeypatch.context() as patched:
        patched.setattr(acceleration, "_converted", lambda network: pytest.fail("converted"))
        network().on(FAST)
    monkeypatch.setattr(acceleration, "CACHE_LIMIT", int(2.5 * first.stat().st_size))
    for number in range(3):
        network(key=f"other {number}").on(FAST)
    assert len(cached()) == 2
    assert first not in cached()


def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    user_cache_dir().parent.mkdir(parents=True, exist_ok=True)
    user_cache_dir().write_text("a file in place of the folder")
    with torch.inference_mode():
        assert network().on(FAST)(torch.rand(1, 3, 32, 32)).shape == (1, 4, 32, 32)


def test_it_uses_as_many_threads_as_torch() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            request = network(key=f"threads {threads}").on(FAST)._compiled._request  # type: ignore[union-attr]
            compiled = request.get_compiled_model()
            found.append(int(compiled.get_property("INFERENCE_NUM_THREADS")))
    finally:
        torch.set_num_threads(before)
    assert found == [1, 2]


def test_a_broken_openvino_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("Unsupported operation\nand a long trace")

    monkeypatch.setattr(acceleration, "_core", broken)
    with pytest.raises(EngineError, match=r"can't compute this network \(Unsupported operation\)"):
        network().on(FAST)


PROGRAM = """
import socket, sys
def told(event, arguments):
    if event.startswith(("socket.", "urllib", "subprocess", "os.fork", "os.mkdir")):
        print("told", event, arguments)
sys.addaudithook(told)
{before}
from napari_plimseg.models.acceleration import openvino_package
package = openvino_package()
import torch
layer = torch.nn.Conv2d(3, 3, 1)
package.convert_model(layer, example_input=torch.rand(1, 3, 8, 8))
"""


@pytest.mark.parametrize("before", ["", "import openvino_telemetry.main"])
def test_openvino_sends_nothing(before: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)],
        capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "told" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_without_openvino_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import sys
sys.modules["openvino"] = None
from napari_plimseg.models.acceleration import EngineError, openvino_package
try:
    openvino_package()
except EngineError as error:
    print(error.problem)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == acceleration.NOT_INSTALLED
