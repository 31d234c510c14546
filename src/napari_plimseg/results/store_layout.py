"""How a mask store is divided into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.tiling import TileIndex as TileIndex
    from napari_plimseg.tiling import Window as Window


@dataclass(frozen=True)
class StoreLayout:
    """How a store's arrays are divided into chunks.

    Parameters
    ----------
    tile_shape : tuple of int
        Mask pixels (y, x) of a tile, which is also the chunk.
    tile_size : int
        The engine's tile size in working pixels that gave `tile_shape`.
    has_probabilities : bool
        Whether the probability of every class is kept.
    recipe : str
        Hex digest of everything that decides the mask: model, resolution, tissue settings.
    """

    tile_shape: tuple[int, int]
    tile_size: int
    has_probabilities: bool
    recipe: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "tile_shape": list(self.tile_shape),
            "tile_size": self.tile_size,
            "has_probabilities": self.has_probabilities,
            "recipe": self.recipe,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StoreLayout:
        """Build from plain data; raises KeyError, TypeError, ValueError or IndexError."""
        height, width = data["tile_shape"]
        if not (0 < int(height) < _LONGEST_SIDE and 0 < int(width) < _LONGEST_SIDE):
            raise ValueError(f"tiles of {height} x {width} pixels")
        return cls(
            tile_shape=(int(height), int(width)),
            tile_size=int(data["tile_size"]),
            has_probabilities=bool(data["has_probabilities"]),
            recipe=str(data["recipe"]),
        )


_LONGEST_SIDE = 2**31


def tile_window(tile: TileIndex, info: MaskInfo, layout: StoreLayout) -> tuple[slice, slice]:
    """Return rows and columns of mask pixels of a tile."""
    (height, width), (rows, columns) = layout.tile_shape, info.shape
    y, x = tile[0] * height, tile[1] * width
    return slice(y, min(y + height, rows)), slice(x, min(x + width, columns))


def grid_shape(info: MaskInfo, layout: StoreLayout) -> tuple[int, int]:
    """Return the rows and columns of tiles of a whole mask."""
    (height, width), (rows, columns) = layout.tile_shape, info.shape
    return -(-rows // height), -(-columns // width)


def tile_total(info: MaskInfo, layout: StoreLayout) -> int:
    """Return the number of tiles of a whole mask."""
    rows, columns = grid_shape(info, layout)
    return rows * columns
