"""The list of classes in the main dock names what is seen, and says what the next run asks for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QColorDialog

from napari_plimseg import models
from napari_plimseg._widgets.common.class_list import EYE, NAME
from napari_plimseg._widgets.generate.mask_classes import AS_EDITED, NEXT_RUN
from napari_plimseg.api import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.generate.dock import PlimsegDock
    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
WAIT = 60_000
OWN = ["purple", "pink", "background"]
EDITED = ["tumor", "background"]


def generate(dock: PlimsegDock, qtbot) -> None:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()


def names(dock: PlimsegDock) -> list[str]:
    table = dock.class_list.table
    return [table.item(row, NAME).text() for row in range(table.rowCount())]


def edit(dock: PlimsegDock) -> None:
    """Rename and merge classes of the mask, as Review does."""
    view = dock.view
    assert view is not None
    edits = view.edits.renamed("purple", "tumor").recolored({"tumor": (9, 8, 7)})
    view.edit_classes(edits.merged("pink", "tumor"))


@pytest.fixture
def edited(dock: PlimsegDock, add_slide: Callable, qtbot) -> PlimsegDock:  # type: ignore[no-untyped-def]
    add_slide(name="first.tif")
    generate(dock, qtbot)
    assert names(dock) == OWN
    edit(dock)
    return dock


def test_the_list_follows_the_mask_of_each_slide(
    edited: PlimsegDock, add_slide: Callable, qtbot
) -> None:  # type: ignore[no-untyped-def]
    assert names(edited) == EDITED
    assert edited.class_list.legend[0].color == (9, 8, 7)  # type: ignore[index]
    assert edited.class_list.note.text() == AS_EDITED
    assert edited.results.overlay.findText("tumor") > 0
    add_slide(name="second.tif")
    assert names(edited) == OWN
    assert not edited.class_list.change_button.isVisibleTo(edited)
    generate(edited, qtbot)
    assert names(edited) == OWN  # the edits are those of the other slide's mask
    edited.slides.choose(0)
    assert names(edited) == EDITED
    edited.view.edit_classes(edited.view.edits.undone())  # type: ignore[union-attr]
    assert names(edited) == ["tumor", "pink", "background"]
    edited.slides.choose(1)
    assert names(edited) == OWN


def test_the_next_run_asks_the_model_for_its_own_and_ends_in_what_is_shown(
    edited: PlimsegDock, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    first = edited.view
    assert edited.edited_classes is None
    generate(edited, qtbot)
    assert edited.view is first
    assert edited.banner.text.startswith("Already segmented")
    edited.settings_form.controls["remove_pen"].setChecked(False)
    generate(edited, qtbot)
    again = edited.view
    assert again is not None
    assert again is not first  # another setting: another mask
    assert list(model.classes.names) == OWN
    assert names(edited) == EDITED
    assert list(again.info.classes.names) == EDITED
    assert list(Segmentation.open(again.store.path).info.classes.names) == EDITED


def test_change_edits_the_next_run_and_leaves_the_mask(
    edited: PlimsegDock, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    for button in (edited.class_list.add_button, edited.class_list.remove_button):
        assert "Press Change" in button.toolTip()
    qtbot.mouseClick(edited.class_list.change_button, Qt.MouseButton.LeftButton)
    assert names(edited) == OWN
    assert edited.banner.text == NEXT_RUN
    edited.class_list.table.item(1, NAME).setText("rose")
    assert edited.edited_classes is not None
    edit_again = edited.view.edits.recolored({"tumor": (1, 1, 1)})  # type: ignore[union-attr]
    edited.view.edit_classes(edit_again)  # type: ignore[union-attr]
    assert names(edited) == ["purple", "rose", "background"]  # not what somebody is typing
    first = edited.view
    generate(edited, qtbot)
    assert list(model.classes.names) == ["purple", "rose", "background"]
    assert edited.view is not first
    assert list(edited.view.info.classes.names) == names(edited)  # type: ignore[union-attr]
    assert list(first.info.classes.names) == EDITED  # type: ignore[union-attr]


def test_eyes_colors_and_clicks_of_edited_classes_reach_the_mask(
    edited: PlimsegDock, monkeypatch: pytest.MonkeyPatch, add_slide: Callable
) -> None:
    from qtpy.QtGui import QColor

    view, table = edited.view, edited.class_list.table
    assert view is not None
    table.cellClicked.emit(1, NAME)
    assert view.layer.selected_label == 2
    table.cellClicked.emit(0, EYE)
    assert view.hidden == {"tumor"}
    add_slide(name="second.tif")
    edited.slides.choose(0)
    assert edited.class_list.hidden == {"tumor"}
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor(1, 2, 3))
    table.cellClicked.emit(0, EYE + 1)
    assert view.info.classes[0].color == (1, 2, 3)
    assert edited.class_list.legend[0].color == (1, 2, 3)  # type: ignore[index]
    table.item(0, NAME).setText("other")  # the table is read-only; a program could still do this
    assert list(view.info.classes.names) == EDITED


def test_a_mask_of_a_missing_model_says_what_the_next_run_has(
    dock: PlimsegDock, add_slide: Callable, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    dock.class_list.table.item(0, NAME).setText("violet")
    generate(dock, qtbot)
    path = dock.view.store.path  # type: ignore[union-attr]
    (entry,) = models.list_models()
    other = dataclasses.replace(entry, key="other", name="other", title="Other model")
    monkeypatch.setattr(models, "list_models", lambda: [other])
    dock.reload_models()
    dock.open_result(path)
    qtbot.waitUntil(lambda: names(dock)[0] == "violet", timeout=WAIT)
    assert dock.model_name == "other"
    assert "The next run has those of Other model." in dock.class_list.note.text()
    assert list(dock.class_list.classes.names) == OWN  # type: ignore[union-attr]
    assert dock.edited_classes is None


def test_the_mask_that_is_seen_is_listed_and_exported(
    dock: PlimsegDock, add_slide: Callable, qtbot, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    generate(dock, qtbot)
    first = dock.view
    edit(dock)
    qtbot.mouseClick(dock.class_list.change_button, Qt.MouseButton.LeftButton)
    dock.class_list.table.item(1, NAME).setText("rose")
    generate(dock, qtbot)
    second = dock.view
    assert names(dock) == ["purple", "rose", "background"]
    second.layer.visible, first.layer.visible = False, True  # type: ignore[union-attr]
    assert dock.view is first
    assert names(dock) == EDITED
    dock.tools.export("csv", tmp_path / "out.csv")
    qtbot.waitUntil(lambda: not dock.tools.is_busy, timeout=WAIT)
    text = (tmp_path / "out.csv").read_text("utf-8")
    assert "tumor" in text
    assert "rose" not in text
