"""Slides full of canaries, and the search for canaries in every byte that was written."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import urllib.parse
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from tests.support import slides as factory
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "Qx7Canary"
"""Begins every canary; the name of its field follows."""
GREEN = (1, 254, 77)
"""The color of label and macro images, which no other picture has."""
_FIND = re.compile(rb"qx7canary([a-z0-9]*)", re.IGNORECASE)
_DEPTH = 4


def canary(field: str) -> str:
    """Return what a field holds: a name with letters that files encode in different ways."""
    return f"{MARK}{field} Zoë Ångström-Ωμέγα"


def plain_canary(field: str) -> str:
    """Return a canary in ASCII."""
    return f"{MARK}{field}"


# -- slides


def _green(height: int = 90, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), GREEN, np.uint8)


_TEXT_TAGS = {
    269: "document", 271: "make", 272: "model", 285: "page", 315: "artist", 316: "host",
    32781: "imageid", 33432: "copyright", 65000: "private",
}  # fmt: skip


def write_tiff(path: Path) -> Path:
    """Write a TIFF whose every text tag is a canary, XMP and IPTC among them."""
    texts = [(code, "s", 0, plain_canary(name), True) for code, name in _TEXT_TAGS.items()]
    xmp = f"<x:xmpmeta>{canary('xmp')}</x:xmpmeta>".encode()
    with tifffile.TiffWriter(path) as writer:
        for level in factory.pyramid(factory.tissue(520, 600), 2):
            writer.write(
                level, photometric="rgb", tile=(128, 128), compression="zlib", metadata=None,
                contiguous=False, description=plain_canary("description"),
                software=plain_canary("software"), resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
                extratags=[*texts, (700, "B", len(xmp), xmp, True),
                           (33723, "B", len(xmp), xmp, True)],
            )  # fmt: skip
    return path


def write_svs(path: Path) -> Path:
    """Write an Aperio slide with patient data in its description, a label and a macro image."""
    finest, *reduced = factory.pyramid(factory.tissue(520, 600, 1), 2)
    facts = "|".join(
        f"{name} = {plain_canary(name.replace(' ', ''))}"
        for name in ("Patient", "User", "Filename", "ScanScope ID", "Parmset", "Title", "Barcode")
    )
    text = factory.APERIO.format(w=finest.shape[1], h=finest.shape[0], mpp="0.5") + f"|{facts}"
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"photometric": "rgb", "metadata": None, "contiguous": False}
        writer.write(finest, tile=(256, 256), compression="zlib", description=text, **options)
        thumbnail = np.ascontiguousarray(finest[::5, ::5])
        writer.write(thumbnail, rowsperstrip=16, description=text, **options)
        for level in reduced:
            writer.write(level, tile=(256, 256), compression="zlib", description=text, **options)
        for kind, flag in (("label", 1), ("macro", 9)):
            writer.write(
                _green(), rowsperstrip=8, subfiletype=flag, compression="lzw",
                description=f"Aperio\r\n{kind} 120x90 {plain_canary(kind)}", **options,
            )  # fmt: skip
    return path


def write_ome_tiff(path: Path) -> Path:
    """Write an OME-TIFF whose people, devices and annotations are canaries."""
    names = ("Name", "Description", "AcquisitionDate")
    metadata = {name: canary(f"ome{name}") for name in names[:2]}
    factory.write_ome_tiff(path, factory.pyramid(factory.tissue(520, 600, 2), 2), **metadata)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        xml = tif.pages[0].description
        people = "".join(
            f"<Experimenter ID='Experimenter:{n}' UserName='{canary('ome' + key)}' "
            f"{key}='{canary('ome' + key)}'/>"
            for n, key in enumerate(("LastName", "Email", "Institution"))
        )
        changed = xml.replace("<Image ", f"{people}<Image ", 1)
        tif.pages[0].tags["ImageDescription"].overwrite(changed.encode())
    return path


def write_ome_zarr(path: Path) -> Path:
    """Write an OME-Zarr whose attributes are canaries."""
    factory.write_ome_zarr(path, factory.pyramid(factory.tissue(520, 600, 3), 2))
    file, content = factory.zarr_attributes(path)
    content["multiscales"][0]["name"] = canary("zarrname")
    content["multiscales"][0]["metadata"] = {"patient": canary("zarrpatient")}
    content["_creator"] = {"name": canary("zarrcreator")}
    file.write_text(json.dumps(content), "utf-8")
    return path


def write_png(path: Path) -> Path:
    """Write a PNG with texts of every kind."""
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", plain_canary("pngtext"))
    about.add_text("Comment", plain_canary("pngztext"), zip=True)
    about.add_itxt("Title", canary("pngitext"), "de", "Titel", zip=True)
    exif = Image.Exif()
    exif[315] = plain_canary("exifartist")
    Image.fromarray(factory.tissue(520, 600, 4)).save(path, pnginfo=about, exif=exif)
    return path


def write_jpeg(path: Path) -> Path:
    """Write a JPEG with EXIF and a comment."""
    exif = Image.Exif()
    exif[270] = plain_canary("exifdescription")
    exif[315] = plain_canary("exifartist")
    Image.fromarray(factory.tissue(520, 600, 5)).save(
        path, exif=exif, comment=plain_canary("jpegcomment").encode(), quality=90
    )
    return path


def write_qptiff(path: Path) -> Path:
    """Write a scan as PerkinElmer does, with canaries in its XML and a green overview."""
    levels = factory.pyramid(factory.tissue(520, 600, 6), 2)
    with tifffile.TiffWriter(path) as writer:

        def write(pixels: np.ndarray, kind: str, **options: Any) -> None:
            fields = "".join(
                f"<{name}>{plain_canary('qp' + name)}</{name}>"
                for name in ("SlideID", "Barcode", "OperatorName", "ComputerName", "StudyName")
            )
            writer.write(
                pixels, photometric="rgb", metadata=None, contiguous=False, compression="zlib",
                software="PerkinElmer-QPI", resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
                description='<?xml version="1.0" encoding="utf-16"?>\n'
                f"<PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType>{fields}"
                "</PerkinElmer-QPI-ImageDescription>", **options,
            )  # fmt: skip

        write(levels[0], "FullResolution", tile=(128, 128))
        write(np.ascontiguousarray(levels[0][::5, ::5]), "Thumbnail", rowsperstrip=16)
        write(levels[1], "ReducedResolution", tile=(128, 128), subfiletype=1)
        write(_green(40, 30), "Overview", rowsperstrip=16)
        write(_green(40, 30), "Label", rowsperstrip=16)
    return path


_DICOM = {
    (0x0008, 0x0080): (b"LO", "institution"),
    (0x0008, 0x0090): (b"PN", "physician"),
    (0x0010, 0x0010): (b"PN", "patientname"),
    (0x0010, 0x0020): (b"LO", "patientid"),
}


def write_dicom(source: Path, path: Path) -> Path:
    """Copy a DICOM slide with canaries as the patient, physician and institution."""
    data = source.read_bytes()
    for (group, element), (kind, name) in _DICOM.items():
        tag = group.to_bytes(2, "little") + element.to_bytes(2, "little") + kind
        at = data.find(tag)
        if at < 0:
            continue
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        value = plain_canary(f"dicom{name}").encode()
        value += b" " * (len(value) % 2)
        head = tag + len(value).to_bytes(2, "little")
        data = data[:at] + head + value + data[at + 8 + length :]
    path.write_bytes(data)
    return path


def write_slides(folder: Path, *, short: bool = False) -> list[Path]:
    """Write a slide of each kind into a folder, under neutral names."""
    folder.mkdir(parents=True)
    found = [write_tiff(folder / "case-1.tif"), write_svs(folder / "case-2.svs")]
    if short:
        return found
    found += [
        write_ome_tiff(folder / "case-3.ome.tif"),
        write_ome_zarr(folder / "case-4.zarr"),
        write_png(folder / "case-5.png"),
        write_jpeg(folder / "case-6.jpg"),
        write_qptiff(folder / "case-7.qptiff"),
    ]
    real = ROOT.parent / "shared" / "data" / "wsi" / "small_dicom.dcm"
    if real.is_file():
        found.append(write_dicom(real, folder / "case-8.dcm"))
    return found


# -- the search


def decoded(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield bytes and everything that is packed, encoded or compressed in them."""
    yield data
    if depth >= _DEPTH or len(data) < 8:
        return
    if b"\0" in data:
        yield data.replace(b"\0", b"")  # UTF-16 and UTF-32
    if b"%" in data:
        yield urllib.parse.unquote_to_bytes(data)
    for text in re.findall(rb"[A-Za-z0-9+/_-]{24,}={0,2}", data):
        packed = text.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
        for shift in range(4 if len(packed) < 4000 else 1):
            part = packed[shift:]
            with suppress(binascii.Error, ValueError):
                inner = base64.b64decode(part[: len(part) // 4 * 4])
                yield from decoded(inner, depth + 1) if _is_packed(inner) else (inner,)
    for text in re.findall(rb"(?:[0-9a-fA-F]{2}){12,}", data):
        with suppress(ValueError):
            yield bytes.fromhex(text.decode())
    for inner in _unpacked(data):
        yield from decoded(inner, depth + 1)


def _is_packed(data: bytes) -> bool:
    return data[:2] in (b"\xff\xd8", b"\x89P", b"PK", b"\x1f\x8b", b"II", b"MM") or b"x\x9c" in data


def _unpacked(data: bytes) -> Iterator[bytes]:
    for match in re.finditer(rb"x[\x01\x5e\x9c\xda]", data):
        stream = zlib.decompressobj()
        with suppress(zlib.error):
            inner = stream.decompress(data[match.start() : match.start() + 4_000_000], 8_000_000)
            if len(inner) > 8:
                yield inner
    for match in re.finditer(rb"\x28\xb5\x2f\xfd", data):
        from imagecodecs import zstd_decode

        with suppress(Exception):
            yield zstd_decode(data[match.start() :])
    if data[:2] == b"PK":
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode() + b"\n" + archive.read(name)
    for start, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress),
                          (b"\xfd7zXZ", lzma.decompress)):  # fmt: skip
        if data.startswith(start):
            with suppress(OSError, EOFError, ValueError, lzma.LZMAError):
                yield unpack(data)


