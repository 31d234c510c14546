"""OME-Zarr 0.4 and 0.5 in a local folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import SlideError
from napari_plimseg.slides import color
from napari_plimseg.slides.metadata import from_length, pyramid_of, square
from napari_plimseg.slides.slide import Slide
from napari_plimseg.slides.validation import MAX_SEGMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


_REMEDY = "Write it again as OME-Zarr 0.4 or 0.5, for example with bioformats2raw."


class OmeZarrSlide(Slide):
    """The first multiscale image of an OME-Zarr folder.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        import zarr

        group = _image_group(path, zarr)
        version, multiscale, names = _metadata(path, group)
        axes = _axes(path, multiscale)
        arrays = [_array(path, group, dataset["path"], axes) for dataset in multiscale["datasets"]]
        first = arrays[0]
        channel = axes.index("c") if "c" in axes else None
        channels = 1 if channel is None else int(first.shape[channel])
        if channels > 4 or (channels == 3 and not color.channels_are_rgb(names or ("",) * 3)):
            raise color.not_brightfield(path, channels, names)
        if channels == 2:
            raise color.not_brightfield(path, channels, names)
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
            [(int(a.chunks[down]), int(a.chunks[across])) for a in arrays],
        )
        self._arrays = [arrays[i] for i in indices]
        mpp, not_square = _mpp(multiscale, axes)
        notes = [not_square] if not_square else []
        stacked = [
            f"{n} {a}" for a, n in zip(axes, first.shape, strict=True) if a in "tz" and n > 1
        ]
        if stacked:
            notes.append(f"The first plane of {' and '.join(stacked)} is shown.")
        super().__init__(
            path,
            levels,
            mpp=mpp,
            format_name=f"OME-Zarr {version}",
            notes=(*self._table.notes, *notes),
        )

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        window: dict[str, Any] = {
            "y": slice(y, y + height), "x": slice(x, x + width), "c": slice(None),
        }  # fmt: skip
        pixels = np.asarray(self._arrays[level][tuple(window.get(a, 0) for a in self._axes)])
        order = [a for a in self._axes if a in "yxc"]
        if "c" not in order:
            pixels, order = pixels[..., None], [*order, "c"]
        ordered = pixels.transpose([order.index(a) for a in "yxc"])
        return np.ascontiguousarray(self._table.to_rgb(ordered))

    def _close(self) -> None:
        self._arrays = []


def _image_group(path: Path, zarr: Any) -> Any:
    """Return the group that holds `multiscales`: the folder, or its first image."""
    group = zarr.open_group(str(path), mode="r")
    attributes = _ome(group)
    if "multiscales" in attributes:
        return group
    if "plate" in attributes or "well" in attributes:
        raise SlideError(
            "it is a plate of many wells", path=path, remedy="Open one image folder inside it."
        )
    if "bioformats2raw.layout" in attributes and "0" in group:
        inner = group["0"]
        if "multiscales" in _ome(inner):
            return inner
    raise SlideError("it has no multiscale image", path=path, remedy=_REMEDY)


def _ome(group: Any) -> Mapping[str, Any]:
    """Return the attributes of version 0.5, which are under `ome`, or of 0.4."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome")
    return ome if isinstance(ome, dict) else attributes


def _metadata(path: Path, group: Any) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    attributes = _ome(group)
    multiscales = attributes.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales or not multiscales[0].get("datasets"):
        raise SlideError("its list of levels is empty", path=path, remedy=_REMEDY)
    version = str(attributes.get("version") or multiscales[0].get("version") or "0.4")
    channels = (attributes.get("omero") or {}).get("channels") or []
    names = tuple(str(c.get("label", "")) for c in channels if isinstance(c, dict))
    return version, multiscales[0], names


def _axes(path: Path, multiscale: Mapping[str, Any]) -> str:
    """Return the axes as letters, such as "tczyx"."""
    axes = multiscale.get("axes") or [
        "t",
        "c",
        "z",
        "y",
        "x",
    ]  # versions 0.1 and 0.2 prescribed these
    letters = "".join(str(a["name"] if isinstance(a, dict) else a)[:1].lower() for a in axes)
    if "y" not in letters or "x" not in letters or set(letters) - set("tczyx"):
        raise SlideError(f"its axes {letters!r} are not known", path=path, remedy=_REMEDY)
    return letters


def _array(path: Path, group: Any, name: str, axes: str) -> Any:
    if ".." in name or name.startswith(("/", "\\")):
        raise SlideError(f"its level '{name}' is outside the folder", path=path, remedy=_REMEDY)
    try:
        array = group[name]
    except KeyError as error:
        raise SlideError(
            f"its level '{name}' is missing", path=path, remedy="Copy the whole folder again."
        ) from error
    if not hasattr(array, "chunks") or len(array.shape) != len(axes):
        raise SlideError(f"its level '{name}' does not fit its axes", path=path, remedy=_REMEDY)
    chunk_bytes = int(np.prod(array.chunks, dtype=object)) * array.dtype.itemsize
    if chunk_bytes > MAX_SEGMENT_BYTES or min(array.shape) < 1:
        raise SlideError(
            f"level '{name}' is stored in chunks of {chunk_bytes / 1e6:,.0f} MB; "
            f"the limit is {MAX_SEGMENT_BYTES / 1e6:,.0f} MB",
            path=path,
            remedy="Write it again with smaller chunks.",
        )
    return array


def _mpp(multiscale: Mapping[str, Any], axes: str) -> tuple[float | None, str | None]:
    def scale_of(owner: Mapping[str, Any]) -> Sequence[float]:
        for transform in owner.get("coordinateTransformations") or []:
            if transform.get("type") == "scale" and len(transform.get("scale", ())) == len(axes):
                scale: Sequence[float] = transform["scale"]
                return scale
        return [1.0] * len(axes)

    units = {
        str(a.get("name", ""))[:1].lower(): a.get("unit", "")
        for a in multiscale.get("axes") or []
        if isinstance(a, dict)
    }
    inner, outer = scale_of(multiscale["datasets"][0]), scale_of(multiscale)
    sizes = {
        axis: from_length(float(inner[i]) * float(outer[i]), units.get(axis, ""))
        for i, axis in enumerate(axes)
    }
    return square(sizes["y"], sizes["x"])
