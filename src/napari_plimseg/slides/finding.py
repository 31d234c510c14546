"""Which files of a folder are slides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import SlideError
from napari_plimseg.slides.guard import identify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_plimseg.slides.guard import FileKind

OUR_ENDINGS = (".mask.ome.tif", ".overlay.png")
"""Pictures that this program writes: no slides."""
_LARGEST_FOLDER = 20_000


def slides_in(place: str | Path) -> Iterator[Path]:
    """Yield a slide, or the slides in a folder and the folders in it, sorted by name.

    Files are recognised by their content. Where there are slides, pictures beside them are
    taken for previews and left out.

    Parameters
    ----------
    place : str or Path
        A file is yielded as it is, whatever it holds.
    """
    place = Path(place)
    if not place.is_dir() or _kind(place) is not None:
        yield place
        return
    budget = [_LARGEST_FOLDER]
    yield from _slides_below(place, budget)


def _slides_below(folder: Path, budget: list[int]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return  # a folder that can't be looked into holds no slides for this person
    slides: list[Path] = []
    pictures: list[Path] = []
    folders: list[Path] = []
    for entry in entries:
        budget[0] -= 1
        if budget[0] < 0:
            return
        path = Path(entry.path)
        ours = (".plimseg", ".plimseg-corrections", *OUR_ENDINGS)
        if entry.name.startswith(".") or entry.name.endswith(ours):
            continue
        kind = _kind(path)
        if kind is not None:
            (pictures if kind.is_picture else slides).append(path)
        elif entry.is_dir() and path.suffix.lower() != ".zarr":
            folders.append(path)
    yield from slides or pictures
    for child in folders:
        yield from _slides_below(child, budget)


def _kind(path: Path) -> FileKind | None:
    try:
        return identify(path)
    except (SlideError, OSError):
        return None
