"""npe2 sample data: the slide that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_plimseg._reader import LayerData

SAMPLE_PATH = Path(__file__).parent / "sample" / "CMU-1-Small-Region.svs"
"""H&E, 2220 x 2967 pixels at 0.499 um/px, Carnegie Mellon University through OpenSlide, CC0."""


def cmu_1_small_region() -> list[LayerData]:
    """Return the sample slide as a layer; needs no network."""
    from napari_plimseg._reader import read_slides

    return read_slides(SAMPLE_PATH)
