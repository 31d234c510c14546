"""Pixel size, levels and channel names, from every place where vendors write them."""

from __future__ import annotations

import html
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.slide import Level, usable_mpp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


MAX_ANISOTROPY = 0.015
"""Relative difference of pixel height and width above which no single size is honest."""
_UNITS = {
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
    "å": 1e-4, "angstrom": 1e-4, "ångström": 1e-4,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "µ": 1.0, "μ": 1.0, "micron": 1.0, "\\u00b5m": 1.0,
    "\\u03bcm": 1.0, "&#181;m": 1.0, "\ufffdm": 1.0, "?m": 1.0,
    "micrometer": 1.0, "micrometre": 1.0, "mikrometer": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "in": 25_400.0, "inch": 25_400.0, "inche": 25_400.0,
}  # fmt: skip
_PER_UNIT = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # TIFF ResolutionUnit -> um
_MOST_PLANES = 1_000_000
_APERIO_MPP = re.compile(r"\bMPP\s*=\s*([0-9.,]+(?:[eE][-+]?\d+)?)")


def square(mpp_y: float | None, mpp_x: float | None) -> tuple[float | None, str | None]:
    """Return one pixel size from two, and a sentence when they differ too much.

    A slide whose pixels are not square still opens, but its pixel size stays unknown: otherwise
    every area and every model would silently work with a wrong number.

    Parameters
    ----------
    mpp_y, mpp_x : float or None
        Height and width of a pixel in um.
    """
    height, width = usable_mpp(mpp_y), usable_mpp(mpp_x)
    if height is None or width is None:
        return height or width, None
    if abs(height - width) > MAX_ANISOTROPY * max(height, width):
        return None, (
            f"Its pixels are {height:.4g} um high and {width:.4g} um wide, not square, so the "
            "pixel size is taken as unknown."
        )
    return math.sqrt(height * width), None


def from_length(value: object, unit: object) -> float | None:
    """Return um for a length with a unit, as OME and NGFF metadata give it; None when unusable."""
    number, factor = _decimal(str(value)), _um_in(str(unit))
    return None if number is None or factor is None else usable_mpp(number * factor)


def _decimal(text: str) -> float | None:
    """Return a number, also one with a decimal comma; None for anything else."""
    try:
        return float(text.strip().rstrip(",").replace(",", "."))
    except ValueError:
        return None


def _um_in(unit: str) -> float | None:
    """Return the um in a unit as writers spell it: in the plural, or encoded twice."""
    spelled = unit
    for _ in range(3):  # each round takes one wrong encoding away
        plain = spelled.strip(" .\0").casefold()
        for word in (plain, plain.removesuffix("s")):
            if word in _UNITS:
                return _UNITS[word]
        try:
            spelled = spelled.encode("cp1252").decode("utf-8")
        except UnicodeError:
            return None
    return None


def from_aperio(description: str) -> float | None:
    """Return the number after `MPP =` in an Aperio image description."""
    match = _APERIO_MPP.search(description)
    return usable_mpp(_decimal(match[1])) if match else None


def from_resolution(pixels: float, unit: int) -> float | None:
    """Return um/px from a TIFF resolution; what printers and screens use is out of range.

    Parameters
    ----------
    pixels : float
        Pixels per unit.
    unit : int
        The ResolutionUnit tag: 2 is inch, 3 is cm; 1 means that the numbers are only a ratio.
    """
    if unit not in _PER_UNIT or not math.isfinite(pixels) or pixels <= 0:
        return None
    return usable_mpp(_PER_UNIT[unit] / pixels)


def from_imagej(metadata: Mapping[str, object] | None, pixels: float) -> float | None:
    """Return um/px from ImageJ's `unit` and the resolution in pixels per unit."""
    if not metadata or not math.isfinite(pixels) or pixels <= 0:
        return None
    return from_length(1 / pixels, metadata.get("unit", ""))


@dataclass(frozen=True)
class OmeImage:
    """One `Image` of an OME-XML document.

    Parameters
    ----------
    mpp_y, mpp_x : float or None
        Physical pixel size in um.
    channel_names : tuple of str
        Empty strings for channels without a name.
    significant_bits : int or None
        Bits that the camera used.
    channel_colors : tuple of tuple of int or None
        Display color of each channel, red, green and blue; None for channels without one.
    """

    mpp_y: float | None
    mpp_x: float | None
    channel_names: tuple[str, ...]
    significant_bits: int | None
    channel_colors: tuple[tuple[int, int, int] | None, ...] = ()


