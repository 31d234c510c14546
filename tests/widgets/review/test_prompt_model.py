"""The state of pointing at objects, without Qt: what can be used, what is asked and shown."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_plimseg._widgets.review.promptable.model import (
    CONTROLS,
    NO_CLASS,
    NO_OBJECT,
    NO_SLIDE,
    NO_TOOL,
    NOT_CUT_OFF,
    NOTHING_FOUND,
    NOTHING_SHOWN,
    ONLY_MODEL,
    REFINE,
    PromptModel,
    Reply,
)
from napari_plimseg._widgets.review.promptable.proposals import Answer, PromptDraft, Start
from napari_plimseg.inference.promptable.geometry import HintMask
from tests.support import widgets as fakes
from tests.support.prompt_widgets import hint_info

POINT = PromptDraft().with_point(10, 10, positive=True)


SLIDE = SimpleNamespace(shape=(1000, 1000))


def target(*, slide: object = SLIDE, editable: bool = True, label: int = 1) -> Any:
    layer = SimpleNamespace(editable=editable, selected_label=label)
    return SimpleNamespace(layer=layer, slide=slide, info=SimpleNamespace(classes=fakes.CLASSES))


def ready(**changes: Any) -> PromptModel:
    return PromptModel(**{"target": target(), "models": [hint_info()]} | changes)


def answer(draft: PromptDraft = POINT, *, y: int = 0, is_cut: bool = False) -> Answer:
    mask = HintMask(y, 0, 1.0, np.ones((20, 20), np.bool_), 0.5, is_cut=is_cut)
    return Answer(draft, mask, 1234.0, "weights")


def answered(*answers: Answer, **changes: Any) -> PromptModel:
    model = ready(**changes)
    model.start()
    model.proposals.draft = answers[0].draft
    model.proposals.answers = list(answers)
    model.finish(completed=True)
    return model


def test_it_needs_no_qt() -> None:
    code = (
        "import sys; import napari_plimseg._widgets.review.promptable.model; "
        "print(*{'qtpy', 'napari', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (ready(target=None), "Generate a mask"),
        (ready(target=target(slide=None)), NO_SLIDE),
        (ready(target=target(editable=False)), "hidden"),
        (ready(models=[hint_info(reason="Reinstall it.")]), "Reinstall it."),
        (ready(), ""),
    ],
)
def test_why_no_tool_can_be_used(model: PromptModel, why: str) -> None:
    for control in CONTROLS - {"model", "accept", "discard", "wider"}:
        assert why in model.why_not(control)
        assert bool(model.why_not(control)) == bool(why)
    if why:
        assert why in model.status
        assert why in model.why_not("accept")


def test_a_control_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no control 'paint'"):
        ready().why_not("paint")


def test_why_a_button_can_t_be_used() -> None:
    assert ready().why_not("accept") == ready().why_not("discard") == NOTHING_SHOWN
    assert answered(answer()).why_not("accept") == ""
    assert answered(answer()).why_not("wider") == NOT_CUT_OFF
    assert answered(answer(is_cut=True)).why_not("wider") == ""
    assert ready().why_not("model") == ONLY_MODEL
    assert ready(models=[hint_info(), hint_info("other")]).why_not("model") == ""


def test_status() -> None:
    assert ready().status == NO_TOOL
    assert ready(tool="box").status == "Drag a box around an object."
    assert answered(answer()).status == "Estimated quality 50 %. Enter accepts, Esc discards."
    assert answered(answer(is_cut=True)).status.endswith("press Larger context.")
    two = answered(answer(), answer(y=50))
    assert two.status.startswith("2 proposals")
    two.proposals.one_by_one = True
    assert two.status == "Estimated quality 50 %, 1 more. Enter accepts, Esc skips."
    assert two.details == "weights, 1,234 ms"
    two.start()
    two.note_progress("Loading the model…")
    assert two.status == "Loading the model…"


def test_a_draft_is_asked_when_nothing_is_running() -> None:
    model = ready()
    assert model.point(10, 10, positive=False) is Reply.INCOMPLETE
    assert model.point(10, 10, positive=True) is Reply.ASK
    model.start()
    assert model.point(12, 12, positive=True) is Reply.QUEUED
    assert not model.take(answer(POINT)), "the draft has changed since"
    assert model.finish(completed=True), "it has to be asked again"
    assert model.ask(PromptDraft()) is Reply.CLEARED
    assert ready(target=target(slide=None)).ask(POINT) is Reply.IGNORED


def test_a_search_is_not_interrupted_and_says_when_it_found_nothing() -> None:
    model = ready()
    model.proposals.is_search = True
    model.start(is_search=True)
    assert model.point(10, 10, positive=True) is Reply.SEARCHING
    assert not model.finish(completed=True)
    assert model.status == NOTHING_FOUND
    model.start(is_search=True)
    assert model.take(answer())
    assert not model.finish(completed=True)
    assert model.failure == ""
    model.forget()
    model.start(is_search=True)
    model.forget()
    assert not model.take(answer()), "the search was discarded"
    model.note_progress("Object 2 of 9…")
    assert model.status == NO_TOOL


def test_points_on_several_proposals() -> None:
    model = answered(answer(), answer(y=50))
    assert model.point(5, 5, positive=True) is Reply.SEVERAL_SHOWN
    assert model.point(90, 5, positive=False) is Reply.NONE_HERE
    assert model.point(5, 5, positive=False) is Reply.DROPPED
    assert len(model.shown) == 1


def test_an_answer_without_pixels_is_dropped() -> None:
    model = answered(answer())
    model.drop_empty()
    assert not model.answers
    assert model.status == NO_OBJECT


def test_what_accepting_needs() -> None:
    assert answered(answer()).why_not_accept() is None
    assert answered(answer(), target=target(label=99)).why_not_accept() == ("warning", NO_CLASS)
    region = SimpleNamespace(part=SimpleNamespace(mask_id=2), is_cut=True)
    model = ready()
    model.proposals.begin(Start(region, answer().mask, (5.0, 5.0)))  # type: ignore[arg-type]
    assert model.why_not_accept() == ("info", REFINE)
    assert model.status.startswith(REFINE)
    assert model.status != REFINE, "it says that only a part of the region changes"
    assert model.selected_class == fakes.CLASSES[1], "the region keeps its class"
