"""Which processor runs the model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
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
        When the device is not on this machine; the message lists those that are.
    """
    import torch

    here = available_devices()
    if name == "auto":
        return torch.device(here[0])
    if name not in here and not (name == "cuda:0" and "cuda" in here):
        raise ConfigError(
            f"the device '{name}' is not on this machine", remedy=f"There is: {', '.join(here)}."
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch says that memory ran out, on any device."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in ("out of memory", "can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED")
    )
