"""Batches made ahead by threads, in order."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def made_ahead(
    make: Callable[[Any], Any], wanted: Sequence[Any], *, threads: int
) -> Iterator[Iterator[Any]]:
    """Give an iterator of `make(item)` for the items, in their order.

    Parameters
    ----------
    make : callable
        Called by threads; its error is raised where its result would have come.
    wanted : sequence
        The items.
    threads : int
        How many; at most twice as many results wait. With 0 each is made when it is asked for.

    Yields
    ------
    iterator
        Of the results; when the block ends, what was not asked for is not made.
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
