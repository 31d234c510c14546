"""Tags in file names: `1031280-2300-27920-[1 0 0 1].png` and its relatives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from napari_plimseg.errors import TagError

if TYPE_CHECKING:
    from collections.abc import Sequence

TagStyle = Literal["spaces", "commas", "digits"]

_JOINTS: dict[TagStyle, str] = {"spaces": " ", "commas": ", ", "digits": ""}
_BRACKET = re.compile(r"\[([^\[\]]*)\](?:\.[A-Za-z0-9]+)?\Z")
_LISTS = (
    re.compile(r"[0-9]+"),
    re.compile(r" *[0-9]+(?: +[0-9]+)* *"),
    re.compile(r" *[0-9]+(?: *, *[0-9]+)* *"),
)
_ENDING = re.compile(r"(?:\+[0-9]+|[-_ ]+)?\[[^\[\]]*\]\Z")
_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}", re.IGNORECASE)
_COORDINATES = re.compile(r"(.*[A-Za-z0-9])[-_ ]+[xy]?([0-9]+)[-_ ]+[xy]?([0-9]+)", re.IGNORECASE)


def parse_tags(text: str, count: int | None = None) -> tuple[int, ...]:
    """Read the tags at the end of a file name, or a bracket with tags alone.

    Parameters
    ----------
    text : str
        `"a-[1 0 1 0].png"`, `"a+0[1101].png"` or `"[1, 0, 0]"`: a bracket that ends the name,
        with one 0 or 1 for each class, all apart by blanks, all apart by commas, or not apart.
    count : int, optional
        How many tags there must be.

    Returns
    -------
    tuple of int
        0 or 1 for each class, in tag order.

    Raises
    ------
    TagError
        When there is no such bracket, or it holds anything but `count` zeros and ones.
    """
    found = _BRACKET.search(text)
    if found is None:
        raise TagError(
            "there are no tags at the end of the name",
            path=text,
            remedy="Write them as in 'name-[1 0 1 0].png', one 0 or 1 for each class.",
        )
    inner = found[1]
    if not any(pattern.fullmatch(inner) for pattern in _LISTS):
        raise TagError(
            f"the tags [{inner}] are not a list of zeros and ones",
            path=text,
            remedy="Write them as in '[1 0 1 0]', one 0 or 1 for each class.",
        )
    apart = "," in inner or " " in inner.strip()
    parts = re.findall("[0-9]+", inner) if apart else list(inner.strip())
    wrong = [part for part in parts if part not in ("0", "1")]
    if wrong:
        raise TagError(
            f"the tag '{wrong[0]}' in [{inner}] is neither 0 nor 1",
            path=text,
            remedy="Write 1 for a class that the image shows and 0 for one that it does not.",
        )
    if count is not None and len(parts) != count:
        raise TagError(
            f"[{inner}] holds {len(parts)} tags where there are {count} classes",
            path=text,
            remedy="Rename the file, or set data.classes to the classes in the order of the tags.",
        )
    return tuple(int(part) for part in parts)


def format_tags(tags: Sequence[int], style: TagStyle = "spaces") -> str:
    """Return tags as the bracket that `parse_tags` reads.

    Parameters
    ----------
    tags : sequence of int
        0 or 1 for each class; at least one.
    style : {"spaces", "commas", "digits"}
        `[1 0 1]` as LUAD-HistoSeg writes it, `[1, 0, 1]` as WSSS4LUAD, `[101]` as BCSS-WSSS.

    Raises
    ------
    TagError
        When there are no tags, or one is neither 0 nor 1.
    """
    if len(tags) == 0 or any(tag not in (0, 1) for tag in tags):
        raise TagError(f"{list(tags)} are not tags", remedy="Give one 0 or 1 for each class.")
    return f"[{_JOINTS[style].join(str(int(tag)) for tag in tags)}]"


def has_tags(name: str) -> bool:
    """Return whether a file name ends in a bracket, right or wrong, before its suffix."""
    return _BRACKET.search(name) is not None


def name_without_tags(stem: str) -> str:
    """Return a file's stem without the tags at its end, or as it is when it has none."""
    return _ENDING.sub("", stem) or stem


def group_in_name(name: str) -> str | None:
    """Return the patient or slide that a name without tags tells, or None.

    A TCGA barcode gives the patient; `1031280-2300-27920`, a name and two coordinates, gives what
    stands before the coordinates.
    """
    barcode = _TCGA.match(name)
    if barcode:
        return barcode[0].upper()
    placed = _COORDINATES.fullmatch(name)
    return placed[1] if placed else None
