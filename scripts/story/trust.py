"""What must never go wrong without a word: keys, strokes, searches, exports, messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QMessageBox
from story.on_the_slide import StoryError, check, generate_view, open_slide

from napari_plimseg._widgets.viewer import RunOn

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer
    from story.on_the_slide import Story


def _places(*layers: Layer) -> list[Any]:
    return [np.asarray(value) for la in layers for value in (la.affine, la.scale, la.translate)]


def _inside(story: Story) -> tuple[int, int]:
    """Return a pixel of the mask in the middle of the window."""
    center = np.asarray(story.screen.camera.center)[-2:]
    y, x = np.round(story.view.layer.world_to_data(center)).astype(int)
    return int(y), int(x)


def keys_move_nothing(story: Story) -> str:
    """Press digits and drag with the slide and the mask selected: no layer moves."""
    screen, review = story.screen, story.review
    slide, mask = story.slide_layer, story.view.layer
    before = _places(slide, mask)
    y, x = _inside(story)
    for layer in (slide, mask):
        for key in ("2", "7"):
            screen.viewer.layers.selection.active = layer
            screen.keys(screen.canvas, key)
            if int(key) <= len(story.view.info.classes):
                check(f"{key} chooses a class", mask.selected_label == int(key))
            else:
                check(f"{key} is said to be none", f"no class {key}" in review.banner.text)
            screen.drag_over(mask, [(y, x), (y + 5, x + 8), (y + 10, x + 16)])
            same = all(map(np.array_equal, before, _places(slide, mask)))
            check(f"{key} moves nothing", same)
            check("nothing is painted", story.view.corrected_pixels == 0)
    slide.mode = "transform"  # napari's own button
    check("the transform tool is refused", slide.mode == "pan_zoom")
    check("it is said", "stay in place" in review.banner.text)
    screen.picture("trust_stays_in_place")
    return review.banner.text


def strokes_reach_the_mask(story: Story) -> str:
    """Drag with the slide selected while a tool is pressed: the stroke is on the mask."""
    screen, review = story.screen, story.review
    mask = story.view.layer
    screen.press(review.correct.controls.tools["brush"])
    screen.viewer.layers.selection.active = story.slide_layer
    y, x = _inside(story)
    before = mask.data.copy()
    screen.drag_over(mask, [(y, x), (y + 10, x + 20), (y + 20, x + 40)])
    painted = np.count_nonzero(mask.data != before)
    check("the stroke is on the mask", painted > 0)
    screen.viewer.layers.selection.active = story.slide_layer
    QTest.keyClick(screen.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    screen.rest(0.3)
    check("undo takes it back", np.array_equal(mask.data, before))
    screen.keys(screen.canvas, "z")
    colors = dict(mask.colormap.color_dict)
    mask.new_colormap()  # napari's button "shuffle colors"
    same = all(np.allclose(mask.colormap.color_dict[key], color) for key, color in colors.items())
    check("the colors are those of the legend", same)
    return f"{painted} px painted"


def search_follows_the_run(story: Story) -> str:
    """Finish the mask: the search of its part is repeated when the run ends."""
    screen, review = story.screen, story.review
    status = review.inspect.worklist.status
    screen.bring_into_sight(review.inspect.worklist)
    screen.wait("the list is there", lambda: review.inspect.review.regions is not None, 60)
    first = status.text()
    check(f"it names the finished part: {first}", "finished part" in first)
    dock = story.dock
    screen.press(dock.run_on.buttons[RunOn.WHOLE])
    screen.press(dock.run_panel.button)
    screen.wait("it runs", lambda: dock.controller.last_progress is not None)
    check(f"no list meanwhile: {status.text()}", review.inspect.review.regions is None)
    screen.wait("the run ends", lambda: not dock.controller.is_running)
    review = story.review
    screen.wait("the search is repeated", lambda: review.inspect.review.regions is not None, 60)
    check("all of the mask is known", "finished part" not in status.text())
    screen.picture("trust_search")
    return status.text()


def generate_again(story: Story) -> str:
    """Generate a finished result: it is said without loading the model."""
    screen, dock = story.screen, story.dock
    dock.controller.keeper.forget()
    masks = len(screen.viewer.layers)
    with mock.patch("napari_plimseg.models.load_model", side_effect=StoryError("it is loaded")):
        screen.press(dock.run_panel.button)
        screen.wait("it says so", lambda: dock.banner.text.startswith("Already segmented"), 60)
    check("it offers to compute it again", dock.banner.offer_button.isVisible())
    check("there is one mask", len(screen.viewer.layers) == masks)
    screen.picture("trust_already_segmented")
    places = [w.mapTo(dock, QPoint(0, 0)) for w in (dock.run_panel.button, dock.model_choice)]
    dock.banner.hide()
    screen.rest(0.1)
    after = [w.mapTo(dock, QPoint(0, 0)) for w in (dock.run_panel.button, dock.model_choice)]
    check("the message moved no control", places == after)
    return "Already segmented"


def export_twice(story: Story) -> str:
    """Export to a file that exists: it is replaced after a question only."""
    screen, dock = story.screen, story.dock
    target = story.folder / "twice"
    where = (str(target), "")
    with screen.answering(QFileDialog, "getSaveFileName", where):
        screen.press(dock.results.export_buttons["csv"])
    file = target.with_name("twice.csv")
    screen.wait("it is written", lambda: file.exists() and not dock.tools.is_busy, 60)
    file.write_text("mine")
    asked: list[str] = []

    def refuse(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return QMessageBox.StandardButton.No

    with (
        screen.answering(QFileDialog, "getSaveFileName", where),
        mock.patch.object(QMessageBox, "question", refuse),
    ):
        screen.press(dock.results.export_buttons["csv"])
    screen.rest(0.5)
    check("it was asked", len(asked) == 1)
    check("the file stays", file.read_text() == "mine")
    return asked[0]


def click_beside_the_slide(story: Story) -> str:
    """Click outside the slide: a message says what to do."""
    screen, review = story.screen, story.review
    screen.viewer.reset_view()
    screen.camera.zoom *= 0.6
    screen.rest(0.3)
    screen.press(review._folds[1].toggleButton())
    screen.press(review.prompts.controls.tools["point_in"])
    QTest.mouseClick(screen.canvas, Qt.MouseButton.LeftButton, pos=QPoint(12, 12))
    screen.rest(0.3)
    check("it says what to do", "outside the slide" in review.banner.text)
    check("it is no error", review.banner.kind == "info")
    screen.picture("trust_outside")
    return review.banner.text


TRUST_STEPS: dict[str, Callable[[Story], str]] = {
    "open": open_slide,
    "generate the view": generate_view,
    "keys move nothing": keys_move_nothing,
    "strokes reach the mask": strokes_reach_the_mask,
    "search follows the run": search_follows_the_run,
    "generate again": generate_again,
    "export twice": export_twice,
    "click beside the slide": click_beside_the_slide,
}
"""In the order in which they are played."""
