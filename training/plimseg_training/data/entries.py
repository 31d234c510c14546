"""Entries of a tagged folder: files with their tags, before any file is opened."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_plimseg.errors import TagError
from napari_plimseg.tissue import COLORECTAL, TissueClass, TissueClasses
from napari_plimseg.tissue import class_key as class_key
from napari_plimseg.tissue import is_background_name as is_background_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from plimseg_training.data.window_tags import WindowRule


@dataclass(frozen=True)
class Problem:
    """One problem of a tagged folder.

    Parameters
    ----------
    file : str
        The file or folder, without its parent folders.
    kind : str
        Short name of the problem, the same for all affected files: "unreadable".
    text : str
        The problem and its remedy, as sentences.
    fatal : bool
        Whether it prevents training.
    """

    file: str
    kind: str
    text: str
    fatal: bool

    def __post_init__(self) -> None:
        if not (self.file and self.kind and self.text):
            raise TagError("a problem needs a file, a kind and a text")


Tags = tuple[int, ...]
Window = tuple[int, int, int, int]

_NEAR = 0.85


@dataclass(frozen=True)
class FolderEntry:
    """One image file found by the reader of a layout.

    Parameters
    ----------
    path : Path
        The file.
    tags : tuple of tuple of int
        One row per window; empty when they are made from the truth.
    windows : tuple of tuple of int
        y, x, height, width; empty for the whole image.
    group : str
        Slide or patient; the file's name if unknown.
    truth : Path, optional
        A mask.
    """

    path: Path
    tags: tuple[Tags, ...] = ()
    windows: tuple[Window, ...] = ()
    group: str = ""
    truth: Path | None = None


@dataclass(frozen=True)
class FolderIndex:
    """The entries of one part of a tagged folder, before any file is opened.

    Parameters
    ----------
    root : Path
        The folder to which file names are relative.
    layout : str
        Name of its layout.
    classes : TissueClasses
        In tag order.
    entries : tuple of FolderEntry
        The files.
    mpp : float, optional
        Pixel size in um, from the layout or the file names.
    truth_ids : mapping of int to int
        From values of truth files to mask ids, 0 for those that are deliberately not scored.
    rule : WindowRule, optional
        How to make windows and tags from truth, for entries without tags.
    groups_known : bool
        Whether the slides or patients are known.
    problems : tuple of Problem
        Problems found so far.
    """

    root: Path
    layout: str
    classes: TissueClasses
    entries: tuple[FolderEntry, ...]
    mpp: float | None = None
    truth_ids: Mapping[int, int] = field(default_factory=dict)
    rule: WindowRule | None = None
    groups_known: bool = True
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        for name in ("entries", "problems"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


class LayoutError(TagError):
    """The folder can't be read in any layout; has the problem for the report.

    Parameters
    ----------
    file : str
        The file or folder.
    kind : str
        Short name of the problem.
    text : str
        The problem and its remedy, as sentences.
    """

    def __init__(self, file: str, kind: str, text: str) -> None:
        super().__init__(text, path=file)
        self.found = Problem(file, kind, text, fatal=True)


def made_classes(names: Sequence[str]) -> TissueClasses:
    """Create classes from the user's names, with background last.

    Classes of the bundled model keep its colors; others get new ones.
    """
    classes = TissueClasses(COLORECTAL.classes[-1:])
    known = {class_key(each.name): each.color for each in COLORECTAL}
    for name in names:
        clean = re.sub(r"^\d+[\s._)\-]+(?=[^\d])", "", name.strip())
        text = re.sub(r"[\s_]+", " ", clean).strip(" -") or name
        color = known.pop(class_key(text), None) or classes.fresh_color()
        classes = classes.with_class(TissueClass(text, color))
    return classes


NOT_ANNOTATED = (0, 255)
"""Numbers in masks of users that are no class; 255 is unreadable in our own label TIFFs."""


def mask_ids(classes: TissueClasses) -> dict[int, int]:
    """Return the meaning of the numbers in masks of users: mask ids; 0 and 255 are no class."""
    return dict.fromkeys(NOT_ANNOTATED, 0) | {i: i for i in range(1, len(classes) + 1)}


class ClassNames:
    """Finds classes by the words of a user.

    Parameters
    ----------
    classes : TissueClasses
        Names take precedence over prompts; prompts shared by two classes are ignored.
    """

    def __init__(self, classes: TissueClasses) -> None:
        self._classes = classes
        self._by_key: dict[str, int] = {}
        shared: set[str] = set()
        for i in classes.tissue_ids:
            for text in classes[i - 1].prompts:
                key = class_key(text)
                if self._by_key.setdefault(key, i - 1) != i - 1:
                    shared.add(key)
        for key in shared:
            del self._by_key[key]
        for i in classes.tissue_ids:
            self._by_key[class_key(classes[i - 1].name)] = i - 1

    def index(self, word: str) -> int | None:
        """Return the class's index in tag order, or None."""
        return self._by_key.get(class_key(word))

    def remedy(self, word: str) -> str:
        """Return a sentence with the most similar class, or with all classes."""
        near = difflib.get_close_matches(class_key(word), list(self._by_key), 1)
        known = ", ".join(self._classes[i - 1].name for i in self._classes.tissue_ids)
        if near:
            return f"Did you mean '{self._classes[self._by_key[near[0]]].name}'? Known: {known}."
        return f"Known classes: {known}; add it to data.classes or correct the word."


