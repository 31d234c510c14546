"""The plan of a run: settings, resolution, tissue, region."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_plimseg.errors import ConfigError, SlideError, StoreError, is_out_of_memory
from napari_plimseg.fingerprints import fingerprint, former_fingerprints, is_fingerprint_of
from napari_plimseg.results import SUFFIX, MaskInfo, MaskStore, has_corrections
from napari_plimseg.slides import WHITE, TissueMask, TissueMaskSettings
from napari_plimseg.slides.tissue_mask import tissue_mask
from napari_plimseg.tiling import TileGrid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.models import DenseModel
    from napari_plimseg.slides import Region, Slide
    from napari_plimseg.tiling import Window


PRECISIONS = ("auto", "float32", "bfloat16")
RESULT_VERSION = 1
"""To be raised when a change makes what old runs finished wrong, so that they are not resumed."""
_ADAPTATION_SIDE = 1024
_ADAPTATION_BLOCK = 128


@dataclass(frozen=True)
class RunSettings:
    """How to run. Only `tissue` and `precision` change the mask.

    Parameters
    ----------
    tile_size : int
        Side of a tile in working pixels; a multiple of the model's alignment.
    batch_size : int
        Tiles per batch; 0 chooses by device and tile size.
    readers : int
        Threads that prefetch and decode tiles.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    threads : int
        Torch's threads on a CPU; 0 keeps torch's default.
    precision : {"auto", "float32", "bfloat16"}
        Of the numbers inside the network on a CPU. "auto" takes bfloat16 if the CPU has
        instructions for it and at least 99.5 % of the slide's pixels keep their class. A mask
        that was begun continues as it was begun.
    probabilities : bool
        Whether to store the probability of every class.
    tissue : TissueMaskSettings or None
        How tissue is found; None runs everywhere.
    """

    tile_size: int = 1024
    batch_size: int = 0
    readers: int = 2
    device: str = "auto"
    threads: int = 0
    precision: str = "auto"
    probabilities: bool = True
    tissue: TissueMaskSettings | None = dataclasses.field(default_factory=TissueMaskSettings)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("tile_size", 32, 8192),
            ("batch_size", 0, 1024),
            ("readers", 1, 64),
            ("threads", 0, 1024),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"{name} is {value!r}; it must be from {low} to {high}")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"the precision '{self.precision}' is not known",
                remedy=f"Choose {', '.join(PRECISIONS)}.",
            )


@dataclass(frozen=True)
class Frame:
    """The resolution at which a model works on a slide.

    Parameters
    ----------
    downsample : float
        Level-0 pixels per working pixel.
    shape : tuple of int
        Working pixels (y, x).
    """

    downsample: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, slide: Slide, model: DenseModel) -> Frame:
        """Compute the frame; raises SlideError when the slide's pixel size is unknown."""
        return cls.at(slide, model.mpp)

    @classmethod
    def at(cls, slide: Slide, mpp: float) -> Frame:
        """Compute the frame of `mpp` micrometers per pixel."""
        downsample = slide.working_downsample(mpp)
        # a remainder of less than a thousandth of a pixel is rounding, not tissue
        rows, columns = (max(1, math.ceil(side / downsample - 1e-3)) for side in slide.shape)
        return cls(downsample, (rows, columns))

    def grid(self, model: DenseModel, tile_size: int) -> TileGrid:
        """Return the tiles."""
        return TileGrid(self.shape, tile_size, model.halo, model.mask_stride, model.alignment)


def check_slide(slide: Slide) -> None:
    """Raise SlideError when a slide can be shown but not segmented."""
    if not getattr(slide, "is_brightfield", True):
        raise SlideError(
            "it is not a brightfield image, and the models know only H&E",
            path=slide.path,
            remedy="It can be viewed only; choose an H&E slide.",
        )


def recipe(slide: Slide, model_identity: str, settings: RunSettings) -> str:
    """Return a hex digest of everything that determines the mask of a slide."""
    tissue = None if settings.tissue is None else dataclasses.asdict(settings.tissue)
    content = [RESULT_VERSION, model_identity, slide.mpp, slide.shape, tissue]
    if settings.precision != "auto":  # earlier versions had no other
        content.append(settings.precision)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def known_fingerprint(slide: Slide, folder: Path) -> str:
    """Return the fingerprint that identifies a slide in a folder of results.

    Where version 0.1 began results of it with a fingerprint of its kind, they are continued with
    it: masks of the same slide share their corrections by the fingerprint.
    """
    own = fingerprint(slide.path)
    if has_corrections(folder, own):
        return own
    former = former_fingerprints(slide.path)
    for digest in former:
        if has_corrections(folder, digest):
            return digest
    # most slides have no other fingerprint, and then no store needs to be opened
    stores = folder.glob(f"{glob.escape(slide.path.stem[:80])}*{SUFFIX}") if former else ()
    for path in stores:
        try:
            with MaskStore.open(path) as store:
                if store.info.slide_fingerprint in former:
                    return store.info.slide_fingerprint
        except StoreError:
            continue
    return own


