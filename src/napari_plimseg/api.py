"""From a slide to its tissue map in one call, for programs and notebooks.

>>> from napari_plimseg import segment
>>> result = segment("slide.svs", classes=["gland", "stroma", "fat"], progress=True)
>>> result.areas()
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_plimseg.errors import ConfigError, ExportError, PlimsegError, user_path
from napari_plimseg.fingerprints import is_fingerprint_of
from napari_plimseg.inference import (
    ENGINE,
    ProgressBar,
    RunRegion,
    RunSettings,
    SegmentationJob,
    results_stem,
)
from napari_plimseg.results import (
    SUFFIX,
    MaskStore,
    area_table,
    corrected,
    export_all,
    mask_to_export,
    write_labels,
)
from napari_plimseg.slides import Region, Slide, open_slide
from napari_plimseg.tissue import TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import geopandas
    import numpy as np
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg.inference import Progress
    from napari_plimseg.models import DenseModel
    from napari_plimseg.results import ClassArea, MaskInfo, Resolution, StoreDamage


@dataclass(frozen=True)
class Segmentation:
    """The tissue map of a slide, on disk.

    Made by `segment`, or by `Segmentation.open` from a result that exists, also one of the docks or
    the command line. Everything here includes what people corrected in napari, as it is on disk
    at the moment of the call; the model's own output stays in the store.

    Parameters
    ----------
    store_path : Path
        The mask store, a folder `.plimseg`. `MaskStore.open` reads it: the model's output without
        corrections, and its confidence.
    info : MaskInfo
        What the mask is a mask of: slide, size of a pixel, classes, model.
    slide_path : Path or None
        The slide; needed for pictures and for `view`.
    mpp : float or None
        Micrometers per level-0 pixel where the slide's file has none or a wrong one.
    allow_damaged : bool
        Whether parts of the store that are damaged or lost are taken as unreadable. Otherwise
        reading them raises a DamagedStoreError that says which parts they are.
    """

    store_path: Path
    info: MaskInfo
    slide_path: Path | None = None
    mpp: float | None = None
    allow_damaged: bool = False

    @classmethod
    def open(
        cls,
        store_path: str | Path,
        slide: str | Path | None = None,
        *,
        allow_damaged: bool = False,
    ) -> Self:
        """Open a result that exists.

        Parameters
        ----------
        store_path : str or Path
            A folder `.plimseg`.
        slide : str or Path, optional
            The slide that it was made of.
        allow_damaged : bool
            Whether damaged parts are taken as unreadable. They are found when they are read.

        Raises
        ------
        StoreError
            When it is damaged or not a mask store.
        ExportError
            When the slide is another one.
        """
        slide = None if slide is None else user_path(slide)
        with MaskStore.open(store_path) as store:
            path = store.path
            info = store.class_edits.described(store.info)
        if slide is not None and not is_fingerprint_of(info.slide_fingerprint, slide):
            raise ExportError(
                f"the mask belongs to '{info.slide_name}', not to '{slide.name}'",
                path=path,
                remedy="Choose the slide that the mask was made from.",
            )
        return cls(path, info, slide, info.mpp, allow_damaged)

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Mask ids with corrections, a uint8 array (y, x): 0 is not computed, 255 unreadable.

        Always in memory: a mask is 4 to 30 times coarser than its slide on each side, so even one
        of a slide of 200,000 pixels a side has less than 2 GiB. It is read from disk at each
        access; keep it in a variable. Raises a DamagedStoreError where it is damaged, unless
        `allow_damaged`.
        """
        return self._read(self.allow_damaged)[0]

    def _read(self, allow_damaged: bool) -> tuple[NDArray[np.uint8], MaskInfo]:
        """Return mask and description with the classes and corrections of this moment."""
        with MaskStore.open(self.store_path) as store:
            edits = store.class_edits
            mask = edits.applied(store.read_classes(allow_damaged=allow_damaged))
            info = edits.described(store.info)
            mask, _ = corrected(mask, info, self.store_path.parent)
        return mask, info

    def damage(self) -> StoreDamage:
        """Check the whole result on disk and return what is damaged; false when nothing is."""
        with MaskStore.open(self.store_path) as store:
            return store.damage()

    def areas(self, *, allow_damaged: bool = False) -> list[ClassArea]:
        """Return the area of each class as rows that `pandas.DataFrame` takes.

        Parameters
        ----------
        allow_damaged : bool
            Whether damaged parts count as unreadable.

        Returns
        -------
        list of ClassArea
            name, mask_id, kind, pixels, mm2 and percent_of_tissue; the tissue classes first, then
            background and what was not computed or is unreadable. mm2 is None when the size of a
            pixel is unknown.

        Raises
        ------
        DamagedStoreError
            When the mask is damaged, and that is not allowed.
        """
        return list(area_table(*self._read(allow_damaged or self.allow_damaged)))

    def to_geodataframe(self) -> geopandas.GeoDataFrame:
        """Return the outlines of all tissue regions, one row per connected region.

        Returns
        -------
        GeoDataFrame
            Columns name, mask_id, pixels (of the mask), area_mm2 and geometry: polygons in level-0
            pixels of the slide, x before y, without a coordinate reference system.

        Raises
        ------
        ExportError
            When GeoPandas is not installed.
        """
        try:
            import geopandas
        except ImportError as error:
            raise ExportError(
                "GeoPandas is not installed",
                remedy='Install it: pip install "napari-plimseg[geo]".',
            ) from error
        from shapely.affinity import scale

        from napari_plimseg.results import iter_outlines

        mask, info = self._read(self.allow_damaged)
        rows = []
        for outline in iter_outlines(mask, info.classes.tissue_ids):
            size = info.pixel_area_mm2
            rows.append(
                {
                    "name": info.classes[outline.mask_id - 1].name,
                    "mask_id": outline.mask_id,
                    "pixels": outline.pixels,
                    "area_mm2": None if size is None else outline.pixels * size,
                    "geometry": scale(
                        outline.polygon(), info.downsample, info.downsample, origin=(0, 0)
                    ),
                }
            )
        columns = ["name", "mask_id", "pixels", "area_mm2", "geometry"]
        return geopandas.GeoDataFrame(rows, columns=columns, geometry="geometry")

    def export(
        self,
        folder: str | Path,
        formats: Sequence[str] | None = None,
        *,
        at: Resolution = "mask",
        allow_damaged: bool = False,
    ) -> list[Path]:
        """Write the mask in several formats.

        Parameters
        ----------
        folder : str or Path
            Created when missing.
        formats : sequence of str, optional
            "ome-tiff", "geojson", "csv", "png"; by default all that can be written: the picture
            "png" needs the slide.
        at : {"mask", "slide"}
            Resolution of the label TIFF.
        allow_damaged : bool
            Whether damaged parts are written as unreadable, and noted in the files.

        Returns
        -------
        list of Path
            The files written, named for the slide.

        Raises
        ------
        DamagedStoreError
            When any part of the store is damaged, and that is not allowed.
        ExportError
            When a format is unknown or a file can't be written.
        """
        stem = results_stem(Path(self.info.slide_name))
        with contextlib.ExitStack() as stack:
            slide = None
            if self.slide_path is not None:
                slide = stack.enter_context(open_slide(self.slide_path))
            mask, info = self._to_export(allow_damaged)
            return export_all(folder, stem, mask, info, slide, formats=formats, at=at)

    def _to_export(self, allow_damaged: bool) -> tuple[NDArray[np.uint8], MaskInfo]:
        with MaskStore.open(self.store_path) as store:
            mask, info = mask_to_export(store, allow_damaged=allow_damaged or self.allow_damaged)
            mask, _ = corrected(mask, info, self.store_path.parent)
        return mask, info

    def write_labels(
        self, name: str = "plimseg", *, replace: bool = False, allow_damaged: bool = False
    ) -> Path:
        """Write the mask into the `labels` group of its OME-Zarr slide.

        A pyramid of class numbers with names and colors, in the slide's own version of the
        standard. The image and other labels are not touched.

        Parameters
        ----------
        name : str
            Of the labels: letters, digits and ._- only.
        replace : bool
            Whether labels of that name are replaced.
        allow_damaged : bool
            Whether damaged parts are written as unreadable.

        Returns
        -------
        Path
            The group of the labels.

        Raises
        ------
        DamagedStoreError
            When any part of the store is damaged, and that is not allowed.
        ExportError
            When the slide is not known or no OME-Zarr slide, has labels of that name, or can't be
            written.
        """
        if self.slide_path is None:
            raise ExportError(
                "labels are written into the slide",
                path=self.store_path,
                remedy="Give it: Segmentation.open(store, slide).",
            )
        mask, info = self._to_export(allow_damaged)
        return write_labels(self.slide_path, mask, info, name=name, replace=replace)

    def view(self) -> Viewer:
        """Show slide and mask in napari, to look at and to correct.

        In the viewer that is open, if any. Otherwise in a new one; then the call returns when its
        window is closed, or at once in a notebook.

        Raises
        ------
        ExportError
            When the slide is not known.
        PlimsegError
            When no Qt binding is installed.
        """
        if self.slide_path is None:
            raise ExportError(
                "the viewer needs the slide",
                path=self.store_path,
                remedy="Give it: Segmentation.open(store, slide).",
            )
        try:
            # the one import of a widget from below: napari starts only when it is asked for
            from napari_plimseg._widgets.open_in_viewer import show_slide_and_mask
        except ImportError as error:
            raise PlimsegError(
                "napari has no Qt binding here", remedy='Install one: pip install "napari[all]".'
            ) from error
        return show_slide_and_mask(self.slide_path, self.store_path, mpp=self.mpp)


