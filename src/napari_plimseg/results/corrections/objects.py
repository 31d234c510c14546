"""Corrected objects as images with outlines, from which `plimseg train wsi_sam` learns.

A corrected object is a connected region of one class of which a person painted a large part. Fields
around them are written as a tagged folder: `img`, `truth` (mask ids), `instances` (one value per
object) and `tags.csv`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_plimseg.errors import ExportError
from napari_plimseg.files import atomic_write
from napari_plimseg.tables import csv_text, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.results.corrections.corrections import Corrections
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.slides import Slide


FIELD = 1024
"""Side of a field in pixels: the LR patch of an object in its center."""
FIELD_MPP = 1.0
PAINTED_SHARE = 0.2
"""Painted part of a region from which it counts as the person's and not as the model's."""
SMALLEST = 64
TABLE = "tags.csv"
_EIGHT = np.ones((3, 3), bool)
_MOST = 254  # objects of a field: one byte each, 255 is read as white
_TAGGED_SHARE = 0.05


@dataclass(frozen=True)
class CorrectedObjects:
    """The files written.

    Parameters
    ----------
    table : Path
        The `tags.csv`.
    fields, objects : int
        Of this slide; an object of two fields counts twice.
    """

    table: Path
    fields: int
    objects: int


@dataclass(frozen=True, eq=False)
class _Field:
    """Mask ids (FIELD, FIELD), and objects in them (FIELD, FIELD): 0 for none; at (y, x)."""

    y: int
    x: int
    mask: NDArray[np.uint8]
    objects: NDArray[np.uint8]


def export_corrected_objects(
    folder: Path, slide: Slide, mask: NDArray[np.uint8], corrections: Corrections
) -> CorrectedObjects:
    """Write fields around corrected objects; fields of other slides in the folder stay.

    Parameters
    ----------
    folder : Path
        Created when missing.
    slide : Slide
    mask : ndarray of uint8, shape (H, W)
        Mask ids, the corrections included.
    corrections : Corrections
        Of this mask.

    Raises
    ------
    ExportError
        When nothing is corrected, the pixel size is unknown, or the folder holds other classes.
    """
    info = corrections.info
    if info.mpp is None or info.mask_mpp is None:
        raise ExportError(
            "its pixel size is unknown", path=slide.path, remedy="Give it with --mpp."
        )
    header = _header(info)
    rows = _rows_of_others(folder / TABLE, header, info)
    scale = FIELD_MPP / info.mask_mpp  # mask pixels per pixel of a field
    stem, fields, objects = _stem(info), 0, 0
    for field in _fields(mask, corrections, scale):
        name = f"{stem}-y{field.y}-x{field.x}.png"
        pixels = slide.read_at(FIELD_MPP / info.mpp, field.y, field.x, FIELD, FIELD)
        for kind, image in (
            ("img", pixels), ("truth", field.mask), ("instances", field.objects),
        ):  # fmt: skip
            with atomic_write(folder / kind / name) as path:
                Image.fromarray(image).save(path)
        tags = map(str, _tags(field, info))
        rows.append([f"img/{name}", f"truth/{name}", stem, f"{FIELD_MPP:g}", *tags])
        fields, objects = fields + 1, objects + int(field.objects.max())
    if not fields:
        raise ExportError(
            "no object in it is corrected",
            path=slide.path,
            remedy="Paint whole objects, or accept those that hints find.",
        )
    with atomic_write(folder / TABLE) as path:
        path.write_text(csv_text([header, *rows], end="\r\n"), "utf-8", newline="")
    return CorrectedObjects(folder / TABLE, fields, objects)


def _fields(mask: NDArray[np.uint8], corrections: Corrections, scale: float) -> Iterator[_Field]:
    """Yield fields until every corrected object is in the center of one."""
    middle = slice(FIELD // 4, FIELD - FIELD // 4)
    seen: list[tuple[int, int]] = []
    for rows, columns in corrections.windows():
        painted = corrections.read(rows, columns) > 0
        labels, _ = ndimage.label(painted, _EIGHT)
        for y, x in (((s.start + s.stop) / 2 for s in place) for place in _places(labels)):
            center_y, center_x = (round(c / scale) for c in (y + rows.start, x + columns.start))
            if any(max(abs(center_y - a), abs(center_x - b)) < FIELD / 4 for a, b in seen):
                continue
            corner = center_y - FIELD // 2, center_x - FIELD // 2
            field = _field(mask, corrections, scale, *corner)
            if field.objects[middle, middle].any():
                seen.append((center_y, center_x))
                yield field


def _places(labels: NDArray[np.int32]) -> list[tuple[slice, slice]]:
    return [place for place in ndimage.find_objects(labels) if place is not None]


def _field(
    mask: NDArray[np.uint8], corrections: Corrections, scale: float, y: int, x: int
) -> _Field:
    spans = []
    for start, side in zip((y, x), mask.shape, strict=True):
        places = np.floor((np.arange(FIELD) + start + 0.5) * scale).astype(np.intp)
        spans.append((places, (places >= 0) & (places < side)))
    (rows, in_rows), (columns, in_columns) = spans
    rows, columns = rows[in_rows], columns[in_columns]
    shown = np.zeros((FIELD, FIELD), np.uint8)
    painted = np.zeros((FIELD, FIELD), bool)
    inside = np.ix_(in_rows, in_columns)
    shown[inside] = mask[np.ix_(rows, columns)]
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    corrected = corrections.read(*window) > 0
    painted[inside] = corrected[np.ix_(rows - rows[0], columns - columns[0])]
    classes = len(corrections.info.classes)
    shown[shown > classes] = 0
    return _Field(y, x, shown, _objects(shown, painted))


def _objects(mask: NDArray[np.uint8], painted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return one value per object of which a person painted a large part."""
    found = np.zeros(mask.shape, np.uint8)
    number = 0
    for tissue in np.unique(mask[painted & (mask > 0)]):
        labels, count = ndimage.label(mask == tissue, _EIGHT)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        own = np.bincount(labels[painted], minlength=count + 1)
        for label in range(1, count + 1):
            is_object = areas[label] >= SMALLEST and own[label] >= PAINTED_SHARE * areas[label]
            if is_object and number < _MOST:
                number += 1
                found[labels == label] = number
    return found


def _tags(field: _Field, info: MaskInfo) -> list[int]:
    counts = np.bincount(field.mask.ravel(), minlength=256)
    painted = np.unique(field.mask[field.objects > 0])
    return [
        int(counts[i] >= _TAGGED_SHARE * field.mask.size or i in painted)
        for i in info.classes.tissue_ids
    ]


def _header(info: MaskInfo) -> list[str]:
    names = (info.classes[i - 1].name for i in info.classes.tissue_ids)
    return ["file", "truth", "group", "mpp", *names]


def _stem(info: MaskInfo) -> str:
    name = info.slide_name.rpartition(".")[0] or info.slide_name
    return f"{name[:80]}-{info.slide_fingerprint[:8]}"


def _rows_of_others(table: Path, header: list[str], info: MaskInfo) -> list[list[str]]:
    """Return the rows of other slides in an existing table."""
    if not table.is_file():
        return []
    try:
        rows = read_csv(table.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ExportError(
            "it is not UTF-8 text", path=table, remedy="Save it as UTF-8, or choose another folder."
        ) from error
    if not rows or rows[0] != header:
        raise ExportError(
            "it holds other classes or tags of another kind",
            path=table,
            remedy="Choose another folder.",
        )
    return [row for row in rows[1:] if row[2:3] != [_stem(info)]]
