"""`tags.csv`: one row per file or window, with one column per class or one column of words."""

from __future__ import annotations

import contextlib
import csv
import difflib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_plimseg.reading import UnreadableError, read_bytes, read_json
from napari_plimseg.slides import usable_mpp
from napari_plimseg.tables import read_spreadsheet
from plimseg_training.data.entries import (
    ClassNames,
    FolderEntry,
    FolderIndex,
    LayoutError,
    Problem,
    Tags,
    Window,
    group_in_name,
    is_background_name,
    made_classes,
    mask_ids,
    name_without_tags,
    spelling_problems,
)
from plimseg_training.data.images import image_files, is_there, place_named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_plimseg.tissue import TissueClasses


_WINDOW = ("y", "x", "height", "width")
_FIRST = ("file", "filename", "file name", "file_name", "image", "path")
_GROUP = ("group", "slide", "patient", "patient_id")
_TRUTH = ("truth", "mask")
_WORDS = "tags"
_MPP = "mpp"


@dataclass(frozen=True)
class Columns:
    """Column indices of a table of tags.

    Parameters
    ----------
    file : int
        Column of the file names.
    window : tuple of int
        Columns of y, x, height and width; empty when there are none.
    group, truth, mpp, words : int or None
        Columns of these, if present.
    classes : dict of int to str
        Columns of 0 and 1, with their names.
    """

    file: int
    window: tuple[int, ...]
    group: int | None
    truth: int | None
    mpp: int | None
    words: int | None
    classes: dict[int, str]

    @property
    def width(self) -> int:
        """Number of columns."""
        single = (self.file, self.group, self.truth, self.mpp, self.words)
        return 1 + max(i for i in (*single, *self.window, *self.classes) if i is not None)

    def too_many(self, cells: Sequence[str]) -> bool:
        """Return whether a row has more cells than the first line, and they are not words."""
        return len(cells) > self.width and self.words != self.width - 1

    def words_of(self, cells: Sequence[str]) -> list[str]:
        """Return the words of a row; a last column takes words that are not in quotes, too."""
        if self.words is None or len(cells) <= self.words:
            return []
        end = None if self.words == self.width - 1 else self.words + 1
        return [word for cell in cells[self.words : end] for word in _words(cell)]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a table as written by any spreadsheet program.

    Returns
    -------
    header : list of str
        The first non-empty line.
    rows : list of (int, list of str)
        Line numbers and cells, stripped except for file names, without empty lines.

    Raises
    ------
    LayoutError
        When it can't be read as text with separators.
    """
    text = table_text(path)
    if "\0" in text or not text.strip():
        raise LayoutError(
            path.name,
            "unreadable table",
            "it is empty or not text. Save it as CSV, not in a spreadsheet's own format.",
        )
    try:
        filled = read_spreadsheet(text)
    except csv.Error as error:
        raise LayoutError(
            path.name, "unreadable table", f"it can't be read ({error}). Save it as CSV again."
        ) from error
    if not filled:
        raise LayoutError(
            path.name,
            "unreadable table",
            "it has no header. Begin with a line like 'file,tumour,stroma'.",
        )
    header = [cell.strip() for cell in filled[0][1]]
    file = _file_column(header)
    return header, [
        (line, [cell if i == file else cell.strip() for i, cell in enumerate(cells)])
        for line, cells in filled[1:]
    ]


def _file_column(header: Sequence[str]) -> int | None:
    return next((i for i, name in enumerate(header) if name.casefold() in _FIRST), None)


def table_text(path: Path) -> str:
    """Return the text of a table in the encoding that it has.

    Raises
    ------
    LayoutError
        When it can't be read.
    """
    try:
        data = read_bytes(path, UnreadableError)
    except UnreadableError as error:
        raise LayoutError(path.name, "unreadable table", f"{error.problem}.") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # what spreadsheets write on Windows


def find_columns(header: Sequence[str], path: Path) -> Columns:
    """Identify the columns of a table of tags.

    Raises
    ------
    LayoutError
        When a column is missing, duplicated, unnamed or unknown; the message names it.
    """
    plain = [cell.casefold() for cell in header]

    def find(names: Sequence[str]) -> int | None:
        return next((i for i, name in enumerate(plain) if name in names), None)

    def refuse(kind: str, text: str) -> LayoutError:
        return LayoutError(path.name, kind, text)

    file = _file_column(header)
    if file is None:
        raise refuse(
            "missing column",
            f"its first line has the columns {', '.join(map(repr, header))} and none is 'file'. "
            "Begin with a line like 'file,tumour,stroma'.",
        )
    if "" in plain:  # columns without any text are left out already
        raise refuse(
            "unnamed column",
            f"column {plain.index('') + 1} has no name in the first line. Name it after its class.",
        )
    doubled = [name for name, count in Counter(plain).items() if count > 1]
    if doubled:
        raise refuse(
            "doubled column",
            f"the column '{doubled[0]}' occurs twice. Rename or delete one of them.",
        )
    window = [plain.index(name) for name in _WINDOW if name in plain]
    if window and len(window) != len(_WINDOW):
        missing = [name for name in _WINDOW if name not in plain]
        raise refuse(
            "missing column",
            f"windows need y, x, height and width; '{missing[0]}' is missing. Add it.",
        )
    group, truth = find(_GROUP), find(_TRUTH)
    words, mpp = find((_WORDS,)), find((_MPP,))
    used = {file, *window, group, truth, mpp, words}
    rest = {i: name for i, name in enumerate(header) if i not in used}
    if words is not None and rest:
        raise refuse(
            "unknown column",
            f"besides 'tags' there is an unknown column '{next(iter(rest.values()))}'. Delete it, "
            "or delete 'tags'.",
        )
    if words is None and not rest:
        raise refuse(
            "missing column",
            "it has no classes. Add a column with 0 and 1 for each class, or a column 'tags' "
            "with class names.",
        )
    return Columns(file, tuple(window), group, truth, mpp, words, rest)


_LONG = 80
_LARGEST = 1 << 31
# slides of one scanner differ slightly, and cutting may round to a level's pixel size
_MPP_SPREAD = 1.25
# Excel writes the words of its own language
_TRUE = frozenset({"1", "1.0", "1,0", "true", "wahr", "vrai", "verdadero", "vero"})
_FALSE = frozenset({"0", "0.0", "0,0", "false", "falsch", "faux", "falso"})
_NOTHING = frozenset({"", "-", "none", "no"})


@dataclass(frozen=True)
class _Row:
    line: int
    name: str
    window: Window | None
    group: str
    truth: str
    tags: Tags


def read_csv(path: Path, classes: TissueClasses | None) -> FolderIndex:
    """Read a table of tags.

    The header names `file`; optionally `y,x,height,width` of a window, `group` (slide or patient),
    `truth` (a mask with mask ids) and `mpp` (um/px, one for all rows); then either one column for
    each class with 0 or 1, or a column `tags` with words: "tumour, stroma". Separators are commas,
    semicolons or tabs; a byte order mark and any line ends are accepted. Several rows of a file
    are several windows.

    Parameters
    ----------
    path : Path
        The table; file names in it are relative to its folder.
    classes : TissueClasses, optional
        In tag order; by default the columns, or the words in the order of first use.

    Returns
    -------
    FolderIndex

    Raises
    ------
    LayoutError
        When the table or its header is invalid.
    """
    header, rows = read_table(path)
    columns = find_columns(header, path)
    problems: list[Problem] = []
    names = list(columns.classes.values())
    if classes is None and columns.words is not None:
        names = _words_used(rows, columns)
    spelled = spelling_problems(path.name, names, "classes")
    for problem in spelled:
        if problem.fatal:
            raise LayoutError(problem.file, problem.kind, problem.text)
    if classes is None:
        classes = _classes_from(names, path)
        problems.extend(spelled)
    read = _Reader(path, columns, classes, problems)
    parsed = [row for row in (read.row(line, cells) for line, cells in rows) if row is not None]
    problems += read.files.problems()
    entries = _by_file(path, parsed, problems)
    _compare_with_folder(path.parent, entries, problems)
    return FolderIndex(
        root=path.parent,
        layout="csv",
        classes=classes,
        entries=tuple(entries),
        mpp=_mpp(rows, columns, path),
        truth_ids=mask_ids(classes),
        groups_known=columns.group is not None
        or all(group_in_name(name_without_tags(e.path.stem)) for e in entries),
        problems=tuple(problems),
    )


def _mpp(rows: Sequence[tuple[int, list[str]]], columns: Columns, path: Path) -> float | None:
    if columns.mpp is None:
        return None
    # a row that a decimal comma split is refused as such
    whole = [cells for _, cells in rows if columns.mpp < len(cells) and not columns.too_many(cells)]
    found = {cells[columns.mpp] for cells in whole}
    if found <= {""}:
        return None
    try:  # "0,5" where commas are decimal
        values = sorted(float(text.replace(",", ".")) for text in found)
    except ValueError:
        values = []
    if not values or None in map(usable_mpp, values) or values[-1] > _MPP_SPREAD * values[0]:
        raise LayoutError(
            path.name,
            "wrong mpp",
            f"the column 'mpp' has {', '.join(sorted(found)[:3]) or 'nothing'}, which is not one "
            "pixel size in um/px. Write the same number, such as 0.5, in every row; train other "
            "sizes apart.",
        )
    return values[len(values) // 2]


def _words_used(rows: Sequence[tuple[int, list[str]]], columns: Columns) -> list[str]:
    """Return the words in the order of first use, ignoring case and blanks."""
    found: dict[str, str] = {}
    for _, cells in rows:
        if columns.words is not None and len(cells) > columns.words:
            for word in columns.words_of(cells):
                found.setdefault(re.sub(r"[\s_]+", " ", word).casefold(), word)
    return list(found.values())


def _words(cell: str) -> list[str]:
    if cell.casefold() in _NOTHING:
        return []
    return [word.strip() for word in re.split(r"[,;|/+]", cell) if word.strip()]


def _classes_from(names: Sequence[str], path: Path) -> TissueClasses:
    tissue = [name for name in names if not is_background_name(name)]
    if not tissue:
        raise LayoutError(
            path.name,
            "no tags",
            "no row has a tag. Write 1 in the columns of an image's classes, or their names.",
        )
    return made_classes(tissue)


class _Files:
    """Finds the files that a table names, also as other systems and programs write them.

    A name may have folders of another computer, be in other case, or lack its ending, if only one
    file can be meant.
    """

    def __init__(self, table: Path) -> None:
        self._table = table
        self._folders: dict[Path, dict[str, list[str]]] = {}
        self._by = {what: list[tuple[str, str]]() for what in _FOUND_BY}

    def found(self, cell: str) -> str:
        """Return the path of the file that a cell means, relative to the table's folder."""
        folder = self._table.parent
        if is_there(folder / cell):  # also one with a space at its end
            return cell
        name = cell.strip().replace("\\", "/")
        if not name or is_there(folder / name):
            return name
        if name.startswith("~") and is_there(place_named(name)):
            return str(place_named(name))
        elsewhere = name.startswith(("/", "~")) or re.match(r"[a-zA-Z]:", name) is not None
        parts = name.split("/")
        candidates = ["/".join(parts[i:]) for i in range(1, len(parts))] if elsewhere else [name]
        for path in candidates:
            near, what = (path, "place") if is_there(folder / path) else self._near(path)
            if near:
                self._by[what].append((name, near))
                return near
        return name

    def _near(self, name: str) -> tuple[str, str]:
        """Return the one file of this name in other case, or without its ending; or nothing."""
        parent, _, last = name.rpartition("/")
        place = self._table.parent / parent
        if place not in self._folders:
            self._folders[place] = _keys_of(place)
        for key, what in ((last.casefold(), "case"), (f"{last.casefold()}.", "ending")):
            files = self._folders[place].get(key, [])
            if len(files) == 1:
                return (f"{parent}/{files[0]}" if parent else files[0]), what
        return "", ""

    def problems(self) -> list[Problem]:
        """Return a note for each way in which files were found that the table names otherwise."""
        return [
            Problem(
                self._table.name,
                "other name",
                f"{len(names)} files are named otherwise in the table ({_FOUND_BY[what]}): "
                f"'{names[0][0]}' is taken for '{names[0][1]}'.",
                fatal=False,
            )
            for what, names in self._by.items()
            if names
        ]


