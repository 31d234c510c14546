"""The tags of a folder of images, kept in a table that is saved with each change."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from napari_plimseg.errors import TagError
from napari_plimseg.files import atomic_write, write_json
from napari_plimseg.reading import read_json, read_text
from napari_plimseg.tables import csv_text, read_spreadsheet
from napari_plimseg.tissue import is_background_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TABLE = "tags.csv"
BACKUP = "tags.csv.bak"
ASIDE = "tags.aside.json"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MAX_CLASSES = 30

Aside = Literal["unsure", "nothing"]
State = Literal["untagged", "tagged", "unsure", "nothing"]

_FILE = ("file", "filename", "image")
_KEPT = ("group", "slide", "patient", "patient_id", "mpp", "truth", "mask")
_WINDOW = ("y", "x", "height", "width")
_WORDS = "tags"
_RESERVED = frozenset({*_FILE, *_KEPT, *_WINDOW, _WORDS})
_TRUE = ("1", "1.0", "1,0", "true")
_FALSE = ("", "0", "0.0", "0,0", "false")


class TagTable:
    """Images of a folder and their tags.

    `tags.csv` holds the tagged images, in the form that training reads: `file,class 1,class 2`.
    Images that were viewed but must not be trained on (unsure, or showing none of the classes)
    are listed in `tags.aside.json`, because training rejects rows without tags. An existing table
    is continued; its previous state is saved as `tags.csv.bak` once per session.

    Parameters
    ----------
    folder : Path
        A folder of images; its subfolders are ignored.
    classes : sequence of str
        Initial class names; those of the table come first. Names that mean glass are left out.

    Attributes
    ----------
    note : str
        Why a name of `classes` was left out; empty when none was.

    Raises
    ------
    TagError
        When the folder has no images, or its table can't be continued.
    """

    def __init__(self, folder: Path, classes: Sequence[str] = ()) -> None:
        self.folder = folder
        self.images = _image_names(folder)
        if not self.images:
            raise TagError(
                "there are no images in it",
                path=folder,
                remedy="Choose a folder with PNG, JPEG, BMP, TIFF or WebP files.",
            )
        self._classes: list[str] = []
        self._tags: dict[str, frozenset[str]] = {}
        self._aside: dict[str, Aside] = {}
        self._more_columns: list[str] = []
        self._more: dict[str, list[str]] = {}
        self._undo: list[tuple[str, frozenset[str], Aside | None]] = []
        self._backed_up = not self.path.is_file()
        if self.path.exists():
            self._read()
        self._read_aside()
        glass = [name for name in classes if is_background_name(name)]
        self.note = str(_no_tissue(glass[0])) if glass else ""
        for name in classes:
            known = {other.casefold() for other in self._classes}
            if name not in glass and name.casefold() not in known:
                self._classes.append(_checked(name))

    @property
    def path(self) -> Path:
        """The table."""
        return self.folder / TABLE

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the columns."""
        return tuple(self._classes)

    @property
    def done(self) -> int:
        """Number of images that are tagged or set aside."""
        return sum(self.state(name) != "untagged" for name in self.images)

    def tags(self, name: str) -> frozenset[str]:
        """Return the tags of an image; those of an unsure one are a guess."""
        return self._tags.get(name, frozenset())

    def state(self, name: str) -> State:
        """Return whether an image is tagged or set aside, and why."""
        aside = self._aside.get(name)
        if aside is not None:
            return aside
        tags = self._tags.get(name)
        if not tags:
            return "untagged"
        # a table of other programs may have a column for glass
        return "nothing" if all(is_background_name(tag) for tag in tags) else "tagged"

    def counts(self) -> dict[str, int]:
        """Return how many images have each tag, without unsure ones."""
        sure = [tags for name, tags in self._tags.items() if name not in self._aside]
        return {name: sum(name in tags for tags in sure) for name in self._classes}

    def next_untagged(self, after: str | None = None) -> str | None:
        """Return the next untagged image; the search wraps around at the end."""
        start = 0 if after is None else self.images.index(after) + 1
        for name in (*self.images[start:], *self.images[:start]):
            if self.state(name) == "untagged":
                return name
        return None

    def toggle(self, name: str, tag: str) -> None:
        """Add a tag to an image, or remove it."""
        if tag not in self._classes:
            raise TagError(f"there is no class '{tag}'")
        self._change(name, self.tags(name) ^ {tag}, "unsure" if self._is_unsure(name) else None)

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Replace the tags of an image."""
        self._change(name, frozenset(tags) & set(self._classes), None)

    def toggle_unsure(self, name: str) -> None:
        """Mark an image as unsure, or as sure again; its tags are kept."""
        self._change(name, self.tags(name), None if self._is_unsure(name) else "unsure")

    def set_nothing(self, name: str) -> None:
        """Mark an image as showing none of the classes: it is not trained on."""
        self._change(name, frozenset(), "nothing")

    def undo(self) -> str | None:
        """Undo the last change; return its image, or None when there is none."""
        if not self._undo:
            return None
        name, tags, aside = self._undo.pop()
        self._put(name, tags, aside)
        self.save()
        return name

    def add_class(self, name: str) -> None:
        """Append a class.

        Raises
        ------
        TagError
            When the name can't be a column, means glass, is already used, or there are too many.
        """
        name = _checked(name)
        if is_background_name(name):
            raise _no_tissue(name)
        if name.casefold() in {known.casefold() for known in self._classes}:
            raise TagError(f"the class '{name}' already exists", remedy="Choose another name.")
        if len(self._classes) >= MAX_CLASSES:
            raise TagError(f"more than {MAX_CLASSES} classes can't be tagged")
        self._classes.append(name)
        self.save()

    def save(self) -> None:
        """Write both files.

        Raises
        ------
        TagError
            When the disk refuses; the tags stay in memory, and the next change tries again.
        """
        try:
            if not self._backed_up:
                shutil.copyfile(self.path, self.folder / BACKUP)
                self._backed_up = True
            with atomic_write(self.path) as temporary:
                temporary.write_text(self._text(), "utf-8")
            self._save_aside()
        except OSError as error:
            raise TagError(
                f"the tags can't be saved ({error.strerror or error})",
                path=self.path,
                remedy="Free some space or make the folder writable; the next key tries again.",
            ) from error

    def _is_unsure(self, name: str) -> bool:
        return self._aside.get(name) == "unsure"

    def _change(self, name: str, tags: frozenset[str], aside: Aside | None) -> None:
        if name not in self.images:
            raise TagError("it is not in the folder", path=name)
        self._undo.append((name, self.tags(name), self._aside.get(name)))
        self._put(name, tags, aside)
        self.save()

    def _put(self, name: str, tags: frozenset[str], aside: Aside | None) -> None:
        self._tags[name] = tags
        if aside is None:
            self._aside.pop(name, None)
        else:
            self._aside[name] = aside

    def _text(self) -> str:
        rows: list[list[str]] = [["file", *self._more_columns, *self._classes]]
        position = {name: i for i, name in enumerate(self.images)}
        last = len(position)
        for name in sorted(self._tags, key=lambda name: (position.get(name, last), name)):
            tags = self._tags[name]
            if tags and name not in self._aside:
                more = self._more.get(name, [""] * len(self._more_columns))
                rows.append([name, *more, *(str(int(c in tags)) for c in self._classes)])
        return csv_text(rows)

    def _save_aside(self) -> None:
        path = self.folder / ASIDE
        if self._aside or path.exists():
            unsure = {n: sorted(self.tags(n)) for n, a in self._aside.items() if a == "unsure"}
            nothing = sorted(n for n, aside in self._aside.items() if aside == "nothing")
            write_json(path, {"unsure": unsure, "nothing": nothing})

    def _read_aside(self) -> None:
        path = self.folder / ASIDE
        if not path.is_file():
            return
        try:
            content = read_json(path, TagError)
            unsure = {str(n): frozenset(tags) for n, tags in content["unsure"].items()}
            nothing = [str(n) for n in content["nothing"]]
        except (TagError, KeyError, TypeError, AttributeError) as error:
            raise TagError(
                "the list of images set aside can't be read",
                path=path,
                remedy="Delete it: the tags themselves are in tags.csv.",
            ) from error
        for name, tags in unsure.items():
            self._put(name, tags & set(self._classes), "unsure")
        for name in nothing:
            self._put(name, frozenset(), "nothing")

    def _read(self) -> None:
        rows = _rows(self.path)
        header = [cell.strip() for cell in rows[0][1]]
        plain = [cell.casefold() for cell in header]
        file = next((i for i, name in enumerate(plain) if name in _FILE), None)
        if file is None or len(set(plain)) != len(plain) or "" in plain:
            raise self._refused("its first line is not like 'file,tumour,stroma'")
        if any(name in plain for name in _WINDOW):
            raise self._refused("it tags windows of images, not whole images")
        words = plain.index(_WORDS) if _WORDS in plain else None
        kept = [i for i, name in enumerate(plain) if name in _KEPT]
        columns = [i for i in range(len(header)) if i not in (file, words, *kept)]
        self._more_columns = [header[i] for i in kept]
        self._classes = [_checked(header[i]) for i in columns]
        meant = _ImageNames(self.images)
        for line, cells in rows[1:]:
            if len(cells) < len(header):
                raise self._refused(f"line {line} is shorter than the first line")
            name = meant(cells[file])
            if name in self._tags:
                raise self._refused(f"line {line} is the second one for '{name}'")
            self._more[name] = [cells[i].strip() for i in kept]
            if words is not None:
                self._tags[name] = self._from_words(cells[words])
            else:
                self._tags[name] = self._from_digits(cells, columns, line)

    def _from_words(self, cell: str) -> frozenset[str]:
        known = {name.casefold(): name for name in self._classes}
        found = set()
        for word in re.split(r"[,;|/+]", cell):
            word = word.strip()
            if word and word.casefold() not in known:
                known[word.casefold()] = _checked(word)
                self._classes.append(word)
            if word:
                found.add(known[word.casefold()])
        return frozenset(found)

    def _from_digits(
        self, cells: Sequence[str], columns: Sequence[int], line: int
    ) -> frozenset[str]:
        tags = set()
        for name, column in zip(self._classes, columns, strict=True):
            value = cells[column].strip().casefold()
            if value in _TRUE:
                tags.add(name)
            elif value not in _FALSE:
                raise self._refused(f"line {line} has '{value}' below '{name}', not 0 or 1")
        return frozenset(tags)

    def _refused(self, problem: str) -> TagError:
        return TagError(
            problem, path=self.path, remedy="Correct it, or move it away to start a new one."
        )


class _ImageNames:
    """Finds the image that a cell means: with folders of another computer, in other case, ..."""

    def __init__(self, images: Sequence[str]) -> None:
        self._images = frozenset(images)
        self._near: dict[str, list[str]] = {}
        for name in images:
            for key in {name.casefold(), PurePath(name).stem.casefold()}:
                self._near.setdefault(key, []).append(name)

    def __call__(self, cell: str) -> str:
        """Return the name of an image of the folder; the cell's own text where none is meant."""
        name = cell.strip().replace("\\", "/")
        if cell in self._images or name in self._images:
            return cell if cell in self._images else name
        elsewhere = name.startswith("/") or re.match(r"[a-zA-Z]:", name)
        last = name.rpartition("/")[2] if elsewhere else name
        near = self._near.get(last.casefold(), [])
        return near[0] if len(near) == 1 else name


def _image_names(folder: Path) -> tuple[str, ...]:
    try:
        names = [
            path.name
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not path.name.startswith(".")
            and path.is_file()
        ]
    except OSError as error:
        raise TagError(
            f"it can't be read ({error.strerror or error})", path=folder, remedy="Choose another."
        ) from error
    return tuple(sorted(names))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        rows = read_spreadsheet(read_text(path, TagError))
    except csv.Error as error:
        raise TagError(
            f"it can't be read as a table ({error})",
            path=path,
            remedy="Save it as CSV in UTF-8, or move it away to start a new one.",
        ) from error
    return rows or [(1, ["file"])]


def _no_tissue(name: str) -> TagError:
    """Return the error about a class that means glass."""
    return TagError(
        f"'{name}' is no tissue, so it is never trained on",
        remedy="Press 0 for images that show none of the classes.",
    )


def _checked(name: str) -> str:
    name = name.strip()
    if not name or name.casefold() in _RESERVED or re.search(r"[,;\t|/+\n\"]", name):
        raise TagError(
            f"'{name}' can't be the name of a class",
            remedy="Use words without commas or other separators; 'file', 'group' and similar "
            "names are reserved.",
        )
    return name
