"""Measure the time of a prompt: at a new place, nearby, and at a cached place.

    python benchmarks/hints.py [SLIDE] [--model MODEL] [--mpp 0.25] [--threads 2]

Prints the median and the maximum over several places, in milliseconds of wall time and processor
time. Wall times are only meaningful while nothing else runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_plimseg.inference import EmbeddingCache, Hint, HintSession
from napari_plimseg.models import load_promptable_model
from napari_plimseg.slides import Region, open_slide

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = (
    Path(__file__).parent.parent / "src" / "napari_plimseg" / "sample" / "CMU-1-Small-Region.svs"
)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor milliseconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--mpp", type=float, help="pixel size, if the slide has none")
    parser.add_argument("--places", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_promptable_model(options.model)
    random = np.random.default_rng(0)
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, open_slide(options.slide) as slide:
        slide.mpp = slide.mpp or options.mpp
        session = HintSession(slide, model, EmbeddingCache(Path(folder)))
        print(f"{slide.name}, weights '{session.weights_name}', {options.threads} threads")
        size = 100 / (slide.mpp or 1)
        first = Hint(points=((1, 1, True),))
        times["opening the session"] = [timed(lambda: session.segment([first]))]
        for _ in range(options.places):
            y, x = (random.uniform(0.1, 0.9) * n for n in slide.shape)
            box = Hint(boxes=(Region(y - size / 2, x - size / 2, size, size),))
            nearby = Hint(points=((y, x, True), (y + size, x, False)), boxes=box.boxes)
            later = HintSession(slide, model, EmbeddingCache(Path(folder)))
            later._key((1.0, 0, 0))  # the slide's fingerprint is computed once
            for what, work in (
                ("box in a new place", lambda box=box: session.segment([box])),
                ("two clicks more", lambda hint=nearby: session.segment([hint])),
                ("eight objects at once", lambda box=box: session.segment([box] * 8)),
                ("known from the disk", lambda box=box, s=later: s.segment([box])),
            ):
                times.setdefault(what, []).append(timed(work))
    print(f"{'ms':24s}{'median':>9s}{'longest':>9s}{'processor':>11s}")
    for what, values in times.items():
        walls, processors = (sorted(v[i] for v in values) for i in (0, 1))
        median, processor = (v[len(v) // 2] for v in (walls, processors))
        print(f"{what:24s}{median:9.0f}{walls[-1]:9.0f}{processor:11.0f}")


if __name__ == "__main__":
    main()
