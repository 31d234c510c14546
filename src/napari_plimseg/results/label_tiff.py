"""The label TIFF: a pyramidal OME-TIFF of mask ids that other programs open, and its way back.

Its levels hang together twice: as SubIFDs of the first directory, where OME-TIFF has them, and in
the chain of directories, where OpenSlide and libvips look. Grey and zlib are what all of them
read with the ids unchanged: a palette turns ids into colours, and libvips reads zstd as zeros.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_plimseg.errors import ExportError, PlimsegError
from napari_plimseg.results.label_pyramid import LabelPyramid
from napari_plimseg.results.mask_ome_xml import mask_info_of, mask_ome_xml
from napari_plimseg.results.safe_output import export_to

if TYPE_CHECKING:
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray

TILE = 512
_CLASSIC_LIMIT = (4 << 30) - (64 << 20)
_IN_MEMORY = 1 << 30
_SMALLEST_SHARE = 1000  # even a mask of one id takes a thousandth of its size, and its tile tables


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
        All that the file says comes from here.
    at : {"mask", "slide"}
        Resolution of the finest level: the mask's own, or the slide's level 0, where ids are those
        of the mask pixel below; written tile by tile, whatever the size.

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
    check_mask(mask, info, path)
    if at == "slide":
        written = replace(info, shape=info.slide_shape, downsample=1.0)
    elif at == "mask":
        written = info
    else:
        raise ExportError(f"the resolution '{at}' is neither mask nor slide", path=path)
    shapes = _level_shapes(written.shape)
    total = sum(height * width for height, width in shapes)
    pyramid = LabelPyramid(mask, info.downsample)
    description = mask_ome_xml(written).encode("utf-8", "replace")
    with export_to(path, at_least=total // _SMALLEST_SHARE) as temporary:
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

    path = Path(path)
    if not path.is_file():
        raise ExportError("the file does not exist", path=path)
    try:
        with TiffFile(path) as tiff:
            page = tiff.pages[0]
            info = mask_info_of(page.description, path)
            if page.dtype != np.uint8 or page.shape != info.shape:
                raise ExportError(
                    f"it holds {page.dtype} {page.shape} pixels where its description says "
                    f"uint8 {info.shape}",
                    path=path,
                    remedy="Export the mask again.",
                )
            if page.size <= _IN_MEMORY:
                return page.asarray(), info
        return _lazy(path), info
    except PlimsegError:
        raise
    except Exception as error:  # a TIFF decoder raises anything; this is the boundary
        raise ExportError(
            f"it can't be read ({type(error).__name__}: {error})",
            path=path,
            remedy="Export the mask again.",
        ) from error


def check_mask(mask: MaskArray, info: MaskInfo, path: Path) -> None:
    """Refuse a mask that does not fit its description."""
    dtype = getattr(mask, "dtype", None)
    if tuple(mask.shape) != info.shape or dtype != np.uint8:
        raise ExportError(
            f"the mask has {dtype} {tuple(mask.shape)} pixels where its description says "
            f"uint8 {info.shape}",
            path=path,
        )


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
