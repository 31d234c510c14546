"""The one exception tree: what went wrong, with which file, and what to do."""

from __future__ import annotations

from pathlib import Path


class PlimsegError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    problem : str
        What went wrong, as a sentence without the file name.
    path : str or Path, optional
        The file concerned. The message holds its name only: folders may be named for patients.
    remedy : str, optional
        What the user can do about it, as a sentence.
    """

    subject = "plimseg"
    exit_code = 1

    def __init__(
        self, problem: str, *, path: str | Path | None = None, remedy: str | None = None
    ) -> None:
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.remedy = remedy
        text = problem if self.path is None else f"{self.subject} '{self.path.name}': {problem}"
        if not text.endswith((".", "!", "?")):
            text += "."
        super().__init__(f"{text} {remedy}" if remedy else text)


class SlideError(PlimsegError):
    """A slide can't be opened or a part of it can't be read."""

    subject = "slide"
    exit_code = 3


class ModelError(PlimsegError):
    """A model file or a backbone can't be used."""

    subject = "model"
    exit_code = 4


class TagError(PlimsegError):
    """Image-level tags are missing or wrong."""

    subject = "tags of"
    exit_code = 5


class ConfigError(PlimsegError):
    """A setting, a class list or a region is wrong."""

    subject = "configuration"
    exit_code = 2


class StoreError(PlimsegError):
    """A mask store can't be read or written."""

    subject = "mask store"
    exit_code = 6


class CorrectionsError(StoreError):
    """What a person painted can't be read or saved."""

    subject = "corrections"


class ExportError(PlimsegError):
    """An export can't be written."""

    subject = "export"
    exit_code = 7
