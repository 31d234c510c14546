"""npe2 reader: a slide becomes one multiscale RGB layer, an exported mask a labels layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_plimseg.slides import Slide

    LayerData = tuple[Any, dict[str, Any], str]
    Paths = str | Path | Sequence[str | Path]

SLIDE_KEY = "plimseg_slide"
"""Key of a layer's metadata that holds its open `Slide`."""
MASK_KEY = "plimseg_mask_info"
"""Key of a labels layer's metadata that holds its `MaskInfo`."""


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return a reader when every path looks like a slide, else None; never raises.

    Parameters
    ----------
    path : str, Path or sequence of them
        Several paths become one layer each.
    """
    try:
        from napari_plimseg.slides import find_reader

        paths = _paths(path)
        for each in paths:
            find_reader(each)
    except Exception:  # noqa: BLE001 - damaged chunks raise any exception of their codec
        return None
    return read_slides if paths else None


def read_slides(path: Paths) -> list[LayerData]:
    """Open slides as image layers, and label TIFFs of this package as labels layers.

    Raises
    ------
    PlimsegError
        When a file is refused; slides opened before are closed.
    """
    from napari_plimseg.slides import is_label_tiff, open_slide

    slides: list[Slide] = []
    layers: list[LayerData] = []
    try:
        for each in _paths(path):
            if is_label_tiff(each):
                layers.append(mask_layer(each))
            else:
                slides.append(open_slide(each))
                layers.append(slide_layer(slides[-1]))
        return layers
    except PlimsegError:
        for slide in slides:
            slide.close()
        raise


def slide_layer(slide: Slide) -> LayerData:
    """Return the layer of an open slide.

    Lengths are in micrometers, or in pixels when the slide's pixel size is unknown. The metadata
    hold the slide object and nothing from the file's own description, which may name a patient:
    napari shows and saves metadata.

    Parameters
    ----------
    slide : Slide
        Stays open as long as the layer.

    Returns
    -------
    tuple
        Levels (h, w, 3), keyword arguments of the layer, and "image".
    """
    from napari_plimseg.slides import display_levels

    size, unit = (1.0, "pixel") if slide.mpp is None else (slide.mpp, "um")
    return (
        display_levels(slide),
        {
            "name": slide.path.stem,
            "rgb": True,
            "multiscale": True,
            "contrast_limits": (0, 255),
            "interpolation2d": "linear",
            "scale": (size, size),
            "units": (unit, unit),
            "metadata": {SLIDE_KEY: slide},
        },
        "image",
    )


def mask_layer(path: Path) -> LayerData:
    """Return the labels layer of a label TIFF that this package exported.

    Raises
    ------
    ExportError
        When it is damaged.
    """
    from napari_plimseg.results import read_label_tiff

    mask, info = read_label_tiff(path)
    colors: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    for mask_id, tissue_class in enumerate(info.classes, start=1):
        # background is the slide itself: nothing is drawn over it
        shown = mask_id != info.classes.background_id
        red, green, blue = tissue_class.color
        colors[mask_id] = f"#{red:02x}{green:02x}{blue:02x}" if shown else "transparent"
    unit = "pixel" if info.mpp is None else "um"
    return (
        mask,
        {
            "name": re.sub(r"(\.ome)?\.tiff?$", "", path.name, flags=re.IGNORECASE),
            "scale": info.napari_scale,
            "translate": info.napari_translate,
            "units": (unit, unit),
            "opacity": 0.5,
            "colormap": colors,
            "metadata": {MASK_KEY: info},
        },
        "labels",
    )


def _paths(path: Paths) -> list[Path]:
    return [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]
