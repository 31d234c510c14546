"""Small mask stores on disk for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plimseg.results.mask_store import MaskStore, StoreLayout
from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo


def written_store(
    path: Path,
    info: MaskInfo,
    mask: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    tile: int = 32,
    columns: int | None = None,
) -> MaskStore:
    """Return an open store that holds a whole mask, or only its first columns of tiles."""
    layout = StoreLayout((tile, tile), tile * 4, has_probabilities=False, recipe="test")
    store = MaskStore.create(path, info, layout)
    write_columns(store, mask, confidence, tile, slice(0, columns))
    return store


def write_columns(
    store: MaskStore,
    mask: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    tile: int,
    columns: slice,
) -> None:
    """Write some columns of tiles."""
    height, width = store.info.shape
    for row, y in enumerate(range(0, height, tile)):
        for column in range(-(-width // tile))[columns]:
            x = column * tile
            window = Window(y, x, min(tile, height - y), min(tile, width - x))
            store.write_tile(
                (row, column), window, mask[window.slices], confidence[window.slices], None
            )
    store.flush()
