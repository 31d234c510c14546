"""The work behind the batch dock's buttons, as generators that a thread runs: no Qt, no napari."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from napari_plimseg.slides.opening import slides_in

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_plimseg._widgets.common.jobs import ModelCache
    from napari_plimseg.inference.cohort import Added, Cohort, CohortStep
    from napari_plimseg.inference.job import SegmentationJob


def add_slides(cohort: Cohort, places: Sequence[str | Path]) -> Generator[Added, None, None]:
    """Add files and the slides in folders; yield what became of each."""
    for place in places:
        for path in slides_in(place):
            yield cohort.add(path)


def run_list(
    cohort: Cohort, job: SegmentationJob, keeper: ModelCache
) -> Generator[CohortStep, None, None]:
    """Segment every slide that is waiting or stopped; closing the generator stops safely."""
    cohort.choose(str(job.model), job.formats)
    with contextlib.closing(cohort.run(lambda: job.loaded(keeper.model))) as steps:
        yield from steps
