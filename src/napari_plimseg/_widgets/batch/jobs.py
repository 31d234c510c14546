"""The work behind the batch dock's buttons, as generators that a thread runs: no Qt, no napari."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg._widgets.common.jobs import ModelCache, run_settings
from napari_plimseg.inference.cohort import Added, Cohort, CohortStep, thumbnail_of
from napari_plimseg.inference.slide_run import SlideRun
from napari_plimseg.slides.opening import slides_in

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_plimseg.settings import DockSettings
    from napari_plimseg.tissue import TissueClasses


@dataclass(frozen=True)
class BatchRequest:
    """One press on *Run all*.

    Parameters
    ----------
    model : str
        Name in the catalogue.
    classes : TissueClasses or None
        Classes and words of the user; None for the model's own.
    settings : DockSettings
        Device, tiles and tissue, as in the main dock.
    folder : Path
        Where results go.
    formats : tuple of str
        Keys of `results.export.FORMATS`.
    """

    model: str
    classes: TissueClasses | None
    settings: DockSettings
    folder: Path
    formats: tuple[str, ...]


def open_list(folder: Path) -> Generator[Cohort, None, None]:
    """Yield the list of slides of a results folder."""
    yield Cohort.open(folder)


def add_slides(cohort: Cohort, places: Sequence[str | Path]) -> Generator[Added, None, None]:
    """Add files and the slides in folders; yield what became of each."""
    for place in places:
        for path in slides_in(place):
            yield cohort.add(path)


def thumbnails(paths: Sequence[Path]) -> Generator[Added, None, None]:
    """Yield a small picture of each slide that can be read."""
    for path in paths:
        yield Added(path, thumbnail=thumbnail_of(path))


def run_list(
    cohort: Cohort, request: BatchRequest, keeper: ModelCache
) -> Generator[CohortStep, None, None]:
    """Segment every slide that is waiting or stopped; closing the generator stops safely."""

    def make_run() -> SlideRun:
        return SlideRun(
            model=keeper.model(request.model, request.classes),
            settings=run_settings(request.settings),
            folder=request.folder,
            formats=request.formats,
            digest_names=True,
        )

    cohort.choose(request.model, request.formats)
    with contextlib.closing(cohort.run(make_run)) as steps:
        yield from steps
