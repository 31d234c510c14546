"""Jobs emit results, and can be destroyed before or after their widgets without a crash."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QObject

from napari_plimseg._widgets.common.background_job import BackgroundJob, error_behind
from napari_plimseg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_job_whose_callback_alone_references_its_owner() -> None:
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


class Run:
    """Collects the signals of one run of a job."""

    def __init__(self, qtbot, work: Callable[[], object]) -> None:  # type: ignore[no-untyped-def]
        self.values: list[object] = []
        self.errors: list[str] = []
        self.ends: list[bool] = []
        self._owner = QObject()
        self.job = BackgroundJob(self._owner)
        self.job.yielded.connect(self.values.append)
        self.job.failed.connect(self.errors.append)
        self.job.finished.connect(self.ends.append)
        self.job.start(work)
        qtbot.waitUntil(lambda: bool(self.ends), timeout=5000)


@pytest.mark.parametrize("value", [7, None, [1, 2], ("a", "b")])
def test_a_plain_function_emits_its_value_once(qtbot, value: object) -> None:  # type: ignore[no-untyped-def]
    run = Run(qtbot, lambda: value)
    assert run.values == [value]
    assert run.ends == [True]
    assert not run.errors


def test_a_generator_emits_each_value(qtbot) -> None:  # type: ignore[no-untyped-def]
    run = Run(qtbot, lambda: (number for number in range(3)))
    assert run.values == [0, 1, 2]
    assert run.ends == [True]
    assert not run.errors


def test_a_plain_function_that_fails_emits_its_message(qtbot) -> None:  # type: ignore[no-untyped-def]
    def fail() -> None:
        raise ConfigError("no such class", remedy="Choose another.")

    run = Run(qtbot, fail)
    assert run.values == []
    assert run.ends == [False]
    assert run.errors == [str(error_behind(run.errors[0]))]
    assert "no such class" in run.errors[0]


def test_too_little_memory_is_told_with_what_to_do(qtbot) -> None:  # type: ignore[no-untyped-def]
    def work() -> None:
        raise MemoryError

    (error,) = Run(qtbot, work).errors
    assert error.startswith("There is not enough memory. Close other programs")


CLOSE = """
import threading, time
from qtpy.QtCore import QCoreApplication, QTimer
from napari_plimseg._widgets.common.background_job import BackgroundJob, end_at_closing
application = QCoreApplication([])
job = BackgroundJob(application)
waited = []
asked = threading.Event()
end_at_closing(asked.set, waited.append)
job.start(lambda: time.sleep(60))  # native code does not look whether it should end
def close():
    print(time.time(), flush=True)
    application.quit()
QTimer.singleShot(300, close)
application.exec()
assert asked.is_set() and waited[0] < 0.5, waited
print("saved", flush=True)
"""


def test_closing_ends_within_five_seconds_whatever_a_job_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSE], capture_output=True, text=True, timeout=50, check=False
    )
    ended = time.time()
    assert done.returncode == 0, done.stderr
    began, last = done.stdout.split()
    assert last == "saved"
    assert 1.5 < ended - float(began) < 5  # two seconds, and the end of the interpreter
