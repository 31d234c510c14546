"""Measure time and peak memory of every export of a large mask.

Each export runs in a separate process to have a separate peak. The peak is the memory needed
besides the mask, which is mapped from a file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_plimseg.results import MaskInfo
from napari_plimseg.slides import Level, Region, Slide
from napari_plimseg.tissue import COLORECTAL

DOWNSAMPLE = 4


class StripedSlide(Slide):
    """A pink slide whose pixels are generated on reading."""

    def __init__(self, shape: tuple[int, int]) -> None:
        levels = tuple(
            Level((-(-shape[0] // d), -(-shape[1] // d)), float(d)) for d in (1, 4, 16, 64)
        )
        super().__init__(Path("striped.svs"), levels, mpp=0.25, format_name="striped")

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> Any:
        rows = np.arange(y, y + height) // 64 % 2 * 30
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[:] = (220, 150, 190)
        return pixels - rows[:, None, None].astype(np.uint8)

    def _close(self) -> None:
        pass


def make_mask(file: Path, side: int) -> None:
    """Write a mask similar to that of a slide: regions of nine classes with rough edges."""
    rng = np.random.default_rng(0)
    best = np.full((side, side), -np.inf, np.float32)
    mask = np.zeros((side, side), np.uint8)
    ragged = ndimage.zoom(
        rng.standard_normal((side // 8, side // 8)).astype(np.float32), 8, order=1
    )
    for mask_id in range(1, 10):
        coarse = ndimage.gaussian_filter(rng.standard_normal((side // 32, side // 32)), 3)
        field = ndimage.zoom((coarse / coarse.std()).astype(np.float32), 32, order=1)
        field += 0.1 * np.roll(ragged, mask_id * 997, axis=1)
        won = field > best
        best[won] = field[won]
        mask[won] = mask_id
    np.save(file, mask)


def measured(name: str, folder: Path, side: int, pipe: Any) -> None:
    from napari_plimseg.results import FORMATS, area_table

    mask = np.load(folder / "mask.npy", mmap_mode="r")
    full = (side * DOWNSAMPLE, side * DOWNSAMPLE)
    info = MaskInfo(
        "striped.svs", "00", full, Region(0, 0, *full), 0.25, mask.shape, DOWNSAMPLE, COLORECTAL
    )
    slide = StripedSlide(full)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    size = 0
    if name == "area table":
        area_table(mask, info)
    else:
        key, _, at = name.partition(" at ")
        path = FORMATS[key].write(
            folder / f"out{FORMATS[key].suffix}", mask, info, slide, "slide" if at else "mask"
        )
        size = path.stat().st_size
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    pipe.send((seconds, peak / 1024, size / 1e6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192, help="mask pixels per side")
    side = parser.parse_args().side
    processes = multiprocessing.get_context("spawn")
    print(f"mask {side} x {side}, slide {side * DOWNSAMPLE} x {side * DOWNSAMPLE}")
    print(f"{'export':<22}{'seconds':>9}{'peak MiB':>10}{'file MB':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # also in a separate process, because a child's peak starts at its parent's
        maker = processes.Process(target=make_mask, args=(folder / "mask.npy", side))
        maker.start()
        maker.join()
        for job in ("area table", "csv", "geojson", "ome-tiff", "ome-tiff at slide", "png"):
            receive, send = processes.Pipe(duplex=False)
            process = processes.Process(target=measured, args=(job, folder, side, send))
            process.start()
            seconds, peak, size = receive.recv()
            process.join()
            print(f"{job:<22}{seconds:>9.2f}{peak:>10.0f}{size:>9.1f}")


if __name__ == "__main__":
    main()
