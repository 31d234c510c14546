"""A table as spreadsheets write it, and what its columns mean."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimseg_training.listing import LayoutError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WINDOW = ("y", "x", "height", "width")
_FIRST = ("file", "filename", "image")
_GROUP = ("group", "slide", "patient", "patient_id")
_TRUTH = ("truth", "mask")
_WORDS = "tags"
_MPP = "mpp"


@dataclass(frozen=True)
class Columns:
    """Where things stand in a row of a table of tags.

    Parameters
    ----------
    file : int
        Column of the file names.
    window : tuple of int
        Columns of y, x, height and width; empty when there are none.
    group, truth, mpp, words : int or None
        Columns of these, where there are any.
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


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a table whatever spreadsheet wrote it.

    Returns
    -------
    header : list of str
        The first line that is not empty.
    rows : list of (int, list of str)
        Line numbers and cells without blanks around them; empty lines are left out.

    Raises
    ------
    LayoutError
        When it can't be read as text with separators.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LayoutError(
            path.name, "unreadable table", "it can't be read. Put it beside the images."
        ) from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")  # what spreadsheets write on Windows
    if "\0" in text or not text.strip():
        raise LayoutError(
            path.name,
            "unreadable table",
            "it is empty or no text. Save it as CSV (a spreadsheet's own format is not read).",
        )
    first = text.lstrip().splitlines()[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise LayoutError(
            path.name,
            "unreadable table",
            f"line {reader.line_num} can't be read ({error}). Save it as CSV again.",
        ) from error
    filled = [(line, cells) for line, cells in lines if any(cells)]
    if not filled:
        raise LayoutError(
            path.name,
            "unreadable table",
            "it has no header. Begin with a line like 'file,tumour,stroma'.",
        )
    return filled[0][1], filled[1:]


def find_columns(header: Sequence[str], path: Path) -> Columns:
    """Tell what the columns of a table of tags hold.

    Raises
    ------
    LayoutError
        When a column is missing, doubled, unnamed or not known; the message names it.
    """
    plain = [cell.casefold() for cell in header]

    def find(names: Sequence[str]) -> int | None:
        return next((i for i, name in enumerate(plain) if name in names), None)

    def refuse(kind: str, text: str) -> LayoutError:
        return LayoutError(path.name, kind, text)

    file = find(_FIRST)
    if file is None:
        raise refuse(
            "missing column",
            f"its first line is '{','.join(header)}' and has no column 'file'. "
            "Begin with a line like 'file,tumour,stroma'.",
        )
    doubled = [name for name, count in Counter(plain).items() if count > 1]
    if doubled:
        raise refuse(
            "doubled column",
            f"the column '{doubled[0]}' occurs twice. Rename or delete one of them.",
        )
    if "" in plain:
        raise refuse(
            "unnamed column",
            f"column {plain.index('') + 1} has no name in the first line. Name it after its class.",
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
            f"beside 'tags' there is the column '{next(iter(rest.values()))}', which is not "
            "known. Delete it, or delete 'tags'.",
        )
    if words is None and not rest:
        raise refuse(
            "missing column",
            "it has no classes. Add a column with 0 and 1 for each class, or a column 'tags' "
            "with words.",
        )
    return Columns(file, tuple(window), group, truth, mpp, words, rest)
