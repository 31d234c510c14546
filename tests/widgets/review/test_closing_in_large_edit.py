"""A window that closes during a large edit loses nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg.results.corrections.corrections import Corrections
from napari_plimseg.results.mask_store import MaskStore
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gui
SIDE = 2048
HOLES = slice(20, None, 64)  # the first pixel of each, of 4 a side
STROKES = (slice(900, 940), slice(900, 960)), (slice(2000, 2040), slice(300, 360))
"""What was painted and saved, and what was painted last."""

CLOSE_IN_MID_EDIT = """
import sys, threading
from pathlib import Path
import numpy as np
from tests.support import widgets as fakes
from tests.widgets.review.test_closing_in_large_edit import SIDE, STROKES, model_output
from tests.support.stores import written_store
import napari
from qtpy.QtCore import QTimer
from napari_plimseg._widgets.common import background_job
from napari_plimseg._widgets.viewer.mask_layer import MaskView
from napari_plimseg._widgets.review.dock import ReviewDock
from napari_plimseg._widgets.review.correct.cleanup_panel import CleanupOperation
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.results.mask_info import MaskInfo

folder, edit, moment = Path(sys.argv[1]), *sys.argv[2:]
background_job._BUDGET_SECONDS = 0  # a few pieces at a time, however fast the machine is
background_job._AT_ONCE = 1
viewer = napari.Viewer()
dock = ReviewDock(viewer)
viewer.window.add_dock_widget(dock, name="PLIMSeg Review")
tissue = np.full((SIDE, SIDE, 3), (150, 70, 140), np.uint8)  # holes in glass are not filled
slide = fakes.ArraySlide(folder / "slide.tif", tissue, 0.5)
model = model_output()
info = MaskInfo(
    slide_name="slide.tif", slide_fingerprint=fingerprint(slide.path), slide_shape=(SIDE, SIDE),
    bounds=slide.bounds, mpp=0.5, shape=(SIDE, SIDE), downsample=1.0, classes=fakes.CLASSES,
)
store = written_store(folder / "slide.plimseg", info, model, np.zeros_like(model), 512)
view = MaskView(viewer, slide, store, model, fakes.CLASSES, slide_stem="slide")
correct = dock.correct


def paint(stroke):
    pixels = np.zeros((SIDE, SIDE), bool)
    pixels[stroke] = True
    view.layer.data_setitem(np.nonzero(pixels), 3)


def begin():
    if correct.target is None:
        return QTimer.singleShot(10, begin)
    paint(STROKES[0])
    view.recorder.commit_all()
    view.corrections.flush()
    paint(STROKES[1])
    if edit == "holes":
        correct.choose_class(1)
        # of the specks, not the strokes
        correct.controls.cleanup.numbers[CleanupOperation.HOLES].setValue(0.0004)
        correct.controls.cleanup.buttons[CleanupOperation.HOLES].click()
    else:
        view.layer.fill((0, 0), 2)
    watch()


def watch():
    painter = correct.painter
    looking = correct._edits.can_cancel
    if (looking if moment == "looking" else painter.pieces.is_running):
        print("changed", int((view.layer.data != model_output()).sum()), flush=True)
        viewer.close()
    elif not correct.is_working:
        sys.exit("it was over before the window could close")
    else:
        QTimer.singleShot(0, watch)


QTimer.singleShot(0, begin)
napari.run()
"""


def model_output() -> np.ndarray:
    model = np.full((SIDE, SIDE), 1, np.uint8)
    for y in range(4):
        for x in range(4):
            model[HOLES.start + y :: 64, HOLES.start + x :: 64] = 2
    return model


@pytest.mark.parametrize("moment", ["looking", "making"])
@pytest.mark.parametrize("edit", ["holes", "relabel"])
def test_nothing_is_lost(tmp_path: Path, edit: str, moment: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CLOSE_IN_MID_EDIT, str(tmp_path), edit, moment],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Traceback" not in result.stderr, result.stderr[-3000:]
    assert "Error" not in result.stderr, result.stderr[-3000:]
    model = model_output()
    edited = np.full_like(model, 1) if edit == "holes" else np.full_like(model, 2)
    for stroke in STROKES:
        edited[stroke] = 3
    changed = int(result.stdout.split()[1])
    if moment == "making":
        assert changed < (edited != model).sum(), "it closed in the middle"

    info = MaskStore.open(tmp_path / "slide.plimseg").info
    corrections = Corrections.open(tmp_path, info)
    assert not corrections.journal.problem
    shown = model.copy()
    corrections.apply(shown)
    for stroke in STROKES:
        assert (shown[stroke] == 3).all()
    # each other pixel is as it was, or as it was to be
    assert ((shown == model) | (shown == edited)).all()
    if moment == "making":
        np.testing.assert_array_equal(shown, edited)
    corrections.write(0, 0, np.full((2, 2), 3, np.uint8))  # and it goes on
    corrections.flush_and_release()
