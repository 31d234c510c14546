"""The classes of an existing mask are edited with mouse and keys, undone, and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLineEdit

from napari_plimseg._widgets.review.class_editor import COLOR, IGNORE, NAME
from napari_plimseg.api import Segmentation
from napari_plimseg.palette import CLEAR_DISTANCE, distance
from napari_plimseg.results import ClassEdits
from tests.support import widgets as fakes
from tests.support.review import Review

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.gui


@pytest.fixture
def review(make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot) -> Review:  # type: ignore[no-untyped-def]
    made = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    made.dock._folds[2].open()
    return made


def editor(review: Review):  # type: ignore[no-untyped-def]
    return review.dock.class_editor


def names(review: Review) -> list[str]:
    table = editor(review).table
    return [table.item(row, NAME).text() for row in range(table.rowCount())]


def type_name(review: Review, row: int, text: str) -> None:
    """Double-click a name and type another one."""
    table, qtbot = editor(review).table, review.qtbot
    middle = table.visualItemRect(table.item(row, NAME)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    answer(review, text)


def answer(review: Review, text: str) -> None:
    """Type into the line that is open in the table."""
    line = editor(review).table.findChild(QLineEdit)
    assert line is not None
    review.qtbot.keyClicks(line, text)
    review.qtbot.keyClick(line, Qt.Key.Key_Return)
    review.qtbot.waitUntil(lambda: editor(review).table.findChild(QLineEdit) is None)


def press(review: Review, name: str) -> None:
    review.qtbot.mouseClick(editor(review).buttons[name], Qt.MouseButton.LeftButton)


def color_at(review: Review, y: int, x: int) -> list[int]:
    color = review.view.layer.colormap.map(review.view.layer.data[y, x])
    return [round(255 * float(v)) for v in np.ravel(color)[:3]]


def test_a_typed_name_is_the_name_everywhere(review: Review, tmp_path: Path) -> None:
    type_name(review, 1, "connective tissue")
    assert names(review) == ["purple", "connective tissue", "background"]
    assert review.view.info.classes.names[1] == "connective tissue"
    assert [chip.name for chip in review.correct.controls.chips.chips] == names(review)
    assert review.dock.banner.text == "pink is now connective tissue in this mask."
    result = Segmentation.open(tmp_path / "slide.plimseg")
    assert [row.name for row in result.areas()][:2] == ["purple", "connective tissue"]
    press(review, "class_undo")
    assert names(review) == ["purple", "pink", "background"]
    press(review, "class_redo")
    assert names(review)[1] == "connective tissue"


def test_a_name_that_another_class_has_is_refused(review: Review) -> None:
    type_name(review, 1, "purple")
    assert names(review) == ["purple", "pink", "background"]
    assert "occurs twice" in review.dock.banner.text


def test_merging_changes_the_mask_and_undo_brings_it_back(review: Review) -> None:
    box = editor(review)
    before = review.view.layer.data.copy()
    box.table.setCurrentCell(0, NAME)
    box._list_targets()
    box.merge_menu.actions()[0].trigger()
    assert names(review) == ["pink", "background"]
    assert review.view.layer.data[10, 10] == review.view.layer.data[10, 150] == 1
    assert color_at(review, 10, 10) == [*fakes.CLASSES[1].color]
    press(review, "class_undo")
    assert np.array_equal(review.view.layer.data, before)
    assert color_at(review, 10, 10) == [*fakes.CLASSES[0].color]


def test_strokes_keep_their_class_and_can_be_undone(review: Review, tmp_path: Path) -> None:
    review.correct.choose_tool("brush")
    review.correct.choose_class(2)
    review.drag([(30, 30), (30, 60)])
    assert review.view.layer.data[30, 45] == 2
    box = editor(review)
    box.table.setCurrentCell(1, NAME)
    press(review, "class_up")  # pink is number 1 now
    assert names(review) == ["pink", "purple", "background"]
    assert review.view.layer.data[30, 45] == 1
    assert review.view.layer.data[60, 45] == 2
    assert review.view.layer.selected_label == 1  # still pink
    result = Segmentation.open(tmp_path / "slide.plimseg")
    review.view.recorder.flush_and_release()
    assert np.array_equal(result.mask, review.view.layer.data)
    review.correct.undo()
    assert review.view.layer.data[30, 45] == 2
    press(review, "class_undo")
    assert np.array_equal(review.view.layer.data, review.model)


def test_an_added_class_has_its_own_color_and_is_painted_with(
    review: Review, tmp_path: Path
) -> None:
    press(review, "class_add")
    answer(review, "vessel")
    assert names(review) == ["purple", "pink", "vessel", "background"]
    classes = review.view.info.classes
    color = classes[2].color
    assert min(distance(color, c) for c in classes.colors if c != color) >= CLEAR_DISTANCE
    assert review.view.layer.data[140, 20] == 4  # background moved
    review.correct.choose_tool("brush")
    review.correct.choose_class(3)
    review.drag([(30, 30), (30, 60)])
    review.view.recorder.flush_and_release()
    areas = {row.name: row.pixels for row in Segmentation.open(tmp_path / "slide.plimseg").areas()}
    assert areas["vessel"] == (review.view.layer.data == 3).sum() > 100


def test_an_ignored_class_is_in_no_area(review: Review, tmp_path: Path) -> None:
    table = editor(review).table
    table.item(1, IGNORE).setCheckState(Qt.CheckState.Checked)
    assert "left out of areas and exports" in review.dock.banner.text
    files = Segmentation.open(tmp_path / "slide.plimseg").export(tmp_path, ["csv", "geojson"])
    assert "pink" not in files[0].read_text("utf-8")
    assert '"name":"pink"' not in files[1].read_text("utf-8")
    areas = review.dock.inspect.areas
    review.qtbot.waitUntil(lambda: [r.name for r in areas.rows] == ["purple"], timeout=20_000)


def test_a_color_is_kept_with_the_mask(
    review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtGui import QColor
    from qtpy.QtWidgets import QColorDialog

    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor(1, 2, 3))
    table = editor(review).table
    place = table.visualItemRect(table.item(0, COLOR)).center()
    review.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert color_at(review, 10, 10) == [1, 2, 3]
    edits = ClassEdits.read(tmp_path / "slide.plimseg", fakes.CLASSES)
    assert edits.classes[0].color == (1, 2, 3)


def test_presets_are_saved_and_loaded(
    review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_name(review, 0, "tumour")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    editor(review).presets.ask_and_save()
    assert (tmp_path / "mine.yaml").is_file()
    press(review, "class_undo")
    press(review, "class_color_blind")
    editor(review).presets.load(tmp_path / "mine.yaml")
    assert names(review) == ["tumour", "pink", "purple", "background"]
    assert review.view.info.classes[1].color == fakes.CLASSES[1].color


def test_a_downsampled_mask_is_edited_too(
    make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot
) -> None:  # type: ignore[no-untyped-def]
    made = Review(make_napari_viewer_proxy(), tmp_path, qtbot, max_side=100)
    box = editor(made)
    box.table.setCurrentCell(1, NAME)
    press(made, "class_delete")
    assert names(made) == ["purple", "background"]
    full = made.view.full_mask(made.view.layer.data)
    assert np.array_equal(full, Segmentation.open(tmp_path / "slide.plimseg").mask)
    assert (full == 2).sum() == (made.model != 1).sum()
    made.correct.open_region()
    assert not box.buttons["class_add"].isEnabled()
    assert made.correct.region.target.layer.data.max() == 2
    made.correct.close_region()
