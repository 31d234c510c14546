"""Segment a part of a slide, print the areas and export the mask.

Usage: python examples/segment_a_slide.py [SLIDE] [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_plimseg
from napari_plimseg import Region, segment

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
slide = sys.argv[1] if len(sys.argv) > 1 else SAMPLE
folder = sys.argv[2] if len(sys.argv) > 2 else "example-results"

# leave out `region` for the whole slide; finished tiles are never computed twice
result = segment(slide, region=Region(500, 500, 800, 800), out=folder, progress=True)
for area in result.areas():
    print(f"{area.name:24} {area.pixels} px, {area.mm2} mm2")
for file in result.export(folder):
    print("wrote", file)
