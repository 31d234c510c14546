"""Reads what another process adds to a text file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 1 << 18


class LineTail:
    """Gives the whole lines that were added since the last time.

    A line that is still being written waits for its end. A file that became shorter is read from
    its beginning.

    Parameters
    ----------
    path : Path
        It need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """Return the lines added, a quarter of a megabyte at most; the rest comes the next time."""
        try:
            size = self._path.stat().st_size
            if size < self._offset:
                self._offset = 0
            if size == self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read(_MOST_BYTES)
        except OSError:
            return []  # not there yet, or gone: there is nothing to read
        end = added.rfind(b"\n") + 1
        if end == 0 and len(added) == _MOST_BYTES:
            end = len(added)  # no line of ours is so long
        self._offset += end
        return added[:end].decode("utf-8", errors="replace").splitlines()

    def new_objects(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the JSON objects added, and the lines that are none."""
        objects, others = [], []
        for line in self.new_lines():
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if isinstance(value, dict) and isinstance(value.get("kind"), str):
                objects.append(value)
            elif line.strip():
                others.append(line)
        return objects, others
