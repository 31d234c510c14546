"""The models dock and a hub on this computer, with the mouse."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox, QWidget

from napari_plimseg._widgets.model_manager.dock import ModelsDock
from napari_plimseg._widgets.model_manager.state import Work
from napari_plimseg.models.library import EntryState
from tests.support.hub import Hub, small_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT = 30_000
QUILT = "QuiltNet B-32"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with small_hub(monkeypatch, tmp_path) as found:
        yield found


class Mouse:
    """A person with a mouse in front of the dock."""

    def __init__(self, dock: ModelsDock, qtbot: Any) -> None:
        self.dock, self.qtbot = dock, qtbot

    def wait(self) -> None:
        self.qtbot.waitUntil(
            lambda: self.dock._work is Work.NONE and bool(self.dock._entries), timeout=WAIT
        )

    def click(self, widget: QWidget) -> None:
        self.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=widget.rect().center())

    def choose(self, title: str) -> None:
        table = self.dock.table
        (item,) = table.findItems(title, Qt.MatchFlag.MatchExactly)
        table.scrollToItem(item)
        place = table.visualItemRect(item).center()
        self.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)

    def answers(self, button: QMessageBox.StandardButton) -> None:
        """Click a button of the next question, when it is asked."""

        def look() -> None:
            box = QApplication.activeModalWidget()
            if isinstance(box, QMessageBox):
                self.click(box.button(button))
            else:
                QTimer.singleShot(20, look)

        QTimer.singleShot(20, look)


@pytest.fixture
def mouse(make_napari_viewer_proxy: Callable, hub: Hub, qtbot: Any) -> Iterator[Mouse]:
    viewer = make_napari_viewer_proxy(show=True)
    dock = ModelsDock(viewer)
    viewer.window.add_dock_widget(dock, name="PLIMSeg Models")
    found = Mouse(dock, qtbot)
    found.wait()
    yield found
    dock._job.stop_and_wait()


@pytest.mark.gui
def test_an_encoder_is_downloaded_cancelled_and_continued(mouse: Mouse, hub: Hub) -> None:
    dock, yes = mouse.dock, QMessageBox.StandardButton.Yes
    mouse.choose(QUILT)
    assert "About 0.6 GB to download" in dock.details.toPlainText()
    mouse.answers(QMessageBox.StandardButton.No)
    mouse.click(dock.download_button)
    mouse.wait()
    assert dock.entry.state is EntryState.NOT_HERE
    hub.pause = threading.Event()
    mouse.answers(yes)
    mouse.click(dock.download_button)
    mouse.qtbot.waitUntil(
        lambda: dock._work is Work.DOWNLOADING and dock.bar.value() > 0, timeout=WAIT
    )
    assert "of 8 MB" in dock.line.text()
    mouse.click(dock.cancel_button)
    hub.pause.set()
    mouse.wait()
    assert dock.banner.text.startswith("Cancelled. The downloaded part is kept")
    assert dock.download_button.text() == "Continue"
    mouse.answers(yes)
    mouse.click(dock.download_button)
    mouse.wait()
    assert (dock.entry.title, dock.entry.state) == (QUILT, EntryState.READY)
    assert dock.banner.text == "Downloaded and verified."


@pytest.mark.gui
def test_a_gated_encoder_says_what_to_do(mouse: Mouse) -> None:
    mouse.choose("UNI2-h")
    mouse.click(mouse.dock.download_button)
    mouse.wait()
    assert mouse.dock.banner.kind == "error"
    assert "Agree to their terms on https://huggingface.co/MahmoodLab/UNI2-h" in (
        mouse.dock.banner.text
    )
