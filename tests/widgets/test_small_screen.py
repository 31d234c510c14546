"""Docks fit a screen of 1366 x 768, and lead to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtGui import QGuiApplication, QResizeEvent
from qtpy.QtWidgets import QLabel, QScrollArea, QWidget

from napari_plimseg._widgets.common import column, scrolling
from napari_plimseg._widgets.common.background_job import error_behind, run_once
from napari_plimseg._widgets.common.banner import Banner
from napari_plimseg._widgets.common.help import wants_first_run
from napari_plimseg._widgets.docks import DOCKS, main_dock, open_dock, open_main_dock
from napari_plimseg._widgets.review.promptable.section import PromptControls
from napari_plimseg.errors import SlideError
from napari_plimseg.settings import remember
from napari_plimseg.tissue import TissueClass
from tests.support.buttons import controls

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from napari_plimseg._widgets.generate.dock import PlimsegDock
    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
NARROWEST, WIDEST, HIGHEST = 340, 460, 620
"""A third of the width, and what napari's menus, status line and tabs leave of the height."""


@pytest.fixture(params=["main", *DOCKS])
def each_dock(
    request: pytest.FixtureRequest,
    make_napari_viewer_proxy: Callable,
    model: fakes.ColorModel,
    tmp_path: Path,
    qtbot: object,
) -> Any:
    """One dock after the other."""
    remember("batch_folder", str(tmp_path / "results"))
    viewer = make_napari_viewer_proxy()
    is_main = request.param == "main"
    return open_main_dock(viewer) if is_main else open_dock(viewer, request.param)


def test_no_dock_needs_more_than_a_small_screen(each_dock: Any) -> None:
    dock = each_dock
    needed = dock.minimumSizeHint().expandedTo(dock.minimumSize())
    assert NARROWEST <= needed.width() <= WIDEST
    assert needed.height() <= HIGHEST
    # what stands in a scrolling part is as wide as the dock: nothing is cut off sideways
    dock.resize(needed.width(), HIGHEST)
    for area in dock.findChildren(QScrollArea):
        if area.widget() is not None and area.isVisibleTo(dock):
            assert area.widget().minimumSizeHint().width() <= needed.width()


def test_a_dock_widens_when_its_content_needs_more(qtbot) -> None:  # type: ignore[no-untyped-def]
    label, dock = QLabel("short"), QWidget()
    column(dock, area := scrolling(label), tall=area)
    qtbot.addWidget(dock)
    dock.show()
    before = dock.minimumSizeHint().width()
    label.setMinimumWidth(600)
    qtbot.waitUntil(lambda: dock.minimumSizeHint().width() > 600)
    assert before < WIDEST
    assert area.viewport().width() >= area.widget().minimumSizeHint().width()


def test_a_message_moves_no_control(each_dock: Any) -> None:
    dock = each_dock
    dock.resize(360, HIGHEST)
    QGuiApplication.processEvents()

    def places() -> list[tuple[int, int]]:
        shown = [w for w in controls(dock) if not dock.banner.isAncestorOf(w)]
        found = [w.mapTo(dock, w.rect().topLeft()) for w in shown]
        return [(place.x(), place.y()) for place in found]

    dock.banner.clear()
    before = places()
    text = "A message that needs three lines in a narrow dock. " * 3
    dock.banner.show_message("error", text)
    QGuiApplication.processEvents()
    assert places() == before
    area = dock.banner.parentWidget()
    assert area.rect().contains(dock.banner.geometry())
    needed = dock.banner.label.heightForWidth(dock.banner.label.width())
    assert dock.banner.label.height() >= min(needed, area.height() - 20)
    before = area.size()
    area.resize(before.width() - 20, before.height() - 50)
    QGuiApplication.sendEvent(area, QResizeEvent(area.size(), before))
    assert area.rect().contains(dock.banner.geometry())


@pytest.mark.parametrize("name", ["gland", "poorly differentiated adenocarcinoma, mucinous"])
def test_the_chosen_class_needs_no_wider_dock(qtbot, name: str) -> None:  # type: ignore[no-untyped-def]
    parts = PromptControls()
    qtbot.addWidget(parts)
    parts.show_class(TissueClass(name, (1, 2, 3)))
    assert parts.accept_button.text().startswith(f"Accept: {name[:5]}")
    assert parts.minimumSizeHint().width() <= NARROWEST - 40  # beside scroll bar and margins


