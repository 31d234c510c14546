"""npe2 reader: a slide becomes one multiscale RGB layer on lazy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_plimseg.slides.slide import Slide

    LayerData = tuple[Any, dict[str, Any], str]
    Paths = str | Path | Sequence[str | Path]

FILENAME_PATTERNS = (
    "*.svs", "*.ndpi", "*.mrxs", "*.scn", "*.bif", "*.vms", "*.vmu", "*.svslide", "*.czi",
    "*.dcm", "*.tif", "*.tiff", "*.btf", "*.tf2", "*.tf8", "*.qptiff", "*.zarr",
    "*.png", "*.jpg", "*.jpeg", "*.webp", "*.bmp",
)  # fmt: skip
"""What the manifest lists; `get_reader` looks at the content."""
SLIDE_KEY = "plimseg_slide"
"""Key of a layer's metadata under which its open `Slide` stands."""


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return a reader when every path looks like a slide, else None; never raises.

    Parameters
    ----------
    path : str, Path or sequence of them
        Several paths become one layer each.
    """
    try:
        from napari_plimseg.slides.guard import identify

        paths = _paths(path)
        for each in paths:
            identify(each)
    except Exception:  # noqa: BLE001 - napari asks every plugin; a refusal is None
        return None
    return read_slides if paths else None


def read_slides(path: Paths) -> list[LayerData]:
    """Open slides as layers.

    Raises
    ------
    SlideError
        When a slide is refused; slides opened before are closed.
    """
    from napari_plimseg.slides import open_slide

    slides: list[Slide] = []
    try:
        for each in _paths(path):
            slides.append(open_slide(each))
        return [slide_layer(slide) for slide in slides]
    except SlideError:
        for slide in slides:
            slide.close()
        raise


def slide_layer(slide: Slide) -> LayerData:
    """Return the layer of an open slide.

    Lengths are in micrometres, or in pixels when the slide's pixel size is unknown. The metadata
    hold the slide itself and nothing of what its file says: napari shows and saves metadata.

    Parameters
    ----------
    slide : Slide
        Stays open as long as the layer.

    Returns
    -------
    tuple
        Levels (h, w, 3), keyword arguments of the layer, and "image".
    """
    from napari_plimseg.slides.display import display_levels

    size, unit = (1.0, "pixel") if slide.mpp is None else (slide.mpp, "um")
    return (
        display_levels(slide),
        {
            "name": slide.path.stem,
            "rgb": True,
            "multiscale": True,
            "contrast_limits": (0, 255),
            "scale": (size, size),
            "units": (unit, unit),
            "metadata": {SLIDE_KEY: slide},
        },
        "image",
    )


def _paths(path: Paths) -> list[Path]:
    return [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]
