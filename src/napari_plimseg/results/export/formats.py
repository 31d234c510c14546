"""The door to all exports of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from napari_plimseg.errors import ExportError
from napari_plimseg.results.export.area_csv import export_csv
from napari_plimseg.results.export.geojson import export_geojson
from napari_plimseg.results.export.label_tiff import export_label_tiff, read_label_tiff
from napari_plimseg.results.export.overlay import export_overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.slides.slide import Slide


__all__ = [
    "FORMATS",
    "Format",
    "export_all",
    "export_csv",
    "export_geojson",
    "export_label_tiff",
    "export_overlay",
    "read_label_tiff",
]

Resolution = Literal["mask", "slide"]


class Writer(Protocol):
    """Writes one format."""

    def __call__(
        self, path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
    ) -> Path:
        """Write the file and return its path."""


@dataclass(frozen=True)
class Format:
    """One kind of exported file.

    Parameters
    ----------
    title : str
        What people read.
    suffix : str
        Ending of the file name, behind the slide's stem.
    write : callable
        Writes it.
    needs_slide : bool
        Whether the pixels of the slide are needed.
    """

    title: str
    suffix: str
    write: Writer
    needs_slide: bool = False


def _write_label_tiff(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    return export_label_tiff(path, mask, info, at=at)


def _write_geojson(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    return export_geojson(path, mask, info)


def _write_csv(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    return export_csv(path, mask, info)


def _write_overlay(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    if slide is None:
        raise ExportError(
            "the overlay picture needs the slide", path=path, remedy="Give the slide too."
        )
    return export_overlay(path, mask, info, slide)


FORMATS: dict[str, Format] = {
    "ome-tiff": Format("Label OME-TIFF", ".mask.ome.tif", _write_label_tiff),
    "geojson": Format("QuPath GeoJSON", ".geojson", _write_geojson),
    "csv": Format("Areas, CSV", ".areas.csv", _write_csv),
    "png": Format("Overlay picture, PNG", ".overlay.png", _write_overlay, needs_slide=True),
}
"""Every export by the key that the command line takes."""


def export_all(
    folder: str | Path,
    stem: str,
    mask: MaskArray,
    info: MaskInfo,
    slide: Slide | None = None,
    *,
    formats: Sequence[str] | None = None,
    at: Resolution = "mask",
) -> list[Path]:
    """Write a mask in several formats into one folder.

    Parameters
    ----------
    folder : str or Path
        Made when missing.
    stem : str
        File names are this and the format's suffix; usually the slide's name without its ending.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo
    slide : Slide, optional
        Needed for the overlay picture.
    formats : sequence of str, optional
        Keys of `FORMATS`; by default all that can be written with what is given.
    at : {"mask", "slide"}
        Resolution of the label TIFF.

    Returns
    -------
    list of Path
        The files written, in the order of `formats`.

    Raises
    ------
    ExportError
        When a format is unknown or a file can't be written; files before it are complete.
    """
    if formats is None:
        formats = [
            key for key, kind in FORMATS.items() if slide is not None or not kind.needs_slide
        ]
    unknown = [key for key in formats if key not in FORMATS]
    if unknown:
        raise ExportError(
            f"there is no export format '{unknown[0]}'", remedy=f"There is: {', '.join(FORMATS)}."
        )
    if not stem or Path(stem).name != stem:
        raise ExportError(f"'{stem}' is no file name", remedy="Give a name without folders.")
    return [
        FORMATS[key].write(Path(folder) / f"{stem}{FORMATS[key].suffix}", mask, info, slide, at)
        for key in formats
    ]
