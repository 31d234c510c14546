from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_plimseg.errors import (
    ConfigError,
    DamagedStoreError,
    PlimsegError,
    SlideError,
    StoreError,
)
from napari_plimseg.inference.engine import RunSettings, open_store, segment_slide
from napari_plimseg.inference.plan import RunRegion
from napari_plimseg.results.mask_store import MaskStore
from napari_plimseg.slides.slide import Region
from napari_plimseg.slides.tissue_mask import TissueMaskSettings
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE
from tests.support.models import ArraySlide, ColorModel, painted

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EVERYWHERE: dict[str, Any] = {"tissue": None}


def run(
    slide: ArraySlide, folder: Path, *, model: ColorModel | None = None, **settings: Any
) -> MaskStore:
    region, focus = settings.pop("region", None), settings.pop("focus", None)
    model = model or ColorModel()
    chosen = RunSettings(**{**EVERYWHERE, **settings})
    store = open_store(slide, model, folder, settings=chosen)
    for _ in segment_slide(slide, model, store, region=region, focus=focus, settings=chosen):
        pass
    store.close()
    return store


def arrays(store: MaskStore) -> tuple[NDArray[np.uint8], ...]:
    every = tuple(slice(0, side) for side in store.info.shape)
    return (
        store.read_classes(),
        store.read("confidence", *every),
        store.read("probabilities", *every),
    )


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> ArraySlide:
    return ArraySlide(tmp_path_factory.mktemp("slide") / "discs.svs", painted(1203, 1581))


