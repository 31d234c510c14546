"""`open_slide` and the table of readers: which files are slides, and who opens them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg import limits
from napari_plimseg.errors import ConfigError, SlideError, named_path, user_path
from napari_plimseg.slides.slide import reason_of
from napari_plimseg.slides.validation import (
    FileKind,
    check_companions,
    check_dicom,
    check_tiff,
    identify,
    is_label_tiff,
    misnamed,
    read_head,
    tiff_vendor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_plimseg.slides.slide import Slide


def open_slide(path: str | Path) -> Slide:
    """Open a slide: the one way from a path to pixels.

    The file is recognized by its content and checked before a C library sees it.

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
    path = named_path(user_path(path))  # results are called after it
    try:
        return find_reader(path).load(path)
    except SlideError:
        raise
    except MemoryError as error:
        raise SlideError(
            "there is not enough memory to open it", path=path, remedy="Close other programs."
        ) from error
    except Exception as error:  # parsers raise anything; this is the boundary
        raise SlideError(
            f"it can't be opened ({reason_of(error, path)})",
            path=path,
            remedy="The file may be damaged or incomplete; copy it again from the scanner.",
        ) from error


@dataclass(frozen=True)
class SlideReader:
    """One row of the table of slide formats: how files are recognized and who opens them.

    Parameters
    ----------
    patterns : tuple of str
        File names as file dialogs and napari's manifest list them, in lower case: "*.svs". They
        only offer files; what a file is follows from its content.
    load : callable
        Opens a path as a `Slide`. Import the reader's module inside of it, so that a program
        loads only the libraries of the formats that it opens.
    kinds : frozenset of FileKind
        Contents that `identify` knows and this reader opens.
    recognizes : callable, optional
        For contents that `identify` does not know: takes a path and its first 4,096 bytes (none
        for a folder) and returns whether this reader opens it. It is asked before `identify`.
    is_picture : bool
        Whether such a file beside slides is a preview of them and not a slide itself.
    """

    patterns: tuple[str, ...]
    load: Callable[[Path], Slide]
    kinds: frozenset[FileKind] = frozenset()
    recognizes: Callable[[Path, bytes], bool] | None = None
    is_picture: bool = False

    def __post_init__(self) -> None:
        if not self.patterns or not all(p == p.lower() and "*" in p for p in self.patterns):
            raise ConfigError(
                f"{self.patterns} are not file name patterns", remedy="Write them as '*.svs'."
            )
        if not self.kinds and self.recognizes is None:
            raise ConfigError(
                f"nothing recognizes the files {', '.join(self.patterns)}",
                remedy="Give the reader `kinds` or `recognizes`.",
            )


def _load_tiff(path: Path) -> Slide:
    directories = check_tiff(path)
    if tiff_vendor(directories) is None:
        from napari_plimseg.slides.readers import TiffSlide

        return TiffSlide(path)
    from napari_plimseg.slides.readers import OpenSlideSlide

    check_companions(path, FileKind.TIFF)
    return OpenSlideSlide(path, directories=directories)


def _load_openslide(path: Path) -> Slide:
    from napari_plimseg.slides.readers import OpenSlideSlide

    check_companions(path, identify(path))
    return OpenSlideSlide(path)


def _load_dicom(path: Path) -> Slide:
    from napari_plimseg.slides.readers import OpenSlideSlide, open_dicom_folder

    check_companions(path, FileKind.DICOM)
    if path.is_dir():
        return open_dicom_folder(path)
    check_dicom(path)
    return OpenSlideSlide(path)


def _load_omezarr(path: Path) -> Slide:
    from napari_plimseg.slides.readers import OmeZarrSlide

    return OmeZarrSlide(path)


def _load_picture(path: Path) -> Slide:
    from napari_plimseg.slides.readers import PictureSlide

    kind = identify(path)
    note = misnamed(path, kind)
    return PictureSlide(path, kind.value, notes=(note,) if note else ())


