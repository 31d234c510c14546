"""Points and boxes on the slide become objects of the mask, undoably and within its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_plimseg import inference
from napari_plimseg._widgets.review.promptable.jobs import (
    PromptService,
    edit_of,
    level_0_of,
    pixel_of,
    pixels_inside,
    region_search,
)
from napari_plimseg._widgets.review.promptable.layers import BOXES, POINTS, PREVIEW
from napari_plimseg._widgets.review.promptable.model import OFF_SLIDE, TINY
from napari_plimseg._widgets.review.promptable.proposals import PromptDraft
from napari_plimseg._widgets.viewer.camera import get_camera
from napari_plimseg.errors import SlideError
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.inference.promptable.geometry import HintMask
from napari_plimseg.inference.promptable.proposals import Proposal
from napari_plimseg.models.encoders.cards import bundled_folder
from napari_plimseg.models.library import HINT_MODEL_FILE
from napari_plimseg.slides.slide import Region
from tests.support.prompt_widgets import GatedModel, hint_info, offer_hints
from tests.support.review import WAIT, Review

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg.slides.slide import Slide

pytestmark = pytest.mark.gui
OBJECT = Region(400.0, 480.0, 200.0, 160.0)  # level-0 pixels; 8 to a pixel of the mask
INSIDE = (slice(50, 75), slice(60, 80))  # in the mask
"""Of class 1, so the object is put into class 2."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[GatedModel]:
    model = GatedModel()
    offer_hints(monkeypatch, model)
    yield model
    model.gate.set()


def paint_object(review: Review) -> None:
    """Make one dark object on a slide that is bright elsewhere."""
    pixels = review.slide.pixels
    pixels[:] = 230
    y, x, h, w = (int(v) for v in (OBJECT.y, OBJECT.x, OBJECT.height, OBJECT.width))
    pixels[y : y + h, x : x + w] = 40


@pytest.fixture
def review(
    model: GatedModel,
    make_napari_viewer_proxy: Callable,
    tmp_path: Path,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Review]:
    monkeypatch.setenv("PLIMSEG_CACHE_DIR", str(tmp_path / "cache"))
    made = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    paint_object(made)
    made.dock.show()
    made.correct.choose_class(2)
    yield made
    model.gate.set()
    settle(made)


def settle(review: Review) -> None:
    prompts = review.dock.prompts
    review.qtbot.waitUntil(lambda: not prompts.is_working, timeout=WAIT)


def press(review: Review, key: str) -> None:
    """Do what a key does on the selected layer."""
    keymap = {str(bound): act for bound, act in review.layer.keymap.items()}
    keymap[key](review.layer)


def ours(review: Review) -> set[str]:
    names = {layer.name for layer in review.viewer.layers}
    return names & {PREVIEW, POINTS, BOXES}


def overlap(found: np.ndarray) -> float:
    truth = np.zeros(found.shape, bool)
    truth[INSIDE] = True
    return float((truth & found).sum() / (truth | found).sum())


