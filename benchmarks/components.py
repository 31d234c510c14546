#!/usr/bin/env python3
"""Connected components by horizontal runs, against connected-components-3d and SciPy.

Usage: python benchmarks/components.py [--sides PIXELS ...] [--rounds N] [--methods NAME ...]

The mask is the bundled model's of the sample slide, mirrored to the wanted size. Prints for each
task and method the median of interleaved rounds in milliseconds, the peak of memory that one call
adds, and the longest time for which another Python thread could not
run meanwhile: tools work in a thread beside napari's window. connected-components-3d is not a
dependency; install it to have its rows. What came of it is in NOTES.md.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

import napari_plimseg
from napari_plimseg.results import RunLengthMask

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = Path(napari_plimseg.__file__).parent / "sample" / "CMU-1-Small-Region.svs"
FOUR = ndimage.generate_binary_structure(2, 1)
EIGHT = ndimage.generate_binary_structure(2, 2)


def sample_mask() -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return napari_plimseg.segment(SAMPLE, out=folder).mask


def mirrored(mask: np.ndarray, side: int) -> np.ndarray:
    height, width = mask.shape
    return np.pad(mask, ((0, max(0, side - height)), (0, max(0, side - width))), "symmetric")[
        :side, :side
    ]


# Task 1: the size of every region of every class, as "remove small regions" needs


def sizes_runs(mask: np.ndarray) -> np.ndarray:
    runs = RunLengthMask.of(mask)
    return np.bincount(runs.components(4), runs.length)


def sizes_cc3d(mask: np.ndarray) -> np.ndarray:
    import cc3d

    labels = cc3d.connected_components(mask, connectivity=4)
    return cc3d.statistics(labels)["voxel_counts"][1:]  # without a copy, unlike np.bincount


def sizes_scipy(mask: np.ndarray) -> np.ndarray:
    found = []
    for mask_id in np.unique(mask):
        labels, _ = ndimage.label(mask == mask_id, FOUR)
        found.append(np.bincount(labels.ravel())[1:])
    return np.concatenate(found)


# Task 2: the region around a click, as "fill" and "pick a region" need


def click_runs(mask: np.ndarray) -> int:
    y, x = place(mask)
    runs = RunLengthMask.of(mask == mask[y, x])
    labels = runs.components(4)
    chosen = labels == labels[runs.at(y * mask.shape[1] + x)]
    return int(np.count_nonzero(runs.picture(chosen)[2]))


def click_cc3d(mask: np.ndarray) -> int:
    import cc3d

    y, x = place(mask)
    labels = cc3d.connected_components(mask == mask[y, x], connectivity=4)
    return int(np.count_nonzero(labels == labels[y, x]))


def click_scipy(mask: np.ndarray) -> int:
    y, x = place(mask)
    labels, _ = ndimage.label(mask == mask[y, x], FOUR)
    return int(np.count_nonzero(labels == labels[y, x]))


def place(mask: np.ndarray) -> tuple[int, int]:
    return mask.shape[0] // 2, mask.shape[1] // 2


# Task 3: what a class encloses, 8-connected, as "fill holes" needs


def holes_runs(mask: np.ndarray) -> int:
    runs = RunLengthMask.of(mask == common(mask))
    labels = runs.components(8)
    open_ = np.zeros(int(labels.max()) + 1, np.bool_)
    open_[labels[runs.at_rim | runs.value]] = True
    return int(runs.length[~open_[labels]].sum())


def holes_cc3d(mask: np.ndarray) -> int:
    import cc3d

    return enclosed(cc3d.connected_components(mask != common(mask), connectivity=8))


def holes_scipy(mask: np.ndarray) -> int:
    return enclosed(ndimage.label(mask != common(mask), EIGHT)[0])


def common(mask: np.ndarray) -> int:
    return int(np.bincount(mask[::8, ::8].ravel()).argmax())


def enclosed(labels: np.ndarray) -> int:
    open_ = np.zeros(int(labels.max()) + 1, np.bool_)
    open_[0] = True
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        open_[edge] = True
    return int(np.count_nonzero(~open_[labels]))


TASKS: dict[str, dict[str, Callable[[np.ndarray], Any]]] = {
    "sizes of all regions": {"runs": sizes_runs, "cc3d": sizes_cc3d, "scipy": sizes_scipy},
    "region at a click": {"runs": click_runs, "cc3d": click_cc3d, "scipy": click_scipy},
    "holes of a class": {"runs": holes_runs, "cc3d": holes_cc3d, "scipy": holes_scipy},
}


def longest_gap(work: Callable[[np.ndarray], Any], mask: np.ndarray) -> float:
    """Return milliseconds for which this thread could not run while another one worked."""
    thread = threading.Thread(target=work, args=(mask,))
    thread.start()
    longest, last = 0.0, time.perf_counter()
    while thread.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    return 1000 * longest


def peak_memory(work: Callable[[np.ndarray], Any], mask: np.ndarray) -> float:
    """Return MiB that one call adds at its peak; NaN where the system is not Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")

    def kib(name: str) -> int:
        line = next(ln for ln in status.read_text().splitlines() if ln.startswith(name))
        return int(line.split()[1])

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else memory that earlier calls freed counts as there before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from now
    before = kib("VmRSS")
    work(mask)
    return (kib("VmHWM") - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[1024, 4096, 16_384])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["runs", "cc3d", "scipy"])
    options = parser.parse_args()
    has_cc3d = importlib.util.find_spec("cc3d") is not None
    if not has_cc3d:
        sys.stderr.write("connected-components-3d is not installed: its rows are missing\n")
    small = sample_mask()
    print(f"{'side':>6} {'task':<22}{'method':<8}{'ms':>9}{'peak MiB':>10}{'longest gap ms':>16}")
    for side in options.sides:
        mask = mirrored(small, side)
        for task, methods in TASKS.items():
            chosen = {
                m: f
                for m, f in methods.items()
                if m in options.methods and (m != "cc3d" or has_cc3d)
            }
            answers = [np.sort(np.atleast_1d(f(mask))) for f in chosen.values()]
            for answer in answers:
                assert np.array_equal(answer, answers[0]), task
            times: dict[str, list[float]] = {m: [] for m in chosen}
            for _ in range(options.rounds):
                for method, work in chosen.items():
                    start = time.perf_counter()
                    work(mask)
                    times[method].append(1000 * (time.perf_counter() - start))
            for method, work in chosen.items():
                memory = peak_memory(work, mask)
                gap = statistics.median(longest_gap(work, mask) for _ in range(3))
                middle = statistics.median(times[method])
                print(
                    f"{side:>6} {task:<22}{method:<8}{middle:>9.1f}{memory:>10.0f}{gap:>16.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
