"""Manual outlines or masks, read as mask ids at any position and scale of a slide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_plimseg.errors import TagError
from napari_plimseg.reading import read_json
from plimseg_training.data.entries import ClassNames, is_background_name
from plimseg_training.data.images import read_mask
from plimseg_training.data.tagged_folder import bands_of, truth_ids_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses


_SHAPE_TOLERANCE = 0.01
_FARTHEST = 1 << 31


class Annotation(Protocol):
    """Mask ids of a slide by position."""

    def ids(self, y: int, x: int, height: int, width: int, downsample: float) -> NDArray[np.uint8]:
        """Return the mask ids of a window, placed as in `Slide.read_at`; 0 where nothing is drawn.

        Parameters
        ----------
        y, x, height, width : int
            The window in pixels of a virtual level with this downsample.
        downsample : float
            Level-0 pixels per pixel of the window.

        Returns
        -------
        ndarray of uint8, shape (height, width)
        """
        ...


def read_annotation(
    path: Path, slide: Slide, classes: TissueClasses, values: Mapping[int, int] | None = None
) -> Annotation:
    """Read a manual annotation of a slide.

    Parameters
    ----------
    path : Path
        QuPath GeoJSON (`.geojson`, `.json`) with coordinates relative to the slide's bounds, or a
        mask image of these bounds at any scale.
    slide : Slide
        The slide it belongs to.
    classes : TissueClasses
        The outlines' classifications are names or prompts of these.
    values : mapping of int to int, optional
        From values of a mask image to mask ids; by default the values are mask ids.

    Raises
    ------
    TagError
        When it can't be read, names an unknown class, or does not fit the slide.
    """
    if path.suffix.lower() in (".geojson", ".json"):
        return Outlines(path, slide, classes)
    return MaskImage(path, slide, classes, values)


class Outlines:
    """QuPath annotations; smaller ones are drawn over larger ones.

    Classes that end in `*` ("Ignore*") erase what is below them.

    Parameters
    ----------
    path : Path
        The GeoJSON file.
    slide : Slide
        Coordinates are relative to its bounds.
    classes : TissueClasses
        For looking up the names of classifications.

    Raises
    ------
    TagError
        When the file is not GeoJSON, or has no classified area, or an unknown class.
    """

    def __init__(self, path: Path, slide: Slide, classes: TissueClasses) -> None:
        import shapely

        finder = ClassNames(classes)
        corner = np.array([slide.bounds.x, slide.bounds.y])
        areas: list[tuple[float, int, Any]] = []
        for feature in _features(path):
            name = _class_name(feature)
            if name is None:
                continue
            area = _area(feature, path)
            if area is not None and not area.is_empty:
                mask_id = _mask_id(name, finder, classes, path)
                moved = shapely.transform(area, corner.__add__)
                areas.append((float(area.area), mask_id, moved))
        if not any(mask_id for _, mask_id, _ in areas):
            raise TagError(
                "none of its outlines has a class",
                path=path,
                remedy="Set the class of each annotation in QuPath and export again.",
            )
        areas.sort(key=lambda entry: -entry[0])
        self._areas = [area for _, _, area in areas]
        self._ids = [mask_id for _, mask_id, _ in areas]
        self._tree = shapely.STRtree(self._areas)

    def ids(self, y: int, x: int, height: int, width: int, downsample: float) -> NDArray[np.uint8]:
        """Return the mask ids of a window: a pixel has the class at its center."""
        import shapely
        from rasterio.features import rasterize
        from rasterio.transform import Affine

        top, left = y * downsample, x * downsample
        box = shapely.box(left, top, left + width * downsample, top + height * downsample)
        found = sorted(self._tree.query(box, predicate="intersects").tolist())
        ids = np.zeros((height, width), np.uint8)
        if found:
            rasterize(
                [(self._areas[i], self._ids[i]) for i in found],
                out=ids,
                transform=Affine(downsample, 0, left, 0, downsample, top),
            )
        return ids


def _features(path: Path) -> list[dict[str, Any]]:
    data = read_json(
        path,
        TagError,
        kind=object,
        limit="annotation-bytes",
        remedy="Export it from QuPath: File, Export objects as GeoJSON.",
    )
    if isinstance(data, dict):
        data = data.get("features", [data])
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise TagError(
            "it is JSON without a list of features",
            path=path,
            remedy="Export it from QuPath: File, Export objects as GeoJSON.",
        )
    return data


def _class_name(feature: dict[str, Any]) -> str | None:
    properties = feature.get("properties")
    given = properties.get("classification") if isinstance(properties, dict) else None
    name = given.get("name") if isinstance(given, dict) else given
    return name if isinstance(name, str) and name.strip() else None


def _area(feature: dict[str, Any], path: Path) -> Any:
    """Return a valid shape with an area; None for points and lines."""
    import shapely
    from shapely.geometry import shape

    try:
        area = shape(feature.get("geometry") or {})
        if not (np.abs(shapely.get_coordinates(area)) < _FARTHEST).all():
            raise ValueError("a coordinate can't be on a slide")
        if not area.is_valid:
            area = shapely.make_valid(area)
    except Exception as error:  # shapely raises exceptions of any type for invalid geometries
        raise TagError(
            "one of its outlines is not a valid geometry",
            path=path,
            remedy="Delete it in QuPath, or export the annotations again.",
        ) from error
    # repairing an outline may leave lines besides the areas
    parts = shapely.get_parts(shapely.get_parts(area))
    polygons = [part for part in parts if part.geom_type == "Polygon"]
    return shapely.union_all(polygons) if polygons else None


def _mask_id(name: str, finder: ClassNames, classes: TissueClasses, path: Path) -> int:
    if name.endswith("*"):
        return 0
    index = finder.index(name)
    if index is not None:
        return index + 1
    if is_background_name(name):
        return classes.background_id or 0
    raise TagError(
        f"it has outlines of '{name}', which is not a class", path=path, remedy=finder.remedy(name)
    )


class MaskImage:
    """A mask image of a slide's bounds, at any scale.

    Parameters
    ----------
    path : Path
        Its values are mask ids, or its colors are those of the classes. 0 and 255 mean not
        annotated.
    slide : Slide
        The mask covers its bounds.
    classes : TissueClasses
        Known ids and colors.
    values : mapping of int to int, optional
        From values to mask ids, if the values are not mask ids.

    Raises
    ------
    TagError
        When it can't be read, has another shape than the slide, or unknown values.
    """

    def __init__(
        self,
        path: Path,
        slide: Slide,
        classes: TissueClasses,
        values: Mapping[int, int] | None = None,
    ) -> None:
        if path.resolve() == slide.path.resolve():
            raise TagError("it is the slide itself", path=path, remedy="Choose its annotation.")
        pixels = read_mask(path)
        known = {i: i for i in range(1, len(classes) + 1)} if values is None else dict(values)
        if pixels.ndim == 2:
            # np.unique sorts a copy, and a mask may have two billion pixels
            counts = sum(np.bincount(band.ravel(), minlength=256) for band in bands_of(pixels))
            unknown = set(np.flatnonzero(counts).tolist()) - set(known) - {0, 255}
            if unknown:
                raise TagError(
                    f"it has the value {min(unknown)}, which is not a class",
                    path=path,
                    remedy=f"Known values: {', '.join(map(str, sorted(known)))}.",
                )
        bounds = slide.bounds
        self._scales = (bounds.height / pixels.shape[0], bounds.width / pixels.shape[1])
        if not math.isclose(*self._scales, rel_tol=_SHAPE_TOLERANCE):
            raise TagError(
                f"the mask is {pixels.shape[1]} x {pixels.shape[0]} px, which is not the shape of "
                f"the slide ({bounds.width:.0f} x {bounds.height:.0f} px)",
                path=path,
                remedy="Export a mask of the whole slide.",
            )
        self._pixels = truth_ids_of(pixels, known, classes)
        if not self._pixels.any():
            raise TagError(
                "it contains no class",
                path=path,
                remedy="Save class numbers from 1 on, or the colors of the classes.",
            )
        self._corner = (bounds.y, bounds.x)

    def ids(self, y: int, x: int, height: int, width: int, downsample: float) -> NDArray[np.uint8]:
        """Return the mask ids of a window: those of the mask pixel at each pixel's center."""
        ids = np.zeros((height, width), np.uint8)
        places, inside = [], []
        for axis, (start, count) in enumerate(((y, height), (x, width))):
            centers = (np.arange(start, start + count) + 0.5) * downsample - self._corner[axis]
            place = np.floor(centers / self._scales[axis]).astype(np.int64)
            there = (place >= 0) & (place < self._pixels.shape[axis])
            places.append(place[there])
            inside.append(there)
        ids[np.ix_(*inside)] = self._pixels[np.ix_(*places)]
        return ids
