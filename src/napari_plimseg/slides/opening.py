"""`open_slide`: looks at a file, checks it, and chooses who reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.dicom_file import check_dicom
from napari_plimseg.slides.guard import FileKind, check_tiff, identify, misnamed, tiff_vendor
from napari_plimseg.slides.slide import reason_of

if TYPE_CHECKING:
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
            from napari_plimseg.slides.tiff import TiffSlide

            return TiffSlide(path)
        from napari_plimseg.slides.openslide import OpenSlideSlide

        return OpenSlideSlide(path, directories=directories)
    if kind is FileKind.OME_ZARR:
        from napari_plimseg.slides.omezarr import OmeZarrSlide

        return OmeZarrSlide(path)
    if kind.is_picture:
        from napari_plimseg.slides.picture import PictureSlide

        note = misnamed(path, kind)
        return PictureSlide(path, kind.value, notes=(note,) if note else ())
    from napari_plimseg.slides.openslide import OpenSlideSlide, open_dicom_folder

    if kind is FileKind.DICOM_FOLDER:
        return open_dicom_folder(path)
    if kind is FileKind.DICOM:
        check_dicom(path)
    return OpenSlideSlide(path)
