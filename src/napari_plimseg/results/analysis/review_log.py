"""The regions that a person has reviewed, on disk with the mask."""

from __future__ import annotations

import datetime
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from napari_plimseg.errors import ConfigError, StoreError
from napari_plimseg.results.store_manifest import disk_error, read_checked, write_checked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.mask_store import MaskStore


FILE_NAME = "reviewed.json"


@dataclass(frozen=True)
class ReviewedRegion:
    """A rectangle of the slide that a person has reviewed.

    Parameters
    ----------
    y, x, height, width : float
        Level-0 pixels.
    time : str
        ISO date and time, UTC; empty when unknown. The person's name is not stored.
    """

    y: float
    x: float
    height: float
    width: float
    time: str = ""

    def __post_init__(self) -> None:
        sides = (self.y, self.x, self.height, self.width)
        if not all(math.isfinite(v) for v in sides) or self.height <= 0 or self.width <= 0:
            raise ConfigError(f"a reviewed region of {self.height} x {self.width} pixels")

    @classmethod
    def of_mask_pixels(cls, info: MaskInfo, y: int, x: int, height: int, width: int) -> Self:
        """Return the region that a rectangle of mask pixels covers, reviewed now."""
        scale = info.downsample
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(y * scale, x * scale, height * scale, width * scale, now)


class ReviewLog:
    """The reviewed regions of one mask store.

    Each change is on disk when the method returns. Two programs may have the same log open: each
    change is applied to the current content of the file.

    Parameters
    ----------
    store : MaskStore
        The log is in its folder.

    Attributes
    ----------
    path : Path
        `reviewed.json` in the store.

    Raises
    ------
    StoreError
        When the file is damaged. It is renamed to `reviewed.json.damaged`, so that the next try
        starts an empty log.
    """

    def __init__(self, store: MaskStore) -> None:
        self.path = store.path / FILE_NAME
        self._regions = self._read()

    @property
    def regions(self) -> tuple[ReviewedRegion, ...]:
        """Reviewed regions, oldest first."""
        return self._regions

    def add(self, region: ReviewedRegion) -> None:
        """Add a reviewed region.

        Raises
        ------
        StoreError
            When the disk can't be written; the log is unchanged.
        """
        self._write((*self._read(), region))

    def remove(self, region: ReviewedRegion) -> None:
        """Remove a region; an unknown one is ignored.

        Raises
        ------
        StoreError
            When the disk can't be written; the log is unchanged.
        """
        self._write(tuple(each for each in self._read() if each != region))

    def _read(self) -> tuple[ReviewedRegion, ...]:
        if not self.path.exists():
            return ()
        try:
            entries = read_checked(self.path, self.path.parent)["regions"]
            return tuple(ReviewedRegion(**entry) for entry in entries)
        except (StoreError, ConfigError, KeyError, TypeError) as error:
            _set_aside(self.path)
            raise StoreError(
                "the list of reviewed regions is damaged and was renamed",
                path=self.path.parent,
                remedy="The mask is unchanged; mark the regions again.",
            ) from error

    def _write(self, regions: tuple[ReviewedRegion, ...]) -> None:
        try:
            write_checked(self.path, {"format": 1, "regions": [asdict(each) for each in regions]})
        except OSError as error:
            raise disk_error(error, self.path.parent) from error
        self._regions = regions


def reviewed_map(
    regions: Iterable[ReviewedRegion], info: MaskInfo, step: int = 1
) -> NDArray[np.bool_]:
    """Return where the mask was reviewed.

    Parameters
    ----------
    regions : iterable of ReviewedRegion
    info : MaskInfo
        The frame of the mask.
    step : int
        Only every `step`-th mask pixel is read.

    Returns
    -------
    ndarray of bool, shape (ceil(h / step), ceil(w / step))
        A pixel is reviewed when its center is in a region.
    """
    height, width = info.shape
    inside = np.zeros((-(-height // step), -(-width // step)), bool)
    for region in regions:
        rows = _between(region.y, region.height, info.downsample, step)
        columns = _between(region.x, region.width, info.downsample, step)
        inside[rows, columns] = True
    return inside


def _between(start: float, length: float, downsample: float, step: int) -> slice:
    # mask pixel k * step has its center at (k * step + 1 / 2) * downsample
    first, last = ((at / downsample - 0.5) / step for at in (start, start + length))
    return slice(max(0, math.ceil(first)), max(0, math.ceil(last)))


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(f"{path.name}.damaged"))
    except OSError as error:
        raise disk_error(error, path.parent) from error
