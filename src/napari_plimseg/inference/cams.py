"""The CAM of a class or a word over the part of a slide that is in view.

The cost is bounded: what is too large to be computed soon is left out, farthest from the middle
first. The vectors of the tiles are cached, so that another word, or a small movement, is quick.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_plimseg.inference.devices import ENGINE, pick_device
from napari_plimseg.inference.plan import Frame, TissueGate, check_slide
from napari_plimseg.tiling import TileGrid, Window

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from numpy.typing import NDArray

    from napari_plimseg.inference.plan import RunRegion, RunSettings
    from napari_plimseg.models import CamSource, CamTarget
    from napari_plimseg.slides import Slide
    from napari_plimseg.tiling import TileIndex


PIXELS_ON_CPU, PIXELS_ON_GPU = 8_000_000, 32_000_000
"""Most pixels, at the model's resolution, of a view whose CAM is computed."""
_TILE = 512
_CACHE_BYTES = 256 << 20
OWNER = "the CAM of the dock PLIMSeg"


@dataclass(frozen=True)
class CamFrame:
    """Where a CAM is on the slide.

    Parameters
    ----------
    window : Window
        The cells that are computed, in cells from the slide's corner.
    downsample : float
        Level-0 pixels per cell.
    tiles : int
        How many tiles there are to compute.
    is_whole : bool
        Whether it covers the whole view; else its middle only.
    lowest : float
        Value of a cell without tissue, or not computed yet: the lowest that is possible.
    """

    window: Window
    downsample: float
    tiles: int
    is_whole: bool
    lowest: float


@dataclass(frozen=True, eq=False)
class CamTile:
    """The CAM of one tile.

    Parameters
    ----------
    done : int
        Tiles so far.
    window : Window
        In cells from the corner of `CamFrame.window`.
    values : ndarray of float32, shape (h, w)
        Cosines from -1 to 1, or probabilities from 0 to 1.
    tissue : ndarray of bool, shape (h, w)
        Which cells are tissue.
    """

    done: int
    window: Window
    values: NDArray[np.float32]
    tissue: NDArray[np.bool_]


class CamMaps:
    """Computes CAMs, and caches what the models saw of the tiles.

    Parameters
    ----------
    cache_bytes : int
        Most memory of the cache; the tiles used last are kept.
    """

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._vectors: OrderedDict[tuple[object, ...], torch.Tensor] = OrderedDict()
        self._bytes = 0
        self._gate: tuple[tuple[object, ...], TissueGate] | None = None

    def run(
        self,
        slide: Slide,
        source: CamSource,
        target: CamTarget,
        view: RunRegion,
        settings: RunSettings,
    ) -> Generator[CamFrame | CamTile, None, None]:
        """Compute the CAM of a target over a view, from its middle outward.

        Parameters
        ----------
        slide : Slide
            Open, with a known pixel size.
        source : CamSource
            Moved to the device of the settings.
        target : CamTarget
            Of the same source.
        view : RunRegion
        settings : RunSettings
            Device, and how tissue is found.

        Yields
        ------
        CamFrame, then a CamTile per tile

        Raises
        ------
        PlimsegError
            When another run uses the engine, or the slide can't be read.
        """
        import torch

        with ENGINE.held_by(OWNER):
            check_slide(slide)
            device = pick_device(settings.device)
            if settings.threads and device.type == "cpu":
                torch.set_num_threads(settings.threads)
            frame, grid = _frame_of(slide, source)
            limit = PIXELS_ON_CPU if device.type == "cpu" else PIXELS_ON_GPU
            tiles, is_whole = _tiles_in(grid, frame, view, limit)
            if not tiles:
                return
            windows = [grid.mask_window(tile) for tile in tiles]
            whole = _around(windows)
            cell = frame.downsample * source.stride
            yield CamFrame(
                whole, cell, len(tiles), is_whole, 0.0 if target.is_probability else -1.0
            )
            gate = self._gate_of(slide, settings, cell)
            source = source.to(device)
            for done, (tile, window) in enumerate(zip(tiles, windows, strict=True), start=1):
                tissue = gate.window(window)
                values = np.full(tissue.shape, 0.0 if target.is_probability else -1.0, np.float32)
                if tissue.any():
                    vectors = self._vectors_of(slide, source, frame, grid, gate, tile, device)
                    with torch.inference_mode():
                        found = target.values(vectors.float()).numpy()
                    values[tissue] = found[: window.height, : window.width][tissue]
                place = Window(window.y - whole.y, window.x - whole.x, window.height, window.width)
                yield CamTile(done, place, values, tissue)

    def _gate_of(self, slide: Slide, settings: RunSettings, downsample: float) -> TissueGate:
        key = (slide, slide.mpp, settings.tissue, downsample)
        if self._gate is None or self._gate[0] != key:
            self._gate = key, TissueGate.of(slide, settings, downsample)
        return self._gate[1]

    def _vectors_of(
        self,
        slide: Slide,
        source: CamSource,
        frame: Frame,
        grid: TileGrid,
        gate: TissueGate,
        tile: TileIndex,
        device: torch.device,
    ) -> torch.Tensor:
        """Return the vectors (D, h, w) of a tile, in 16 bits on the CPU."""
        import torch

        key = (slide, slide.mpp, source.identity, gate.tissue is None, tile)
        if key in self._vectors:
            self._vectors.move_to_end(key)
            return self._vectors[key]
        reach = source.halo + source.alignment
        seen = gate.read_around(slide, frame, grid.input(tile), reach)
        pixels = torch.from_numpy(seen)[None].to(device)
        trim = grid.halo // source.stride
        found = source.dense(pixels)[0]
        height, width = found.shape[1:]
        kept = found[:, trim : height - trim, trim : width - trim].half().cpu().contiguous()
        self._vectors[key] = kept
        self._bytes += kept.nbytes
        while self._bytes > self._cache_bytes and len(self._vectors) > 1:
            self._bytes -= self._vectors.popitem(last=False)[1].nbytes
        return kept


def _frame_of(slide: Slide, source: CamSource) -> tuple[Frame, TileGrid]:
    frame = Frame.at(slide, source.mpp)
    size = max(1, _TILE // source.alignment) * source.alignment
    return frame, TileGrid(frame.shape, size, source.halo, source.stride, source.alignment)


def _tiles_in(
    grid: TileGrid, frame: Frame, view: RunRegion, limit: int
) -> tuple[list[TileIndex], bool]:
    """Return the tiles of a view from its middle outward, and whether these are all of them."""
    bounds = shapely.bounds(view.outline) / frame.downsample  # left, top, right, bottom
    height, width = grid.tile_shape
    rows, columns = grid.grid_shape
    found = [
        (row, column)
        for row in range(max(0, int(bounds[1] // height)), min(rows, int(bounds[3] // height) + 1))
        for column in range(
            max(0, int(bounds[0] // width)), min(columns, int(bounds[2] // width) + 1)
        )
        if view.touches(grid.core((row, column)), frame.downsample)
    ]
    middle = float(bounds[1] + bounds[3]) / 2, float(bounds[0] + bounds[2]) / 2
    most = max(1, limit // (height * width))
    return grid.ordered(found, middle)[:most], len(found) <= most


def _around(windows: list[Window]) -> Window:
    top, left = min(w.y for w in windows), min(w.x for w in windows)
    bottom = max(w.y + w.height for w in windows)
    right = max(w.x + w.width for w in windows)
    return Window(top, left, bottom - top, right - left)
