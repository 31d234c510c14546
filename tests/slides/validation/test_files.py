"""What the guard lets through and what it refuses, before any C library sees it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from napari_plimseg import limits
from napari_plimseg.errors import SlideError
from napari_plimseg.slides import open_slide
from napari_plimseg.slides.validation import files
from napari_plimseg.slides.validation.files import FileKind, check_tiff, encoded_shape, identify
from napari_plimseg.slides.validation.tiff import read_directories
from tests.support import slides as factory

SOUND = {
    256: 64, 257: 64, 258: (8, 8, 8), 259: 1, 262: 2, 277: 3, 284: 1,
    322: 64, 323: 64, 324: 8, 325: 64 * 64 * 3,
}  # fmt: skip


def tiff_bytes(*directories: dict[int, object], order: str = "<", following: int = 0) -> bytes:
    """Return a classic TIFF: header, one grey tile of pixels, then these directories."""
    pixels = bytes(64 * 64 * 3)
    at = 8 + len(pixels)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    parts = [head, pixels]
    for i, tags in enumerate(directories):
        size = 2 + 12 * len(tags) + 4
        extra = b""
        entries = b""
        for code, value in sorted(tags.items()):
            if isinstance(value, tuple):
                content = struct.pack(f"{order}{len(value)}H", *value)
                where = struct.pack(order + "I", at + size + len(extra))
                entries += struct.pack(order + "HHI", code, 3, len(value)) + where
                extra += content + b"\0" * (len(content) % 2)
            elif isinstance(value, bytes):
                where = struct.pack(order + "I", at + size + len(extra))
                entries += struct.pack(order + "HHI", code, 2, len(value)) + where
                extra += value + b"\0" * (len(value) % 2)
            else:
                entries += struct.pack(order + "HHII", code, 4, 1, value)
        last = i == len(directories) - 1
        after = following if last else at + size + len(extra)
        parts.append(
            struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", after)
        )
        parts.append(extra)
        at += size + len(extra)
    return b"".join(parts)


@dataclass(frozen=True)
class Refused:
    """A file's content and what is said about it."""

    name: str
    content: bytes
    said: str


