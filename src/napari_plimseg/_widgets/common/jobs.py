"""Work that several docks run in a thread: areas, exports, models. Without Qt and napari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.inference.engine import Progress
    from napari_plimseg.models.segmentation.base import DenseModel
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.tiling import Window
    from napari_plimseg.tissue import Color, TissueClasses


EVERYTHING = "all"


@dataclass(frozen=True)
class AreaRow:
    """One line of the table of areas, as text for people."""

    name: str
    color: Color
    area: str
    percent: str


def measure_areas(mask: NDArray[np.uint8], info: MaskInfo, step: int) -> tuple[list[AreaRow], str]:
    """Return the areas of the tissue classes that occur, largest first, and their unit.

    `mask` is what the layer shows, every `step`-th pixel of the mask of `info`.
    """
    import dataclasses

    from napari_plimseg.results.measure import area_table

    shown = dataclasses.replace(
        info, downsample=info.downsample * step, shape=(mask.shape[0], mask.shape[1])
    )
    rows = [
        AreaRow(
            name=area.name,
            color=info.classes[area.mask_id - 1].color,
            area=f"{area.pixels * step * step:,}" if area.mm2 is None else f"{area.mm2:.3f}",
            percent="" if area.percent_of_tissue is None else f"{area.percent_of_tissue:.1f}",
        )
        for area in sorted(area_table(mask, shown), key=lambda area: -area.pixels)
        if area.kind == "tissue" and area.pixels
    ]
    return rows, "px" if info.mpp is None else "mm²"


def export_name(slide: Slide, key: str) -> str:
    """Return the file name that an export of a slide gets unless the user types another."""
    from napari_plimseg.results.export.formats import FORMATS

    return f"{Path(slide.name).stem}{FORMATS[key].suffix}"


def export_files(
    key: str,
    target: Path,
    slide: Slide,
    mask: NDArray[np.uint8],
    info: MaskInfo,
) -> list[Path]:
    """Export a mask and return the paths written.

    Parameters
    ----------
    key : str
        A key of `FORMATS`, or "all".
    target : Path
        The file, or the folder when everything is exported.
    slide : Slide
        For its name and, in the overlay picture, its pixels.
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    info : MaskInfo
        What the mask is a mask of.

    Raises
    ------
    ExportError
        When a file can't be written.
    """
    from napari_plimseg.results.export.formats import FORMATS, export_all

    if key == EVERYTHING:
        return export_all(target, Path(slide.name).stem, mask, info, slide)
    return [FORMATS[key].write(target, mask, info, slide, "mask")]


@dataclass(frozen=True)
class Stage:
    """What is going on before there are tiles, for people."""

    text: str


@dataclass(frozen=True, eq=False)
class TileDone:
    """Progress, and what the finished tile holds.

    Parameters
    ----------
    progress : Progress
        As the engine tells it.
    window : Window or None
        Mask pixels of the tile.
    mask : ndarray of uint8, shape (h, w), or None
        Mask ids.
    confidence : ndarray of uint8, shape (h, w), or None
        Probability of the chosen class, 255 = 1.
    probabilities : ndarray of uint8, shape (C, h, w), or None
        Probability of every class, where the store keeps them.
    """

    progress: Progress
    window: Window | None = None
    mask: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.uint8] | None = None


class ModelCache:
    """Loads models and keeps the last one, so that a second run starts at once."""

    def __init__(self) -> None:
        self._key: tuple[str | Path, TissueClasses | None] | None = None
        self._model: DenseModel | None = None

    def model(self, name: str | Path, classes: TissueClasses | None) -> DenseModel:
        """Return the model of that name for those classes; the first time this is slow."""
        if self._model is None or self._key != (name, classes):
            from napari_plimseg.models.loading import load_model

            self._model = load_model(name, classes)
            self._key = (name, classes)
        return self._model
