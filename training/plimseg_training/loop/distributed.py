"""The processes that train one network: one alone, or several started by torchrun."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor


# the other processes wait while the first one validates or writes pseudo masks
_TIMEOUT = datetime.timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The processes of a training.

    Parameters
    ----------
    rank : int
        Index of this process; process 0 writes files and logs events.
    size : int
        Number of processes.
    device : torch.device
        Device of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs events."""
        return self.rank == 0

    def share_of(self, indices: Sequence[int]) -> Sequence[int]:
        """Return this process's items of a step."""
        return indices[self.rank :: self.size]

    def sum_numbers(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.size == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64, device=self._meeting_place)
        dist.all_reduce(summed)
        return [float(number) for number in summed]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process."""
        return tuple(total > 0 for total in self.sum_numbers([float(flag) for flag in flags]))

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, of one shape and type, on the CPU."""
        if self.size == 1:
            return [tensor]
        mine = tensor.to(self._meeting_place)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        return [t.cpu() for t in found]

    def wait_for_all(self) -> None:
        """Wait until every process has called this."""
        self.sum_numbers([0.0])

    @property
    def _meeting_place(self) -> torch.device:
        return self.device if dist.get_backend() == "nccl" else torch.device("cpu")


@contextlib.contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Join the other processes started by torchrun, if any.

    Nested blocks share one process group, so that a stage can also be trained on its own.

    Parameters
    ----------
    device : torch.device
        Device of the recipe; with CUDA each process of a machine gets its own.

    Raises
    ------
    ConfigError
        When torchrun started more processes than there are CUDA devices.
    """
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size(), device)
        return
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"torchrun started {local + 1} processes or more, and there are "
                f"{torch.cuda.device_count()} CUDA devices",
                remedy="Give --nproc-per-node the number of devices.",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def prefetch(
    make: Callable[[Any], Any], wanted: Sequence[Any], *, threads: int
) -> Iterator[Iterator[Any]]:
    """Provide an iterator over `make(item)`, computed ahead by threads, in the items' order.

    Parameters
    ----------
    make : callable
        Called by the threads; an error is raised in place of the result.
    wanted : sequence
        The items.
    threads : int
        Number of threads; at most twice as many results wait. With 0, each result is computed
        on demand.

    Yields
    ------
    iterator
        Over the results. Results that nobody took are canceled when the block ends.
    """
    if threads == 0:
        yield map(make, wanted)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Any]] = deque()

        def results() -> Iterator[Any]:
            for item in wanted:
                waiting.append(pool.submit(make, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield results()
        finally:
            for future in waiting:
                future.cancel()
