"""Where on the slide to run: a rectangle or drawn shapes, in level-0 pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_plimseg.slides.slide import Region
    from napari_plimseg.tiling import Window


@dataclass(frozen=True)
class RunRegion:
    """A part of the slide.

    Parameters
    ----------
    outline : shapely geometry
        In level-0 pixels, x first as shapely has it; valid and not empty.
    clip : bool
        Whether the mask ends exactly at the outline. Otherwise whole tiles are written, which a
        later run on a larger part does not have to compute again.
    """

    outline: shapely.Geometry
    clip: bool

    def __post_init__(self) -> None:
        if self.outline.is_empty or not self.outline.area > 0:
            raise ConfigError(
                "the region to run on has no area", remedy="Draw a rectangle or a polygon."
            )
        shapely.prepare(self.outline)

    @classmethod
    def rectangle(cls, region: Region, *, clip: bool = False) -> RunRegion:
        """Return a rectangle; by default whole tiles are written."""
        corners = (region.x, region.y, region.x + region.width, region.y + region.height)
        return cls(shapely.box(*corners), clip)

    @classmethod
    def polygons(cls, vertices: Sequence[NDArray[np.floating]]) -> RunRegion:
        """Return the union of polygons, each (N, 2) of level-0 (y, x); the mask ends there.

        Raises
        ------
        ConfigError
            When no polygon has an area.
        """
        drawn = [
            shapely.make_valid(shapely.Polygon(np.asarray(points, float)[:, ::-1]))
            for points in vertices
            if len(points) >= 3
        ]
        return cls(shapely.union_all(drawn), True)

    @property
    def key(self) -> str:
        """Hex digest that identifies the part."""
        return hashlib.sha256(shapely.to_wkb(shapely.normalize(self.outline))).hexdigest()[:16]

    def touches(self, window: Window, downsample: float) -> bool:
        """Whether a window of pixels of `downsample` has any area in the region."""
        box = self._box(window, downsample)
        return bool(
            shapely.intersects(self.outline, box) and not shapely.touches(self.outline, box)
        )

    def covers(self, window: Window, downsample: float) -> bool:
        """Whether a window lies in the region as a whole."""
        return bool(shapely.covers(self.outline, self._box(window, downsample)))

    def inside(self, window: Window, downsample: float) -> NDArray[np.bool_]:
        """Return (height, width): which pixels have their centre in the region."""
        y = (np.arange(window.y, window.y + window.height) + 0.5) * downsample
        x = (np.arange(window.x, window.x + window.width) + 0.5) * downsample
        grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
        result: NDArray[np.bool_] = shapely.contains_xy(self.outline, grid_x, grid_y)
        return result

    @staticmethod
    def _box(window: Window, downsample: float) -> shapely.Geometry:
        return shapely.box(
            window.x * downsample,
            window.y * downsample,
            (window.x + window.width) * downsample,
            (window.y + window.height) * downsample,
        )
