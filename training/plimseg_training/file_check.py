"""One file of a tagged folder: decoded whole, its tags and truth looked at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import TagError
from plimseg_training.folder_report import Problem
from plimseg_training.pictures import is_there, read_mask, read_rgb
from plimseg_training.tagged_folder import TaggedImage, truth_ids_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from plimseg_training.listing import Entry, Listing

SMALLEST_SIDE = 32


@dataclass(frozen=True)
class Opened:
    """One file after it was opened.

    Parameters
    ----------
    image : TaggedImage or None
        None when the file is left out.
    pixel_hash : str
        SHA-256 of size and pixels; empty when they can't be read.
    problems : tuple of Problem
        What is wrong with it.
    """

    image: TaggedImage | None
    pixel_hash: str
    problems: tuple[Problem, ...]


def open_entry(entry: Entry, listing: Listing) -> Opened:
    """Decode one file whole, and its truth where it has one.

    Parameters
    ----------
    entry : Entry
        What the reader of the layout found.
    listing : Listing
        Where it belongs.

    Returns
    -------
    Opened
        Mistakes are in it; nothing is raised for them.
    """
    name = place_of(entry.path, listing.root)
    if not is_there(entry.path):
        return Opened(None, "", ())  # the reader of the table has told it
    try:
        pixels = read_rgb(entry.path)
    except TagError as error:
        deep = "16 bits" in error.problem
        kind = "16 bits" if deep else "unreadable"
        text = f"{error.problem}. {error.remedy}"
        return Opened(None, "", (Problem(name, kind, text, fatal=deep),))
    size = (pixels.shape[0], pixels.shape[1])
    if min(size) < SMALLEST_SIDE:
        text = (
            f"it is only {size[1]} x {size[0]} px; it is left out. Networks need at least "
            f"{SMALLEST_SIDE} px a side: cut larger patches."
        )
        return Opened(None, "", (Problem(name, "too small", text, fatal=False),))
    problems: list[Problem] = []
    hashed = hashlib.sha256(np.array(size, "<i4").tobytes() + pixels.tobytes()).hexdigest()
    truth = None if entry.truth is None else _truth(entry, size, listing, problems)
    tagged = _tagged(entry, size, truth, listing, name, problems)
    if tagged is None:
        return Opened(None, hashed, tuple(problems))
    windows, tags = tagged
    image = TaggedImage(
        entry.path, size, windows, tags, entry.group, None if truth is None else entry.truth
    )
    return Opened(image, hashed, tuple(problems))


def _tagged(
    entry: Entry,
    size: tuple[int, int],
    truth: NDArray[np.uint8] | None,
    listing: Listing,
    name: str,
    problems: list[Problem],
) -> tuple[NDArray[np.int32], NDArray[np.uint8]] | None:
    """Return windows and tags of one file, or None after a problem."""
    count = len(listing.classes.tissue_ids)
    if entry.tags:
        wide = np.array(entry.windows or [(0, 0, *size)], np.int64)
        tags = np.array(entry.tags, np.uint8)
        outside = (wide[:, :2] < 0).any(1) | (wide[:, 2:] < 1).any(1)
        outside |= (wide[:, :2] + wide[:, 2:] > size).any(1)
        if outside.any():
            y, x, height, width = wide[outside][0]
            text = (
                f"the window y={y}, x={x}, {height} x {width} lies outside the image of "
                f"{size[0]} x {size[1]} px. Correct the row; y and height count down, x and "
                "width across."
            )
            problems.append(Problem(name, "wrong window", text, fatal=True))
            return None
        windows = wide.astype(np.int32)
    elif truth is None or listing.rule is None:
        return None
    else:
        windows, tags = listing.rule.windows(size), listing.rule.tags(truth, count)
        if listing.rule.side:
            shown = tags.any(1)
            windows, tags = windows[shown], tags[shown]
        if len(tags) == 0:
            text = "its mask shows no class; it is left out. Look at the mask."
            problems.append(Problem(name, "empty mask", text, fatal=False))
            return None
    if entry.tags and not tags.any(1).all():
        text = (
            "all its tags are 0. Tag at least one class, or take the file out if it shows none "
            "of them."
        )
        problems.append(Problem(name, "all-zero tags", text, fatal=True))
        return None
    return windows, tags


def _truth(
    entry: Entry, size: tuple[int, int], listing: Listing, problems: list[Problem]
) -> NDArray[np.uint8] | None:
    """Return the mask ids of an entry's truth, or None after a problem."""
    if entry.truth is None:
        return None
    name = place_of(entry.truth, listing.root)
    fatal = not entry.tags and bool(listing.rule and listing.rule.side)
    try:
        values = read_mask(entry.truth)
    except TagError as error:
        text = f"the mask can't be used: {error.problem}. {error.remedy}"
        problems.append(Problem(name, "unreadable mask", text, fatal=fatal))
        return None
    if values.shape[:2] != size:
        text = (
            f"the mask is {values.shape[1]} x {values.shape[0]} px and the image "
            f"{size[1]} x {size[0]} px. Save it at the image's size, with nearest-neighbour "
            "sampling."
        )
        problems.append(Problem(name, "mask size", text, fatal=True))
        return None
    if values.ndim == 2:
        known = set(listing.truth_ids) | listing.unscored
        unknown = sorted(set(np.unique(values).tolist()) - known)
        if unknown:
            text = (
                f"the mask holds the value {unknown[0]}, which stands for no class (known: "
                f"{', '.join(map(str, sorted(listing.truth_ids)))}). Correct the mask, or "
                "data.classes."
            )
            problems.append(Problem(name, "mask values", text, fatal=True))
            return None
    ids = truth_ids_of(values, listing.truth_ids, listing.classes)
    if values.ndim == 3 and not ids.any():
        text = (
            "the mask is a colour picture in none of the classes' colours. Save class numbers "
            "(8-bit palette or grey), or set the colours in data.classes."
        )
        problems.append(Problem(name, "mask values", text, fatal=True))
        return None
    return ids


def place_of(path: Path, root: Path) -> str:
    """Return a file's name with the folders below the root, which tell twins apart."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
