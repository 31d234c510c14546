"""The choice of a backbone: which names it offers, and which ask for a file or folder first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_plimseg._widgets.train.setup_section import BackboneChoice

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def choice(qtbot: QtBot) -> BackboneChoice:
    choice = BackboneChoice()
    qtbot.addWidget(choice)
    return choice


@pytest.mark.parametrize(
    ("title", "dialog", "place", "name"),
    [
        ("UNI…", "getOpenFileName", "/x/uni.pt", "timm:vit_large_patch16_224=/x/uni.pt"),
        ("CONCH…", "getExistingDirectory", "/x/conch", "conch:/x/conch"),
    ],
)
def test_weights_of_the_user_are_asked_for(
    choice: BackboneChoice,
    title: str,
    dialog: str,
    place: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: QtBot,
) -> None:
    answers = [("", ""), (place, "")] if dialog == "getOpenFileName" else ["", place]
    monkeypatch.setattr(QFileDialog, dialog, lambda *_: answers.pop(0))
    row = choice.findText(title)
    choice.setCurrentIndex(row)
    choice.activated.emit(row)  # the dialog is closed without an answer
    assert choice.name == "bundled"
    choice.setCurrentIndex(row)
    with qtbot.waitSignal(choice.changed):
        choice.activated.emit(row)
    assert choice.name == name
    assert choice.currentText().endswith(f"({place.rsplit('/', 1)[-1]})")


def test_encoders_of_the_hub_are_enabled_when_they_are_installed(choice: BackboneChoice) -> None:
    choice.show_available(["hf-hub:wisdomik/QuiltNet-B-16"])
    enabled = {
        choice.itemText(row): choice.model().item(row).isEnabled() for row in range(choice.count())
    }
    assert enabled["QuiltNet B-16"]
    assert not enabled["QuiltNet B-32"]
    assert enabled["UNI…"]
