"""Exercise: add a button to a dock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_plimseg._widgets.batch.dock import BatchDock
from napari_plimseg._widgets.batch.state import BatchState
from napari_plimseg._widgets.common.actions import ActionButton
from napari_plimseg.settings import remember
from tests.support.buttons import controls, missing_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.gui
WAIT = 30_000
TOOLTIP = "Copy the names of all slides, one per line."
why_not_before = BatchState.why_not


def why_not(state: BatchState, control: str) -> str:
    """Return why the new button, or another control, can't be used."""
    if control == "copy_names":
        return "" if state.items else "There are no names to copy: add slides first."
    return why_not_before(state, control)


class CopyingDock(BatchDock):
    """The batch dock with a button that copies the names of its slides."""

    def _lay_out(self, model: str) -> None:
        super()._lay_out(model)
        self.copy_button = ActionButton("Copy names", "copy_names", TOOLTIP, self.copy_names)
        self.layout().addWidget(self.copy_button)

    def copy_names(self) -> None:
        QApplication.clipboard().setText("\n".join(item.path.name for item in self.state.items))


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchState, "why_not", why_not)


@pytest.fixture
def dock(
    reason: None, make_napari_viewer_proxy: Callable[[], Any], tmp_path: Path, qtbot: Any
) -> Iterator[CopyingDock]:
    remember("batch_folder", str(tmp_path / "results"))
    viewer = make_napari_viewer_proxy()
    dock = CopyingDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg Batch")
    qtbot.waitUntil(lambda: not dock.state.list_problem, timeout=WAIT)
    yield dock
    dock.stop_and_wait()


def press(dock: CopyingDock, qtbot: Any) -> str:
    """Click the button with the mouse and return what is on the clipboard."""
    QApplication.clipboard().setText("nothing was copied")
    qtbot.mouseClick(dock.copy_button, Qt.MouseButton.LeftButton)
    return QApplication.clipboard().text()


def test_without_a_reason_in_the_state_a_button_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no control 'copy_names'"):
        BatchState().why_not("copy_names")


def test_a_new_button_says_why_not_and_works(dock: CopyingDock, tmp_path: Path, qtbot: Any) -> None:
    button = dock.copy_button
    assert button in set(controls(dock))
    assert missing_words(dock) == []
    assert not button.isEnabled()
    assert button.toolTip() == "There are no names to copy: add slides first."
    assert press(dock, qtbot) == "nothing was copied"

    slides = [tmp_path / "a.png", tmp_path / "b.png"]
    for gray, path in enumerate(slides):
        Image.fromarray(np.full((64, 64, 3), gray, np.uint8)).save(path)
    dock.add(slides)
    qtbot.waitUntil(lambda: len(dock.state.items) == len(slides), timeout=WAIT)
    qtbot.waitUntil(button.isEnabled, timeout=WAIT)
    assert button.toolTip() == TOOLTIP
    assert press(dock, qtbot) == "a.png\nb.png"
