"""Cutting of annotated slides and images into tagged patches for training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_plimseg.errors import ConfigError, TagError
from napari_plimseg.files import atomic_write
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.slides import UNSCANNED, TissueMask, open_slide
from napari_plimseg.slides.tissue_mask import tissue_mask
from plimseg_training.data.annotations import read_annotation
from plimseg_training.data.cut_record import TABLE, check_record, name_in, place_of, write_table
from plimseg_training.data.images import IMAGE_SUFFIXES
from plimseg_training.data.window_tags import WindowRule, class_fractions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses
    from plimseg_training.data.annotations import Annotation


_WHITE = 220
_FIXED = ("file", "y", "x", "height", "width", "group", "mpp")


@dataclass(frozen=True)
class CutSummary:
    """Result of `cut_patches` for one slide.

    Parameters
    ----------
    table : Path
        The `tags.csv`.
    patches : int
        Number of patches of this slide in the table.
    written : int
        Number of patch files written; the others existed already.
    tag_counts : tuple of int
        Number of patches with each tag, in tag order.
    notes : tuple of str
        What of the annotation was not used, and why.
    """

    table: Path
    patches: int
    written: int
    tag_counts: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.written <= self.patches:
            raise TagError(f"{self.written} of {self.patches} patches can't be written")


def cut_patches(
    source: str | Path,
    annotation: str | Path,
    out: str | Path,
    *,
    patch: int,
    stride: int,
    classes: TissueClasses,
    mpp: float | None = None,
    minimum_fraction: float = 0.05,
    write_images: bool = True,
    maximum_unknown: float = 0.25,
    values: Mapping[int, int] | None = None,
    source_mpp: float | None = None,
    override_mpp: bool = False,
    maps: Sequence[str] = (),
    ignored: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> CutSummary:
    """Cut an annotated slide or image into a folder of tagged patches for training.

    A patch is tagged with every class that covers enough of it. Patches without a tag, or with
    too much tissue that is not annotated, are skipped, because their tags would be wrong. Several
    slides may be cut into one folder; a second run only writes missing patches.

    Parameters
    ----------
    source : str or Path
        A slide, or a plain image.
    annotation : str or Path
        QuPath GeoJSON, or a mask image.
    out : str or Path
        The folder for PNG patches and `tags.csv`.
    patch, stride : int
        Side and step of the patches in pixels.
    classes : TissueClasses
        In tag order.
    mpp : float, optional
        Resolution of the patches in um/px; that of the source by default.
    minimum_fraction : float
        Fraction of a patch that a class must cover to be tagged.
    write_images : bool
        False writes only `tags.csv`, with windows of the source, which must be a plain image.
    maximum_unknown : float
        Largest fraction of a patch that may be neither annotated nor empty: white, or black where
        nothing was scanned.
    values : mapping of int to int, optional
        From values of a mask image to mask ids.
    source_mpp : float, optional
        Pixel size of the source in um, if its file does not contain it.
    override_mpp : bool
        Whether `source_mpp` replaces another size in the file, too.
    maps : sequence of str
        Each "NAME=CLASS": the class of a name, number or color that is none of the classes.
    ignored : sequence of str
        Names, numbers or colors that count as not annotated.
    on_progress : callable, optional
        Called with the numbers of finished and of all windows.

    Returns
    -------
    CutSummary

    Raises
    ------
    SlideError
        When the source can't be read, or its pixel size is needed and unknown, or is another one
        than `source_mpp`.
    TagError
        When the annotation can't be used, no patch has a tag, or `out` contains other patches.
    ConfigError
        When patch, stride or fractions are out of range.
    """
    source, out = Path(source), Path(out)
    if patch < 32 or stride < 1 or not (0 < minimum_fraction < 1 and 0 <= maximum_unknown <= 1):
        raise ConfigError(
            f"patches of {patch} px every {stride} px with fractions {minimum_fraction} and "
            f"{maximum_unknown} can't be cut",
            remedy="Patches need at least 32 px, strides at least 1 px, fractions 0 to 1.",
        )
    with open_slide(source) as slide:
        if source_mpp is not None:
            slide.give_mpp(source_mpp, override=override_mpp)
        downsample = 1.0 if mpp is None else slide.working_downsample(mpp)
        plain = source.suffix.lower() in IMAGE_SUFFIXES and len(slide.levels) == 1
        if not write_images and not (plain and downsample == 1):
            raise ConfigError(
                "windows need a plain image at its own resolution",
                path=source,
                remedy="Write the patches as images.",
            )
        settings = {
            "source": fingerprint(source),
            "place": place_of(out, source),
            "patch": patch,
            "downsample": downsample,
            "write_images": write_images,
        }
        name = name_in(out, source.stem, settings)
        tissue = [classes[i - 1].name for i in classes.tissue_ids]
        check_record(out, name, settings, tissue)
        rule = WindowRule(patch, stride, minimum_fraction)
        # windows of the source are read from its file, where black fill stays black
        tissue_of = tissue_mask(slide) if write_images else None
        cut = _Cut(slide, downsample, rule, maximum_unknown, tissue_of)
        drawn = read_annotation(
            Path(annotation), slide, classes, values, maps=maps, ignored=ignored
        )
        rows, written = [], 0
        for window, tags, pixels in cut.tagged(drawn, len(classes.tissue_ids), on_progress):
            if write_images:
                y, x = (round(start * downsample) for start in window[:2])
                file = f"{name}-{x}-{y}.png"
                written += _write_patch(out / file, pixels)
                window = (0, 0, *window[2:])
            else:
                file = _relative(source, out)
            size = "" if slide.mpp is None else f"{slide.mpp * downsample:.6g}"
            rows.append([file, *map(str, window), name, size, *map(str, tags)])
    if not rows:
        raise TagError(
            "none of its patches has a tag",
            path=source,
            remedy="Check that the annotation is on the tissue and covers whole patches; smaller "
            "patches or a larger maximum_unknown keep more of them.",
        )
    table = out / TABLE
    header = [*_FIXED, *tissue]
    write_table(table, header, rows, name)
    counts = np.array([row[len(_FIXED) :] for row in rows], int).sum(0)
    return CutSummary(table, len(rows), written, tuple(int(n) for n in counts), drawn.notes)


@dataclass(frozen=True)
class _Cut:
    """Iterates over a slide's windows."""

    slide: Slide
    downsample: float
    rule: WindowRule
    maximum_unknown: float
    tissue: TissueMask | None

    def tagged(
        self, drawn: Annotation, classes: int, on_progress: Callable[[int, int], None] | None
    ) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, ...], NDArray[np.uint8]]]:
        """Yield window, tags and pixels of every patch with reliable tags."""
        bounds = self.slide.bounds
        top, left = round(bounds.y / self.downsample), round(bounds.x / self.downsample)
        size = (
            max(1, int(bounds.height / self.downsample)),
            max(1, int(bounds.width / self.downsample)),
        )
        windows = self.rule.windows(size) + np.array([top, left, 0, 0], np.int32)
        for number, window in enumerate(windows.tolist()):
            y, x, height, width = window
            ids = drawn.ids(y, x, height, width, self.downsample)
            whole = np.array([(0, 0, height, width)], np.int32)
            tags = class_fractions(ids, whole, classes)[0] >= self.rule.minimum
            if tags.any():
                pixels = self.slide.read_at(self.downsample, y, x, height, width)
                if self.tissue is not None:  # black fill is white for the model, see `segment`
                    pixels = self.tissue.over_white(pixels, self.downsample, y, x)
                empty = (pixels.min(2) >= _WHITE) | (pixels.max(2) <= UNSCANNED)
                unknown = (ids == 0) & ~empty
                if unknown.mean() <= self.maximum_unknown:
                    yield (y, x, height, width), tuple(int(tag) for tag in tags), pixels
            if on_progress is not None:
                on_progress(number + 1, len(windows))


def _write_patch(path: Path, pixels: NDArray[np.uint8]) -> bool:
    if path.exists():
        return False
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")
    return True


def _relative(source: Path, out: Path) -> str:
    try:
        return Path(os.path.relpath(source.absolute(), out.absolute())).as_posix()
    except ValueError:  # on another drive
        return source.absolute().as_posix()
