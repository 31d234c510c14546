"""Run the engine tile by tile: your own loop, with progress and cancellation.

Usage: python examples/tile_by_tile.py [SLIDE] [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_plimseg
from napari_plimseg import MaskStore, Region, load_model, open_slide, open_store, segment_slide
from napari_plimseg.inference import RunRegion

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
path = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("example-results")

model = load_model("bundled")
part = RunRegion.rectangle(Region(500, 500, 800, 800))
with open_slide(path) as slide, open_store(slide, model, folder / "tiles.plimseg") as store:
    for progress in segment_slide(slide, model, store, region=part):
        print(progress.message, progress.tiles_done, "of", progress.tiles_total)

# the store holds the model's own output, without corrections
with MaskStore.open(folder / "tiles.plimseg") as store:
    mask = store.read_classes()  # (y, x) uint8
    height, width = mask.shape
    confidence = store.read("confidence", slice(0, height), slice(0, width))
    confident = (confidence > 200) & (mask > 0)
    print(f"{mask.shape}, {100 * confident.sum() / (mask > 0).sum():.0f} % with high confidence")
