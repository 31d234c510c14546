"""The scan of a folder before training: every file is opened and every problem reported."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import TagError
from plimseg_training.data.entries import FolderIndex, LayoutError, Problem, name_without_tags
from plimseg_training.data.images import is_there, read_rgb
from plimseg_training.data.layouts import has_part, list_folder
from plimseg_training.data.tagged_folder import USER_LAYOUTS, TaggedFolder, TaggedImage
from plimseg_training.data.truth import Choices, Truth, TruthKey, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_plimseg.tissue import TissueClasses
    from plimseg_training.data.entries import FolderEntry


_SHOWN_PER_KIND = 20


@dataclass(frozen=True)
class FolderReport:
    """Result of a scan.

    Parameters
    ----------
    folder : TaggedFolder or None
        Training data; None when a problem is fatal.
    problems : tuple of Problem
        Fatal ones first.
    root : Path, optional
        The scanned folder or file.
    pixel_hashes : mapping of str to str
        From image names to a SHA-256 of their pixels, to find duplicates in other folders.
    """

    folder: TaggedFolder | None
    problems: tuple[Problem, ...] = ()
    root: Path | None = None
    pixel_hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = sorted(self.problems, key=lambda problem: not problem.fatal)
        object.__setattr__(self, "problems", tuple(ordered))

    @property
    def fatal(self) -> tuple[Problem, ...]:
        """The problems that prevent training."""
        return tuple(problem for problem in self.problems if problem.fatal)

    def table(self) -> str:
        """Return the problems as aligned text, at most twenty per kind."""
        if not self.problems:
            return "No problems."
        rows = [("", "file", "problem")]
        shown: dict[tuple[str, bool], int] = {}
        for problem in self.problems:
            key = (problem.kind, problem.fatal)
            shown[key] = shown.get(key, 0) + 1
            if shown[key] <= _SHOWN_PER_KIND:
                rows.append(("stops" if problem.fatal else "note", problem.file, problem.text))
        for (kind, fatal), count in shown.items():
            if count > _SHOWN_PER_KIND:
                rest = f"{count - _SHOWN_PER_KIND} more files: {kind}"
                rows.append(("stops" if fatal else "note", "...", rest))
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows)

    def raise_if_fatal(self) -> TaggedFolder:
        """Return the folder, or raise the first fatal problem.

        Raises
        ------
        TagError
            With the first fatal problem and the number of others.
        """
        fatal = self.fatal
        if fatal:
            more = ""
            if len(fatal) > 1:
                more = f" ({len(fatal)} problems prevent training; 'plimseg scan' lists them all)"
            raise TagError(fatal[0].text.rstrip(".") + "." + more, path=fatal[0].file)
        if self.folder is None:
            raise TagError("nothing was read", path=self.root)
        return self.folder


SMALLEST_SIDE = 32


@dataclass(frozen=True)
class Opened:
    """Result of opening one file.

    Parameters
    ----------
    image : TaggedImage or None
        None when the file is skipped.
    pixel_hash : str
        SHA-256 of size and pixels; empty when they can't be read.
    problems : tuple of Problem
        Problems of the file.
    blank : Counter of str
        Pixels of its mask that are not annotated, by their value.
    truth_pixels : int
        Pixels of its mask.
    """

    image: TaggedImage | None
    pixel_hash: str
    problems: tuple[Problem, ...]
    blank: Counter[str] = field(default_factory=Counter)
    truth_pixels: int = 0


def open_entry(entry: FolderEntry, listing: FolderIndex, key: TruthKey) -> Opened:
    """Decode a whole file, and its truth if it has any.

    Parameters
    ----------
    entry : FolderEntry
        The file.
    listing : FolderIndex
        The index that contains it.
    key : TruthKey
        What the values of truth files mean.

    Returns
    -------
    Opened
        With any problems; none is raised.
    """
    name = place_of(entry.path, listing.root)
    if not is_there(entry.path):
        return Opened(None, "", ())  # already reported by the reader of the table
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
            f"it is only {size[1]} x {size[0]} px, so it is skipped. Networks need at least "
            f"{SMALLEST_SIDE} px per side: cut larger patches."
        )
        return Opened(None, "", (Problem(name, "too small", text, fatal=False),))
    problems: list[Problem] = []
    hashed = hashlib.sha256(np.array(size, "<i4").tobytes() + pixels.tobytes()).hexdigest()
    truth = _truth(entry, size, listing, key, problems)
    tagged = _tagged(entry, size, truth, listing, name, problems)
    if tagged is None:
        return Opened(None, hashed, tuple(problems))
    windows, tags = tagged
    image = TaggedImage(
        entry.path, size, windows, tags, entry.group, None if truth is None else entry.truth
    )
    if truth is None:
        return Opened(image, hashed, tuple(problems))
    return Opened(image, hashed, tuple(problems), truth.blank, truth.ids.size)


def _tagged(
    entry: FolderEntry,
    size: tuple[int, int],
    truth: Truth | None,
    listing: FolderIndex,
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
                f"the window y={y}, x={x}, {height} x {width} is outside the image of "
                f"{size[0]} x {size[1]} px. Correct the row; y and height are vertical, x and "
                "width horizontal."
            )
            problems.append(Problem(name, "wrong window", text, fatal=True))
            return None
        windows = wide.astype(np.int32)
    elif truth is None or listing.rule is None:
        return None
    else:
        windows, tags = listing.rule.windows(size), listing.rule.tags(truth.ids, count)
        if listing.rule.side:
            shown = tags.any(1)
            windows, tags = windows[shown], tags[shown]
        if len(tags) == 0:
            text = "its mask contains no class, so it is skipped. Check the mask."
            problems.append(Problem(name, "empty mask", text, fatal=False))
            return None
    if entry.tags and not tags.any(1).all():
        text = (
            "all its tags are 0. Tag at least one class, or remove the file if it shows none "
            "of them."
        )
        problems.append(Problem(name, "all-zero tags", text, fatal=True))
        return None
    return windows, tags


def _truth(
    entry: FolderEntry,
    size: tuple[int, int],
    listing: FolderIndex,
    key: TruthKey,
    problems: list[Problem],
) -> Truth | None:
    """Return the decoded truth of an entry, or None if it has none or after a problem."""
    if entry.truth is None:
        return None
    name = place_of(entry.truth, listing.root)
    fatal = not entry.tags and bool(listing.rule and listing.rule.side)
    try:
        truth = key.read(entry.truth)
    except TagError as error:
        lossy = "losses" in error.problem
        text = f"the mask can't be used: {error.problem}. {error.remedy}"
        problems.append(Problem(name, "unreadable mask", text, fatal=fatal or lossy))
        return None
    if truth.ids.shape != size:
        text = (
            f"the mask is {truth.ids.shape[1]} x {truth.ids.shape[0]} px and the image "
            f"{size[1]} x {size[0]} px. Save it at the image's size, with nearest-neighbor "
            "sampling."
        )
        problems.append(Problem(name, "mask size", text, fatal=True))
        return None
    if truth.unknown:
        text = f"{truth.problem()}. {key.remedy(truth)}"
        problems.append(Problem(name, "mask values", text, fatal=True))
        return None
    return truth


def _not_annotated(opened: Sequence[Opened], key: TruthKey, root: Path) -> list[Problem]:
    """Return a note about the pixels of users' masks that are not scored."""
    blank = Counter[str]()
    for one in opened:
        blank.update(one.blank)
    if not (blank and key.of_user):
        return []
    text = (
        f"of the masks, {shares(blank, sum(one.truth_pixels for one in opened))} count as not "
        f"annotated and are not scored. Masks hold mask ids: {key.known}. If a value means a "
        "class, add --map VALUE=CLASS (in a recipe: data.map)."
    )
    return [Problem(root.name, "not annotated", text, fatal=False)]