def segment(
    slide: str | Path | Slide,
    model: str | Path | DenseModel = "bundled",
    classes: TissueClasses | Sequence[str | TissueClass] | None = None,
    region: Region | RunRegion | None = None,
    out: str | Path | None = None,
    *,
    progress: bool | Callable[[Progress], None] = False,
    mpp: float | None = None,
    override_mpp: bool = False,
    settings: RunSettings | None = None,
    resume: bool = True,
) -> Segmentation:
    """Segment a slide into tissue classes.

    Finished tiles are kept: a second call with the same slide, model and classes returns at once,
    and one with a larger region computes only what is missing.

    Parameters
    ----------
    slide : str, Path or Slide
        A file or folder, or an open slide, which stays open.
    model : str, Path or DenseModel
        A name of `list_models`, a model file, or what `load_model` returned.
    classes : TissueClasses, or sequence of str or TissueClass, optional
        Classes to look for; background is added. For models that take words, like the bundled
        one. By default the model's own.
    region : Region or RunRegion, optional
        Part of the slide in level-0 pixels, where the mask ends exactly; `RunRegion.polygons` takes
        outlines. By default the whole slide.
    out : str or Path, optional
        Folder for the result, which is then `<out>/<slide>.plimseg` as on the command line; or the
        path of the store itself when it ends with ".plimseg". By default the user's results
        folder, where the docks look as well.
    progress : bool or callable
        True shows a bar; a callable is called with a `Progress` after every tile, and stops the
        run safely by raising an exception.
    mpp : float, optional
        Micrometers per level-0 pixel, where the file has none.
    override_mpp : bool
        Whether `mpp` replaces another size in the file, because it is wrong.
    settings : RunSettings, optional
        Device, tiles, tissue; by default the fastest device, and empty glass is skipped.
    resume : bool
        Whether to continue what an earlier run began; False starts from scratch.

    Returns
    -------
    Segmentation

    Raises
    ------
    SlideError
        When the slide can't be opened, its pixel size is unknown and `mpp` is not given, or the
        file has another size than `mpp` and it is not overridden.
    ModelError
        When the model can't be used.
    ConfigError
        When classes, region or settings are wrong.
    StoreError
        When `out` holds the result of another slide, model or setting, or the disk is full.
    """
    if classes is not None and not isinstance(classes, TissueClasses):
        classes = TissueClasses.of(classes)
    if isinstance(region, Region):
        region = RunRegion.rectangle(region, clip=True)
    elif region is not None and not isinstance(region, RunRegion):
        raise ConfigError(
            f"{region!r} is not a region", remedy="Write Region(y, x, height, width)."
        )
    folder, stem = _place(out)
    job = SegmentationJob(
        model=model,
        classes=classes,
        settings=settings or RunSettings(),
        region=region,
        folder=folder,
        resume=resume,
        digest_names=out is None,
    )
    with contextlib.ExitStack() as stack:
        opened = slide if isinstance(slide, Slide) else stack.enter_context(open_slide(slide))
        if mpp is not None:
            opened.give_mpp(mpp, override=override_mpp)
        if opened.mpp is None:
            opened.working_downsample(1.0)  # says so before a model is loaded
        stack.enter_context(ENGINE.held_by("segment() of a Python program"))
        job = job.loaded()
        stem = stem or job.free_stem(opened, results_stem(opened.path))
        store = stack.enter_context(job.open_store(opened, stem))
        if store.dropped:
            warnings.warn(store.dropped.notice, stacklevel=2)
        report = stack.enter_context(_reporting(progress))
        for step in stack.enter_context(contextlib.closing(job.segment(opened, store))):
            report(step)
        missing = store.dropped.still_missing(store.has)
        if missing:
            warnings.warn(missing, stacklevel=2)
        info = store.class_edits.described(store.info)
        given = opened.mpp if opened.mpp_is_given else None
        return Segmentation(store.path, info, opened.path, given)


def _place(out: str | Path | None) -> tuple[Path | None, str]:
    """Return the folder of the store and its stem, empty where the slide names it."""
    if out is None:
        return None, ""
    path = user_path(out)
    if path.name.endswith(SUFFIX):
        return path.parent, path.name.removesuffix(SUFFIX)
    return path, ""


@contextlib.contextmanager
def _reporting(progress: bool | Callable[[Progress], None]) -> Iterator[Callable[[Progress], Any]]:
    if callable(progress):
        yield progress
    elif progress:
        with contextlib.closing(ProgressBar()) as bar:
            yield bar.show
    else:
        yield lambda _: None