_FOUND_BY = {
    "place": "with folders of another computer",
    "case": "in other case",
    "ending": "without ending",
}


def _keys_of(folder: Path) -> dict[str, list[str]]:
    """Return the images of a folder by their name in lower case, and by that without ending."""
    keys: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError):
        for path in image_files(folder):
            for key in (path.name.casefold(), f"{path.stem.casefold()}."):
                keys.setdefault(key, []).append(path.name)
    return keys


class _Reader:
    """Reads rows; adds what is wrong with a row to the problems."""

    def __init__(
        self, path: Path, columns: Columns, classes: TissueClasses, problems: list[Problem]
    ) -> None:
        self._path = path
        self._columns = columns
        self._count = len(classes.tissue_ids)
        self._finder = ClassNames(classes)
        self._problems = problems
        self.files = _Files(path)
        self._position: dict[int, int | None] = {}
        for i, name in columns.classes.items():
            self._position[i] = self._finder.index(name)
            if self._position[i] is None and not is_background_name(name):
                text = f"the column '{name}' is not a class. {self._finder.remedy(name)}"
                problems.append(Problem(path.name, "unknown class", text, fatal=True))

    def row(self, line: int, cells: list[str]) -> _Row | None:
        columns = self._columns
        width = 1 + max(
            columns.file, *columns.window, columns.words or 0, *columns.classes, columns.group or 0
        )
        if len(cells) < width:
            self._wrong(
                self._path.name,
                "short row",
                f"line {line} has {len(cells)} cells where the first line has {width}. "
                "Fill the row; put names that contain a separator in quotes.",
            )
            return None
        if columns.too_many(cells):
            self._wrong(
                self._path.name,
                "long row",
                f"line {line} has {len(cells)} cells where the first line has {columns.width}. A "
                "decimal comma, or a separator in a name, splits a cell: write 0.5, and put such "
                "names in quotes.",
            )
            return None
        name = self.files.found(cells[columns.file])
        if not name:
            self._wrong(
                self._path.name,
                "short row",
                f"line {line} names no file. Complete it or delete it.",
            )
            return None
        window = self._window(line, name, cells)
        tags = self._tags(line, name, cells)
        if tags is None or window == ():
            return None
        if not any(tags) and self._is_glass(cells):
            text = f"line {line} tags it as glass only, so it is left out of the training."
            self._problems.append(Problem(name, "none of the classes", text, fatal=False))
            return None
        if not any(tags):
            self._wrong(
                name,
                "all-zero tags",
                f"it has no tag in line {line}. Tag at least one class, or delete the row if the "
                "image shows none of them.",
            )
            return None
        group = "" if columns.group is None else cells[columns.group]
        has_truth = columns.truth is not None and len(cells) > columns.truth
        truth = cells[columns.truth] if has_truth and columns.truth is not None else ""
        return _Row(line, name, window or None, group, self.files.found(truth), tags)

    def _is_glass(self, cells: list[str]) -> bool:
        """Whether a row without tissue has a tag that means background."""
        if self._columns.words is not None:
            return any(is_background_name(word) for word in _words(cells[self._columns.words]))
        return any(
            cells[i].casefold() in _TRUE and is_background_name(name)
            for i, name in self._columns.classes.items()
        )

    def _wrong(self, file: str, kind: str, text: str) -> None:
        self._problems.append(Problem(file, kind, text, fatal=True))

    def _window(self, line: int, name: str, cells: list[str]) -> Window | tuple[()] | None:
        """Return a window, None for the whole image, or () after a problem."""
        texts = [cells[i] for i in self._columns.window]
        if not any(texts):
            return None
        try:
            y, x, height, width = (int(text) for text in texts)
            if not all(abs(number) < _LARGEST for number in (y, x, height, width)):
                raise ValueError(texts)
        except ValueError:
            self._wrong(
                name,
                "wrong window",
                f"line {line} has the window {', '.join(texts)}, which is not four whole "
                "numbers. Write y, x, height and width in pixels.",
            )
            return ()
        return y, x, height, width

    def _tags(self, line: int, name: str, cells: list[str]) -> Tags | None:
        tags = [0] * self._count
        if self._columns.words is not None:
            for word in self._columns.words_of(cells):
                index = self._finder.index(word)
                if index is not None:
                    tags[index] = 1
                elif not is_background_name(word):
                    self._wrong(
                        name,
                        "unknown class",
                        f"line {line} has the tag '{word}', which is not a class. "
                        f"{self._finder.remedy(word)}",
                    )
                    return None
        for i, column in self._columns.classes.items():
            value = cells[i].casefold()
            if value not in _TRUE and value not in _FALSE:
                self._wrong(
                    name,
                    "wrong tags",
                    f"line {line} has '{cells[i]}' in column '{column}', which is neither 0 nor 1. "
                    "Write 1 if the image shows the class, otherwise 0.",
                )
                return None
            index = self._position[i]
            if index is not None and value in _TRUE:
                tags[index] = 1
        return tuple(tags)


