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


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if isinstance(value, str):
        text = guarded(text)
    if _IN_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _could_run(text: str) -> bool:
    return _FORMULA.match(text) is not None