@pytest.fixture(scope="module")
def reference(slide: ArraySlide, tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return run(slide, tmp_path_factory.mktemp("reference") / "r.plimseg", tile_size=512)


@pytest.mark.parametrize(
    "settings",
    [
        {"tile_size": 256},
        {"tile_size": 1024},
        {"tile_size": 2048},
        {"tile_size": 256, "batch_size": 5, "readers": 4},
        {"tile_size": 256, "focus": (900.0, 200.0), "batch_size": 3},
    ],
    ids=str,
)
def test_the_mask_does_not_depend_on_tiling_batches_or_order(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path, settings: dict[str, Any]
) -> None:
    store = run(slide, tmp_path / "x.plimseg", **settings)
    assert store.done_fraction == 1
    for got, expected in zip(arrays(store), arrays(reference), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_every_class_is_where_the_colours_are(slide: ArraySlide, reference: MaskStore) -> None:
    mask, confidence, _ = arrays(reference)
    centre = slide.pixels[2::4, 2::4].astype(int)[: mask.shape[0], : mask.shape[1]]
    mask, confidence = mask[: centre.shape[0]], confidence[: centre.shape[0]]
    mask, confidence = mask[:, : centre.shape[1]], confidence[:, : centre.shape[1]]
    sure = confidence > 240
    assert sure.mean() > 0.5
    is_red = (centre[..., 0] > centre[..., 1]) & (centre[..., 2] < 200)
    is_green = (centre[..., 1] > centre[..., 0]) & (centre[..., 2] < 200)
    assert (mask[sure & is_red] == 1).mean() > 0.98
    assert (mask[sure & is_green] == 2).mean() > 0.98
    assert (mask[sure & ~is_red & ~is_green] == 3).mean() > 0.98


def test_black_that_was_not_scanned_gives_the_mask_of_white(tmp_path: Path) -> None:
    masks = []
    for color in (255, 0):
        pixels = np.full((1200, 1600, 3), color, np.uint8)
        pixels[:600, :700] = (200, 120, 160)
        one = ArraySlide(tmp_path / f"{color}.svs", pixels)
        found = run(one, tmp_path / f"{color}.plimseg", tissue=TissueMaskSettings(), tile_size=256)
        masks.append(found.read_classes())
    white, black = masks
    assert 0.15 < (white == 1).mean() < 0.3
    assert (white != black).mean() < 0.001


def test_a_mask_begun_with_black_fill_as_tissue_is_not_continued(tmp_path: Path) -> None:
    pixels = np.zeros((1200, 1600, 3), np.uint8)
    pixels[:600, :1400] = (200, 120, 160)
    one, folder = ArraySlide(tmp_path / "a.svs", pixels), tmp_path / "a.plimseg"
    options = {"tissue": TissueMaskSettings(), "tile_size": 256}
    corner = RunRegion.rectangle(Region(0, 0, 300, 300))
    with run(one, folder, region=corner, **options) as store:
        assert store.info.fill == "white"
    run(one, folder, **options)  # continued
    store = open_store(one, ColorModel(), folder, settings=RunSettings(**options), overwrite=True)
    store.close()
    run(one, folder, region=corner, **options)
    settings = RunSettings(**{**EVERYWHERE, **options})
    with open_store(one, ColorModel(), folder, settings=settings) as store:
        store.describe(replace(store.info, fill=""))  # as an early version left it
    with pytest.raises(StoreError, match=r"took black, unscanned parts.*--no-resume"):
        run(one, folder, **options)
    store = open_store(one, ColorModel(), folder, settings=settings)
    for _ in segment_slide(one, ColorModel(), store, settings=settings, recompute=True):
        pass
    store.close()
    with MaskStore.open(folder) as store:
        assert store.info.fill == "white"


def test_a_region_gives_the_same_pixels_as_the_whole(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    triangle = np.array([[100.0, 200.0], [1100.0, 300.0], [500.0, 1500.0]])
    region = RunRegion.polygons([triangle])
    store = run(slide, tmp_path / "x.plimseg", region=region, tile_size=256)
    whole, part = reference.read_classes(), store.read_classes()
    inside = part != NOT_COMPUTED
    np.testing.assert_array_equal(part[inside], whole[inside])
    area = 0.5 * abs((1000 * 1300) - (400 * 100))
    assert inside.sum() * 16 == pytest.approx(area, rel=0.01)
    assert store.done_fraction < 1


def test_a_view_writes_whole_tiles_and_the_rest_follows_without_doing_them_again(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    path = tmp_path / "x.plimseg"
    view = RunRegion.rectangle(Region(300, 300, 100, 100))
    store = run(slide, path, region=view, tile_size=256)
    assert store.done_fraction == pytest.approx(1 / store.tile_count)
    model = ColorModel()
    store = run(slide, path, model=model, tile_size=256)
    assert sum(model.calls) == store.tile_count - 1
    np.testing.assert_array_equal(store.read_classes(), reference.read_classes())


def test_two_overlapping_shapes_then_the_whole(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    path = tmp_path / "x.plimseg"
    for y in (100.0, 300.0):
        box = np.array([[y, 100.0], [y, 700.0], [y + 333, 700.0], [y + 333, 100.0]])
        store = run(slide, path, region=RunRegion.polygons([box]), tile_size=256)
    assert (store.read_classes() != 0).sum() == pytest.approx(533 * 600 / 16, rel=0.02)
    store = run(slide, path, tile_size=256)
    for got, expected in zip(arrays(store), arrays(reference), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_stopped_run_goes_on_and_ends_byte_for_byte_the_same(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    settings = RunSettings(tile_size=256, tissue=None)
    for stop_after in (1, 5, 9):
        store = open_store(slide, ColorModel(), tmp_path / "x.plimseg", settings=settings)
        running = segment_slide(slide, ColorModel(), store, settings=settings)
        for progress in running:
            if progress.tiles_done >= stop_after:
                running.close()
                break
        store.close()
        assert 0 < store.done_fraction < 1
    model = ColorModel()
    store = run(slide, tmp_path / "x.plimseg", model=model, tile_size=256)
    assert sum(model.calls) <= store.tile_count - 9
    for got, expected in zip(arrays(store), arrays(reference), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_finished_store_opens_without_the_model_running(
    slide: ArraySlide, tmp_path: Path
) -> None:
    run(slide, tmp_path / "x.plimseg")
    model = ColorModel()
    store = run(slide, tmp_path / "x.plimseg", model=model)
    assert model.calls == []
    assert store.done_fraction == 1


def test_progress_counts_up_and_ends(slide: ArraySlide, tmp_path: Path) -> None:
    settings = RunSettings(tile_size=256, tissue=None)
    store = open_store(slide, ColorModel(), tmp_path / "x.plimseg", settings=settings)
    seen = list(segment_slide(slide, ColorModel(), store, settings=settings))
    store.close()
    done = [p.tiles_done for p in seen]
    assert done == sorted(done)
    assert seen[-1].tiles_done == seen[-1].tiles_total == store.tile_count
    assert seen[0].message == "Finding tissue"
    assert seen[-1].message == "Finished"
    windows = [p.window for p in seen if p.window is not None]
    assert len(set(windows)) == store.tile_count
    middle = seen[len(seen) // 2]
    assert middle.seconds_left is not None
    assert middle.seconds_left > 0
    assert middle.tiles_per_second > 0
    assert middle.device.startswith("CPU")


def test_a_tile_is_told_of_before_the_next_one_is_predicted(
    slide: ArraySlide, tmp_path: Path
) -> None:
    settings = RunSettings(tile_size=256, tissue=None, batch_size=1)
    model = ColorModel()
    store = open_store(slide, model, tmp_path / "x.plimseg", settings=settings)
    for progress in segment_slide(slide, model, store, settings=settings):
        assert progress.tiles_done == len(model.calls)
    assert progress.tiles_done == store.tile_count
    store.close()


def test_the_focus_comes_first(slide: ArraySlide, tmp_path: Path) -> None:
    settings = RunSettings(tile_size=256, tissue=None, readers=1)
    store = open_store(slide, ColorModel(), tmp_path / "x.plimseg", settings=settings)
    running = segment_slide(slide, ColorModel(), store, focus=(1000, 1400), settings=settings)
    first = next(p.window for p in running if p.window is not None)
    running.close()
    store.close()
    assert (first.y, first.x) == (768 // 4, 1280 // 4)


def test_tiles_without_tissue_are_background_and_never_read(tmp_path: Path) -> None:
    pixels = np.full((2048, 2048, 3), 255, np.uint8)
    pixels[200:900, 200:900] = (190, 60, 120)
    slide = ArraySlide(tmp_path / "corner.svs", pixels)
    model = ColorModel()
    settings = RunSettings(tile_size=512)
    store = open_store(slide, model, tmp_path / "x.plimseg", settings=settings)
    last = list(segment_slide(slide, model, store, settings=settings))[-1]
    store.close()
    mask, confidence, _ = arrays(store)
    assert last.tiles_total == sum(model.calls) == 4
    assert store.done_fraction == 1
    assert (mask[300:, 300:] == 3).all()
    assert (confidence[300:, 300:] == 255).all()
    assert (mask[60:215, 60:215] == 1).all()
    assert model.adapted == 1


@pytest.mark.parametrize("largest", [1, 2, 3])
def test_when_memory_runs_out_batches_shrink_and_nothing_changes(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path, largest: int
) -> None:
    model = ColorModel(largest_batch=largest)
    settings = RunSettings(tile_size=256, batch_size=8, tissue=None)
    store = open_store(slide, model, tmp_path / "x.plimseg", settings=settings)
    seen = list(segment_slide(slide, model, store, settings=settings))
    store.close()
    assert seen[-1].batch_size == {1: 1, 2: 2, 3: 2}[largest]
    assert any("Out of memory" in p.message for p in seen)
    np.testing.assert_array_equal(store.read_classes(), reference.read_classes())


def test_damaged_tiles_are_computed_again_and_told(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    path = tmp_path / "x.plimseg"
    run(slide, path)
    with MaskStore.open(path) as store:
        confidence = sorted((path / "labels" / "confidence" / "0" / "c").rglob("*"))
        chunk = next(file for file in confidence if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(DamagedStoreError, match="of the confidence is damaged"):
        arrays(MaskStore.open(path))
    store = run(slide, path)
    assert len(store.dropped.damaged_tiles) == 1
    assert store.dropped.notice.startswith("Damaged parts are computed again: 1 of ")
    for found, expected in zip(arrays(store), arrays(reference), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not run(slide, path).dropped


def test_damaged_tiles_outside_the_area_of_a_run_are_told(
    slide: ArraySlide, tmp_path: Path
) -> None:
    path = tmp_path / "x.plimseg"
    run(slide, path, tile_size=256)
    for chunk in ("0/0", "3/3"):
        (path / "labels" / "classes" / "0" / "c" / chunk).unlink()
    corner = RunRegion.rectangle(Region(0, 0, 200, 200))
    store = run(slide, path, region=corner, tile_size=256)
    assert store.dropped.damaged_tiles == {(0, 0), (3, 3)}
    told = store.dropped.outcome(store.has)
    assert told.startswith("Damaged parts were computed again: 2 of ")
    assert told.endswith(
        "One of these tiles lies outside this area and is not computed yet: "
        "segment the whole slide."
    )
    assert store.state((3, 3)) is None


def test_a_lost_journal_computes_everything_again(
    slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    run(slide, tmp_path / "x.plimseg")
    (tmp_path / "x.plimseg" / "journal.json").unlink()
    store = run(slide, tmp_path / "x.plimseg")
    assert "journal is lost" in store.dropped.notice
    np.testing.assert_array_equal(store.read_classes(), reference.read_classes())
    assert not store.damage()


def test_a_single_tile_beyond_memory_is_an_error_with_a_remedy(
    slide: ArraySlide, tmp_path: Path
) -> None:
    with pytest.raises(PlimsegError, match="smaller tile size"):
        run(slide, tmp_path / "x.plimseg", model=ColorModel(largest_batch=0), batch_size=4)
    MaskStore.open(tmp_path / "x.plimseg", writable=True).close()


def test_one_unreadable_tile_gets_its_own_id_and_is_tried_again(tmp_path: Path) -> None:
    slide = ArraySlide(tmp_path / "hole.svs", painted(1024, 1024))
    slide.broken = [(300, 300, 310, 310)]
    store = run(slide, tmp_path / "x.plimseg", tile_size=256)
    mask, confidence, _ = arrays(store)
    assert (mask[64:128, 64:128] == UNREADABLE).all()
    assert (confidence[64:128, 64:128] == 0).all()
    assert (mask == UNREADABLE).sum() == 64 * 64
    assert store.unreadable_tiles == 1
    slide.broken = []
    store = run(slide, tmp_path / "x.plimseg", tile_size=256)
    assert (store.read_classes() != UNREADABLE).all()
    assert store.unreadable_tiles == 0


def test_many_unreadable_tiles_stop_the_run_and_keep_the_rest(tmp_path: Path) -> None:
    slide = ArraySlide(tmp_path / "torn.svs", painted(1024, 1024))
    slide.broken = [(600, 0, 1024, 1024)]
    with pytest.raises(SlideError, match=r"torn\.svs.*can't be read"):
        run(slide, tmp_path / "x.plimseg", tile_size=256)
    store = MaskStore.open(tmp_path / "x.plimseg")
    assert store.done_fraction > 0.2
    assert np.isin(store.read_classes()[:64], (1, 2, 3)).all()


def test_an_error_of_the_model_ends_the_run_and_keeps_the_rest(
    slide: ArraySlide, tmp_path: Path
) -> None:
    class Failing(ColorModel):
        def probabilities(self, images: Any) -> Any:
            if len(self.calls) == 4:
                raise ValueError("a bug in the model")
            return super().probabilities(images)

    with pytest.raises(ValueError, match="a bug"):
        run(slide, tmp_path / "x.plimseg", model=Failing(), tile_size=256)
    assert MaskStore.open(tmp_path / "x.plimseg").done_fraction > 0


def test_a_store_of_something_else_is_not_touched(slide: ArraySlide, tmp_path: Path) -> None:
    run(slide, tmp_path / "x.plimseg", tile_size=512)
    other = ColorModel()
    other.identity = "colours-2"
    with pytest.raises(StoreError, match="another model or setting"):
        open_store(slide, other, tmp_path / "x.plimseg", settings=RunSettings(tissue=None))
    second = ArraySlide(tmp_path / "other.svs", painted(1203, 1581, seed=1))
    with pytest.raises(StoreError, match=r"another slide, discs\.svs"):
        open_store(second, ColorModel(), tmp_path / "x.plimseg", settings=RunSettings(tissue=None))
    assert MaskStore.open(tmp_path / "x.plimseg").done_fraction == 1
    store = open_store(slide, other, tmp_path / "x.plimseg", overwrite=True)
    assert store.done_fraction == 0
    store.close()


def test_a_slide_without_pixel_size_asks_for_it(tmp_path: Path) -> None:
    slide = ArraySlide(tmp_path / "nompp.svs", painted(300, 300), mpp=None)
    with pytest.raises(SlideError, match=r"nompp\.svs.*pixel size is unknown"):
        open_store(slide, ColorModel(), tmp_path / "x.plimseg")
    slide.mpp = 0.25
    store = run(slide, tmp_path / "x.plimseg")
    assert store.info.mpp == 0.25
    assert store.info.downsample == 8
    assert store.info.shape == (38, 38)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (33, 31), (150, 150)], ids=str)
def test_tiny_pictures_work(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (190, 60, 120), np.uint8)
    store = run(ArraySlide(tmp_path / "tiny.png", pixels), tmp_path / "x.plimseg")
    assert store.info.shape == tuple(-(-side // 4) for side in shape)
    assert store.done_fraction == 1


@pytest.mark.parametrize(
    "wrong", [{"tile_size": 10_000}, {"readers": 0}, {"batch_size": -1}, {"threads": -2}], ids=str
)
def test_wrong_settings_name_themselves(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RunSettings(**wrong)


def test_an_unknown_device_lists_those_that_are_there(slide: ArraySlide, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Available: .*cpu"):
        run(slide, tmp_path / "x.plimseg", device="cuda:77")


@pytest.mark.parametrize("points", [[], [[0, 0], [1, 1]], [[0, 0], [5, 5], [9, 9]]], ids=str)
def test_a_region_without_area_is_refused(points: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="no area"):
        RunRegion.polygons([np.array(points, float).reshape(-1, 2)])


class ShortOfMemory(ArraySlide):
    """A slide of which some reads of the engine's threads fail for lack of memory."""

    def __init__(self, path: Path, pixels: NDArray[np.uint8], failing: set[int]) -> None:
        super().__init__(path, pixels)
        self.failing = failing
        self.counter = itertools.count()

    def _read_level(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        of_engine = threading.current_thread().name.startswith("plimseg-read")
        if of_engine and next(self.counter) in self.failing:
            raise MemoryError
        return super()._read_level(level, y, x, height, width)


@pytest.mark.parametrize("failing", [{2}, {0}, {3, 4, 5}, {1, 6, 12, 20}, {30}], ids=str)
def test_tiles_without_memory_are_read_again_and_never_unreadable(
    failing: set[int], slide: ArraySlide, reference: MaskStore, tmp_path: Path
) -> None:
    short = ShortOfMemory(tmp_path / "discs.svs", slide.pixels, failing)
    settings = RunSettings(tile_size=256, batch_size=4, readers=3, tissue=None)
    store = open_store(short, ColorModel(), tmp_path / "x.plimseg", settings=settings)
    seen = list(segment_slide(short, ColorModel(), store, settings=settings))
    store.close()
    assert store.unreadable_tiles == 0
    assert any("Out of memory" in p.message for p in seen)
    assert seen[-1].tiles_done == seen[-1].tiles_total
    np.testing.assert_array_equal(store.read_classes(), reference.read_classes())


def test_a_tile_that_this_computer_can_not_read_is_an_error_with_a_remedy(
    slide: ArraySlide, tmp_path: Path
) -> None:
    short = ShortOfMemory(tmp_path / "discs.svs", slide.pixels, set(range(5, 1000)))
    with pytest.raises(PlimsegError, match=r"memory of this computer.*smaller tile size"):
        run(short, tmp_path / "x.plimseg", tile_size=256)
    assert MaskStore.open(tmp_path / "x.plimseg").done_fraction > 0


def test_a_write_without_memory_is_an_error_with_a_remedy(
    slide: ArraySlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(MaskStore, "write_tile", refuse)
    with pytest.raises(PlimsegError, match=r"memory of this computer.*smaller tile size"):
        run(slide, tmp_path / "x.plimseg", tile_size=256)