FIRST = 8 + 64 * 64 * 3
GUARD_CASES = (
    Refused("empty.svs", b"", "is empty.* Copy it again"),
    Refused("text.svs", b"not a slide at all\n", "is a text file, not a slide.* Known: SVS"),
    Refused("random.tif", bytes(range(7, 200)), "of an unknown kind"),
    Refused("zip.svs", b"PK\x03\x04" + bytes(50), "ZIP archive.* Unpack"),
    Refused("gz.svs", b"\x1f\x8b" + bytes(50), "gzip archive.* Unpack"),
    Refused("lfs.svs", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    Refused("doc.tif", b"%PDF-1.7\n", "PDF"),
    Refused("only magic.tif", b"II*\0", "ends within its first 8 bytes"),
    Refused("only head.tif", b"II*\0\x08\0\0\0", "points to byte 10, but ends at byte 8"),
    Refused("no image.tif", b"II*\0\0\0\0\0", "holds no image"),
    Refused("no tags.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0", "a directory has 0 tags"),
    Refused("circle.tif", tiff_bytes(SOUND, following=FIRST), "form a circle"),
    Refused("beyond.tif", tiff_bytes(SOUND, following=10**9), "points to byte 1,000,000,002"),
    Refused("no width.tif", tiff_bytes(SOUND | {256: 0}), "width 0"),
    Refused("huge.tif", tiff_bytes(SOUND | {256: 2**32 - 1}), "width 4294967295"),
    Refused("no tile.tif", tiff_bytes(SOUND | {323: 0}), "tile height 0"),
    Refused("tile.tif", tiff_bytes(SOUND | {322: 2**30}), r"tiles of 64 x 1073741824.* 256 MB\."),
    Refused("bits.tif", tiff_bytes(SOUND | {258: 99}), "samples of 99 bits"),
    Refused("samples.tif", tiff_bytes(SOUND | {277: 0}), "0 samples"),
    Refused("nowhere.tif", tiff_bytes({k: v for k, v in SOUND.items() if k not in (324, 325)}),
            "where its pixels are"),
    Refused("few.tif", tiff_bytes(SOUND | {256: 640}), "1 of 10 segments"),
    Refused("cut.tif", tiff_bytes(SOUND | {324: 10**6}), "1 of 1 parts beyond the end"),
    Refused("long.tif", tiff_bytes(SOUND | {325: 2**32 - 1}), "beyond the end"),
    Refused("bomb.tif", tiff_bytes(SOUND | {256: 8192, 257: 8192, 322: 8192, 323: 8192, 325: 900}),
            "inflate to 201 MB"),
    Refused("no mrxs folder.mrxs", b"\xff\xd8\xff\xe0" + bytes(50), "folder of data files"),
    Refused("png start.png", b"\x89PNG\r\n\x1a\nnonsense", "can't be read as a picture"),
)  # fmt: skip


@pytest.mark.parametrize("case", GUARD_CASES, ids=lambda c: c.name)
def test_refused(tmp_path, case):
    path = tmp_path / case.name
    path.write_bytes(case.content)
    with pytest.raises(SlideError, match=f"'{case.name}': .*{case.said}") as caught:
        open_slide(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sound(tmp_path, order):
    path = tmp_path / "sound.tif"
    path.write_bytes(tiff_bytes(SOUND, order=order))
    assert check_tiff(path)[0].shape == (64, 64)
    with open_slide(path) as slide:
        assert not slide.read_level(0, 0, 0, 64, 64).any()


def test_many_directories_are_refused(tmp_path):
    path = tmp_path / "many.tif"
    path.write_bytes(tiff_bytes(*[SOUND] * (limits.get("directories") + 1)))
    with pytest.raises(SlideError, match="has 1,001 directories; the limit"):
        open_slide(path)
    path.write_bytes(tiff_bytes(*[SOUND] * 20))
    assert len(read_directories(path)) == 20


def test_entities_in_ome_xml_are_refused(tmp_path):
    laughs = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><OME>&b;</OME>\0'
    path = tmp_path / "laughs.ome.tif"
    path.write_bytes(tiff_bytes(SOUND | {270: laughs}))
    with pytest.raises(SlideError, match="declares entities"):
        open_slide(path)


@pytest.mark.parametrize("kind", factory.LOSSLESS, ids=lambda k: k.name)
def test_sound_slides_pass_and_lose_their_ends(tmp_path, kind):
    """A file that lacks its last tenth is refused as a whole, when it is opened."""
    path = kind.write(tmp_path / kind.name, factory.pyramid(factory.tissue(300, 300)))
    if path.is_dir() or path.suffix in (".png", ".webp"):
        with open_slide(path) as slide:
            assert slide.shape == (300, 300)
        return
    assert check_tiff(path)
    os.truncate(path, int(path.stat().st_size * 0.9))
    with pytest.raises(SlideError, match=r"beyond the end of the file|but ends at byte"):
        open_slide(path)


def test_bigtiff_offsets_that_wrap_around_are_refused(tmp_path):
    path = factory.write_tiff(tmp_path / "b.tif", [factory.tissue(256, 256)], bigtiff=True)
    import tifffile

    with tifffile.TiffFile(path, mode="r+b") as tif:
        tag = tif.pages[0].tags["TileOffsets"]
        tag.overwrite([2**64 - 10, *tag.value[1:]], dtype="Q")
    with pytest.raises(SlideError, match="beyond the end"):
        open_slide(path)


class TestPaths:
    def test_messages_name_no_folder(self, tmp_path):
        folder = tmp_path / "PHI-CANARY-7731"
        folder.mkdir()
        broken = factory.write_ome_zarr(folder / "z.zarr", [factory.tissue(64, 64)])
        (broken / ".zattrs").unlink()
        (broken / "0" / ".zarray").write_text("{")
        (folder / "a.vms").write_text("[Virtual Microscope Specimen]\nNoLayers=1\n")
        (folder / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
        (folder / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(600))
        for path in sorted(folder.iterdir()):
            with pytest.raises(SlideError, match=path.name) as caught:
                open_slide(path)
            assert "CANARY" not in str(caught.value)

    def test_missing(self, tmp_path):
        with pytest.raises(SlideError, match=r"'gone\.svs': it does not exist"):
            open_slide(tmp_path / "gone.svs")

    def test_inside_a_file(self, sample_path):
        with pytest.raises(SlideError, match="can't be read"):
            open_slide(sample_path / "inside.svs")

    def test_name_with_a_zero_byte(self):
        with pytest.raises(SlideError, match="can't be read"):
            open_slide("a\0b.svs")

    def test_too_long_a_name(self, tmp_path):
        with pytest.raises(SlideError, match="File name too long"):
            open_slide(tmp_path / ("x" * 300))

    def test_folder_without_slides(self, tmp_path):
        (tmp_path / "readme.txt").write_text("nothing here")
        with pytest.raises(SlideError, match=r"neither OME-Zarr nor DICOM.* Choose a slide"):
            open_slide(tmp_path)

    def test_data_folder_of_mirax(self, tmp_path):
        folder = tmp_path / "scan"
        folder.mkdir()
        (folder / "Slidedat.ini").write_text("[GENERAL]")
        with pytest.raises(SlideError, match=r"Open the file 'scan\.mrxs'"):
            open_slide(folder)

    def test_no_permission(self, sample_path, monkeypatch):
        def forbid(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", forbid)
        with pytest.raises(SlideError, match=r"may not be read.* permission"):
            open_slide(sample_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
    def test_pipes_do_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.svs")
        with pytest.raises(SlideError, match="not a regular file"):
            open_slide(tmp_path / "pipe.svs")


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (b"II*\0" + bytes(8), "a.svs", FileKind.TIFF),
        (b"MM\0+" + bytes(8), "a.tif", FileKind.TIFF),
        (bytes(128) + b"DICM" + bytes(8), "no suffix", FileKind.DICOM),
        (b"\xff\xd8\xff\xe0", "a.jpg", FileKind.JPEG),
        (b"\x89PNG\r\n\x1a\n", "a.tif", FileKind.PNG),
        (b"RIFF\0\0\0\0WEBPVP8L", "a.webp", FileKind.WEBP),
        (b"[Virtual Microscope Specimen]\r\n", "a.vms", FileKind.OTHER_SLIDE),
        (b"ZISRAWFILE", "a.czi", FileKind.OTHER_SLIDE),
    ],
)
def test_content_decides(tmp_path, content, name, kind):
    (tmp_path / name).write_bytes(content)
    assert identify(tmp_path / name) is kind


class TestZarr:
    PICTURE = factory.tissue(64, 64)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda m: m["multiscales"].clear(), "list of levels is empty"),
            (lambda m: m.pop("multiscales"), "no multiscale image"),
            (lambda m: m["multiscales"][0]["axes"].reverse(), None),
            (lambda m: m["multiscales"][0]["datasets"][0].update(path="9"), "level '9' is missing"),
            (
                lambda m: m["multiscales"][0]["datasets"][0].update(path="../x"),
                "outside the folder",
            ),
            (lambda m: m["multiscales"][0]["axes"].pop(), r"its axes 'cy' are not known"),
            (lambda m: (m.clear(), m.update(plate={})), "plate of many wells"),
        ],
    )
    def test_attributes(self, tmp_path, change, said):
        import json

        path = factory.write_ome_zarr(tmp_path / "z.zarr", [self.PICTURE])
        file, attributes = factory.zarr_attributes(path)
        change(attributes)
        file.write_text(json.dumps(attributes))
        if said is None:  # x, y, c: 64 channels
            said = "64 channels"
        with pytest.raises(SlideError, match=rf"'z\.zarr': .*{said}"):
            open_slide(path)

    def test_broken_json(self, tmp_path):
        path = factory.write_ome_zarr(tmp_path / "z.zarr", [self.PICTURE])
        (path / ".zattrs").write_text("{not json")
        with pytest.raises(SlideError, match=r"'z\.zarr'"):
            open_slide(path)

    def test_huge_chunks(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PLIMSEG_LIMITS", "segment-bytes=1000")
        path = factory.write_ome_zarr(tmp_path / "z.zarr", [self.PICTURE])
        with pytest.raises(SlideError, match="chunks"):
            open_slide(path)

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_bare_array(self, tmp_path, version):
        path = factory.write_ome_zarr(tmp_path / "z.zarr", [self.PICTURE], version=version)
        with pytest.raises(SlideError, match="bare Zarr array"):
            open_slide(path / "0")

    def test_bioformats2raw_layout(self, tmp_path):
        import zarr

        outer = zarr.create_group(str(tmp_path / "b.zarr"), zarr_format=2)
        outer.attrs["bioformats2raw.layout"] = 3
        factory.write_ome_zarr(tmp_path / "b.zarr" / "0", [self.PICTURE])
        with open_slide(tmp_path / "b.zarr") as slide:
            np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), self.PICTURE)


