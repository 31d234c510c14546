"""Weights stored in eight bits: one scale a row, read back into ordinary float tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SCALE_SUFFIX = ".row_scale"


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 values (N, ...) and float32 scales (N, 1, ...) of a matrix or a kernel.

    `values * scales` differs from `weight` by at most half a scale, which is 1/254 of the row's
    largest magnitude.
    """
    rest = tuple(range(1, weight.ndim))
    scale = weight.abs().amax(rest, keepdim=True).clamp_min(1e-12) / 127
    return torch.round(weight / scale).to(torch.int8), scale.float()


def dequantized(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` in float32, with every int8 tensor multiplied by its row scales."""
    result = {}
    for name, tensor in state.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        if tensor.dtype == torch.int8:
            result[name] = tensor.float() * state[name + SCALE_SUFFIX]
        else:
            result[name] = tensor.float() if tensor.is_floating_point() else tensor
    return result
