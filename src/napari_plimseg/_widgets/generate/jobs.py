"""Background work of the main dock: runs and stored results. Without Qt and napari."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from napari_plimseg._widgets.common import MadeBy, ModelCache, NothingToDo, Stage, TileDone
from napari_plimseg.errors import CorrectionsError, PlimsegError
from napari_plimseg.fingerprints import fingerprint, former_fingerprints
from napari_plimseg.inference import ENGINE
from napari_plimseg.results import Corrections

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.inference import Progress, SegmentationJob
    from napari_plimseg.results import MaskStore, StoreDamage
    from napari_plimseg.slides import Slide


_NEEDED_SOON = (
    "dask.array", "tifffile", "zarr", "scipy.ndimage", "pandas", "skimage.exposure",
    "skimage.color", "scipy.linalg", "napari_plimseg.inference.job",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Opened:
    """An open store with its contents.

    Parameters
    ----------
    store : MaskStore
        Holds the model's output.
    mask : ndarray of uint8, shape (h, w)
        Mask ids that it holds so far; 255, "unreadable", where it is damaged.
    damage : StoreDamage
        What is damaged, as far as the mask is concerned; false when nothing is.
    corrections : Corrections or None
        Of the user. Read here, in the background, so that the mask view need not wait for them.
    """

    store: MaskStore
    mask: NDArray[np.uint8]
    damage: StoreDamage
    corrections: Corrections | None = None

    @classmethod
    def of(cls, store: MaskStore) -> Opened:
        """Read the mask of a store and the corrections beside it."""
        corrections = None
        with contextlib.suppress(CorrectionsError):  # the mask view says what is wrong
            corrections = Corrections.open(store.path.parent, store.info)
            corrections.journal.mask.counts()  # cached: counting takes long
        mask = store.read_classes(allow_damaged=True)
        return cls(store, mask, store.found_damage, corrections)

    @classmethod
    def read(cls, path: Path) -> Opened:
        """Open the store in a folder.

        Raises
        ------
        StoreError
            When it is damaged or no store.
        """
        from napari_plimseg.results import MaskStore

        return cls.of(MaskStore.open(path))


Step = Stage | Opened | NothingToDo | TileDone


def run_steps(
    slide: Slide, job: SegmentationJob, keeper: ModelCache, made_by: MadeBy | None = None
) -> Generator[Step, None, None]:
    """Load the model, open the store and segment; closing the generator stops the run safely.

    Parameters
    ----------
    slide : Slide
        Open, with a known pixel size.
    job : SegmentationJob
        The run.
    keeper : ModelCache
        Loads the model of the job, unless it is loaded already.
    made_by : MadeBy, optional
        With it, a result that is finished is shown without loading the model.

    Raises
    ------
    PlimsegError
        When another run uses the engine, or this one fails.
    """
    with (
        ENGINE.held_by("the run of the dock PLIMSeg"),
        contextlib.closing(_run_steps(slide, job, keeper, made_by)) as steps,
    ):
        yield from steps


def _run_steps(
    slide: Slide, job: SegmentationJob, keeper: ModelCache, made_by: MadeBy | None
) -> Generator[Step, None, None]:
    finished = None if made_by is None or job.recompute else find_finished(slide, job, made_by)
    if finished is not None:
        yield finished
        yield NothingToDo()
        return
    yield Stage("Loading model…")
    job = job.loaded(keeper.model)
    yield Stage("Opening the result…")
    with job.open_store(slide, slide.path.stem) as store:
        yield Opened.of(store)
        with contextlib.closing(job.segment(slide, store)) as steps:
            for progress in steps:
                yield _tile_done(store, progress)


def _tile_done(store: MaskStore, progress: Progress) -> TileDone:
    if progress.window is None:
        return TileDone(progress)
    rows, columns = progress.window.slices
    return TileDone(
        progress,
        progress.window,
        store.read("classes", rows, columns),
        store.read("confidence", rows, columns),
        store.read("probabilities", rows, columns) if store.layout.has_probabilities else None,
    )


def find_result(slide: Slide, folder: Path) -> Opened | None:
    """Return the newest readable result of a slide; None when there is none."""
    for store in _stores_of(slide, folder):
        if store.done_fraction > 0 or store.found_damage:
            return Opened.of(store)
        store.close()
    return None


@dataclass(frozen=True)
class StoredResult:
    """A result of a slide on the disk.

    Parameters
    ----------
    path : Path
        Of the store.
    model_name : str
    created : str
        ISO date and time.
    done_fraction : float
        Part of the slide that is finished, 0 to 1.
    """

    path: Path
    model_name: str
    created: str
    done_fraction: float


def find_results(slide: Slide, folder: Path) -> list[StoredResult]:
    """Return all readable results of a slide in a folder, the newest first."""
    found = []
    for store in _stores_of(slide, folder):
        with store:
            found.append(
                StoredResult(store.path, store.info.model_name, store.created, store.done_fraction)
            )
    return found


def delete_result(path: Path) -> str:
    """Delete a store; return why that is not possible, empty when it is done."""
    from napari_plimseg.results import delete_store

    try:
        delete_store(path)
    except PlimsegError as error:
        return str(error)
    return ""


def find_finished(slide: Slide, job: SegmentationJob, made_by: MadeBy) -> Opened | None:
    """Return the finished result of a job without loading its model; None when there is none.

    Parameters
    ----------
    slide : Slide
        Open, with a known pixel size.
    job : SegmentationJob
        Its model is named, not loaded.
    made_by : MadeBy
    """
    from napari_plimseg.inference import is_finished

    for store in _stores_of(slide, job.results_folder):
        info = store.info
        same = info.model_name in made_by.names
        same = same and tuple((c.name, c.prompts) for c in info.classes) == made_by.words
        same = same and datetime.fromisoformat(store.created).timestamp() > made_by.changed
        if same and is_finished(store, slide, job.settings, job.region) and not store.damage():
            return Opened.of(store)
        store.close()
    return None


def _stores_of(slide: Slide, folder: Path) -> Iterator[MaskStore]:
    """Yield the stores of a slide open, the newest first; those that can't be read are left out."""
    from napari_plimseg.results import SUFFIX, MaskStore

    stores = sorted(
        (p for p in folder.glob(f"*{SUFFIX}") if p.name.startswith(slide.path.stem[:80])),
        key=_changed,
        reverse=True,
    )
    if not stores:
        return
    identities = {fingerprint(slide.path), *former_fingerprints(slide.path)}
    for path in stores:
        try:
            store = MaskStore.open(path)
        except PlimsegError:
            continue  # damaged, or of a newer version: a run creates a new one
        # a mask made at another pixel size is in another place
        same_frame = slide.mpp is None or store.info.mpp == slide.mpp
        if same_frame and store.info.slide_fingerprint in identities:
            yield store
        else:
            store.close()


def _changed(path: Path) -> float:
    journal = path / "journal.json"
    return journal.stat().st_mtime if journal.exists() else 0.0


def warm_up() -> Generator[None, None, None]:
    """Import modules that the first slide and the first mask need.

    It takes about a second, during which the window would not respond later. A generator, so
    that a closing window need not wait for all of them.
    """
    for name in _NEEDED_SOON:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
        yield None


def find_devices() -> list[str]:
    """Return the devices of this computer; imports torch, which takes seconds."""
    from napari_plimseg.inference import available_devices, load_torch_library

    load_torch_library()
    return available_devices()
