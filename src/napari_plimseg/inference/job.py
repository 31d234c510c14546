"""`SegmentationJob`: from a slide's file to a finished, exported mask."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from napari_plimseg.errors import ConfigError
from napari_plimseg.files import user_data_dir
from napari_plimseg.inference.engine import open_store, segment_slide
from napari_plimseg.inference.names import free_stem
from napari_plimseg.inference.plan import RunSettings, named_store
from napari_plimseg.results import (
    SUFFIX,
    area_table,
    checked_formats,
    corrected,
    export_all,
    export_stem,
)
from napari_plimseg.slides import PixelSizeConflict, open_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari_plimseg.inference.plan import RunRegion
    from napari_plimseg.inference.progress import Progress
    from napari_plimseg.models import DenseModel
    from napari_plimseg.results import ClassArea, MaskInfo, MaskStore, Resolution
    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses


@dataclass(frozen=True)
class SlideOpened:
    """A slide was opened.

    Parameters
    ----------
    name : str
        Its file name.
    notes : tuple of str
        What people should know about it.
    mpp_known : bool
        Whether its pixel size is known; without it, a slide can't be segmented.
    """

    name: str
    notes: tuple[str, ...]
    mpp_known: bool


@dataclass(frozen=True)
class Notice:
    """What people should know about a run, such as that damaged tiles are computed again."""

    text: str


@dataclass(frozen=True)
class Refused(Notice):
    """A choice for one slide was not followed; its result is right without it."""


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
        The mask store; closed when the run ends.
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
class SegmentationJob:
    """What is to be done for slides: the one description that docks, batch and programs share.

    It holds choices only. `loaded` turns the model's name into a model; nothing is read before.

    Parameters
    ----------
    model : str, Path or DenseModel
        A name of `list_models`, a model file, or a model that is loaded already.
    classes : TissueClasses or None
        Classes and words of the user; None for the model's own.
    settings : RunSettings
        How the engine runs.
    region : RunRegion or None
        The whole slide when None.
    focus : tuple of float or None
        Level-0 (y, x) where a person looks: tiles near it come first.
    folder : Path or None
        Where stores and exports go; the user's results folder when None.
    formats : tuple of str
        Keys of `results.export.FORMATS`; may be empty.
    at : {"mask", "slide"}
        Resolution of the label TIFF.
    resume : bool
        Whether to continue what an earlier run began.
    recompute : bool
        Whether tiles that an earlier run finished are computed again.
    digest_names : bool
        Whether a store's name identifies slide content, model and settings, so that results of
        several models lie side by side, as those of the docks do. Otherwise it is the slide's
        stem alone, as people expect of a command.
    override_mpp : bool
        Whether a pixel size of the user replaces another one in the file.
    """

    model: str | Path | DenseModel = "bundled"
    classes: TissueClasses | None = None
    settings: RunSettings = field(default_factory=RunSettings)
    region: RunRegion | None = None
    focus: tuple[float, float] | None = None
    folder: Path | None = None
    formats: tuple[str, ...] = ()
    at: Resolution = "mask"
    resume: bool = True
    recompute: bool = False
    digest_names: bool = False
    override_mpp: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", checked_formats(self.formats))
        if self.classes is not None and not isinstance(self.model, (str, Path)):
            raise ConfigError(
                "the model is loaded already, so it can't take other classes",
                remedy="Give the classes to load_model, or the model by its name.",
            )
        if self.at not in ("mask", "slide"):
            raise ConfigError(f"the resolution '{self.at}' is neither mask nor slide")

    @property
    def results_folder(self) -> Path:
        """Where stores and exports go."""
        return user_data_dir() / "results" if self.folder is None else self.folder

    @property
    def dense_model(self) -> DenseModel:
        """The model of a job that is `loaded`; a ConfigError otherwise."""
        if isinstance(self.model, (str, Path)):
            raise ConfigError(f"the model '{self.model}' is not loaded yet")
        return self.model

    def loaded(
        self, load: Callable[[str | Path, TissueClasses | None], DenseModel] | None = None
    ) -> Self:
        """Return the job with its model loaded, and its settings checked against the model.

        Parameters
        ----------
        load : callable, optional
            Takes name and classes; `load_model` by default. The docks give a cache.

        Raises
        ------
        PlimsegError
            When the model can't be used, or the tile size does not fit it.
        """
        job = self
        if isinstance(self.model, (str, Path)):
            if load is None:
                from napari_plimseg.models import load_model

                load = load_model
            job = replace(self, model=load(self.model, self.classes), classes=None)
        size, step = job.settings.tile_size, job.dense_model.alignment
        if size % step:
            raise ConfigError(
                f"the tile size {size} is not a multiple of {step}",
                remedy=f"Choose {max(1, round(size / step)) * step}, for example.",
            )
        return job

    def store_path(self, slide: Slide, stem: str) -> Path:
        """Return the store of a slide whose results are called `stem`."""
        if not self.digest_names:
            return self.results_folder / f"{stem}{SUFFIX}"
        return named_store(self.results_folder, slide, self.dense_model, self.settings)

    def free_stem(self, slide: Slide, stem: str) -> str:
        """Return `stem`, or another name where the folder holds another slide's results of it."""
        return stem if self.digest_names else free_stem(self.store_path(slide, stem), slide)

    def open_store(self, slide: Slide, stem: str) -> MaskStore:
        """Open the slide's store for writing; create it when there is none.

        Raises
        ------
        StoreError
            When the folder holds the result of another slide, model or setting.
        """
        return open_store(
            slide,
            self.dense_model,
            self.store_path(slide, stem),
            settings=self.settings,
            overwrite=not self.resume,
        )

    def segment(self, slide: Slide, store: MaskStore) -> Generator[Progress, None, None]:
        """Segment an open slide into its store; closing the generator stops the run safely.

        Yields
        ------
        Progress
            After every tile.

        Raises
        ------
        PlimsegError
            When the slide can't be read or the store can't be written.
        """
        return segment_slide(
            slide,
            self.dense_model,
            store,
            region=self.region,
            focus=self.focus,
            settings=self.settings,
            recompute=self.recompute,
        )

    def steps(
        self, path: Path, stem: str, *, mpp: float | None = None
    ) -> Generator[SlideOpened | Notice | Progress | SlideDone, None, None]:
        """Open, segment and export one slide.

        Closing the generator stops the run; finished tiles are kept and a later run resumes.

        Parameters
        ----------
        path : Path
            The slide.
        stem : str
            Name of its results, without ending.
        mpp : float, optional
            Micrometers per level-0 pixel, where the file has none. Where it has another one, that
            is used, and a `Refused` says so.

        Yields
        ------
        SlideOpened, Refused and Notice if there is one, then Progress, then SlideDone

        Raises
        ------
        PlimsegError
            When the slide, the store or an export fails.
        """
        begin = time.monotonic()
        with open_slide(path) as slide:
            refused = None
            if mpp is not None:
                try:
                    slide.give_mpp(mpp, override=self.override_mpp)
                except PixelSizeConflict as error:
                    refused = Refused(f"{error} The file's size is used.")
            yield SlideOpened(slide.name, tuple(slide.notes), slide.mpp is not None)
            if refused is not None:
                yield refused
            free = self.free_stem(slide, stem)
            with self.open_store(slide, free) as store:
                free = export_stem(self.results_folder, free, store.info, self.formats)
                if free != stem:
                    text = f"'{stem}' is the result of another slide; this one's is called '{free}'"
                    yield Notice(f"{text}.")
                if store.dropped:
                    yield Notice(store.dropped.notice)
                with contextlib.closing(self.segment(slide, store)) as running:
                    told = set()
                    for progress in running:
                        for note in (store.info.unlike, progress.note):
                            if note and note not in told:
                                told.add(note)
                                yield Notice(note)
                        yield progress
                missing = store.dropped.still_missing(store.has)
                if missing:
                    yield Notice(missing)
                # exports hold what people painted in earlier sessions too
                edits = store.class_edits
                info = edits.described(store.info)
                mask, _ = corrected(edits.applied(store.read_classes()), info, store.path.parent)
                files = export_all(
                    self.results_folder,
                    free,
                    mask,
                    info,
                    slide,
                    formats=self.formats,
                    at=self.at,
                )
                yield SlideDone(
                    info=info,
                    areas=area_table(mask, info),
                    files=files,
                    store=store.path,
                    seconds=time.monotonic() - begin,
                    unreadable_tiles=store.unreadable_tiles,
                )
