"""A task that trains in milliseconds, with everything that makes a resumed training differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from plimseg_training.config.recipe import StageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

SIDE = 4
VALIDATED = 16


class TinyNetwork(nn.Module):
    """Dropout, a norm with buffers and a frozen layer: nothing of these may be lost."""

    def __init__(self, *, dropout: float = 0.3, norm: bool = True, seed: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.frozen = nn.Conv2d(3, 4, 3, padding=1)
            self.hidden = nn.Conv2d(4, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8) if norm else nn.GroupNorm(2, 8)
            self.dropout = nn.Dropout(dropout)
            self.out = nn.Conv2d(8, 2, 1)
        self.frozen.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.norm(self.hidden(self.frozen(images)))))
        return self.out(hidden).mean(dim=(2, 3))


class TinyTask:
    """Tells bright images from dark ones.

    Parameters
    ----------
    items : int
        Images an epoch.
    name : str
        Of the stage.
    network : nn.Module, optional
        A fresh `TinyNetwork` without it.
    fault : callable, optional
        Given (calls of `loss` before, loss, images), returns the loss to use.
    """

    def __init__(
        self,
        items: int = 20,
        *,
        name: str = "stage1",
        network: nn.Module | None = None,
        fault: Any = None,
    ) -> None:
        self.name = name
        self.network = network or TinyNetwork()
        self.items = items
        self.fault = fault
        self.calls = 0
        self.seen: list[tuple[int, tuple[int, ...]]] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        trained = [w for w in self.network.parameters() if w.requires_grad]
        return [{"params": trained[:2], "lr": 1e-2}, {"params": trained[2:], "lr": 3e-3}]

    def epoch_items(self, epoch: int) -> int:
        return self.items

    def batch(self, seed: int, epoch: int, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = []
        for index in indices:
            rng = np.random.default_rng((seed, epoch, index))
            images.append(rng.random((3, SIDE, SIDE), dtype=np.float32) + index % 2)
        self.seen.append((epoch, tuple(indices)))
        tags = torch.tensor([index % 2 for index in indices])
        return torch.from_numpy(np.stack(images)), tags

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        images, tags = batch
        loss = nn.functional.cross_entropy(self.network(images), tags)
        if self.fault is not None:
            loss = self.fault(self.calls, loss, images)
        self.calls += 1
        return loss, {"loss_cls": float(loss.detach())}

    def validate(self) -> dict[str, float]:
        self.network.eval()
        images, tags = self.batch(999, 0, range(VALIDATED))
        with torch.no_grad():
            logits = self.network(images)
        right = float((logits.argmax(1) == tags).float().mean())
        # a validation that draws random numbers must not upset the resumed order
        return {"score": right, "margin": float(logits.std()) + 0 * float(torch.rand(1))}

    def names(self, indices: Sequence[int]) -> list[str]:
        return [f"patch-{index}.png" for index in indices]


def stage(**changes: Any) -> StageConfig:
    """A stage of 4 epochs with 5 steps each: two batches a step, averaged weights."""
    values: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 2,
        "accumulate": 2,
        "learning_rate": 1e-2,
        "ema": 0.9,
        "precision": "float32",  # alike on every CPU
        **changes,
    }
    return StageConfig(**values)
