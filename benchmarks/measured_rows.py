"""Rows of a benchmark in a CSV file, measured once each, with the commit they were measured on."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MeasuredRows:
    """The measured rows, in a CSV file if there is one.

    Parameters
    ----------
    path : Path or None
    columns : sequence of str
    """

    def __init__(self, path: Path | None, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        if path is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def found(self, key: Mapping[str, str]) -> dict[str, str] | None:
        """Return the row of a key, if it was measured."""
        same = [r for r in self.rows if all(r[name] == value for name, value in key.items())]
        return same[0] if same else None

    def add(self, row: dict[str, str]) -> None:
        """Add a row, to the file at once."""
        self.rows.append(row)
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)


def current_commit() -> str:
    """Return the commit of this checkout, with "+" if the program was changed since."""
    here = Path(__file__).parent

    def said(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=here, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    # results may have been added since: they change no other row
    changed = said("status", "--porcelain", "--untracked-files=no", "../src", "../training")
    return said("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
