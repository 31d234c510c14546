"""Torch's library is loaded ahead, and what is missing does no harm."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_plimseg.inference import devices

AHEAD = """
import sys
from napari_plimseg.inference.devices import load_torch_library
loaded = load_torch_library()
assert "torch" not in sys.modules
maps = open("/proc/self/maps").read()
import torch
print(loaded, "libtorch_cpu" in maps, float(torch.ones(2, 2).sum()), load_torch_library())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_library_is_there_before_the_import() -> None:
    result = subprocess.run(
        [sys.executable, "-c", AHEAD], capture_output=True, text=True, timeout=300, check=True
    )
    assert result.stdout.split() == ["True", "True", "4.0", "False"]


def test_on_another_system_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.sys, "platform", "win32")
    assert not devices.load_torch_library()
