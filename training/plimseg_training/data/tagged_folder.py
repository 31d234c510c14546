"""Folders of tagged images: the training data, independent of the layout on disk.

A tagged image has one or more *windows*, each with its own tags. A patch has one window, the
whole file; a GlaS image has hundreds of overlapping ones.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg.errors import TagError
from napari_plimseg.files import sha256
from plimseg_training.data.entries import name_without_tags
from plimseg_training.data.images import read_rgb
from plimseg_training.data.truth import Choices, TruthKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_plimseg.tissue import TissueClasses


USER_LAYOUTS = ("names", "csv")
"""Layouts whose masks hold mask ids; published data sets have numbers of their own."""
_TRIES = 4


@dataclass(frozen=True, eq=False)
class TaggedImage:
    """One image file with tagged windows.

    Parameters
    ----------
    path : Path
        The image file.
    size : tuple of int
        Height and width in pixels.
    windows : ndarray of int32, shape (N, 4)
        y, x, height and width of each window in the image's pixels.
    tags : ndarray of uint8, shape (N, C)
        0 or 1 for each window and class; classes in tag order, without background.
    group : str
        Slide or patient; a split never separates images of a group.
    truth : Path, optional
        A known mask, used for scoring only.
    given_name : str
        Replaces the file's stem where two files of a folder have the same one.

    Raises
    ------
    TagError
        When windows, tags and image do not match, or a tag is neither 0 nor 1.
    """

    path: Path
    size: tuple[int, int]
    windows: NDArray[np.int32]
    tags: NDArray[np.uint8]
    group: str
    truth: Path | None = None
    given_name: str = ""

    def __post_init__(self) -> None:
        windows = np.array(self.windows, np.int32)
        tags = np.array(self.tags)
        if windows.ndim != 2 or windows.shape[1] != 4 or len(windows) == 0:
            raise TagError("it has no window (y, x, height, width)", path=self.path)
        if tags.ndim != 2 or len(tags) != len(windows):
            raise TagError(
                f"{len(windows)} windows can't have tags of the shape {tags.shape}", path=self.path
            )
        if not np.isin(tags, (0, 1)).all():
            raise TagError("a tag is neither 0 nor 1", path=self.path)
        low, high = windows[:, :2], windows[:, :2] + windows[:, 2:]
        if (low < 0).any() or (windows[:, 2:] < 1).any() or (high > self.size).any():
            raise TagError(
                f"a window is outside the image of {self.size[0]} x {self.size[1]} px",
                path=self.path,
            )
        tags = tags.astype(np.uint8)
        windows.flags.writeable = tags.flags.writeable = False
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "tags", tags)

    @property
    def name(self) -> str:
        """The file's stem without tags; unique in a `TaggedFolder`."""
        return self.given_name or name_without_tags(self.path.stem)


