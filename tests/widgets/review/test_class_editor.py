"""The classes of an existing mask are edited with mouse and keys, undone, and exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLineEdit

from napari_plimseg._widgets.review.class_editor import COLOR, FORGOTTEN, IGNORE, NAME
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


def test_undoing_a_merge_keeps_the_strokes_that_can_be_undone(review: Review) -> None:
    before = review.view.layer.data.copy()
    review.correct.choose_tool("brush")
    review.correct.choose_class(2)
    review.drag([(30, 30), (30, 60)])
    painted = review.view.layer.data.copy()
    editor(review).merge("purple", "pink")
    press(review, "class_undo")
    assert np.array_equal(review.view.layer.data, painted)
    assert review.dock.banner.text != FORGOTTEN
    review.correct.undo()
    assert np.array_equal(review.view.layer.data, before)
    review.correct.redo()
    assert np.array_equal(review.view.layer.data, painted)


def test_strokes_that_can_no_longer_be_undone_are_said_to_be(review: Review) -> None:
    editor(review).merge("purple", "pink")
    review.correct.choose_tool("brush")
    review.correct.choose_class(2)
    review.drag([(30, 30), (30, 60)])
    assert review.correct.controls.undo_button.isEnabled()
    press(review, "class_undo")  # what was below the stroke is two classes now
    assert review.dock.banner.text == FORGOTTEN
    assert not review.correct.controls.undo_button.isEnabled()
    assert review.view.layer.data[30, 45] == 3  # the stroke stays


def test_hidden_strokes_are_undone_in_the_ids_of_now(review: Review) -> None:
    review.correct.choose_tool("brush")
    review.correct.choose_class(2)
    review.drag([(30, 30), (30, 60)])
    review.view.show_corrections(False)
    editor(review).table.setCurrentCell(1, NAME)
    press(review, "class_up")
    review.view.show_corrections(True)
    assert review.view.layer.data[30, 45] == 1
    review.correct.undo()
    assert review.view.layer.data[30, 45] == 2


def test_only_what_changed_follows(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_plimseg._widgets.review.inspect import uncertain_regions

    inspect = review.dock.inspect
    inspect.review.search()
    review.qtbot.waitUntil(lambda: inspect.review.regions is not None, timeout=20_000)
    searched: list[object] = []

    def search(*_: object) -> object:
        searched.append(1)
        return [], 0.0

    monkeypatch.setattr(uncertain_regions, "find_uncertain", search)
    painter = review.correct.painter
    review.correct.controls.chips.chips[1].lock.click()  # pink
    type_name(review, 1, "rose")
    press(review, "class_up")
    press(review, "class_color_blind")
    chips = review.correct.controls.chips
    assert [(chip.name, chip.lock.isChecked()) for chip in chips.chips] == [
        ("rose", True), ("purple", False), ("background", False)
    ]  # fmt: skip
    assert review.correct.painter is painter
    assert painter.protected == {1}
    assert not searched
    editor(review).merge("purple", "rose")
    review.qtbot.waitUntil(lambda: bool(searched), timeout=20_000)
    review.qtbot.waitUntil(lambda: inspect.review.regions == [], timeout=20_000)


def test_a_large_edit_ends_in_the_ids_in_which_it_began(review: Review) -> None:
    from napari_plimseg.results import Edit

    mask, pink = review.view.layer.data.copy(), np.full((1, 200), 2, np.uint8)
    rows = [(y, mask[y : y + 1]) for y in range(112)]
    pieces = [(Edit.between(y, 0, row, pink, np.ones((1, 200), bool)), row) for y, row in rows]
    review.correct.painter.apply_pieces(pieces, lambda _: None)
    assert review.correct.painter.pieces.is_running
    editor(review).table.setCurrentCell(1, NAME)
    press(review, "class_up")
    assert not review.correct.painter.pieces.is_running
    assert (review.view.layer.data[:112] == 1).all()  # pink is number 1 now


def test_a_number_without_a_class_says_so_and_a_new_class_has_its_number(review: Review) -> None:
    layer = review.view.layer
    review.viewer.layers.selection.active = layer
    review.correct.choose_class(4)
    assert review.dock.banner.text == "This mask has no class 4."
    press(review, "class_add")
    answer(review, "vessel")
    review.qtbot.keyClick(review.canvas, Qt.Key.Key_3)
    assert layer.selected_label == 3
    review.qtbot.keyClick(review.canvas, Qt.Key.Key_4)
    assert layer.selected_label == 4


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


def test_what_another_dock_edits_is_shown_here(review: Review) -> None:
    assert not editor(review).buttons["class_undo"].isEnabled()
    review.view.recolor("pink", (1, 2, 3))  # as the list in the main dock does
    assert editor(review).buttons["class_undo"].toolTip() == "Undo: Recolor pink."
    review.view.edit_classes(review.view.edits.renamed("pink", "rose"))
    assert names(review) == ["purple", "rose", "background"]
    assert review.dock.inspect.show_panel.sliders.keys() == {"purple", "rose", "background"}


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
