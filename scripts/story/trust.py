"""What must never go wrong without a word: keys, strokes, searches, exports, messages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from story.on_the_slide import StoryError, check, generate_view, open_slide
from story.trust_classes import class_edits
from story.trust_slides import TRUST_SLIDE_STEPS

from napari_plimseg._widgets.viewer import RunOn
from napari_plimseg.settings import load_settings

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
    for layer in (slide, mask):
        for key, mode in (("b", "paint"), ("e", "erase"), ("f", "fill"), ("z", "pan_zoom")):
            screen.viewer.layers.selection.active = layer
            screen.keys(screen.canvas, key)
            check(f"{key} with {layer.name} selected is {mode}", str(mask.mode) == mode)
            check(f"{key} is of the mask", str(slide.mode) == "pan_zoom")
    check("no layer moved", all(map(np.array_equal, before, _places(slide, mask))))
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
    screen.rest(1.5)  # the dock scrolls to the result when its areas are measured
    check("it is still said", dock.banner.text.startswith("Already segmented"))
    places = [w.mapTo(dock, QPoint(0, 0)) for w in (dock.run_panel.button, dock.model_choice)]
    dock.banner.hide()
    screen.rest(0.1)
    after = [w.mapTo(dock, QPoint(0, 0)) for w in (dock.run_panel.button, dock.model_choice)]
    check("the message moved no control", places == after)
    return "Already segmented"


def cam_over_the_mask(story: Story) -> str:
    """Show the CAM of a typed word: both it and the mask can be read; hide it again."""
    screen, dock = story.screen, story.dock
    fold, mask = dock.cams, story.view.layer
    before = mask.opacity, mask.contour, mask.visible
    screen.unfold(fold)
    screen.wait("models are listed", lambda: fold.panel.chosen_model is not None, 60)
    screen.type_into(fold.panel.what.lineEdit(), "hair follicle")
    screen.wait("it begins", lambda: fold.cam.layer is not None, 120)
    screen.wait("it ends", lambda: not fold.cam.is_running)
    layer = fold.cam.layer
    check("it is seen", layer.visible and layer.opacity > 0)
    check("it has the word", layer.name.startswith("hair follicle"))
    check("the mask steps back", (mask.opacity, mask.contour, mask.visible) != before)
    check("the mask can be seen", mask.visible and mask.opacity > 0)
    on_canvas = getattr(layer, "colorbar", None)  # napari 0.9 has it
    shown = fold.panel.values.isVisible() or (on_canvas is not None and on_canvas.visible)
    check("a bar shows the values", shown)
    screen.bring_into_sight(fold.panel.button)
    screen.picture("trust_cam")
    screen.press(fold.panel.hide_button)
    check("it is gone", fold.cam.layer is None and layer not in screen.viewer.layers)
    check("the mask is as before", (mask.opacity, mask.contour, mask.visible) == before)
    screen.press(fold.toggleButton())
    return layer.name


def export_twice(story: Story) -> str:
    """Export to files that exist: they are replaced after a question only."""
    screen, dock = story.screen, story.dock
    folder = story.folder / "twice"
    folder.mkdir()
    expected = Path(load_settings().export_folder or dock.slides.slide.path.parent)
    offered: list[tuple[str, str, str]] = []

    def choose(*arguments: Any) -> Any:
        offered.append(arguments[1:4])
        return str(folder / "twice"), ""

    with mock.patch.object(QFileDialog, "getSaveFileName", choose):
        screen.press(dock.results.export_buttons["csv"])
    file = folder / "twice.csv"
    screen.wait("it is written", lambda: file.exists() and not dock.tools.is_busy, 60)
    title, start, kinds = offered[0]
    check(f"a title for the format: {title}", title == "Export Areas CSV")
    check(f"only files of its type: {kinds}", kinds == "Areas CSV (*.csv)")
    check(f"in the last folder, else beside the slide: {start}", Path(start).parent == expected)
    file.write_text("mine")
    with mock.patch.object(QFileDialog, "getSaveFileName", choose), screen.refusing() as asked:
        screen.press(dock.results.export_buttons["csv"])
        screen.rest(0.5)
        check("the folder is remembered", Path(offered[1][1]).parent == folder)
        check("it was asked", len(asked) == 1)
        check("the file stays", file.read_text() == "mine")
        check("it is said", dock.banner.text == "Nothing was exported.")
        for number in (1, 2):
            with screen.answering(QFileDialog, "getExistingDirectory", str(folder)):
                screen.press(dock.results.export_buttons["all"])
            screen.wait("it is over", lambda: not dock.tools.is_busy, 60)
            check("All asks from the second time on", len(asked) == number)
        check("it names what exists", asked[1].count(", ") == 3)
        screen.press(dock.results.beside)
        path = dock.slides.slide.path
        stranger = path.with_name(f"{path.stem}.areas.csv")
        written = stranger.exists()
        screen.press(dock.results.export_buttons["csv"])
        screen.wait("it is over", lambda: not dock.tools.is_busy, 60)
        check("beside the slide without a question where", written or stranger.is_file())
        if not written:
            stranger.unlink()
        screen.press(dock.results.beside)
    screen.bring_into_sight(dock.results.beside)
    screen.picture("trust_exports")
    return asked[1]


def click_beside_the_slide(story: Story) -> str:
    """Click outside the slide: a message says what to do."""
    screen, review = story.screen, story.review
    screen.viewer.reset_view()
    screen.camera.zoom *= 0.6
    screen.rest(0.3)
    screen.unfold(review._folds[1])
    screen.press(review.prompts.controls.tools["point_in"])
    QTest.mouseClick(screen.canvas, Qt.MouseButton.LeftButton, pos=QPoint(12, 12))
    screen.rest(0.3)
    check("it says what to do", "outside the slide" in review.banner.text)
    check("it is no error", review.banner.kind == "info")
    screen.picture("trust_outside")
    said = review.banner.text
    screen.press(review.prompts.controls.tools["point_in"])  # deactivates it
    return said


TRUST_STEPS: dict[str, Callable[[Story], str]] = {
    "open": open_slide,
    "generate the view": generate_view,
    "keys move nothing": keys_move_nothing,
    "strokes reach the mask": strokes_reach_the_mask,
    "search follows the run": search_follows_the_run,
    "generate again": generate_again,
    "CAM over the mask": cam_over_the_mask,
    "export twice": export_twice,
    "edit the classes": class_edits,
    "click beside the slide": click_beside_the_slide,
    **TRUST_SLIDE_STEPS,
}
"""In the order in which they are played."""
