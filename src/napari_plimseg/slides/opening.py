"""`open_slide`: looks at a file, checks it, and chooses who reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.slide import reason_of
from napari_plimseg.slides.validation.dicom import check_dicom
from napari_plimseg.slides.validation.files import (
    FileKind,
    check_tiff,
    identify,
    misnamed,
    tiff_vendor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_plimseg.slides.slide import Slide


def open_slide(path: str | Path) -> Slide:
    """Open a slide: the only door from a path to pixels.

    The file is recognised by its content and checked before a C library sees it.

    Parameters
    ----------
    path : str or Path
        A slide file; or a folder with OME-Zarr, or with the DICOM files of one slide.

    Returns
    -------
    Slide
        Close it, or use it in a `with` statement.

    Raises
    ------
    SlideError
        Whatever is wrong, naming the file and what to do.
    """
    path = Path(path)
    try:
        return _open(path)
    except SlideError:
        raise
    except Exception as error:  # parsers raise anything; this is the boundary
        raise SlideError(
            f"it can't be opened ({reason_of(error, path)})",
            path=path,
            remedy="The file may be damaged or incomplete; copy it again from the scanner.",
        ) from error


def _open(path: Path) -> Slide:
    kind = identify(path)
    if kind is FileKind.TIFF:
        directories = check_tiff(path)
        vendor = tiff_vendor(directories)
        if vendor is None:
            from napari_plimseg.slides.readers.tiff import TiffSlide

            return TiffSlide(path)
        from napari_plimseg.slides.readers.openslide import OpenSlideSlide

        return OpenSlideSlide(path, directories=directories)
    if kind is FileKind.OME_ZARR:
        from napari_plimseg.slides.readers.omezarr import OmeZarrSlide

        return OmeZarrSlide(path)
    if kind.is_picture:
        from napari_plimseg.slides.readers.picture import PictureSlide

        note = misnamed(path, kind)
        return PictureSlide(path, kind.value, notes=(note,) if note else ())
    from napari_plimseg.slides.readers.openslide import OpenSlideSlide, open_dicom_folder

    if kind is FileKind.DICOM_FOLDER:
        return open_dicom_folder(path)
    if kind is FileKind.DICOM:
        check_dicom(path)
    return OpenSlideSlide(path)


OUR_ENDINGS = (".mask.ome.tif", ".overlay.png")
"""Pictures that this program writes: no slides."""
_LARGEST_FOLDER = 20_000


def slides_in(place: str | Path) -> Iterator[Path]:
    """Yield a slide, or the slides in a folder and the folders in it, sorted by name.

    Files are recognised by their content. Where there are slides, pictures beside them are
    taken for previews and left out.

    Parameters
    ----------
    place : str or Path
        A file is yielded as it is, whatever it holds.
    """
    place = Path(place)
    if not place.is_dir() or _kind(place) is not None:
        yield place
        return
    budget = [_LARGEST_FOLDER]
    yield from _slides_below(place, budget)


def _slides_below(folder: Path, budget: list[int]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return  # a folder that can't be looked into holds no slides for this person
    slides: list[Path] = []
    pictures: list[Path] = []
    folders: list[Path] = []
    for entry in entries:
        budget[0] -= 1
        if budget[0] < 0:
            return
        path = Path(entry.path)
        ours = (".plimseg", ".plimseg-corrections", *OUR_ENDINGS)
        if entry.name.startswith(".") or entry.name.endswith(ours):
            continue
        kind = _kind(path)
        if kind is not None:
            (pictures if kind.is_picture else slides).append(path)
        elif entry.is_dir() and path.suffix.lower() != ".zarr":
            folders.append(path)
    yield from slides or pictures
    for child in folders:
        yield from _slides_below(child, budget)


def _kind(path: Path) -> FileKind | None:
    try:
        return identify(path)
    except (SlideError, OSError):
        return None
