"""Open a slide, read a region at the resolution that you want, and save it.

Usage: python examples/open_a_slide.py [SLIDE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import napari_plimseg
from napari_plimseg import Region, open_slide

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"

with open_slide(sys.argv[1] if len(sys.argv) > 1 else SAMPLE) as slide:
    print(slide)
    for level in slide.levels:
        print(f"  level of {level.shape} pixels (y, x), 1:{level.downsample:g}")
    for note in slide.notes:
        print(f"  note: {note}")
    # a rectangle in level-0 pixels, read at 2 um/px whatever levels the file has
    pixels = slide.read(Region(y=500, x=500, height=1000, width=800), mpp=2.0)
    print(f"read {pixels.shape} {pixels.dtype}")  # (y, x, 3) uint8
    Image.fromarray(pixels).save("region.png")
