"""A training by several processes, as torchrun starts them: FOLDER PROCESSES BATCH_SIZE PORT."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import torch

from plimseg_training.loop.distributed import join_world
from plimseg_training.loop.loop import LoopOptions, train
from tests.support.tiny_task import TinyNetwork, TinyTask, stage


def trained(folder: Path, batch_size: int) -> None:
    """Train a network without randomness; each process starts from other weights."""
    with join_world(torch.device("cpu")) as world:
        network = TinyNetwork(dropout=0, norm=False, seed=world.rank)
        task = TinyTask(items=21, network=network)
        config = stage(batch_size=batch_size, accumulate=2)
        train(task, config, folder, seed=4, device="cpu", options=LoopOptions(threads=0))


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
