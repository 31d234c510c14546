"""From a tile's probabilities to what the mask store keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_plimseg.inference.plan import TissueGate
    from napari_plimseg.inference.run_region import RunRegion
    from napari_plimseg.results.mask_store import MaskStore
    from napari_plimseg.tiling import TileGrid, TileIndex, Window


@dataclass(frozen=True)
class TileWriter:
    """Turns a tile's probabilities into what the store keeps.

    Pixels without tissue become background; pixels outside a clipping region stay as they are.
    """

    store: MaskStore
    grid: TileGrid
    gate: TissueGate
    region: RunRegion | None

    def state(self, tile: TileIndex) -> str | None:
        """Return what the store says of a tile for this region; None when it is to be computed."""
        return self.store.state(tile, self.region.key if self.region else None)

    def write(self, tile: TileIndex, probabilities: NDArray[np.uint8]) -> None:
        """Write a tile from uint8 probabilities (C, h, w), 255 = 1."""
        window = self.grid.mask_window(tile)
        # Labels come from the rounded values, so that a class of the mask is always the one with
        # the largest stored probability; ties go to the earlier class.
        probabilities = probabilities[:, : window.height, : window.width]
        classes = probabilities.argmax(0).astype(np.uint8)
        confidence = np.take_along_axis(probabilities, classes[None], 0)[0]
        classes += 1
        outside = ~self.gate.window(window)
        background = self.store.info.classes.background_id
        classes[outside] = background or NOT_COMPUTED
        confidence[outside] = 255 if background else 0
        probabilities = probabilities.copy()
        probabilities[:, outside] = 0
        if background:
            probabilities[background - 1, outside] = 255
        self._store(tile, window, classes, confidence, probabilities)

    def write_empty(self, tile: TileIndex) -> None:
        """Write a tile that holds no tissue."""
        window = self.grid.mask_window(tile)
        shape = (len(self.store.info.classes), window.height, window.width)
        self.write(tile, np.zeros(shape, np.uint8))

    def write_unreadable(self, tile: TileIndex) -> None:
        """Write a tile that the slide could not give: its own mask id, never a class."""
        window = self.grid.mask_window(tile)
        shape = (window.height, window.width)
        classes = np.full(shape, UNREADABLE, np.uint8)
        zeros = np.zeros((len(self.store.info.classes), *shape), np.uint8)
        self._store(tile, window, classes, zeros[0], zeros, unreadable=True)

    def _store(
        self,
        tile: TileIndex,
        window: Window,
        classes: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        probabilities: NDArray[np.uint8],
        *,
        unreadable: bool = False,
    ) -> None:
        arguments: dict[str, Any] = {"state": "unreadable" if unreadable else "done"}
        region, downsample = self.region, self.store.info.downsample
        if region is not None and region.clip and not region.covers(window, downsample):
            arguments["inside"] = region.inside(window, downsample)
            arguments["region_key"] = region.key
            arguments["state"] = "partial"
        self.store.write_tile(
            tile,
            window,
            classes,
            confidence,
            probabilities if self.store.layout.has_probabilities else None,
            **arguments,
        )
