"""Slides on workers: the same results as without, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import ConfigError, ModelError, PlimsegError, SlideError, StoreError
from napari_plimseg.inference import (
    ENGINE,
    ClusterChoice,
    Cohort,
    ItemState,
    Notice,
    Progress,
    RunSettings,
    SegmentationJob,
    SlideDone,
    segment_on_workers,
)
from napari_plimseg.inference.cluster import slide_task
from napari_plimseg.results import MaskStore
from tests.support import worker_models
from tests.support.models import painted
from tests.support.worker_models import NotedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_plimseg.inference import CohortStep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals"),
]
TILE = 256


@pytest.fixture
def tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let workers have a model that takes no time; return the file where it notes tiles."""
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    log = tmp_path / "tiles"
    monkeypatch.setenv(worker_models.LOG, str(log))
    with dask.config.set({"distributed.worker.preload": ["tests.support.worker_models"]}):
        yield log


def cohort_of(folder: Path, count: int, side: int = 900) -> Cohort:
    cohort = Cohort()
    for seed in range(count):
        path = folder / f"{seed}.png"
        Image.fromarray(painted(side, side, seed)).save(path)
        cohort.add(path, mpp=0.5, look=False)
    return cohort


def job_for(folder: Path, **changes: Any) -> SegmentationJob:
    settings = RunSettings(tile_size=TILE, tissue=None, device="cpu", batch_size=1)
    return SegmentationJob(settings=settings, folder=folder, formats=("csv", "geojson"), **changes)


def load(*_: object) -> NotedModel:
    return NotedModel()


def lines(log: Path) -> list[tuple[int, str]]:
    found = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(pid), digest) for pid, digest in found]


def straight(cohort: Cohort, folder: Path, log: Path) -> dict[str, set[str]]:
    """Segment the slides in this process; return the digests of each slide's tiles."""
    digests = {}
    for item in cohort.items:
        one = Cohort()
        one.add(item.path, mpp=0.5, look=False)
        before = len(lines(log))
        list(one.run(lambda: job_for(folder).loaded(load)))
        digests[item.stem] = {digest for _, digest in lines(log)[before:]}
    log.unlink()
    return digests


def assert_same(folder: Path, other: Path) -> None:
    names = sorted(path.name for path in other.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        if name.endswith(".plimseg"):
            one, two = MaskStore.open(folder / name), MaskStore.open(other / name)
            for array in ("classes", "confidence", "probabilities"):
                whole = [slice(0, side) for side in one.info.shape]
                np.testing.assert_array_equal(one.read(array, *whole), two.read(array, *whole))
        else:
            assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("resume", [True, False])
def test_a_killed_worker_loses_no_finished_tile_and_changes_no_bit(
    resume: bool, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = cohort_of(tmp_path, 3)
    digests = straight(cohort, tmp_path / "straight", tiles)
    monkeypatch.setenv(worker_models.SECONDS, "0.05")
    out = tmp_path / "out"
    told: list[CohortStep] = []
    after, kept, victim = 0, 0, ""
    choice = ClusterChoice("local", workers=2)
    for step in segment_on_workers(cohort, job_for(out, resume=resume), choice, load=load):
        if step is None:
            continue
        told.append(step)
        if not victim and isinstance(step.step, Progress) and step.step.tiles_done >= 3:
            victim = step.item.stem
            pids = {pid for pid, digest in lines(tiles) if digest in digests[victim]}
            os.kill(pids.pop(), signal.SIGKILL)
            kept = done_tiles(MaskStore.open(out / f"{victim}.plimseg"))
            after = len(lines(tiles))
    assert [item.state for item in cohort.items] == [ItemState.DONE] * 3
    assert not any(item.worker for item in cohort.items)
    assert_same(out, tmp_path / "straight")
    again = [digest for _, digest in lines(tiles)[after:] if digest in digests[victim]]
    assert 3 <= kept < len(digests[victim])
    assert len(again) == len(digests[victim]) - kept
    notices = [step.step.text for step in told if isinstance(step.step, Notice)]
    assert len(notices) == 1
    assert f"was lost; another one continues {victim}.png" in notices[0]
    assert len({pid for pid, _ in lines(tiles)}) in (2, 3)
    assert sum(isinstance(step.step, SlideDone) for step in told) == 3
    assert not ENGINE.owner


def done_tiles(store: MaskStore) -> int:
    return round(store.done_fraction * store.tile_count)


def test_failures_do_not_stop_others_and_a_stopped_run_can_be_continued(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = cohort_of(tmp_path, 3)
    straight(cohort, tmp_path / "straight", tiles)
    monkeypatch.setenv(worker_models.SECONDS, "0.05")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    unsized = tmp_path / "unsized.png"
    Image.fromarray(painted(300, 300)).save(unsized)
    cohort.add(bad, mpp=0.5, look=False)
    cohort.add(tmp_path / "gone.png", mpp=0.5, look=False)
    cohort.add(unsized, look=False)
    out = tmp_path / "out"
    choice = ClusterChoice("local", workers=1)
    with contextlib.closing(segment_on_workers(cohort, job_for(out), choice, load=load)) as steps:
        for step in steps:
            if step is not None and isinstance(step.step, Progress) and step.step.tiles_done >= 3:
                break
    first = cohort.items[0]
    assert first.state is ItemState.STOPPED
    assert first.tiles_done == done_tiles(MaskStore.open(out / "0.plimseg")) >= 3
    assert len(lines(tiles)) == first.tiles_done
    assert not ENGINE.owner
    list(segment_on_workers(cohort, job_for(out), choice, load=load))
    assert [item.state for item in cohort.items] == [
        *[ItemState.DONE] * 3, ItemState.FAILED, ItemState.FAILED, ItemState.NEEDS_MPP,
    ]  # fmt: skip
    assert "bad.png" in cohort.items[3].problem
    assert "'gone.png': the worker worker-0 can't read it." in cohort.items[4].problem
    assert str(tmp_path) not in "".join(item.problem for item in cohort.items)
    assert len(lines(tiles)) == sum(item.tiles_total for item in cohort.items[:3])
    assert_same(out, tmp_path / "straight")


def task_for(folder: Path, **changes: Any) -> slide_task.SlideTask:
    path = folder / "a.png"
    Image.fromarray(painted(300, 300)).save(path)
    facts: dict[str, Any] = {
        "run": "run", "worker": "id", "job": job_for(folder / "out"), "identity": "colours-1",
        "path": path, "stem": "a", "mpp": 0.5, "size": path.stat().st_size, "limits": "",
    }  # fmt: skip
    return slide_task.SlideTask(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"version": "0.0.1"}, ConfigError, "the worker w has napari-plimseg .*this program is"),
        ({"path": Path("missing.svs")}, SlideError, "'missing.svs': the worker w can't read it"),
        ({"size": 7}, SlideError, "'a.png': the worker w has another file of this name"),
        ({"job": SegmentationJob(folder=Path("nowhere"))}, StoreError, "can't write to it"),
        ({"identity": "other"}, ModelError, "the worker w has another model of this name"),
    ],
)
def test_a_worker_refuses_what_differs_there(
    changes: dict[str, Any],
    error: type[PlimsegError],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_plimseg.models.load_model", load)
    monkeypatch.setattr(slide_task, "_model", None)
    (tmp_path / "out").mkdir()
    outcome = slide_task._segment(
        task_for(tmp_path, **changes), 1, "w", lambda _: None, lambda: False
    )
    assert (outcome.state, outcome.exit_code) == ("failed", error.exit_code)
    assert re.search(text, outcome.problem)
