"""What earlier calls of `plimseg cut` left in a folder: the record of slides, and the table."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from napari_plimseg.errors import TagError
from napari_plimseg.files import atomic_write, write_json
from napari_plimseg.inference import SlidePlaces
from napari_plimseg.reading import read_json, read_text
from napari_plimseg.tables import csv_text, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


TABLE = "tags.csv"
RECORD = "cut.json"


def name_in(out: Path, stem: str, settings: Mapping[str, Any]) -> str:
    """Return what a slide's patches are called: with a digest where another slide has its name.

    A file that was cut before and has changed since keeps its name, and is refused.
    """
    try:
        slides = read_json(out / RECORD, TagError)["slides"]
        others = [
            other
            for name, other in slides.items()
            if str(name).casefold() == stem.casefold() and other["source"] != settings["source"]
        ]
        is_another = any(other["place"] != settings["place"] for other in others)
    except (TagError, KeyError, TypeError, AttributeError):
        return stem  # no record, or one without places, or damaged: it is checked next
    return f"{stem}-{settings['source'][:8]}" if is_another else stem


def place_of(out: Path, source: Path) -> str:
    """Return where a slide is, without folders that may be named for patients."""
    with contextlib.suppress(OSError):
        return SlidePlaces(out).place_of(source.absolute())
    return ""


def check_record(out: Path, name: str, settings: dict[str, Any], tissue: list[str]) -> None:
    """Add this slide to the record of the folder `out`, or refuse if settings differ."""
    path = out / RECORD
    before: dict[str, Any] = {"classes": tissue, "slides": {}}
    if path.is_file():
        try:
            before = read_json(path, TagError)
            slides, named = before["slides"], before["classes"]
            earlier = dict(slides.get(name, {}))
            words = ", ".join(named)
        except (TagError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TagError(
                "the record of earlier cuts can't be read",
                path=path,
                remedy="Choose another folder, or delete this one.",
            ) from error
        if named != tissue:
            raise TagError(
                f"the folder contains patches with the classes {words}",
                path=path,
                remedy="Use the same classes, or another folder.",
            )
        for key, value in earlier.items():
            if key != "place" and settings.get(key) != value:
                other = "another slide" if key == "source" else f"another {key} ({value})"
                raise TagError(
                    f"'{name}' was cut into this folder before, with {other}",
                    path=path,
                    remedy="Choose another folder.",
                )
    elif (out / TABLE).exists():
        raise TagError(
            "the folder contains a table of another origin",
            path=out / TABLE,
            remedy="Choose another folder, so that your table is not overwritten.",
        )
    # written before the patches, so that an interrupted run leaves patches with known settings
    write_json(path, {"classes": tissue, "slides": {**before["slides"], name: settings}})


def write_table(path: Path, header: list[str], rows: Iterable[list[str]], group: str) -> None:
    """Write the rows of one slide, and keep those of others."""
    kept: list[list[str]] = []
    if path.is_file():
        before = read_csv(read_text(path, TagError))
        at = header.index("group")
        kept = [row for row in before[1:] if len(row) == len(header) and row[at] != group]
    with atomic_write(path) as temporary:
        temporary.write_text(csv_text([header, *kept, *rows]), "utf-8", newline="")
