"""The table of exports, and writing several of them at once.

The command line's `--format`, the docks' buttons, the batch and napari's save dialog are all made
from `FORMATS`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from napari_plimseg.errors import ConfigError, ExportError
from napari_plimseg.results.export.owner import of_another_slide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.slides import Slide


Resolution = Literal["mask", "slide"]


class Writer(Protocol):
    """Writes one format."""

    def __call__(
        self, path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
    ) -> Path:
        """Write the file and return its path.

        Parameters
        ----------
        path : Path
        mask : array of uint8, shape (y, x)
            Mask ids.
        info : MaskInfo
        slide : Slide or None
            Given when the format needs it.
        at : {"mask", "slide"}
            Resolution, for formats that have one.
        """


@dataclass(frozen=True)
class Format:
    """One row of the table of exports.

    Parameters
    ----------
    title : str
        On buttons and check boxes, in at most three words.
    about : str
        Tooltip: one sentence on what the file holds.
    suffix : str
        End of the file name, after the slide's stem: ".mask.ome.tif".
    extension : str
        End of `suffix` by which napari's save dialog chooses the format: ".ome.tif".
    write : callable
        Writes a file. Import the exporter inside of it, so that listing formats stays cheap.
    needs_slide : bool
        Whether the pixels of the slide are needed. Such a format is not offered where only a mask
        is at hand: in napari's save dialog, and on the command line without `--slide`.
    """

    title: str
    about: str
    suffix: str
    extension: str
    write: Writer
    needs_slide: bool = False
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.extension.startswith(".") or not self.suffix.endswith(self.extension):
            raise ConfigError(f"the suffix '{self.suffix}' does not end with '{self.extension}'")

    def named(self, path: Path) -> Path:
        """Return a path with the extension of this format, which is added when it is missing."""
        if path.name.lower().endswith((self.extension, *self.also)):
            return path
        return path.with_name(f"{path.name.rstrip('.')}{self.extension}")


def _write_label_tiff(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    from napari_plimseg.results.export.label_tiff import export_label_tiff

    return export_label_tiff(path, mask, info, at=at)


def _write_geojson(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    from napari_plimseg.results.export.geojson import export_geojson

    return export_geojson(path, mask, info)


def _write_csv(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    from napari_plimseg.results.export.area_csv import export_csv

    return export_csv(path, mask, info)


def _write_overlay(
    path: Path, mask: MaskArray, info: MaskInfo, slide: Slide | None, at: Resolution
) -> Path:
    from napari_plimseg.results.export.overlay import export_overlay

    if slide is None:
        raise ExportError(
            "the overlay picture needs the slide", path=path, remedy="Give the slide too."
        )
    return export_overlay(path, mask, info, slide)


FORMATS: dict[str, Format] = {
    "ome-tiff": Format(
        "Label TIFF",
        "Pyramidal OME-TIFF of class numbers with pixel size and class names.",
        ".mask.ome.tif",
        ".ome.tif",
        _write_label_tiff,
        also=(".tif", ".tiff"),
    ),
    "geojson": Format(
        "QuPath GeoJSON",
        "Outlines for QuPath, with holes, classes and colors.",
        ".geojson",
        ".geojson",
        _write_geojson,
        also=(".json",),
    ),
    "csv": Format(
        "Areas CSV",
        "Area of each class in pixels, mm² and percent of tissue.",
        ".areas.csv",
        ".csv",
        _write_csv,
    ),
    "png": Format(
        "Overlay PNG",
        "Picture of the slide with the classes in color, a legend and a scale bar.",
        ".overlay.png",
        ".png",
        _write_overlay,
        needs_slide=True,
    ),
}
"""Every export by the key that the command line takes.

A new export is a module in this folder and a row here; a writer in `napari.yaml` makes napari's
save dialog offer it. Rows may also be added while the program runs: `FORMATS["key"] = Format(...)`.
"""


def checked_formats(keys: Sequence[str]) -> tuple[str, ...]:
    """Return keys of `FORMATS` as a tuple.

    Raises
    ------
    ExportError
        When one is unknown; names those that exist.
    """
    for key in keys:
        if key not in FORMATS:
            raise ExportError(
                f"there is no export format '{key}'", remedy=f"Known: {', '.join(FORMATS)}."
            )
    return tuple(keys)


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
        Created when missing.
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
        When a format is unknown, a file of that name is the export of another slide, or one can't
        be written; files before it are complete.
    """
    if formats is None:
        formats = [
            key for key, kind in FORMATS.items() if slide is not None or not kind.needs_slide
        ]
    files = _files(folder, stem, formats)
    other = of_another_slide(files, info)
    if other is not None:
        raise ExportError(
            "it is there already, of another slide with the same name",
            path=other,
            remedy="Choose another folder.",
        )

    def write(key: str, path: Path) -> Path:
        return FORMATS[key].write(path, mask, info, slide, at)

    # the picture takes as long as all others, most of it in code that lets others run
    with ThreadPoolExecutor(1, thread_name_prefix="plimseg-export") as beside:
        targets = list(zip(formats, files, strict=True))
        begun = {k: beside.submit(write, k, path) for k, path in targets if FORMATS[k].needs_slide}
        return [begun[k].result() if k in begun else write(k, path) for k, path in targets]


def export_stem(
    folder: str | Path, stem: str, info: MaskInfo, formats: Sequence[str] | None = None
) -> str:
    """Return a stem for `export_all`: with a digest where files of another slide have this one.

    Parameters
    ----------
    folder, stem, info, formats
        As of `export_all`.

    Raises
    ------
    ExportError
        When a format is unknown, or the stem is no file name.
    """
    files = _files(folder, stem, tuple(FORMATS) if formats is None else formats)
    other = of_another_slide(files, info)
    return stem if other is None else f"{stem}-{info.slide_fingerprint[:8]}"


def _files(folder: str | Path, stem: str, formats: Sequence[str]) -> list[Path]:
    checked_formats(formats)
    if not stem or Path(stem).name != stem:
        raise ExportError(f"'{stem}' is no file name", remedy="Give a name without folders.")
    return [Path(folder) / f"{stem}{FORMATS[key].suffix}" for key in formats]
