"""Mixed precision: what a device does well."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from napari_plimseg.errors import ConfigError

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_AMPERE = 8


@dataclass(frozen=True)
class Precision:
    """Number format of the forward pass; weights and optimizer stay in float32.

    Parameters
    ----------
    device : torch.device
        Where the network is.
    dtype : torch.dtype
        float32, bfloat16 or float16.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the loss is computed."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the scaler of gradients; it does nothing unless the format is float16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return the number format of a recipe's `precision` on a device.

    "auto" takes bfloat16 on CUDA from Ampere on, float16 on older CUDA, and float32 elsewhere:
    on most CPUs bfloat16 is several times slower than float32.

    Raises
    ------
    ConfigError
        When the device can't train in this format.
    """
    if wanted == "auto":
        if device.type != "cuda":
            return Precision(device, torch.float32)
        ampere = torch.cuda.get_device_capability(device)[0] >= _AMPERE
        return Precision(device, torch.bfloat16 if ampere else torch.float16)
    if wanted == "float16" and device.type != "cuda":
        raise ConfigError(
            "the key 'precision' is 'float16', which needs a CUDA device for training",
            remedy="Write auto or float32.",
        )
    return Precision(device, _TYPES[wanted])
