"""QuPath GeoJSON: outlines of the classes in full-resolution pixels of the slide."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

from napari_plimseg.errors import ExportError
from napari_plimseg.results.export.writing import RESEARCH_USE, export_to
from napari_plimseg.results.mask_info import SLIDE_KEY, SOFTWARE, MaskInfo
from napari_plimseg.tissue import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from shapely import Polygon

    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.tissue import Color


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of one connected region of one class.

    Parameters
    ----------
    mask_id : int
    rings : tuple of ndarray of int64, shape (N, 2)
        Corners (x, y) in mask pixels, first and last equal; the outer ring, then the holes. The
        pixel in column `j` spans `[j, j + 1]` in x.
    """

    mask_id: int
    rings: tuple[NDArray[np.int64], ...]

    @property
    def pixels(self) -> int:
        """Area in mask pixels: exactly the pixels of the region."""
        outer, *holes = (_twice_area(ring) for ring in self.rings)
        return (outer - sum(holes)) // 2

    def polygon(self) -> Polygon:
        """Return the outline as a shapely polygon in mask pixels."""
        from shapely import Polygon

        return Polygon(self.rings[0], self.rings[1:])


def iter_outlines(mask: MaskArray, mask_ids: Iterable[int]) -> Iterator[Outline]:
    """Yield the outlines of all 4-connected regions of the given ids.

    Regions that touch only at a corner count as two, so every outline is a valid polygon; filling
    the outlines restores the mask exactly.

    Parameters
    ----------
    mask : array of uint8, shape (y, x)
        Held in memory: one byte per pixel, and one more while it is traced.
    mask_ids : iterable of int
        Ids to trace; others are ignored.

    Raises
    ------
    ExportError
        When the mask is not 2-D uint8.
    """
    from rasterio.features import shapes

    pixels = np.asarray(mask[:])
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ExportError(f"a mask of {pixels.dtype} {pixels.shape} can't be traced")
    wanted = np.zeros(256, np.bool_)
    wanted[list(mask_ids)] = True
    traced = wanted[pixels]
    if not traced.any():
        return
    for geometry, value in shapes(pixels, mask=traced, connectivity=4):
        rings = tuple(np.asarray(ring, np.int64) for ring in geometry["coordinates"])
        yield Outline(int(value), rings)


def _twice_area(ring: NDArray[np.int64]) -> int:
    x, y = ring.T
    return abs(int(x[:-1] @ y[1:] - x[1:] @ y[:-1]))


_ID_SPACE = uuid.UUID("3f3c2c0e-6d0b-5f0c-9e0f-7f6a2b1c4d5e")
_UNREADABLE_COLOR: Color = (128, 128, 128)

Feature = dict[str, Any]


def export_geojson(
    path: str | Path,
    mask: MaskArray,
    info: MaskInfo,
    *,
    group: Literal["region", "class"] = "region",
    with_background: bool = False,
    with_unreadable: bool = False,
) -> Path:
    """Write the outlines of a mask for QuPath.

    Coordinates are full-resolution pixels from the corner of the slide's bounds, as in QuPath. The
    outlines are lossless: their areas equal the pixel areas of the mask.

    Parameters
    ----------
    path : str or Path
        Should end in `.geojson`.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo
        The only source of the file's metadata.
    group : {"region", "class"}
        One annotation per connected region, or one per class.
    with_background, with_unreadable : bool
        Whether to outline these too. Pixels that were not computed never are.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        When the mask does not fit its description or the file can't be written.
    """
    path = Path(path)
    wanted = list(info.classes.tissue_ids)
    background = info.classes.background_id
    if with_background and background is not None and not info.classes[-1].ignored:
        wanted.append(background)
    if with_unreadable:
        wanted.append(UNREADABLE)
    annotations = _Annotations(info)
    in_groups = annotations.by_region if group == "region" else annotations.by_class
    with (
        export_to(path, mask, info) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        _write_collection(file, in_groups(iter_outlines(mask, wanted)), info)
    return path


def _write_collection(file: TextIO, features: Iterable[Feature], info: MaskInfo) -> None:
    about = {
        "program": SOFTWARE,
        "note": RESEARCH_USE,
        "slide": info.slide_name,
        SLIDE_KEY: info.slide_fingerprint,
        "um_per_pixel": info.mpp,
        "mask_downsample": info.downsample,
        "model": info.model_name,
        "model_identity": info.model_identity,
    }
    about |= info.notes
    encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)
    # one feature at a time: the text of a large mask's outlines may not fit into memory
    file.write(f'{{"type": "FeatureCollection", "about": {json.dumps(about)}, "features": [')
    for number, feature in enumerate(features):
        file.write(("\n" if number == 0 else ",\n") + encoder.encode(feature))
    file.write("\n]}\n")


