"""The work behind the training dock's buttons, as generators that a thread runs: no Qt."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_plimseg.files import user_data_dir
from napari_plimseg.training_runs.folder_facts import FolderFacts, TrainingPlan
from napari_plimseg.training_runs.process import run_command
from napari_plimseg.training_runs.run_folder import list_runs, usable_name
from napari_plimseg.training_runs.slide_patches import SlideMask, cut_slides

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_plimseg._widgets.layer_views import MaskView
    from napari_plimseg.models.library import ModelInfo
    from napari_plimseg.tissue import TissueClasses
    from napari_plimseg.training_runs.process import TrainingRequest
    from napari_plimseg.training_runs.run_folder import KnownRun


def check_folder(
    folder: Path, program: Sequence[str] | None = None
) -> Generator[dict[str, Any] | FolderFacts | None, None, None]:
    """Yield how far the look through a folder is, and at the end what it holds."""
    told = []
    for one in run_command(["scan", str(folder)], program):
        if one is not None and one["kind"] == "counted":
            yield one
        else:
            yield None
            told += [one] if one is not None else []
    yield FolderFacts.of(told)


def make_plan(
    request: TrainingRequest, program: Sequence[str] | None = None
) -> Generator[TrainingPlan | None, None, None]:
    """Yield what a training would take, after Nones while that is found out."""
    with tempfile.TemporaryDirectory(prefix="plimseg-") as folder:
        told = []
        arguments = request.arguments(Path(folder))
        for one in run_command([*arguments, "--dry-run"], program):
            yield None
            told += [one] if one is not None else []
        yield TrainingPlan.of(told)


def patches_folder(stem: str) -> Path:
    """Return a new folder for the patches of open slides; it is not made yet."""
    parent, number = user_data_dir() / "patches", 1
    name = usable_name(stem)
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
        number += 1


def cut_open_slides(
    shown: Sequence[tuple[MaskView, NDArray[np.uint8]]],
    out: Path,
    program: Sequence[str] | None = None,
) -> Generator[dict[str, Any] | Path | FolderFacts | TissueClasses | None, None, None]:
    """Cut the slides of masks into patches, then look through these.

    Parameters
    ----------
    shown : sequence of (MaskView, ndarray of uint8, shape (h, w))
        Masks with what their layers show.
    out : Path
        Takes the patches.
    program : sequence of str, optional
        In place of the training package.

    Yields
    ------
    dict, Path, FolderFacts, TissueClasses or None
        How far it is; the folder when the patches are cut; what it holds; the masks' classes with
        their colours and words, which a table of tags does not have.
    """
    slides = []
    for view, pixels in shown:
        mask = view.full_mask(pixels)
        given = view.slide.mpp_is_given
        slides.append(SlideMask(view.slide.path, mask, view.info, mpp_is_given=given))
        yield None
    for one in cut_slides(slides, out):
        yield one if one is not None and one["kind"] == "counted" else None
    yield out
    yield from check_folder(out, program)
    yield slides[0].info.classes


def find_runs(*, take_up: bool) -> Generator[tuple[list[KnownRun], bool], None, None]:
    """Yield the trainings on this computer, and whether one of them is to be shown."""
    yield list_runs(), take_up


def find_models() -> Generator[list[ModelInfo], None, None]:
    """Yield the models of the catalogue."""
    from napari_plimseg.models.library import list_models

    yield list_models()
