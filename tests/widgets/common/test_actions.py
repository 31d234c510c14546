"""Buttons that ask the state of their dock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_plimseg._widgets.common.actions import ActionButton, show_actions

pytestmark = pytest.mark.gui


@dataclass
class Answers:
    """A state that refuses some controls."""

    refused: dict[str, str]

    def why_not(self, control: str) -> str:
        return self.refused.get(control, "")


def test_a_new_button_is_one_line(qtbot: Any) -> None:
    pressed: list[str] = []
    dock = QWidget()
    qtbot.addWidget(dock)
    layout = QVBoxLayout(dock)
    for control in ("fly", "land"):
        text = control.capitalize()
        layout.addWidget(
            ActionButton(text, control, f"{text} now.", lambda c=control: pressed.append(c))
        )
    fly, land = dock.findChildren(ActionButton)
    show_actions(dock, Answers({"land": "It is not in the air."}))
    fly.click()
    land.click()
    assert pressed == ["fly"]
    assert (fly.toolTip(), land.toolTip()) == ("Fly now.", "It is not in the air.")
    show_actions(dock, Answers({}))
    land.click()
    assert pressed == ["fly", "land"]
    assert land.toolTip() == "Land now."
