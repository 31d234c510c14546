"""Checks a file before a C library sees it: what it is, by its content, and whether it is sane.

A single wrong number in a TIFF directory can make a C decoder allocate gigabytes or read beyond a
buffer. That kills the process and the user's work, and no `except` can catch it. Pixels are not
decoded here.
"""

from __future__ import annotations

import contextlib
import enum
import stat
import struct
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg import limits
from napari_plimseg.errors import SlideError
from napari_plimseg.reading import open_regular, read_bytes, read_json
from napari_plimseg.slides.validation.tiff import (
    DESCRIPTION,
    MAX_SIDE,
    NDPI_VERSION,
    SOFTWARE,
    XMP,
    Directory,
    read_directories,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


LARGE_SEGMENT = 16 << 20
"""Decoded bytes from which the ratio is checked: smaller segments can't do harm, and white ones
may compress to a few bytes."""
_HEAD = 4096
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LABEL_TIFF = b"napari-plimseg/mask"
"""In the description of every label TIFF that this program exports."""
_DESCRIBED_WITHIN = 64 << 10  # the description comes before the pixels
_COPY_AGAIN = "The file may be damaged or incomplete; copy it again from the scanner."
_CONVERT = (
    "Convert it to a tiled pyramidal TIFF, for example with: "
    "vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg."
)
KNOWN_FORMATS = (
    "SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM WSI, Philips and generic TIFF, OME-TIFF, QPTIFF, "
    "OME-Zarr, PNG, JPEG and WebP"
)


class FileKind(enum.Enum):
    """What a file is, by its content."""

    TIFF = "TIFF"
    DICOM = "DICOM"
    DICOM_FOLDER = "DICOM folder"
    MIRAX = "MIRAX"
    OTHER_SLIDE = "slide"  # VMS, VMU, CZI, Sakura: only OpenSlide reads them
    OME_ZARR = "OME-Zarr"
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WebP"
    BMP = "BMP"


_SUFFIXES = {
    FileKind.PNG: {".png"},
    FileKind.JPEG: {".jpg", ".jpeg", ".jpe", ".jfif"},
    FileKind.WEBP: {".webp"},
    FileKind.BMP: {".bmp", ".dib"},
}
_REFUSED = (
    (b"PK\x03\x04", "is a ZIP archive", "Unpack it and open the slide inside."),
    (b"\x1f\x8b", "is a gzip archive", "Unpack it and open the slide inside."),
    (b"7z\xbc\xaf", "is a 7z archive", "Unpack it and open the slide inside."),
    (b"version https://git-lfs", "is a Git LFS pointer, not the slide", "Run: git lfs pull."),
    (b"%PDF", "is a PDF document", f"Open the slide itself: {KNOWN_FORMATS}."),
    (b"\x89HDF", "is an HDF5 file", f"Export it as one of: {KNOWN_FORMATS}."),
    (b"GIF8", "is a GIF picture", "Save it as PNG."),
)


def identify(path: Path) -> FileKind:
    """Return what a file or folder is, whatever its name.

    Raises
    ------
    SlideError
        When nothing is there, it may not be read, it is empty, or it is not a slide.
    """
    head = read_head(path)
    if head:
        return _identify_content(path, head)
    with _read_errors_explained(path):
        return _identify_folder(path)


def is_label_tiff(path: Path) -> bool:
    """Whether a file is a mask that this program exported as a TIFF, whatever its name."""
    try:
        with open_regular(path, SlideError) as file:
            return file.read(4) in _TIFF and LABEL_TIFF in file.read(_DESCRIBED_WITHIN)
    except (SlideError, OSError):
        return False


def read_head(path: Path) -> bytes:
    """Return the first 4,096 bytes of a file, or nothing when `path` is a folder.

    Raises
    ------
    SlideError
        When nothing is there, it may not be read, or it is an empty file.
    """
    with _read_errors_explained(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return b""
        if not stat.S_ISREG(status.st_mode):
            # opening a pipe or a device could block forever
            raise SlideError(
                "it is not a regular file", path=path, remedy="Copy the slide to a folder first."
            )
        with path.open("rb") as file:
            head = file.read(_HEAD)
    if not head:
        raise SlideError("it is empty", path=path, remedy="Copy it again from the scanner.")
    return head


@contextlib.contextmanager
def _read_errors_explained(path: Path) -> Iterator[None]:
    """Turn what the operating system reports into sentences for people."""
    try:
        yield
    except FileNotFoundError as error:
        raise SlideError(
            "it does not exist", path=path, remedy="Check the name; is the drive connected?"
        ) from error
    except PermissionError as error:
        raise SlideError(
            "it may not be read", path=path, remedy="Ask its owner for permission, or copy it."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SlideError(
            f"it can't be read ({reason})", path=path, remedy="Check the name and the drive."
        ) from error


def _identify_content(path: Path, head: bytes) -> FileKind:
    if head[:4] in _TIFF:
        if len(head) < 8:
            raise SlideError("it ends within its first 8 bytes", path=path, remedy=_COPY_AGAIN)
        return FileKind.TIFF
    if head[128:132] == b"DICM":
        return FileKind.DICOM
    if head.startswith(b"\xff\xd8\xff"):
        is_mirax = path.suffix.lower() == ".mrxs"
        if is_mirax and not (path.with_suffix("") / "Slidedat.ini").is_file():
            raise SlideError(
                "its folder of data files is missing",
                path=path,
                remedy=f"Copy the folder '{path.stem}' (with Slidedat.ini) beside it.",
            )
        return FileKind.MIRAX if is_mirax else FileKind.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return FileKind.PNG
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return FileKind.WEBP
    if head[:2] == b"BM" and path.suffix.lower() in _SUFFIXES[FileKind.BMP]:
        return FileKind.BMP
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope")):
        return FileKind.OTHER_SLIDE
    if head.startswith((b"ZISRAWFILE", b"SQLite format 3\0")):
        return FileKind.OTHER_SLIDE
    for magic, problem, remedy in _REFUSED:
        if head.startswith(magic):
            raise SlideError(f"it {problem}", path=path, remedy=remedy)
    what = "a text file" if _is_text(head) else "of an unknown kind"
    raise SlideError(f"it is {what}, not a slide", path=path, remedy=f"Known: {KNOWN_FORMATS}.")


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)


def _identify_folder(path: Path) -> FileKind:
    if (path / ".zarray").is_file() or _is_zarr_3_array(path):
        raise SlideError(
            "it is a bare Zarr array without levels",
            path=path,
            remedy="Open the OME-Zarr folder that holds it.",
        )
    if all((path / name).is_file() for name in ("manifest.json", "journal.json")):
        # since masks are OME-Zarr images, too, whatever they were renamed to
        raise SlideError(
            "it is a mask and not a slide", path=path, remedy="Open the slide that it was made of."
        )
    if any((path / name).is_file() for name in ("zarr.json", ".zattrs", ".zgroup")):
        return FileKind.OME_ZARR
    if (path / "Slidedat.ini").is_file():
        raise SlideError(
            "it is the data folder of a MIRAX slide",
            path=path,
            remedy=f"Open the file '{path.name}.mrxs' beside it.",
        )
    if dicom_files(path, at_most=1):
        return FileKind.DICOM_FOLDER
    raise SlideError(
        "it is a folder that holds neither OME-Zarr nor DICOM",
        path=path,
        remedy="Choose a slide inside it.",
    )


def _is_zarr_3_array(path: Path) -> bool:
    try:
        content = read_json(path / "zarr.json", SlideError, limit="header-bytes", finite=False)
    except SlideError:
        return False
    return bool(content.get("node_type") == "array")


def dicom_files(folder: Path, *, at_most: int = 1_000) -> list[Path]:
    """Return the DICOM files directly inside a folder, by content, sorted by name."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if len(found) >= at_most:
            break
        if path.is_file() and path.stat().st_size > 132:
            with path.open("rb") as file:
                file.seek(128)
                if file.read(4) == b"DICM":
                    found.append(path)
    return found


def check_companions(path: Path, kind: FileKind) -> None:
    """Check the files that OpenSlide opens besides a slide: a pipe among them would block it.

    Parameters
    ----------
    path : Path
        The slide.
    kind : FileKind
        What it is.

    Raises
    ------
    SlideError
        When one of them is a pipe, a socket, a device or a folder.
    """
    if kind is FileKind.MIRAX:
        index = path.with_suffix("") / "Slidedat.ini"
    elif kind is FileKind.OTHER_SLIDE and path.suffix.lower() in (".vms", ".vmu"):
        index = path
    else:
        if kind in (FileKind.DICOM, FileKind.DICOM_FOLDER):
            others = path if path.is_dir() else path.parent
            for other in others.iterdir():
                if not other.is_dir():
                    _check_companion(path, other)
        elif kind is FileKind.TIFF:
            _check_companion(path, path.with_suffix(".Full"))
        return
    _check_companion(path, index)
    for line in read_bytes(index, SlideError).decode("latin-1").splitlines():
        name = line.partition("=")[2].strip().replace("\\", "/")
        if name and "\0" not in name:
            _check_companion(path, index.parent / name)


def _check_companion(path: Path, other: Path) -> None:
    try:
        status = other.stat()
    except OSError:
        return  # the decoder reports a file that is missing
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise SlideError(
            f"'{other.name}', which belongs to it, is not a regular file",
            path=path,
            remedy="Copy all files of the slide again.",
        )


def misnamed(path: Path, kind: FileKind) -> str | None:
    """Return a sentence when a picture's name has another ending."""
    suffixes = _SUFFIXES.get(kind)
    if not suffixes or path.suffix.lower() in suffixes:
        return None
    return f"The file is a {kind.value} picture although its name ends with '{path.suffix}'."


def check_segment(path: Path, size: int, what: str, remedy: str = _COPY_AGAIN) -> None:
    """Check the decoded bytes of a tile, strip or frame.

    Raises
    ------
    SlideError
        When it is empty, or beyond the limit "segment-bytes"; `what` is the sentence's beginning.
    """
    if size < 1:
        raise SlideError(f"{what} no pixels", path=path, remedy=remedy)
    limits.check(SlideError, "segment-bytes", size, path=path, what=what, remedy=remedy)


def check_tiff(path: Path) -> list[Directory]:
    """Return the directories of a TIFF file that is safe to decode.

    Raises
    ------
    SlideError
        Naming the number that is out of bounds.
    """
    size = path.stat().st_size
    directories = read_directories(path)
    is_ndpi = NDPI_VERSION in directories[0].tags
    for index, directory in enumerate(directories):
        _check_directory(path, size, index, directory, is_ndpi=is_ndpi)
    return directories


def _check_directory(
    path: Path, size: int, index: int, directory: Directory, *, is_ndpi: bool
) -> None:
    def refuse(problem: str, remedy: str = _COPY_AGAIN) -> SlideError:
        return SlideError(f"image {index} {problem}", path=path, remedy=remedy)

    height, width = directory.shape
    tall, wide = directory.segment_shape
    for name, side in (
        ("height", height), ("width", width), ("tile height", tall), ("tile width", wide),
    ):  # fmt: skip
        if not 1 <= side < MAX_SIDE:
            raise refuse(f"has the {name} {side}")
    if not 1 <= directory.bits <= 64 or not 1 <= directory.samples <= 65_535:
        raise refuse(f"has {directory.samples} samples of {directory.bits} bits")
    offsets, counts = directory.segments
    if not len(offsets):
        raise refuse("has no table of where its pixels are")
    # Hamamatsu declares each level as one strip and cuts it at JPEG restart markers
    if not is_ndpi:
        part = "tiles" if directory.is_tiled else "strips"
        what = f"image {index} is stored in {part} of {tall} x {wide} pixels, each of"
        check_segment(path, directory.segment_bytes, what, _CONVERT)
        expected = directory.segment_count
        if len(offsets) < expected or 0 < len(counts) < expected:
            raise refuse(f"has {min(len(offsets), len(counts))} of {expected} segments")
    if not len(counts):
        return
    used = min(len(offsets), len(counts))
    starts, sizes = offsets[:used].astype(np.uint64), counts[:used].astype(np.uint64)
    stored = (sizes > 0) & (starts > 0)
    limit = np.uint64(size)
    # starts + sizes could wrap around, so each is compared with what is left
    beyond = stored & ((starts > limit) | (sizes > limit - np.minimum(starts, limit)))
    if beyond.any():
        raise refuse(
            f"has {int(beyond.sum())} of {used} parts beyond the end of the file ({size:,} bytes)"
        )
    large = directory.segment_bytes >= LARGE_SEGMENT and not is_ndpi
    if large and stored.any():
        ratio = -(-directory.segment_bytes // int(sizes[stored].min()))
        limits.check(
            SlideError,
            "inflation",
            ratio,
            path=path,
            what=f"image {index} holds a few bytes that would inflate to "
            f"{directory.segment_bytes / 1e6:,.0f} MB,",
            remedy=_CONVERT,
        )


def tiff_vendor(directories: list[Directory]) -> str | None:
    """Return the vendor whose TIFF dialect only OpenSlide reads, or None."""
    first = directories[0]
    if NDPI_VERSION in first.tags:
        return "hamamatsu"
    if "www.leica-microsystems.com/scn" in first.text(DESCRIPTION)[:4096]:
        return "leica"
    if any("<iScan" in d.text(XMP) for d in directories[:8]):
        return "ventana"
    software = first.text(SOFTWARE)
    if software.startswith("Philips"):
        return "philips"
    if software.startswith("MedScan"):
        return "trestle"
    is_aperio = first.text(DESCRIPTION).startswith("Aperio")
    # JPEG 2000 with subsampled YCbCr
    if is_aperio and any(d.number(259) == 33003 for d in directories):
        return "aperio"
    return None


def encoded_shape(segment: bytes) -> tuple[int, int] | None:
    """Return (y, x) that the header of a JPEG, JPEG 2000 or WebP segment declares, or None.

    These decoders allocate what the segment itself declares, not what the directory declares.
    """
    if segment[:2] == b"\xff\xd8":
        return _jpeg_shape(segment)
    if segment[:4] == b"\xff\x4f\xff\x51":
        return _codestream_shape(segment)
    if segment[4:8] == b"jP  ":
        start = segment.find(b"\xff\x4f\xff\x51", 0, 4096)
        return None if start < 0 else _codestream_shape(segment[start : start + 64])
    if segment[:4] == b"RIFF" and len(segment) >= 30:
        return _webp_shape(segment)
    return None


def _webp_shape(segment: bytes) -> tuple[int, int] | None:
    variant = segment[12:16]
    if variant == b"VP8X":
        width = int.from_bytes(segment[24:27], "little") + 1
        return int.from_bytes(segment[27:30], "little") + 1, width
    if variant == b"VP8L":
        packed = int.from_bytes(segment[21:25], "little")
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    if variant == b"VP8 ":
        width, height = struct.unpack("<2H", segment[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return None


def _codestream_shape(segment: bytes) -> tuple[int, int] | None:
    if len(segment) < 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", segment[8:24])
    return bottom - top, right - left


def _jpeg_shape(segment: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(segment):
        if segment[at] != 0xFF:
            return None
        marker = segment[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">2H", segment[at + 5 : at + 9])
            return height, width
        if marker in (0xD9, 0xDA):
            return None
        at += 2 + int.from_bytes(segment[at + 2 : at + 4], "big")
    return None