def place_of(path: Path, root: Path) -> str:
    """Return a file's path relative to the root, which distinguishes files of the same name."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


_SKIPPED_FRACTION = 0.01
_SKIPPED_FILES = 3
_ODD_RATIO = 2.0
_SAME_MPP = 0.02
_SKIPPED_KINDS = frozenset({"unreadable", "missing file", "too small"})


def scan_folder(
    root: str | Path,
    *,
    classes: TissueClasses | None = None,
    layout: str = "auto",
    split: str = "train",
    mpp: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    whole: bool = True,
    maps: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> FolderReport:
    """Read one part of a tagged folder: open every file once and report every problem.

    Parameters
    ----------
    root : str or Path
        A folder, or a CSV file of tags.
    classes : TissueClasses, optional
        In tag order. By default those of a recognized data set, the columns of the CSV file or
        the names of the folders.
    layout : str
        "auto", or a name of `layouts.LAYOUTS`.
    split : {"train", "validation", "test"}
        Which part. Images in `img/` with masks in `mask/` get tags from these, for scoring only:
        a class is tagged if it covers a single pixel.
    mpp : float, optional
        Pixel size in micrometers; by default that of the data set or the file names.
    on_progress : callable, optional
        Called with the numbers of finished and of all files.
    whole : bool
        False for an additional folder, which need not contain every class. Parts for validation
        and test never need to.
    maps, ignored : sequence of str
        What the user decided about values and colors of masks, as `Choices.of` takes it.

    Returns
    -------
    FolderReport
        With all problems; none is raised.

    Raises
    ------
    ConfigError
        When `maps` or `ignored` name no class.
    """
    root = Path(root).absolute()
    try:
        listing = list_folder(root, classes=classes, layout=layout, split=split)
    except LayoutError as error:
        return FolderReport(None, (error.found,), root)
    except OSError as error:
        text = f"it can't be read ({error.strerror}). Check its permissions, or the connection."
        place = root if error.filename is None else Path(os.fsdecode(error.filename))
        name = place_of(place, root) if place != root else root.name
        return FolderReport(None, (Problem(name, "unreadable folder", text, True),), root)
    problems = list(listing.problems)
    choices = Choices.of(maps, ignored, listing.classes)
    key = TruthKey(listing.classes, listing.truth_ids, choices, listing.layout in USER_LAYOUTS)
    opened = _open_all(listing, key, on_progress)
    for one in opened:
        problems.extend(one.problems)
    kept = [(one.image, one.pixel_hash) for one in opened if one.image is not None]
    images = _uniquely_named([image for image, _ in kept], listing.root)
    hashes = {image.name: hashed for image, (_, hashed) in zip(images, kept, strict=True)}
    problems += _skipped_too_many(problems, len(listing.entries), root)
    problems += _same_pictures(images, hashes)
    problems += _odd_sizes(images)
    problems += _not_annotated(opened, key, root)
    if not any(
        problem.fatal for problem in problems
    ):  # files missing because of a fatal problem would mislead here
        if not images:
            problems.append(_no_images(listing))
        elif whole and split == "train":  # a test part may show a single class
            problems += _classes_seldom(images, listing)
    if mpp and listing.mpp and abs(mpp / listing.mpp - 1) > _SAME_MPP:
        text = f"the folder says {listing.mpp:g} um/px, but {mpp:g} was given and is used."
        problems.append(Problem(root.name, "another mpp", text, fatal=False))
    mpp = listing.mpp if mpp is None else mpp
    if mpp is None:
        text = "the pixel size is unknown. Set data.mpp in um/px (10x: 1.0, 20x: 0.5)."
        problems.append(Problem(root.name, "unknown mpp", text, fatal=False))
    if not listing.groups_known and split == "train" and len(images) > 1:
        text = (
            "file names do not show which slide an image is from. If several come from one slide, "
            "add a column 'group' to tags.csv; otherwise scores will be too optimistic."
        )
        problems.append(Problem(root.name, "unknown groups", text, fatal=False))
    if split == "train" and has_part(root, "validation"):
        problems += _compared_with_validation(root, listing, images, hashes)
    if any(problem.fatal for problem in problems):
        return FolderReport(None, tuple(problems), root, hashes)
    folder = TaggedFolder(
        listing.root, listing.layout, listing.classes, tuple(images), mpp, key.ids, choices
    )
    return FolderReport(folder, tuple(problems), root, hashes)


def _open_all(
    listing: FolderIndex, key: TruthKey, on_progress: Callable[[int, int], None] | None
) -> list[Opened]:
    opened = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for one in pool.map(lambda entry: open_entry(entry, listing, key), listing.entries):
            opened.append(one)
            if on_progress is not None:
                on_progress(len(opened), len(listing.entries))
    return opened


def _uniquely_named(images: Sequence[TaggedImage], root: Path) -> list[TaggedImage]:
    """Add the folder's name, or a number, to images whose stem occurs twice."""
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
        f"{len(skipped)} of {files} files can't be used, '{skipped[0].file}' for example "
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
                f"it is {image.size[1]} x {image.size[0]} px where about {usual:.0f} px per side "
                "are usual. Check that it has the same magnification as the others."
            )
            problems.append(Problem(image.path.name, "odd size", text, fatal=False))
    return problems


