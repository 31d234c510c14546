"""The one pass before the first epoch: every file is opened, and all that is wrong is told."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from plimseg_training.file_check import Opened, open_entry, place_of
from plimseg_training.folder_report import FolderReport, Problem
from plimseg_training.layouts import has_part, list_folder
from plimseg_training.listing import LayoutError, Listing
from plimseg_training.tag_names import name_without_tags
from plimseg_training.tagged_folder import TaggedFolder, TaggedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari_plimseg.tissue import TissueClasses

_SKIPPED_FRACTION = 0.01
_SKIPPED_FILES = 3
_ODD_RATIO = 2.0
_SKIPPED_KINDS = frozenset({"unreadable", "missing file", "too small"})


def check_folder(
    root: str | Path,
    *,
    classes: TissueClasses | None = None,
    layout: str = "auto",
    split: str = "train",
    mpp: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    whole: bool = True,
) -> FolderReport:
    """Read and check one part of a tagged folder; see `plimseg_training.tagged_folder.scan`.

    With `whole` false it comes on top of another folder, and may lack classes.
    """
    root = Path(root).absolute()
    try:
        listing = list_folder(root, classes=classes, layout=layout, split=split)
    except LayoutError as error:
        return FolderReport(None, (error.found,), root)
    except OSError as error:
        text = f"it can't be read ({error.strerror}). Check the rights on it, or the connection."
        return FolderReport(None, (Problem(root.name, "unreadable folder", text, True),), root)
    problems = list(listing.problems)
    opened = _open_all(listing, on_progress)
    for one in opened:
        problems.extend(one.problems)
    kept = [(one.image, one.pixel_hash) for one in opened if one.image is not None]
    images = _uniquely_named([image for image, _ in kept], listing.root)
    hashes = {image.name: hashed for image, (_, hashed) in zip(images, kept, strict=True)}
    problems += _skipped_too_many(problems, len(listing.entries), root)
    problems += _same_pictures(images, hashes)
    problems += _odd_sizes(images)
    if whole and not any(
        problem.fatal for problem in problems
    ):  # what it leaves out would mislead here
        problems += _classes_seldom(images, listing) if images else [_no_images(listing)]
    mpp = listing.mpp if mpp is None else mpp
    if mpp is None:
        text = "nothing tells how large a pixel is. Set data.mpp in um/px (10x: 1.0, 20x: 0.5)."
        problems.append(Problem(root.name, "unknown mpp", text, fatal=False))
    if not listing.groups_known and split == "train" and len(images) > 1:
        text = (
            "names do not tell slides or patients apart, so every file counts as its own. If "
            "some are of one slide, name it in a column 'group' of tags.csv; scores are too "
            "good otherwise."
        )
        problems.append(Problem(root.name, "unknown groups", text, fatal=False))
    if split == "train" and has_part(root, "validation"):
        problems += _compared_with_validation(root, listing, images, hashes)
    if any(problem.fatal for problem in problems):
        return FolderReport(None, tuple(problems), root, hashes)
    folder = TaggedFolder(
        listing.root, listing.layout, listing.classes, tuple(images), mpp, listing.truth_ids
    )
    return FolderReport(folder, tuple(problems), root, hashes)


def _open_all(listing: Listing, on_progress: Callable[[int, int], None] | None) -> list[Opened]:
    opened = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for one in pool.map(lambda entry: open_entry(entry, listing), listing.entries):
            opened.append(one)
            if on_progress is not None:
                on_progress(len(opened), len(listing.entries))
    return opened


def _uniquely_named(images: Sequence[TaggedImage], root: Path) -> list[TaggedImage]:
    """Name images after their folder too, or their suffix, where a stem occurs twice."""
    counts = Counter(image.name for image in images)
    named = []
    taken: set[str] = set()
    for image in images:
        if counts[image.name] > 1:
            place = Path(place_of(image.path, root))
            stem = name_without_tags(place.stem)
            name = "-".join([*place.parent.parts, stem])
            number = 2
            while name in taken:
                name = f"{'-'.join([*place.parent.parts, stem])}-{number}"
                number += 1
            image = TaggedImage(
                image.path, image.size, image.windows, image.tags, image.group, image.truth, name
            )
        taken.add(image.name)
        named.append(image)
    return named


def _skipped_too_many(problems: Iterable[Problem], files: int, root: Path) -> list[Problem]:
    skipped = [p for p in problems if p.kind in _SKIPPED_KINDS]
    if len(skipped) <= max(_SKIPPED_FILES, _SKIPPED_FRACTION * files):
        return []
    text = (
        f"{len(skipped)} of {files} files can't be used, '{skipped[0].file}' for one "
        f"({skipped[0].kind}): {skipped[0].text}"
    )
    return [Problem(root.name, f"many {skipped[0].kind}", text, fatal=True)]


def _same_pictures(images: Sequence[TaggedImage], hashes: dict[str, str]) -> list[Problem]:
    first: dict[str, TaggedImage] = {}
    problems = []
    for image in images:
        twin = first.setdefault(hashes[image.name], image)
        if twin is image:
            continue
        whole = len(image.windows) == len(twin.windows) == 1
        if whole and not np.array_equal(image.tags, twin.tags):
            text = (
                f"it is the same picture as '{twin.path.name}' with other tags. Keep the one "
                "with the right tags; an image of several classes needs all its tags at once."
            )
            problems.append(Problem(image.path.name, "conflicting tags", text, fatal=True))
        else:
            text = f"it is the same picture as '{twin.path.name}'. Delete one of them."
            problems.append(Problem(image.path.name, "duplicate", text, fatal=False))
    return problems


def _odd_sizes(images: Sequence[TaggedImage]) -> list[Problem]:
    if len(images) < 3:
        return []
    sides = np.array([np.sqrt(image.size[0] * image.size[1]) for image in images])
    usual = float(np.median(sides))
    problems = []
    for image, side in zip(images, sides, strict=True):
        if not usual / _ODD_RATIO <= side <= usual * _ODD_RATIO:
            text = (
                f"it is {image.size[1]} x {image.size[0]} px where about {usual:.0f} px a side "
                "are usual. Check that it has the same magnification as the others."
            )
            problems.append(Problem(image.path.name, "odd size", text, fatal=False))
    return problems


def _classes_seldom(images: Sequence[TaggedImage], listing: Listing) -> list[Problem]:
    ids = listing.classes.tissue_ids
    counts = np.sum([image.tags.sum(0, dtype=np.int64) for image in images], axis=0)
    tagged = [listing.classes[i - 1].name for i in ids if counts[i - 1]]
    if len(tagged) < 2:
        text = (
            f"every tag is '{tagged[0]}', so there is nothing to tell it from. Add images that "
            "show other classes."
        )
        return [Problem(listing.root.name, "one class", text, fatal=True)]
    problems = []
    for i in ids:
        if counts[i - 1] == 0:
            name = listing.classes[i - 1].name
            text = (
                f"no image is tagged '{name}', so it can't be learnt. Add images of it, or take "
                "it out of data.classes."
            )
            problems.append(Problem(listing.root.name, "missing class", text, fatal=False))
    return problems


def _no_images(listing: Listing) -> Problem:
    text = "there is no image to train on. Put images with tags there."
    return Problem(listing.root.name, "no images", text, fatal=True)


def _compared_with_validation(
    root: Path, listing: Listing, images: Sequence[TaggedImage], hashes: dict[str, str]
) -> list[Problem]:
    """Compare with the validation part of the same folder; its own mistakes are told elsewhere."""
    try:
        other = list_folder(
            root, classes=listing.classes, layout=listing.layout, split="validation"
        )
    except LayoutError:
        return []
    opened = [one for one in _open_all(other, None) if one.image is not None]
    validation = {place_of(one.image.path, root): one.pixel_hash for one in opened if one.image}
    groups = {one.image.group for one in opened if one.image} if other.groups_known else set()
    problems = shared_pictures(hashes, validation)
    both = sorted(groups & {image.group for image in images}) if listing.groups_known else []
    if both:
        text = (
            f"{len(both)} slides or patients are in training and in validation, '{both[0]}' for "
            "one, so the score is too good. Keep each in one part."
        )
        problems.append(Problem(root.name, "shared groups", text, fatal=False))
    return problems


def check_validation(
    root: str | Path,
    *,
    classes: TissueClasses | None = None,
    layout: str = "auto",
    mpp: float | None = None,
) -> FolderReport:
    """Read the folder that a recipe names as `data.validation`.

    It may hold a part `val`, or images in `img/` with masks in `mask/`, or be a tagged folder like
    the one to train on.

    Parameters
    ----------
    root, classes, layout, mpp
        As `plimseg_training.tagged_folder.scan` takes them.
    """
    folder = Path(root).absolute()
    masked = (folder / "img").is_dir() and (folder / "mask").is_dir()
    split = "validation" if masked or has_part(folder, "validation") else "train"
    return check_folder(folder, classes=classes, layout=layout, split=split, mpp=mpp)


def shared_pictures(training: Mapping[str, str], validation: Mapping[str, str]) -> list[Problem]:
    """Return a problem for every picture that is in training and in validation.

    Parameters
    ----------
    training, validation : mapping of str to str
        `FolderReport.pixel_hashes` of the two parts.
    """
    by_hash = {hashed: name for name, hashed in training.items()}
    problems = []
    for name, hashed in validation.items():
        if hashed in by_hash:
            text = (
                f"it is the same picture as '{by_hash[hashed]}' of the training part, so the "
                "score is too good. Delete one of them."
            )
            problems.append(Problem(name, "in two parts", text, fatal=False))
    return problems
