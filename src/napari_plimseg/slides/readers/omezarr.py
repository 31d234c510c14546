"""OME-Zarr 0.4 and 0.5 in a local folder."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from napari_plimseg.errors import SlideError
from napari_plimseg.reading import kind_of, open_regular
from napari_plimseg.slides import color
from napari_plimseg.slides.metadata import from_length, pyramid_of, square
from napari_plimseg.slides.slide import Slide, looks_stained
from napari_plimseg.slides.validation import ZarrArray, check_zarr_array, read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


_MOST_LEVELS = 64
_REMEDY = "Write it again as OME-Zarr 0.4 or 0.5, for example with bioformats2raw."


class OmeZarrSlide(Slide):
    """The first multiscale image of an OME-Zarr folder.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        folder, attributes = _image_group(path)
        version, multiscale, names, colors = _metadata(path, attributes)
        axes = _axes(path, multiscale)
        stored, arrays = [], []
        for dataset in multiscale["datasets"]:
            array, layout = _array(path, folder, dataset, axes)
            arrays.append(array)
            stored.append(layout)
        first = arrays[0]
        channel = axes.index("c") if "c" in axes else None
        channels = 1 if channel is None else int(first.shape[channel])
        separate = None
        if channels > 1:
            names = (*names, *("",) * channels)[:channels]
            separate = color.rgb_channels(names, colors)
            if separate is None or channels not in (3, 4):
                raise color.not_brightfield(path, channels, names)
        for array in arrays[1:]:
            if channel is not None and array.shape[channel] != channels:
                raise SlideError(
                    f"its levels have {channels} and {array.shape[channel]:,} channels",
                    path=path,
                    remedy=_REMEDY,
                )
        self._table = color.for_tiff(
            path,
            photometric=2 if channels >= 3 else 1,
            samples=channels,
            bits=8 * first.dtype.itemsize,
            dtype=np.dtype(first.dtype),
            extra=(2,) if channels == 4 else (),
        )
        self._axes = axes
        down, across = axes.index("y"), axes.index("x")
        indices, levels = pyramid_of(
            [(int(a.shape[down]), int(a.shape[across])) for a in arrays],
            [(s.chunks[down], s.chunks[across]) for s in stored],
        )
        self._arrays = [arrays[i] for i in indices]
        self._stored = [stored[i] for i in indices]
        mpp, not_square = _mpp(multiscale, axes)
        notes: list[str] = []
        stacked = [
            f"{n} {a}" for a, n in zip(axes, first.shape, strict=True) if a in "tz" and n > 1
        ]
        if stacked:
            notes.append(f"The first plane of {' and '.join(stacked)} is shown.")
        self._order: list[int] = []
        if separate is not None:
            notes += separate.notes
            self._order = [*separate.order, *range(3, channels)]
        super().__init__(
            path,
            levels,
            mpp=mpp,
            format_name=f"OME-Zarr {version}",
            notes=(*self._table.notes, *notes),
            not_square=not_square,
        )
        if separate is not None and not separate.is_certain and not looks_stained(self):
            raise color.not_brightfield(path, channels, names)

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        out = np.empty((height, width, 3), np.uint8)
        for rows, columns in self._parts(level, y, x, height, width):
            out[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = (
                self._read_part(level, rows, columns)
            )
        return out

    def _parts(
        self, level: int, y: int, x: int, height: int, width: int
    ) -> Iterator[tuple[slice, slice]]:
        """Yield windows that decode a bounded number of bytes: zarr decodes chunks at once."""
        stored, shape = self._stored[level], self._arrays[level].shape
        tall, wide = (stored.chunks[self._axes.index(a)] for a in "yx")
        deep = 1
        if "c" in self._axes:
            channel = self._axes.index("c")
            deep = -(-int(shape[channel]) // stored.chunks[channel])
        most = max(1, stored.chunks_at_once // deep)
        across = wide * min(most, -(-width // wide) + 1)
        down = tall * max(1, most // (across // wide))
        for top in range(y // tall * tall, y + height, down):
            for left in range(x // wide * wide, x + width, across):
                yield (
                    slice(max(top, y), min(top + down, y + height)),
                    slice(max(left, x), min(left + across, x + width)),
                )

    def _read_part(self, level: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        window: dict[str, Any] = {"y": rows, "x": columns, "c": slice(None)}
        pixels = np.asarray(self._arrays[level][tuple(window.get(a, 0) for a in self._axes)])
        order = [a for a in self._axes if a in "yxc"]
        if "c" not in order:
            pixels, order = pixels[..., None], [*order, "c"]
        ordered = pixels.transpose([order.index(a) for a in "yxc"])
        if self._order[:3] not in ([], [0, 1, 2]):
            ordered = ordered[..., self._order]
        return np.ascontiguousarray(self._table.to_rgb(ordered))

    def _close(self) -> None:
        self._arrays = []


class _CheckedStore(LocalStore):
    """The files of one array: regular ones only, and none that inflates beyond its declaration.

    Parameters
    ----------
    root : Path
        The folder of the array.
    slide : Path
        The slide, for messages.
    stored : ZarrArray
        How chunks are stored.
    """

    def __init__(
        self, root: Path, *, slide: Path, stored: ZarrArray, read_only: bool = True
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._slide, self._stored = slide, stored

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a copy; zarr asks for it."""
        return type(self)(self.root, slide=self._slide, stored=self._stored, read_only=read_only)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the content of a file, or None where there is none."""
        path = self.root / key
        if not path.exists():
            return None
        try:
            content = self._content(path, key, byte_range)
        except SlideError as error:
            if error.path == self._slide:
                raise
            raise SlideError(
                f"its file '{self.root.name}/{key}' can't be used: {error.problem}",
                path=self._slide,
                remedy="Copy the whole folder again.",
            ) from error
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    def _content(self, path: Path, key: str, byte_range: ByteRequest | None) -> bytes:
        is_metadata = path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
        with open_regular(path, SlideError) as file:
            size = file.seek(0, 2)
            start, stop = 0, size
            if isinstance(byte_range, RangeByteRequest):
                start, stop = byte_range.start, byte_range.end
            elif isinstance(byte_range, SuffixByteRequest):
                start = max(0, size - byte_range.suffix)
            elif byte_range is not None:
                start = byte_range.offset
            wanted = min(stop, size) - start
            most = self._stored.metadata_bytes if is_metadata else self._stored.file_bytes
            if wanted > most:
                raise SlideError(f"it has {wanted:,} bytes where at most {most:,} make sense")
            file.seek(start)
            content = file.read(max(0, wanted))
        if is_metadata or not content:
            return content
        name = f"{self.root.name}/{key}"
        if byte_range is None:
            self._stored.check_file(memoryview(content), self._slide, name)
        elif len(content) != self._stored.index_bytes:
            self._stored.check_chunk(memoryview(content), self._slide, name)
        return content

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the content of a file, or None where there is none."""
        return await asyncio.to_thread(
            self.get_sync, key, prototype=prototype, byte_range=byte_range
        )

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the content of parts of files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]


def _image_group(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder that holds `multiscales` (this one, or its first image), its attributes."""
    attributes = _ome(path, path)
    if "multiscales" in attributes:
        return path, attributes
    if "plate" in attributes or "well" in attributes:
        raise SlideError(
            "it is a plate of many wells", path=path, remedy="Open one image folder inside it."
        )
    if "bioformats2raw.layout" in attributes and (path / "0").is_dir():
        inner = _ome(path, path / "0")
        if "multiscales" in inner:
            return path / "0", inner
    raise SlideError("it has no multiscale image", path=path, remedy=_REMEDY)


def _ome(path: Path, folder: Path) -> Mapping[str, Any]:
    """Return the attributes of version 0.5, which are under `ome`, or of 0.4."""
    attributes = read_attributes(path, folder)
    ome = attributes.get("ome")
    return ome if isinstance(ome, dict) else attributes


def _metadata(
    path: Path, attributes: Mapping[str, Any]
) -> tuple[str, dict[str, Any], tuple[str, ...], tuple[tuple[int, int, int] | None, ...]]:
    """Return version, multiscale image, and the names and colors of its channels."""
    multiscales = attributes.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    datasets = first.get("datasets") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(datasets, list) or not datasets:
        raise SlideError("its list of levels is empty", path=path, remedy=_REMEDY)
    if len(datasets) > _MOST_LEVELS:
        raise SlideError(f"it lists {len(datasets):,} levels", path=path, remedy=_REMEDY)
    version = str(attributes.get("version") or first.get("version") or "0.4")[:20]
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    described = [c for c in (channels if isinstance(channels, list) else ()) if isinstance(c, dict)]
    names = tuple(str(c.get("label") or "")[:100] for c in described)
    return version, first, names, tuple(_hex_color(c.get("color")) for c in described)


def _hex_color(text: object) -> tuple[int, int, int] | None:
    digits = str(text).lstrip("#")[:6]
    if not re.fullmatch("[0-9a-fA-F]{6}", digits):
        return None
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _axes(path: Path, multiscale: Mapping[str, Any]) -> str:
    """Return the axes as letters, such as "tczyx"."""
    axes = multiscale.get("axes") or ["t", "c", "z", "y", "x"]  # as versions 0.1 and 0.2 prescribed
    if not isinstance(axes, list):
        raise SlideError(f"its axes are {kind_of(axes)}, not a list", path=path, remedy=_REMEDY)
    letters = "".join(
        str(a.get("name", "") if isinstance(a, dict) else a)[:1].lower() for a in axes
    )
    is_known = "y" in letters and "x" in letters and not set(letters) - set("tczyx")
    if not is_known or len(set(letters)) != len(letters) or len(letters) != len(axes):
        raise SlideError(f"its axes {letters[:20]!r} are not known", path=path, remedy=_REMEDY)
    return letters


def _array(path: Path, folder: Path, dataset: Any, axes: str) -> tuple[Any, ZarrArray]:
    import zarr

    name = dataset.get("path") if isinstance(dataset, dict) else None
    if not isinstance(name, str) or not name:
        raise SlideError("one of its levels has no path", path=path, remedy=_REMEDY)
    if ".." in name or name.startswith(("/", "\\")) or "\0" in name or ":" in name:
        raise SlideError(
            f"its level '{name[:80]}' is outside the folder", path=path, remedy=_REMEDY
        )
    stored = check_zarr_array(path, folder / name, name, axes)
    store = _CheckedStore(folder / name, slide=path, stored=stored)
    array = zarr.open_array(store, mode="r", zarr_format=stored.zarr_format)
    return array, stored


def _mpp(multiscale: Mapping[str, Any], axes: str) -> tuple[float | None, str | None]:
    def scale_of(owner: Mapping[str, Any]) -> Sequence[float] | None:
        transforms = owner.get("coordinateTransformations")
        for transform in transforms if isinstance(transforms, list) else ():
            scale = transform.get("scale") if isinstance(transform, dict) else None
            if isinstance(scale, list) and len(scale) == len(axes):
                return [s if isinstance(s, int | float) else math.nan for s in scale]
        return None

    units = {
        str(a.get("name", ""))[:1].lower(): a.get("unit", "")
        for a in multiscale.get("axes") or []
        if isinstance(a, dict)
    }
    inner, outer = scale_of(multiscale["datasets"][0]), scale_of(multiscale)
    if inner is None and outer is None:
        return None, None  # a unit alone is no size
    ones = [1.0] * len(axes)
    inner, outer = inner or ones, outer or ones
    sizes = {
        axis: from_length(float(inner[i]) * float(outer[i]), units.get(axis, ""))
        for i, axis in enumerate(axes)
    }
    return square(sizes["y"], sizes["x"])