def canaries_in(data: bytes) -> set[str]:
    """Return the fields whose canaries are in some bytes, however encoded."""
    found = set()
    for part in decoded(data):
        found |= {match.lower().decode() or "?" for match in _FIND.findall(part)}
    return found


def shows_label(path: Path) -> bool:
    """Whether a picture has pixels of the label's or macro's color."""
    for pixels in _pictures(path):
        if pixels.ndim == 3 and pixels.shape[2] >= 3:
            distance = np.abs(pixels[..., :3].astype(np.int16) - np.array(GREEN)).max(2)
            if (distance <= 24).sum() >= 20:
                return True
    return False


def _pictures(path: Path) -> Iterator[np.ndarray]:
    data = path.read_bytes()
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
        with tifffile.TiffFile(path) as tif:
            for page in tif.pages:
                with suppress(Exception):
                    yield page.asarray()
        return
    pictures = [data]
    for text in re.findall(rb"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", data):
        pictures.append(base64.b64decode(text))
    for picture in pictures:
        with suppress(Exception):
            yield np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


@dataclass(frozen=True)
class Leak:
    """A canary in a file.

    Parameters
    ----------
    file : str
        Relative to the folder searched.
    field : str
        Which canary; "label image" for pixels of a label.
    """

    file: str
    field: str


def leaks_in(folder: Path) -> tuple[int, list[Leak]]:
    """Search every file below a folder, and its names; return the files searched and the leaks."""
    count, leaks = 0, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        leaks += [Leak(name, f"the name: {field}") for field in canaries_in(path.name.encode())]
        if not path.is_file():
            continue
        count += 1
        leaks += [Leak(name, field) for field in sorted(canaries_in(path.read_bytes()))]
        if shows_label(path):
            leaks.append(Leak(name, "label image"))
    return count, leaks


def copy_of(source: Path, target: Path) -> Path:
    """Copy a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        return Path(shutil.copytree(source, target))
    return Path(shutil.copy(source, target))
