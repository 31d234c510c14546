"""Manual outlines or masks, read as mask ids at any position and scale of a slide."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_plimseg.errors import TagError
from napari_plimseg.reading import open_regular, parse_json, read_packed_text
from plimseg_training.data.entries import NOT_ANNOTATED, ClassNames, is_background_name, mask_ids
from plimseg_training.data.truth import OTHERS, Choices, TruthKey, choice_key, shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses


_SHAPE_TOLERANCE = 0.01
_FARTHEST = 1 << 31
_SHOWN = 8
_HEAD = 64
_CLASS_KEYS = ("classification", "class", "label")
_EXPORT = "Export it from QuPath: File, Export objects as GeoJSON."
_OUTLINES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip", ".gz")


class Annotation(Protocol):
    """Mask ids of a slide by position.

    Attributes
    ----------
    notes : tuple of str
        What of the file is not used, and why, as sentences.
    """

    notes: tuple[str, ...]

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
    path: Path,
    slide: Slide,
    classes: TissueClasses,
    values: Mapping[int, int] | None = None,
    *,
    maps: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> Annotation:
    """Read a manual annotation of a slide.

    Parameters
    ----------
    path : Path
        QuPath GeoJSON (`.geojson`, `.json`, also with `.gz`, or alone in a `.zip`) with
        coordinates relative to the slide's bounds; a mask image of these bounds at any scale; or
        a label TIFF of this program.
    slide : Slide
        The slide it belongs to.
    classes : TissueClasses
        The outlines' classifications are names or prompts of these.
    values : mapping of int to int, optional
        From values of a mask image to mask ids; by default the values are mask ids.
    maps, ignored : sequence of str
        What the user decided about names, numbers and colors that no class has, as `Choices.of`
        takes it.

    Raises
    ------
    TagError
        When it can't be read, names an unknown class, or does not fit the slide.
    ConfigError
        When `maps` or `ignored` name no class.
    """
    choices = Choices.of(maps, ignored, classes)
    if path.name.lower().endswith(_OUTLINES):
        return Outlines(path, slide, classes, choices)
    with open_regular(path, TagError) as file:
        head = file.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"{", b"[")):  # whatever its name
        return Outlines(path, slide, classes, choices)
    if head.startswith(b"<"):
        raise TagError("it is XML of another program", path=path, remedy=_EXPORT)
    return MaskImage(path, slide, classes, values, choices)


class Outlines:
    """QuPath annotations; smaller ones are drawn over larger ones.

    Classes that end in `*` ("Ignore*") erase what is below them. A derived class such as
    "Tumor: Positive" counts as its base class unless it is a class itself.

    Parameters
    ----------
    path : Path
        The GeoJSON file.
    slide : Slide
        Coordinates are relative to its bounds.
    classes : TissueClasses
        For looking up the names of classifications.
    choices : Choices, optional
        What the user decided about other names.

    Raises
    ------
    TagError
        When the file is not GeoJSON, or has no classified area, or an unknown class.
    """

    def __init__(
        self, path: Path, slide: Slide, classes: TissueClasses, choices: Choices | None = None
    ) -> None:
        import shapely

        names = _Names(classes, choices or Choices())
        bounds = slide.bounds
        corner = np.array([bounds.x, bounds.y])
        frame = shapely.box(0, 0, bounds.width, bounds.height)
        areas: list[tuple[float, int, Any]] = []
        left_out = Counter[str]()
        for feature in _features(path):
            area = _area(feature, path)
            if area is None or area.is_empty:
                left_out["have no area (points or lines)"] += 1
                continue
            parts = _class_names(feature)
            if not parts:
                left_out["have no class"] += 1
                continue
            mask_id = names.mask_id(parts)
            if mask_id is None:
                continue
            if not area.intersects(frame):
                left_out["are outside of the slide"] += 1
                continue
            areas.append((float(area.area), mask_id, shapely.transform(area, corner.__add__)))
        names.raise_if_unknown(path)
        if not any(mask_id for _, mask_id, _ in areas):
            raise _nothing_left(path, left_out)
        self.notes = tuple(f"outlines that {why}: {n}, left out" for why, n in left_out.items())
        self.notes += names.notes()
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


class _Names:
    """Finds the classes of outlines; keeps count of names that are none, and of derived ones."""

    def __init__(self, classes: TissueClasses, choices: Choices) -> None:
        self._finder = ClassNames(classes)
        self._classes = classes
        self._choices = choices
        self._unknown = Counter[str]()
        self._as_base = Counter[tuple[str, str]]()
        self._ignored = Counter[str]()

    def mask_id(self, parts: tuple[str, ...]) -> int | None:
        """Return the mask id of a class and its subclasses; None when it is unknown."""
        whole = ": ".join(parts)
        for name in (whole, parts[0]):
            found = self._choices.get(choice_key(name))
            if found is None:
                found = self._of_class(name)
            if found is not None:
                break
        else:
            found = self._choices.get(OTHERS)
        if found is None:
            self._unknown[whole] += 1
        elif name != whole:
            self._as_base[whole, parts[0]] += 1
        elif found == 0 and not whole.endswith("*"):
            self._ignored[whole] += 1
        return found

    def _of_class(self, name: str) -> int | None:
        if name.endswith("*"):
            return 0
        index = self._finder.index(name)
        if index is not None:
            return index + 1
        # where background is no class, it is glass: neither tissue nor unknown
        return (self._classes.background_id or 0) if is_background_name(name) else None

    def raise_if_unknown(self, path: Path) -> None:
        """Raise an error that names every unknown class, with its number of outlines."""
        if not self._unknown:
            return
        most = self._unknown.most_common(_SHOWN)
        named = ", ".join(f"'{name}' ({count})" for name, count in most)
        more = len(self._unknown) - len(most)
        first = most[0][0]
        raise TagError(
            f"it has outlines of {named}{f' and {more} more names' if more else ''}, which "
            f"{'is not a class' if len(self._unknown) == 1 else 'are not classes'}",
            path=path,
            remedy=f"{self._finder.remedy(first)} Or decide with --map '{first}=CLASS' or "
            f"--ignore '{first}'.",
        )

    def notes(self) -> tuple[str, ...]:
        """Return which derived classes counted as their base, and which names were ignored."""
        found = [f"outlines of '{a}': {n}, count as '{b}'" for (a, b), n in self._as_base.items()]
        found += [f"outlines of '{a}': {n}, ignored" for a, n in self._ignored.items()]
        return tuple(found)


def _nothing_left(path: Path, left_out: Counter[str]) -> TagError:
    why = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
    problem = "none of its outlines has a class"
    remedy = "Set the class of each annotation in QuPath and export again."
    if "are outside of the slide" in left_out:
        problem = "none of its outlines on the slide has a class"
        remedy = "Check that it is the annotation of this slide, in pixels of its full resolution."
    return TagError(f"{problem} ({why})" if why else problem, path=path, remedy=remedy)


def _features(path: Path) -> list[dict[str, Any]]:
    """Return the features of GeoJSON: a collection, a list, or one feature, nested or not."""
    text = read_packed_text(path, TagError, endings=(".geojson", ".json"), limit="annotation-bytes")
    data = parse_json(text, TagError, path=path, kind=object, remedy=_EXPORT)
    found: list[dict[str, Any]] = []
    waiting = [data]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += reversed(one)
        elif not isinstance(one, dict):
            raise TagError("it is JSON without a list of features", path=path, remedy=_EXPORT)
        elif one.get("type") == "FeatureCollection" or "features" in one:
            waiting.append(one.get("features") or [])
        elif "geometry" in one or one.get("type") == "Feature":
            found.append(one)
        elif "coordinates" in one or "geometries" in one:  # a geometry alone
            found.append({"geometry": one})
        else:
            raise TagError("it is JSON without outlines", path=path, remedy=_EXPORT)
    return found


def _class_names(feature: dict[str, Any]) -> tuple[str, ...]:
    """Return the class of a feature and its subclasses, in every form that QuPath has written.

    0.2 and 0.3 write `classification.name` ("Tumor: Positive" for a derived class), later ones
    also `classification.names`; other programs write the name alone.
    """
    properties = feature.get("properties")
    if not isinstance(properties, dict):
        return ()
    given = next((properties[key] for key in _CLASS_KEYS if properties.get(key)), None)
    if isinstance(given, dict):
        given = next((given[key] for key in ("names", "name") if given.get(key)), None)
    if isinstance(given, list):
        parts = [part.strip() for part in given if isinstance(part, str)]
    else:
        parts = [part.strip() for part in given.split(": ")] if isinstance(given, str) else []
    return tuple(part for part in parts if part)


def _area(feature: dict[str, Any], path: Path) -> Any:
    """Return a valid shape with an area; None for points and lines."""
    import shapely
    from shapely.geometry import shape

    if feature.get("geometry") is None:  # GeoJSON allows features without a place
        return None
    try:
        area = shape(feature["geometry"])
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


class MaskImage:
    """A mask image of a slide's bounds, at any scale, or a label TIFF of the whole slide.

    Parameters
    ----------
    path : Path
        Its values are mask ids, or its colors are those of the classes. 0 and 255 mean not
        annotated. A label TIFF of this program has class names.
    slide : Slide
        The mask covers its bounds.
    classes : TissueClasses
        Known ids and colors.
    values : mapping of int to int, optional
        From values to mask ids, if the values are not mask ids.
    choices : Choices, optional
        What the user decided about other values, colors and names.

    Raises
    ------
    TagError
        When it can't be read, has another shape than the slide, or unknown values or colors.
    """

    def __init__(
        self,
        path: Path,
        slide: Slide,
        classes: TissueClasses,
        values: Mapping[int, int] | None = None,
        choices: Choices | None = None,
    ) -> None:
        if path.resolve() == slide.path.resolve():
            raise TagError("it is the slide itself", path=path, remedy="Choose its annotation.")
        known = (
            mask_ids(classes) if values is None else dict.fromkeys(NOT_ANNOTATED, 0) | dict(values)
        )
        key = TruthKey(classes, known, choices or Choices())
        truth = key.read(path)
        bounds, info = slide.bounds, truth.info
        if truth.unknown:
            raise TagError(truth.problem(), path=path, remedy=key.remedy(truth))
        if info is not None and info.slide_shape != slide.shape:
            raise TagError(
                f"the mask belongs to a slide of {info.slide_shape[1]} x {info.slide_shape[0]} px, "
                f"not to one of {slide.shape[1]} x {slide.shape[0]} px",
                path=path,
                remedy="Choose the mask of this slide.",
            )
        self._pixels = truth.ids
        height, width = self._pixels.shape
        self._scales = (bounds.height / height, bounds.width / width)
        self._corner = (bounds.y, bounds.x)
        if info is not None:
            self._scales, self._corner = (info.downsample,) * 2, (0.0, 0.0)
        elif not math.isclose(*self._scales, rel_tol=_SHAPE_TOLERANCE):
            raise TagError(
                f"the mask is {width} x {height} px, which is not the shape of "
                f"the slide ({bounds.width:.0f} x {bounds.height:.0f} px)",
                path=path,
                remedy="Export a mask of the whole slide.",
            )
        if not self._pixels.any():
            raise TagError(
                "it contains no class",
                path=path,
                remedy=f"Save mask ids ({key.known}) or the colors of the classes, or decide with "
                "--map, such as --map 255=CLASS.",
            )
        self.notes: tuple[str, ...] = ()
        if truth.blank:
            blank = shares(truth.blank, truth.ids.size)
            self.notes = (f"of the mask, {blank} count as not annotated. {key.known}",)

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
