"""Tags reach the disk with every change, in the form that training reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_plimseg.errors import TagError
from napari_plimseg.training_runs.tag_table import TagTable
from plimseg_training.data.scan import scan_folder
from plimseg_training.data.tags_csv import set_aside

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(folder / name)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    return folder


def test_the_table_is_what_a_scan_reads(images: Path) -> None:
    table = TagTable(images, ["tumour", "stroma"])
    assert table.images == NAMES
    table.toggle("a.png", "tumour")
    table.toggle("b.png", "tumour")
    table.toggle("b.png", "stroma")
    table.toggle("c.png", "stroma")
    table.toggle_unsure("c.png")
    table.set_nothing("d.png")
    assert [table.state(n) for n in NAMES] == ["tagged", "tagged", "unsure", "nothing"]
    assert (table.done, table.counts()) == (4, {"tumour": 2, "stroma": 1})
    assert (images / "tags.csv").read_text() == "file,tumour,stroma\na.png,1,0\nb.png,1,1\n"
    report = scan_folder(images, mpp=0.5)
    folder = report.raise_if_fatal()
    assert (folder.layout, len(folder.images)) == ("csv", 2)
    assert folder.tag_counts().tolist() == [2, 1]


def test_every_change_is_on_the_disk_and_can_be_undone(images: Path) -> None:
    table = TagTable(images, ["tumour", "stroma"])
    table.toggle("a.png", "stroma")
    assert TagTable(images).tags("a.png") == {"stroma"}
    table.toggle_unsure("a.png")
    again = TagTable(images)
    assert (again.state("a.png"), again.tags("a.png")) == ("unsure", {"stroma"})
    table.toggle_unsure("a.png")
    assert TagTable(images).state("a.png") == "tagged"
    table.set_nothing("a.png")
    assert [table.undo() for _ in range(5)] == ["a.png"] * 4 + [None]
    assert TagTable(images).state("a.png") == "untagged"


def test_work_goes_on_where_it_stopped(images: Path) -> None:
    table = TagTable(images, ["tumour"])
    table.toggle("a.png", "tumour")
    table.set_nothing("b.png")
    again = TagTable(images)
    assert again.next_untagged() == "c.png"
    assert again.next_untagged("d.png") == "c.png"
    again.toggle("c.png", "tumour")
    again.toggle("d.png", "tumour")
    assert again.next_untagged("a.png") is None


@pytest.mark.parametrize(
    ("text", "tags", "classes"),
    [
        ("file,tumour\na.png,1\nb.png,0\n", {"tumour"}, ("tumour",)),
        ("\ufeffImage;Tumour;group\na.png;TRUE;s1\n", {"Tumour"}, ("Tumour",)),
        ("file\ttags\na.png\ttumour, stroma\n", {"tumour", "stroma"}, ("tumour", "stroma")),
        ("file,tumour\nelsewhere/x.png,1\n", set(), ("tumour",)),
        ("sep=;\nfile;tumour;;\nA.PNG;1;;\n", {"tumour"}, ("tumour",)),
        ('"file,tumour"\n"a,1"\n', {"tumour"}, ("tumour",)),
        ("file,tumour\nC:\\Users\\me\\a.png,1\n", {"tumour"}, ("tumour",)),
    ],
)
def test_tables_of_others_are_gone_on_with(
    images: Path, text: str, tags: set, classes: tuple
) -> None:
    (images / "tags.csv").write_text(text, "utf-8")
    table = TagTable(images)
    assert (table.tags("a.png"), table.classes) == (tags, classes)
    table.toggle("d.png", classes[0])
    assert (images / "tags.csv.bak").read_text("utf-8") == text
    written = (images / "tags.csv").read_text("utf-8")
    assert "d.png" in written
    assert ("s1" in written) == ("s1" in text)
    assert ("elsewhere/x.png,1" in written) == ("elsewhere" in text)
    assert TagTable(images).tags("a.png") == tags


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "not like"),
        ("file,y,x,height,width,t\na.png,0,0,9,9,1\n", "windows"),
        ("file,t\na.png\n", "line 2 is shorter"),
        ("file,t\na.png,maybe\n", "line 2 has 'maybe'"),
        ("file,t\na.png,1\na.png,0\n", "line 3 is the second one"),
        ("file,t,t\na.png,1,1\n", "not like"),
        (b"\xff\xfe\x00\xd8", "not UTF-8 text"),
    ],
)
def test_tables_that_can_not_be_gone_on_with_stay(
    images: Path, text: str | bytes, says: str
) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (images / "tags.csv").write_bytes(data)
    with pytest.raises(TagError, match=says):
        TagTable(images)
    assert (images / "tags.csv").read_bytes() == data


def test_classes(images: Path) -> None:
    table = TagTable(images, ["tumour"])
    table.add_class("fat tissue")
    table.toggle("a.png", "fat tissue")
    for wrong in ("Tumour", "file", "a,b", "", "group"):
        with pytest.raises(TagError):
            table.add_class(wrong)
    assert TagTable(images).classes == ("tumour", "fat tissue")
    with pytest.raises(TagError):
        table.toggle("nowhere.png", "fat tissue")


def test_a_disk_that_refuses_keeps_the_old_table(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = TagTable(images, ["tumour"])
    table.toggle("a.png", "tumour")

    def full(path: object) -> object:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("napari_plimseg.training_runs.tag_table.atomic_write", full)
        with pytest.raises(TagError, match="No space left"):
            table.toggle("b.png", "tumour")
    assert TagTable(images).state("b.png") == "untagged"
    table.toggle("c.png", "tumour")  # the next key saves both
    assert TagTable(images).counts() == {"tumour": 3}


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(TagError, match="no images"):
        TagTable(tmp_path)
    with pytest.raises(TagError):
        TagTable(tmp_path / "nowhere")


def test_a_first_class_that_means_glass_is_left_out_with_a_note(images: Path) -> None:
    table = TagTable(images, ["tumour", "Glass", "stroma"])
    assert table.classes == ("tumour", "stroma")
    assert table.note.startswith("'Glass' is no tissue")
    assert TagTable(images, ["tumour", "stroma"]).note == ""


def test_what_was_set_aside_is_said_to_be(images: Path) -> None:
    table = TagTable(images, ["tumour", "stroma"])
    table.toggle("a.png", "tumour")
    table.toggle("b.png", "stroma")
    table.toggle_unsure("c.png")
    table.set_nothing("d.png")
    assert set_aside(images) == {"c.png": "unsure", "d.png": "none of the classes"}
    texts = {p.file: p.text for p in scan_folder(images).problems if p.kind == "not in table"}
    assert "set aside while tagging (unsure)" in texts["c.png"]
    assert "set aside while tagging (none of the classes)" in texts["d.png"]
    (images / "tags.aside.json").write_text("[")
    assert set_aside(images) == {}
