"""The device that runs the model, and who uses it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError, PlimsegError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def available_devices() -> list[str]:
    """Return the devices of this machine, fastest first: "cuda", "cuda:1", "mps", "cpu"."""
    import torch

    devices = []
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        devices += ["cuda"] + [f"cuda:{i}" for i in range(1, count)]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def pick_device(name: str = "auto") -> torch.device:
    """Return a device; "auto" takes the fastest one.

    Raises
    ------
    ConfigError
        When this machine does not have the device; the message lists the available ones.
    """
    import torch

    here = available_devices()
    if name == "auto":
        return torch.device(here[0])
    if name not in here and not (name == "cuda:0" and "cuda" in here):
        raise ConfigError(
            f"this machine has no device '{name}'", remedy=f"Available: {', '.join(here)}."
        )
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Return a device's name for people: "GPU NVIDIA A100" or "CPU, 8 cores"."""
    import torch

    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU (Apple)"
    return f"CPU, {os.cpu_count() or 1} cores"


_FILES = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}


def load_torch_library() -> bool:
    """Load torch's CPU library ahead of the import; return whether it was loaded here.

    `import torch` holds Python's lock while the system loads this library, which freezes the window
    for a quarter of a second. A direct call of `dlopen` does not hold it. If it fails, nothing is
    lost: the import loads the library.
    """
    name = _FILES.get(sys.platform)
    spec = None if name is None or "torch" in sys.modules else importlib.util.find_spec("torch")
    if name is None or spec is None or spec.origin is None:
        return False
    path = Path(spec.origin).parent / "lib" / name
    try:
        load = ctypes.CDLL(None).dlopen
    except (OSError, AttributeError):
        return False
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    return path.is_file() and load(os.fsencode(path), os.RTLD_NOW) is not None


class EngineLock:
    """Lets one run at a time use the engine; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = ""

    @property
    def owner(self) -> str:
        """Who runs the engine, for people; empty when it is free."""
        return self._owner

    @contextlib.contextmanager
    def held_by(self, owner: str) -> Iterator[None]:
        """Hold the engine for the length of the block.

        Parameters
        ----------
        owner : str
            For people: "the batch".

        Raises
        ------
        PlimsegError
            When it is in use.
        """
        if not self._lock.acquire(blocking=False):
            raise PlimsegError(
                f"the engine is in use by {self._owner or 'another run'}",
                remedy="Only one run at a time: wait until it is finished, or cancel it.",
            )
        try:
            self._owner = owner
            yield
        finally:
            self._owner = ""
            self._lock.release()


ENGINE = EngineLock()
"""The engine of this process."""