def test_pictures_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("PLIMSEG_LIMITS", "picture-bytes=4000")
    path = factory.write_picture(tmp_path / "p.png", factory.tissue(64, 64))
    with pytest.raises(SlideError, match=r"64 x 64 pixels decodes.*'picture-bytes'.*vips tiffsave"):
        open_slide(path)


def test_picture_bombs_are_refused_by_their_header(tmp_path):
    import zlib

    def part(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", b"") + part(b"IEND", b"")
    )
    with pytest.raises(SlideError, match=r"decodes to 30\.0 GB; the limit 'picture-bytes' is"):
        open_slide(path)


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2k", "jp2", "webp", "webp lossless"])
def test_what_a_segment_declares_is_read_without_decoding(codec):
    import imagecodecs

    pixels = factory.tissue(96, 130)
    encoded = {
        "jpeg": lambda: imagecodecs.jpeg8_encode(pixels, level=80),
        "jpeg2k": lambda: imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="j2k"),
        "jp2": lambda: imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="jp2"),
        "webp": lambda: imagecodecs.webp_encode(pixels, level=80),
        "webp lossless": lambda: imagecodecs.webp_encode(pixels, lossless=True),
    }[codec]()
    assert encoded_shape(bytes(encoded)) == (96, 130)
    for length in range(min(len(encoded), 200)):
        encoded_shape(bytes(encoded[:length]))  # never raises


