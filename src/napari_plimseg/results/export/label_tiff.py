"""Writes and reads the label TIFF: a pyramidal OME-TIFF of mask ids that other programs open.

Its levels are listed twice: as SubIFDs of the first directory, as OME-TIFF requires, and in the
chain of directories, where OpenSlide and libvips look. All of them read gray pixels with zlib
unchanged; a palette would turn ids into colors, and libvips reads zstd as zeros.
"""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_plimseg.errors import ExportError, PlimsegError, user_path
from napari_plimseg.files import access_errors
from napari_plimseg.reading import check_page, parse_json
from napari_plimseg.results.export.writing import RESEARCH_USE, export_to, without_ignored
from napari_plimseg.results.mask_info import SOFTWARE, MaskInfo
from napari_plimseg.results.measure import iter_bands
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_plimseg.results.measure import MaskArray


def half_size(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask at half the size: the most frequent id of each 2 x 2 pixels.

    Parameters
    ----------
    mask : ndarray of uint8, shape (y, x)
        Odd sides are padded by their last row and column.

    Returns
    -------
    ndarray of uint8, shape (ceil(y / 2), ceil(x / 2))
    """
    even = np.pad(mask, [(0, side % 2) for side in mask.shape], mode="edge")
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    # a unless two of the other three agree and a agrees with none of them
    others = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    voted: NDArray[np.uint8] = np.where((a == b) | (a == c) | (a == d), a, others)
    return voted


class LabelPyramid:
    """A mask at other resolutions, tile by tile.

    Parameters
    ----------
    mask : array of uint8, shape (y, x)
        Read in bands of rows; the coarser levels, a third of its size, are held in memory.
    downsample : float
        Level-0 pixels per mask pixel and side.
    """

    def __init__(self, mask: MaskArray, downsample: float) -> None:
        self.downsample = downsample
        self.levels: list[MaskArray] = [mask]

    def _level(self, number: int) -> MaskArray:
        while len(self.levels) <= number:
            # bands of an even number of rows, so that halving them halves the whole
            halves = [half_size(band) for band in iter_bands(self.levels[-1])]
            self.levels.append(np.concatenate(halves))
        return self.levels[number]

    def iter_tiles(
        self, downsample: float, shape: tuple[int, int], tile: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the tiles of a level, row by row.

        Parameters
        ----------
        downsample : float
            Level-0 pixels per pixel of the level. Coarser levels are made by halving with a
            majority vote; from the next finer one, ids are picked at the centers of pixels.
        shape : tuple of int
            Pixels (y, x) of the level; pixels outside the mask are "not computed".
        tile : int
            Side of a tile; tiles at the edge are padded.
        """
        ratio = downsample / self.downsample
        number = max(0, int(np.floor(np.log2(ratio * (1 + 1e-9)))))
        source = self._level(number)
        ratio /= 2**number
        columns, inside = _picked(ratio, 0, -(-shape[1] // tile) * tile, source.shape[1])
        inside[shape[1] :] = False
        for top in range(0, shape[0], tile):
            rows, row_inside = _picked(ratio, top, tile, source.shape[0])
            row_inside[max(0, shape[0] - top) :] = False
            first, last = int(rows[0]), int(rows[-1])
            band = np.asarray(source[first : last + 1])
            for left in range(0, shape[1], tile):
                part = slice(left, left + tile)
                picked = band[np.ix_(rows - first, columns[part])]
                picked[~(row_inside[:, None] & inside[part])] = NOT_COMPUTED
                yield picked


def _picked(
    ratio: float, start: int, count: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    centers = (np.arange(start, start + count) + 0.5) * ratio
    index = np.floor(centers).astype(np.int64)
    return np.minimum(index, limit - 1), index < limit


NAMESPACE = "napari-plimseg/mask"
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_CHARACTERS_LIMIT = 4_000_000


def mask_ome_xml(info: MaskInfo) -> str:
    """Return the OME-XML of a mask: size, pixel size, class names by id, and `info` itself.

    Built from `info` alone, so that nothing of the slide's own description can get in, such as a
    patient's name.
    """
    height, width = info.shape
    root = ET.Element(
        "OME",
        {
            "xmlns": _OME,
            "xmlns:xsi": _XSI,
            "xsi:schemaLocation": f"{_OME} {_OME}/ome.xsd",
            "Creator": SOFTWARE,
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
    names |= {
        i: tissue_class.name
        for i, tissue_class in enumerate(info.classes, 1)
        if not tissue_class.ignored
    }
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
    not_ours = ExportError(
        "it is not a label TIFF of this program: it lacks classes and position on the slide",
        path=path,
        remedy="Choose a file that 'plimseg export' or the dock wrote.",
    )
    if len(xml) > _CHARACTERS_LIMIT or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise not_ours
    try:
        root = ET.fromstring(xml)  # noqa: S314 - entities are refused above
        for annotation in root.iter(f"{{{_OME}}}MapAnnotation"):
            if annotation.get("Namespace") == f"{NAMESPACE}/info":
                content = annotation.findtext(f"{{{_OME}}}Value/{{{_OME}}}M")
                known = parse_json(content or "", ExportError, path=path, surrogates=True)
                return MaskInfo.from_dict(known, path=path)
    except (ET.ParseError, ValueError, RecursionError, ExportError) as error:
        raise not_ours from error
    raise not_ours


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


TILE = 512
_CLASSIC_LIMIT = (4 << 30) - (64 << 20)
_IN_MEMORY = 1 << 30
_SMALLEST_SHARE = 1000  # even a mask of one id compresses to no less than a thousandth


def export_label_tiff(
    path: str | Path, mask: MaskArray, info: MaskInfo, *, at: Literal["mask", "slide"] = "mask"
) -> Path:
    """Write a mask as a label TIFF.

    Parameters
    ----------
    path : str or Path
        Should end in `.ome.tif`.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo
        The only source of the file's metadata.
    at : {"mask", "slide"}
        Resolution of the finest level: the mask's own, or the slide's level 0 by nearest
        neighbor, written tile by tile, so that any size fits into memory.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        When the mask does not fit its description or the file can't be written.
    """
    from tifffile import TiffWriter

    path = Path(path)
    if at == "slide":
        written = replace(info, shape=info.slide_shape, downsample=1.0)
    elif at == "mask":
        written = info
    else:
        raise ExportError(f"the resolution '{at}' is neither mask nor slide", path=path)
    shapes = _level_shapes(written.shape)
    total = sum(height * width for height, width in shapes)
    pyramid = LabelPyramid(without_ignored(mask, info), info.downsample)
    description = mask_ome_xml(written).encode("utf-8", "replace")
    with export_to(path, mask, info, at_least=total // _SMALLEST_SHARE) as temporary:
        with TiffWriter(temporary, bigtiff=total > _CLASSIC_LIMIT, ome=False) as tiff:
            for number, shape in enumerate(shapes):
                downsample = written.downsample * 2**number
                tiff.write(
                    pyramid.iter_tiles(downsample, shape, TILE),
                    shape=shape,
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    compression="zlib",
                    photometric="minisblack",
                    software="napari-plimseg",
                    metadata=None,
                    description=None if number else description,
                    subfiletype=1 if number else 0,
                    subifds=None if number else len(shapes) - 1,
                    **_resolution(info.mpp, downsample),
                )
        _chain_levels(temporary)
    return path


def read_label_tiff(path: str | Path) -> tuple[MaskArray, MaskInfo]:
    """Read a label TIFF that `export_label_tiff` wrote.

    Returns
    -------
    mask : array of uint8, shape (y, x)
        In memory up to 1 GiB, a zarr array that reads the file beyond.
    info : MaskInfo

    Raises
    ------
    ExportError
        When the file is missing, damaged, or another program's.
    """
    from tifffile import TiffFile

    path = user_path(path)
    with access_errors(path, ExportError):
        missing = not path.is_file()
    if missing:
        raise ExportError("the file does not exist", path=path)
    try:
        with TiffFile(path) as tiff:
            page = tiff.pages[0]
            info = mask_info_of(page.description, path)
            if page.dtype != np.uint8 or page.shape != info.shape:
                raise ExportError(
                    f"it holds {page.dtype} {page.shape} pixels but its description says "
                    f"uint8 {info.shape}",
                    path=path,
                    remedy="Export the mask again.",
                )
            whole = page.size <= _IN_MEMORY
            limit = "picture-bytes" if whole else "segment-bytes"
            check_page(path, page, ExportError, limit=limit)
            if whole:
                return page.asarray(), info
        return _lazy(path), info
    except PlimsegError:
        raise
    except Exception as error:  # a TIFF decoder raises any exception; this is the boundary
        raise ExportError(
            f"it can't be read ({type(error).__name__}: {error})",
            path=path,
            remedy="Export the mask again.",
        ) from error


def _lazy(path: Path) -> MaskArray:
    import zarr
    from tifffile import TiffFile

    # the array keeps the file open as long as it is used
    store = TiffFile(path).series[0].aszarr(level=0)
    lazy: MaskArray = zarr.open_array(store, mode="r")
    return lazy


def _level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    shapes = [shape]
    while max(shapes[-1]) > TILE:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def _resolution(mpp: float | None, downsample: float) -> dict[str, Any]:
    if mpp is None:
        return {"resolution": (1, 1), "resolutionunit": "NONE"}
    per_cm = 1e4 / (mpp * downsample)
    return {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}


def _chain_levels(path: Path) -> None:
    """Point the first directory's "next" at the first SubIFD; the SubIFDs are chained already."""
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        first, levels = tiff.pages[0], tiff.pages[0].pages
        if not levels:
            return
        offset, following, is_big = first.offset, levels[0].offset, tiff.is_bigtiff
        order = tiff.byteorder
    count_format, entry_size, pointer = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    with path.open("r+b") as file:
        file.seek(offset)
        (entries,) = struct.unpack(order + count_format, file.read(struct.calcsize(count_format)))
        file.seek(entries * entry_size, 1)
        file.write(struct.pack(order + pointer, following))
