"""Map classes that you type: no training, no network.

Usage: python examples/your_own_words.py [SLIDE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_plimseg
from napari_plimseg.inference.engine import open_store, segment_slide
from napari_plimseg.inference.plan import RunRegion
from napari_plimseg.models.loading import load_model
from napari_plimseg.results.measure import area_table
from napari_plimseg.slides import Region, open_slide
from napari_plimseg.tissue import TissueClass, TissueClasses

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
path = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE

classes = TissueClasses(
    (
        TissueClass("fat", (245, 225, 120), ("adipose tissue", "fat cells")),
        TissueClass("everything pink", (255, 165, 0), ("stroma", "muscle", "connective tissue")),
        TissueClass("background", (255, 255, 255), ("background", "empty slide")),
    )
)
model = load_model("bundled", classes)
with open_slide(path) as slide, open_store(slide, model) as store:
    middle = RunRegion.rectangle(Region(slide.shape[0] / 2, slide.shape[1] / 2, 600, 600))
    for progress in segment_slide(slide, model, store, region=middle):
        print(progress.message, progress.tiles_done, "of", progress.tiles_total)
    for area in area_table(store.read_classes(), store.info):
        print(f"{area.name:24} {area.pixels} px")
