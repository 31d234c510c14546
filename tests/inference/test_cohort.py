"""Many slides: states, what survives, what is skipped."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import ConfigError, PlimsegError, SlideError, StoreError
from napari_plimseg.inference.cohort import (
    COHORT_FILE,
    Cohort,
    CohortItem,
    ItemState,
    distinct_stem,
)
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.inference.job import SegmentationJob, SlideDone
from napari_plimseg.inference.plan import RunSettings
from napari_plimseg.inference.progress import Progress
from napari_plimseg.results.mask_store import MaskStore, disk_error, write_checked
from napari_plimseg.slides.opening import slides_in
from tests.support.models import ColorModel, painted

if TYPE_CHECKING:
    from collections.abc import Callable


def picture(folder: Path, name: str, seed: int = 0, side: int = 300) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(painted(side, side + 40, seed)).save(folder / name)
    return folder / name


def run_of(folder: Path, **changes: Any) -> SegmentationJob:
    settings = RunSettings(tile_size=128, probabilities=False, tissue=None, device="cpu")
    return SegmentationJob(ColorModel(), settings=settings, folder=folder, **changes)


def added(cohort: Cohort, path: Path, **more: Any) -> CohortItem:
    item = cohort.add(path, mpp=0.5, **more).item
    assert item is not None
    return item


def states(cohort: Cohort) -> list[ItemState]:
    return [item.state for item in cohort.items]


def test_slides_are_run_one_after_another_and_exported(tmp_path: Path) -> None:
    out = tmp_path / "results"
    with Cohort.open(out) as cohort:
        for seed, name in enumerate(("a.png", "b.png")):
            added(cohort, picture(tmp_path, name, seed))
        steps = list(cohort.run(lambda: run_of(out, formats=("csv",))))
        assert states(cohort) == [ItemState.DONE] * 2
        assert cohort.fraction == 1
    done = [told.step for told in steps if isinstance(told.step, SlideDone)]
    assert [d.info.slide_name for d in done] == ["a.png", "b.png"]
    assert sorted(p.name for p in out.glob("*.csv")) == ["a.areas.csv", "b.areas.csv"]
    item = cohort.items[0]
    assert item.files == ("a.areas.csv",)
    assert MaskStore.open(out / item.store).done_fraction == 1
    assert any(told.seconds_left is not None for told in steps)
    assert steps[-1].seconds_left == 0


@pytest.mark.parametrize("digest_names", [True, False])
def test_a_list_keeps_the_results_of_another_list(digest_names: bool, tmp_path: Path) -> None:
    out = tmp_path / "results"
    found = []
    for seed, folder in enumerate(("p1", "p2", "p1")):
        slide = picture(tmp_path / folder, "x.png", seed % 2)
        with Cohort.open(out) as cohort:
            added(cohort, slide)
            job = run_of(out, formats=("csv",), digest_names=digest_names)
            found += [t.step for t in cohort.run(lambda job=job: job) if hasattr(t.step, "files")]
            cohort.remove(slide.absolute())
    assert [len({d.files[0] for d in found}), len({d.store for d in found})] == [2, 2]
    first, second, again = (d.files[0].read_text() for d in found)
    assert first == again != second


def test_the_list_is_there_after_the_program_died(tmp_path: Path) -> None:
    out = tmp_path / "results"
    cohort = Cohort.open(out)
    cohort.choose("glands", ("csv",))
    paths = [picture(tmp_path, f"{n}.png", seed) for seed, n in enumerate("abc")]
    for path in paths:
        added(cohort, path)
    steps = cohort.run(lambda: run_of(out))
    for told in steps:
        if told.item.path == paths[1] and isinstance(told.step, Progress) and told.step.tiles_done:
            break
    on_disk = json.loads((out / COHORT_FILE).read_text("utf-8"))["content"]
    assert [item["state"] for item in on_disk["items"]] == ["done", "running", "waiting"]
    # the next line is what the system does for a process that was killed
    cohort.close()
    with Cohort.open(out) as again:
        assert (again.model, again.formats) == ("glands", ("csv",))
        assert states(again) == [ItemState.DONE, ItemState.STOPPED, ItemState.WAITING]
    steps.close()


def test_closing_the_run_stops_it_and_the_next_one_does_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "results"
    with Cohort.open(out) as cohort:
        item = added(cohort, picture(tmp_path, "a.png", side=700))
        first = run_of(out)
        with contextlib.closing(cohort.run(lambda: first)) as steps:
            for told in steps:
                if isinstance(told.step, Progress) and told.step.tiles_done >= 3:
                    break
        assert states(cohort) == [ItemState.STOPPED]
        assert "stopped" in cohort.items[0].state_text
        assert not ENGINE.owner
        again = run_of(out)
        list(cohort.run(lambda: again))
        assert states(cohort) == [ItemState.DONE]
        total = cohort.items[0].tiles_total
        assert len(again.model.calls) <= total - 3  # type: ignore[attr-defined]
    straight = tmp_path / "straight"
    with Cohort.open(straight) as other:
        other.add(item.path, mpp=0.5)
        list(other.run(lambda: run_of(straight)))
    np.testing.assert_array_equal(
        MaskStore.open(out / "a.plimseg").read_classes(),
        MaskStore.open(straight / "a.plimseg").read_classes(),
    )


@pytest.mark.parametrize(
    ("state", "done", "total", "text"),
    [
        (ItemState.RUNNING, 0, 0, "running"),
        (ItemState.RUNNING, 0, 3, "running"),  # in the middle of the first tile
        (ItemState.RUNNING, 1, 3, "running, 33 %"),
        (ItemState.STOPPED, 2, 3, "stopped, 67 %"),
        (ItemState.DONE, 3, 3, "done"),
        (ItemState.FAILED, 1, 3, "failed"),
    ],
)
def test_the_state_in_words(
    tmp_path: Path, state: ItemState, done: int, total: int, text: str
) -> None:
    item = CohortItem(tmp_path / "a.svs", "a", state, tiles_done=done, tiles_total=total)
    assert item.state_text == text


def test_a_failing_slide_is_told_and_skipped_and_can_be_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "results"
    paths = [picture(tmp_path, f"{n}.png", seed) for seed, n in enumerate("abc")]
    with Cohort.open(out) as cohort:
        for path in paths:
            added(cohort, path)
        whole = paths[1].read_bytes()
        paths[1].write_bytes(b"gone bad")
        told = list(cohort.run(lambda: run_of(out)))
        assert states(cohort) == [ItemState.DONE, ItemState.FAILED, ItemState.DONE]
        assert "b.png" in cohort.items[1].problem
        assert [t.item.path for t in told if isinstance(t.step, PlimsegError)] == [paths[1]]
        paths[1].write_bytes(whole)
        assert list(cohort.run(lambda: run_of(out))) == []
        cohort.retry(paths[1])
        list(cohort.run(lambda: run_of(out)))
        assert states(cohort) == [ItemState.DONE] * 3


def test_a_full_disk_ends_the_run_and_the_others_keep_waiting(tmp_path: Path) -> None:
    class FullDisk(SegmentationJob):
        def steps(self, path: Path, stem: str, *, mpp: float | None = None) -> Any:
            full = OSError(errno.ENOSPC, "no space")
            raise disk_error(full, path) from full
            yield

    run = FullDisk(ColorModel(), folder=tmp_path)
    cohort = Cohort()
    for seed, name in enumerate(("a.png", "b.png")):
        added(cohort, picture(tmp_path, name, seed))
    told = list(cohort.run(lambda: run))
    assert states(cohort) == [ItemState.FAILED, ItemState.WAITING]
    assert "disk is full" in str(told[-1].step)


def test_a_slide_without_pixel_size_asks_for_it(tmp_path: Path) -> None:
    cohort = Cohort()
    path = picture(tmp_path, "a.png")
    assert cohort.add(path).item is not None
    assert states(cohort) == [ItemState.NEEDS_MPP]
    assert list(cohort.run(lambda: run_of(tmp_path / "r"))) == []
    with pytest.raises(ConfigError, match="not a pixel size"):
        cohort.set_mpp(path, 5000)
    cohort.set_mpp(path, 0.5)
    list(cohort.run(lambda: run_of(tmp_path / "r")))
    assert states(cohort) == [ItemState.DONE]


def test_a_pixel_size_that_was_not_looked_for_is_asked_for_when_its_turn_comes(
    tmp_path: Path,
) -> None:
    cohort = Cohort()
    cohort.add(picture(tmp_path, "a.png"), look=False)
    list(cohort.run(lambda: run_of(tmp_path / "r")))
    assert states(cohort) == [ItemState.NEEDS_MPP]


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (lambda a: a, "already in the list"),
        (lambda a: Path(a.parent, "x", "..", a.name), None),
        (lambda a: a.rename(a.with_name("moved.png")) and _copy(a), "the same slide as 'a.png'"),
        (lambda a: a.with_name("missing.svs"), "missing.svs"),
    ],
)
def test_duplicates_and_missing_files_are_refused(
    tmp_path: Path, second: Callable[[Path], Path], says: str | None
) -> None:
    cohort = Cohort()
    path = picture(tmp_path, "a.png")
    (tmp_path / "x").mkdir()
    added(cohort, path)
    refusal = cohort.add(second(path)).refusal
    assert (says or "the same slide") in refusal
    assert len(cohort.items) == 1


def _copy(moved: Path) -> Path:
    moved.write_bytes(moved.with_name("moved.png").read_bytes())
    return moved.with_name("moved.png")


def test_names_of_results_are_distinct(tmp_path: Path) -> None:
    cohort = Cohort()
    for seed, folder in enumerate("pq"):
        added(cohort, picture(tmp_path / folder, "x.png", seed))
    assert [item.stem for item in cohort.items] == ["x", "x-q-png"]
    taken = {"X", "x-q-png"}
    assert distinct_stem(Path("/q/x.png"), taken) == "x-2"
    assert distinct_stem(Path("/q/y.ome.tif"), taken) == "y"


def test_slides_added_in_mid_run_have_their_turn_and_the_running_one_stays(tmp_path: Path) -> None:
    cohort = Cohort()
    first, second = (picture(tmp_path, f"{n}.png", seed) for seed, n in enumerate("ab"))
    added(cohort, first)
    for told in cohort.run(lambda: run_of(tmp_path / "r")):
        if told.step is None and told.item.path == first:
            cohort.remove(first)
            added(cohort, second)
    assert states(cohort) == [ItemState.DONE] * 2
    cohort.remove(first)
    assert [item.path for item in cohort.items] == [second]


def test_only_one_run_at_a_time() -> None:
    with ENGINE.held_by("the dock"):
        assert ENGINE.owner == "the dock"
        with pytest.raises(PlimsegError, match="in use by the dock"):
            next(Cohort().run(lambda: pytest.fail("the model must not be loaded")))
    assert not ENGINE.owner


def test_a_second_program_is_refused(tmp_path: Path) -> None:
    with Cohort.open(tmp_path), pytest.raises(StoreError, match="another program"):
        Cohort.open(tmp_path)
    Cohort.open(tmp_path).close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"waiting"', '"done"'),
        lambda text: "",
        lambda text: "[]",
    ],
)
def test_a_damaged_list_is_told_with_what_to_do(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    out = tmp_path / "results"
    with Cohort.open(out) as cohort:
        added(cohort, picture(tmp_path, "a.png"))
    file = out / COHORT_FILE
    file.write_text(damage(file.read_text("utf-8")), "utf-8")
    for _ in range(2):  # and the lock is not kept
        with pytest.raises(StoreError, match=r"list of slides .* is damaged.*Rename"):
            Cohort.open(out)


@pytest.mark.parametrize("name", ["../a", "a/b"])
def test_results_outside_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        CohortItem(Path("/x.svs"), "x", store=name)
    with pytest.raises(ConfigError):
        CohortItem(Path("/x.svs"), name)


def test_slides_of_a_folder(tmp_path: Path, sample_path: Path) -> None:
    picture(tmp_path / "pictures", "b.png")
    picture(tmp_path / "pictures", "a.png", 1)
    (tmp_path / "pictures" / "notes.txt").write_text("no slide")
    picture(tmp_path / "pictures", "a.overlay.png")
    (tmp_path / "pictures" / "a.plimseg").mkdir()
    slides = tmp_path / "slides"
    picture(slides, "preview.png")
    (slides / sample_path.name).write_bytes(sample_path.read_bytes())
    assert [p.name for p in slides_in(tmp_path)] == ["a.png", "b.png", sample_path.name]
    assert list(slides_in(slides / "preview.png")) == [slides / "preview.png"]
    assert list(slides_in(tmp_path / "missing")) == [tmp_path / "missing"]


def test_an_unexpected_error_leaves_the_slide_stopped(tmp_path: Path) -> None:
    class Odd(SegmentationJob):
        def steps(self, path: Path, stem: str, *, mpp: float | None = None) -> Any:
            raise RuntimeError("odd")
            yield

    cohort = Cohort()
    added(cohort, picture(tmp_path, "a.png"))
    with pytest.raises(RuntimeError):
        list(cohort.run(lambda: Odd(ColorModel(), folder=tmp_path)))
    assert states(cohort) == [ItemState.STOPPED]
    assert not ENGINE.owner


def test_a_slide_that_breaks_in_mid_run_is_failed_not_asking(tmp_path: Path) -> None:
    class Breaks(SegmentationJob):
        def steps(self, path: Path, stem: str, *, mpp: float | None = None) -> Any:
            steps = super().steps(path, stem, mpp=mpp)
            yield next(steps)
            steps.close()
            raise SlideError("a block is damaged", path=path)

    cohort = Cohort()
    added(cohort, picture(tmp_path, "a.png"))
    run = run_of(tmp_path / "r")
    list(cohort.run(lambda: Breaks(run.model, settings=run.settings, folder=run.folder)))
    assert states(cohort) == [ItemState.FAILED]


def test_the_list_holds_no_path_and_old_lists_are_read(tmp_path: Path) -> None:
    out = tmp_path / "results"
    slides = tmp_path / "Mrs Smith"
    paths = [picture(slides, "a.png"), picture(out / "inside", "b.png", 1)]
    with Cohort.open(out) as cohort:
        for path in paths:
            added(cohort, path)
        cohort.choose(str(slides / "model.safetensors"), ("csv",))
    text = (out / COHORT_FILE).read_text("utf-8")
    assert "Smith" not in text
    assert str(tmp_path) not in text
    with Cohort.open(out) as cohort:
        assert [item.path for item in cohort.items] == paths
        assert cohort.model == "model.safetensors"
    content = json.loads(text)["content"]
    content["format"] = 1
    for item, path in zip(content["items"], paths, strict=True):
        del item["slide"], item["place"]
        item["path"] = str(path)
    write_checked(out / COHORT_FILE, content)
    with Cohort.open(out) as cohort:
        assert [item.path for item in cohort.items] == paths
        cohort.retry(paths[0])
    assert "Smith" not in (out / COHORT_FILE).read_text("utf-8")


def test_a_slide_that_needs_too_much_memory_is_skipped(tmp_path: Path) -> None:
    class Large(SegmentationJob):
        def steps(self, path: Path, stem: str, *, mpp: float | None = None) -> Any:
            if path.name == "a.png":
                raise MemoryError
            return super().steps(path, stem, mpp=mpp)

    job = run_of(tmp_path / "results")
    large = Large(job.model, settings=job.settings, folder=job.folder)
    cohort = Cohort()
    for seed, name in enumerate(("a.png", "b.png")):
        added(cohort, picture(tmp_path, name, seed))
    list(cohort.run(lambda: large))
    assert states(cohort) == [ItemState.FAILED, ItemState.DONE]
    assert "not enough memory" in cohort.items[0].problem
