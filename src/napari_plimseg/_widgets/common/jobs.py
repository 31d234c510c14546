"""Work that several docks run in a thread: areas, exports, models. Without Qt and napari."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.inference import Progress
    from napari_plimseg.models import DenseModel
    from napari_plimseg.results import MaskInfo
    from napari_plimseg.slides import Slide
    from napari_plimseg.tiling import Window
    from napari_plimseg.tissue import Color, TissueClasses


EVERYTHING = "all"


@dataclass(frozen=True)
class AreaRow:
    """One row of the table of areas, formatted for display."""

    name: str
    color: Color
    area: str
    percent: str


def measure_areas(mask: NDArray[np.uint8], info: MaskInfo, step: int) -> tuple[list[AreaRow], str]:
    """Return the areas of the tissue classes that occur, largest first, and their unit.

    `mask` holds every `step`-th pixel of the mask that `info` describes.
    """
    import dataclasses

    from napari_plimseg.results import area_table

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
    """Return the default file name for an export of a slide."""
    from napari_plimseg.results import FORMATS

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
        The file, or the folder for "all".
    slide : Slide
        For its name and, in the overlay image, its pixels.
    mask : ndarray of uint8, shape (h, w)
        Mask ids.
    info : MaskInfo
        Describes the mask.

    Raises
    ------
    ExportError
        When a file can't be written.
    """
    from napari_plimseg.results import FORMATS, export_all

    if key == EVERYTHING:
        return export_all(target, Path(slide.name).stem, mask, info, slide)
    return [FORMATS[key].write(target, mask, info, slide, "mask")]


@dataclass(frozen=True)
class NothingToDo:
    """A run found its whole result on the disk."""


@dataclass(frozen=True)
class Stage:
    """What a run is doing before its first tile, for display."""

    text: str


@dataclass(frozen=True, eq=False)
class TileDone:
    """Progress of a run, and the content of the finished tile.

    Parameters
    ----------
    progress : Progress
        As reported by the engine.
    window : Window or None
        Mask pixels of the tile.
    mask : ndarray of uint8, shape (h, w), or None
        Mask ids.
    confidence : ndarray of uint8, shape (h, w), or None
        Probability of the predicted class, 255 = 1.
    probabilities : ndarray of uint8, shape (C, h, w), or None
        Probability of every class, if the store keeps them.
    """

    progress: Progress
    window: Window | None = None
    mask: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.uint8] | None = None


class ModelCache:
    """Loads models and caches the last one, so that a second run starts immediately."""

    def __init__(self) -> None:
        self._key: tuple[str | Path, TissueClasses | None, int] | None = None
        self._version = 0
        self._model: DenseModel | None = None
        self._loading = threading.Lock()

    def forget(self) -> None:
        """Load the next model from its file, which may have changed."""
        self._version += 1

    def model(self, name: str | Path, classes: TissueClasses | None) -> DenseModel:
        """Return the named model for these classes; slow unless it is cached."""
        with self._loading:  # a run waits for what is loaded in advance
            key = (name, classes, self._version)
            if self._model is None or self._key != key:
                from napari_plimseg.models import load_model

                self._model = load_model(name, classes)
                self._key = key
            return self._model
