"""The first half of the story: open, generate, correct, judge, export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from scipy import ndimage
from story.screen import StoryError

from napari_plimseg._widgets.docks import main_dock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from story.screen import Screen

    from napari_plimseg._widgets.generate import PlimsegDock
    from napari_plimseg._widgets.review import ReviewDock
    from napari_plimseg._widgets.viewer import MaskView

_SAVED_WITHIN = 10.0  # seconds; two on a machine that does nothing else
_SMALL_TILES, _USUAL_TILES = 0, 1


class Story:
    """What the steps know of each other.

    Parameters
    ----------
    screen : Screen
    folder : Path
        Scratch; deleted at the end.
    slide : Path or None
        The sample slide when None.
    mpp : float or None
        Typed when the slide does not tell it.
    tiles : Path
        Folder with a sub-folder, or a picture, for each class of NCT-CRC-HE.
    """

    def __init__(
        self, screen: Screen, folder: Path, slide: Path | None, mpp: float | None, tiles: Path
    ) -> None:
        self.screen = screen
        self.folder = folder
        self.slide = slide
        self.mpp = mpp
        self.tiles = tiles
        self.tagged = folder / "tiles"
        self.exports = folder / "exports"
        self.model_name = ""
        self._number = 0

    @property
    def dock(self) -> PlimsegDock:
        """The dock PLIMSeg, in front."""
        return self.screen.main_dock()

    @property
    def review(self) -> ReviewDock:
        """The dock PLIMSeg Review, in front."""
        review: ReviewDock = self.screen.dock("review")
        return review

    @property
    def view(self) -> MaskView:
        """The mask of the slide."""
        dock = main_dock(self.screen.viewer)
        check("there is a mask", dock is not None and dock.view is not None)
        return dock.view

    @property
    def slide_layer(self) -> Any:
        """The layer of the slide."""
        dock = main_dock(self.screen.viewer)
        check("a slide is open", dock is not None and dock.slides.layer is not None)
        return dock.slides.layer

    def picture(self, name: str, of: Any = None) -> None:
        """Take the next picture."""
        self._number += 1
        self.screen.picture(f"{self._number:02d}_{name}", of)


def check(what: str, true: object) -> None:
    """Raise `StoryError` unless it is true."""
    if not true:
        raise StoryError(what)


def open_slide(story: Story) -> str:
    """Open the slide, and type its pixel size where the file does not tell it."""
    screen, dock = story.screen, story.dock
    screen.wait("devices are listed", lambda: dock.device.count() > 1)
    story.picture("start")
    screen.press(dock.first_run.button)
    section = dock.slide_section
    if story.slide is None:
        screen.press(section.sample_button)
    else:
        with screen.answering(QFileDialog, "getOpenFileName", (str(story.slide), "")):
            screen.press(section.open_button)
    screen.wait("the slide is in the viewer", lambda: dock.slides.slide is not None, 60)
    slide = dock.slides.slide
    if slide.mpp is None:
        check("the dock asks for the pixel size", section.mpp_row.isVisible())
        screen.type_into(section.mpp_edit, f"{story.mpp:g}")
    check("the pixel size is known", dock.slides.slide.mpp is not None)
    screen.viewer.reset_view()
    story.picture("opened")
    height, width = slide.levels[0].shape
    return f"{slide.name}, {width} x {height} px, {dock.slides.slide.mpp:.3f} um/px"


def generate_view(story: Story) -> str:
    """Generate on what the window shows."""
    screen, dock = story.screen, story.dock
    screen.look_closer(story.slide_layer, 4.0)
    screen.choose(dock.settings_form.controls["tile_size"], _SMALL_TILES)
    from napari_plimseg._widgets.viewer import RunOn

    screen.press(dock.run_on.buttons[RunOn.VISIBLE])
    _run(story, dock, "running")
    mask = story.view.layer.data
    part = np.count_nonzero(mask) / mask.size
    check(f"what was seen is computed, and not all: {part:.2f}", 0.05 < part < 0.9)
    return f"{dock.banner.text} {100 * part:.0f} % of the slide"


def generate_rest(story: Story) -> str:
    """Generate on the whole slide; what is done is not done again."""
    from napari_plimseg._widgets.viewer import RunOn

    screen, dock = story.screen, story.dock
    before = story.view.layer.data.copy()
    screen.choose(dock.settings_form.controls["tile_size"], _USUAL_TILES)
    screen.press(dock.run_on.buttons[RunOn.WHOLE])
    _run(story, dock, "")
    screen.viewer.reset_view()
    mask = story.view.layer.data
    there = before > 0
    check("the part that was there stays", np.array_equal(mask[there], before[there]))
    check("the rest is there now", np.count_nonzero(mask) > np.count_nonzero(before))
    screen.wait("areas are measured", lambda: dock.results.areas.rowCount() > 0)
    story.picture("generated")
    return f"{dock.banner.text} {dock.results.areas.rowCount()} classes"


def _run(story: Story, dock: PlimsegDock, picture: str) -> None:
    screen, controller = story.screen, dock.controller
    screen.press(dock.run_panel.button)
    check("it runs", controller.is_running)

    def shows_growth() -> bool:
        progress = controller.last_progress
        some = progress is not None and 3 * progress.tiles_done >= progress.tiles_total > 0
        return some or not controller.is_running

    if picture:
        screen.wait("a third of the tiles is done", shows_growth)
        story.picture(picture)
    screen.wait("the run ends", lambda: not controller.is_running)
    check(f"the dock says that it is done, not: {dock.banner.text}", dock.banner.kind == "good")
    check("the dock says how much was done", dock.banner.text.startswith("Done. "))


def correct_by_brush(story: Story) -> str:
    """Paint; the stroke is on the disk within seconds and the model's output stays."""
    screen, view, review = story.screen, story.view, story.review
    correct, layer = review.correct, view.layer
    screen.wait("the dock has the mask", lambda: correct.target is not None)
    before = layer.data.copy()
    screen.look_at_all(story.slide_layer, 2.5)
    y, x, mask_id = _middle_of_largest(story, before)
    other = 1 if mask_id != 1 else 2
    screen.press(correct.controls.tools["brush"])
    QTest.keyClick(screen.canvas, str(other))
    check("the number key chose the class", layer.selected_label == other)
    correct.controls.brush_size.setValue(24)
    screen.drag_over(layer, [(y + dy, x + dx) for dy, dx in _stroke(48)])
    painted = layer.data != before
    check("the brush painted", painted.sum() > 500 and (layer.data[painted] == other).all())
    corrections = view.corrections
    screen.wait(
        "it is saved",
        lambda: (
            correct.controls.saved_text.text() == "All corrections saved" and corrections.pixels
        ),
        _SAVED_WITHIN,
    )
    check("all of it is a correction", corrections.pixels == int(painted.sum()))
    journal = corrections.journal.folder
    check("the journal is on the disk", any(p.is_file() for p in journal.rglob("*")))
    check("the model's output stays", np.array_equal(view.store.read_classes(), before))
    story.picture("corrected")
    return f"{int(painted.sum()):,} pixels; {correct.controls.saved_text.text()}"


