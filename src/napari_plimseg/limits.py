"""How large input may be: every limit of the program, once, and the way to raise it.

A file of a few megabytes can declare, or inflate to, more than any computer holds. So what a file
takes is counted before it is decoded, in **decoded** bytes, and compared with a row of `LIMITS`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from napari_plimseg.errors import ConfigError, PlimsegError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

ENVIRONMENT = "PLIMSEG_LIMITS"
"""The variable that changes limits: "picture-bytes=8GB,nesting=100". Child processes inherit it."""
_UNITS = {
    "": 1,
    "B": 1,
    **{f"{p}B": 1000**i for i, p in enumerate("KMGT", start=1)},
    **{f"{p}IB": 1024**i for i, p in enumerate("KMGT", start=1)},
}
AnyError = TypeVar("AnyError", bound=PlimsegError)


@dataclass(frozen=True)
class Limit:
    """One limit on input.

    Parameters
    ----------
    name : str
        As `--limit NAME=VALUE` and `PLIMSEG_LIMITS` take it.
    default : int
        The largest value that is accepted.
    unit : str
        "bytes", or what else is counted.
    counts : str
        What is counted, for people.
    why : str
        Why the default is what it is.
    highest : int
        The largest value that the limit can be raised to.
    """

    name: str
    default: int
    unit: str
    counts: str
    why: str
    highest: int = 1 << 50

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", self.name):
            raise ConfigError(f"'{self.name}' is not a name of a limit")
        if not 0 < self.default <= self.highest:
            raise ConfigError(f"the limit '{self.name}' of {self.default} is not above zero")

    def shown(self, value: float) -> str:
        """Return a value with its unit: "2.1 GB", "64 levels"."""
        if self.unit != "bytes":
            return f"{value:,.0f} {self.unit}"
        for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if value >= factor:
                return f"{value / factor:,.{1 if value < 100 * factor else 0}f} {unit}"
        return f"{value:,.0f} bytes"


LIMITS: Mapping[str, Limit] = {
    limit.name: limit
    for limit in (
        Limit(
            "picture-bytes",
            2 << 30,
            "bytes",
            "A PNG, JPEG, WebP or BMP picture, or a mask or label image, decoded as a whole.",
            "An 8-bit mask of 2 gigapixels covers a whole slide and is good input.",
        ),
        Limit(
            "segment-bytes",
            256_000_000,
            "bytes",
            "A tile, strip, frame or chunk of a slide, decoded.",
            "It is decoded as a whole, so this bounds the memory of every read. Scanners write "
            "tiles of 0.2 to 3 MB; the rest is for unusual exporters.",
        ),
        Limit(
            "slide-read-bytes",
            2_000_000_000,
            "bytes",
            "What one picture of a slide decodes. Of a larger level, overviews and the search for "
            "tissue read evenly spaced tiles.",
            "It takes half a minute at 70 MB per second; a pyramid makes it milliseconds.",
        ),
        Limit(
            "inflation",
            2_000,
            "times",
            "How much larger than stored a tile, strip or chunk of 16 MiB or more gets.",
            "Deflate can't exceed 1,032 and baseline JPEG stays below that, so only a bomb of "
            "another codec or a wrong byte count reaches it.",
        ),
        Limit(
            "window-chunks",
            16_384,
            "chunks",
            "Chunks of an OME-Zarr slide that hold 1,024 x 1,024 pixels.",
            "Each chunk is a file to open. Writers use 4 to 64 chunks for such a window; chunks "
            "of one pixel would take an hour.",
        ),
        Limit(
            "directories",
            1_000,
            "directories",
            "Images in a TIFF file.",
            "Slides have about ten: levels, a label, a macro picture.",
            1_000_000,
        ),
        Limit(
            "folder-entries",
            20_000,
            "files",
            "Files and folders that a search for slides looks at.",
            "Choosing a whole drive by mistake must not hang.",
        ),
        Limit(
            "model-bytes",
            16 << 30,
            "bytes",
            "All tensors of a model or an encoder.",
            "The largest encoders of pathology have 1.1 billion weights, 4.5 GB.",
        ),
        Limit(
            "header-bytes",
            16 << 20,
            "bytes",
            "The header or configuration of a model, a mask store or an OME-Zarr slide.",
            "Ours have a few kilobytes; a tokenizer has 2 MB.",
        ),
        Limit(
            "text-bytes",
            16 << 20,
            "bytes",
            "A JSON or CSV file, or one line of a log: tags, results, run folders.",
            "A table of 100,000 tagged images has 5 MB.",
        ),
        Limit(
            "yaml-bytes",
            1 << 20,
            "bytes",
            "A YAML file: a class list, prompts or a recipe.",
            "People write them; YAML is read at about 1 MB per second.",
        ),
        Limit(
            "annotation-bytes",
            512 << 20,
            "bytes",
            "A GeoJSON file of annotations.",
            "An export of 400,000 cells has 300 MB.",
        ),
        Limit(
            "nesting",
            64,
            "levels",
            "Lists and tables inside each other in JSON and YAML.",
            "Files of this program have 8 levels at most, GeoJSON has 9.",
            500,
        ),
    )
}
"""Every limit on input by its name."""


def get(name: str) -> int:
    """Return the current value of a limit: the user's, else the default.

    Raises
    ------
    ConfigError
        When the environment variable is malformed or names a limit that does not exist.
    """
    limit = LIMITS[name]
    return _parsed(os.environ.get(ENVIRONMENT, "")).get(name, limit.default)


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> dict[str, int]:
    return dict(parse(part) for part in text.split(",") if part.strip())


def parse(text: str) -> tuple[str, int]:
    """Read one "NAME=VALUE", such as "picture-bytes=8GB".

    Raises
    ------
    ConfigError
        When there is no such limit, or the value is not a number in its range.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in LIMITS:
        raise ConfigError(
            f"there is no limit '{name}'", remedy=f"The limits are: {', '.join(LIMITS)}."
        )
    limit = LIMITS[name]
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?) ?([a-zA-Z]{0,3})", value, re.ASCII)
    factor = _UNITS.get(found[2].upper()) if found else None
    if found is None or factor is None or (found[2] and limit.unit != "bytes"):
        example = "8GB" if limit.unit == "bytes" else str(2 * limit.default)
        raise ConfigError(
            f"'{value}' is not a value for the limit '{name}'",
            remedy=f"Write it like {name}={example}.",
        )
    number = int(float(found[1]) * factor) if "." in found[1] else int(found[1]) * factor
    if not 1 <= number <= limit.highest:
        raise ConfigError(
            f"the limit '{name}' can't be {limit.shown(number)}",
            remedy=f"Give 1 to {limit.shown(limit.highest)}.",
        )
    return name, number


