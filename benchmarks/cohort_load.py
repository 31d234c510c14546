#!/usr/bin/env python3
"""Send thousands of slides to workers that are done at once, to see what a scheduler can take.

Usage: python benchmarks/cohort_load.py [--slides N] [--workers N] [--stores FOLDER ...]

A scheduler, and workers without models, run in processes of their own on this computer. Each slide
goes the way that `plimseg segment --cluster` sends it, and comes back with a result of usual size;
only reading and segmenting are left out. A second row sends all tasks at once, as plain dask does,
which shows what the program's own care costs. Prints Markdown. `--stores` adds a table of what mask
stores and exports in folders of results take on the disk, per megapixel of the slide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import psutil

from napari_plimseg.inference import ClusterChoice, Cohort, ItemState, SegmentationJob, SlideDone
from napari_plimseg.inference.cluster import slide_task
from napari_plimseg.inference.cluster.run import ClusterRun
from napari_plimseg.inference.cluster.slide_task import SlideOutcome, SlideTask
from napari_plimseg.inference.cluster.workers import Workers
from napari_plimseg.inference.job import SlideOpened
from napari_plimseg.inference.progress import ProgressCounter
from napari_plimseg.results import MaskInfo, MaskStore, area_table
from napari_plimseg.tissue import COLORECTAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"
STORE = ".plimseg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--stores", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.workers))
        return
    if options.stores:
        print_stores(options.stores)
    with tempfile.TemporaryDirectory() as name, scheduler(Path(name), options.workers) as running:
        address, process = running
        print(f"{options.slides:,} slides, {options.workers} workers, {psutil.cpu_count()} CPUs\n")
        print(
            "| sent | seconds | tasks/s | scheduler CPU s | scheduler MiB | program CPU s | MiB |"
        )
        print("|---|---|---|---|---|---|---|")
        for title, send in (
            ("as plimseg does, one per worker", as_plimseg),
            ("all at once, as plain dask does", at_once),
        ):
            row = measured(process, lambda send=send: send(address, options.slides, Path(name)))
            rate = options.slides / row["seconds"]
            print(
                f"| {title} | {row['seconds']:.0f} | {rate:,.0f} | {row['cpu']:.0f} "
                f"| {row['memory']:.0f} (+{row['grown']:.0f}) | {row['own cpu']:.0f} "
                f"| {row['own memory']:.0f} |",
                flush=True,
            )


# -- the computer room


@contextlib.contextmanager
def scheduler(folder: Path, workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and workers; yield its address and its process."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", LOOPBACK]
    command += ["--port", "0", "--dashboard-address", f"{LOOPBACK}:0", "--scheduler-file", file]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL)]
    try:
        until = time.monotonic() + 60
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        command = [sys.executable, __file__, "--serve", address, "--workers", str(workers)]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        yield address, psutil.Process(processes[0].pid)
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


async def serve(address: str, count: int) -> None:
    """Be many workers in one process, each with one thread, that are done with a slide at once."""
    from distributed import Worker

    slide_task._segment = done_at_once  # type: ignore[assignment]
    slide_task._ONE_SLIDE = mock.MagicMock()  # type: ignore[assignment] - they are one process
    options: dict[str, Any] = {"nthreads": 1, "host": LOOPBACK, "memory_limit": None}
    workers = [
        Worker(address, name=f"worker-{n}", dashboard_address=f"{LOOPBACK}:0", **options)
        for n in range(count)
    ]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


def done_at_once(
    task: SlideTask, threads: int, worker: str, send: Callable[[Any], None], ended: object
) -> SlideOutcome:
    """Say of a slide what a worker says, without reading it."""
    send(SlideOpened(task.path.name, (), mpp_known=True))
    counter = ProgressCounter("CPU", 1, total=400, done=400)
    send(counter.progress())
    info = MaskInfo(
        slide_name=task.path.name,
        slide_fingerprint="0" * 64,
        classes=COLORECTAL,
        slide_shape=(40_000, 40_000),
        bounds=(0, 0, 40_000, 40_000),
        shape=(10_000, 10_000),
        downsample=4.0,
        mpp=0.25,
        model_name="bundled",
        model_identity=task.identity,
    )
    areas = area_table(np.ones((8, 8), np.uint8), info)
    files = [task.job.results_folder / f"{task.stem}.{end}" for end in ("ome.tif", "geojson")]
    store = task.job.results_folder / f"{task.stem}{STORE}"
    done = SlideDone(info, areas, files, store, seconds=60.0, unreadable_tiles=0)
    return SlideOutcome("done", done=done, progress=counter.progress())


# -- what is measured


def as_plimseg(address: str, slides: int, folder: Path) -> None:
    """Send slides as the program does."""
    cohort = Cohort()
    for number in range(slides):
        cohort.add(folder / f"slide-{number}.svs", mpp=0.25, stem=f"slide-{number}", look=False)
    with Workers(ClusterChoice(address), device="auto", folder=folder) as workers:
        run = ClusterRun(cohort, workers, SegmentationJob(folder=folder), "identity")
        for _ in run.steps():
            pass
    assert cohort.count(ItemState.DONE) == slides


def at_once(address: str, slides: int, folder: Path) -> None:
    """Send one task per slide to dask, which queues them."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        assert sum(client.gather(client.map(len, [[n] for n in range(slides)], pure=False)))


def measured(process: psutil.Process, work: Callable[[], None]) -> dict[str, float]:
    """Do the work; return seconds, and CPU seconds and MiB of the scheduler and of this program."""
    own = psutil.Process()
    before, cpu, own_cpu = process.memory_info().rss, _cpu(process), _cpu(own)
    begin = time.monotonic()
    work()
    return {
        "seconds": time.monotonic() - begin,
        "cpu": _cpu(process) - cpu,
        "memory": process.memory_info().rss / 2**20,
        "grown": (process.memory_info().rss - before) / 2**20,
        "own cpu": _cpu(own) - own_cpu,
        "own memory": own.memory_info().rss / 2**20,
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def print_stores(folders: list[Path]) -> None:
    """Print what the stores and exports in folders of results take per megapixel of the slide."""
    print("| slide | megapixels | what | files | kB per megapixel |")
    print("|---|---|---|---|---|")
    for path in sorted(p for folder in folders for p in folder.glob(f"*{STORE}")):
        info = MaskStore.open(path).info
        area = info.shape[0] * info.shape[1] * info.downsample**2 / 1e6
        sizes: defaultdict[str, list[int]] = defaultdict(list)
        for file in path.rglob("*"):
            if file.is_file():
                parts = file.relative_to(path).parts
                kind = parts[1] if parts[0] == "labels" and len(parts) > 2 else parts[0]
                sizes[kind if len(parts) > 2 else "other files"].append(file.stat().st_size)
        for file in path.parent.glob(f"{path.stem}.*"):
            if file.is_file():
                sizes[file.name.removeprefix(path.stem)].append(file.stat().st_size)
        for kind, found in sorted(sizes.items()):
            size = sum(found) / area / 1e3
            print(f"| {info.slide_name} | {area:.1f} | {kind} | {len(found)} | {size:.2f} |")
    print()


if __name__ == "__main__":
    main()
