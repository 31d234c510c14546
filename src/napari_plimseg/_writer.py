"""Writers for napari's save dialog: a labels layer in every export format that needs no slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import ExportError
from napari_plimseg.results import MaskInfo
from napari_plimseg.slides import Region, usable_mpp
from napari_plimseg.tissue import MAX_CLASSES, TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

INFO_KEY = "plimseg_mask_info"
"""Key of a layer's metadata that holds the `MaskInfo` of its mask."""
_UM = {"nanometer": 1e-3, "micrometer": 1.0, "micron": 1.0, "millimeter": 1e3, "centimeter": 1e4}
_ANISOTROPY = 0.01


def __getattr__(name: str) -> Callable[[str, Any, dict[str, Any]], list[str]]:
    """Return `write_<format>`, the napari writer of a row of the table of exports.

    The manifest names one for each format that needs no slide, with "_" for "-".
    """
    from napari_plimseg.results import FORMATS

    kind = FORMATS.get(name.removeprefix("write_").replace("_", "-"))
    if kind is None or kind.needs_slide or not name.startswith("write_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    write = kind.write

    def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
        mask, info = mask_of_layer(data, meta)
        return [str(write(Path(path), mask, info, None, "mask"))]

    return write_layer


def mask_of_layer(data: Any, meta: Mapping[str, Any]) -> tuple[NDArray[np.uint8], MaskInfo]:
    """Return the mask of a labels layer, and its description.

    A layer of this plugin has its `MaskInfo` in its metadata. In any other labels layer, labels
    become classes named "label 1", "label 2", ..., in the layer's colors; its scale gives the pixel
    size where its units are lengths, and counts full-resolution pixels where they are pixels.

    Parameters
    ----------
    data : array, shape (y, x)
        The layer's data; of a multiscale layer, the finest level is used.
    meta : mapping
        The layer's attributes, as napari passes them to writers.

    Raises
    ------
    ExportError
        When the layer can't be a mask: not 2-D, rotated, or with more than 200 labels.
    """
    name = str(meta.get("name", "labels"))
    pixels = np.asarray(data[0] if meta.get("multiscale") else data)
    info = meta.get("metadata", {}).get(INFO_KEY)
    if isinstance(info, MaskInfo):
        if pixels.shape != info.shape:
            raise ExportError(
                f"the layer '{name}' shows {pixels.shape} of the {info.shape} pixels of its mask",
                remedy="Export it from the PLIMSeg dock, which has all of them.",
            )
        return pixels.astype(np.uint8, copy=False), info
    if pixels.ndim != 2:
        raise ExportError(
            f"the layer '{name}' has {pixels.ndim} dimensions and a mask has two",
            remedy="Save one plane of it.",
        )
    highest = int(pixels.max(initial=0))
    if int(pixels.min(initial=0)) < 0 or not 1 <= highest <= MAX_CLASSES:
        raise ExportError(
            f"the layer '{name}' has labels up to {highest}; classes are numbered 1 to "
            f"{MAX_CLASSES}",
            remedy="Give each class one number.",
        )
    mask = pixels.astype(np.uint8)
    return mask, _info_of_layer(name, mask.shape, _label_classes(meta, highest), meta)


def _label_classes(meta: Mapping[str, Any], highest: int) -> TissueClasses:
    colormap = meta.get("colormap")
    classes = []
    for label in range(1, highest + 1):
        red, green, blue = (230, 85, 13)
        if colormap is not None:
            red, green, blue = (round(255 * float(v)) for v in colormap.map(label)[:3])
        classes.append(TissueClass(f"label {label}", (red, green, blue)))
    return TissueClasses(tuple(classes), has_background=False)


def _info_of_layer(
    name: str, shape: tuple[int, int], classes: TissueClasses, meta: Mapping[str, Any]
) -> MaskInfo:
    scale = np.asarray(meta.get("scale", (1.0, 1.0)), np.float64)
    translate = np.asarray(meta.get("translate", (0.0, 0.0)), np.float64)
    affine = np.asarray(meta.get("affine", np.eye(3)), np.float64)
    rotate = np.asarray(meta.get("rotate", np.eye(2)), np.float64)
    turned = not (np.allclose(affine, np.eye(3)) and np.allclose(rotate, np.eye(2)))
    if turned or np.any(np.asarray(meta.get("shear", 0.0)) != 0):
        raise ExportError(f"the layer '{name}' is rotated or sheared", remedy="Undo that first.")
    if scale.min() <= 0 or abs(scale[0] / scale[1] - 1) > _ANISOTROPY:
        raise ExportError(f"the pixels of the layer '{name}' are not square: scale {scale}")
    size = float(scale.mean())
    um = _UM.get(str((meta.get("units") or ("pixel",))[0]))
    if um is None:  # scaled like a coarser level of an image whose pixels are the unit
        mpp, downsample = None, size
        corner = translate - (size - 1) / 2
    else:  # the image below is not known: its own pixels are the full-resolution pixels
        mpp, downsample = usable_mpp(size * um), 1.0
        corner = translate / size
    slide_shape = tuple(int(np.ceil(n * downsample)) for n in shape)
    return MaskInfo(
        slide_name=name,
        slide_fingerprint="",
        slide_shape=(slide_shape[0], slide_shape[1]),
        # outlines are counted from the bounds, so a layer set off by `corner` lands there
        bounds=Region(-float(corner[0]), -float(corner[1]), *slide_shape),
        mpp=mpp,
        shape=shape,
        downsample=downsample,
        classes=classes,
    )