@contextlib.contextmanager
def changed(texts: Iterable[str]) -> Iterator[None]:
    """Change limits for this process and the processes that it starts, inside a `with` block.

    Parameters
    ----------
    texts : iterable of str
        Each "NAME=VALUE"; they win over the environment variable.

    Raises
    ------
    ConfigError
        When one is wrong.
    """
    before = os.environ.get(ENVIRONMENT)
    merged = {**_parsed(before or ""), **dict(parse(text) for text in texts)}
    if merged:
        os.environ[ENVIRONMENT] = ",".join(f"{name}={value}" for name, value in merged.items())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(ENVIRONMENT, None)
        else:
            os.environ[ENVIRONMENT] = before


def exceeded(
    error_class: type[AnyError],
    name: str,
    found: float,
    *,
    path: str | Path | None = None,
    what: str = "it takes",
    remedy: str = "",
) -> AnyError:
    """Return the error for input beyond a limit, to be raised.

    Parameters
    ----------
    error_class : type of PlimsegError
        Of the kind of file: `SlideError`, `ModelError`, ...
    name : str
        The limit.
    found : float
        What the file takes, in the unit of the limit.
    path : str or Path, optional
        The file.
    what : str
        Subject and verb before the size: "it decodes to".
    remedy : str
        Another way out, as a sentence, before that of raising the limit.
    """
    limit = LIMITS[name]
    size, most = limit.shown(found), limit.shown(get(name))
    if size == most:
        size = f"more than {most}"
    if found <= limit.highest:
        wanted = _enough(found, limit)
        way = (
            f"If you trust the file, raise the limit: --limit {name}={wanted}, or set "
            f"{ENVIRONMENT}={name}={wanted}."
        )
    else:
        way = "No limit can be raised that far."
    return error_class(
        f"{what} {size}; the limit '{name}' is {most}",
        path=path,
        remedy=f"{remedy} {way}".strip(),
    )


def check(
    error_class: type[PlimsegError],
    name: str,
    found: float,
    *,
    path: str | Path | None = None,
    what: str = "it takes",
    remedy: str = "",
) -> None:
    """Raise the error of `exceeded` when `found` is above the limit `name`."""
    if not found <= get(name):
        raise exceeded(error_class, name, found, path=path, what=what, remedy=remedy)


def _enough(found: float, limit: Limit) -> str:
    """Return a round value that lets the file pass, as a user types it."""
    if limit.unit != "bytes":
        return str(int(found))
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if found >= factor:
            return f"{-(-int(found) // factor)}{unit}"
    return str(int(found))


def described() -> str:
    """Return the table of limits in Markdown, as the user guide holds it."""
    rows = "\n".join(
        f"| `{limit.name}` | {limit.shown(limit.default)} | {limit.counts} | {limit.why} |"
        for limit in LIMITS.values()
    )
    return f"| Limit | Default | What is counted | Why |\n|---|---|---|---|\n{rows}\n"