def test_the_main_dock_leads_to_the_others(dock: PlimsegDock) -> None:
    remember("batch_folder", dock.settings_form.folder("results_folder").default)
    viewer = dock._viewer
    for key, button in dock.header.buttons.items():
        button.click()
        frame = open_dock(viewer, key).parentWidget()
        assert frame.windowTitle() == DOCKS[key].short  # on the tab, which has little room
        assert frame.toggleViewAction().text() == DOCKS[key].title
        opened = [d for d in viewer.window.dock_widgets.values() if type(d) is not type(dock)]
        assert any(isinstance(d, DOCKS[key].widget_class()) for d in opened)
        assert open_dock(viewer, key) is opened[-1]
    assert main_dock(viewer) is dock
    assert len(viewer.window.dock_widgets) == 1 + len(DOCKS)


def test_help_and_first_steps(dock: PlimsegDock) -> None:
    assert dock.first_run.isVisibleTo(dock)
    assert wants_first_run()
    dock.first_run.button.click()
    assert not dock.first_run.isVisibleTo(dock)
    assert not wants_first_run()
    dock.header.help_button.click()
    assert dock._help is not None
    assert dock._help.isVisible()
    assert "Keys" in dock._help.text.toPlainText()
    dock.show_error_message("The slide can't be read.")
    dock._help.copy_report()
    assert "The slide can't be read." in QGuiApplication.clipboard().text()
    dock._help.close()


def test_an_error_offers_a_report_with_its_places_and_without_names(qtbot) -> None:  # type: ignore[no-untyped-def]
    def work() -> Generator[None, None, None]:
        yield None
        raise SlideError("the slide is cut off", path="/home/smith/Smith_John_1950.svs")

    banner = Banner()
    qtbot.addWidget(banner)
    run_once(banner, work, lambda _: None, lambda text: banner.show_message("error", text))
    qtbot.waitUntil(lambda: banner.kind == "error", timeout=30_000)
    assert "Smith_John_1950" in banner.text
    error = error_behind(banner.text)
    assert isinstance(error, SlideError)
    assert banner.copy_button.isVisibleTo(banner)
    banner.copy_button.click()
    report = QGuiApplication.clipboard().text()
    assert "SlideError" in report
    assert "in work" in report
    assert "Smith" not in report
    assert banner.copy_button.text() == "Copied"
    banner.show_message("info", "All is well.")
    assert not banner.copy_button.isVisibleTo(banner)


@pytest.fixture
def large_fonts() -> Iterator[None]:
    """Fonts of 150 % in napari's settings."""
    from napari.settings import get_settings

    appearance = get_settings().appearance
    before = appearance.font_size
    appearance.font_size = round(1.5 * before)
    yield
    appearance.font_size = before


MAIN_BUTTONS: dict[str, Callable[[Any], QWidget]] = {
    "main": lambda dock: dock.run_panel.button,
    "train": lambda dock: dock.panel.start_button,
    "batch": lambda dock: dock.run_button,
    "models": lambda dock: dock.use_button,
}


@pytest.mark.parametrize("name", MAIN_BUTTONS)
def test_the_main_button_is_on_a_small_screen_with_large_fonts(
    name: str,
    large_fonts: None,
    make_napari_viewer_proxy: Callable,
    model: fakes.ColorModel,
    tmp_path: Path,
    qtbot: Any,
) -> None:
    remember("batch_folder", str(tmp_path / "results"))
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1366, 768)
    dock = open_main_dock(viewer) if name == "main" else open_dock(viewer, name)
    dock.parentWidget().show()
    qtbot.waitUntil(dock.isVisible, timeout=10_000)
    QGuiApplication.processEvents()
    button, window = MAIN_BUTTONS[name](dock), dock.window()
    assert button.visibleRegion().boundingRect() == button.rect()  # nothing cuts it off
    place = button.mapTo(window, button.rect().topLeft())
    assert 0 <= place.x() <= 1366 - button.width()
    assert 0 <= place.y() <= 768 - button.height()
    assert button.sizeHint().width() <= button.width()
    inside = [area for area in dock.findChildren(QScrollArea) if area.isAncestorOf(button)]
    assert not inside