def _by_file(path: Path, rows: Sequence[_Row], problems: list[Problem]) -> list[FolderEntry]:
    files: dict[str, list[_Row]] = {}
    for row in rows:
        files.setdefault(row.name, []).append(row)
    entries = []
    for name, of_file in files.items():
        kept: dict[Window | None, _Row] = {}
        for row in of_file:
            first = kept.setdefault(row.window, row)
            if first is row:
                continue
            same = first.tags == row.tags
            text = f"lines {first.line} and {row.line} are both for it" + (
                "; one is skipped. Delete one."
                if same
                else " and give different tags. Delete the wrong one."
            )
            kind = "doubled row" if same else "conflicting tags"
            problems.append(Problem(name, kind, text, fatal=not same))
        if None in kept and len(kept) > 1:
            text = (
                "one row is for the whole image and others for windows. Give all a window, or none."
            )
            problems.append(Problem(name, "conflicting tags", text, fatal=True))
            continue
        groups = {row.group for row in of_file}
        if len(groups) > 1:
            text = f"its rows name the groups {', '.join(sorted(groups))}. Use one group."
            problems.append(Problem(name, "conflicting groups", text, fatal=True))
            continue
        stem = name_without_tags((path.parent / name).stem)
        truth = next((row.truth for row in of_file if row.truth), "")
        entries.append(
            FolderEntry(
                path.parent / name,
                tags=tuple(row.tags for row in kept.values()),
                windows=tuple(window for window in kept if window is not None),
                group=groups.pop() or group_in_name(stem) or stem,
                truth=path.parent / truth if truth else None,
            )
        )
    return entries


