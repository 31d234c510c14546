"""The work behind the dock's buttons, as generators that a thread runs: no Qt, no napari."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg._widgets.common.jobs import (
    ModelCache,
    Stage,
    TileDone,
    results_folder,
    run_settings,
)
from napari_plimseg.errors import CorrectionsError, PlimsegError
from napari_plimseg.files import fingerprint
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.results.corrections.corrections import Corrections

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.inference.engine import Progress
    from napari_plimseg.inference.plan import RunRegion
    from napari_plimseg.results.mask_store import MaskStore
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.tissue import TissueClasses


_NEEDED_SOON = (
    "dask.array", "tifffile", "zarr", "scipy.ndimage", "pandas", "skimage.exposure",
    "skimage.color", "scipy.linalg", "napari_plimseg.results.mask_store",
)  # fmt: skip


@dataclass(frozen=True)
class RunRequest:
    """One press on the button.

    Parameters
    ----------
    slide : Slide
        Opened, with a known pixel size.
    model : str
        Name in the catalogue.
    classes : TissueClasses or None
        Classes and words of the user; None for the model's own.
    settings : DockSettings
        Device, tiles, tissue and where results are kept.
    region : RunRegion or None
        The whole slide when None.
    focus : tuple of float or None
        Level-0 (y, x) in the middle of the window: tiles near it come first.
    """

    slide: Slide
    model: str
    classes: TissueClasses | None
    settings: DockSettings
    region: RunRegion | None = None
    focus: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A store that is open.

    Parameters
    ----------
    store : MaskStore
        Where the model's output is kept.
    mask : ndarray of uint8, shape (h, w)
        What it holds already.
    corrections : Corrections or None
        What a person painted over it; held here so that a mask view finds it read already.
    """

    store: MaskStore
    mask: NDArray[np.uint8]
    corrections: Corrections | None = None

    @classmethod
    def of(cls, store: MaskStore) -> Opened:
        """Read a store and the corrections beside it."""
        corrections = None
        with contextlib.suppress(CorrectionsError):  # the mask view says what is wrong
            corrections = Corrections.open(store.path.parent, store.info)
            corrections.journal.mask.counts()  # counted here, known there
        return cls(store, store.read_classes(), corrections)


def run_steps(
    request: RunRequest, keeper: ModelCache
) -> Generator[Stage | Opened | TileDone, None, None]:
    """Load the model, open the store and segment; closing the generator stops the run safely.

    Raises
    ------
    PlimsegError
        When the engine is in use elsewhere, or anything of the run fails.
    """
    with (
        ENGINE.held_by("the run of the dock PLIMSeg"),
        contextlib.closing(_run_steps(request, keeper)) as steps,
    ):
        yield from steps


def _run_steps(
    request: RunRequest, keeper: ModelCache
) -> Generator[Stage | Opened | TileDone, None, None]:
    yield Stage("Loading model…")
    model = keeper.model(request.model, request.classes)
    from napari_plimseg.inference.engine import open_store, segment_slide
    from napari_plimseg.inference.plan import default_store_path

    yield Stage("Opening the result…")
    settings = run_settings(request.settings)
    name = default_store_path(request.slide, model, settings).name
    path = results_folder(request.settings) / name
    with open_store(request.slide, model, path, settings=settings) as store:
        yield Opened.of(store)
        steps = segment_slide(
            request.slide,
            model,
            store,
            region=request.region,
            focus=request.focus,
            settings=settings,
        )
        try:
            for progress in steps:
                yield _tile_done(store, progress)
        finally:
            steps.close()


def _tile_done(store: MaskStore, progress: Progress) -> TileDone:
    if progress.window is None:
        return TileDone(progress)
    rows, columns = progress.window.slices
    probabilities = store.probabilities
    return TileDone(
        progress,
        progress.window,
        np.asarray(store.classes[rows, columns]),
        np.asarray(store.confidence[rows, columns]),
        None if probabilities is None else np.asarray(probabilities[:, rows, columns]),
    )


def open_stored(path: Path) -> Generator[Opened, None, None]:
    """Yield the result in a folder.

    Raises
    ------
    StoreError
        When it is damaged or none.
    """
    from napari_plimseg.results.mask_store import MaskStore

    store = MaskStore.open(path)
    yield Opened.of(store)


def find_result(slide: Slide, folder: Path) -> Generator[Opened, None, None]:
    """Yield the newest readable result of a slide, or nothing."""
    from napari_plimseg.results.mask_store import SUFFIX, MaskStore

    stores = sorted(
        (p for p in folder.glob(f"*{SUFFIX}") if p.name.startswith(slide.path.stem[:80])),
        key=_changed,
        reverse=True,
    )
    if not stores:
        return
    identity = fingerprint(slide.path)
    for path in stores:
        try:
            store = MaskStore.open(path)
        except PlimsegError:
            continue  # a damaged or newer store is no result; a run makes a new one
        # another pixel size gives another mask frame: what was made with it lies elsewhere
        same_frame = slide.mpp is None or store.info.mpp == slide.mpp
        if store.info.slide_fingerprint == identity and same_frame and store.done_fraction > 0:
            yield Opened.of(store)
            return
        store.close()


def _changed(path: Path) -> float:
    journal = path / "journal.json"
    return journal.stat().st_mtime if journal.exists() else 0.0


def warm_up() -> Generator[None, None, None]:
    """Import what the first slide and the first mask need, so that the window need not wait then.

    Together it takes about a second, which Python's threads share with the window's.
    """
    for name in _NEEDED_SOON:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
        yield None


def find_devices() -> Generator[list[str], None, None]:
    """Yield the devices of this machine; imports torch, which takes seconds."""
    from napari_plimseg.inference.devices import available_devices, load_torch_library

    load_torch_library()
    yield available_devices()