def test_a_tile_that_declares_more_than_the_directory_is_not_decoded(tmp_path):
    """A JPEG of 65,500 x 65,500 inside a 64 x 64 tile would take 12 GB."""
    import imagecodecs

    tile = bytearray(imagecodecs.jpeg8_encode(factory.tissue(64, 64), level=50))
    at = tile.index(b"\xff\xc0") + 5
    tile[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    tags = SOUND | {259: 7, 262: 6, 325: len(tile)}
    content = bytearray(tiff_bytes(tags))
    content[8 : 8 + len(tile)] = tile
    path = tmp_path / "declares.tif"
    path.write_bytes(content)
    with open_slide(path) as slide, pytest.raises(SlideError, match="declares 65500 x"):
        slide.read_level(0, 0, 0, 64, 64)


def test_the_file_that_kills_openslide_is_refused_and_the_process_lives(shared_data):
    path = shared_data / "bad_slides" / "tile_4g.tif"
    code = (
        "import sys; from napari_plimseg.slides import open_slide\n"
        "from napari_plimseg.errors import SlideError\n"
        "try: open_slide(sys.argv[1])\n"
        "except SlideError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "'tile_4g.tif': image 0 is stored in tiles of 2147483632 x 2147483632" in done.stdout


def test_long_ndpi_directories_have_high_words(tmp_path):
    """Beyond 4 GB an NDPI has 8-byte offsets in a classic TIFF: a sparse file stands for it."""
    base = 2**32 + 1000
    tags = [(256, 4, 1, 640), (257, 4, 1, 480), (273, 4, 1, 16), (279, 4, 1, 100), (65420, 4, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    highs = [0, 0, 1, 0, 0]  # the strip lies at 2**32 + 16
    path = tmp_path / "long.ndpi"
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8))
        file.write(struct.pack("<H", len(tags)) + entries + struct.pack("<Q", base))
        file.write(struct.pack("<5I", *highs))
        file.seek(base)
        file.write(struct.pack("<H", len(tags)) + entries + struct.pack("<Q", 0))
        file.write(struct.pack("<5I", *highs))
        file.write(bytes(100))
    directories = check_tiff(path)
    assert [d.shape for d in directories] == [(480, 640)] * 2
    assert [int(d.segments[0][0]) for d in directories] == [2**32 + 16] * 2
    assert files.tiff_vendor(directories) == "hamamatsu"


@pytest.mark.parametrize(
    ("tags", "vendor"),
    [
        ({}, None),
        ({65420: 1}, "hamamatsu"),
        ({270: b"<scn xmlns='http://www.leica-microsystems.com/scn/2010/10/01'>\0"}, "leica"),
        ({305: b"Philips DP v1.0\0"}, "philips"),
        ({305: b"MedScan\0"}, "trestle"),
        ({270: b"Aperio Image Library\0", 259: 33003}, "aperio"),
        ({270: b"Aperio Image Library\0", 259: 33005}, None),
    ],
)
def test_dialects_that_only_openslide_reads(tmp_path, tags, vendor):
    path = tmp_path / "v.tif"
    path.write_bytes(tiff_bytes(SOUND | tags))
    assert files.tiff_vendor(check_tiff(path)) == vendor
