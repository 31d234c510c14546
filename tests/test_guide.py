"""The user guide tells what the program does, and its pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from napari_plimseg._widgets.common.help import SHORTCUTS

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "user_guide.md"
IMAGES = ROOT / "docs" / "images"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LARGEST_BYTES = 4_000_000


@pytest.mark.parametrize("group", SHORTCUTS)
def test_the_guide_lists_every_key(group: str) -> None:
    _, found, rest = GUIDE.read_text("utf-8").partition(f"**{group}**")
    assert found
    table = rest.strip().partition("\n\n")[0]
    listed = re.findall(r"^\| `(.+?)` \| (.+?) \|$", table, re.MULTILINE)
    assert listed == [(shortcut.keys, shortcut.what) for shortcut in SHORTCUTS[group]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(document: Path) -> None:
    text = document.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (document.parent / target).exists(), target
    headings = {_anchor(line) for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_every_picture_is_shown_and_together_they_stay_small() -> None:
    text = "\n".join(path.read_text("utf-8") for path in DOCUMENTS)
    pictures = sorted(IMAGES.iterdir())
    assert [path.name for path in pictures if f"images/{path.name}" not in text] == []
    assert sum(path.stat().st_size for path in pictures) < LARGEST_BYTES


def test_tiles_are_shown_with_their_source() -> None:
    text = GUIDE.read_text("utf-8")
    assert "10.5281/zenodo.1214456" in text
    assert "CC-BY 4.0" in text


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