class _Annotations:
    """The features of a mask's outlines; a speckled mask has a million of them."""

    def __init__(self, info: MaskInfo) -> None:
        self._info = info
        self._area_mm2 = info.pixel_area_mm2
        self._kinds: dict[int, tuple[str, dict[str, Any]]] = {}
        numbers = (info.downsample, info.bounds.x, info.bounds.y)
        self._are_whole = all(float(number).is_integer() for number in numbers)
        self._source = f"{info.slide_fingerprint}/{info.model_identity}/{info.downsample}"

    def by_region(self, outlines: Iterable[Outline]) -> Iterator[Feature]:
        """Yield one annotation for each region."""
        for outline in outlines:
            geometry = {"type": "Polygon", "coordinates": self._on_slide(outline)}
            x, y = outline.rings[0][0].tolist()
            yield self._feature(geometry, outline.mask_id, outline.pixels, f"{x},{y}")

    def by_class(self, outlines: Iterable[Outline]) -> Iterator[Feature]:
        """Yield one annotation for each class."""
        polygons: dict[int, list[list[Any]]] = {}
        pixels: dict[int, int] = {}
        for outline in outlines:
            polygons.setdefault(outline.mask_id, []).append(self._on_slide(outline))
            pixels[outline.mask_id] = pixels.get(outline.mask_id, 0) + outline.pixels
        for mask_id in sorted(polygons):
            geometry = {"type": "MultiPolygon", "coordinates": polygons[mask_id]}
            yield self._feature(geometry, mask_id, pixels[mask_id], "all")

    def _feature(self, geometry: dict[str, Any], mask_id: int, pixels: int, where: str) -> Feature:
        if mask_id not in self._kinds:
            self._kinds[mask_id] = self._kind(mask_id)
        name, classification = self._kinds[mask_id]
        measurements: dict[str, float] = {
            "Mask pixels": pixels,
            "Area px^2": pixels * self._info.downsample**2,
        }
        if self._area_mm2 is not None:
            measurements["Area um^2"] = pixels * self._area_mm2 * 1e6
        # the same mask gives the same ids, so that programs notice a second import
        return {
            "type": "Feature",
            "id": str(uuid.uuid5(_ID_SPACE, f"{self._source}/{mask_id}/{where}")),
            "geometry": geometry,
            "properties": {
                "objectType": "annotation",
                "name": name,
                "classification": classification,
                "isLocked": False,
                "measurements": measurements,
            },
        }

    def _kind(self, mask_id: int) -> tuple[str, dict[str, Any]]:
        tissue_class = self._info.classes.by_id(mask_id)
        name = "unreadable" if tissue_class is None else tissue_class.name
        color = _UNREADABLE_COLOR if tissue_class is None else tissue_class.color
        return name, {"name": name, "color": list(color)}

    def _on_slide(self, outline: Outline) -> list[list[list[float]]]:
        """Return the rings in level-0 pixels from the bounds' corner; whole numbers stay whole."""
        info, placed = self._info, list[list[list[float]]]()
        for ring in outline.rings:
            if self._are_whole:
                corner = (int(info.bounds.x), int(info.bounds.y))
                placed.append((ring * int(info.downsample) - corner).tolist())
                continue
            points = ring * info.downsample - (info.bounds.x, info.bounds.y)
            whole = points.astype(np.int64)
            placed.append((whole if np.array_equal(whole, points) else points).tolist())
        return placed
