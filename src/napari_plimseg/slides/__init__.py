"""From a path to pixels: `open_slide` is the entry point."""

from napari_plimseg.slides.opening import open_slide
from napari_plimseg.slides.slide import Level, Region, Slide

__all__ = ["Level", "Region", "Slide", "open_slide"]
