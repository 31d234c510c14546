"""Jobs and the widgets that own them go in any order without taking the program down."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest
from qtpy.QtCore import QObject

from napari_plimseg._widgets.common.background_job import BackgroundJob

pytestmark = pytest.mark.gui

OWNER_HELD_BY_ITS_JOB = """
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget
from napari_plimseg._widgets.common.background_job import run_once

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


def test_work_is_asked_to_end_when_its_job_is_garbage(qtbot) -> None:  # type: ignore[no-untyped-def]
    # PyQt6 calls what is connected to a garbage object after Python has emptied it
    class Owner(QObject):
        """Has attributes."""

    asked = []
    for number in range(60):
        owner = Owner()
        job = BackgroundJob(owner)
        asked.append(job._latest)
        owner.itself = owner
        if number % 2:
            owner.job, job.owner = job, owner
        del owner, job
    gc.collect()
    qtbot.waitUntil(lambda: all(latest.stop.is_set() for latest in asked), timeout=5000)
