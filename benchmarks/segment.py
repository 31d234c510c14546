#!/usr/bin/env python3
"""Measure time, memory and tiling invariance of segmenting a slide with the bundled model.

Usage: python benchmarks/segment.py [SLIDE] [--tile-sizes 512,1024,2048] [--rounds 2]

Each run is a separate process to have a separate memory peak; the tile sizes alternate. Prints one
table: median seconds, working megapixels per second, peak memory, and the share of mask pixels
that differ from the first tile size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SAMPLE = (
    Path(__file__).parent.parent / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"
)

ONE_RUN = """
import json, resource, sys, time
from napari_plimseg.inference.engine import RunSettings, open_store, segment_slide
from napari_plimseg.models.loading import load_model
from napari_plimseg.slides import open_slide
slide, out, tile = open_slide(sys.argv[1]), sys.argv[2], int(sys.argv[3])
model = load_model("bundled")
settings = RunSettings(tile_size=tile)
start = time.perf_counter()
with open_store(slide, model, out, settings=settings, overwrite=True) as store:
    for progress in segment_slide(slide, model, store, settings=settings):
        pass
    mask = store.read_classes()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak /= 1 << 20 if sys.platform == "darwin" else 1 << 10
print(json.dumps({"seconds": seconds, "peak_mb": peak, "tiles": progress.tiles_total,
                  "pixels": mask.size * model.mask_stride**2, "device": progress.device}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--tile-sizes", default="512,1024,2048")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    sizes = [int(size) for size in options.tile_sizes.split(",")]

    from napari_plimseg.results import MaskStore

    runs: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    masks = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for size in sizes:
                out = Path(folder) / f"{size}.plimseg"
                command = [sys.executable, "-c", ONE_RUN, str(options.slide), str(out), str(size)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[size].append(json.loads(done.stdout.splitlines()[-1]))
                masks[size] = MaskStore.open(out).read_classes()
    print(f"{options.slide.name} on {runs[sizes[0]][0]['device']}, {options.rounds} rounds")
    print(f"{'tile':>6} {'tiles':>6} {'seconds':>8} {'MP/s':>6} {'peak MB':>8} {'differs':>9}")
    for size in sizes:
        seconds = statistics.median(run["seconds"] for run in runs[size])
        peak = max(run["peak_mb"] for run in runs[size])
        first = runs[size][0]
        differs = np.mean(masks[size] != masks[sizes[0]])
        rate = first["pixels"] / seconds / 1e6
        print(
            f"{size:>6} {first['tiles']:>6.0f} {seconds:>8.1f} {rate:>6.2f} {peak:>8.0f} "
            f"{100 * differs:>8.4f}%"
        )


if __name__ == "__main__":
    main()
