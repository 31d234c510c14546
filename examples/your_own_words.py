"""Map classes that you type: no training, no network.

Usage: python examples/your_own_words.py [SLIDE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_plimseg
from napari_plimseg import Region, TissueClass, TissueClasses, segment

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
slide = sys.argv[1] if len(sys.argv) > 1 else SAMPLE
part = Region(1200, 900, 600, 600)

# names are enough ...
result = segment(slide, classes=["fat", "stroma", "lymphocytes"], region=part)
print({area.name: area.pixels for area in result.areas() if area.kind == "tissue"})

# ... and colors and synonyms make them yours
classes = TissueClasses.of(
    [
        TissueClass("fat", (245, 225, 120), ("adipose tissue", "fat cells")),
        TissueClass("everything pink", (255, 165, 0), ("stroma", "muscle", "connective tissue")),
    ]
)
result = segment(slide, classes=classes, region=part)
print({area.name: area.pixels for area in result.areas() if area.kind == "tissue"})