def belongs_to(info: MaskInfo, slide: Slide) -> bool:
    """Whether a mask is of this slide, as this or an earlier version identified it."""
    return is_fingerprint_of(info.slide_fingerprint, slide.path)


def other_slide(path: Path, slide: Slide) -> str:
    """Return the name of the slide that a store is of, if that is another one; else ""."""
    try:
        with MaskStore.open(path) as store:
            return "" if belongs_to(store.info, slide) else store.info.slide_name
    except StoreError:
        return ""  # none, or damaged: opening it for writing says so


def mask_info(slide: Slide, model: DenseModel, frame: Frame, identity: str) -> MaskInfo:
    """Return the description of the mask of a slide by a model.

    Parameters
    ----------
    slide : Slide
    model : DenseModel
    frame : Frame
    identity : str
        The slide's fingerprint, from `known_fingerprint`.
    """
    grid = frame.grid(model, model.alignment)
    return MaskInfo(
        slide_name=slide.name,
        slide_fingerprint=identity,
        slide_shape=slide.shape,
        bounds=slide.bounds,
        mpp=slide.mpp,
        shape=grid.mask_shape,
        downsample=frame.downsample * model.mask_stride,
        classes=model.classes,
        model_name=model.name,
        model_identity=model.identity,
    )


def named_store(folder: Path, slide: Slide, model: DenseModel, settings: RunSettings) -> Path:
    """Return the path of a store whose name no other slide, model or setting shares."""
    content = known_fingerprint(slide, folder) + recipe(slide, model.identity, settings)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return folder / f"{slide.path.stem[:80]}-{digest}{SUFFIX}"


