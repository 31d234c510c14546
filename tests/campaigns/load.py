"""`make load`: as much as a laboratory may give it, with time and memory measured.

Two hundred slides through `plimseg segment`, stopped and resumed, one of them damaged; a slide of
150,000 x 120,000 pixels; a mask of 400,000 objects. Every step is a process of its own, because a
peak of memory never falls.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.campaigns.report import (
    Guard,
    Outcomes,
    Report,
    Settings,
    exit_with,
    guards_switched_off,
    main,
)
from tests.support import slides as factory
from tests.support.large_slides import TissueBlock, write_huge_slide
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

SLIDES, SHORT_SLIDES = 200, 8
GROWTH = 150 << 20
"""Bytes that memory may grow from the tenth slide of a run to its last."""
PEAKS = {"open": 600, "thumbnail": 800, "tissue": 1000}
PEAK = 3000
"""MiB of memory that a step may take: without a model, and any other."""


def campaign(settings: Settings, report: Report) -> None:
    """Run the three parts; `settings.count` is the number of slides."""
    short = settings.short
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        count = settings.count
        if settings.wants("many slides"):
            many_slides(folder / "many", count, report)
        if settings.wants("huge slide"):
            shape = (16_384, 20_480) if short else (120_000, 150_000)
            huge_slide(folder, shape, report, whole=not short)
        if settings.wants("many objects"):
            many_objects(folder, 100 if short else 633, report)


# -- many slides


def many_slides(folder: Path, count: int, report: Report) -> None:
    """Segment many slides in one run that is stopped once; one of them is damaged."""
    folder.mkdir()
    paths = []
    for number in range(count):
        path = folder / f"slide-{number:03}.tif"
        pixels = factory.tissue(400, 480, seed=number)
        factory.write_tiff(
            path, factory.pyramid(pixels, 2), resolution=(20_000, 20_000),
            resolutionunit="CENTIMETER",
        )  # fmt: skip
        paths.append(path)
    damaged = paths[count // 2]
    damaged.write_bytes(damaged.read_bytes()[:5000])
    out = folder / "results"
    command = [
        "-m", "tests.campaigns.load", "--guarded", "segment", str(folder / "*.tif"),
        "--out", str(out), "--format", "csv", "--json", "--tile-size", "512", "--threads", "1",
    ]  # fmt: skip
    with report.row(f"many slides: stopped after {count // 3} of {count}") as row:
        begun = Run.start(command)
        begun.wait_for(lambda: len(list(out.glob("*.areas.csv"))) >= count // 3)
        begun.process.send_signal(signal.SIGINT)
        begun.finish()
        done = sorted(out.glob("*.areas.csv"))
        row.note = begun.note(len(done))
        row.check(count // 3 <= len(done) < count - 1, "again", f"{len(done)} slides were finished")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.plimseg/journal.json")}
    with report.row("many slides: resumed to the end") as row:
        resumed = Run.start(command)
        resumed.finish()
        results = sorted(out.glob("*.areas.csv"))
        lines = [json.loads(line) for line in resumed.output.splitlines() if line.startswith("{")]
        problems = [line for line in lines if line.get("event") == "error"]
        row.note = resumed.note(len(results))
        for path in paths:
            if path == damaged:
                named = any(damaged.name in json.dumps(line) for line in problems)
                row.check(named, damaged.name, f"the damaged slide was not reported: {problems}")
            else:
                row.check((out / f"{path.stem}.areas.csv").exists(), path.name, "has no result")
        row.check(resumed.code not in (0, None), "again", f"the exit code is {resumed.code}")
        row.check(resumed.growth < GROWTH, "again", f"memory grew by {resumed.growth >> 20} MiB")
        row.check(resumed.peak >> 20 < PEAK, "again", f"memory reached {resumed.peak >> 20} MiB")
        changed = [p for p, then in kept.items() if p.exists() and p.stat().st_mtime_ns != then]
        # the slide at which the run was stopped may go on
        row.check(len(changed) <= 1, "again", f"{len(changed)} finished slides were done again")


class Run:
    """A child whose memory is watched while it works."""

    def __init__(self, process: subprocess.Popen[str], output: Any) -> None:
        self.process, self._file = process, output
        self.memory: list[int] = []
        self.begun = time.perf_counter()
        self.seconds = 0.0
        self.output = ""
        self.code: int | None = None

    @classmethod
    def start(cls, arguments: list[str]) -> Run:
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when it is read
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, text=True, stdout=output,
            stderr=subprocess.STDOUT, env=_environment(),
            # a shell's background jobs ignore SIGINT, and hand that down
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        return cls(process, output)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        while not ready() and self.process.poll() is None:
            self._look()

    def finish(self) -> None:
        while self.process.poll() is None:
            self._look()
        self.code = self.process.returncode
        self.seconds = time.perf_counter() - self.begun
        self._file.seek(0)
        self.output = self._file.read()
        self._file.close()

    @property
    def peak(self) -> int:
        return max(self.memory, default=0)

    @property
    def growth(self) -> int:
        """Bytes from the first third of the run to the last: loading the program is no growth."""
        third = len(self.memory) // 3
        if third < 3:
            return 0
        early, late = self.memory[third : 2 * third], self.memory[-third:]
        return int(np.median(late) - np.median(early))

    def note(self, done: int) -> str:
        return (
            f"{done} done, {self.seconds:.0f} s, peak {self.peak >> 20:,} MiB, "
            f"growth {self.growth >> 20} MiB"
        )

    def _look(self) -> None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
            self.memory.append(int(pages) * os.sysconf("SC_PAGE_SIZE"))
        time.sleep(0.1)


# -- one huge slide


def huge_slide(folder: Path, shape: tuple[int, int], report: Report, *, whole: bool) -> None:
    """Open a slide far larger than memory, and take it through the whole path."""
    block = TissueBlock(shape[0] // 2 // 16_384 * 16_384, 0, 8_192, 8_192)
    path = write_huge_slide(folder / "huge.tif", *shape, block)
    size = f"{shape[1]:,} x {shape[0]:,}"
    print(f"  huge slide of {size} pixels: {path.stat().st_size >> 10:,} KiB", flush=True)  # noqa: T201
    steps = ["open", "thumbnail", "tissue", "region"] + (["whole"] if whole else [])
    for step in steps:
        with report.row(f"huge slide: {step}") as row:
            _measured(row, step, path)


def step_open(path: Path) -> None:
    from napari_plimseg.slides import open_slide

    with open_slide(path) as slide:
        assert len(slide.levels) >= 3
        assert slide.mpp == 0.25


def step_thumbnail(path: Path) -> None:
    from napari_plimseg.slides import open_slide

    with open_slide(path) as slide:
        assert slide.thumbnail(1024).std() > 1


def step_tissue(path: Path) -> None:
    from napari_plimseg.slides import open_slide
    from napari_plimseg.slides.tissue_mask import TissueMaskSettings, tissue_mask

    with open_slide(path) as slide:
        found = tissue_mask(slide, TissueMaskSettings())
        share = float(np.mean(found.mask))
        expected = 8_192 * 8_192 / (slide.shape[0] * slide.shape[1])
        assert expected / 2 < share < expected * 2, f"{share:.4f} and not {expected:.4f} is tissue"


def step_region(path: Path) -> None:
    from napari_plimseg.slides import Region, open_slide

    with open_slide(path) as slide:
        top = slide.shape[0] // 2 // 16_384 * 16_384
    result = _segmented(path, Region(top, 0, 2048, 2048))
    assert (result.mask > 0).sum() > 200


def step_whole(path: Path) -> None:
    result = _segmented(path, None)
    mask = result.mask
    assert (mask > 0).mean() > 0.99
    # how much of it is tissue is the model's opinion: the pattern is not one that it learned
    whole = (np.array(result.info.slide_shape) * 0.25e-3).prod()
    total = sum(area.mm2 or 0 for area in result.areas())
    assert abs(total / whole - 1) < 0.01, f"{total} mm2 and not {whole}"
    result.export(path.parent / "exported", ["csv", "geojson", "ome-tiff"])


def _segmented(path: Path, region: Any) -> Any:
    from napari_plimseg.api import segment

    name = "whole" if region is None else "region"
    return segment(path, region=region, out=path.parent / f"{name}.plimseg")


# -- many objects


def many_objects(folder: Path, side: int, report: Report) -> None:
    """Export and read back a mask with side * side objects."""
    for step in ("geojson", "read back", "csv", "objects"):
        with report.row(f"many objects: {step}") as row:
            _measured(row, step, folder / f"objects-{side}")


def _object_mask(folder: Path) -> tuple[Any, Any]:
    """Return a mask of squares of eight classes, no two touching, and its description."""
    from tests.support.masks import info_for

    side = int(folder.name.rpartition("-")[2])
    cell = np.zeros((12, 12), np.uint8)
    cell[2:9, 2:9] = 1
    numbers = (np.arange(side)[:, None] * 3 + np.arange(side)) % 8 + 1
    mask = np.kron(numbers.astype(np.uint8), cell)
    return mask, info_for(mask, downsample=8.0)


def step_geojson(folder: Path) -> None:
    from napari_plimseg.results import export_geojson

    mask, info = _object_mask(folder)
    folder.mkdir(exist_ok=True)
    export_geojson(folder / "objects.geojson", mask, info)


def step_read_back(folder: Path) -> None:
    """Read the outlines as training does, which a slide of the same size stands for."""
    from napari_plimseg.tissue import COLORECTAL
    from plimseg_training.data.annotations import read_annotation
    from tests.support.models import ArraySlide

    mask, info = _object_mask(folder)
    slide = ArraySlide(folder / "slide.bin", np.zeros((8, 8, 3), np.uint8))
    slide.bounds = info.bounds  # type: ignore[misc]
    found = read_annotation(folder / "objects.geojson", slide, COLORECTAL)
    ids = found.ids(0, 0, 600, 600, 8.0)
    assert np.array_equal(ids, mask[:600, :600])


def step_csv(folder: Path) -> None:
    from napari_plimseg.results import area_table

    mask, info = _object_mask(folder)
    rows = area_table(mask, info)
    assert sum(row.pixels for row in rows if 1 <= row.mask_id <= 8) == np.count_nonzero(mask)


def step_objects(folder: Path) -> None:
    """Write every object as a row of a table, and read the table again."""
    import csv

    from napari_plimseg.results import iter_outlines

    mask, info = _object_mask(folder)
    side = int(folder.name.rpartition("-")[2])
    with (folder / "objects.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for outline in iter_outlines(mask, info.classes.tissue_ids):
            writer.writerow([outline.mask_id, outline.pixels, *outline.rings[0][0]])
    with (folder / "objects.csv").open(newline="") as file:
        rows = [row[:2] for row in csv.reader(file)]
    assert len(rows) == side * side
    assert {row[1] for row in rows} == {"49"}


# -- processes


def _measured(row: Outcomes, step: str, path: Path) -> None:
    """Run a step in a child; it must end well and within the memory."""
    run = Run.start(["-m", "tests.campaigns.load", "--step", step, str(path)])
    run.finish()
    peak = run.peak
    for line in run.output.splitlines():
        if line.startswith("peak "):
            peak = max(peak, int(line.split()[1]))
    row.note = f"peak {peak >> 20:,} MiB"
    row.check(run.code == 0, f"--only '{step}'", run.output[-1500:])
    row.check(
        peak >> 20 < PEAKS.get(step, PEAK), f"--only '{step}'", f"memory reached {peak >> 20:,} MiB"
    )


def _environment() -> dict[str, str]:
    parts = [str(ROOT / part) for part in ("src", "training", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(parts), "OMP_NUM_THREADS": "1"}


def run_step(step: str, path: Path) -> None:
    """Run one step and print its peak of memory; in a child."""
    with guards_switched_off(GUARDS):
        globals()[f"step_{step.replace(' ', '_')}"](path)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            print("peak", int(line.split()[1]) << 10)  # noqa: T201 - the protocol


def run_guarded(arguments: list[str]) -> int:
    """Run `plimseg` in this process, with the guards that the environment leaves."""
    with guards_switched_off(GUARDS):
        from napari_plimseg.cli import main as plimseg

        return plimseg(arguments)


# -- guards


@contextlib.contextmanager
def _patched(module: str, name: str, new: Any) -> Iterator[None]:
    """Replace an attribute of a module or class, given by its dotted name."""
    from unittest.mock import patch

    with patch(f"{module}.{name}", new):
        yield


def failures_end_the_run() -> AbstractContextManager[None]:
    from napari_plimseg.inference.cohort import Cohort

    real = Cohort._run_one

    def first_failure_is_the_last(self: Cohort, job: Any, item: Any) -> Any:
        for step in real(self, job, item):
            if isinstance(step.step, Exception):
                raise SystemExit(9)
            yield step

    return _patched("napari_plimseg.inference.cohort.Cohort", "_run_one", first_failure_is_the_last)


def slides_stay_in_memory() -> AbstractContextManager[None]:
    from napari_plimseg.slides.slide import Slide

    real, held = Slide.close, []

    def close(self: Slide) -> None:
        held.append(np.ones(40 << 20, np.uint8))
        real(self)

    return _patched("napari_plimseg.slides.slide.Slide", "close", close)


def everything_is_done_again() -> AbstractContextManager[None]:
    from napari_plimseg.results.mask_store import MaskStore

    return _patched(f"{MaskStore.__module__}.MaskStore", "state", lambda *_, **__: None)


def thumbnails_read_the_finest_level() -> AbstractContextManager[None]:
    def thumbnail(self: Any, max_side: int = 1024) -> Any:
        step = max(self.shape) // max_side
        return self.read_level(0, 0, 0, *self.shape)[::step, ::step]

    return _patched("napari_plimseg.slides.slide.Slide", "thumbnail", thumbnail)


def _reduced(part: str) -> Callable[[Settings, Report], None]:
    def reduced(settings: Settings, report: Report) -> None:
        with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as name:
            if part == "many":
                many_slides(Path(name) / "many", SHORT_SLIDES, report)
            else:
                path = Path(name) / "huge.tif"
                write_huge_slide(path, 16_384, 20_480, TissueBlock(0, 0, 8_192, 8_192))
                with report.row("huge slide: thumbnail") as row:
                    _measured(row, "thumbnail", path)

    return reduced


GUARDS = [
    Guard("a damaged slide does not end the run", failures_end_the_run, _reduced("many")),
    Guard("slides are released", slides_stay_in_memory, _reduced("many")),
    Guard("finished tiles are kept", everything_is_done_again, _reduced("many")),
    Guard("thumbnails use the pyramid", thumbnails_read_the_finest_level, _reduced("huge")),
]

if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        run_step(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--guarded"]:
        sys.exit(run_guarded(sys.argv[2:]))
    else:
        exit_with(main("load", campaign, GUARDS, count=SLIDES, short=SHORT_SLIDES))
