"""Links can be read: their contrast on the background that their widget has, in every theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtGui import QColor, QPalette, QTextDocument
from qtpy.QtWidgets import QWidget

from napari_plimseg._widgets.common.links import READABLE, contrast, link_color
from napari_plimseg._widgets.docks import open_dock

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.gui


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast(QColor("white"), QColor("black")) == pytest.approx(21)
    assert contrast(QColor("#777777"), QColor("white")) == pytest.approx(4.48, abs=0.01)
    assert contrast(QColor("red"), QColor("red")) == 1


@pytest.mark.parametrize("gray", range(0, 256, 15))
def test_a_link_can_be_read_on_every_gray(gray: int, qtbot: Any) -> None:
    widget = QWidget()
    qtbot.addWidget(widget)
    palette = widget.palette()
    background = QColor(gray, gray, gray)
    black, white = QColor("black"), QColor("white")
    text = max(black, white, key=lambda color: contrast(color, background))
    palette.setColor(QPalette.ColorRole.Window, background)
    palette.setColor(QPalette.ColorRole.WindowText, text)
    widget.setPalette(palette)
    assert contrast(QColor(link_color(widget)), background) >= READABLE


def link_colors(document: QTextDocument) -> set[str]:
    """Return the colors in which a document draws its links."""
    colors = set()
    block = document.begin()
    while block.isValid():
        for piece in block.begin():
            form = piece.fragment().charFormat()
            if form.isAnchor():
                colors.add(form.foreground().color().name())
        block = block.next()
    return colors


def test_links_are_readable_in_both_themes(make_napari_viewer_proxy: Callable, qtbot: Any) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    dock = open_dock(viewer, "models")
    dock.parentWidget().show()
    qtbot.waitUntil(lambda: dock.table.topLevelItemCount() > 4, timeout=30_000)
    rows = [dock.table.topLevelItem(row) for row in range(dock.table.topLevelItemCount())]
    dock.table.setCurrentItem(next(row for row in rows if row.text(0).startswith("Quilt")))
    seen = set()
    for theme in ("light", "dark", "light"):
        viewer.theme = theme
        browser = dock.details
        qtbot.waitUntil(lambda browser=browser: bool(link_colors(browser.document())))
        qtbot.wait(50)
        viewport = browser.viewport()
        # as it is drawn: a stylesheet need not change the palette
        drawn = browser.grab().toImage().pixelColor(browser.width() // 2, browser.height() - 8)
        (color,) = link_colors(browser.document())
        for background in (viewport.palette().color(viewport.backgroundRole()), drawn):
            found = contrast(QColor(color), background)
            assert found >= READABLE, f"{color} on {background.name()} in {theme}: {found:.1f}"
        assert contrast(QColor(link_color(dock)), dock.palette().color(dock.backgroundRole())) > 4.5
        seen.add(color)
    assert len(seen) == 2