def _mirrored(
    start: int, length: int, side: int, reach: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which pixels of an axis lie under a span, and which of the span are within reach."""
    span = np.arange(start, start + length)
    turned = span % (2 * side)
    near = (span >= -reach) & (span < side + reach)
    mirrored = np.where(turned < side, turned, 2 * side - 1 - turned)
    return np.where(near, mirrored, span.clip(0, side - 1)), near


class TissueGate:
    """Which mask pixels are tissue; found for the whole slide, so that it is independent of tiles.

    Parameters
    ----------
    tissue : TissueMask or None
        None treats every pixel as tissue.
    downsample : float
        Level-0 pixels per mask pixel.
    """

    def __init__(self, tissue: TissueMask | None, downsample: float) -> None:
        self.tissue = tissue
        self.downsample = downsample

    @classmethod
    def of(cls, slide: Slide, settings: RunSettings, downsample: float) -> TissueGate:
        """Find the tissue as the settings say."""
        tissue = None if settings.tissue is None else tissue_mask(slide, settings.tissue)
        return cls(tissue, downsample)

    @property
    def has_fill(self) -> bool:
        """Whether parts of the slide are black because nothing was scanned there."""
        return self.tissue is not None and self.tissue.unscanned is not None

    def window(self, window: Window) -> NDArray[np.bool_]:
        """Return (height, width): which mask pixels are tissue."""
        if self.tissue is None:
            return np.ones((window.height, window.width), bool)
        return self.tissue.window(self.downsample, window.y, window.x, window.height, window.width)

    def read(
        self, slide: Slide, downsample: float, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        """Read a window as `Slide.read_at` does; what was not scanned is white, never black."""
        pixels = slide.read_at(downsample, y, x, height, width)
        return pixels if self.tissue is None else self.tissue.over_white(pixels, downsample, y, x)

    def read_around(
        self, slide: Slide, frame: Frame, window: Window, reach: int
    ) -> NDArray[np.uint8]:
        """Read a window of working pixels; the slide is mirrored beyond its border.

        A picture may end within tissue. White beyond its border would look like the edge of the
        tissue, and be a rim of background in the mask.

        Parameters
        ----------
        slide : Slide
        frame : Frame
        window : Window
            In working pixels.
        reach : int
            How far beyond the border the slide is mirrored, in working pixels; it is white further
            out.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
        """
        rows, near_rows = _mirrored(window.y, window.height, frame.shape[0], reach)
        columns, near_columns = _mirrored(window.x, window.width, frame.shape[1], reach)
        y, x = int(rows.min()), int(columns.min())
        height, width = int(rows.max()) + 1 - y, int(columns.max()) + 1 - x
        pixels = self.read(slide, frame.downsample, y, x, height, width)
        if (y, x, height, width) == (window.y, window.x, window.height, window.width):
            return pixels
        found = pixels[np.ix_(rows - y, columns - x)]
        found[~np.logical_and.outer(near_rows, near_columns)] = WHITE
        return found

    def pixels(self, slide: Slide) -> NDArray[np.uint8]:
        """Return (N, 3) colors of the slide's tissue, to adapt a model to its stain.

        Damaged parts of the slide are skipped.
        """
        downsample = max(1.0, max(slide.shape) / _ADAPTATION_SIDE)
        rows, columns = (max(1, int(side / downsample)) for side in slide.shape)
        colors = []
        for y in range(0, rows, _ADAPTATION_BLOCK):
            for x in range(0, columns, _ADAPTATION_BLOCK):
                height, width = (
                    min(_ADAPTATION_BLOCK, rows - y),
                    min(_ADAPTATION_BLOCK, columns - x),
                )
                try:
                    block = self.read(slide, downsample, y, x, height, width)
                except SlideError as error:
                    if is_out_of_memory(error):
                        raise  # to leave some out would change the mask
                    continue
                if self.tissue is None:
                    colors.append(block.reshape(-1, 3))
                else:
                    colors.append(block[self.tissue.window(downsample, y, x, height, width)])
        return np.concatenate(colors) if colors else np.empty((0, 3), np.uint8)


@dataclass(frozen=True)
class RunRegion:
    """A part of the slide.

    Parameters
    ----------
    outline : shapely geometry
        In level-0 pixels, x before y as in shapely; valid and not empty.
    clip : bool
        Whether the mask ends exactly at the outline. Otherwise whole tiles are written, which a
        later run on a larger part need not compute again.
    """

    outline: shapely.Geometry
    clip: bool

    def __post_init__(self) -> None:
        if self.outline.is_empty or not self.outline.area > 0:
            raise ConfigError(
                "the region to run on has no area", remedy="Draw a rectangle or a polygon."
            )
        shapely.prepare(self.outline)

    @classmethod
    def rectangle(cls, region: Region, *, clip: bool = False) -> RunRegion:
        """Return a rectangle; by default whole tiles are written."""
        corners = (region.x, region.y, region.x + region.width, region.y + region.height)
        return cls(shapely.box(*corners), clip)

    @classmethod
    def polygons(cls, vertices: Sequence[NDArray[np.floating]]) -> RunRegion:
        """Return the union of polygons, each (N, 2) of level-0 (y, x); the mask ends there.

        Raises
        ------
        ConfigError
            When no polygon has an area.
        """
        drawn = [
            shapely.make_valid(shapely.Polygon(np.asarray(points, float)[:, ::-1]))
            for points in vertices
            if len(points) >= 3
        ]
        return cls(shapely.union_all(drawn), True)

    @property
    def key(self) -> str:
        """Hex digest that identifies the region."""
        return hashlib.sha256(shapely.to_wkb(shapely.normalize(self.outline))).hexdigest()[:16]

    def touches(self, window: Window, downsample: float) -> bool:
        """Whether a window of pixels of `downsample` has any area in the region."""
        box = self._box(window, downsample)
        return bool(
            shapely.intersects(self.outline, box) and not shapely.touches(self.outline, box)
        )

    def covers(self, window: Window, downsample: float) -> bool:
        """Whether a whole window is in the region."""
        return bool(shapely.covers(self.outline, self._box(window, downsample)))

    def inside(self, window: Window, downsample: float) -> NDArray[np.bool_]:
        """Return (height, width): which pixels have their center in the region."""
        y = (np.arange(window.y, window.y + window.height) + 0.5) * downsample
        x = (np.arange(window.x, window.x + window.width) + 0.5) * downsample
        grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
        result: NDArray[np.bool_] = shapely.contains_xy(self.outline, grid_x, grid_y)
        return result

    @staticmethod
    def _box(window: Window, downsample: float) -> shapely.Geometry:
        return shapely.box(
            window.x * downsample,
            window.y * downsample,
            (window.x + window.width) * downsample,
            (window.y + window.height) * downsample,
        )
