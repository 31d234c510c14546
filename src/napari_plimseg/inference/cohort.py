"""A list of slides that are segmented one after another, with their states, saved on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
import time
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import filelock

from napari_plimseg.errors import (
    OUT_OF_MEMORY,
    ConfigError,
    PlimsegError,
    SlideError,
    StoreError,
    is_out_of_memory,
)
from napari_plimseg.fingerprints import fingerprint, former_fingerprints
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.inference.job import Notice, SlideDone, SlideOpened
from napari_plimseg.inference.names import distinct_stem
from napari_plimseg.inference.progress import Progress
from napari_plimseg.inference.slide_places import SlidePlaces
from napari_plimseg.results import disk_error, read_checked, write_checked
from napari_plimseg.slides import usable_mpp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg.inference.job import SegmentationJob


class ItemState(Enum):
    """State of a slide of a cohort."""

    WAITING = "waiting"
    NEEDS_MPP = "needs pixel size"
    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"


RUNNABLE = (ItemState.WAITING, ItemState.STOPPED)
"""The states that *Run all* runs."""


@dataclass(frozen=True)
class CohortItem:
    """A slide of a cohort.

    Parameters
    ----------
    path : Path
        The slide, absolute.
    stem : str
        Name of its results.
    state : ItemState
    mpp : float or None
        Pixel size that a person entered; None for the file's.
    area : float
        Level-0 pixels in millions, to weigh the progress of slides; 0 when unknown.
    fingerprint : str
        Identifies the content, to recognize copies; empty when it can't be read.
    tiles_done, tiles_total : int
        Of the last run.
    seconds : float
        Duration of the last run.
    problem : str
        Error message of a failure.
    store : str
        Name of its mask store in the results folder; empty before the first run.
    files : tuple of str
        Names of its exports in the results folder.
    worker : str
        Name of the worker that segments it; empty when this program does, and otherwise. It is not
        saved.
    """

    path: Path
    stem: str
    state: ItemState = ItemState.WAITING
    mpp: float | None = None
    area: float = 0.0
    fingerprint: str = ""
    tiles_done: int = 0
    tiles_total: int = 0
    seconds: float = 0.0
    problem: str = ""
    store: str = ""
    files: tuple[str, ...] = ()
    worker: str = ""

    def __post_init__(self) -> None:
        if not self.stem or Path(self.stem).name != self.stem:
            raise ConfigError(f"'{self.stem}' is not a name for results")
        if self.mpp is not None and usable_mpp(self.mpp) is None:
            raise ConfigError(f"{self.mpp} um/px is not a pixel size", path=self.path)
        for name in (self.store, *self.files):
            if Path(name).name != name:
                raise ConfigError(f"'{name}' is not in the results folder", path=self.path)

    @property
    def fraction(self) -> float:
        """Finished part, 0 to 1."""
        if self.state is ItemState.DONE:
            return 1.0
        return self.tiles_done / self.tiles_total if self.tiles_total else 0.0

    @property
    def state_text(self) -> str:
        """The state, for people."""
        text = f"{self.state.value} on {self.worker}" if self.worker else self.state.value
        if self.state in (ItemState.RUNNING, ItemState.STOPPED) and self.tiles_done:
            return f"{text}, {100 * self.fraction:.0f} %"
        return text

    def to_dict(self, place: str) -> dict[str, Any]:
        """Return plain data for JSON, with the slide's name and place instead of its path."""
        data = asdict(self)
        del data["path"], data["worker"]
        return {
            "slide": self.path.name,
            "place": place,
            **data,
            "state": self.state.value,
            "files": list(self.files),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], places: SlidePlaces) -> CohortItem:
        """Build from plain data; raises KeyError, TypeError, ValueError or ConfigError.

        A slide that was running when the program ended becomes stopped.
        """
        if "path" in data:  # format 1
            path = Path(str(data["path"]))
        else:
            path = places.path_of(str(data["place"]), str(data["slide"]))
        state = ItemState(data["state"])
        mpp = data["mpp"]
        return cls(
            path=path,
            stem=str(data["stem"]),
            state=ItemState.STOPPED if state is ItemState.RUNNING else state,
            mpp=None if mpp is None else float(mpp),
            area=float(data["area"]),
            fingerprint=str(data["fingerprint"]),
            tiles_done=int(data["tiles_done"]),
            tiles_total=int(data["tiles_total"]),
            seconds=float(data["seconds"]),
            problem=str(data["problem"]),
            store=str(data["store"]),
            files=tuple(str(name) for name in data["files"]),
        )


