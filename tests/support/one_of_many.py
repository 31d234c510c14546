"""A training by several processes, as torchrun starts them: FOLDER PROCESSES BATCH_SIZE PORT."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn

from plimseg_training.loop.distributed import join_world
from plimseg_training.loop.loop import LoopOptions, train
from tests.support.tiny_task import TinyNetwork, TinyTask, stage


class Selective(TinyNetwork):
    """A network without randomness: one weight serves bright images only, and one nothing."""

    def __init__(self, seed: int) -> None:
        super().__init__(dropout=0, norm=False, seed=seed)
        self.bright = nn.Parameter(torch.zeros(2))
        self.unused = nn.Parameter(torch.zeros(2, 2))

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        is_bright = images.mean((1, 2, 3)) > 1
        if bool(is_bright.any()):
            logits = logits + is_bright[:, None] * self.bright
        return logits


def trained(folder: Path, batch_size: int) -> None:
    """Train once straight, once with an interruption, and once on fewer items than processes.

    Each process begins with other weights.
    """
    with join_world(torch.device("cpu")) as world:

        def run(name: str, items: int, stop_after: int = 0) -> None:
            steps = iter(range(1, 100))
            train(
                TinyTask(items=items, network=Selective(world.rank)),
                stage(batch_size=batch_size, accumulate=2),
                folder / name,
                seed=4,
                device="cpu",
                should_stop=lambda: next(steps) == stop_after,
                options=LoopOptions(threads=0),
            )

        run("straight", 21)
        run("resumed", 21, stop_after=7)
        run("resumed", 21)
        run("one_item", 1)


def forked(folder: Path, batch_size: int, rank: int) -> int:
    """Start one process; return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
        trained(folder, batch_size)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def main(folder: Path, processes: int, batch_size: int, port: int) -> int:
    """Set the variables that torchrun sets, start all, and return how many failed."""
    torch.set_num_threads(1)
    # what an optimizer imports is imported before the forks
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()
    os.environ |= {
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    children = [forked(folder / "together", batch_size, rank) for rank in range(processes)]
    failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    os.environ["WORLD_SIZE"] = "1"
    trained(folder / "alone", batch_size * processes)
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