def relabel_region(story: Story) -> str:
    """Give a connected region another class by one click."""
    screen, view, review = story.screen, story.view, story.review
    correct, layer = review.correct, view.layer
    before = layer.data.copy()
    y, x, mask_id = _middle_of_largest(story, before)
    other = next(i for i in reversed(view.info.classes.tissue_ids) if i != mask_id)
    screen.press(correct.controls.chips.chips[other - 1].button)
    screen.press(correct.controls.tools["fill"])
    screen.click_on(layer, y, x)
    screen.wait(
        "the region is changed", lambda: layer.data[y, x] == other and not correct.is_working
    )
    regions, _ = ndimage.label(before == mask_id)
    region = regions == regions[y, x]
    check("the region changed, and nothing else", np.array_equal(layer.data != before, region))
    story.picture("relabelled")
    # a large edit is taken back in pieces
    screen.press(correct.controls.undo_button)
    screen.wait("undo brings it back", lambda: np.array_equal(layer.data, before))
    screen.press(correct.controls.redo_button)
    screen.wait("redo makes it again", lambda: np.array_equal(layer.data != before, region))
    QTest.keyClick(screen.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    screen.wait("Ctrl+Z brings it back too", lambda: np.array_equal(layer.data, before))
    screen.press(correct.controls.tools["move"])
    return f"{int(region.sum()):,} pixels, taken back, again, and back"


def outlines(story: Story) -> str:
    """Show lines in place of the fill, and the fill again by a key."""
    screen, view, judge = story.screen, story.view, story.review.inspect
    screen.press(judge.show_panel.outlines)
    check("the fill is gone", view.layer.opacity == 0)
    screen.rest(1.0)
    story.picture("outlines")
    QTest.keyClick(screen.canvas, "o")
    check("the key O brings the fill back", view.layer.opacity > 0)
    return ""


def next_uncertain(story: Story) -> str:
    """Go to the most uncertain region and tick it off."""
    from napari_plimseg.results import ReviewLog

    screen, view, judge = story.screen, story.view, story.review.inspect
    review, panel = judge.review, judge.worklist
    screen.wait("uncertain regions are found", lambda: review.regions)
    screen.press(panel.next_button)
    check("the first region is shown", review.position == 0)
    region = review.regions[0]
    centre = np.array([region.y + region.height / 2, region.x + region.width / 2])
    seen = np.asarray(view.layer.world_to_data(np.asarray(screen.camera.center)[-2:]))
    check("the window shows it", np.abs(seen - centre).max() < 3)
    story.picture("uncertain")
    screen.press(panel.reviewed_button)
    check("the next one is shown", review.position == 1)
    check("the review is on the disk", len(ReviewLog(view.store).regions) == 1)
    screen.wait("it is counted", lambda: review.share > 0)
    return f"{len(review.regions)} regions; {panel.status.text()}"


def compare_with_truth(story: Story) -> str:
    """Compare with a truth that differs in a known rectangle."""
    from PIL import Image

    screen, view, judge = story.screen, story.view, story.review.inspect
    screen.viewer.reset_view()
    truth = view.layer.data.copy()
    height, width = truth.shape
    part = truth[height // 3 : height // 2, width // 4 : width // 2]
    tissue = len(view.info.classes.tissue_ids)
    wrong = (part > 0) & (part <= tissue)
    part[wrong] = part[wrong] % tissue + 1  # the next class
    path = story.folder / "truth.png"
    Image.fromarray(truth).save(path)
    panel = judge.compare
    panel.menu.aboutToShow.emit()
    action = next(a for a in panel.menu.actions() if a.text() == "A file…")
    with screen.answering(QFileDialog, "getOpenFileName", (str(path), "")):
        action.trigger()
    screen.wait("they are compared", lambda: panel.shown is not None)
    scores = panel.shown.result.agreement
    counted = int(np.count_nonzero(truth))
    expected = 1 - wrong.sum() / counted
    check(
        f"{expected:.4f} of the pixels agree, not {scores.pixel_accuracy:.4f}",
        abs(scores.pixel_accuracy - expected) < 1e-3,
    )
    check("the table has a row a class", panel.table.rowCount() == len(np.unique(truth[truth > 0])))
    screen.wait("the table comes into sight", lambda: not panel.table.visibleRegion().isEmpty(), 30)
    story.picture("compared")
    screen.press(panel.close_button)
    return f"mIoU {100 * scores.miou:.1f}, Dice {100 * scores.mean_dice:.1f}"


def probability(story: Story) -> str:
    """Lay the probability of a class over the slide, and take it off."""
    screen, dock, view = story.screen, story.dock, story.view
    overlay = dock.results.overlay
    name = view.info.classes.names[0]
    screen.choose(overlay, overlay.findData(name))
    screen.wait("it is shown", lambda: dock.controller.overlay is not None)
    view.layer.visible = False
    screen.bring_into_sight(dock.results.areas)
    story.picture("probability")
    view.layer.visible = True
    screen.choose(overlay, overlay.findData(""))
    return name


def export(story: Story) -> str:
    """Export everything and read it back."""
    from napari_plimseg.results import read_label_tiff

    screen, dock, view = story.screen, story.dock, story.view
    story.exports.mkdir(exist_ok=True)
    with screen.answering(QFileDialog, "getExistingDirectory", str(story.exports)):
        screen.press(dock.results.export_buttons["all"])
    screen.wait("files are written", lambda: not dock.tools.is_busy)
    check(f"the dock says so, not: {dock.banner.text}", dock.banner.text.startswith("Exported "))
    written = {_ending(path): path for path in sorted(story.exports.iterdir())}
    check(
        "four files are there",
        set(written) == {".mask.ome.tif", ".geojson", ".areas.csv", ".overlay.png"},
    )
    ids, info = read_label_tiff(written[".mask.ome.tif"])
    check("the TIFF holds the corrected mask", np.array_equal(ids, view.layer.data))
    check("the TIFF knows the classes", info.classes.names == view.info.classes.names)
    outlines_of = json.loads(written[".geojson"].read_text("utf-8"))["features"]
    rows = written[".areas.csv"].read_text("utf-8").splitlines()
    check("there are outlines and areas", outlines_of and len(rows) > 3)
    screen.bring_into_sight(dock.results.folder_button)
    story.picture("exported")
    return f"{len(outlines_of)} outlines, {len(rows) - 1} rows of areas"


SLIDE_STEPS: dict[str, Callable[[Story], str]] = {
    "open": open_slide,
    "generate the view": generate_view,
    "generate the rest": generate_rest,
    "correct by brush": correct_by_brush,
    "relabel and undo": relabel_region,
    "outlines": outlines,
    "uncertain regions": next_uncertain,
    "compare with a truth": compare_with_truth,
    "probability": probability,
    "export": export,
}
"""In the order in which they are played."""


def _ending(path: Path) -> str:
    return path.name[path.name.index(".") :]


def _stroke(size: int) -> list[tuple[float, float]]:
    along = np.linspace(-size, size, 9)
    return [(12 * np.sin(step / size * 3), step) for step in along]


def _centre(story: Story) -> tuple[float, float]:
    world = np.asarray(story.screen.camera.center)[-2:]
    y, x = np.asarray(story.view.layer.world_to_data(world))
    return float(y), float(x)


def _middle_of_largest(
    story: Story, mask: NDArray[np.uint8], reach: int = 70
) -> tuple[int, int, int]:
    """Return a pixel deep inside a region of tissue in the middle, and its mask id."""
    near, tissue = _centre(story), story.view.info.classes.tissue_ids
    top, left = (max(0, int(c) - reach) for c in near)
    part = mask[top : int(near[0]) + reach, left : int(near[1]) + reach]
    best = (0.0, 0, 0, 0)
    for mask_id in np.intersect1d(part, tissue):
        depth = ndimage.distance_transform_edt(part == mask_id)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] > best[0]:
            best = (float(depth[y, x]), int(y) + top, int(x) + left, int(mask_id))
    check("there is a region in the window", best[0] > 0)
    return best[1:]
