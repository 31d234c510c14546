"""What OME-XML says about one image: pixel size, channel names, used bits."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.pixel_size import from_length

if TYPE_CHECKING:
    from pathlib import Path


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
    """

    mpp_y: float | None
    mpp_x: float | None
    channel_names: tuple[str, ...]
    significant_bits: int | None


def ome_image(path: Path, xml: str | None, shape: tuple[int, ...]) -> OmeImage | None:
    """Return what the document says about its image of this shape, or None without OME-XML.

    Parameters
    ----------
    path : Path
        For the message.
    xml : str or None
        The document.
    shape : tuple of int
        Pixels (y, x); the first image is taken when none has this shape.
    """
    if not xml:
        return None
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise SlideError(
            "its OME-XML declares entities, which no scanner does",
            path=path,
            remedy="Do not trust this file.",
        )
    root = ET.fromstring(xml)  # noqa: S314 - entities are refused above
    images = [p for p in root.iter() if p.tag.rpartition("}")[2] == "Pixels"]
    if not images:
        return None
    wanted = str(shape[0]), str(shape[1])
    pixels = next((p for p in images if (p.get("SizeY"), p.get("SizeX")) == wanted), images[0])
    bits = pixels.get("SignificantBits", "")
    return OmeImage(
        mpp_y=_length(pixels, "Y"),
        mpp_x=_length(pixels, "X"),
        channel_names=tuple(
            c.get("Name") or c.get("Fluor") or ""
            for c in pixels
            if c.tag.rpartition("}")[2] == "Channel"
        ),
        significant_bits=int(bits) if bits.isdecimal() else None,
    )


def _length(pixels: ET.Element, axis: str) -> float | None:
    value = pixels.get(f"PhysicalSize{axis}")
    return (
        None if value is None else from_length(value, pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    )
