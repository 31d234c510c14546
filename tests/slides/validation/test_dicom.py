"""DICOM frames lie where the file says, or the file is refused before OpenSlide follows it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.validation.dicom import check_dicom

if TYPE_CHECKING:
    from pathlib import Path

EXPLICIT, IMPLICIT = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0"


def short(tag: int, kind: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind, len(value)) + value


def long(tag: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, kind, 0, length or len(value))
    return head + value


def item(value: bytes, tag: int = 0xFFFEE000) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


END = item(b"", 0xFFFEE0DD)
UNDEFINED = 0xFFFFFFFF


def dicom(
    pixels: bytes,
    *,
    syntax: bytes = EXPLICIT,
    frames: bytes = b"3 ",
    rows: int = 4,
    before: bytes = b"",
    series: bytes = b"1.2.3\0",
) -> bytes:
    """Return a DICOM file of 4 x 4 grey frames."""
    return (
        bytes(128) + b"DICM" + short(0x00020010, b"UI", syntax) + before
        + short(0x0020000E, b"UI", series)
        + short(0x00280002, b"US", b"\1\0") + short(0x00280008, b"IS", frames)
        + short(0x00280010, b"US", struct.pack("<H", rows))
        + short(0x00280011, b"US", b"\4\0") + short(0x00280100, b"US", b"\x08\0")
        + pixels
    )  # fmt: skip


def encapsulated(*offsets: int, ends: bool = True) -> bytes:
    """Return three frames of 10 bytes behind a table of offsets."""
    frames = b"".join(item(bytes(10)) for _ in range(3))
    table = item(struct.pack(f"<{len(offsets)}I", *offsets))
    return long(0x7FE00010, b"OB", table + frames + (END if ends else b""), UNDEFINED)


OPEN_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
CLOSE_ITEM = item(b"", 0xFFFEE00D)
INNER = long(0x00081112, b"SQ", item(b"") + END, UNDEFINED)
NESTED = long(
    0x00081111,
    b"SQ",
    item(short(0x00080060, b"CS", b"SM")) + OPEN_ITEM + INNER + CLOSE_ITEM + END,
    UNDEFINED,
)
DEEP = b"".join(long(0x00081111, b"SQ", OPEN_ITEM, UNDEFINED) for _ in range(40))
NATIVE = long(0x7FE00010, b"OW", bytes(48))


@pytest.mark.parametrize(
    "content",
    [
        dicom(encapsulated(0, 18, 36)),
        dicom(encapsulated()),
        dicom(NATIVE),
        dicom(encapsulated(0, 18, 36), before=NESTED),
        dicom(b""),
    ],
    ids=["table", "no table", "native", "nested sequences", "no pixels"],
)
def test_sound(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    check_dicom(path)


def test_implicit_encoding(tmp_path):
    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

    head = bytes(128) + b"DICM" + short(0x00020010, b"UI", IMPLICIT)
    body = element(0x00280010, b"\4\0") + element(0x00280011, b"\4\0")
    path = tmp_path / "i.dcm"
    path.write_bytes(head + body + element(0x7FE00010, bytes(16)))
    check_dicom(path)
    path.write_bytes(head + body + element(0x7FE00010, bytes(16))[:-4])
    with pytest.raises(SlideError, match="end beyond the end"):
        check_dicom(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (dicom(encapsulated(0, 18, 37)), "something else than frames"),
        (dicom(encapsulated(0, 36, 18)), "table of frames is damaged"),
        (dicom(encapsulated(1, 18, 36)), "table of frames is damaged"),
        (dicom(encapsulated(0, 18, 10**9)), "table of frames is damaged"),
        (dicom(encapsulated(0, 18)), "2 of 3 frames"),
        (dicom(encapsulated(ends=False) + b"garbage!"), "frames are damaged"),
        (dicom(encapsulated()[:-20]), "beyond the end"),
        (dicom(NATIVE[:-1]), "beyond the end"),
        (dicom(NATIVE, frames=b"4 "), "beyond the end"),
        (dicom(NATIVE, rows=0), "frames have no pixels"),
        (dicom(NATIVE, before=DEEP), "nested too deeply"),
        (dicom(NATIVE, before=long(0x00081111, b"SQ", NATIVE, UNDEFINED)), "else than items"),
        (dicom(NATIVE, before=long(0x00091111, b"UN", b"", 10**9)), "beyond the end"),
        (dicom(NATIVE, syntax=b"1.2.840.10008.1.2.2\0"), "big-endian"),
        (dicom(NATIVE, syntax=b"1.2.840.10008.1.2.1.99"), "deflated"),
    ],
)
def test_refused(tmp_path, content, said):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(SlideError, match=rf"'a\.dcm': .*{said}"):
        open_slide(path)


def test_frames_of_other_files_matter_when_they_belong_to_the_slide(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(NATIVE))
    bad = tmp_path / "b.dcm"
    bad.write_bytes(dicom(encapsulated(0, 36, 18), series=b"9.9.9\0"))
    check_dicom(tmp_path / "a.dcm")
    bad.write_bytes(dicom(encapsulated(0, 36, 18)))
    with pytest.raises(SlideError, match=r"'b\.dcm'"):
        check_dicom(tmp_path / "a.dcm")


def test_real_files_pass_and_damaged_tables_do_not(shared_data: Path, tmp_path):
    """A table like this one made OpenSlide end the process."""
    files = sorted((shared_data / "wsi" / "CMU-1-Small-Region-dicom").iterdir())
    for path in files:
        check_dicom(path)
    content = bytearray(max(files, key=lambda p: p.stat().st_size).read_bytes())
    at = content.index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0") + 12 + 8 + 40
    content[at + 2] ^= 8
    path = tmp_path / "table.dcm"
    path.write_bytes(content)
    with pytest.raises(SlideError, match="table of frames"):
        open_slide(path)