@dataclass(frozen=True, eq=False)
class TaggedFolder:
    """Tagged images with the same classes.

    Parameters
    ----------
    root : Path
        The folder.
    layout : str
        Its layout: "names", "csv", "folders", "glas", "wsss4luad", "luad_histoseg" or
        "bcss_wsss".
    classes : TissueClasses
        In tag order; background, if any, is last and never tagged.
    images : tuple of TaggedImage
        At least one, all with one tag for each class except background.
    mpp : float, optional
        Pixel size in micrometers; None if unknown.
    truth_ids : mapping of int to int
        From values of truth files to mask ids, 0 for those that are not scored.
    choices : Choices
        What the user decided about other values.

    Raises
    ------
    TagError
        When there are no images, two have the same name, or tags do not match the classes.
    """

    root: Path
    layout: str
    classes: TissueClasses
    images: tuple[TaggedImage, ...]
    mpp: float | None = None
    truth_ids: Mapping[int, int] = field(default_factory=dict)
    choices: Choices = field(default_factory=Choices)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        if not self.images:
            raise TagError("there are no images", path=self.root)
        count = len(self.classes.tissue_ids)
        seen: set[str] = set()
        for image in self.images:
            if image.tags.shape[1] != count:
                raise TagError(
                    f"it has {image.tags.shape[1]} tags for {count} classes",
                    path=image.path,
                )
            if image.name in seen:
                raise TagError(f"two images are called '{image.name}'", path=self.root)
            seen.add(image.name)
        wrong = [i for i in self.truth_ids.values() if not 0 <= i <= len(self.classes)]
        if wrong:
            raise TagError(
                f"the truth has the mask id {wrong[0]}, which is not a class", path=self.root
            )

    @property
    def truth_key(self) -> TruthKey:
        """What the values of truth files mean."""
        of_user = self.layout in USER_LAYOUTS
        return TruthKey(self.classes, self.truth_ids, self.choices, of_user)

    @property
    def groups(self) -> tuple[str, ...]:
        """Slides or patients, sorted."""
        return tuple(sorted({image.group for image in self.images}))

    def tag_counts(self) -> NDArray[np.int64]:
        """Return the number of windows with each tag, shape (C,)."""
        counts: NDArray[np.int64] = self._counts.sum(0)
        return counts

    @property
    def single_tags(self) -> float:
        """Share of the windows that have one tag only, in [0, 1]."""
        return float(np.mean(np.concatenate([image.tags.sum(1) == 1 for image in self.images])))

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return np.stack([image.tags.sum(0, dtype=np.int64) for image in self.images])

    def restricted(self, images: Iterable[TaggedImage]) -> TaggedFolder:
        """Return the same folder with some of its images only.

        Raises
        ------
        TagError
            When no image is left.
        """
        return replace(self, images=tuple(images))

    def split(self, fraction: float, seed: int) -> tuple[TaggedFolder, TaggedFolder]:
        """Split the images into training and validation by whole groups.

        A greedy search adds groups to the validation part until its share of the images, and of
        the tagged windows of every class, is as close to `fraction` as it can get. The same
        folder, fraction and seed give the same parts.

        Parameters
        ----------
        fraction : float
            Wanted share of the validation images, between 0 and 1.
        seed : int
            Selects one of several good splits.

        Returns
        -------
        training, validation : TaggedFolder

        Raises
        ------
        TagError
            When `fraction` is not between 0 and 1, or all images belong to one group.
        """
        if not 0 < fraction < 1:
            raise TagError(
                f"a validation fraction of {fraction} is out of range",
                path=self.root,
                remedy="Set data.validation_fraction between 0 and 1, 0.15 for example.",
            )
        groups = self.groups
        if len(groups) < 2:
            raise TagError(
                f"all images are from one slide or patient ('{groups[0]}'); none can be held out",
                path=self.root,
                remedy="Add images of another slide, set data.validation to a folder, or name the "
                "slides in a column 'group' of tags.csv.",
            )
        number = {group: i for i, group in enumerate(groups)}
        measures = np.zeros((len(groups), self._counts.shape[1] + 1))
        for image, counts in zip(self.images, self._counts, strict=True):
            measures[number[image.group]] += (1.0, *counts)
        measures /= np.maximum(measures.sum(0), 1)
        wanted = np.where(measures.sum(0) > 0, fraction, 0.0)
        held_out = {groups[i] for i in _groups_near(measures, wanted, seed)}
        return (
            self.restricted(image for image in self.images if image.group not in held_out),
            self.restricted(image for image in self.images if image.group in held_out),
        )

    def digest(self) -> str:
        """Return a SHA-256 of classes, names, windows, tags and file contents.

        The same images with the same tags have the same digest in any location.
        """
        total = hashlib.sha256()
        total.update("\n".join(self.classes.names).encode())
        for image in sorted(self.images, key=lambda image: image.name):
            place = os.path.relpath(image.path, self.root).replace(os.sep, "/")
            total.update(f"\n{place}|{image.name}|{image.group}|{sha256(image.path)}|".encode())
            total.update(image.windows.astype("<i4").tobytes())
            total.update(image.tags.tobytes())
        return total.hexdigest()


def _groups_near(measures: NDArray[np.float64], wanted: NDArray[np.float64], seed: int) -> set[int]:
    """Choose rows whose sum is close to `wanted`: at least one, never all."""
    rng = np.random.default_rng(seed)
    tries = [_greedy(measures, wanted, rng) for _ in range(_TRIES)]
    return min(tries, key=lambda found: found[0])[1]


def _greedy(
    measures: NDArray[np.float64], wanted: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, set[int]]:
    # comparing only a few random groups per step gives different splits for different seeds
    candidates = int(np.clip(len(measures) // 4, 2, 16))
    left = list(range(len(measures)))
    chosen: set[int] = set()
    total = np.zeros_like(wanted)
    distance = np.inf
    while len(left) > 1:
        places = rng.integers(len(left), size=candidates)
        distances = ((total + measures[[left[i] for i in places]] - wanted) ** 2).sum(1)
        best = int(distances.argmin())
        if distances[best] >= distance:
            break
        distance = float(distances[best])
        place = int(places[best])
        left[place], left[-1] = left[-1], left[place]
        row = left.pop()
        total += measures[row]
        chosen.add(row)
    return distance, chosen


def read_pixels(image: TaggedImage) -> NDArray[np.uint8]:
    """Read the pixels of a tagged image.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)

    Raises
    ------
    TagError
        When the file can't be read, or its size has changed since the scan.
    """
    pixels = read_rgb(image.path)
    if pixels.shape[:2] != image.size:
        raise TagError(
            f"it is {pixels.shape[0]} x {pixels.shape[1]} px now, and was "
            f"{image.size[0]} x {image.size[1]} px when the folder was checked",
            path=image.path,
            remedy="Restart the training.",
        )
    return pixels


def read_truth(image: TaggedImage, folder: TaggedFolder) -> NDArray[np.uint8]:
    """Read the truth of a tagged image, for scoring.

    Returns
    -------
    ndarray of uint8, shape (h, w)
        Mask ids; 0 where nothing is scored.

    Raises
    ------
    TagError
        When there is no truth, or it can't be read or does not have the image's size.
    """
    if image.truth is None:
        raise TagError("it has no known mask", path=image.path)
    ids = folder.truth_key.read(image.truth).ids
    if ids.shape != image.size:
        raise TagError(
            f"the mask is {ids.shape[0]} x {ids.shape[1]} px and the image "
            f"{image.size[0]} x {image.size[1]} px",
            path=image.truth,
            remedy="Save the mask at the image's size, with nearest-neighbor sampling.",
        )
    return ids
