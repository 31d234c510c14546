"""The classes of an existing mask: edited with mouse and keys, undone, and in every export."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QColorDialog, QFileDialog, QLineEdit
from story.on_the_slide import check

from napari_plimseg._widgets.review.class_editor import COLOR, IGNORE, NAME
from napari_plimseg.results import read_label_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from story.on_the_slide import Story

    from napari_plimseg._widgets.review.class_editor import ClassEditor
    from napari_plimseg.tissue import TissueClasses

_NEW_NAME, _NEW_COLOR = "renamed by hand", (20, 130, 220)


def class_edits(story: Story) -> str:
    """Rename, recolor, merge, move, ignore, undo and redo; then read the names in all exports."""
    edited = rename_and_merge(story)
    screen, view, box = story.screen, story.view, story.review.class_editor
    names = view.info.classes.names
    _click(story, box, 0, COLOR, screen.answering(QColorDialog, "getColor", QColor(*_NEW_COLOR)))
    check("the class has its new color", view.info.classes[0].color == _NEW_COLOR)
    shown = view.layer.colormap.map(1).ravel()[:3]
    check("so has the mask", np.allclose(shown, np.array(_NEW_COLOR) / 255, atol=0.01))
    before = view.layer.data.copy()
    _click(story, box, 0, NAME)
    screen.press(box.buttons["class_down"])
    check("the first class is the second", view.info.classes.names[1] == names[0])
    check("its pixels follow", np.array_equal(view.layer.data == 2, before == 1))
    screen.press(box.buttons["class_undo"])
    check("undo moves it back", view.info.classes.names == names)
    check("the pixels, too", np.array_equal(view.layer.data, before))
    _click(story, box, 1, IGNORE)
    check("the second class is ignored", view.info.classes[1].ignored)
    screen.picture("trust_classes")
    exported = export_everything(story, "edited classes")
    kept = [each.name for each in view.info.classes if not each.ignored]
    check_names(exported, view.info.classes, kept)
    while box.buttons["class_undo"].isEnabled():
        screen.press(box.buttons["class_undo"])
    check("undo restores the names", view.info.classes.names == edited["before"])
    check("undo restores the mask", np.array_equal(view.layer.data, edited["mask"]))
    while box.buttons["class_redo"].isEnabled():
        screen.press(box.buttons["class_redo"])
    check("redo makes the edits again", view.info.classes[1].ignored)
    _click(story, box, 1, IGNORE)
    return f"{edited['old']} is {_NEW_NAME}, {edited['merged']} merged into it"


def rename_and_merge(story: Story) -> dict[str, object]:
    """Type another name for the first class and merge the second into it."""
    screen, view, review = story.screen, story.view, story.review
    box = review.class_editor
    screen.unfold(review._folds[2])
    before, mask = view.info.classes.names, view.layer.data.copy()
    old, merged = before[0], before[1]
    _click(story, box, 0, NAME)
    QTest.mouseDClick(box.table.viewport(), Qt.MouseButton.LeftButton, pos=_place(box, 0, NAME))
    line = box.table.findChild(QLineEdit)
    check("the name can be typed", line is not None)
    QTest.keyClicks(line, _NEW_NAME)
    QTest.keyClick(line, Qt.Key.Key_Return)
    screen.rest(0.2)
    check("the class has its new name", view.info.classes.names[0] == _NEW_NAME)
    check("it is said", review.banner.text == f"{old} is now {_NEW_NAME} in this mask.")
    _click(story, box, 1, NAME)
    box.merge_menu.aboutToShow.emit()
    box.merge_menu.actions()[0].trigger()  # a menu would wait for the mouse for ever
    screen.rest(0.2)
    check("one class less", merged not in view.info.classes.names)
    check("its pixels are the other's", np.array_equal(view.layer.data == 1, np.isin(mask, (1, 2))))
    chips = [chip.name for chip in review.correct.controls.chips.chips]
    check("the brush has the same classes", tuple(chips) == view.info.classes.names)
    return {"before": before, "mask": mask, "old": old, "merged": merged}


def export_everything(story: Story, name: str) -> Path:
    """Export all formats into a new folder; return it."""
    screen, dock = story.screen, story.dock
    folder = story.folder / name
    folder.mkdir()
    with screen.answering(QFileDialog, "getExistingDirectory", str(folder)):
        screen.press(dock.results.export_buttons["all"])
    screen.wait("files are written", lambda: not dock.tools.is_busy, 120)
    check(f"the dock says so, not: {dock.banner.text}", dock.banner.text.startswith("Exported "))
    return folder


def check_names(folder: Path, classes: TissueClasses, kept: list[str]) -> None:
    """Check that every export of a folder has the classes' names, without ignored ones."""
    files = {path.name.partition(".")[2]: path for path in folder.iterdir()}
    check(f"four files, not {sorted(files)}", len(files) == 4)
    _, info = read_label_tiff(files["mask.ome.tif"])
    check("the label TIFF has the names", list(info.classes.names) == list(classes.names))
    check("and the colors", [c.color for c in info.classes] == [c.color for c in classes])
    features = json.loads(files["geojson"].read_text("utf-8"))["features"]
    outlined = {each["properties"]["classification"]["name"] for each in features}
    check(f"the outlines are of {kept}, not {outlined}", outlined and outlined <= set(kept))
    rows = csv.DictReader(files["areas.csv"].read_text("utf-8").splitlines())
    listed = {row["class"] for row in rows if row["kind"] in ("class", "background")}
    check(f"areas of {kept}, not {listed}", listed <= set(kept))


def _place(box: ClassEditor, row: int, column: int) -> QPoint:
    item = box.table.item(row, column)
    rectangle = box.table.visualItemRect(item)
    if column == IGNORE:  # the box to tick is on the left
        return QPoint(rectangle.left() + 10, rectangle.center().y())
    return rectangle.center()


def _click(story: Story, box: ClassEditor, row: int, column: int, answer: object = None) -> None:
    screen = story.screen
    screen.bring_into_sight(box.table)
    box.table.scrollToItem(box.table.item(row, column))
    with answer or screen.answering(QColorDialog, "getColor", QColor()):  # type: ignore[union-attr]
        QTest.mouseClick(
            box.table.viewport(), Qt.MouseButton.LeftButton, pos=_place(box, row, column)
        )
    screen.rest(0.2)
