"""The one exception tree: what went wrong, with which file, and what to do.

Also what people mean by a path, which messages name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
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
    longest = 4_000
    """Characters of `problem`: exceptions of libraries quote whole values of a file."""

    def __init__(
        self, problem: str, *, path: str | Path | None = None, remedy: str | None = None
    ) -> None:
        if len(problem) > self.longest:
            problem = f"{problem[: self.longest]}…"
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.remedy = remedy
        text = problem
        if self.path is not None:
            named = named_path(self.path)
            text = f"{self.subject} '{named.name or named}': {problem}"
        if not text.endswith((".", "!", "?")):
            text += "."
        super().__init__(f"{text} {remedy}" if remedy else text)


def user_path(path: str | Path) -> Path:
    """Return a path as a person means it: `~` is the home folder.

    Shells replace it, but not in quotes, not after `--out=`, and never in a notebook.
    """
    path = Path(path)
    if path.parts and path.parts[0].startswith("~") and not os.path.lexists(path):
        with contextlib.suppress(RuntimeError):  # there is no home folder, or no such user
            return path.expanduser()
    return path


def named_path(path: str | Path) -> Path:
    """Return a path that ends in a name: "." and ".." become the folder that they mean."""
    path = Path(path)
    if path.name in ("", ".."):
        with contextlib.suppress(OSError):  # the working folder may be deleted
            path = Path(os.path.normpath(path.absolute()))
    return path


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


class DamagedStoreError(StoreError):
    """Parts of a mask store that were finished are damaged or lost.

    `MaskStore.damage` says which. With `allow_damaged=True` they read as unreadable instead.
    """


class CorrectionsError(StoreError):
    """What a person painted can't be read or saved."""

    subject = "corrections"


class ExportError(PlimsegError):
    """An export can't be written."""

    subject = "export"
    exit_code = 7


OUT_OF_MEMORY = (
    "There is not enough memory. Close other programs, or choose a smaller tile or batch size. "
    "What was finished is kept."
)
"""Shown wherever memory runs out in a place that can't do with less."""


_MEMORY_SIGNS = (
    "out of memory", "can't allocate memory", "bad_alloc", "CUDNN_STATUS_NOT_SUPPORTED",
    "can't start new thread", "failed to map segment", "cannot allocate memory",
    "alloc_compressor",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, of the computer or of any device.

    So does an error of ours that was raised because of such an exception.
    """
    if isinstance(error, PlimsegError):
        return error.__cause__ is not None and is_out_of_memory(error.__cause__)
    torch = sys.modules.get("torch")  # where it is not loaded, it raised nothing
    if isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    ):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).replace("Cannot", "cannot")
    # a library that is loaded on first use needs memory too
    return isinstance(error, RuntimeError | ImportError) and any(s in text for s in _MEMORY_SIGNS)


_DISK_PROBLEMS = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another folder."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or choose another folder."),
    errno.EFBIG: (
        "it is too large for this disk's file system",
        "Choose another disk, or the mask's own resolution.",
    ),
    errno.EACCES: ("it may not be written", "Choose a folder that you may write to."),
    errno.EPERM: ("it may not be written", "Choose a folder that you may write to."),
    errno.EROFS: ("the disk is read-only", "Choose another folder."),
    errno.EISDIR: ("there is a folder of that name", "Choose another file name."),
    errno.ENOTDIR: ("a part of the folder's path is a file", "Choose another folder."),
    errno.EEXIST: ("a part of the folder's path is a file", "Choose another folder."),
    errno.ENAMETOOLONG: ("the file name is too long", "Choose a shorter one."),
    errno.EMFILE: ("too many files are open", "Close some windows or programs and try again."),
    errno.ENFILE: ("too many files are open", "Close some windows or programs and try again."),
}


def disk_problem(error: OSError) -> tuple[str, str]:
    """Return why a file can't be written, and what to do about it, as sentences without period."""
    return _DISK_PROBLEMS.get(
        error.errno or 0,
        (f"it can't be written ({error.strerror or error})", "Choose another folder."),
    )


class AccessError(ConfigError):
    """A file or folder that a person named can't be used; the system says why."""

    subject = "file"


_ACCESS_PROBLEMS = {
    errno.EACCES: (
        "there is no permission to use it",
        "Check the permissions of the file and of its folder.",
    ),
    errno.ENOENT: ("it does not exist", "Check the name and the folder."),
    errno.ENOTDIR: ("a part of its path is not a folder", "Check the path."),
    errno.ENAMETOOLONG: ("its name is too long", "Give a shorter name."),
    errno.ELOOP: ("it is a link that leads back to itself", "Name the file itself."),
}
_ACCESS_PROBLEMS[errno.EPERM] = _ACCESS_PROBLEMS[errno.EACCES]


def access_problem(error: OSError | ValueError) -> tuple[str, str]:
    """Return why a file can't be used, and what to do about it, as sentences without period."""
    code = error.errno if isinstance(error, OSError) else None
    known = {**_DISK_PROBLEMS, **_ACCESS_PROBLEMS}.get(code or 0)
    reason = getattr(error, "strerror", None) or str(error)
    return known or (f"it can't be used ({reason})", "Check its name, the disk and the connection.")


class DiskError(PlimsegError, OSError):
    """A file can't be written; an old file of that name is unchanged.

    It is an `OSError` too: a writer that knows more about the file catches it as such.

    Parameters
    ----------
    code : int
        The system's `errno`.
    path : str or Path
        The file.
    """

    subject = "file"
    exit_code = 6

    def __init__(self, code: int, *, path: str | Path) -> None:
        problem, remedy = disk_problem(OSError(code, os.strerror(code)))
        super().__init__(problem, path=path, remedy=remedy)
        self.errno, self.strerror = code, os.strerror(code)

    def __str__(self) -> str:
        # of an OSError with a code, only the code is shown
        return str(self.args[0])