_ASIDE = "tags.aside.json"  # as the gallery of the dock writes it
_WHY_ASIDE = {"unsure": "unsure", "nothing": "none of the classes"}


def set_aside(folder: Path) -> dict[str, str]:
    """Return the images of a folder that were set aside while tagging, and why.

    Nothing when there is no list of them, or it can't be read: the tags themselves are elsewhere.
    """
    path = folder / _ASIDE
    if not path.is_file():
        return {}
    try:
        content = read_json(path, UnreadableError)
        return {str(name): why for key, why in _WHY_ASIDE.items() for name in content[key]}
    except (UnreadableError, KeyError, TypeError):
        return {}


def _compare_with_folder(
    folder: Path, entries: Sequence[FolderEntry], problems: list[Problem]
) -> None:
    listed = {entry.path for entry in entries} | {e.truth for e in entries if e.truth}
    tagged_before = {problem.file for problem in problems}
    present = image_files(folder)
    aside = set_aside(folder)
    for path in present:
        if path in listed or path.name in tagged_before:
            continue
        text = "it has no row in the table, so it is skipped. Add a row."
        if path.name in aside:
            text = f"it was set aside while tagging ({aside[path.name]}), so it is skipped."
        problems.append(Problem(path.name, "not in table", text, fatal=False))
    names = [path.name for path in present]
    for entry in entries:
        if not is_there(entry.path):
            under = entry.path.is_relative_to(folder)
            name = entry.path.name[:_LONG] or "/"
            near = difflib.get_close_matches(name, names, 1)
            meant = f"Did you mean '{near[0]}'? " if near and near[0] != name else ""
            written = str(entry.path.relative_to(folder) if under else entry.path)
            text = (
                f"the table names '{written[-_LONG:]}', but there is no such file. {meant}"
                "File names are relative to the table's folder; correct the row or add the file."
            )
            problems.append(Problem(name, "missing file", text, fatal=False))