def spelling_problems(file: str, names: Sequence[str], what: str) -> list[Problem]:
    """Return problems for names that are, or may be, two spellings of one class."""
    problems = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            one, two = class_key(first), class_key(second)
            if one == two:
                text = (
                    f"the {what} '{first}' and '{second}' are two spellings of one class. "
                    "Use one spelling."
                )
                problems.append(Problem(file, "two spellings", text, fatal=True))
            elif _letters_differ(one, two):
                text = (
                    f"the {what} '{first}' and '{second}' look alike. If they are one class, "
                    "use one spelling."
                )
                problems.append(Problem(file, "similar names", text, fatal=False))
    return problems


def _letters_differ(one: str, two: str) -> bool:
    if re.sub(r"\d", "", one) == re.sub(r"\d", "", two):
        return False
    return difflib.SequenceMatcher(None, one, two).ratio() >= _NEAR


_BRACKET = re.compile(r"\[([^\[\]]*)\](?:\.[A-Za-z0-9]+)?\Z")
_LISTS = (
    re.compile(r"[0-9]+"),
    re.compile(r" *[0-9]+(?: +[0-9]+)* *"),
    re.compile(r" *[0-9]+(?: *, *[0-9]+)* *"),
)
_ENDING = re.compile(r"(?:\+[0-9]+|[-_ ]+)?\[[^\[\]]*\]\Z")
_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}", re.IGNORECASE)
_COORDINATES = re.compile(r"(.*[A-Za-z0-9])[-_ ]+[xy]?([0-9]+)[-_ ]+[xy]?([0-9]+)", re.IGNORECASE)


def parse_tags(text: str, count: int | None = None) -> tuple[int, ...]:
    """Read the tags at the end of a file name, or a bracket with tags alone.

    Parameters
    ----------
    text : str
        `"a-[1 0 1 0].png"`, `"a+0[1101].png"` or `"[1, 0, 0]"`: a bracket at the end of the name,
        with one 0 or 1 for each class, separated by blanks, by commas, or not at all.
    count : int, optional
        Required number of tags.

    Returns
    -------
    tuple of int
        0 or 1 for each class, in tag order.

    Raises
    ------
    TagError
        When there is no such bracket, or it contains anything but `count` zeros and ones.
    """
    found = _BRACKET.search(text)
    if found is None:
        raise TagError(
            "there are no tags at the end of the name",
            path=text,
            remedy="Write them as in 'name-[1 0 1 0].png', one 0 or 1 for each class.",
        )
    inner = found[1]
    if not any(pattern.fullmatch(inner) for pattern in _LISTS):
        raise TagError(
            f"the tags [{inner}] are not a list of zeros and ones",
            path=text,
            remedy="Write them as in '[1 0 1 0]', one 0 or 1 for each class.",
        )
    apart = "," in inner or " " in inner.strip()
    parts = re.findall("[0-9]+", inner) if apart else list(inner.strip())
    wrong = [part for part in parts if part not in ("0", "1")]
    if wrong:
        raise TagError(
            f"the tag '{wrong[0]}' in [{inner}] is neither 0 nor 1",
            path=text,
            remedy="Write 1 for each class in the image and 0 for the others.",
        )
    if count is not None and len(parts) != count:
        raise TagError(
            f"[{inner}] has {len(parts)} tags where there are {count} classes",
            path=text,
            remedy="Rename the file, or set data.classes to the classes in the order of the tags.",
        )
    return tuple(int(part) for part in parts)


def has_tags(name: str) -> bool:
    """Return whether a file name ends in a bracket, valid or not, before its suffix."""
    return _BRACKET.search(name) is not None


def name_without_tags(stem: str) -> str:
    """Return a file's stem without the tags at its end, if any."""
    return _ENDING.sub("", stem) or stem


def group_in_name(name: str) -> str | None:
    """Return the patient or slide in a name without tags, or None.

    A TCGA barcode contains the patient; in `1031280-2300-27920`, a name and two coordinates, the
    slide is the part before the coordinates.
    """
    barcode = _TCGA.match(name)
    if barcode:
        return barcode[0].upper()
    placed = _COORDINATES.fullmatch(name)
    return placed[1] if placed else None
