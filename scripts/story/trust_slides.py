"""Two slides with two masks each, layers deleted in mid-run, messages, and small screens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDockWidget,
    QFileDialog,
    QInputDialog,
    QMessageBox,
    QScrollArea,
    QWidget,
)
from story.on_the_slide import check
from story.trust_classes import export_everything
from tifffile import imwrite

from napari_plimseg._widgets.common.class_list import NAME
from napari_plimseg._widgets.docks import DOCKS
from napari_plimseg._widgets.review.correct.cleanup_panel import CleanupOperation
from napari_plimseg._widgets.viewer import RunOn, find_region_layer, mask_views
from napari_plimseg.slides import Region

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from story.on_the_slide import Story

_SIDE = 1000  # of the second slide, in pixels
_CLEFT = slice(400, 600)
_OTHER_MODEL = "bundled"
_SMALL_TILES = 0
_CM = 10_000  # micrometers


def two_slides(story: Story) -> str:
    """Open a second slide and give both two masks: each shows its own layers only."""
    screen, dock = story.screen, story.dock
    first, path = dock.slides.slide, _make_slide(story)
    _generate(story, _OTHER_MODEL)
    with screen.answering(QFileDialog, "getOpenFileName", (str(path), "")):
        screen.press(dock.slide_section.open_button)
    screen.wait("it is open", lambda: dock.slides.slide.path == path, 60)
    check("its pixel size is known", dock.slides.slide.mpp is not None)
    layer = story.slide_layer
    height = np.ptp(np.asarray(layer.extent.world)[:, -2]) * screen.camera.zoom
    width = np.ptp(np.asarray(layer.extent.world)[:, -1]) * screen.camera.zoom
    share = max(height / screen.canvas.height(), width / screen.canvas.width())
    check(f"it is fitted: {share:.2f}", 0.8 < share <= 1)
    check("nothing else is shown", _seen(story) == {layer.name})
    _generate(story, "bundled-tissue")
    _generate(story, _OTHER_MODEL)
    views = mask_views(screen.viewer)
    second = dock.slides.slide
    check(f"four masks, not {len(views)}", len(views) == 4)
    check("two of each", [v.slide is second for v in views].count(True) == 2)
    check("different names", len({view.layer.name for view in views}) == 4)
    for position, slide in enumerate((first, second)):
        screen.choose(dock.slide_section.combo, position)
        own = {view.layer.name for view in views if view.slide is slide}
        shown = _seen(story)
        check(f"one mask of {slide.name}", len(shown & own) == 1)
        check(f"only {slide.name}", shown <= own | {story.slide_layer.name})
        classes = story.view.info.classes.names
        listed = story.dock.class_list.table
        names = [listed.item(row, NAME).text() for row in range(listed.rowCount())]
        check(f"the list names the mask's classes, not {names}", tuple(names) == classes)
        model = story.view.info.model_name
        chosen = dock.model_choice.info
        check(f"the model is that of the mask: {model}", model in (chosen.name, chosen.title))
        check("scale bar", screen.viewer.scale_bar.visible)
        check("linear interpolation", str(story.slide_layer.interpolation2d) == "linear")
        screen.picture(f"trust_slide_{position + 1}")
        folder = export_everything(story, f"of {slide.path.stem}")
        other = second if slide is first else first
        texts = [(folder / f"{slide.path.stem}{end}").read_text("utf-8")
                 for end in (".geojson", ".areas.csv")]  # fmt: skip
        check("exports name their slide", slide.path.name in texts[1])
        check("and not the other", not any(other.path.name in text for text in texts))
    count = len(screen.viewer.layers)
    with screen.answering(QFileDialog, "getOpenFileName", (str(first.path), "")):
        screen.press(dock.slide_section.open_button)
    screen.wait("the open slide is selected", lambda: dock.slides.slide is first, 60)
    check("no layer more", len(screen.viewer.layers) == count)
    return f"{len(views)} masks, {count} layers"


def history(story: Story) -> str:
    """Open and delete results of a slide from the list; close the dock and open it again."""
    screen, dock = story.screen, story.dock
    box, shown = dock.slide_section.history, story.view
    box.menu_of_results.aboutToShow.emit()
    titles = [action.text() for action in box.menu_of_results.actions()]
    check(f"both results are listed: {titles}", len(titles) == 2)
    check("one is shown", [title.endswith("shown") for title in titles].count(True) == 1)
    other = next(a for a in box.menu_of_results.actions() if not a.text().endswith("shown"))
    other.menu().actions()[0].trigger()
    screen.wait("the other is shown", lambda: story.dock.view is not shown, 60)
    check("the first is hidden", not shown.layer.visible)
    masks, layers = len(mask_views(screen.viewer)), len(screen.viewer.layers)
    seen = _seen(story)
    frame = dock.parentWidget()
    while not isinstance(frame, QDockWidget):
        frame = frame.parentWidget()
    frame.destroyOnClose()
    screen.rest(0.5)
    again = story.dock
    check("it is another dock", again is not dock)
    screen.rest(1.0)
    check("no second mask", len(mask_views(screen.viewer)) == masks)
    check("no layer more", len(screen.viewer.layers) == layers)
    check("the same layers are seen", _seen(story) == seen)
    check("the same mask is shown", again.view.store.path != shown.store.path)
    check("the docks are tabs", again.height() > screen.size[1] / 2)
    screen.picture("trust_dock_again")
    box = again.slide_section.history
    box.menu_of_results.aboutToShow.emit()
    rest = next(a for a in box.menu_of_results.actions() if not a.text().endswith("shown"))
    path = shown.store.path
    with screen.answering(QMessageBox, "question", QMessageBox.StandardButton.Discard):
        rest.menu().actions()[-1].trigger()
    screen.rest(0.3)
    check("the result is deleted", not path.exists())
    check("its mask is gone", len(mask_views(screen.viewer)) == masks - 1)
    check("it is said", again.banner.text == f"Deleted {path.name}.")
    return again.banner.text


def deleted_in_mid_run(story: Story) -> str:
    """Delete the mask layer during a run: the run stops and says so."""
    screen, dock = story.screen, story.dock
    screen.choose(dock.model_choice, dock.model_choice.findData("bundled-tissue"))
    screen.choose(dock.settings_form.controls["tile_size"], _SMALL_TILES)
    screen.press(dock.run_on.buttons[RunOn.WHOLE])
    screen.press(dock.run_panel.button)
    controller = dock.controller
    screen.wait("it runs", lambda: controller.last_progress is not None)
    check("the main button says so", controller.is_running)
    layer = controller.last_view.layer
    screen.viewer.layers.remove(layer)
    screen.wait("the run ends", lambda: not controller.is_running, 60)
    check("it says why", f"'{layer.name}' was deleted" in dock.banner.text)
    check("the layer stays away", layer not in screen.viewer.layers)
    return dock.banner.text


def glass_is_no_tissue(story: Story) -> str:
    """Paint across a cleft of glass within tissue, and fill a hole that is glass."""
    screen, dock = story.screen, story.dock
    screen.choose(dock.slide_section.combo, 1)
    view, review = story.view, story.review
    controls, layer = review.correct.controls, view.layer
    screen.unfold(review._folds[0])
    scale = view.info.downsample * view.step
    low, high = (int(edge / scale) for edge in (_CLEFT.start, _CLEFT.stop))
    inner = slice(low + 6, high - 6)
    screen.press(controls.only_tissue)
    screen.wait("tissue is found", lambda: review.correct.painter.tissue is not None, 60)
    screen.press(controls.tools["brush"])
    controls.brush_size.setValue(30)
    QTest.keyClick(screen.canvas, "2" if layer.data[low - 20, low + 20] != 2 else "1")
    before, row = layer.data.copy(), (low + high) // 2
    screen.drag_over(layer, [(row, x) for x in range(12, high, 12)])
    check("tissue beside it is painted", (layer.data != before).any())
    check("glass is not", np.array_equal(layer.data[inner, inner], before[inner, inner]))
    painted = int(np.count_nonzero(layer.data != before))
    screen.picture("trust_glass")
    screen.press(controls.undo_button)
    screen.press(controls.only_tissue)
    screen.press(controls.tools["move"])
    screen.unfold(controls.cleanup_section)
    controls.cleanup.numbers[CleanupOperation.HOLES].setValue(1.0)
    before = layer.data.copy()
    screen.press(controls.cleanup.buttons[CleanupOperation.HOLES])
    screen.wait("holes are filled", lambda: not review.correct.is_working, 60)
    check("the cleft stays", np.array_equal(layer.data[inner, inner], before[inner, inner]))
    return f"{painted:,} px painted beside the cleft"


def draw_shows_its_layer(story: Story) -> str:
    """Hide the regions and press Draw: they are seen again, and a rectangle can be drawn."""
    screen, dock = story.screen, story.dock
    screen.press(dock.run_on.draw_button)
    regions = find_region_layer(screen.viewer, story.slide_layer)
    regions.visible = False
    screen.press(dock.run_on.draw_button)
    check("the layer is seen", regions.visible)
    check("it is selected", screen.viewer.layers.selection.active is regions)
    middle = QPoint(screen.canvas.width() // 2, screen.canvas.height() // 2)
    layer = story.view.layer
    y, x = layer.world_to_data(np.asarray(screen.camera.center)[-2:])
    screen.drag_over(layer, [(y, x), (y + 15, x + 15), (y + 30, x + 30)])
    check(f"a region is drawn at {middle}", len(regions.data) == 1)
    check("it says what to do", "Draw rectangles" in dock.banner.text)
    owner = regions.metadata
    check("the region is of this slide", dock.slides.slide in owner.values())
    return dock.banner.text


def true_messages(story: Story) -> str:
    """Type a class that is no tissue, and a folder of which all images are tagged with it."""
    screen, dock = story.screen, story.screen.dock("train")
    folder = story.folder / "only glass"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (96, 96), (236, 234, 238)).save(folder / f"{number}.png")
    with (
        screen.answering(QFileDialog, "getExistingDirectory", str(folder)),
        screen.answering(QInputDialog, "getText", ("tumour, glass", True)),
    ):
        screen.press(dock.folder_section.tag_button)
    gallery = dock.tagging.gallery
    check("glass is no class to tag", gallery.table.classes == ("tumour",))
    check("it is said", "'glass' is no tissue" in gallery.banner.text)
    said = gallery.banner.text
    screen.picture("trust_glass_tag", gallery)
    with screen.answering(QInputDialog, "getText", ("white", True)):
        QTest.mouseClick(gallery.buttons["tag_add_class"], Qt.MouseButton.LeftButton)
    check("nor is white", gallery.table.classes == ("tumour",))
    check("it is said, too", "'white' is no tissue" in gallery.banner.text)
    for _ in gallery.table.images:
        QTest.keyClick(gallery, "0")
        QTest.keyClick(gallery, Qt.Key.Key_Space)
    check("not: all are tagged", "0 of 3 have a tag" in gallery.banner.text)
    QTest.keyClick(gallery, Qt.Key.Key_Escape)
    screen.wait("the folder is looked through", lambda: not dock.state.checking, 60)
    text = dock.folder_section.problems.text()
    check("no heading without a problem", "Problems" not in text or "Error" in text)
    check("it can't be trained", bool(dock.state.why_not("start")))
    check("nothing to resume has no name", dock.state.resume_text == "Resume")
    check("a comparison that does not run has no Cancel", not dock.result.cancel_button.isVisible())
    return said


def fits_the_screen(story: Story) -> str:
    """See the main button of each dock, and walk through its controls with Tab."""
    screen = story.screen
    walked = []
    for key in ("main", *DOCKS):
        dock = story.dock if key == "main" else screen.dock(key)
        frame = dock.parentWidget()
        frame.raise_()
        screen.rest(0.3)
        button = _main_button(dock)
        check(f"the main button of {key} is seen", _is_seen_whole(button))
        for area in dock.findChildren(QScrollArea):
            if area.widget() is not None and area.isVisible():
                wide, needed = area.viewport().width(), area.widget().minimumSizeHint().width()
                check(f"{key} is cut off at the side: {wide} < {needed}", wide >= needed)
        check(f"{key} is in the window", dock.width() < screen.size[0] / 2)
        walked.append(f"{key} {_walk(story, dock)}")
        screen.picture(f"trust_dock_{key}")
    return f"controls by Tab: {', '.join(walked)}"


TRUST_SLIDE_STEPS: dict[str, Callable[[Story], str]] = {
    "two slides": two_slides,
    "history and docks": history,
    "delete in mid-run": deleted_in_mid_run,
    "glass is no tissue": glass_is_no_tissue,
    "draw shows its layer": draw_shows_its_layer,
    "true messages": true_messages,
    "fits the screen": fits_the_screen,
}
"""In the order in which they are played."""


def _make_slide(story: Story) -> Path:
    """Write a part of the slide with a cleft of glass in it."""
    slide = story.dock.slides.slide
    height, width = slide.levels[0].shape
    y, x = _tissue(story)
    top, left = (min(max(0, p - _SIDE // 2), s - _SIDE) for p, s in ((y, height), (x, width)))
    pixels = slide.read(Region(top, left, _SIDE, _SIDE), slide.mpp).copy()
    pixels[_CLEFT, _CLEFT] = 243
    path = story.folder / "cleft.tif"
    per_cm = _CM / slide.mpp
    imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def _tissue(story: Story) -> tuple[int, int]:
    """Return a level-0 place in the middle of the tissue."""
    view = story.view
    classes, mask = view.info.classes, view.layer.data
    tissue = (mask > 0) & (mask != (classes.background_id or 255)) & (mask < 255)
    ys, xs = np.nonzero(tissue)
    scale = view.info.downsample * view.step
    return int(np.median(ys) * scale), int(np.median(xs) * scale)


def _generate(story: Story, model: str) -> None:
    screen, dock = story.screen, story.dock
    screen.choose(dock.model_choice, dock.model_choice.findData(model))
    screen.press(dock.run_on.buttons[RunOn.VISIBLE])
    screen.press(dock.run_panel.button)
    screen.wait("the run ends", lambda: not dock.controller.is_running)
    check(f"it ends well, not: {dock.banner.text}", dock.banner.kind in ("good", "warning"))


def _seen(story: Story) -> set[str]:
    return {layer.name for layer in story.screen.viewer.layers if layer.visible}


def _main_button(dock: Any) -> QWidget:
    for name in ("run_panel.button", "panel.start_button", "run_button", "use_button"):
        found = dock
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    return dock.correct.controls.tools["brush"]


def _is_seen_whole(widget: QWidget) -> bool:
    window = widget.window()
    place = widget.mapTo(window, QPoint(0, 0))
    inside = window.rect().contains(widget.rect().translated(place))
    return bool(inside and widget.visibleRegion().boundingRect() == widget.rect())


_MOST_TABS = 150
_ROW = 40  # pixels; controls of a row may differ so much in height
_JUMPS_BACK = 2  # columns of a grid, and a part that does not scroll


def _walk(story: Story, dock: QWidget) -> int:
    """Press Tab through a dock; return how many controls it has."""
    screen, window = story.screen, dock.window()
    QApplication.setActiveWindow(window)  # no window manager does it on a virtual screen
    first = next(w for w in dock.findChildren(QAbstractButton) if w.isVisible() and w.isEnabled())
    first.setFocus(Qt.FocusReason.TabFocusReason)
    seen: list[QWidget] = []
    tops: list[int] = []
    for _ in range(_MOST_TABS):
        widget = QApplication.focusWidget()
        if widget is None or not dock.isAncestorOf(widget) or widget in seen:
            break
        check(f"{_name(widget)} is shown, not folded", widget.isVisible() and widget.height() > 4)
        check(f"{_name(widget)} is enabled", widget.isEnabled())
        seen.append(widget)
        tops.append(_top(widget))
        QTest.keyClick(widget, Qt.Key.Key_Tab)
        screen.rest(0.01)
    check(f"Tab leaves {type(dock).__name__}", len(seen) < _MOST_TABS)
    check(f"Tab reaches its controls, not only {len(seen)}", len(seen) > 1)
    back = [
        f"{_name(one)} -> {_name(two)}"
        for one, two, above, below in zip(seen, seen[1:], tops, tops[1:], strict=False)
        if below < above - _ROW
    ]
    check(f"Tab goes down, not {back}", len(back) <= _JUMPS_BACK)
    return len(seen)


def _top(widget: QWidget) -> int:
    """Return where a control is in the content that scrolls, or in its window."""
    above = widget
    while isinstance(above.parentWidget(), QWidget):
        above = above.parentWidget()
        if isinstance(above.parentWidget(), QWidget) and isinstance(
            above.parentWidget().parentWidget(), QScrollArea
        ):
            break
    return widget.mapTo(above, QPoint(0, 0)).y()


def _name(widget: QWidget) -> str:
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return f"{type(widget).__name__} '{text}'"
