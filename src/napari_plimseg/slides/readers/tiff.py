"""TIFF, BigTIFF, OME-TIFF, Aperio SVS and QPTIFF: tifffile's index, positional reads, imagecodecs.

Decoding the file's own tiles in the caller's threads is several times faster than reading through
OpenSlide, and any window of a level has exactly the pixels of the whole level.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import color, metadata
from napari_plimseg.slides.metadata import pyramid_of
from napari_plimseg.slides.ome_xml import OmeImage, ome_image, readable_ome
from napari_plimseg.slides.slide import WHITE, Slide, looks_stained
from napari_plimseg.slides.validation import encoded_shape, is_label_tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.slides.color import RgbChannels


_CACHE_BYTES = 64 << 20
_OME_ROOT = re.compile(r"<(?:\w+:)?OME\b")
_ORIENTATION = 274
_OME_BEGINS = 16_384  # before it are a declaration and a warning not to edit it
_JPEG = 7
_YCBCR_DECODED = {6, 7, 33005, 34712, 34892, 33007, 22610, 34934, 50002, 52546}
"""Compressions whose decoders return RGB for what the file stores as YCbCr."""


class PositionalFile:
    """A file that several threads read at once, each at its own position."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        # a slide whose layer was removed is closed when nothing refers to it any more
        self.close = weakref.finalize(self, os.close, self._descriptor)
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes at `offset`.

        Raises
        ------
        SlideError
            When the file ends earlier: it was cut after it was opened.
        """
        if hasattr(os, "pread"):
            content = os.pread(self._descriptor, count, offset)
        else:  # Windows
            with self._lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                content = os.read(self._descriptor, count)
        if len(content) != count:
            raise SlideError(
                f"it ends before byte {offset + count:,}",
                path=self._path,
                remedy="Is the drive still connected? Copy the file again from the scanner.",
            )
        return content


@dataclass(frozen=True)
class _Planes:
    """The pages of one level: one of interleaved or planar samples, or one per channel."""

    shape: tuple[int, int]
    tile_shape: tuple[int, int]
    offsets: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]
    tables: tuple[bytes | None, ...]
    decode: Callable[..., Any]
    decode_into: Callable[..., Any] | None
    """Decodes RGB of 8 bits to memory that is given; None when the codec or the colors can't."""
    samples_apart: int

    @property
    def columns(self) -> int:
        return -(-self.shape[1] // self.tile_shape[1])

    @property
    def tiles(self) -> int:
        return self.columns * -(-self.shape[0] // self.tile_shape[0])


class _Scratch(threading.local):
    """A tile's pixels, one for each thread, overwritten by the next tile."""

    def __init__(self) -> None:
        self._pixels = np.empty((0, 0, 3), np.uint8)

    def of(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        if self._pixels.shape[:2] != shape:
            self._pixels = np.empty((*shape, 3), np.uint8)
        return self._pixels


class TiffSlide(Slide):
    """A slide of the TIFF family, which `check_tiff` has passed.

    Parameters
    ----------
    path : Path
        A TIFF or BigTIFF file.
    """

    def __init__(self, path: Path) -> None:
        with _indexed(path) as (tif, xml, notes):
            series, more = _main_series(tif)
            described = _description(tif, xml, series.keyframe.shape[:2])
            separate = _rgb_channels(path, series, described)
            found = [_planes(path, level, described, separate) for level in series.levels]
            planes = [part[0] for part in found]
            table = found[0][1]
            notes += [*more, found[0][2] or ""]
            indices, levels = pyramid_of([p.shape for p in planes], [p.tile_shape for p in planes])
            mpp, not_square = _mpp(tif, series.keyframe, described)
            super().__init__(
                path,
                levels,
                mpp=mpp,
                format_name=_format_name(tif),
                notes=(
                    *table.notes,
                    *(separate.notes if separate else ()),
                    *filter(None, notes),
                ),
                not_square=not_square,
            )
        if is_label_tiff(path):
            self._file_says_brightfield = False
            self.notes += ("It is a mask of tissue classes: for viewing only.",)
        self._table = table
        self._planes = [planes[i] for i in indices]
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0
        self._cache_lock = threading.Lock()
        self._scratch = _Scratch()
        self._file = PositionalFile(path)
        if separate is not None and not separate.is_certain and not looks_stained(self):
            self.close()
            raise color.not_brightfield(path, 3, separate.names)

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        planes = self._planes[level]
        tall, wide = planes.tile_shape
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // tall, (y + height - 1) // tall + 1):
            top, bottom = max(row * tall, y), min((row + 1) * tall, y + height)
            for column in range(x // wide, (x + width - 1) // wide + 1):
                left, right = max(column * wide, x), min((column + 1) * wide, x + width)
                is_whole = (bottom - top, right - left) == planes.tile_shape
                tile = self._tile(level, row * planes.columns + column, keep=not is_whole)
                out[top - y : bottom - y, left - x : right - x] = tile[
                    top - row * tall : bottom - row * tall,
                    left - column * wide : right - column * wide,
                ]
        return out

    def _tile(self, level: int, index: int, *, keep: bool) -> NDArray[np.uint8]:
        """Return one tile as (h, w, 3) RGB, to be copied before this thread's next call.

        Windows share the tiles that their edges cut, which are kept. A tile within a window is
        decoded to the same memory as the one before: fresh memory takes half as long as decoding.
        """
        key = level, index
        with self._cache_lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        planes = self._planes[level]
        if not keep:
            return self._decoded(planes, index, self._scratch.of(planes.tile_shape))
        tile = self._decoded(planes, index)
        with self._cache_lock:
            if key not in self._cache:
                self._cache[key] = tile
                self._cached_bytes += tile.nbytes
            while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _decoded(
        self, planes: _Planes, index: int, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return one tile as (h, w, 3) RGB, in `out` where the codec can."""
        parts = []
        for page, (offsets, counts) in enumerate(zip(planes.offsets, planes.counts, strict=True)):
            for sample in range(planes.samples_apart):
                segment = index + sample * planes.tiles
                count = int(counts[segment])
                if count == 0 or offsets[segment] == 0:
                    # a sparse file has no tiles where nothing was scanned
                    return np.full((*planes.tile_shape, 3), WHITE, np.uint8)
                content = self._file.read(int(offsets[segment]), count)
                declared = self._check_declared(planes, content)
                if out is not None and planes.decode_into and declared == planes.tile_shape:
                    planes.decode_into(content, tables=planes.tables[page], out=out)
                    return out
                # (1, h, w, samples); strips at the end are shorter
                pixels = planes.decode(content, segment, jpegtables=planes.tables[page])[0]
                parts.append(pixels[0])
        return self._table.to_rgb(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2))

    def _check_declared(self, planes: _Planes, content: bytes) -> tuple[int, int] | None:
        """Return the size that a compressed tile declares, if it declares one."""
        declared = encoded_shape(content)
        tall, wide = planes.tile_shape
        if declared is not None and declared[0] * declared[1] > 4 * tall * wide + 65_536:
            raise SlideError(
                f"a tile of {tall} x {wide} pixels declares {declared[0]} x {declared[1]}",
                path=self.path,
                remedy="The file is damaged; copy it again from the scanner.",
            )
        return declared

    def _stored_tiles(self, level: int) -> NDArray[np.bool_] | None:
        planes = self._planes[level]
        stored = (planes.counts[0][: planes.tiles] > 0) & (planes.offsets[0][: planes.tiles] > 0)
        return None if stored.all() else stored.reshape(-1, planes.columns)

    def _close(self) -> None:
        self._file.close()
        self._cache.clear()


@contextlib.contextmanager
def _indexed(path: Path) -> Iterator[tuple[Any, str | None, list[str]]]:
    """Open a TIFF file for its index; yield it, its OME-XML and notes on that.

    tifffile reads nothing of OME-XML with a single wrong character, and fails on a document that
    does not fit the pixels. So it gets a repaired one, or is told that there is none.
    """
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as tif:
        text = tif.pages.first.description
        if not _OME_ROOT.search(text[:_OME_BEGINS]):
            yield tif, None, []
            return
        xml, note = readable_ome(path, text)
        if note is None and tif.is_ome and _has_series(tif):
            yield tif, xml, []
            return
    with tifffile.TiffFile(path, _multifile=False, omexml=xml, is_ome=xml is not None) as tif:
        if xml is None or _has_series(tif):
            yield tif, xml, [note] if note else []
            return
    with tifffile.TiffFile(path, _multifile=False, is_ome=False) as tif:
        yield tif, xml, [note or "Its OME-XML does not fit its images; only its sizes are used."]


def _has_series(tif: Any) -> bool:
    try:
        return bool(tif.series)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        return False


def _description(tif: Any, xml: str | None, shape: tuple[int, ...]) -> OmeImage | None:
    """Return what the file says about its channels and the size of its pixels."""
    if xml is not None:
        return ome_image(xml, shape)
    if not tif.is_imagej:
        return None
    about = tif.imagej_metadata or {}
    size_x, size_y = (
        metadata.from_imagej(about, pixels) for pixels in tif.pages.first.get_resolution()
    )
    tables = about.get("LUTs") or ()
    return OmeImage(
        mpp_y=size_y,
        mpp_x=size_x,
        channel_names=tuple(str(label)[:100] for label in about.get("Labels") or ()),
        significant_bits=None,
        channel_colors=tuple((int(t[0, -1]), int(t[1, -1]), int(t[2, -1])) for t in tables),
    )


def _rgb_channels(path: Path, series: Any, described: OmeImage | None) -> RgbChannels | None:
    """Return how separate channels are RGB; None when the samples are together.

    Raises
    ------
    SlideError
        When there are other channels than those of a color camera.
    """
    sides = dict(zip(series.axes, series.shape, strict=True))
    count = sides.get("C", 1)
    if count == 1 or series.axes.find("C") > series.axes.find("Y"):
        return None
    if described is None:
        raise color.not_brightfield(path, count, _qpi_names(series))
    names = (*described.channel_names, *("",) * count)[:count]
    found = color.rgb_channels(names, described.channel_colors)
    if count != 3 or found is None:
        raise color.not_brightfield(path, count, names)
    return found


def _main_series(tif: Any) -> tuple[Any, list[str]]:
    """Return the series of the tissue, not of labels and thumbnails, and notes."""
    candidates = list(tif.series)
    if tif.is_svs or tif.is_qpi or len(candidates) == 1:
        return candidates[0], []

    def area(series: Any) -> int:
        sides = dict(zip(series.axes, series.shape, strict=True))
        return int(sides.get("Y", 0)) * int(sides.get("X", 0))

    return (
        max(candidates, key=area),
        [f"The file holds {len(candidates)} images; the largest is shown."],
    )


def _planes(
    path: Path, level: Any, described: OmeImage | None, separate: RgbChannels | None
) -> tuple[_Planes, color.ColorTable, str | None]:
    page = level.keyframe
    axes, sides = level.axes, dict(zip(level.axes, level.shape, strict=True))
    if "Y" not in sides or "X" not in sides or getattr(page, "imagedepth", 1) != 1:
        raise color.refuse(path, f"its axes {axes} are not those of a flat image")
    stacked = [a for a in axes[: axes.index("Y")] if a != "S" and sides[a] > 1]
    note = None
    if stacked and "C" not in stacked:
        note = f"The first of {' x '.join(str(sides[a]) for a in stacked)} planes is shown."
    if page.photometric == 6 and page.compression not in _YCBCR_DECODED:
        raise color.refuse(path, "its colors are YCbCr without JPEG compression")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    if described and described.significant_bits and 8 < described.significant_bits < bits:
        bits = described.significant_bits
    apart = 1 if separate is None else 3
    table = color.for_tiff(
        path,
        photometric=2 if apart == 3 else int(page.photometric),
        samples=3 if apart == 3 else int(page.samplesperpixel),
        bits=bits,
        dtype=np.dtype(page.dtype) if page.dtype is not None else np.dtype("V1"),
        extra=tuple(int(e) for e in page.extrasamples),
        colormap=page.colormap,
    )
    if note is None and _ORIENTATION in page.tags and page.tags[_ORIENTATION].value in range(2, 9):
        note = "Its TIFF says that it is turned; it is shown as stored, as in other slide viewers."
    pages = [level.pages[i] for i in _channel_pages(axes, level.shape)]
    if separate is not None:
        pages = [pages[i] for i in separate.order]
    if any(p is None for p in pages):
        raise color.refuse(path, "some of its images are missing", "Copy the file again.")
    tile_shape = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    )
    planes = _Planes(
        shape=(int(page.imagelength), int(page.imagewidth)),
        tile_shape=(int(tile_shape[0]), int(tile_shape[1])),
        offsets=tuple(np.array(p.dataoffsets, np.int64) for p in pages),
        counts=tuple(np.array(p.databytecounts, np.int64) for p in pages),
        tables=tuple(p.jpegtables for p in pages),
        decode=page.decode,
        decode_into=_jpeg_decoder(page) if apart == 1 and table.model == "rgb" else None,
        samples_apart=int(page.samplesperpixel) if page.planarconfig == 2 else 1,
    )
    return planes, table, note


def _jpeg_decoder(page: Any) -> Callable[..., Any] | None:
    """Return a decoder of JPEG tiles of 8-bit RGB, as tifffile has it, that accepts `out`."""
    from imagecodecs import jpeg8_decode
    from tifffile.tifffile import jpeg_decode_colorspace

    if page.compression != _JPEG or page.bitspersample != 8 or page.samplesperpixel != 3:
        return None
    if page.planarconfig != 1:
        return None
    stored, wanted = jpeg_decode_colorspace(
        page.photometric, page.planarconfig, page.extrasamples, page.is_jfif
    )
    return partial(jpeg8_decode, colorspace=stored, outcolorspace=wanted)


def _channel_pages(axes: str, shape: tuple[int, ...]) -> list[int]:
    """Return the indices of the pages of each channel, of the first plane of all else."""
    leading = [(a, n) for a, n in zip(axes, shape, strict=True) if a not in "YXS"]
    channels = dict(leading).get("C", 1)
    step = 1
    for axis, count in reversed(leading):
        if axis == "C":
            break
        step *= count
    return [c * step for c in range(channels)]


def _qpi_names(level: Any) -> tuple[str, ...]:
    names = []
    for page in level.pages[:16]:
        found = re.search(r"<Name>([^<]{1,40})</Name>", getattr(page, "description", "") or "")
        names.append(found[1] if found else "")
    return tuple(names)


def _mpp(tif: Any, page: Any, described: OmeImage | None) -> tuple[float | None, str | None]:
    """Return the pixel size from where it is told best, else from the next place."""
    if described is not None and (described.mpp_y or described.mpp_x):
        return metadata.square(described.mpp_y, described.mpp_x)
    aperio = metadata.from_aperio(page.description) if tif.is_svs else None
    if aperio is not None:
        return aperio, None
    pixels_x, pixels_y = page.get_resolution()
    unit = int(page.resolutionunit)
    return metadata.square(
        metadata.from_resolution(pixels_y, unit), metadata.from_resolution(pixels_x, unit)
    )


def _format_name(tif: Any) -> str:
    for flag, name in (("svs", "Aperio SVS"), ("ome", "OME-TIFF"), ("qpi", "PerkinElmer QPTIFF")):
        if getattr(tif, f"is_{flag}"):
            return name
    return "BigTIFF" if tif.is_bigtiff else "TIFF"
