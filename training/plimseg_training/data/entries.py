"""What a layout's reader gives to the check: files with their tags, none of them opened yet."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_plimseg.errors import TagError
from napari_plimseg.tissue import COLORECTAL, TissueClass, TissueClasses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from plimseg_training.data.window_tags import WindowRule


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a tagged folder.

    Parameters
    ----------
    file : str
        The file or folder concerned, without the folders above it.
    kind : str
        A short word for the mistake, the same for all files that share it: "unreadable".
    text : str
        The mistake and what to do about it, as sentences.
    fatal : bool
        Whether training must not start.
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

_BACKGROUND_KEYS = frozenset({"background", "back", "empty", "glas", "white"})
_NEAR = 0.85


@dataclass(frozen=True)
class FolderEntry:
    """One image file that a reader found.

    Parameters
    ----------
    path : Path
        The file.
    tags : tuple of tuple of int
        One row a window; empty when they are made from the truth.
    windows : tuple of tuple of int
        y, x, height, width; empty for the whole image.
    group : str
        Slide or patient; the file's own name when nothing tells.
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
    """One part of a tagged folder, read but not opened.

    Parameters
    ----------
    root : Path
        The folder that file names are told from.
    layout : str
        The layout that it has.
    classes : TissueClasses
        In tag order.
    entries : tuple of FolderEntry
        The files.
    mpp : float, optional
        What the layout or the names tell.
    truth_ids : mapping of int to int
        From values of truth files to mask ids.
    unscored : frozenset of int
        Values of truth files that are meant not to be scored.
    rule : WindowRule, optional
        How windows and tags are made from truth, for entries without tags.
    groups_known : bool
        Whether slides or patients could be told apart.
    problems : tuple of Problem
        What was wrong already.
    """

    root: Path
    layout: str
    classes: TissueClasses
    entries: tuple[FolderEntry, ...]
    mpp: float | None = None
    truth_ids: Mapping[int, int] = field(default_factory=dict)
    unscored: frozenset[int] = frozenset({0, 255})
    rule: WindowRule | None = None
    groups_known: bool = True
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        for name in ("entries", "problems"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


class LayoutError(TagError):
    """A folder can't be read as any layout; carries the problem for the report.

    Parameters
    ----------
    file : str
        The file or folder concerned.
    kind : str
        The mistake in a word.
    text : str
        The mistake and the remedy, as sentences.
    """

    def __init__(self, file: str, kind: str, text: str) -> None:
        super().__init__(text, path=file)
        self.found = Problem(file, kind, text, fatal=True)


def class_key(name: str) -> str:
    """Return what two spellings of one class have in common.

    Case, blanks, dashes, leading numbers, a plural s, and British or American spelling of tumour
    make no difference.
    """
    key = re.sub(r"[\s_\-]+", " ", name.strip().casefold())
    key = re.sub(r"^\d+[\s.)]+(?=\D)", "", key).replace("tumour", "tumor")
    return key.removesuffix("s")


def is_background_name(name: str) -> bool:
    """Return whether a class name means slide without tissue, which is never tagged."""
    return class_key(name) in _BACKGROUND_KEYS


def made_classes(names: Sequence[str]) -> TissueClasses:
    """Make classes from names that a user typed; background comes last.

    A class that the bundled model knows by that name has its color, others fresh ones.
    """
    classes = TissueClasses(COLORECTAL.classes[-1:])
    known = {class_key(each.name): each.color for each in COLORECTAL}
    for name in names:
        clean = re.sub(r"^\d+[\s._)\-]+(?=[^\d])", "", name.strip())
        text = re.sub(r"[\s_]+", " ", clean).strip() or name
        color = known.pop(class_key(text), None) or classes.fresh_color()
        classes = classes.with_class(TissueClass(text, color))
    return classes


class ClassNames:
    """Finds the class that a user's word means.

    Parameters
    ----------
    classes : TissueClasses
        Names count before prompts; a prompt that two classes share means neither.
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
        """Return the position in tag order, or None."""
        return self._by_key.get(class_key(word))

    def remedy(self, word: str) -> str:
        """Return a sentence that names the nearest class, or all of them."""
        near = difflib.get_close_matches(class_key(word), list(self._by_key), 1)
        known = ", ".join(self._classes[i - 1].name for i in self._classes.tissue_ids)
        if near:
            return f"Did you mean '{self._classes[self._by_key[near[0]]].name}'? Known: {known}."
        return f"Known classes: {known}; add it to data.classes or correct the word."


def spelling_problems(file: str, names: Sequence[str], what: str) -> list[Problem]:
    """Return problems for names that are two spellings of one class, or might be."""
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
        `"a-[1 0 1 0].png"`, `"a+0[1101].png"` or `"[1, 0, 0]"`: a bracket that ends the name,
        with one 0 or 1 for each class, all apart by blanks, all apart by commas, or not apart.
    count : int, optional
        How many tags there must be.

    Returns
    -------
    tuple of int
        0 or 1 for each class, in tag order.

    Raises
    ------
    TagError
        When there is no such bracket, or it holds anything but `count` zeros and ones.
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
            remedy="Write 1 for a class that the image shows and 0 for one that it does not.",
        )
    if count is not None and len(parts) != count:
        raise TagError(
            f"[{inner}] holds {len(parts)} tags where there are {count} classes",
            path=text,
            remedy="Rename the file, or set data.classes to the classes in the order of the tags.",
        )
    return tuple(int(part) for part in parts)


def has_tags(name: str) -> bool:
    """Return whether a file name ends in a bracket, right or wrong, before its suffix."""
    return _BRACKET.search(name) is not None


def name_without_tags(stem: str) -> str:
    """Return a file's stem without the tags at its end, or as it is when it has none."""
    return _ENDING.sub("", stem) or stem


def group_in_name(name: str) -> str | None:
    """Return the patient or slide that a name without tags tells, or None.

    A TCGA barcode gives the patient; `1031280-2300-27920`, a name and two coordinates, gives what
    stands before the coordinates.
    """
    barcode = _TCGA.match(name)
    if barcode:
        return barcode[0].upper()
    placed = _COORDINATES.fullmatch(name)
    return placed[1] if placed else None
