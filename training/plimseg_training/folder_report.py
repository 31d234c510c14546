"""What the check of a tagged folder found: problems, and the folder when there is nothing fatal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_plimseg.errors import TagError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from plimseg_training.tagged_folder import TaggedFolder

_SHOWN_PER_KIND = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a tagged folder.

    Parameters
    ----------
    file : str
        The file or folder concerned, without the folders above it.
    kind : str
        A short word for the mistake, the same for all files that share it: "unreadable".
    text : str
        The mistake and what to do about it, as sentences.
    fatal : bool
        Whether training must not start.
    """

    file: str
    kind: str
    text: str
    fatal: bool

    def __post_init__(self) -> None:
        if not (self.file and self.kind and self.text):
            raise TagError("a problem needs a file, a kind and a text")


@dataclass(frozen=True)
class FolderReport:
    """What the check before the first epoch found.

    Parameters
    ----------
    folder : TaggedFolder or None
        What training may use; None when a problem is fatal.
    problems : tuple of Problem
        Fatal ones first.
    root : Path, optional
        What was checked.
    pixel_hashes : mapping of str to str
        From image names to a SHA-256 of their pixels, to find pictures in two folders.
    """

    folder: TaggedFolder | None
    problems: tuple[Problem, ...] = ()
    root: Path | None = None
    pixel_hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = sorted(self.problems, key=lambda problem: not problem.fatal)
        object.__setattr__(self, "problems", tuple(ordered))

    @property
    def fatal(self) -> tuple[Problem, ...]:
        """The problems that keep training from starting."""
        return tuple(problem for problem in self.problems if problem.fatal)

    def table(self) -> str:
        """Return the problems as aligned text, at most twenty of a kind."""
        if not self.problems:
            return "No problems."
        rows = [("", "file", "problem")]
        shown: dict[tuple[str, bool], int] = {}
        for problem in self.problems:
            key = (problem.kind, problem.fatal)
            shown[key] = shown.get(key, 0) + 1
            if shown[key] <= _SHOWN_PER_KIND:
                rows.append(("stops" if problem.fatal else "note", problem.file, problem.text))
        for (kind, fatal), count in shown.items():
            if count > _SHOWN_PER_KIND:
                rest = f"{count - _SHOWN_PER_KIND} more files: {kind}"
                rows.append(("stops" if fatal else "note", "...", rest))
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows)

    def raise_if_fatal(self) -> TaggedFolder:
        """Return the folder, or say what keeps training from starting.

        Raises
        ------
        TagError
            With the first fatal problem and how many more there are.
        """
        fatal = self.fatal
        if fatal:
            more = ""
            if len(fatal) > 1:
                more = f" ({len(fatal)} problems stop the training; 'plimseg scan' lists them all)"
            raise TagError(fatal[0].text.rstrip(".") + "." + more, path=fatal[0].file)
        if self.folder is None:
            raise TagError("nothing was read", path=self.root)
        return self.folder
