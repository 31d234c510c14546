"""The second half of the story: tag, train, use, compare, batch, and the list of models."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox
from story.on_the_slide import check
from tifffile import imwrite

from napari_plimseg._widgets.train import TagGallery
from napari_plimseg.models import load_model_file, save_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from story.on_the_slide import Story

CLASSES = {
    "TUM": "tumour epithelium",
    "NORM": "normal mucosa",
    "STR": "stroma",
    "LYM": "lymphocytes",
    "ADI": "adipose",
}
"""Classes of NCT-CRC-HE and what the bundled model calls them."""
TILES_A_CLASS = 8
TILE_MPP = "0.5"
_MODEL = "story tissue"
_PICTURES = (".webp", ".tif", ".png")


def lay_out_tiles(source: Path, folder: Path) -> dict[str, str]:
    """Copy eight tiles a class under names that tell nothing; return the class of each.

    Where there is one tile a class only, it is turned and mirrored.
    """
    found: dict[str, list[Path]] = {}
    for key in CLASSES:
        places = [source / key] if (source / key).is_dir() else [source]
        files = [p for place in places for p in sorted(place.iterdir())]
        found[key] = [p for p in files if p.stem.startswith(key) and p.suffix in _PICTURES]
        check(f"there are tiles of {key} in {source}", found[key])
    folder.mkdir()
    truth: dict[str, str] = {}
    for number in range(TILES_A_CLASS):
        for key, files in found.items():
            picture = Image.open(files[number % len(files)]).convert("RGB")
            pixels = np.asarray(picture)
            turn = number // len(files)
            pixels = np.rot90(pixels[::-1] if turn >= 4 else pixels, turn)
            name = f"tile_{len(truth) + 1:02d}.png"
            Image.fromarray(pixels).save(folder / name)
            truth[name] = CLASSES[key]
    return truth


def tag_tiles(story: Story) -> str:
    """Tag forty tiles by keyboard."""
    screen = story.screen
    truth = lay_out_tiles(story.tiles, story.tagged)
    dock = screen.dock("train")
    with (
        screen.answering(QFileDialog, "getExistingDirectory", str(story.tagged)),
        screen.answering(QInputDialog, "getText", (", ".join(CLASSES.values()), True)),
    ):
        screen.press(dock.folder_section.tag_button)
    gallery = dock.tagging.gallery
    check("the gallery is open", gallery is not None and gallery.isVisible())
    keys = {name: str(number) for number, name in enumerate(gallery.table.classes, start=1)}
    for place, name in enumerate(gallery.table.images):
        check("the gallery shows the images in turn", gallery.current == name)
        QTest.keyClicks(gallery, keys[truth[name]])
        if place == 12:
            screen.rest(1.0)
            story.picture("tagging", gallery)
        QTest.keyClick(gallery, Qt.Key.Key_Space)
        screen.rest(0.01)
    check("the gallery says that all are tagged", gallery.banner.text.startswith("All images"))
    QTest.keyClick(gallery, Qt.Key.Key_Escape)
    check(
        "Escape closes the gallery", not any(w.isVisible() for w in dock.findChildren(TagGallery))
    )
    rows = (story.tagged / "tags.csv").read_text("utf-8").splitlines()
    names = rows[0].split(",")[1:]
    told = {r.split(",")[0]: names[r.split(",")[1:].index("1")] for r in rows[1:]}
    check("the table on the disk holds the tags", told == truth)
    screen.wait("the folder is looked through", lambda: dock.facts is not None)
    return f"{len(told)} tiles, {len(names)} classes"


def train(story: Story) -> str:
    """Train quickly on these tags and watch."""
    screen, dock = story.screen, story.screen.dock("train")
    facts = dock.facts
    check("the folder can be trained on", facts.usable)
    check("the tags are counted", set(facts.tags.values()) == {TILES_A_CLASS})
    if facts.mpp is None:
        screen.type_into(dock.folder_section.mpp_edit, TILE_MPP)
    screen.type_into(dock.setup.name_edit, _MODEL)
    screen.press(dock.setup.efforts["quick"])
    screen.wait("it says what it would take", lambda: dock.setup.cost.text().startswith("Roughly"))
    story.picture("training_set_up")
    cost = dock.setup.cost.text().split(" · ")[0]
    screen.press(dock.panel.start_button)
    check(f"it trains, not: {dock.banner.text}", dock.process is not None)
    process = dock.process

    def shows_masks() -> bool:
        history = process.history
        late = history.stage == "stage2" and history.epoch >= max(2, history.epochs - 1)
        return late or not process.state.is_alive

    screen.wait("it learns", shows_masks)
    if process.state.is_alive:
        dock.scroll_to_progress()
        story.picture("training")
    screen.wait("the training ends", lambda: not process.state.is_alive)
    check(f"it ends well, not: {dock.banner.text}", dock.banner.kind == "good")
    screen.wait("the model is in the list", lambda: dock.state.has_model)
    story.model_name = process.listed_as
    check("its report is there", process.files.report.is_file())
    screen.bring_into_sight(dock.result.use_button)
    story.picture("trained")
    return f"{dock.banner.text} It was to be: {cost}"


def use_new_model(story: Story) -> str:
    """Generate on what is seen with the new model; corrections stay on top."""
    from napari_plimseg._widgets.viewer import RunOn

    screen, old = story.screen, story.dock.view
    training = screen.dock("train")
    screen.press(training.result.use_button)
    dock = story.dock
    check("the main dock has the model", dock.model_choice.name == story.model_name)
    names = dock.class_list.classes.names
    check("and its classes", set(CLASSES.values()) <= set(names))
    screen.look_at_all(story.slide_layer, 4.0)
    screen.press(dock.run_on.buttons[RunOn.VISIBLE])
    screen.press(dock.run_panel.button)
    screen.wait("the run ends", lambda: not dock.controller.is_running)
    check(f"it ends well, not: {dock.banner.text}", dock.banner.text.startswith("Done. "))
    view = story.view
    check("the mask is another one", view is not old)
    check("it is the new model's", view.info.classes.names == names)
    computed = np.unique(view.layer.data)
    check("it has classes", len(computed[(computed > 0) & (computed < 255)]))
    check("the old result is still on the disk", old is None or old.store.path.is_dir())
    story.picture("new_model")
    return dock.banner.text


def compare_models(story: Story) -> str:
    """Show the new model and the bundled one on the slide side by side."""
    screen, dock = story.screen, story.screen.dock("train")
    result = dock.result
    screen.look_at_all(story.slide_layer, 5.0)
    screen.choose(result.other, result.other.findData("bundled"))
    screen.press(result.compare_button)
    screen.wait("the models are compared", lambda: not dock.outcome.is_comparing)
    check(f"it went well, not: {dock.banner.text}", dock.banner.kind != "error")
    check("the mask below is out of the way", not story.view.layer.visible)
    check("the table has rows", result.table.isVisible() and result.table.rowCount())
    for number in (2, 1, 0):
        screen.choose(result.shown, number)
        seen = [layer.name for layer in dock.outcome.layers.layers if layer.visible]
        check("one layer of the comparison is seen", len(seen) == 1)
    screen.bring_into_sight(result.shown)
    story.picture("models_compared")
    return result.stage.text()


def batch(story: Story) -> str:
    """Segment two slides, one of which does not tell its pixel size."""
    from napari_plimseg.inference import ItemState

    screen = story.screen
    folder = story.folder / "two slides"
    folder.mkdir()
    slide = story.dock.slides.slide
    shutil.copy(slide.path, folder / slide.path.name)
    from napari_plimseg.slides import Region

    height, width = slide.levels[0].shape
    crop = slide.read(Region(height // 4, width // 4, 900, 900), slide.mpp)
    imwrite(folder / "part of it.tif", crop, tile=(256, 256), photometric="rgb")
    dock = screen.dock("batch")
    screen.wait("the list is open", lambda: not dock.state.why_not("add"))
    screen.choose(dock.model_choice, dock.model_choice.findData("bundled"))
    with screen.answering(QFileDialog, "getExistingDirectory", str(folder)):
        dock.folder_action.trigger()
    screen.wait("both are listed", lambda: len(dock.state.items) == 2 and not dock.state.looking)
    asks = [item for item in dock.state.items if item.state is ItemState.NEEDS_MPP]
    check("one asks for its pixel size", any("part" in item.path.name for item in asks))
    for item in asks:
        dock.table.select(item.path)
        screen.rest(0.1)
        story.picture("batch")
        screen.type_into(dock.mpp_edit, f"{slide.mpp:g}")
    screen.press(dock.run_button)
    check("it runs", dock.is_running)
    screen.wait("it is well under way", lambda: dock.bar.value() > 200 or not dock.is_running)
    story.picture("batch_running", dock)
    screen.wait("the batch ends", lambda: not dock.is_running)
    states = [item.state for item in dock.state.items]
    check(f"both are done, not: {dock.banner.text}", states == [ItemState.DONE] * 2)
    missing = [
        f for item in dock.state.items for f in item.files if not (dock.folder / f).is_file()
    ]
    check(f"all exports are there, not without {missing}", not missing)
    check("there are exports", all(len(item.files) == 3 for item in dock.state.items))
    first = dock.state.items[0]
    dock.table.select(first.path)
    screen.rest(0.1)
    screen.press(dock.open_button)
    main = story.dock
    screen.rest(0.1)
    check("the slide is the one of the list", main.slides.slide.path == first.path)
    shown = lambda: main.view is not None and main.view.store.path == dock.folder / first.store  # noqa: E731
    screen.wait("the result is the one of the list", shown, 60)
    screen.dock("batch")
    story.picture("batch_done")
    return dock.banner.text


def models(story: Story) -> str:
    """Import a model file, look at it, use it, and remove it again."""
    screen, dock = story.screen, story.screen.dock("models")
    screen.wait("the models are listed", lambda: dock.entry is not None)
    check("the trained model is there", _titled(dock, _MODEL))
    mine = next(e for e in dock._entries.values() if e.title == _MODEL)
    check("its file is on the disk", mine.path is not None and mine.path.is_file())
    sent = story.folder / "from a colleague.safetensors"
    header, tensors = load_model_file(mine.path)
    save_model(sent, dataclasses.replace(header, title="tissue of a colleague"), tensors)
    with screen.answering(QFileDialog, "getOpenFileName", (str(sent), "")):
        dock.file_action.trigger()
    screen.wait("it is imported", lambda: dock.banner.kind in ("good", "error"))
    check(f"it went well, not: {dock.banner.text}", dock.banner.text.startswith("Imported as "))
    key = dock.banner.text.split("'")[1]
    screen.wait("it is selected", lambda: dock.entry is not None and dock.entry.key == key)
    check("it is not the one of before", key != mine.key)
    story.picture("models", dock)
    screen.press(dock.use_button)
    check(f"it is used, not: {dock.banner.text}", "is selected" in dock.banner.text)
    answer = QMessageBox.StandardButton.Yes
    with screen.answering(QMessageBox, "question", answer):
        screen.press(dock.remove_button)
    screen.wait(
        "it is removed", lambda: dock.banner.text == "Removed." and not dock._job.is_running
    )
    check("it is gone", key not in dock._entries)
    check("the trained model stays", _titled(dock, _MODEL))
    return f"{len(dock._entries)} models and encoders listed"


def _titled(dock: Any, title: str) -> bool:
    return any(entry.title == title for entry in dock._entries.values())


MODEL_STEPS: dict[str, Callable[[Story], str]] = {
    "tag by keyboard": tag_tiles,
    "train": train,
    "use the new model": use_new_model,
    "compare two models": compare_models,
    "batch": batch,
    "models": models,
}
"""In the order in which they are played."""
