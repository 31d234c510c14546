"""What the training dock allows in each state, and what it says otherwise."""

from __future__ import annotations

import dataclasses

import pytest

from napari_plimseg._widgets.train.state import CONTROLS, TrainDockState
from napari_plimseg.training_runs.process import TrainingState

EMPTY = TrainDockState()
READY = TrainDockState(has_folder=True, usable=True, mpp_known=True, masks=1, has_slide=True)


def but(state: TrainDockState, **changes: object) -> TrainDockState:
    return dataclasses.replace(state, **changes)


TRAINING = but(READY, training=TrainingState.RUNNING, can_resume=True)
CASES = [
    ("empty", EMPTY, {"folder", "setup", "tag"}),
    ("a slide with a mask", but(EMPTY, masks=2), {"folder", "setup", "tag", "slides"}),
    ("checking", but(READY, checking=True, usable=False), set()),
    ("wrong folder", but(READY, usable=False), {"folder", "setup", "tag", "slides"}),
    ("pixel size unknown", but(READY, mpp_known=False), {"folder", "setup", "tag", "slides"}),
    ("no name", but(READY, name_problem="Type one."), {"folder", "setup", "tag", "slides"}),
    ("ready", READY, {"folder", "setup", "tag", "slides", "start"}),
    ("starting", but(TRAINING, training=TrainingState.STARTING), {"tag", "stop"}),
    ("running", TRAINING, {"tag", "stop"}),
    ("stopping", but(TRAINING, training=TrainingState.STOPPING), {"tag", "stop"}),
    ("another viewer's, stopping",
     but(TRAINING, training=TrainingState.STOPPING, stop_asked_twice_helps=False), {"tag"}),
    ("stopped", but(READY, training=TrainingState.STOPPED, can_resume=True),
     {"folder", "setup", "tag", "slides", "start", "resume"}),
    ("failed early", but(READY, training=TrainingState.FAILED),
     {"folder", "setup", "tag", "slides", "start"}),
    ("failed late", but(READY, training=TrainingState.FAILED, can_resume=True),
     {"folder", "setup", "tag", "slides", "start", "resume"}),
    ("finished", but(READY, training=TrainingState.FINISHED, has_model=True, has_report=True),
     {"folder", "setup", "tag", "slides", "start", "report", "use", "compare"}),
    ("finished, no slide",
     but(READY, training=TrainingState.FINISHED, has_model=True, has_slide=False, masks=0),
     {"folder", "setup", "tag", "start", "use"}),
    ("comparing",
     but(READY, training=TrainingState.FINISHED, has_model=True, comparing=True),
     {"folder", "setup", "tag", "slides", "start", "use", "cancel_compare"}),
]  # fmt: skip


@pytest.mark.parametrize(("state", "allowed"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_can_be_pressed(state: TrainDockState, allowed: set[str]) -> None:
    usual = set() if state.is_training else {"earlier"}
    assert {control for control in CONTROLS if not state.why_not(control)} == allowed | usual
    for control in CONTROLS:
        why_not = state.why_not(control)
        assert not why_not or why_not.endswith(".")


def test_the_button_that_stops_says_what_it_does() -> None:
    assert TRAINING.stop_text == "Stop and save"
    assert but(TRAINING, training=TrainingState.STOPPING).stop_text == "Stop now"
    assert EMPTY.resume_text == "Resume"
    assert but(TRAINING, shown_name="tiles").resume_text == "Resume 'tiles'"
    with pytest.raises(ValueError, match="no control"):
        EMPTY.why_not("dance")
