"""Which controls can be used, and what the others say."""

from __future__ import annotations

import dataclasses

import pytest

from napari_plimseg._widgets.generate.state import DockState, Phase
from napari_plimseg._widgets.viewer.regions import RunOn

READY = DockState(has_slide=True, mpp_known=True, class_count=3)
MASKED = dataclasses.replace(READY, has_mask=True, has_probabilities=True)


@pytest.mark.parametrize(
    ("control", "state", "reason"),
    [
        ("generate", READY, ""),
        ("generate", DockState(), "Open a slide first"),
        ("generate", dataclasses.replace(READY, mpp_known=False), "Pixel size unknown"),
        ("generate", dataclasses.replace(READY, model_problem="No weights."), "No weights."),
        ("generate", dataclasses.replace(READY, class_count=1), "add one more"),
        ("generate", dataclasses.replace(READY, engine_owner="the batch"), "wait for the batch"),
        ("generate", dataclasses.replace(READY, run_on=RunOn.SHAPES), "No regions drawn"),
        ("generate", dataclasses.replace(READY, run_on=RunOn.SHAPES, shape_count=1), ""),
        ("generate", dataclasses.replace(READY, run_on=RunOn.VISIBLE), ""),
        ("generate", dataclasses.replace(READY, phase=Phase.RUNNING), "in progress"),
        ("cancel", READY, "Nothing is running"),
        ("cancel", dataclasses.replace(READY, phase=Phase.RUNNING), ""),
        ("cancel", dataclasses.replace(READY, phase=Phase.STOPPING), "Stopping"),
        ("setup", READY, ""),
        ("setup", dataclasses.replace(READY, phase=Phase.RUNNING), "cancel it first"),
        ("tissue", DockState(), "Open a slide first"),
        ("tissue", READY, ""),
        ("tissue", dataclasses.replace(READY, phase=Phase.RUNNING), "cancel it first"),
        ("overlay", READY, "no mask yet"),
        ("overlay", MASKED, ""),
        ("overlay", dataclasses.replace(MASKED, phase=Phase.RUNNING), ""),
        ("class_overlay", dataclasses.replace(MASKED, has_probabilities=False), "not saved"),
        ("class_overlay", MASKED, ""),
        ("export", READY, "no mask yet"),
        ("export", MASKED, ""),
        ("export", dataclasses.replace(MASKED, phase=Phase.RUNNING), "incomplete"),
        ("export", dataclasses.replace(MASKED, exporting=True), "export is in progress"),
    ],
)
def test_why_not(control: str, state: DockState, reason: str) -> None:
    said = state.why_not(control)
    assert (reason in said) if reason else said == ""


def test_unknown_control() -> None:
    with pytest.raises(ValueError, match="no control"):
        READY.why_not("dance")


def test_button_text() -> None:
    assert READY.generate_text == "Generate pseudo masks"
    assert dataclasses.replace(READY, stopped=True).generate_text == "Continue"
