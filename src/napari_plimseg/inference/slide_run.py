"""One slide from its file to a finished, exported mask; what the command line and a batch share."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_plimseg.inference.plan import RunRegion, RunSettings
    from napari_plimseg.inference.progress import Progress
    from napari_plimseg.models.segmentation.base import DenseModel
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.results.measure import ClassArea
    from napari_plimseg.slides.slide import Slide


@dataclass(frozen=True)
class SlideOpened:
    """The slide could be opened.

    Parameters
    ----------
    name : str
        Its file name.
    notes : tuple of str
        What people should know about it.
    mpp_known : bool
        Whether its pixel size is known; without, it can't be segmented.
    """

    name: str
    notes: tuple[str, ...]
    mpp_known: bool


@dataclass(frozen=True)
class SlideDone:
    """A slide is segmented and exported.

    Parameters
    ----------
    info : MaskInfo
    areas : sequence of ClassArea
    files : sequence of Path
        The exports.
    store : Path
        The mask store, closed by the time the run has ended.
    seconds : float
    unreadable_tiles : int
    """

    info: MaskInfo
    areas: Sequence[ClassArea]
    files: Sequence[Path]
    store: Path
    seconds: float
    unreadable_tiles: int


@dataclass(frozen=True)
class SlideRun:
    """One model and one set of options, for any number of slides.

    Parameters
    ----------
    model : DenseModel
    settings : RunSettings
    folder : Path
        Where stores and exports go.
    formats : tuple of str
        Keys of `results.export.FORMATS`; may be empty.
    at : {"mask", "slide"}
        Resolution of the label TIFF.
    region : RunRegion or None
        The whole slide when None.
    resume : bool
        Whether to go on with what an earlier run has finished.
    digest_names : bool
        Whether a store's name tells slide content, model and settings apart, as those of the
        dock do; otherwise it is the slide's stem alone.
    """

    model: DenseModel
    settings: RunSettings
    folder: Path
    formats: tuple[str, ...] = ()
    at: Literal["mask", "slide"] = "mask"
    region: RunRegion | None = None
    resume: bool = True
    digest_names: bool = False

    def store_path(self, slide: Slide, stem: str) -> Path:
        """Return the store of a slide whose results are called `stem`."""
        if not self.digest_names:
            return self.folder / f"{stem}.plimseg"
        from napari_plimseg.inference.plan import default_store_path

        return self.folder / default_store_path(slide, self.model, self.settings).name

    def steps(
        self, path: Path, stem: str, *, mpp: float | None = None
    ) -> Generator[SlideOpened | Progress | SlideDone, None, None]:
        """Open, segment and export one slide.

        Closing the generator stops the run; what is finished stays and is resumed.

        Parameters
        ----------
        path : Path
            The slide.
        stem : str
            Name of its results, without ending.
        mpp : float, optional
            Micrometres per level-0 pixel, where the file does not tell or tells it wrongly.

        Yields
        ------
        SlideOpened, then Progress, then SlideDone

        Raises
        ------
        PlimsegError
            When the slide, the store or an export fails.
        """
        from napari_plimseg.inference.engine import open_store, segment_slide
        from napari_plimseg.results.corrections.corrections import corrected
        from napari_plimseg.results.export.formats import export_all
        from napari_plimseg.results.measure import area_table
        from napari_plimseg.slides import open_slide

        begin = time.monotonic()
        with open_slide(path) as slide:
            if mpp is not None:
                slide.mpp = mpp
            yield SlideOpened(slide.name, tuple(slide.notes), slide.mpp is not None)
            store = open_store(
                slide,
                self.model,
                self.store_path(slide, stem),
                settings=self.settings,
                overwrite=not self.resume,
            )
            with store:
                running = segment_slide(
                    slide, self.model, store, region=self.region, settings=self.settings
                )
                with contextlib.closing(running):
                    yield from running
                # what a person painted earlier is never exported away
                mask, _ = corrected(store.read_classes(), store.info, self.folder)
                files = export_all(
                    self.folder, stem, mask, store.info, slide, formats=self.formats, at=self.at
                )
                yield SlideDone(
                    info=store.info,
                    areas=area_table(mask, store.info),
                    files=files,
                    store=store.path,
                    seconds=time.monotonic() - begin,
                    unreadable_tiles=store.unreadable_tiles,
                )
