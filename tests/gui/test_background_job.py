"""Jobs and the widgets that own them go in any order without taking the program down."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gui

OWNER_HELD_BY_ITS_JOB = """
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget
from napari_plimseg._widgets.background_job import run_once

application, said = QApplication([]), []

def ask():
    owner = QWidget()
    owner.setObjectName("owner")
    run_once(owner, lambda: iter_one(), lambda _: said.append(owner.objectName()), print)

def iter_one():
    yield None

for asked in range(1, 6):
    ask()
    while len(said) < asked:
        application.processEvents()
    application.sendPostedEvents(None, QEvent.Type.DeferredDelete)
print("done", *said)
"""


def test_a_job_whose_callback_alone_holds_its_owner_goes_in_peace() -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    run = subprocess.run(
        [sys.executable, "-c", OWNER_HELD_BY_ITS_JOB],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["done", *["owner"] * 5]
