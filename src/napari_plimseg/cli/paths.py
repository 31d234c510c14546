"""Paths given on the command line: patterns, names of results, folders to write to."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_plimseg.errors import ConfigError, ExportError, named_path

if TYPE_CHECKING:
    from collections.abc import Sequence


def expand(patterns: Sequence[str]) -> list[Path]:
    """Return the paths of files, folders, and patterns that the shell did not expand.

    Raises
    ------
    ConfigError
        When a pattern matches nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        path = named_path(pattern)  # results are called after it
        # a file whose name has brackets in it exists as it is
        if os.path.lexists(path) or not glob.has_magic(pattern):
            paths.append(path)
            continue
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - pathlib can't take a whole path with wildcards
        if not found:
            raise ConfigError(
                f"no file matches '{pattern}'",
                remedy="Check the folder's name and its permissions.",
            )
        paths += found
    return paths


def distinct_stems(paths: Sequence[Path]) -> list[str]:
    """Return a name for each slide's results, distinct even if two folders have the same file.

    A name does not depend on the other slides of a call unless their names clash, so that a
    second call finds the results of the first.
    """
    from napari_plimseg.inference import results_stem

    stems = [results_stem(path) for path in paths]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{path.resolve().parent.name}-{path.suffix[1:]}"
        for stem, path in zip(stems, paths, strict=True)
    ]


def check_writable(folder: Path) -> None:
    """Create a folder and check that files can be written to it, before hours of computing.

    Raises
    ------
    ExportError
        When they can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".plimseg-probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ExportError(
            f"can't be written to ({error.strerror})",
            path=folder,
            remedy="Choose another folder with --out.",
        ) from error