COHORT_FILE = "cohort.json"
FORMAT_VERSION = 2
THUMBNAIL_SIDE = 96
_SAVE_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Added:
    """The outcome of adding one file.

    Parameters
    ----------
    path : Path
    item : CohortItem or None
        None when it was refused.
    refusal : str
        The reason, as a sentence.
    thumbnail : ndarray of uint8, shape (h, w, 3), or None
    """

    path: Path
    item: CohortItem | None = None
    refusal: str = ""
    thumbnail: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class CohortStep:
    """An event of one slide of a run.

    Parameters
    ----------
    item : CohortItem
        Its current state.
    step : SlideOpened, Notice, Progress, SlideDone, PlimsegError or None
        The event of the slide's job; None when the slide starts.
    seconds_left : float or None
        Estimate for the whole run; None before the first progress.
    """

    item: CohortItem
    step: SlideOpened | Notice | Progress | SlideDone | PlimsegError | None
    seconds_left: float | None = None


class Cohort:
    """A list of slides with their states.

    Thread-safe. With a folder, every change is on disk before the call returns, and slides that
    were running when the program died are loaded as stopped.

    Parameters
    ----------
    folder : Path or None
        Where results go and `cohort.json` is kept; None keeps the list in memory only. The file
        holds no path: see `SlidePlaces`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.model = ""
        self.formats: tuple[str, ...] = ()
        self._items: dict[Path, CohortItem] = {}
        self._places = SlidePlaces(folder or Path())
        self._lock = threading.RLock()
        self._saved = 0.0
        self._file_lock: filelock.BaseFileLock | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open the list of a results folder, or create one; `close` releases it.

        Raises
        ------
        StoreError
            When the list is damaged, another program uses it, or the folder is read-only.
        """
        folder = Path(folder)
        self = cls(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(folder / ".cohort.lock", thread_local=False)
            lock.acquire(timeout=0)
        except (filelock.Timeout, OSError) as error:
            raise StoreError(
                "another program uses its list of slides, or the folder is read-only",
                path=folder,
                remedy="Close the other program, or choose another folder for the results.",
            ) from error
        self._file_lock = lock
        try:
            if (folder / COHORT_FILE).exists():
                self._load(read_checked(folder / COHORT_FILE, folder))
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            lock.release()
            raise _damaged(folder) from error
        except StoreError as error:
            lock.release()
            raise (_damaged(folder) if "damaged" in error.problem else error) from error
        return self

    def _load(self, content: dict[str, Any]) -> None:
        if int(content["format"]) > FORMAT_VERSION:
            raise StoreError(
                "its list of slides was written by a newer version",
                path=self.folder,
                remedy="Update napari-plimseg.",
            )
        self.model = str(content["model"])
        self.formats = tuple(str(name) for name in content["formats"])
        for data in content["items"]:
            item = CohortItem.from_dict(data, self._places)
            self._items[item.path] = item

    def close(self) -> None:
        """Release the list to other programs; closing twice is allowed."""
        if self._file_lock is not None:
            self._file_lock.release()
            self._file_lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def items(self) -> list[CohortItem]:
        """All slides, in the order of adding."""
        with self._lock:
            return list(self._items.values())

    def item(self, path: Path) -> CohortItem | None:
        """Return a slide of the list by its path."""
        with self._lock:
            return self._items.get(path)

    def count(self, *states: ItemState) -> int:
        """Return how many slides are in one of these states."""
        return sum(item.state in states for item in self.items)

    @property
    def fraction(self) -> float:
        """Finished part of all slides, 0 to 1, weighted by size."""
        items = self.items
        total = sum(_weight(item) for item in items)
        return sum(_weight(item) * item.fraction for item in items) / total if total else 0.0

    def choose(self, model: str, formats: tuple[str, ...]) -> None:
        """Save the model and the exports of the list; of a model file, only its name."""
        if Path(model).is_absolute():
            model = Path(model).name
        with self._lock:
            if (model, formats) != (self.model, self.formats):
                self.model, self.formats = model, formats
                self._save()

    def add(
        self,
        path: str | Path,
        *,
        mpp: float | None = None,
        stem: str | None = None,
        look: bool = True,
    ) -> Added:
        """Add a slide; refuse one that is in the list already or can't be opened.

        Parameters
        ----------
        path : str or Path
        mpp : float, optional
            Micrometers per level-0 pixel, where the file has none.
        stem : str, optional
            Name of its results; by default a unique one from its file name.
        look : bool
            Whether to open it now, for its size, pixel size and thumbnail. Otherwise nothing is
            known about it before it runs.
        """
        path = Path(path).absolute()
        if self.item(path) is not None:
            return Added(path, refusal=f"'{path.name}' is already in the list.")
        if self.folder is not None and not _is_text(path.name):
            # the list is a file in UTF-8
            return Added(path, refusal=f"'{path.name}' is not named in UTF-8. Rename the file.")
        item = CohortItem(path, stem or distinct_stem(path, set()), mpp=mpp)
        thumbnail = None
        if look:
            try:
                item, thumbnail = _look_at(item)
                digests = {item.fingerprint, *former_fingerprints(path)}
            except PlimsegError as error:
                return Added(path, refusal=str(error))
            same = next((i for i in self.items if i.fingerprint in digests), None)
            if same is not None:
                text = f"'{path.name}' is the same slide as '{same.path.name}', under another name."
                return Added(path, refusal=text)
        with self._lock:
            taken = {other.stem for other in self._items.values()}
            if stem is None:
                item = dataclasses.replace(item, stem=distinct_stem(path, taken))
            self._items[path] = item
            self._save()
        return Added(path, item, thumbnail=thumbnail)

    def remove(self, path: Path) -> None:
        """Remove a slide from the list, but not its results. A running slide stays."""
        with self._lock:
            item = self._items.get(path)
            if item is not None and item.state is not ItemState.RUNNING:
                del self._items[path]
                self._save()

    def set_mpp(self, path: Path, mpp: float) -> None:
        """Set the pixel size of a slide, which then waits to be run.

        Raises
        ------
        ConfigError
            When it is out of range.
        """
        if usable_mpp(mpp) is None:
            raise ConfigError(
                f"{mpp:g} um/px is not a pixel size", remedy="Scans have 0.05 to 20 um/px."
            )
        self._change(path, mpp=mpp, state=ItemState.WAITING, problem="", tiles_done=0)

    def retry(self, path: Path) -> None:
        """Put a failed, stopped or finished slide back in the queue."""
        item = self.item(path)
        if item is not None and item.state is not ItemState.RUNNING:
            self._change(path, state=ItemState.WAITING, problem="")

    def run(
        self, make_job: Callable[[], SegmentationJob], owner: str = "the batch"
    ) -> Generator[CohortStep, None, None]:
        """Segment every waiting or stopped slide, one after another.

        A failing slide is reported and skipped, but a full disk ends the run, since every other
        slide would fail as well. Slides added meanwhile are run too. Closing the generator stops
        the run: finished tiles are kept, and the next run resumes.

        Parameters
        ----------
        make_job : callable
            Called once, when the engine is free; returns a job whose model is loaded.
        owner : str
            Name of the run, for people.

        Raises
        ------
        PlimsegError
            When the engine is in use or the model can't be loaded.
        """
        with ENGINE.held_by(owner):
            job = make_job()
            begin, worked = time.monotonic(), 0.0
            tried: set[Path] = set()
            while (item := self.next_item(tried)) is not None:
                tried.add(item.path)
                with contextlib.closing(self._run_one(job, item)) as steps:
                    for step in steps:
                        now = self.item(item.path) or item
                        gained = worked + _weight(now) * max(0.0, now.fraction - item.fraction)
                        yield dataclasses.replace(
                            step, seconds_left=self.seconds_left(gained, time.monotonic() - begin)
                        )
                        if isinstance(step.step, PlimsegError) and is_disk_full(step.step):
                            return  # every other slide would fail too
                now = self.item(item.path) or item
                worked += _weight(now) * max(0.0, now.fraction - item.fraction)

    @property
    def weight_done(self) -> float:
        """Finished part of all slides, in millions of level-0 pixels where sizes are known."""
        return sum(_weight(item) * item.fraction for item in self.items)

    def seconds_left(self, gained: float, seconds: float) -> float | None:
        """Estimate how long the waiting and running slides will take.

        Parameters
        ----------
        gained : float
            What `weight_done` has grown by in this run.
        seconds : float
            Since the run began.
        """
        to_come = sum(
            _weight(item) * (1 - item.fraction)
            for item in self.items
            if item.state in (*RUNNABLE, ItemState.RUNNING)
        )
        return to_come * seconds / gained if gained > 0 else None

    def next_item(self, tried: Collection[Path]) -> CohortItem | None:
        """Return the first waiting or stopped slide that is not among those tried."""
        return next((i for i in self.items if i.state in RUNNABLE and i.path not in tried), None)

    def _run_one(self, job: SegmentationJob, item: CohortItem) -> Generator[CohortStep, None, None]:
        path, begin, mpp_known = item.path, time.monotonic(), True
        self.start(path)
        failure: PlimsegError | None = None
        try:
            yield CohortStep(self._now(item), None)
            with contextlib.closing(job.steps(path, item.stem, mpp=item.mpp)) as steps:
                for step in steps:
                    if isinstance(step, SlideOpened):
                        mpp_known = step.mpp_known
                    self.record(path, step, time.monotonic() - begin)
                    yield CohortStep(self._now(item), step)
        except PlimsegError as error:
            failure = error
            self.fail(path, str(error), mpp_known=mpp_known)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = PlimsegError(OUT_OF_MEMORY)  # the next slide may be smaller
            failure.__cause__ = error
            self.fail(path, OUT_OF_MEMORY)
        finally:
            # also when the generator is closed during the run, or on an unexpected error
            self.release(path)
        if failure is not None:
            yield CohortStep(self._now(item), failure)

    def start(self, path: Path, worker: str = "") -> None:
        """Note that a slide is being segmented, and by which worker."""
        self._change(path, state=ItemState.RUNNING, problem="", worker=worker)

    def record(
        self, path: Path, step: SlideOpened | Notice | Progress | SlideDone, seconds: float
    ) -> None:
        """Note an event of a running slide, `seconds` after its start."""
        if isinstance(step, Progress):
            late = time.monotonic() - self._saved >= _SAVE_SECONDS
            done, total = step.tiles_done, step.tiles_total
            self._change(path, save=late, tiles_done=done, tiles_total=total, seconds=seconds)
        elif isinstance(step, SlideDone):
            files = tuple(file.name for file in step.files)
            state, store = ItemState.DONE, step.store.name
            self._change(path, state=state, store=store, files=files, seconds=seconds, worker="")

    def fail(self, path: Path, problem: str, *, mpp_known: bool = True) -> None:
        """Note that a slide failed, or that its pixel size has to be entered."""
        state = ItemState.FAILED if mpp_known else ItemState.NEEDS_MPP
        self._change(path, state=state, problem=problem, worker="")

    def release(self, path: Path) -> None:
        """Note that a slide is not segmented any longer; it is stopped if it was running."""
        now = self.item(path)
        if now is not None and now.state is ItemState.RUNNING:
            self._change(path, state=ItemState.STOPPED, worker="")

    def _now(self, item: CohortItem) -> CohortItem:
        return self.item(item.path) or item

    def _change(self, path: Path, *, save: bool = True, **changes: Any) -> None:
        with self._lock:
            item = self._items.get(path)
            if item is not None:
                self._items[path] = dataclasses.replace(item, **changes)
                if save:
                    self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.folder is None:
            return
        try:
            content = {
                "format": FORMAT_VERSION,
                "model": self.model,
                "formats": list(self.formats),
                "items": [i.to_dict(self._places.place_of(i.path)) for i in self._items.values()],
            }
            write_checked(self.folder / COHORT_FILE, content)
        except OSError as error:
            raise disk_error(error, self.folder) from error


def thumbnail_of(path: Path) -> NDArray[np.uint8] | None:
    """Return a small picture (h, w, 3) of a slide, None when it can't be read."""
    from napari_plimseg.slides import open_slide

    try:
        with open_slide(path) as slide:
            return slide.thumbnail(THUMBNAIL_SIDE)
    except PlimsegError:
        return None


def _look_at(item: CohortItem) -> tuple[CohortItem, NDArray[np.uint8] | None]:
    from napari_plimseg.slides import open_slide

    with open_slide(item.path) as slide:
        height, width = slide.shape
        known = slide.mpp is not None or item.mpp is not None
        try:
            thumbnail = slide.thumbnail(THUMBNAIL_SIDE)
        except SlideError:
            thumbnail = None  # the run will report what is wrong
        return dataclasses.replace(
            item,
            area=height * width / 1e6,
            fingerprint=fingerprint(item.path),
            state=ItemState.WAITING if known else ItemState.NEEDS_MPP,
        ), thumbnail


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_disk_full(error: PlimsegError) -> bool:
    """Whether a slide failed because a disk is full, so that every other one would fail too."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _weight(item: CohortItem) -> float:
    return max(item.area, 1e-3)


def _damaged(folder: Path) -> StoreError:
    return StoreError(
        f"its list of slides ({COHORT_FILE}) is damaged",
        path=folder,
        remedy=f"Rename {COHORT_FILE} and add the slides again: finished results are reused.",
    )
