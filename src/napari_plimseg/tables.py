"""CSV files that spreadsheets open safely and that read back to the same text.

A spreadsheet runs a cell that begins with = + - or @ as a formula, and names of files, slides and
classes come from other people's data. Such cells are written with a quotation mark in front, which
spreadsheets hide (OWASP, CSV injection). Numbers stay numbers: the type of a value decides, so that
a class called "-1" is text.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# full-width signs count as signs in East Asian spreadsheets; a program may skip the spaces
_FORMULA = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@＝＋－＠])", re.DOTALL)
# a program in a locale with decimal commas splits lines at semicolons, unless a cell is in quotes
_IN_QUOTES = re.compile(r"[,;\t\"\r\n|]|^\s|\s$")


def guarded(text: str) -> str:
    """Return the text of a cell with a quotation mark in front if it could run as a formula."""
    return f"'{text}" if _could_run(text) else text


def unguarded(cell: str) -> str:
    """Return the text from which `guarded` made a cell; other cells are unchanged."""
    return cell[1:] if cell.startswith("'") and _could_run(cell[1:]) else cell


def csv_text(rows: Iterable[Sequence[object]], *, end: str = "\n") -> str:
    """Return rows as comma-separated values.

    Parameters
    ----------
    rows : iterable of sequences
        Text is guarded; numbers are written as `str` does, and None as an empty cell.
    end : str
        The end of every line.
    """
    return "".join(",".join(map(_cell, row)) + end for row in rows)


def read_csv(text: str, separator: str = ",") -> list[list[str]]:
    """Return the cells of comma-separated values, as they were before `csv_text`.

    Raises
    ------
    csv.Error
        When the text is not of this kind.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return [[unguarded(cell) for cell in row] for row in rows]


def read_spreadsheet(text: str) -> list[tuple[int, list[str]]]:
    """Return the lines of a table that any spreadsheet program wrote, with their numbers.

    Separators are commas, semicolons or tabs, whichever the first line has most of, or the one
    that a line `sep=;` names. Lines that are in quotes as a whole are split too. Empty lines, and
    columns without any text, are left out.

    Raises
    ------
    csv.Error
        When the text is not of this kind.
    """
    text = text.removeprefix("\ufeff")
    head = text.lstrip()
    named = re.match(r"\"?sep=(.)\"?[,;\t ]*(?:\r\n|\r|\n)", head, re.IGNORECASE)
    separator = named[1] if named else _separator(head)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    lines = [(reader.line_num, cells) for cells in reader]
    filled = [(line, cells) for line, cells in lines if any(cell.strip() for cell in cells)]
    if named:
        filled = filled[1:]
    whole = [cells[0] for _, cells in filled if len([c for c in cells if c.strip()]) == 1]
    if filled and len(whole) == len(filled) and not named:
        inner = _separator(whole[0])
        if inner in whole[0]:  # each line in quotes, as a single cell
            filled = [
                (line, next(csv.reader([cells[0].strip()], delimiter=inner)))
                for line, cells in filled
            ]
    rows = [(line, [unguarded(cell) for cell in cells]) for line, cells in filled]
    width = max((len(cells) for _, cells in rows), default=0)
    used = [i for i in range(width) if any(i < len(c) and c[i].strip() for _, c in rows)]
    return [(line, [cells[i] for i in used if i < len(cells)]) for line, cells in rows]


def _separator(text: str) -> str:
    """Return the separator that the first line has most of, outside of quotes."""
    first = next(iter(text.splitlines()), "")
    bare = re.sub(r'"[^"]*"', "", first)
    return max(",;\t", key=lambda separator: (bare.count(separator), first.count(separator)))


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if isinstance(value, str):
        text = guarded(text)
    if _IN_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _could_run(text: str) -> bool:
    return _FORMULA.match(text) is not None
