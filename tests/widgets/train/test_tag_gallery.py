"""A folder is tagged by keyboard; each key is on the disk before the next."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from qtpy.compat import isalive

from napari_plimseg.training_runs.tag_table import TagTable
from plimseg_training.data.scan import scan_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg._widgets.train.tag_gallery import TagGallery

pytestmark = pytest.mark.gui
WAIT = 30_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        pixels = rng.integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def gallery(folder: Path, qtbot) -> Iterator[TagGallery]:  # type: ignore[no-untyped-def]
    from napari_plimseg._widgets.train.tag_gallery import TagGallery

    gallery = TagGallery(TagTable(folder, ["tumour", "stroma"]), {"tumour": (200, 40, 40)})
    gallery.show()
    yield gallery
    if isalive(gallery):
        gallery.close()
    qtbot.waitUntil(
        lambda: not any(t.name == "plimseg-job" for t in threading.enumerate()), timeout=WAIT
    )


@pytest.fixture
def press(gallery: TagGallery, qtbot) -> Callable[[str], None]:  # type: ignore[no-untyped-def]
    from qtpy.QtCore import Qt

    named = {
        " ": Qt.Key.Key_Space, ">": Qt.Key.Key_Right, "<": Qt.Key.Key_Left, "\n": Qt.Key.Key_Return,
    }  # fmt: skip

    def press(keys: str) -> None:
        for key in keys:
            if key in named:
                qtbot.keyClick(gallery, named[key])
            elif key == "Z":
                qtbot.keyClick(gallery, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
            else:
                qtbot.keyClicks(gallery, key)

    return press


@pytest.mark.parametrize(
    ("keys", "table", "position"),
    [
        ("1", "0.png,1,0\n", 0),
        ("12", "0.png,1,1\n", 0),
        ("11", "", 0),
        ("1 2>12\n", "0.png,1,0\n1.png,0,1\n2.png,1,1\n", 3),
        ("1 2<1", "0.png,0,0\n", 0),
        ("12 =", "0.png,1,1\n1.png,1,1\n", 1),
        ("1?", "", 0),
        ("1??", "0.png,1,0\n", 0),
        ("0 u", "", 2),
        ("1 >u", "0.png,1,0\n", 3),
        ("1Z2", "0.png,0,1\n", 0),
        ("9", "", 0),
        ("<<", "", 0),
    ],
)
def test_keys(
    gallery: TagGallery, folder: Path, press: Callable, keys: str, table: str, position: int
) -> None:
    press(keys)
    assert gallery.position == position
    written = (folder / "tags.csv").read_text() if (folder / "tags.csv").exists() else "f,t,s\n"
    expected = table if table != "0.png,0,0\n" else "1.png,0,1\n"
    assert written.partition("\n")[2] == expected


def test_what_was_tagged_is_what_a_scan_reads(
    gallery: TagGallery, folder: Path, press: Callable
) -> None:
    press("1 2 12 ? 0 1")
    assert gallery.bar.format() == "6 of 6 tagged"
    assert gallery.state_label.text() == "Tagged"
    press(">")
    assert "4 of 6 have a tag to train on" in gallery.banner.text
    report = scan_folder(folder, mpp=0.5)
    assert report.raise_if_fatal().tag_counts().tolist() == [2, 2]  # 5.png can't be read


def test_tagging_goes_on_where_it_stopped(
    gallery: TagGallery, folder: Path, press: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    from napari_plimseg._widgets.train.tag_gallery import TagGallery

    press("1 2 ")
    with qtbot.waitSignal(gallery.closed):
        gallery.close()
    again = TagGallery(TagTable(folder))
    assert again.position == 2
    assert again.class_buttons["stroma"].text() == "2  stroma  (1)"
    again.close()


def test_pictures_come_and_a_broken_one_is_said(gallery: TagGallery, qtbot) -> None:  # type: ignore[no-untyped-def]
    qtbot.waitUntil(lambda: gallery.picture.image is not None, timeout=WAIT)
    assert gallery.picture.image.width() == 80
    qtbot.waitUntil(lambda: gallery._thumb_at(4) is not None, timeout=WAIT)
    gallery.go_to(5)
    qtbot.waitUntil(lambda: "can't be read" in gallery.picture.text, timeout=WAIT)
    assert gallery.picture.image is None


def test_buttons_and_new_classes(gallery: TagGallery, folder: Path, press: Callable) -> None:
    gallery.add_class("fat")
    press("3")
    gallery.class_buttons["tumour"].click()
    assert (folder / "tags.csv").read_text() == "file,tumour,stroma,fat\n0.png,1,0,1\n"
    gallery.add_class("file")
    assert gallery.banner.kind == "error"
    gallery.buttons["tag_undo"].click()
    gallery.buttons["tag_next"].click()
    gallery.buttons["tag_back"].click()
    assert gallery.position == 0
    assert gallery.table.tags("0.png") == {"fat"}
    gallery.buttons["tag_unsure"].click()
    assert gallery.state_label.text().startswith("Unsure")
    gallery.buttons["tag_nothing"].click()
    gallery.buttons["tag_untagged"].click()
    assert gallery.position == 1


def test_a_disk_that_refuses_is_told_and_nothing_is_lost(
    gallery: TagGallery, folder: Path, press: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: object) -> object:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("napari_plimseg.training_runs.tag_table.atomic_write", full)
        press("1")
        assert gallery.banner.kind == "error"
        assert "No space left" in gallery.banner.text
    press("2")
    assert gallery.banner.text == ""
    assert (folder / "tags.csv").read_text().endswith("0.png,1,1\n")


def test_the_strip_goes_where_it_is_clicked(gallery: TagGallery, qtbot) -> None:  # type: ignore[no-untyped-def]
    from qtpy.QtCore import QPoint, Qt

    qtbot.mouseClick(gallery.strip, Qt.MouseButton.LeftButton, pos=QPoint(6 + 74 * 2 + 10, 30))
    assert gallery.position == 2


@pytest.mark.parametrize("by_key", [True, False])
def test_a_closed_gallery_is_gone(gallery: TagGallery, by_key: bool, qtbot) -> None:  # type: ignore[no-untyped-def]
    from qtpy.QtCore import Qt

    with qtbot.waitSignal(gallery.closed, timeout=WAIT):
        if by_key:
            qtbot.keyClick(gallery, Qt.Key.Key_Escape)
        else:
            gallery.close()
    qtbot.waitUntil(lambda: not isalive(gallery), timeout=WAIT)


@pytest.mark.parametrize("name", ["Glass", "white", "empty", "2_Background"])
def test_glass_is_no_class_to_tag(gallery: TagGallery, name: str) -> None:
    gallery.add_class(name)
    assert gallery.table.classes == ("tumour", "stroma")
    assert gallery.banner.kind == "error"
    assert "never trained on" in gallery.banner.text
    assert "Press 0" in gallery.banner.text


def test_what_is_tagged_as_glass_only_is_no_tagged_image(folder: Path, qtbot) -> None:  # type: ignore[no-untyped-def]
    from napari_plimseg._widgets.train.tag_gallery import TagGallery

    rows = "".join(f"{n}.png,{int(n < 2)},{int(n >= 2)}\n" for n in range(6))
    (folder / "tags.csv").write_text(f"file,tumour,glass\n{rows}")
    gallery = TagGallery(TagTable(folder), {})
    qtbot.addWidget(gallery)
    assert gallery.table.state("3.png") == "nothing"
    assert gallery.table.done == 6
    gallery.go_to(5)
    gallery.forward()
    assert gallery.banner.text == "All images are done; 2 of 6 have a tag to train on."
    report = scan_folder(folder)
    notes = [p for p in report.problems if p.kind == "none of the classes"]
    assert [p.file for p in notes] == ["2.png", "3.png", "4.png", "5.png"]
    assert not any(p.fatal for p in notes)
    gallery.close()
