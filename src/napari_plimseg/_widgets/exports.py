"""Areas and exported files, as generators that a thread runs: no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.tissue import Color

EXPORT_FILES: dict[str, tuple[str, str, str]] = {
    "tiff": ("Export label TIFF", "_labels.ome.tif", "OME-TIFF (*.ome.tif *.tif)"),
    "geojson": ("Export QuPath GeoJSON", "_classes.geojson", "GeoJSON (*.geojson)"),
    "csv": ("Export areas", "_areas.csv", "CSV (*.csv)"),
    "png": ("Export overlay picture", "_overlay.png", "PNG (*.png)"),
}
"""Dialog title, default ending and file pattern by kind of export."""


@dataclass(frozen=True)
class AreaRow:
    """One line of the table of areas, as text for people."""

    name: str
    color: Color
    area: str
    percent: str


def measure_areas(
    mask: NDArray[np.uint8], info: MaskInfo, step: int
) -> Generator[tuple[list[AreaRow], str], None, None]:
    """Yield the areas of all classes but background, largest first, and their unit."""
    import numpy as np

    counts = np.zeros(256, np.int64)
    for row in mask:
        counts += np.bincount(row, minlength=256)
    counts *= step * step
    tissue = max(1, int(counts[list(info.classes.tissue_ids)].sum()))
    size = info.pixel_area_mm2
    rows = [
        AreaRow(
            c.name,
            c.color,
            f"{counts[i]:,}" if size is None else f"{counts[i] * size:.3f}",
            f"{100 * counts[i] / tissue:.1f}",
        )
        for i, c in sorted(enumerate(info.classes, 1), key=lambda pair: -counts[pair[0]])
        if i != info.classes.background_id and counts[i]
    ]
    yield rows, "px" if size is None else "mm²"


def export_files(kind, target, slide, full_mask, info):
    raise NotImplementedError
