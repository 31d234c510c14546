"""What the results of slides are called: one slide's never replace another's."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.inference.plan import other_slide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_plimseg.slides import Slide


_LONGEST_FOLDER = 40


def results_stem(path: Path) -> str:
    """Return what a slide's results are called: its file name without the ending."""
    # of "x.ome.1.tif", a file of a set, ".ome" is not the beginning of the ending
    return path.stem.removesuffix(".ome")


def distinct_stem(path: Path, taken: set[str]) -> str:
    """Return a name for a slide's results that no other slide has, ignoring case."""
    stem = results_stem(path)
    used = {_folded(name) for name in taken}
    for name in (stem, _with_folders(stem, path, 1)):
        if _folded(name) not in used:
            return name
    number = 2
    while _folded(f"{stem}-{number}") in used:
        number += 1
    return f"{stem}-{number}"


def distinct_stems(paths: Sequence[Path]) -> list[str]:
    """Return a name for each slide's results, distinct even if two folders have the same file.

    A name does not depend on the other slides of a call unless their names clash, so that a
    second call finds the results of the first. Clashing names get the ending and as many folders
    as tell the slides apart.
    """
    stems = [results_stem(path) for path in paths]
    names = list(stems)
    for count in range(1, 1 + max(len(path.absolute().parts) for path in paths)):
        for i in _clashing(names):
            names[i] = _with_folders(stems[i], paths[i], count)
    for i in _clashing(names):  # such as names that differ in case only
        number = 2
        while i in _clashing(names):
            names[i], number = f"{stems[i]}-{number}", number + 1
    return names


def free_stem(store: Path, slide: Slide) -> str:
    """Return a name for a slide's results under which a folder holds no other slide's.

    The digest is the slide's own, so that a later run finds these results again.

    Parameters
    ----------
    store : Path
        The store under the name that is wanted.
    slide : Slide
    """
    stem = store.stem
    return f"{stem}-{fingerprint(slide.path)[:8]}" if other_slide(store, slide) else stem


def _clashing(names: Sequence[str]) -> list[int]:
    folded = [_folded(name) for name in names]
    times = Counter(folded)
    return [i for i, name in enumerate(folded) if times[name] > 1]


def _folded(name: str) -> str:
    """Return what is equal for names that some file systems take for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _with_folders(stem: str, path: Path, count: int) -> str:
    """Return a stem with the nearest folders and the ending."""
    folders = [f[:_LONGEST_FOLDER] for f in path.resolve().parent.parts[1:][-count:]]
    return "-".join(filter(None, (stem, *folders, path.name[len(stem) + 1 :])))
