"""The engine: turns a slide and a model into a mask on disk, tile by tile."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg.errors import PlimsegError, SlideError, StoreError, is_out_of_memory
from napari_plimseg.files import user_data_dir
from napari_plimseg.inference.computation import chosen, note_of, prepare, started_on
from napari_plimseg.inference.devices import (
    ENGINE,
    available_devices,
    describe_device,
    pick_device,
)
from napari_plimseg.inference.plan import (
    Frame,
    RunSettings,
    TissueGate,
    check_slide,
    known_fingerprint,
    mask_info,
    named_store,
    other_slide,
    recipe,
)
from napari_plimseg.inference.progress import Progress, ProgressCounter
from napari_plimseg.inference.unlike import checked_windows, unlike
from napari_plimseg.results import Computation, MaskStore, StoreLayout
from napari_plimseg.tiling import Window
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    import torch
    from numpy.typing import NDArray

    from napari_plimseg.inference.plan import RunRegion
    from napari_plimseg.models import DenseModel
    from napari_plimseg.slides import Slide
    from napari_plimseg.tiling import TileGrid, TileIndex


@dataclass(frozen=True)
class TileWriter:
    """Turns a tile's probabilities into classes and confidence, and stores them.

    Pixels without tissue become background; pixels outside a clipping region are unchanged.
    """

    store: MaskStore
    grid: TileGrid
    gate: TissueGate
    region: RunRegion | None

    def state(self, tile: TileIndex) -> str | None:
        """Return the stored state of a tile for this region; None when it is to be computed."""
        return self.store.state(tile, self.region.key if self.region else None)

    def write(self, tile: TileIndex, probabilities: NDArray[np.uint8]) -> None:
        """Write a tile from uint8 probabilities (C, h, w), 255 = 1."""
        window = self.grid.mask_window(tile)
        # Classes come from the rounded values, so that the mask always agrees with the stored
        # probabilities; ties go to the earlier class.
        probabilities = probabilities[:, : window.height, : window.width]
        classes = probabilities.argmax(0).astype(np.uint8)
        confidence = np.take_along_axis(probabilities, classes[None], 0)[0]
        classes += 1
        outside = ~self.gate.window(window)
        background = self.store.info.classes.background_id
        classes[outside] = background or NOT_COMPUTED
        confidence[outside] = 255 if background else 0
        probabilities = probabilities.copy()
        probabilities[:, outside] = 0
        if background:
            probabilities[background - 1, outside] = 255
        self._store(tile, window, classes, confidence, probabilities)

    def write_empty(self, tile: TileIndex) -> None:
        """Write a tile that holds no tissue."""
        window = self.grid.mask_window(tile)
        shape = (len(self.store.info.classes), window.height, window.width)
        self.write(tile, np.zeros(shape, np.uint8))

    def write_unreadable(self, tile: TileIndex) -> None:
        """Write a tile that could not be read: its own mask id, never a class."""
        window = self.grid.mask_window(tile)
        shape = (window.height, window.width)
        classes = np.full(shape, UNREADABLE, np.uint8)
        zeros = np.zeros((len(self.store.info.classes), *shape), np.uint8)
        self._store(tile, window, classes, zeros[0], zeros, unreadable=True)

    def _store(
        self,
        tile: TileIndex,
        window: Window,
        classes: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        probabilities: NDArray[np.uint8],
        *,
        unreadable: bool = False,
    ) -> None:
        arguments: dict[str, Any] = {"state": "unreadable" if unreadable else "done"}
        region, downsample = self.region, self.store.info.downsample
        if region is not None and region.clip and not region.covers(window, downsample):
            arguments["inside"] = region.inside(window, downsample)
            arguments["region_key"] = region.key
            arguments["state"] = "partial"
        self.store.write_tile(
            tile,
            window,
            classes,
            confidence,
            probabilities if self.store.layout.has_probabilities else None,
            **arguments,
        )


__all__ = [
    "Progress",
    "RunSettings",
    "available_devices",
    "open_store",
    "pick_device",
    "segment_slide",
    "warm_up",
]

UNREADABLE_LIMIT = 0.01
"""Part of unreadable tiles at which a run stops; one is always allowed. A damaged block should not
cost the whole slide, but a mask with many holes would be misleading."""
_GPU_BATCH_PIXELS = 16_000_000


def open_store(
    slide: Slide,
    model: DenseModel,
    path: str | Path | None = None,
    *,
    settings: RunSettings | None = None,
    overwrite: bool = False,
) -> MaskStore:
    """Open the store of a slide, a model and settings for writing; create it when there is none.

    Parameters
    ----------
    slide, model, settings
        What determines the mask.
    path : str or Path, optional
        The store's folder; by default one in the user's data folder, named by a digest of slide,
        model and settings, so that a run never opens the store of another one.
    overwrite : bool
        Start from scratch and delete an existing store of this slide.

    Returns
    -------
    MaskStore
        With all tiles finished earlier, except damaged ones, which are computed again.

    Raises
    ------
    StoreError
        When the folder holds the result of another slide; or of another model or setting, and
        `overwrite` is not set.
    """
    settings = settings or RunSettings()
    check_slide(slide)
    frame = Frame.of(slide, model)
    digest = recipe(slide, model.identity, settings)
    if path is None:
        path = named_store(user_data_dir() / "results", slide, model, settings)
    info = mask_info(slide, model, frame, known_fingerprint(slide, Path(path).parent))
    other = other_slide(Path(path), slide)
    if other:
        raise StoreError(
            f"holds the result of another slide, {other}",
            path=path,
            remedy="Choose another folder.",
        )
    if not overwrite:
        try:
            store = MaskStore.open(path, writable=True)
        except StoreError:
            if _holds_something(Path(path)):
                raise
        else:
            if store.layout.recipe == digest:
                store.forget_damaged()
                if store.info.classes != info.classes:
                    store.describe(replace(store.info, classes=info.classes))
                return store
            store.close()
            raise StoreError(
                "holds the result of another model or setting",
                path=path,
                remedy="Choose another folder, or overwrite it (resume=False, --no-resume).",
            )
    grid = frame.grid(model, settings.tile_size)
    layout = StoreLayout(
        tile_shape=grid.mask_tile_shape,
        tile_size=settings.tile_size,
        has_probabilities=settings.probabilities,
        recipe=digest,
    )
    return MaskStore.create(path, info, layout)


def _holds_something(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def is_finished(
    store: MaskStore, slide: Slide, settings: RunSettings, region: RunRegion | None = None
) -> bool:
    """Whether a store holds a part of its slide as its model and these settings make it.

    The model is not needed. Tiles that could not be read are not finished.
    """
    if store.layout.recipe != recipe(slide, store.info.model_identity, settings):
        return False
    height, width = store.info.shape
    tile_height, tile_width = store.layout.tile_shape
    key = region.key if region else None
    for row, y in enumerate(range(0, height, tile_height)):
        for column, x in enumerate(range(0, width, tile_width)):
            window = Window(y, x, min(tile_height, height - y), min(tile_width, width - x))
            wanted = region is None or region.touches(window, store.info.downsample)
            if wanted and store.state((row, column), key) not in ("done", "partial"):
                return False
    return True


def segment_slide(
    slide: Slide,
    model: DenseModel,
    store: MaskStore,
    *,
    region: RunRegion | None = None,
    focus: tuple[float, float] | None = None,
    settings: RunSettings | None = None,
    recompute: bool = False,
) -> Generator[Progress, None, None]:
    """Segment a slide into its store and yield the progress after every tile.

    The mask depends only on slide, model and tissue settings: not on tile size, batch size, order,
    device or region. Closing the generator stops the run; finished tiles are kept, and a later run
    resumes there.

    Parameters
    ----------
    slide : Slide
        Opened; read by several threads.
    model : DenseModel
        Moved to the device of the settings.
    store : MaskStore
        From `open_store`, writable.
    region : RunRegion, optional
        The whole slide when None.
    focus : tuple of float, optional
        Level-0 (y, x) of the center of interest: tiles near it come first.
    settings : RunSettings, optional
        How to run.
    recompute : bool
        Whether tiles that are done are computed again; until then they stay.

    Yields
    ------
    Progress
        First while tissue is found, then after every tile, last when everything is done.

    Raises
    ------
    SlideError
        When more than 1 % of the tiles can't be read.
    StoreError
        When the disk is full or fails, or an early version began the mask of a slide with black
        parts that were not scanned, whose tissue was another one.
    """
    import torch

    settings = settings or RunSettings()
    check_slide(slide)
    device = pick_device(settings.device)
    if settings.threads and device.type == "cpu":
        torch.set_num_threads(settings.threads)
    frame = Frame.of(slide, model)
    grid = frame.grid(model, store.layout.tile_size)
    counter = ProgressCounter(describe_device(device), _first_batch_size(settings, device, grid))
    yield counter.progress()

    gate = TissueGate.of(slide, settings, store.info.downsample)
    work = TileWriter(store, grid, gate, region)
    wanted = [t for t in grid if region is None or region.touches(grid.core(t), frame.downsample)]
    with_tissue = [tile for tile in wanted if gate.window(grid.mask_window(tile)).any()]
    empty = set(wanted).difference(with_tissue)
    to_do = [tile for tile in with_tissue if recompute or work.state(tile) in (None, "unreadable")]
    counter.total = len(with_tissue)
    counter.done = counter.resumed = len(with_tissue) - len(to_do)
    counter.message = "Segmenting"
    yield counter.progress()

    if gate.has_fill and not store.info.fill and (to_do or empty):
        if not recompute and any(store.state(tile) for tile in grid):
            raise StoreError(
                "its finished part took black, unscanned parts of the slide for tissue, as an "
                "early version did",
                path=store.path,
                remedy="Compute all of it again: with --no-resume, or after deleting this result "
                "under Results in the PLIMSeg dock.",
            )
        store.describe(replace(store.info, fill="white"))
    if to_do:
        model = model.adapted_to(gate.pixels(slide)).to(device)
        # torch computed the finished part of an early version's mask
        begun = store.info.computation or (Computation() if _is_begun(work) else None)
        if begun is not None:
            computation = begun
            model, counter.note = started_on(model, begun, device)
        else:
            windows = partial(checked_windows, slide, frame, gate)
            model, computation = chosen(model, windows, settings.precision, device)
            counter.note = note_of(computation, settings.precision)
        counter.device += f", {computation}"
        info = replace(
            store.info, unlike=unlike(slide, model, frame, gate), computation=computation
        )
        if info != store.info:
            store.describe(info)
        yield counter.progress()  # said before the first tile is computed
        at = None if focus is None else (focus[0] / frame.downsample, focus[1] / frame.downsample)
        counter.first_tile = time.monotonic()
        yield from _run(slide, model, frame, work, grid.ordered(to_do, at), counter, settings)
    # empty glass comes last: nobody waits for it
    for tile in sorted(empty):
        if work.state(tile) is None:
            work.write_empty(tile)
            yield counter.progress(grid.mask_window(tile))
    store.flush()
    counter.message = "Finished"
    yield counter.progress()


def warm_up(model: DenseModel, settings: RunSettings) -> None:
    """Prepare what a run on a CPU would prepare first; nothing happens while the engine is in use.

    What fails here fails, or is done without, in the run, which says so.
    """
    import torch

    device = pick_device(settings.device)
    if ENGINE.owner or device.type != "cpu":
        return
    if settings.threads:
        torch.set_num_threads(settings.threads)
    prepare(model, settings.precision)


def _is_begun(work: TileWriter) -> bool:
    """Whether any tile with tissue was computed before."""
    return any(
        work.store.state(tile) and work.gate.window(work.grid.mask_window(tile)).any()
        for tile in work.grid
    )


def _run(
    slide: Slide,
    model: DenseModel,
    frame: Frame,
    work: TileWriter,
    tiles: list[TileIndex],
    counter: ProgressCounter,
    settings: RunSettings,
) -> Iterator[Progress]:
    """Prefetch, predict in batches, write in the background; yield after every written tile."""
    device = pick_device(settings.device)
    allowed = max(1, int(UNREADABLE_LIMIT * counter.total))

    def read(tile: TileIndex) -> NDArray[np.uint8]:
        window = work.grid.input(tile)
        return work.gate.read_around(slide, frame, window, model.halo + model.alignment)

    readers = ThreadPoolExecutor(settings.readers, thread_name_prefix="plimseg-read")
    writer = ThreadPoolExecutor(1, thread_name_prefix="plimseg-write")
    try:
        reads: deque[tuple[TileIndex, Future[NDArray[np.uint8]]]] = deque()
        writes: deque[tuple[TileIndex, Future[None]]] = deque()
        coming = iter(tiles)
        batch: list[tuple[TileIndex, NDArray[np.uint8]]] = []
        again: deque[TileIndex] = deque()  # for which there was no memory
        while True:
            alone = bool(again) and not (reads or batch or writes)
            if alone:
                tile = again.popleft()
                reads.append((tile, readers.submit(read, tile)))
            # few tiles in flight: enough to keep readers and model busy, and memory bounded
            while not (again or alone) and len(reads) < counter.batch_size + settings.readers:
                following = next(coming, None)
                if following is None:
                    break
                reads.append((following, readers.submit(read, following)))
            if reads:
                tile, image = reads.popleft()
                try:
                    batch.append((tile, image.result()))
                except Exception as error:
                    if is_out_of_memory(error):
                        if alone:
                            raise _too_large("this computer") from error
                        counter.shrink()
                        again.append(tile)
                        continue
                    if not isinstance(error, SlideError):
                        raise
                    counter.unreadable += 1
                    if counter.unreadable > allowed:
                        raise _too_many_unreadable(slide, counter, error) from error
                    writes.append((tile, writer.submit(work.write_unreadable, tile)))
            if batch and (len(batch) >= counter.batch_size or not reads):
                for at, result in _predicted(model, device, batch, work.grid.halo, counter):
                    writes.append((at, writer.submit(work.write, at, result)))
                batch = []
            finished = not (reads or batch or again or alone)
            # a prediction may take seconds, so a single tile is reported before the next one
            while writes and (finished or again or len(writes) >= counter.batch_size):
                tile, written = writes.popleft()
                try:
                    written.result()
                except MemoryError as error:
                    raise _too_large("this computer") from error
                counter.done += 1
                yield counter.progress(work.grid.mask_window(tile))
            if finished:
                break
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=False)
        work.store.flush()
        if device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


def _too_large(device: str) -> PlimsegError:
    return PlimsegError(
        f"one tile does not fit into the memory of {device}",
        remedy="Choose a smaller tile size or the CPU. What was segmented is kept.",
    )


def _too_many_unreadable(slide: Slide, counter: ProgressCounter, last: SlideError) -> SlideError:
    return SlideError(
        f"{counter.unreadable} of {counter.total} tiles can't be read; the last: {last.problem}",
        path=slide.path,
        remedy="Copy the slide again from the scanner. What was segmented is kept.",
    )


def _predicted(
    model: DenseModel,
    device: torch.device,
    batch: list[tuple[TileIndex, NDArray[np.uint8]]],
    halo: int,
    counter: ProgressCounter,
) -> Iterable[tuple[TileIndex, NDArray[np.uint8]]]:
    """Yield uint8 probabilities (C, h, w) of each tile; batches shrink when memory runs out."""
    start = 0
    while start < len(batch):
        part = batch[start : start + counter.batch_size]
        try:
            images = np.stack([image for _, image in part])  # (B, H, W, 3)
            probabilities = _probabilities(model, device, images, halo)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            probabilities = None
        if (
            probabilities is None
        ):  # outside the except block, where the failed tensors are already freed
            if counter.batch_size == 1:
                raise _too_large(counter.device)
            counter.shrink()
            if device.type == "cuda":
                import torch

                torch.cuda.empty_cache()
            continue
        yield from zip((tile for tile, _ in part), probabilities, strict=True)
        start += len(part)


def _probabilities(
    model: DenseModel, device: torch.device, images: NDArray[np.uint8], halo: int
) -> NDArray[np.uint8]:
    import torch

    with torch.inference_mode():
        maps = model.probabilities(torch.from_numpy(images).to(device))  # (B, C, H/s, W/s)
        trim = halo // model.mask_stride
        height, width = maps.shape[-2:]
        core = maps[..., trim : height - trim, trim : width - trim]
        quantized = core.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        result: NDArray[np.uint8] = quantized.cpu().numpy()
        return result


def _first_batch_size(settings: RunSettings, device: torch.device, grid: TileGrid) -> int:
    if settings.batch_size:
        return settings.batch_size
    if device.type == "cpu":
        return 1
    height, width = grid.tile_shape
    return max(1, _GPU_BATCH_PIXELS // ((height + 2 * grid.halo) * (width + 2 * grid.halo)))
