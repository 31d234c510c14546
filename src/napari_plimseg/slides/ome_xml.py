"""OME-XML: what it says about pixels and channels, also when it is damaged."""

from __future__ import annotations

import html
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.metadata import from_length

if TYPE_CHECKING:
    from pathlib import Path


_MOST_PLANES = 1_000_000


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