def overlap_of(review: Review, mask: HintMask) -> float:
    top, left, inside = pixels_inside(review.correct.target, [mask])
    found = np.zeros(review.layer.data.shape, bool)
    found[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return overlap(found)


def draw_box(review: Review) -> None:
    review.dock.prompts.choose_tool("box")
    review.drag([(47, 57), (60, 70), (78, 83)])
    settle(review)


def click_inside(review: Review) -> None:
    review.dock.prompts.choose_tool("point_in")
    review.click(62, 70)
    settle(review)


@pytest.mark.parametrize("point_at", [draw_box, click_inside])
def test_an_answer_is_previewed_accepted_and_undone(review: Review, point_at: Callable) -> None:
    prompts = review.dock.prompts
    point_at(review)
    assert PREVIEW in ours(review), prompts.controls.status.text()
    assert prompts.controls.status.text().startswith("Estimated quality")
    np.testing.assert_array_equal(review.layer.data, review.model)
    assert review.viewer.layers.selection.active is review.layer
    press(review, "Enter")
    changed = review.layer.data != review.model
    assert overlap(changed) > 0.8
    assert (review.layer.data[changed] == 2).all()
    assert not ours(review)
    assert "set to" in review.dock.banner.text
    review.correct.controls.undo_button.click()
    np.testing.assert_array_equal(review.layer.data, review.model)


def test_a_click_outside_the_slide_says_what_to_do(review: Review) -> None:
    prompts, banner = review.dock.prompts, review.dock.banner
    for tool in ("point_in", "point_out", "refine"):
        prompts.choose_tool(tool)
        banner.hide()
        review.click(-8, 60)
        settle(review)
        assert banner.text == OFF_SLIDE, tool
        assert banner.kind == "info"
        assert prompts.state.failure == ""
        assert prompts.state.draft.is_empty
        assert not ours(review)
    prompts.choose_tool("box")
    review.drag([(-20, 20), (-15, 30), (-10, 40)])
    settle(review)
    assert banner.text == OFF_SLIDE
    assert not ours(review)
    click_inside(review)
    assert PREVIEW in ours(review)


def test_an_error_goes_with_the_next_answer(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, banner = review.dock.prompts, review.dock.banner

    def fail(*_: object) -> None:
        raise SlideError("this part can't be read")

    with monkeypatch.context() as broken:
        broken.setattr(review.slide, "_read_level", fail)
        click_inside(review)
    review.qtbot.waitUntil(lambda: banner.kind == "error", timeout=WAIT)
    failed = banner.text
    assert failed
    prompts.add_point(520, 560, positive=True)
    settle(review)
    assert PREVIEW in ours(review)
    assert banner.text != failed
    assert prompts.state.failure == ""


def test_an_object_smaller_than_its_dot_asks_to_zoom_in(review: Review) -> None:
    click_inside(review)
    status = review.dock.prompts.controls.status
    assert not status.text().startswith(TINY)
    camera = get_camera(review.viewer)
    near = camera.zoom
    camera.zoom = near / 20
    review.dock.prompts.add_point(510, 570, positive=True)
    settle(review)
    assert status.text().startswith(TINY)
    camera.zoom = near
    assert status.text().startswith("Estimated quality")


def test_a_box_that_encloses_nothing_asks_for_another(review: Review) -> None:
    review.dock.prompts.choose_tool("box")
    review.drag([(47, 57), (47, 57), (78, 57)])  # it begins at a point and stays a line
    assert review.dock.prompts.state.draft.is_empty
    assert "Drag from one corner" in review.dock.banner.text
    draw_box(review)
    assert not review.dock.prompts.state.draft.is_empty


def test_corrections_are_recorded(review: Review) -> None:
    draw_box(review)
    review.dock.prompts.controls.accept_button.click()
    review.view.recorder.commit_all()
    rows, columns = INSIDE
    assert (review.view.corrections.read(rows, columns) == 2).mean() > 0.8


def test_escape_leaves_nothing_and_then_puts_the_tool_down(review: Review) -> None:
    prompts = review.dock.prompts
    before = {str(key) for key in review.layer.keymap}
    draw_box(review)
    prompts.add_point(700, 500, positive=False)
    settle(review)
    assert ours(review) == {PREVIEW, POINTS, BOXES}
    press(review, "Escape")
    assert not ours(review)
    assert prompts.state.tool == "box"
    press(review, "Escape")
    assert prompts.state.tool == ""
    assert {str(key) for key in review.layer.keymap} == before
    assert review.layer.mouse_pan
    np.testing.assert_array_equal(review.layer.data, review.model)


def test_a_point_outside_takes_away_and_backspace_brings_back(review: Review) -> None:
    prompts = review.dock.prompts
    draw_box(review)
    whole = prompts.state.answers[0].mask.area
    prompts.add_point(500, 560, positive=False)
    settle(review)
    assert prompts.state.answers[0].mask.area < whole
    press(review, "Backspace")
    settle(review)
    assert prompts.state.answers[0].mask.area == whole


def test_the_second_prompt_in_a_place_needs_no_encoder(review: Review, model: GatedModel) -> None:
    draw_box(review)
    encoded = model.encoded
    review.dock.prompts.discard()
    draw_box(review)
    assert encoded == 2  # both resolutions
    assert model.encoded == encoded


def test_a_protected_class_stays(review: Review) -> None:
    review.layer.data[55:60, 60:80] = 3
    before = review.layer.data.copy()
    review.correct.controls.chips.chips[2].lock.click()
    draw_box(review)
    review.dock.prompts.accept()
    after = review.layer.data
    assert (after != before).any()
    np.testing.assert_array_equal(after == 3, before == 3)


def test_everything_of_the_class_in_view(review: Review, model: GatedModel) -> None:
    prompts = review.dock.prompts
    review.layer.data[:] = 1
    review.layer.data[45:80, 55:85] = 2  # roughly where it is
    prompts.controls.find_button.click()
    settle(review)
    assert len(prompts.state.answers) == 1, prompts.controls.status.text()
    assert prompts.state.answers[0].mask.area == pytest.approx(
        OBJECT.height * OBJECT.width, rel=0.2
    )


def show_two(review: Review) -> None:
    """Paint two objects, and class 2 roughly where they are: both in view."""
    review.layer.data[:] = 1
    review.layer.data[45:80, 55:85] = 2  # of OBJECT
    review.layer.data[10:20, 100:110] = 2
    review.slide.pixels[80:160, 800:880] = 40


def test_proposals_one_by_one(review: Review) -> None:
    prompts = review.dock.prompts
    show_two(review)
    prompts.controls.one_by_one.setChecked(True)
    prompts.controls.find_button.click()
    settle(review)
    assert len(prompts.state.answers) == 2, prompts.controls.status.text()
    assert prompts.controls.status.text().endswith("1 more. Enter accepts, Esc skips.")
    review.correct.choose_class(3)
    before = review.layer.data.copy()
    press(review, "Escape")  # skips the first, the larger one
    assert len(prompts.state.answers) == 1
    np.testing.assert_array_equal(review.layer.data, before)
    press(review, "Enter")
    painted = np.zeros(before.shape, bool)
    painted[10:20, 100:110] = True
    np.testing.assert_array_equal((review.layer.data == 3) & (before != 3), painted)
    assert not ours(review)


def test_all_proposals_at_once_but_the_one_left_out(review: Review) -> None:
    prompts = review.dock.prompts
    show_two(review)
    prompts.controls.find_button.click()
    settle(review)
    assert prompts.controls.status.text().startswith("2 proposals")
    prompts.add_point(100, 850, positive=False)
    assert len(prompts.state.answers) == 1
    review.correct.choose_class(3)
    press(review, "Enter")
    assert (review.layer.data[10:20, 100:110] == 2).all()
    assert overlap(review.layer.data[:112] == 3) > 0.9


@pytest.mark.parametrize("how", ["button", "return key"])
def test_typed_words_propose_objects(
    review: Review, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asked: list[tuple[str, Region]] = []

    def propose(slide: Slide, view: Region, words: str, **_: object) -> list[Proposal]:
        asked.append((words, view))
        found = HintMask(50, 60, 8.0, np.ones((25, 20), np.bool_), 0.9)
        return [Proposal(found.region, 0.9, found)]

    monkeypatch.setattr(inference, "propose_regions", propose)
    prompts = review.dock.prompts
    prompts.controls.words.setText("gland")
    if how == "button":
        prompts.controls.find_button.click()
    else:
        prompts.controls.words.returnPressed.emit()
    settle(review)
    ((words, view),) = asked
    assert words == "gland"
    assert view.y <= OBJECT.y
    assert view.y + view.height >= OBJECT.y + OBJECT.height
    assert len(prompts.state.answers) == 1, prompts.controls.status.text()
    press(review, "Enter")
    assert overlap(review.layer.data != review.model) > 0.8


def test_words_that_find_nothing_say_what_to_do(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "propose_regions", lambda *_, **__: [])
    prompts = review.dock.prompts
    prompts.controls.words.setText("gland")
    prompts.controls.find_button.click()
    settle(review)
    assert "Try another word" in prompts.controls.status.text()
    assert not ours(review)


def test_a_search_that_is_discarded_says_nothing_of_what_it_finds_later(
    review: Review, model: GatedModel
) -> None:
    prompts = review.dock.prompts
    show_two(review)
    model.gate.clear()
    prompts.controls.find_button.click()
    review.qtbot.waitUntil(lambda: "Object 1 of 2" in prompts.controls.status.text(), timeout=WAIT)
    press(review, "Escape")
    model.gate.set()
    settle(review)
    assert not prompts.state.answers
    assert not ours(review)


def test_a_part_of_an_accepted_object_is_taken_out_again(review: Review) -> None:
    prompts = review.dock.prompts
    draw_box(review)
    press(review, "Enter")
    whole = review.layer.data != review.model
    # only the upper part of it is still to be seen as an object
    review.slide.pixels[480:] = 230
    prompts.service = PromptService()  # what was encoded of the slide as it was is forgotten
    review.correct.choose_class(1)
    prompts.choose_tool("box")
    prompts.add_box(Region(400.0, 480.0, 80.0, 160.0))
    settle(review)
    press(review, "Enter")
    left = review.layer.data != review.model
    assert not left[:60].any()
    np.testing.assert_array_equal(left[60:], whole[60:])
    review.correct.undo()
    np.testing.assert_array_equal(review.layer.data != review.model, whole)


def pick_region(review: Review, y: float, x: float) -> None:
    review.dock.prompts.choose_tool("refine")
    review.click(y, x)
    settle(review)


def test_a_region_is_refined_by_points_in_one_step(review: Review) -> None:
    prompts = review.dock.prompts
    review.layer.data[50:75, 60:70] = 2  # the left half of the object
    before = review.layer.data.copy()
    review.correct.choose_class(3)  # the region keeps its own class
    pick_region(review, 60, 64)
    assert prompts.controls.status.text().startswith("Point + adds what is missing")
    assert prompts.state.tool == "point_in"
    assert prompts.controls.accept_button.text().endswith(review.info.classes[1].name)
    assert ours(review) == {PREVIEW}
    press(review, "Enter")
    assert "Point +" in review.dock.banner.text, "nothing was pointed at yet"
    np.testing.assert_array_equal(review.layer.data, before)
    review.click(62, 76)
    settle(review)
    assert overlap_of(review, prompts.state.answers[0].mask) > 0.9
    np.testing.assert_array_equal(review.layer.data, before)
    names = [layer.name for layer in review.viewer.layers]
    assert names.index(PREVIEW) < names.index(POINTS), "the point is seen on the preview"
    press(review, "Enter")
    assert overlap(review.layer.data[:112] == 2) < 0.3, "the right half of the mask is 2, too"
    assert overlap((review.layer.data == 2) & (review.model != 2)) > 0.9
    assert "Outline of" in review.dock.banner.text
    assert not ours(review)
    review.correct.undo()
    np.testing.assert_array_equal(review.layer.data, before)
    assert int(review.layer.selected_label) == 3


def test_what_a_region_gives_up_goes_back_to_the_model_s_class(review: Review) -> None:
    review.layer.data_setitem(np.nonzero(np.ones((9, 9))), 2)  # so that it is a correction
    pick_region(review, 4, 4)
    review.dock.prompts.add_point(*level_0_of(review.correct.target, 4.0, 4.0), positive=False)
    settle(review)
    press(review, "Enter")
    given_up = (review.layer.data[:9, :9] == 1).sum()
    assert 20 < given_up < 81
    np.testing.assert_array_equal(review.layer.data[9:], review.model[9:])
    review.view.recorder.commit_all()
    corrected = review.view.corrections.read(slice(0, 9), slice(0, 9))
    assert (corrected > 0).sum() == 81 - given_up, "where the model is right nothing is corrected"


def test_a_region_larger_than_a_patch_changes_around_the_points_alone(review: Review) -> None:
    pick_region(review, 30, 30)
    review.dock.prompts.add_point(*level_0_of(review.correct.target, 30.0, 90.0), positive=False)
    settle(review)
    press(review, "Enter")
    changed = review.layer.data != review.model
    assert 20 < changed.sum() < 100
    assert not changed[:, :80].any()
    assert (review.layer.data[changed] == 2).all(), "the neighbour on the right"


def test_escape_leaves_the_region_as_it_was(review: Review) -> None:
    prompts = review.dock.prompts
    pick_region(review, 30, 30)
    prompts.add_point(500, 560, positive=False)
    settle(review)
    assert prompts.state.answers[0].draft.is_ready
    press(review, "Backspace")
    assert not prompts.state.answers[0].draft.is_ready, "the region as it is"
    press(review, "Backspace")
    assert not ours(review)
    assert not prompts.state.answers
    pick_region(review, 30, 30)
    prompts.add_box(OBJECT)
    settle(review)
    assert prompts.state.draft.start is not None
    press(review, "Escape")
    assert not ours(review)
    assert prompts.state.draft.is_empty
    np.testing.assert_array_equal(review.layer.data, review.model)


def test_where_there_is_no_region_it_says_so(review: Review) -> None:
    review.layer.data[:40, :40] = 0
    pick_region(review, 20, 20)
    assert "no region of the mask" in review.dock.banner.text
    assert not review.dock.prompts.state.answers
    review.dock.prompts.refine_region(-80, -80)
    settle(review)
    assert "no region of the mask" in review.dock.prompts.controls.status.text()


def test_of_regions_picked_in_a_row_the_last_counts_and_none_after_escape(
    review: Review, model: GatedModel
) -> None:
    prompts = review.dock.prompts
    model.gate.clear()
    prompts.choose_tool("refine")
    for y in (100, 200):
        prompts.refine_region(y, 100)
        review.qtbot.waitUntil(lambda: bool(prompts.state.answers), timeout=WAIT)
    assert prompts.is_working, "it looks around the first one still"
    prompts.refine_region(1000, 1000)
    prompts.discard()
    model.gate.set()
    settle(review)
    assert not prompts.state.answers
    assert not ours(review)


@pytest.mark.parametrize("origin", [(0, 0), (30, 40)])
def test_a_region_in_a_window_of_a_mask(review: Review, origin: tuple[int, int]) -> None:
    target = replace(review.correct.target, origin=origin)
    review.layer.data[50:60, 60:80] = 2
    start = region_search(target, *level_0_of(target, 55.0, 65.0))()
    np.testing.assert_array_equal(start.region.part.inside, np.ones((10, 20), bool))
    assert (start.mask.y, start.mask.x) == (50 + origin[0], 60 + origin[1])
    lower = HintMask(start.mask.y + 5, start.mask.x, 8.0, np.ones((20, 20), np.bool_), 1.0)
    edit_of(target, [lower], 2, start).apply(review.layer.data)
    expected = np.full((30, 20), 1, np.uint8)
    expected[5:25] = 2
    np.testing.assert_array_equal(review.layer.data[50:80, 60:80], expected)


def test_a_class_of_the_mask_is_refined_where_it_lies(review: Review) -> None:
    """The mask is off by half an object; asked for its class, the object is found."""
    prompts = review.dock.prompts
    review.layer.data[:] = 1
    review.layer.data[40:65, 50:72] = 2
    prompts.controls.find_button.click()
    settle(review)
    assert len(prompts.state.answers) == 1, prompts.controls.status.text()
    assert overlap_of(review, prompts.state.answers[0].mask) > 0.8
    press(review, "Enter")
    truth = np.zeros(review.layer.data.shape, bool)
    truth[INSIDE] = True
    assert (review.layer.data[truth] == 2).mean() > 0.9


@pytest.mark.parametrize(
    ("y", "x"), [(0, 0), (0, 700), (1199, 1599), (1199, 700)], ids=lambda n: str(n)
)
def test_an_object_at_the_edge_of_the_slide(review: Review, y: int, x: int) -> None:
    prompts, pixels = review.dock.prompts, review.slide.pixels
    pixels[:] = 230
    pixels[max(0, y - 80) : y + 81, max(0, x - 80) : x + 81] = 40
    prompts.choose_tool("point_in")
    prompts.add_point(y, x, positive=True)
    settle(review)
    (answer,) = prompts.state.answers
    assert not answer.mask.is_cut  # the slide ends there, not what was looked at
    box = answer.mask.bounding_box
    assert box is not None
    assert box.y >= 0 and box.x >= 0  # noqa: PT018
    assert box.y + box.height <= 1200 and box.x + box.width <= 1600  # noqa: PT018
    review.layer.data[:] = 1
    press(review, "Enter")
    changed = review.layer.data == 2
    assert changed[min(y // 8, 149), min(x // 8, 199)]
    truth = (pixels[4::8, 4::8, 0] == 40)[:150, :200]
    assert (changed & truth).sum() / (changed | truth).sum() > 0.8


def test_without_a_pixel_size_it_asks_for_it(review: Review) -> None:
    prompts = review.dock.prompts
    assert not prompts.controls.pixel_row.isVisibleTo(prompts)
    review.slide._file_mpp = None
    review.view.info = replace(review.view.info, mpp=None)
    prompts.refresh_state()
    assert prompts.controls.pixel_row.isVisibleTo(prompts)
    prompts.choose_tool("box")
    prompts.add_box(OBJECT)
    settle(review)
    assert not prompts.state.answers
    assert "pixel size" in review.dock.banner.text
    assert "pixel size" in prompts.controls.status.text()
    prompts.controls.pixel_size.setValue(0.5)  # what was drawn is answered now
    settle(review)
    assert overlap_of(review, prompts.state.answers[0].mask) > 0.8


def test_a_later_prompt_replaces_the_one_being_answered(review: Review, model: GatedModel) -> None:
    prompts = review.dock.prompts
    model.gate.clear()
    prompts.choose_tool("box")
    prompts.add_box(OBJECT)
    review.qtbot.waitUntil(lambda: "Encoding" in prompts.controls.status.text(), timeout=WAIT)
    prompts.add_point(500, 560, positive=False)
    model.gate.set()
    review.qtbot.waitUntil(lambda: bool(prompts.state.answers), timeout=WAIT)
    assert prompts.state.answers[0].draft.points == ((500, 560, False),)


def test_discarded_while_it_looks_nothing_appears(review: Review, model: GatedModel) -> None:
    prompts = review.dock.prompts
    model.gate.clear()
    prompts.choose_tool("box")
    prompts.add_box(OBJECT)
    press(review, "Escape")
    model.gate.set()
    settle(review)
    assert not ours(review)
    assert not prompts.state.answers


def test_closing_in_mid_encoding(review: Review, model: GatedModel) -> None:
    model.gate.clear()
    prompts = review.dock.prompts
    prompts.choose_tool("box")
    prompts.add_box(OBJECT)
    layer = review.layer
    keys = {str(key) for key in layer.keymap}
    assert "Enter" in keys
    review.viewer.layers.remove(layer)
    review.qtbot.waitUntil(lambda: prompts.state.tool == "", timeout=WAIT)
    model.gate.set()
    settle(review)
    assert not ours(review)
    assert "Enter" not in {str(key) for key in layer.keymap}


def test_without_a_model_it_says_which_file_is_missing(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_hints(monkeypatch, GatedModel(), hint_info(reason="Install napari-plimseg again."))
    prompts = review.dock.prompts
    prompts.list_models()
    assert "hints.safetensors" in prompts.controls.status.text()
    for control in (
        *prompts.controls.tools.values(),
        prompts.controls.find_button,
        prompts.controls.accept_button,
    ):
        assert not control.isEnabled()
        assert "hints.safetensors" in control.toolTip()
    prompts.choose_tool("box")
    assert prompts.state.tool == ""


@pytest.mark.parametrize("origin", [(0, 0), (30, 40)])
def test_places_and_edits_of_a_window_of_a_mask(review: Review, origin: tuple[int, int]) -> None:
    target = replace(review.correct.target, origin=origin)
    assert pixel_of(target, *level_0_of(target, 3.0, 4.0)) == (3.0, 4.0)
    mask = HintMask(50, 60, 8.0, np.ones((25, 20), np.bool_), 1.0)
    edit = edit_of(target, [mask], 2)
    assert edit.window == (
        slice(50 - origin[0], 75 - origin[0]), slice(60 - origin[1], 80 - origin[1])
    )  # fmt: skip
    assert edit.size == 500
    assert edit_of(target, [HintMask(900, 900, 8.0, mask.mask, 1.0)], 2).size == 0


def test_a_draft_needs_a_place() -> None:
    draft = PromptDraft().with_point(5, 5, positive=False)
    assert not draft.is_ready
    assert draft.with_point(6, 6, positive=True).is_ready
    assert draft.without_last().is_empty


@pytest.mark.skipif(
    not (bundled_folder() / HINT_MODEL_FILE).is_file(), reason="the model is not there"
)
def test_the_shipped_model(
    make_napari_viewer_proxy: Callable,
    tmp_path: Path,
    qtbot,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLIMSEG_CACHE_DIR", str(tmp_path / "cache"))
    made = Review(make_napari_viewer_proxy(show=True), tmp_path, qtbot)
    assert made.view.info.slide_fingerprint == fingerprint(made.slide.path)
    made.dock.show()
    made.correct.choose_class(2)
    draw_box(made)
    assert made.dock.prompts.state.answers, made.dock.prompts.controls.status.text()
    made.dock.prompts.accept()
    changed = made.layer.data != made.model
    assert changed.any()
    made.correct.undo()
    np.testing.assert_array_equal(made.layer.data, made.model)
