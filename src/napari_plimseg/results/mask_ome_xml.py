"""What a label TIFF says about itself, as OME-XML, written from `MaskInfo` and read back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from napari_plimseg import __version__
from napari_plimseg.errors import ExportError
from napari_plimseg.results.mask_info import MaskInfo
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "napari-plimseg/mask"
RESEARCH_USE = "Research use only; not a medical device."
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_CHARACTERS_LIMIT = 4_000_000


def mask_ome_xml(info: MaskInfo) -> str:
    """Return the OME-XML of a mask: size, pixel size, class names by id, and `info` itself.

    Built from `info` alone; nothing of the slide's own description can get in.
    """
    height, width = info.shape
    root = ET.Element(
        "OME",
        {
            "xmlns": _OME,
            "xmlns:xsi": _XSI,
            "xsi:schemaLocation": f"{_OME} {_OME}/ome.xsd",
            "Creator": f"napari-plimseg {__version__}",
        },
    )
    image = ET.SubElement(root, "Image", {"ID": "Image:0", "Name": "tissue classes"})
    ET.SubElement(image, "Description").text = RESEARCH_USE
    size = {}
    if info.mask_mpp is not None:
        for axis in "XY":
            size[f"PhysicalSize{axis}"] = repr(info.mask_mpp)
            size[f"PhysicalSize{axis}Unit"] = "µm"
    pixels = ET.SubElement(
        image,
        "Pixels",
        {
            "ID": "Pixels:0",
            "DimensionOrder": "XYCZT",
            "Type": "uint8",
            "SignificantBits": "8",
            "SizeX": str(width),
            "SizeY": str(height),
            "SizeC": "1",
            "SizeZ": "1",
            "SizeT": "1",
            **size,
        },
    )
    ET.SubElement(
        pixels, "Channel", {"ID": "Channel:0:0", "Name": "mask id", "SamplesPerPixel": "1"}
    )
    ET.SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    for number in range(2):
        ET.SubElement(image, "AnnotationRef", {"ID": f"Annotation:{number}"})
    names = {NOT_COMPUTED: "not computed", UNREADABLE: "unreadable"}
    names |= {i: tissue_class.name for i, tissue_class in enumerate(info.classes, 1)}
    annotations = ET.SubElement(root, "StructuredAnnotations")
    _add_map(annotations, 0, "classes", {str(i): names[i] for i in sorted(names)})
    _add_map(annotations, 1, "info", {"info": json.dumps(info.to_dict())})
    return ET.tostring(root, encoding="unicode", xml_declaration=False)


def mask_info_of(xml: str, path: Path) -> MaskInfo:
    """Read the `MaskInfo` back from the OME-XML of a label TIFF.

    Raises
    ------
    ExportError
        When the file was not written by `export_label_tiff`.
    """
    foreign = ExportError(
        "it is no label TIFF of this program: its classes and its place on the slide are missing",
        path=path,
        remedy="Give a file that 'plimseg export' or the dock wrote.",
    )
    if len(xml) > _CHARACTERS_LIMIT or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise foreign
    try:
        root = ET.fromstring(xml)  # noqa: S314 - entities are refused above
        for annotation in root.iter(f"{{{_OME}}}MapAnnotation"):
            if annotation.get("Namespace") == f"{NAMESPACE}/info":
                content = annotation.findtext(f"{{{_OME}}}Value/{{{_OME}}}M")
                return MaskInfo.from_dict(json.loads(content or ""), path=path)
    except (ET.ParseError, ValueError) as error:
        raise foreign from error
    raise foreign


def _add_map(parent: ET.Element, number: int, name: str, content: dict[str, str]) -> None:
    annotation = ET.SubElement(
        parent,
        "MapAnnotation",
        {"ID": f"Annotation:{number}", "Namespace": f"{NAMESPACE}/{name}"},
    )
    value = ET.SubElement(annotation, "Value")
    for key, text in content.items():
        ET.SubElement(value, "M", {"K": key}).text = _printable(text)


def _printable(text: str) -> str:
    """Drop the control characters that XML can't hold."""
    return "".join(c for c in text if c in "\t\n\r" or ord(c) >= 32)
