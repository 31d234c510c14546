"""*Copy report*: what a developer needs to know about an error, without any patient data.

The report is built from an allow-list: versions, system, processor, the places in the *code* that
the error passed through, and those words of its message that occur in this package's source.
Everything else in a message (file and folder names, numbers, typed words) is replaced, because
file names of slides often contain names or numbers of patients.
"""

from __future__ import annotations

import ast
import errno
import functools
import importlib.metadata
import os
import platform
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


PACKAGES = (
    "napari-plimseg", "napari", "torch", "numpy", "qtpy", "PySide6", "PyQt6", "zarr", "tifffile",
    "openslide-python", "openslide-bin", "open_clip_torch", "huggingface_hub",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 10_000
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|‘[^’\n]*’")
_PIECE = re.compile(r"<file \d+>|[A-Za-z][A-Za-z'’-]*|\d[\d.,]*|[.:;,()!?%/ ]|.", re.DOTALL)
_PATHS = re.compile(r"(?:[A-Za-z]:)?[^\s'\"]*[/\\][^'\"\n]*|\S+\.[A-Za-z0-9]{1,12}\b(?!\()")
_SHOWN = frozenset(".:;,()!?%/ ")


def error_report(
    sentence: str = "", error: BaseException | None = None, *, device: str = ""
) -> str:
    """Return a report that can be posted in public.

    Parameters
    ----------
    sentence : str
        The message shown in the dock.
    error : BaseException, optional
        With its traceback.
    device : str
        Device of the engine, such as "cpu" or "cuda:0".
    """
    hider = _Hider()
    lines = ["napari-plimseg report (no file names, no slide names, no patient data)", ""]
    lines += [f"{name} {version}" for name, version in _versions()]
    lines.append(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    if re.fullmatch(r"(cpu|mps|cuda(:\d+)?|auto)", device):
        lines.append(f"device {device}")
    if sentence:
        lines += ["", hider.hide(sentence)]
    if error is not None:
        lines += ["", *_traceback(error, hider)]
    return "\n".join(lines) + "\n"


class _Hider:
    """Replaces unknown text; the same text gets the same number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def hide(self, text: str) -> str:
        """Return a text with file names as `<file 1>` and unknown words as `<…>`."""
        # searching for paths is quadratic in the length of a word
        text = text[:_LONGEST]
        text = _QUOTED.sub(lambda match: self._file(match.group()), text)
        text = _PATHS.sub(self._path, text)
        return "".join(self._pieces(text))

    def _path(self, match: re.Match[str]) -> str:
        found = match.group()
        return found if found.startswith("<file ") or found.endswith(">") else self._file(found)

    def _file(self, name: str) -> str:
        number = self._numbers.setdefault(name.strip("'\"‘’"), len(self._numbers) + 1)
        return f"<file {number}>"

    def _pieces(self, text: str) -> Iterator[str]:
        known = _own_words()
        for piece in _PIECE.findall(text):
            shown = piece.startswith("<file ") or piece in _SHOWN or piece in known
            yield piece if shown else " " if piece.isspace() else "<…>"


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _traceback(error: BaseException, hider: _Hider) -> Iterator[str]:
    while error is not None:
        yield f"{type(error).__name__}: {hider.hide(str(error))}"
        for frame in traceback.extract_tb(error.__traceback__):
            yield f"  {_module(frame.filename)}:{frame.lineno} in {_function(frame.name)}"
        cause = error.__cause__ or error.__context__
        if cause is None:
            return
        yield "caused by"
        error = cause


def _module(filename: str) -> str:
    """Return a module's path within its package, without the private folders above it."""
    path = Path(filename)
    if path.is_relative_to(_ROOT):
        return f"napari_plimseg/{path.relative_to(_ROOT).as_posix()}"
    parts = path.parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            return "/".join(parts[parts.index(folder) + 1 :])
    if path.is_relative_to(sys.base_prefix):
        return f"python/{path.name}"
    return "<code>"


def _function(name: str) -> str:
    return name if re.fullmatch(r"<?[A-Za-z_]\w*>?", name) else "<function>"


@functools.cache
def _own_words() -> frozenset[str]:
    """Return every word in this package's messages and in the system's error messages."""
    words = {w for code in errno.errorcode for w in _WORD.findall(os.strerror(code))}
    for path in _ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise | ast.Call):
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        words.update(_WORD.findall(part.value))
    return frozenset(words)
