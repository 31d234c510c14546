"""The help panel and the first steps."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QWidget

from napari_plimseg._widgets.common.help import (
    SHORTCUTS,
    STEPS,
    FirstRunCard,
    HelpPanel,
    help_html,
    wants_first_run,
)
from napari_plimseg.errors import SlideError


def test_every_key_and_step_is_in_the_help() -> None:
    html = help_html()
    for shortcuts in SHORTCUTS.values():
        for shortcut in shortcuts:
            assert shortcut.what in html
    assert all(what in html for what, _ in STEPS)


def test_the_report_is_copied_and_shown(qtbot: Any) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    error = SlideError("it is empty", path="Mary.svs")
    panel = HelpPanel(parent, lambda: (str(error), error, "cpu"))
    panel.show_help()
    assert not panel.isModal()
    assert "Undo".casefold() in panel.text.toPlainText().casefold()
    panel.report_button.click()
    copied = QGuiApplication.clipboard().text()
    assert "slide <file 1>: it is empty." in copied
    assert "Mary" not in copied
    assert panel.text.toPlainText().strip() == copied.strip()
    panel.show_help()
    assert "First steps" in panel.text.toPlainText()


@pytest.mark.parametrize("seen", [False, True])
def test_the_first_steps_are_shown_until_they_are_dismissed(qtbot: Any, seen: bool) -> None:
    if seen:
        FirstRunCard().dismiss()
    card = FirstRunCard()
    qtbot.addWidget(card)
    assert card.isHidden() == seen
    card.button.click()
    assert card.isHidden()
    assert not wants_first_run()