READERS: dict[str, SlideReader] = {
    "TIFF and its dialects": SlideReader(
        (
            *("*.svs", "*.ndpi", "*.scn", "*.bif", "*.qptiff"),
            *("*.tif", "*.tiff", "*.btf", "*.tf2", "*.tf8"),
        ),
        _load_tiff,
        frozenset({FileKind.TIFF}),
    ),
    "MIRAX": SlideReader(("*.mrxs",), _load_openslide, frozenset({FileKind.MIRAX})),
    "Hamamatsu VMS, Zeiss CZI, Sakura": SlideReader(
        ("*.vms", "*.vmu", "*.czi", "*.svslide"),
        _load_openslide,
        frozenset({FileKind.OTHER_SLIDE}),
    ),
    "DICOM": SlideReader(
        ("*.dcm",), _load_dicom, frozenset({FileKind.DICOM, FileKind.DICOM_FOLDER})
    ),
    "OME-Zarr": SlideReader(("*.zarr",), _load_omezarr, frozenset({FileKind.OME_ZARR})),
    "Pictures": SlideReader(
        ("*.png", "*.jpg", "*.jpeg", "*.webp", "*.bmp"),
        _load_picture,
        frozenset({FileKind.PNG, FileKind.JPEG, FileKind.WEBP, FileKind.BMP}),
        is_picture=True,
    ),
}
"""Every slide format by its name, and the one place that knows all of them.

A new format is a module in `slides.readers` and a row here; a line of `napari.yaml` makes napari
offer it. Rows may also be added while the program runs: `READERS["name"] = SlideReader(...)`.
"""


def find_reader(path: Path) -> SlideReader:
    """Return the row of `READERS` that opens a file or folder, by its content.

    Raises
    ------
    SlideError
        When nothing is there, it may not be read, or it is not a slide; the message names what it
        is instead.
    """
    head = read_head(path)
    for reader in READERS.values():
        if reader.recognizes is not None and reader.recognizes(path, head):
            return reader
    kind = identify(path)
    for reader in READERS.values():
        if kind in reader.kinds:
            return reader
    raise SlideError(f"there is no reader for {kind.value} files", path=path)


def filename_patterns() -> tuple[str, ...]:
    """Return the file name patterns of all formats."""
    return tuple(pattern for reader in READERS.values() for pattern in reader.patterns)


OUR_ENDINGS = (".plimseg", ".plimseg-corrections", ".mask.ome.tif", ".overlay.png")
"""What this program writes beside slides; none of it is a slide."""


_SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"}
)


def is_of_system(name: str) -> bool:
    """Return whether the system made a file or folder of this name: hidden ones, thumbnails."""
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def slides_in(place: str | Path) -> Iterator[Path]:
    """Yield a slide, or the slides in a folder and its subfolders, sorted by name.

    Files are recognized by their content. Pictures beside slides are skipped: they are previews.
    What has the name of a slide and is none, and folders that may not be read, are yielded too.

    Parameters
    ----------
    place : str or Path
        A file is yielded whatever it holds, so that opening it explains what is wrong with it.

    Raises
    ------
    SlideError
        When there are more files and folders than the limit "folder-entries".
    """
    place = Path(place)
    try:
        is_folder = place.is_dir() and _reader_or_none(place) is None
    except OSError:  # nobody may look: opening it says so
        is_folder = False
    if not is_folder:
        yield place
        return
    yield from _slides_below(place, place, [0])


def _slides_below(folder: Path, place: Path, seen: list[int]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        yield folder
        return
    slides: list[Path] = []
    pictures: list[Path] = []
    folders: list[Path] = []
    for entry in entries:
        seen[0] += 1
        limits.check(SlideError, "folder-entries", seen[0], path=place, what="it holds")
        path = Path(entry.path)
        if is_of_system(entry.name) or entry.name.lower().endswith(OUR_ENDINGS):
            continue
        if is_label_tiff(path):
            continue
        reader = _reader_or_none(path)
        if reader is not None:
            (pictures if reader.is_picture else slides).append(path)
        elif _is_named_as_slide(entry):
            slides.append(path)
        elif entry.is_dir():
            folders.append(path)
    yield from slides or pictures
    for child in folders:
        yield from _slides_below(child, place, seen)


def _is_named_as_slide(entry: os.DirEntry[str]) -> bool:
    """Whether a file, a folder or a link, also to nothing, has the name of a slide."""
    patterns = [p for reader in READERS.values() if not reader.is_picture for p in reader.patterns]
    is_named = any(fnmatchcase(entry.name.lower(), pattern) for pattern in patterns)
    return is_named and (entry.is_file() or entry.is_dir() or entry.is_symlink())


def _reader_or_none(path: Path) -> SlideReader | None:
    try:
        return find_reader(path)
    except (SlideError, OSError):
        return None