_NO_XML_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|apos|quot|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});)")
_OME_TAG = re.compile(r"<(?:\w+:)?(OME|Pixels|Channel|TiffData|UUID)\b([^<>]*)>([^<]*)")
_ATTRIBUTE = re.compile(r"([\w:]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


def readable_ome(path: Path, xml: str | None) -> tuple[str | None, str | None]:
    """Return OME-XML that parses, and a sentence when it is not what the file holds.

    Where names were not escaped or a tag is not closed, what describes the pixels is kept. The
    planes that it declares are counted, since tifffile makes a list of all of them.

    Parameters
    ----------
    path : Path
        For the message.
    xml : str or None
        The file's document.

    Returns
    -------
    xml : str or None
        None when there is none, or nothing of it can be used.
    note : str or None

    Raises
    ------
    SlideError
        When more than a million planes are declared, or the document declares entities.
    """
    if not xml:
        return None, None
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise SlideError(
            "its OME-XML declares entities, which no scanner does",
            path=path,
            remedy="Do not trust this file.",
        )
    for repair in (str, _escaped, _described_again):
        text = repair(xml)
        try:
            _check_planes(path, ET.fromstring(text))  # noqa: S314 - entities are refused above
        except (ET.ParseError, ValueError):
            continue
        damaged = None if repair is str else "what can be read of it is used"
        return text, damaged and f"Its OME-XML is damaged; {damaged}."
    return None, "Its OME-XML is damaged and not used."


def _escaped(xml: str) -> str:
    return _BARE_AMPERSAND.sub("&amp;", _NO_XML_CHARACTER.sub("", xml))


def _described_again(xml: str) -> str:
    """Return a new document of the tags that say how the pixels are stored."""
    root = ET.Element("OME")
    pixels, planes = None, root
    for tag, attributes, text in _OME_TAG.findall(_escaped(xml)):
        found = {key: html.unescape(a or b) for key, a, b in _ATTRIBUTE.findall(attributes)}
        if tag == "OME":
            root.attrib.update({k: v for k, v in found.items() if k == "UUID"})
        elif tag == "Pixels":
            pixels = planes = ET.SubElement(ET.SubElement(root, "Image"), "Pixels", found)
        elif pixels is not None and tag == "UUID":
            ET.SubElement(planes, "UUID", found).text = text.strip()
        elif pixels is not None:
            planes = ET.SubElement(pixels, tag, found)
    if pixels is None:
        raise ValueError("no pixels are described")
    return ET.tostring(root, "unicode")


def _check_planes(path: Path, root: ET.Element) -> None:
    for pixels in _ome_pixels(root):
        # read as tifffile does: "+1_000" is a number, too
        count = math.prod(int(pixels.get(f"Size{axis}", "1")) for axis in "ZTC")
        if count > _MOST_PLANES:
            raise SlideError(
                f"its OME-XML declares {count:,} planes", path=path, remedy="Export it again."
            )


def _ome_pixels(root: ET.Element) -> list[ET.Element]:
    """Return the descriptions of images in OME-XML."""
    return [p for p in root.iter() if p.tag.rpartition("}")[2] == "Pixels"]


def ome_image(xml: str | None, shape: tuple[int, ...]) -> OmeImage | None:
    """Return the document's description of its image of this shape; None without OME-XML.

    Parameters
    ----------
    xml : str or None
        The document, from `readable_ome`.
    shape : tuple of int
        Pixels (y, x); the first image is taken when none has this shape.
    """
    images = _ome_pixels(ET.fromstring(xml)) if xml else []  # noqa: S314 - checked when repaired
    if not images:
        return None
    wanted = str(shape[0]), str(shape[1])
    pixels = next((p for p in images if (p.get("SizeY"), p.get("SizeX")) == wanted), images[0])
    bits = pixels.get("SignificantBits", "")
    channels = [c for c in pixels if c.tag.rpartition("}")[2] == "Channel"]
    return OmeImage(
        mpp_y=_length(pixels, "Y"),
        mpp_x=_length(pixels, "X"),
        channel_names=tuple(c.get("Name") or c.get("Fluor") or "" for c in channels),
        significant_bits=int(bits) if bits.isdecimal() else None,
        channel_colors=tuple(_ome_color(c.get("Color")) for c in channels),
    )


def _ome_color(text: str | None) -> tuple[int, int, int] | None:
    """Return the color that OME writes as a signed number of 32 bits: red, green, blue, alpha."""
    try:
        number = int(text or "") & 0xFFFFFFFF
    except ValueError:
        return None
    return number >> 24, number >> 16 & 255, number >> 8 & 255


def _length(pixels: ET.Element, axis: str) -> float | None:
    value = pixels.get(f"PhysicalSize{axis}")
    return (
        None if value is None else from_length(value, pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    )


_ASPECT_TOLERANCE = 0.02


def downsample_of(finest: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return level-0 pixels per pixel, a whole number where rounding explains the difference.

    A level of half of 4443 x 3567 has 2221 x 1783 pixels: their size is 2, not 2.0005, and the
    file only dropped the last half pixel.

    Parameters
    ----------
    finest, shape : tuple of int
        Pixels (y, x) of level 0 and of the level.
    """
    ratio = (finest[0] / shape[0] + finest[1] / shape[1]) / 2
    power = 1
    while power * 1.5 < ratio:
        power *= 2
    for whole in (power, round(ratio)):
        if all(abs(f / whole - s) < 1 for f, s in zip(finest, shape, strict=True)):
            return float(whole)
    return max(1.0, ratio)


def pyramid_of(
    shapes: Sequence[tuple[int, int]], tile_shapes: Sequence[tuple[int, int]]
) -> tuple[list[int], tuple[Level, ...]]:
    """Return the images that form a pyramid under the first, and their levels.

    An image that does not shrink, or whose aspect differs from the first by more than 2 % and
    two pixels, is something else (a label, a macro picture, a thumbnail) and is skipped.

    Parameters
    ----------
    shapes, tile_shapes : sequence of tuple of int
        Pixels (y, x) of images and of their tiles, the finest image first.

    Returns
    -------
    indices : list of int
    levels : tuple of Level
    """
    finest = shapes[0]
    indices, levels = [0], [Level(finest, 1.0, tile_shapes[0])]
    for index in range(1, len(shapes)):
        shape = shapes[index]
        before = levels[-1].shape
        if min(shape) < 1 or shape[0] >= before[0] or shape[1] >= before[1]:
            continue
        proportional = finest[0] * shape[1] / finest[1]
        if abs(shape[0] - proportional) > max(2.0, _ASPECT_TOLERANCE * shape[0]):
            continue
        downsample = downsample_of(finest, shape)
        if downsample <= levels[-1].downsample:
            continue
        indices.append(index)
        levels.append(Level(shape, downsample, tile_shapes[index]))
    return indices, tuple(levels)
