"""Segment a slide and export the mask.

Usage: python examples/segment_a_slide.py [SLIDE] [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_plimseg
from napari_plimseg.inference.engine import open_store, segment_slide
from napari_plimseg.models.loading import load_model
from napari_plimseg.results.export.formats import export_all
from napari_plimseg.results.measure import area_table
from napari_plimseg.slides import open_slide

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
path = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("example-results")

model = load_model("bundled")
with open_slide(path) as slide, open_store(slide, model, folder / f"{path.stem}.plimseg") as store:
    for progress in segment_slide(slide, model, store):
        print(progress.message, progress.tiles_done, "of", progress.tiles_total)
    mask = store.read_classes()  # (h, w)
    for area in area_table(mask, store.info):
        print(f"{area.name:24} {area.pixels} px, {area.mm2} mm2")
    for file in export_all(folder, path.stem, mask, store.info, slide):
        print("wrote", file)