def _classes_seldom(images: Sequence[TaggedImage], listing: FolderIndex) -> list[Problem]:
    ids = listing.classes.tissue_ids
    counts = np.sum([image.tags.sum(0, dtype=np.int64) for image in images], axis=0)
    tagged = [listing.classes[i - 1].name for i in ids if counts[i - 1]]
    if len(tagged) < 2:
        text = (
            f"every tag is '{tagged[0]}', so there is nothing to distinguish. Add images that "
            "show other classes."
        )
        return [Problem(listing.root.name, "one class", text, fatal=True)]
    problems = []
    for i in ids:
        if counts[i - 1] == 0:
            name = listing.classes[i - 1].name
            text = (
                f"no image is tagged '{name}', so it can't be learned. Add images of it, or remove "
                "it from data.classes."
            )
            problems.append(Problem(listing.root.name, "missing class", text, fatal=False))
    return problems


def _no_images(listing: FolderIndex) -> Problem:
    text = "there is no training image. Add images with tags."
    return Problem(listing.root.name, "no images", text, fatal=True)


def _compared_with_validation(
    root: Path, listing: FolderIndex, images: Sequence[TaggedImage], hashes: dict[str, str]
) -> list[Problem]:
    """Compare with the validation part of the same folder, whose own problems are not reported."""
    try:
        other = list_folder(
            root, classes=listing.classes, layout=listing.layout, split="validation"
        )
    except LayoutError:
        return []
    key = TruthKey(other.classes, other.truth_ids)
    opened = [one for one in _open_all(other, key, None) if one.image is not None]
    validation = {place_of(one.image.path, root): one.pixel_hash for one in opened if one.image}
    groups = {one.image.group for one in opened if one.image} if other.groups_known else set()
    problems = shared_pictures(hashes, validation)
    both = sorted(groups & {image.group for image in images}) if listing.groups_known else []
    if both:
        text = (
            f"{len(both)} slides or patients are in both training and validation ('{both[0]}', "
            "...), so scores will be too optimistic. Keep each in one part."
        )
        problems.append(Problem(root.name, "shared groups", text, fatal=False))
    return problems


def check_validation(
    root: str | Path,
    *,
    classes: TissueClasses | None = None,
    layout: str = "auto",
    mpp: float | None = None,
    maps: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> FolderReport:
    """Read the folder `data.validation` of a recipe.

    It may have a part `val`, or images in `img/` with masks in `mask/`, or be a tagged folder like
    the training folder.

    Parameters
    ----------
    root, classes, layout, mpp, maps, ignored
        As in `scan_folder`.
    """
    folder = Path(root).absolute()
    masked = (folder / "img").is_dir() and (folder / "mask").is_dir()
    split = "validation" if masked or has_part(folder, "validation") else "train"
    return scan_folder(
        folder,
        classes=classes,
        layout=layout,
        split=split,
        mpp=mpp,
        whole=False,
        maps=maps,
        ignored=ignored,
    )


def shared_pictures(training: Mapping[str, str], validation: Mapping[str, str]) -> list[Problem]:
    """Return a problem for every image that is in both training and validation.

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
                f"it is the same picture as '{by_hash[hashed]}' of the training part, so scores "
                "will be too optimistic. Delete one of them."
            )
            problems.append(Problem(name, "in two parts", text, fatal=False))
    return problems
