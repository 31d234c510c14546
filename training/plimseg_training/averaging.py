"""Averaged weights (EMA): smoother than the last step's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of a network's trained weights.

    Frozen weights and buffers are the network's own.

    Parameters
    ----------
    network : nn.Module
        What is trained.
    decay : float
        Share that stays at each update, 0 to below 1. It is less in the first updates, so that the
        initial weights are forgotten: (1 + n) / (10 + n) at update n.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.tensors: dict[str, Tensor] = {
            name: weight.detach().clone()
            for name, weight in network.named_parameters()
            if weight.requires_grad
        }

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Move the average towards the network's weights; `count` updates came before."""
        decay = min(self.decay, (1 + count) / (10 + count))
        for name, weight in self.network.named_parameters():
            if name in self.tensors:
                self.tensors[name].lerp_(weight, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network hold the average inside the block, and its own weights again after."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self.network.named_parameters():
            if name in self.tensors:
                kept = weight.clone()
                weight.copy_(self.tensors[name])
                self.tensors[name].copy_(kept)
