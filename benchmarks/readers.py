"""Compare the speed of our slide readers, OpenSlide, tifffile's zarr view and a bare decoder.

Run: python benchmarks/readers.py [SLIDE...]

The readers alternate in every round, so that a busy machine slows all of them; the table shows
medians and ratios in megapixels per second. Every round reopens the slide, so that our caches are
empty. The bare decoder reads and decodes every tile once and drops it: what any reader needs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg._sample_data import SAMPLE_PATH
from napari_plimseg.slides import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int, int], object]

AREA = 12_000_000


def ours(path: Path) -> tuple[Read, Callable[[], None]]:
    slide = open_slide(path)
    return lambda y, x, side: slide.read_level(0, y, x, side, side), slide.close


def theirs(path: Path) -> tuple[Read, Callable[[], None]]:
    import openslide

    slide = openslide.OpenSlide(path)

    def read(y: int, x: int, side: int) -> object:
        return np.asarray(slide.read_region((x, y), 0, (side, side)).convert("RGB"))

    return read, slide.close


def zarr_view(path: Path) -> tuple[Read, Callable[[], None]]:
    import tifffile
    import zarr

    tif = tifffile.TiffFile(path)
    array = zarr.open_array(tif.series[0].aszarr(level=0), mode="r")
    return lambda y, x, side: array[y : y + side, x : x + side], tif.close


def bare(path: Path) -> tuple[Read, Callable[[], None]]:
    import tifffile

    tif = tifffile.TiffFile(path)
    page = tif.series[0].levels[0].keyframe
    tall, wide = page.tilelength, page.tilewidth
    columns, done = -(-page.imagewidth // wide), set[int]()
    file = os.open(path, os.O_RDONLY)

    def read(y: int, x: int, side: int) -> object:
        for row in range(y // tall, (y + side - 1) // tall + 1):
            for index in range(
                row * columns + x // wide, row * columns + (x + side - 1) // wide + 1
            ):
                if index not in done:
                    done.add(index)
                    content = os.pread(file, page.databytecounts[index], page.dataoffsets[index])
                    page.decode(content, index, jpegtables=page.jpegtables)
        return None

    def close() -> None:
        tif.close()
        os.close(file)

    return read, close


READERS = {"ours": ours, "openslide": theirs, "tifffile zarr": zarr_view, "bare decoder": bare}
PATTERNS = {"512 aligned": (512, 0), "1280 with halo": (1280, 37), "224 anywhere": (224, 101)}


def windows(shape: tuple[int, int], side: int, shift: int) -> list[tuple[int, int]]:
    found = [
        (y, x)
        for y in range(shift, shape[0] - side + 1, side)
        for x in range(shift, shape[1] - side + 1, side)
    ]
    return found[: max(1, AREA // side**2)]


def measure(
    path: Path, reader: str, places: list[tuple[int, int]], side: int, threads: int
) -> float:
    """Return megapixels per second."""
    read, close = READERS[reader](path)
    start = time.perf_counter()
    if threads == 1:
        for y, x in places:
            read(y, x, side)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda at: read(*at, side), places))
    seconds = time.perf_counter() - start
    close()
    return len(places) * side**2 / 1e6 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slides", nargs="*", type=Path, default=[SAMPLE_PATH])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    head = f"{'slide':24} {'window':15} {'threads':>7}"
    print(head + "".join(f" {name:>14}" for name in READERS) + "   MP/s, and times ours is faster")
    for path in options.slides:
        with open_slide(path) as slide:
            shape = slide.shape
        for pattern, (side, shift) in PATTERNS.items():
            places = windows(shape, side, shift)
            for threads in (1, 2):
                rates: dict[str, list[float]] = {name: [] for name in READERS}
                for _ in range(options.rounds):
                    for name in READERS:
                        rates[name].append(measure(path, name, places, side, threads))
                medians = {name: statistics.median(values) for name, values in rates.items()}
                row = f"{path.name[:24]:24} {pattern:15} {threads:7}"
                for name, value in medians.items():
                    ratio = "" if name == "ours" else f"({medians['ours'] / value:.1f}x)"
                    row += f" {value:7.0f} {ratio:>6}"
                print(row)


if __name__ == "__main__":
    main()
