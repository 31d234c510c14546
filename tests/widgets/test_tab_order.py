"""The Tab key visits the controls of a dock as they are laid out, not folded ones, and leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QRadioButton,
    QTableWidget,
    QTextBrowser,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common.collapsible import CollapsibleSection
from napari_plimseg._widgets.common.tab_order import TabOrdered, tab_stops
from napari_plimseg._widgets.docks import DOCKS, open_dock, open_main_dock
from napari_plimseg.settings import remember
from tests.support.buttons import controls
from tests.support.review import Review

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_plimseg._widgets.generate.dock import PlimsegDock
    from tests.support import widgets as fakes

pytestmark = pytest.mark.gui
_MOST_LINKS = 8


def walked(dock: QWidget, key: Qt.Key = Qt.Key.Key_Tab) -> list[QWidget]:
    """Press a key from one end of a dock until the focus leaves it; return what was visited."""
    window = dock.window()
    stops = [w for w in tab_stops(dock) if w.isVisibleTo(dock) and w.isEnabledTo(dock)]
    if not stops:
        return []
    begin = stops[0] if key == Qt.Key.Key_Tab else stops[-1]
    begin.setFocus(Qt.FocusReason.TabFocusReason)
    found: list[QWidget] = []
    focused = window.focusWidget()
    while focused is not None and (focused is dock or dock.isAncestorOf(focused)):
        assert focused not in found, f"{focused} is visited twice"
        found.append(focused)
        QTest.keyClick(focused, key)
        if isinstance(focused, QTextBrowser):  # the key visits its links first
            for _ in range(_MOST_LINKS):
                if window.focusWidget() is focused:
                    QTest.keyClick(focused, key)
        assert window.focusWidget() is not focused, f"{focused} keeps the key"
        focused = window.focusWidget()
    return found


def owner(widget: QWidget) -> QWidget:
    """Return the control of which a widget is the line that takes keys."""
    parent = widget.parentWidget()
    is_inner = parent is not None and parent.focusProxy() is widget
    return parent if is_inner else widget


def assert_walks(dock: QWidget) -> None:
    QApplication.processEvents()
    expected = [w for w in tab_stops(dock) if w.isVisibleTo(dock) and w.isEnabledTo(dock)]
    radios = [w for w in expected if isinstance(w, QRadioButton)]
    # of a group of radio buttons the key may visit the chosen one only: arrow keys choose another
    skipped = [w for w in radios if not w.isChecked()]
    wanted = [w for w in expected if w not in skipped]
    found = [w for w in map(owner, walked(dock)) if w not in skipped]
    assert found == wanted
    back = [w for w in map(owner, walked(dock, Qt.Key.Key_Backtab)) if w not in skipped]
    assert back == wanted[::-1]
    reachable = {*found, *radios}
    lost = [w for w in controls(dock) if w.isEnabledTo(dock) and owner(w) not in reachable]
    assert not [w for w in lost if w.focusPolicy() & Qt.FocusPolicy.TabFocus]
    folded = [f.content() for f in dock.findChildren(CollapsibleSection) if not f.isExpanded()]
    assert not [w for w in found if any(content.isAncestorOf(w) for content in folded)]


@pytest.mark.parametrize("name", ["main", *DOCKS])
def test_every_dock(
    name: str,
    make_napari_viewer_proxy: Callable,
    model: fakes.ColorModel,
    tmp_path: Path,
    qtbot: Any,
) -> None:
    remember("batch_folder", str(tmp_path / "results"))
    viewer = make_napari_viewer_proxy(show=True)
    dock = open_main_dock(viewer) if name == "main" else open_dock(viewer, name)
    dock.parentWidget().show()
    qtbot.waitUntil(dock.isVisible, timeout=10_000)
    assert_walks(dock)
    for fold in dock.findChildren(CollapsibleSection):
        fold.collapse(animate=False)
    assert_walks(dock)
    for fold in dock.findChildren(CollapsibleSection):
        fold.expand(animate=False)
    dock.banner.show_message("error", "A message with two buttons.")
    assert_walks(dock)


def test_the_main_dock_with_a_result(dock: PlimsegDock, add_slide: Callable, qtbot: Any) -> None:
    add_slide(height=600, width=800)
    with qtbot.waitSignal(dock.controller.finished, timeout=60_000):
        dock.start()
    dock.window().show()
    qtbot.waitUntil(dock.isVisible, timeout=10_000)
    dock.cams.expand(animate=False)
    assert_walks(dock)
    visited = [owner(widget) for widget in walked(dock)]
    assert {dock.cams.panel.what, dock.results.export_buttons["all"]} <= {*visited}


def test_the_dock_of_a_mask(make_napari_viewer_proxy: Callable, tmp_path: Path, qtbot: Any) -> None:
    review = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    review.dock.parentWidget().show()
    qtbot.waitUntil(review.dock.isVisible, timeout=10_000)
    assert_walks(review.dock)
    for fold in review.dock.findChildren(CollapsibleSection):
        fold.expand(animate=False)
    assert_walks(review.dock)
    review.dock.inspect.stop_and_wait()


def test_no_field_keeps_the_key_and_order_is_that_of_the_layout(qtbot: Any) -> None:
    dock = TabOrdered()
    qtbot.addWidget(dock)
    last = QPushButton("made first, laid out last")
    texts = [QPlainTextEdit(), QTextEdit(), QTableWidget(2, 2), QLineEdit()]
    left, right = QPushButton("left"), QPushButton("right")
    row = QHBoxLayout()
    row.addWidget(left)
    row.addWidget(right)
    folded = QWidget()
    inner = QVBoxLayout(folded)
    inside = QLineEdit()
    inner.addWidget(inside)
    fold = CollapsibleSection("More", folded)
    column = QVBoxLayout(dock)
    column.addLayout(row)
    for widget in (*texts, fold, last):
        column.addWidget(widget)
    outside = QPushButton("outside")
    window = QWidget()
    qtbot.addWidget(window)
    both = QVBoxLayout(window)
    both.addWidget(dock)
    both.addWidget(outside)
    window.show()
    shown = [left, right, *texts, fold.toggleButton(), last]
    assert walked(dock) == shown
    assert window.focusWidget() is outside
    fold.expand(animate=False)
    assert walked(dock) == [*shown[:-1], inside, last]
    fold.collapse()  # with its animation
    qtbot.waitUntil(lambda: not inside.isVisible(), timeout=5000)
    assert walked(dock) == shown
