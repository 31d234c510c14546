"""Progress of a run, and the time left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm.auto import tqdm

    from napari_plimseg.tiling import Window


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Parameters
    ----------
    tiles_done, tiles_total : int
        Tiles with tissue in the region, including those of an earlier run.
    window : Window or None
        Mask pixels of the tile that was just written.
    seconds : float
        Since the start of this run.
    tiles_per_second : float
        Of this run; 0 before the first tile.
    seconds_left : float or None
        Estimate; None before the first tile.
    device : str
        For people: "CPU, 8 cores".
    batch_size : int
        Current number of tiles per batch.
    unreadable_tiles : int
        Tiles of this region that could not be read.
    message : str
        The current stage, for people.
    note : str
        What people should know about how the run is computed, as a sentence; may be empty.
    """

    tiles_done: int
    tiles_total: int
    window: Window | None
    seconds: float
    tiles_per_second: float
    seconds_left: float | None
    device: str
    batch_size: int
    unreadable_tiles: int
    message: str
    note: str = ""


@dataclass
class ProgressCounter:
    """Counts tiles and time; makes `Progress`.

    Parameters
    ----------
    device : str
        For people.
    batch_size : int
        Tiles per batch; the engine lowers it when memory runs out.
    """

    device: str
    batch_size: int
    total: int = 0
    resumed: int = 0
    done: int = 0
    unreadable: int = 0
    message: str = "Finding tissue"
    note: str = ""

    def __post_init__(self) -> None:
        self.start = self.first_tile = time.monotonic()

    def shrink(self) -> None:
        """Halve the batches, because memory ran out."""
        self.batch_size = max(1, self.batch_size // 2)
        self.message = f"Out of memory: continuing with {self.batch_size} tiles at once"

    def progress(self, window: Window | None = None) -> Progress:
        """Return the current progress, with the mask pixels of the tile just written."""
        now = time.monotonic()
        fresh = self.done - self.resumed
        rate = fresh / max(now - self.first_tile, 1e-6) if fresh else 0.0
        return Progress(
            tiles_done=self.done,
            tiles_total=self.total,
            window=window,
            seconds=now - self.start,
            tiles_per_second=rate,
            seconds_left=(self.total - self.done) / rate if rate else None,
            device=self.device,
            batch_size=self.batch_size,
            unreadable_tiles=self.unreadable,
            message=self.message,
            note=self.note,
        )


class ProgressBar:
    """A bar of tiles on standard error, or in a notebook.

    Parameters
    ----------
    only_on_terminal : bool
        Whether to draw nothing where standard error is not a terminal, as in a log file.
    """

    def __init__(self, *, only_on_terminal: bool = False) -> None:
        self._disable = None if only_on_terminal else False  # None: tqdm looks for a terminal
        self._bar: tqdm[Any] | None = None

    def show(self, progress: Progress) -> None:
        """Draw the bar; nothing before the number of tiles is known."""
        text = f"{progress.message} ({progress.device})"
        if self._bar is None:
            if not progress.tiles_total:
                return
            # here, since it takes longer than all else that `plimseg --help` imports
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=progress.tiles_total,
                initial=progress.tiles_done,
                unit="tile",
                desc=text,
                disable=self._disable,
            )
        self._bar.update(progress.tiles_done - self._bar.n)
        self._bar.set_description(text, refresh=False)

    def close(self) -> None:
        """End the bar; the next `show` begins another one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
