"""How a slide is divided into tiles: arithmetic only, no pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels in some frame; corners may be outside the slide."""

    y: int
    x: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices; only for windows inside their array."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def padded(self, margin: int) -> Window:
        """Return the window grown by `margin` pixels on each side."""
        return Window(
            self.y - margin, self.x - margin, self.height + 2 * margin, self.width + 2 * margin
        )


TileIndex = tuple[int, int]
"""Row and column of a tile in its grid."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles that cover a slide's working pixels without gap or overlap.

    Working pixels are those of the virtual level at the model's resolution. Every tile has the
    same size, also at the slide's edge, where it extends beyond the slide; corners are multiples of
    `alignment`. The model gets a tile with `halo` pixels around it, and its outputs there are
    trimmed, so that neighboring tiles agree at their border.

    Parameters
    ----------
    shape : tuple of int
        Working pixels (y, x) of the slide.
    tile_size : int
        Side of a tile without its halo, in working pixels. Smaller slides get a smaller tile.
    halo : int
        Working pixels of context on each side, a multiple of the mask stride.
    mask_stride : int
        Working pixels per mask pixel.
    alignment : int
        The model's stride.
    """

    shape: tuple[int, int]
    tile_size: int
    halo: int
    mask_stride: int
    alignment: int

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ConfigError(f"a slide of {self.shape} working pixels can't be tiled")
        if self.mask_stride < 1 or self.alignment < 1 or self.alignment % self.mask_stride:
            raise ConfigError(
                f"the alignment {self.alignment} is not a multiple of the mask stride "
                f"{self.mask_stride}"
            )
        if self.tile_size < self.alignment or self.tile_size % self.alignment:
            near = max(1, round(self.tile_size / self.alignment)) * self.alignment
            raise ConfigError(
                f"the tile size {self.tile_size} is not a multiple of {self.alignment}",
                remedy=f"Choose {near}, for example.",
            )
        if self.halo < 0 or self.halo % self.mask_stride:
            raise ConfigError(f"the halo {self.halo} is not a multiple of {self.mask_stride}")

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Working pixels (y, x) of a tile without its halo."""
        rows, columns = (
            min(self.tile_size, math.ceil(side / self.alignment) * self.alignment)
            for side in self.shape
        )
        return rows, columns

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Number of tile rows and columns."""
        rows, columns = (
            math.ceil(side / tile) for side, tile in zip(self.shape, self.tile_shape, strict=True)
        )
        return rows, columns

    @property
    def mask_shape(self) -> tuple[int, int]:
        """Mask pixels (y, x) of the whole slide."""
        rows, columns = (math.ceil(side / self.mask_stride) for side in self.shape)
        return rows, columns

    @property
    def mask_tile_shape(self) -> tuple[int, int]:
        """Mask pixels (y, x) of a whole tile."""
        rows, columns = (side // self.mask_stride for side in self.tile_shape)
        return rows, columns

    def __len__(self) -> int:
        rows, columns = self.grid_shape
        return rows * columns

    def __iter__(self) -> Iterator[TileIndex]:
        rows, columns = self.grid_shape
        return ((row, column) for row in range(rows) for column in range(columns))

    def core(self, tile: TileIndex) -> Window:
        """Return the working pixels of a tile, without halo, not clipped at the slide's edge."""
        height, width = self.tile_shape
        return Window(tile[0] * height, tile[1] * width, height, width)

    def input(self, tile: TileIndex) -> Window:
        """Return the working pixels that the model gets for a tile."""
        return self.core(tile).padded(self.halo)

    def mask_window(self, tile: TileIndex) -> Window:
        """Return the mask pixels of a tile, clipped at the slide's edge."""
        height, width = self.mask_tile_shape
        y, x = tile[0] * height, tile[1] * width
        rows, columns = self.mask_shape
        return Window(y, x, min(height, rows - y), min(width, columns - x))

    def ordered(
        self, tiles: Iterable[TileIndex], focus: tuple[float, float] | None = None
    ) -> list[TileIndex]:
        """Return tiles row by row, or nearest to `focus` (y, x in working pixels) first."""
        if focus is None:
            return sorted(tiles)
        height, width = self.tile_shape

        def distance(tile: TileIndex) -> tuple[float, TileIndex]:
            dy = (tile[0] + 0.5) * height - focus[0]
            dx = (tile[1] + 0.5) * width - focus[1]
            return dy * dy + dx * dx, tile

        return sorted(tiles, key=distance)
