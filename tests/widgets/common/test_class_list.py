"""Tissue classes are added, renamed, described, colored, hidden and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import Qt

from napari_plimseg._widgets.common.class_list import EYE, NAME, WORDS, ClassList
from tests.support import widgets as fakes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.generate.dock import PlimsegDock

pytestmark = pytest.mark.gui
WAIT = 30_000


@pytest.fixture
def class_list(qtbot) -> ClassList:  # type: ignore[no-untyped-def]
    widget = ClassList()
    qtbot.addWidget(widget)
    widget.show_classes(fakes.CLASSES)
    return widget


def texts(class_list: ClassList, column: int) -> list[str]:
    table = class_list.table
    return [table.item(row, column).text() for row in range(table.rowCount())]


def test_shows_names_and_words(class_list: ClassList) -> None:
    assert texts(class_list, NAME) == ["purple", "pink", "background"]
    assert texts(class_list, WORDS) == ["nuclei", "stroma", ""]
    assert class_list.edited is None


def test_typing_changes_name_and_words(class_list: ClassList, qtbot) -> None:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(class_list.classesChanged):
        class_list.table.item(0, NAME).setText("tumour")
    with qtbot.waitSignal(class_list.classesChanged):
        class_list.table.item(0, WORDS).setText("cancer, malignant glands ,")
    edited = class_list.edited
    assert edited is not None
    assert edited[0].name == "tumour"
    assert edited[0].prompts == ("cancer", "malignant glands")
    assert edited[0].color == fakes.CLASSES[0].color


@pytest.mark.parametrize(("name", "reason"), [("Pink", "occurs twice"), ("   ", "has no name")])
def test_wrong_names_are_refused(class_list: ClassList, qtbot, name: str, reason: str) -> None:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(class_list.refused) as blocker:
        class_list.table.item(0, NAME).setText(name)
    assert reason in blocker.args[0]
    assert texts(class_list, NAME)[0] == "purple"


def test_adding_goes_before_background(class_list: ClassList) -> None:
    class_list.add_button.click()
    class_list.add_button.click()
    assert texts(class_list, NAME) == [
        "purple", "pink", "new class 1", "new class 2", "background",
    ]  # fmt: skip
    colors = class_list.classes.colors
    assert len(set(colors)) == len(colors)


def test_removing(class_list: ClassList, qtbot) -> None:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(class_list.refused) as blocker:
        class_list.remove_button.click()
    assert "Select" in blocker.args[0]
    class_list.table.setCurrentCell(1, NAME)
    class_list.remove_button.click()
    assert texts(class_list, NAME) == ["purple", "background"]
    class_list.table.setCurrentCell(1, NAME)
    with qtbot.waitSignal(class_list.refused) as blocker:
        class_list.remove_button.click()
    assert "background can't be removed" in blocker.args[0]
    class_list.reset_button.click()
    assert class_list.edited is None
    assert texts(class_list, NAME) == ["purple", "pink", "background"]


def test_a_color_alone_asks_for_no_other_model(class_list: ClassList) -> None:
    class_list.set_color("pink", (1, 2, 3))
    assert class_list.classes[1].color == (1, 2, 3)
    assert class_list.edited is None


def test_eye(class_list: ClassList, qtbot) -> None:  # type: ignore[no-untyped-def]
    with qtbot.waitSignal(class_list.visibilityChanged):
        class_list.table.cellClicked.emit(1, EYE)
    assert class_list.hidden == {"pink"}
    class_list.table.item(1, NAME).setText("rose")
    assert class_list.hidden == {"rose"}
    class_list.table.cellClicked.emit(1, EYE)
    assert class_list.hidden == set()


def test_nothing_is_editable_while_running(class_list: ClassList) -> None:
    class_list.set_enabled("A run is going on.")
    assert not class_list.add_button.isEnabled()
    assert class_list.add_button.toolTip() == "A run is going on."
    assert not class_list.table.editTriggers() & class_list.table.EditTrigger.DoubleClicked
    class_list.set_enabled("")
    assert class_list.table.editTriggers() & class_list.table.EditTrigger.DoubleClicked
    assert class_list.table.item(0, NAME).flags() & Qt.ItemFlag.ItemIsEditable


def test_colors_and_eyes_reach_the_layer(dock: PlimsegDock, add_slide: Callable, qtbot) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()
    layer = dock.view.layer

    def shown(mask_id: int) -> list[int]:
        return [round(float(v) * 255) for v in layer.colormap.color_dict[mask_id]]

    assert shown(2) == [*fakes.CLASSES[1].color, 255]
    dock.class_list.table.cellClicked.emit(1, NAME)
    assert layer.selected_label == 2
    dock.class_list.set_color("pink", (10, 20, 30))
    assert shown(2) == [10, 20, 30, 255]
    assert layer.metadata["plimseg_mask_info"].classes[1].color == (10, 20, 30)
    dock.class_list.table.cellClicked.emit(1, EYE)
    assert shown(2)[3] == 0
    assert shown(1)[3] == 255
    assert layer.colormap.color_dict[None][3] == 0
    assert shown(0)[3] == 0


def test_other_words_make_another_mask(
    dock: PlimsegDock, add_slide: Callable, model: fakes.ColorModel, qtbot
) -> None:  # type: ignore[no-untyped-def]
    add_slide()
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()
    first = dock.view.layer
    dock.class_list.table.item(1, WORDS).setText("collagen")
    with qtbot.waitSignal(dock.controller.finished, timeout=WAIT):
        dock.start()
    assert model.classes[1].prompts == ("collagen",)
    assert dock.view.layer.name != first.name
    assert not first.visible  # kept, with whatever was painted on it
    assert dock.view.layer.visible
