"""Areas of the classes as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.results.export.writing import export_to
from napari_plimseg.results.mask_info import SLIDE_KEY, MaskInfo
from napari_plimseg.results.measure import area_table
from napari_plimseg.tables import csv_text

if TYPE_CHECKING:
    from napari_plimseg.results.measure import MaskArray


COLUMNS = (
    "slide", "class", "mask_id", "kind", "pixels", "area_mm2", "percent_of_tissue",
    "um_per_pixel", "method", SLIDE_KEY,
)  # fmt: skip
METHOD = "pixels counted in the mask"


def export_csv(path: str | Path, mask: MaskArray, info: MaskInfo) -> Path:
    """Write the area of each class, of background, and of what is not computed or unreadable.

    Areas are counted from the mask's pixels, not from smoothed outlines; `um_per_pixel` is the size
    of these pixels. Where it is unknown, it and the areas in mm2 are empty.

    Parameters
    ----------
    path : str or Path
        Should end in `.csv`.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        When the mask does not fit its description or the file can't be written.
    """
    path = Path(path)
    with export_to(path, mask, info) as temporary:
        rows = [
            (
                info.slide_name,
                row.name,
                row.mask_id,
                row.kind,
                row.pixels,
                _number(row.mm2, 6),
                _number(row.percent_of_tissue, 3),
                "" if info.mask_mpp is None else f"{info.mask_mpp:.6g}",
                METHOD,
                info.slide_fingerprint,
            )
            for row in area_table(mask, info)
        ]
        temporary.write_text(
            csv_text([COLUMNS, *rows], end="\r\n"), "utf-8", errors="replace", newline=""
        )
    return path


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
