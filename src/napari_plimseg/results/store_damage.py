"""What is damaged or lost in a mask store, and where, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_plimseg.results.store_layout import tile_total, tile_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.store_layout import StoreLayout, TileIndex


@dataclass(frozen=True)
class StoreDamage:
    """What is damaged or lost in a store; false when nothing is.

    Parameters
    ----------
    info : MaskInfo
        Of the store.
    layout : StoreLayout
        Of the store.
    tiles : tuple of (str, tuple of TileIndex)
        Rows and columns of the finished tiles that can't be read, by the name of the array.
    lost_journal : bool
        Whether it is not known which tiles were finished.
    metadata : tuple of str
        Paths of metadata that other programs read, in the store. Nothing here depends on them.
    """

    info: MaskInfo
    layout: StoreLayout
    tiles: tuple[tuple[str, tuple[TileIndex, ...]], ...] = ()
    lost_journal: bool = False
    metadata: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lost_journal or self.metadata or self.damaged_tiles)

    @property
    def damaged_tiles(self) -> frozenset[TileIndex]:
        """Rows and columns of the tiles that are damaged in any array."""
        return frozenset(tile for _, tiles in self.tiles for tile in tiles)

    @property
    def pixels(self) -> int:
        """Number of mask pixels of the damaged tiles."""
        windows = (tile_window(tile, self.info, self.layout) for tile in self.damaged_tiles)
        return sum((r.stop - r.start) * (c.stop - c.start) for r, c in windows)

    @property
    def area_mm2(self) -> float | None:
        """Square millimeters of the damaged tiles; None when the pixel size is unknown."""
        size = self.info.pixel_area_mm2
        return None if size is None else self.pixels * size

    @property
    def sentence(self) -> str:
        """Which part is damaged, for people; empty when nothing is."""
        parts = []
        if self.lost_journal:
            parts.append(
                f"its journal is lost or damaged, so nothing tells which of its "
                f"{tile_total(self.info, self.layout):,} tiles were finished"
            )
        by_tiles: dict[tuple[TileIndex, ...], list[str]] = {}
        for name, tiles in self.tiles:
            if tiles:
                by_tiles.setdefault(tiles, []).append(name)
        parts += [self._part(names, tiles) for tiles, names in by_tiles.items()]
        if self.metadata:
            parts.append(f"its description for other programs is damaged ({self.metadata[0]})")
        return "; ".join(parts)

    @property
    def notice(self) -> str:
        """A sentence for a run that computes the damaged parts again; empty when there are none."""
        return f"Damaged parts are computed again: {self.sentence}." if self else ""

    def outcome(self, is_there: Callable[[TileIndex], bool]) -> str:
        """Return what became of the damage in a run; empty when there was none.

        Parameters
        ----------
        is_there : callable
            Whether a tile is in the store after the run: `MaskStore.has`.
        """
        if not self:
            return ""
        text = f"Damaged parts were computed again: {self.sentence}."
        return f"{text} {self.still_missing(is_there)}".rstrip()

    def still_missing(self, is_there: Callable[[TileIndex], bool]) -> str:
        """Return what to do about damaged tiles outside the area of a run; empty for none."""
        missing = sum(not is_there(tile) for tile in self.damaged_tiles)
        if not missing:
            return ""
        if missing == 1:
            text = "One of these tiles lies outside this area and is not computed yet"
        else:
            text = f"{missing:,} of these tiles lie outside this area and are not computed yet"
        return f"{text}: segment the whole slide."

    def _part(self, names: list[str], tiles: tuple[TileIndex, ...]) -> str:
        what = " and ".join(f"the {name}" for name in names)
        total, count = tile_total(self.info, self.layout), len(tiles)
        verb = "is" if count == 1 else "are"
        text = f"{count:,} of {total:,} tiles of {what} {verb} damaged or lost"
        boxes = self._boxes(tiles)
        more = f" and in {len(boxes) - 3:,} more places" if len(boxes) > 3 else ""
        places = "; ".join(map(self._place, boxes[:3]))
        in_all = " in all" if len(boxes) > 1 else ""
        return f"{text}: {places}{more}{self._about(tiles)}{in_all}"

    def _about(self, tiles: tuple[TileIndex, ...]) -> str:
        part = replace(self, tiles=(("", tiles),))
        area = part.area_mm2
        if area is None:
            return f", {part.pixels:,} pixels"
        return f", about {area:.2g} mm²" if area >= 0.001 else f", about {area * 1e6:,.0f} µm²"

    def _boxes(self, tiles: tuple[TileIndex, ...]) -> list[tuple[slice, slice]]:
        """Return rows and columns of mask pixels around tiles that touch, the largest first."""
        places = np.array(tiles)
        first = places.min(0)
        grid = np.zeros(places.max(0) - first + 1, bool)
        grid[tuple((places - first).T)] = True
        boxes = []
        for rows, columns in ndimage.find_objects(ndimage.label(grid)[0]):
            corners = (
                (rows.start + first[0], columns.start + first[1]),
                (rows.stop - 1 + first[0], columns.stop - 1 + first[1]),
            )
            (top, left), (bottom, right) = (
                tile_window((int(y), int(x)), self.info, self.layout) for y, x in corners
            )
            boxes.append((slice(top.start, bottom.stop), slice(left.start, right.stop)))
        return sorted(boxes, key=lambda b: (b[0].start - b[0].stop) * (b[1].stop - b[1].start))

    def _place(self, box: tuple[slice, slice]) -> str:
        rows, columns = box
        size = self.info.mask_mpp
        if size is None:
            return f"x {columns.start:,} to {columns.stop:,}, y {rows.start:,} to {rows.stop:,}"
        x, y = ((part.start * size, part.stop * size) for part in (columns, rows))
        return f"x {x[0]:,.0f} to {x[1]:,.0f} µm, y {y[0]:,.0f} to {y[1]:,.0f} µm"
