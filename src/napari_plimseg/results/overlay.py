"""A picture for people: the slide with its classes in colour, a legend and a scale bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import ExportError
from napari_plimseg.results.label_pyramid import LabelPyramid
from napari_plimseg.results.label_tiff import check_mask
from napari_plimseg.results.measure import area_table
from napari_plimseg.results.overlay_sheet import OverlaySheet
from napari_plimseg.results.safe_output import export_to
from napari_plimseg.tissue import UNREADABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import MaskArray
    from napari_plimseg.slides.slide import Slide

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_ROWS_AT_ONCE = 256
_UNREADABLE_COLOR = (128, 128, 128)


def export_overlay(
    path: str | Path,
    mask: MaskArray,
    info: MaskInfo,
    slide: Slide,
    *,
    max_side: int = 2048,
    opacity: float = 0.45,
) -> Path:
    """Write a picture of the slide with the classes blended over it.

    Parameters
    ----------
    path : str or Path
        Should end in `.png`.
    mask : array of uint8, shape (y, x)
        Mask ids.
    info : MaskInfo
    slide : Slide
        The slide that the mask belongs to.
    max_side : int
        Longest side of the slide in the picture, in pixels.
    opacity : float
        Of the colours, 0 to 1.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        When the mask belongs to another slide or the file can't be written.
    SlideError
        When the slide can't be read.
    """
    path = Path(path)
    check_mask(mask, info, path)
    if slide.shape != info.slide_shape:
        raise ExportError(
            f"the mask belongs to a slide of {info.slide_shape[1]} x {info.slide_shape[0]} pixels, "
            f"this one has {slide.shape[1]} x {slide.shape[0]}",
            path=path,
        )
    picture = overlay_picture(mask, info, slide, max_side=max_side, opacity=opacity)
    with export_to(path) as temporary:
        picture.save(temporary, format="PNG")
    return path


def overlay_picture(
    mask: MaskArray, info: MaskInfo, slide: Slide, *, max_side: int = 2048, opacity: float = 0.45
) -> Image:
    """Return the picture that `export_overlay` writes."""
    from PIL import Image

    downsample = max(1.0, max(slide.shape) / max_side)
    shape = (
        max(1, int(slide.shape[0] / downsample)),
        max(1, int(slide.shape[1] / downsample)),
    )
    rgb = slide.read_at(downsample, 0, 0, *shape)
    ids = _ids_at(mask, info, downsample, shape)
    blended = Image.fromarray(_blended(rgb, ids, info, opacity))
    return OverlaySheet(blended, info, area_table(mask, info), downsample).drawn()


def _ids_at(
    mask: MaskArray, info: MaskInfo, downsample: float, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    # one tile as large as the picture
    side = max(shape)
    (tile,) = LabelPyramid(mask, info.downsample).iter_tiles(downsample, shape, side)
    return tile[: shape[0], : shape[1]]


def _blended(
    rgb: NDArray[np.uint8], ids: NDArray[np.uint8], info: MaskInfo, opacity: float
) -> NDArray[np.uint8]:
    colors = np.zeros((256, 3), np.float32)
    weights = np.zeros(256, np.float32)
    for mask_id in info.classes.tissue_ids:
        colors[mask_id] = info.classes[mask_id - 1].color
        weights[mask_id] = opacity
    colors[UNREADABLE], weights[UNREADABLE] = _UNREADABLE_COLOR, 0.8
    edge = np.zeros(ids.shape, np.bool_)  # keeps neighbours apart where colours are alike
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge &= weights[ids] > 0
    blended = np.empty_like(rgb)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        weight = weights[ids[rows]][..., None]  # (h, w, 1)
        color = colors[ids[rows]]
        pixels = rgb[rows].astype(np.float32)
        # under a class the stain fades to grey, so that the colours are those of the legend
        grey = (pixels @ _LUMINANCE)[..., None]  # (h, w, 1)
        below = np.where(weight > 0, 0.3 * pixels + 0.7 * grey, pixels)
        mixed = below * (1 - weight) + color * weight
        line = edge[rows]
        mixed[line] = mixed[line] * 0.4 + color[line] * 0.45
        blended[rows] = np.clip(np.rint(mixed), 0, 255)
    return blended
