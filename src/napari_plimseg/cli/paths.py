"""Paths given on the command line: slides, folders and patterns."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError, named_path

if TYPE_CHECKING:
    from collections.abc import Sequence


def expand(patterns: Sequence[str]) -> list[Path]:
    """Return slides: files, those in folders, and patterns that the shell did not expand.

    Raises
    ------
    ConfigError
        When a pattern matches nothing, or a folder holds no slide.
    """
    from napari_plimseg.slides import slides_in

    paths: list[Path] = []
    for pattern in patterns:
        path = named_path(pattern)  # results are called after it
        # a file whose name has brackets in it exists as it is
        if os.path.lexists(path) or not glob.has_magic(pattern):
            places = [path]
        else:
            places = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - pathlib can't take a whole path with wildcards
        found = [slide for place in places for slide in slides_in(place)]
        if not found and len(places) == 1:
            raise ConfigError("no slide is in the folder", path=path, remedy="Check its name.")
        if not found:
            raise ConfigError(
                f"no file matches '{pattern}'",
                remedy="Check the folder's name and its permissions.",
            )
        paths += found
    unique = {path.absolute(): path for path in reversed(paths)}
    return list(reversed(unique.values()))
