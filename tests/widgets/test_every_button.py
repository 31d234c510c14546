"""Every control of every dock in every state: found in the tree of widgets, not from a list."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from qtpy.QtWidgets import QPushButton, QWidget

from napari_plimseg import models
from napari_plimseg._widgets.common.background_job import stop_jobs
from napari_plimseg._widgets.common.tooltips import TOOLTIPS
from napari_plimseg._widgets.generate import cam_jobs, cams
from napari_plimseg._widgets.review.inspect import uncertain_regions
from napari_plimseg.errors import ModelError
from napari_plimseg.inference.devices import ENGINE
from napari_plimseg.inference.promptable import proposals
from napari_plimseg.models.encoders.cards import WEIGHT_FILES
from napari_plimseg.settings import remember
from napari_plimseg.slides.slide import Region
from tests.support import widgets as fakes
from tests.support.buttons import alive, cancel_dialogs, controls, label, missing_words, press_all
from tests.support.cams import WORDS, Colors
from tests.support.library import CONFIG, QUILT, WEIGHTS, FakeRemote, own
from tests.support.masks import info_for
from tests.support.paths import ROOT
from tests.support.prompt_widgets import GatedModel, hint_info, offer_hints
from tests.support.stores import written_store
from tests.widgets.conftest import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_plimseg._widgets.batch.dock import BatchDock
    from napari_plimseg._widgets.generate.dock import PlimsegDock
    from napari_plimseg._widgets.model_manager.dock import ModelsDock
    from napari_plimseg._widgets.review.dock import ReviewDock
    from napari_plimseg._widgets.train.dock import TrainDock
    from napari_plimseg._widgets.viewer.mask_layer import MaskView
    from napari_plimseg.models.library import ModelEntry

pytestmark = pytest.mark.gui
WAIT = 60_000
PROGRAM = (sys.executable, str(ROOT / "tests" / "support" / "fake_training.py"))


class House:
    """One viewer in which docks are built, brought into a state and taken away again."""

    def __init__(
        self,
        viewer: Any,
        model: fakes.ColorModel,
        folder: Path,
        qtbot: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.viewer = viewer
        self.model = model
        self.qtbot = qtbot
        self.patch = monkeypatch
        self.stack = contextlib.ExitStack()
        self.hints = GatedModel()
        self._folder = folder
        self._number = 0

    @property
    def folder(self) -> Path:
        """A folder of the state's own."""
        folder = self._folder / str(self._number)
        folder.mkdir(exist_ok=True)
        return folder

    def wait(self, until: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(until, timeout=WAIT)

    def add(self, dock: Any) -> Any:
        self.viewer.window.add_dock_widget(dock, name="dock", area="right")
        return dock

    def add_slide(self, mpp: float | None = 0.5) -> fakes.ArraySlide:
        pixels = fakes.tissue_pixels(1200, 1600)
        slide = fakes.ArraySlide(self.folder / "slide.tif", pixels, mpp)
        self.viewer.add_image(
            [slide.pixels, slide.pixels[::4, ::4]], rgb=True, multiscale=True, name="slide",
            scale=(mpp or 1.0,) * 2, units=("um", "um") if mpp else ("px", "px"),
            metadata={"plimseg_slide": slide},
        )  # fmt: skip
        return slide

    def offer_hints(self, *infos: ModelEntry) -> None:
        """Let the catalogue offer a model for points and boxes."""
        offer_hints(self.patch, self.hints, *infos)

    def add_mask(self, *, mpp: float | None = 2.0, max_side: int = 16_384) -> MaskView:
        """Show a mask of two halves on a slide with two dark objects, one across all of it."""
        from napari_plimseg._widgets.viewer.mask_layer import MaskView

        mask = np.full((256, 240), 2, np.uint8)
        mask[:, 120:] = 3
        confidence = np.full(mask.shape, 250, np.uint8)
        confidence[20:60, 30:90] = 100
        info = info_for(mask, mpp=mpp, name="slide.tif")
        store = self.stack.enter_context(
            written_store(
                self.folder / f"{len(self.viewer.layers)}.plimseg", info, mask, confidence, 128
            )
        )
        pixels = np.full((1024, 960, 3), 200, np.uint8)
        pixels[100:200, 100:200] = pixels[600:700] = 40
        slide = fakes.ArraySlide(self.folder / "slide.tif", pixels, mpp)
        view = MaskView(
            self.viewer, slide, store, store.read_classes(), info.classes,
            slide_stem="slide", max_side=max_side,
        )  # fmt: skip
        self.viewer.reset_view()
        return view

    def close_gate(self) -> None:
        self.model.gate.clear()
        self.model.seen, self.model.tiles_before_gate = 0, 3

    def clear(self, dock: QWidget) -> None:
        """Take the dock away in mid-whatever, and wait for its threads and its training."""
        self.model.gate.set()
        self.hints.gate.set()
        process = getattr(dock, "process", None)
        gone: list[bool] = []
        if alive(dock):
            dock.destroyed.connect(lambda *_: gone.append(True))
            with contextlib.suppress(LookupError):
                self.viewer.window.remove_dock_widget(dock)
            dock.close()
            dock.deleteLater()
            self.wait(lambda: bool(gone))
        assert stop_jobs(PATIENCE), "a job does not end"
        assert process is None or process.stop_and_wait(PATIENCE)
        self.viewer.layers.clear()
        self.qtbot.wait(20)
        self.stack.close()
        self._number += 1
        self.patch.setenv("PLIMSEG_DATA_DIR", str(self.folder / "user"))
        self.patch.setenv("PLIMSEG_CACHE_DIR", str(self.folder / "cache"))
        assert not ENGINE.owner


@pytest.fixture
def house(
    make_napari_viewer_proxy: Callable,
    model: fakes.ColorModel,
    tmp_path: Path,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    cancel_dialogs(monkeypatch)
    monkeypatch.setenv("FAKE_TRAINING", "good")
    monkeypatch.setenv("PLIMSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(proposals, "propose_regions", lambda *_, **__: [])  # needs an encoder
    house = House(make_napari_viewer_proxy(), model, tmp_path, qtbot, monkeypatch)
    house.offer_hints()
    return house


def main_dock(house: House) -> PlimsegDock:
    from napari_plimseg._widgets.generate import dock as module

    house.patch.setattr(module, "open_dock", lambda *_: None)  # has a test of its own
    dock = house.add(module.PlimsegDock(house.viewer))
    dock.settings_form.controls["tile_size"].setCurrentIndex(0)
    dock.collapsible.open()
    return dock


def main_without_model(house: House) -> PlimsegDock:
    with house.patch.context() as patch:
        patch.setattr(models, "list_models", list)
        return main_dock(house)


def main_with_slide(house: House) -> PlimsegDock:
    dock = main_dock(house)
    house.add_slide()
    return dock


def main_without_mpp(house: House) -> PlimsegDock:
    dock = main_dock(house)
    house.add_slide(mpp=None)
    return dock


def main_while_a_batch_runs(house: House) -> PlimsegDock:
    dock = main_with_slide(house)
    house.stack.enter_context(ENGINE.held_by("the batch"))
    dock.engine.look()
    assert "wait for the batch" in dock.run_panel.button.toolTip()
    return dock


def main_running(house: House) -> PlimsegDock:
    dock = main_with_slide(house)
    house.close_gate()
    dock.start()
    house.wait(lambda: getattr(dock.controller.last_progress, "tiles_done", 0) >= 1)
    return dock


def main_stopping(house: House) -> PlimsegDock:
    dock = main_running(house)
    dock.cancel()
    return dock


def main_failed(house: House) -> PlimsegDock:
    def refuse(*_: Any, **__: Any) -> None:
        raise ModelError("the model is broken", remedy="Choose another one.")

    dock = main_with_slide(house)
    with house.patch.context() as patch:
        patch.setattr(models, "load_model", refuse)
        dock.controller.keeper.forget()  # it was loaded when the slide opened
        dock.start()
        house.wait(lambda: dock.banner.kind == "error")
    return dock


def main_finished(house: House) -> PlimsegDock:
    dock = main_with_slide(house)
    with house.qtbot.waitSignal(dock.tools.measured, timeout=WAIT):
        dock.start()
    dock.view.layer.data_setitem((np.array([5]), np.array([5])), np.array([2], np.uint8))
    house.wait(lambda: dock.results.corrections_row.discard.isEnabled())
    with house.qtbot.waitSignal(dock.tools.exported, timeout=WAIT):
        dock.tools.export("csv", house.folder / "areas.csv")
    house.wait(lambda: not dock.tools.is_busy)
    return dock


def main_with_cam(house: House) -> PlimsegDock:
    house.patch.setattr(cams, "find_cam_models", lambda: [WORDS])
    house.patch.setattr(cam_jobs.CamSources, "of", lambda self, model: Colors())
    dock = main_with_slide(house)
    dock.cams.expand(animate=False)
    house.wait(lambda: dock.cams.panel.model.count() == 1)
    dock.cams.panel.what.setEditText("gland")
    dock.cams.show_cam()
    house.wait(lambda: not dock.cams.cam.is_running)
    return dock


def main_edited(house: House) -> PlimsegDock:
    dock = main_finished(house)
    dock.view.edit_classes(dock.view.edits.renamed("purple", "tumor"))
    assert dock.class_list.change_button.isVisibleTo(dock)
    return dock


def main_closing(house: House) -> PlimsegDock:
    dock = main_running(house)
    house.viewer.window.remove_dock_widget(dock)
    return dock


def review_dock(house: House) -> ReviewDock:
    from napari_plimseg._widgets.review.dock import ReviewDock

    return house.add(ReviewDock(house.viewer))


def review_with_mask(house: House) -> ReviewDock:
    house.add_mask()
    dock = review_dock(house)
    dock.inspect.review.search()
    house.wait(lambda: dock.inspect.review.regions is not None)
    return dock


def review_first_class(house: House) -> ReviewDock:
    return review_with_class(house, 0)


def review_second_class(house: House) -> ReviewDock:
    return review_with_class(house, 1)


def review_class_to_delete(house: House) -> ReviewDock:
    return review_with_class(house, 1)


def review_with_class(house: House, row: int) -> ReviewDock:
    dock = review_with_mask(house)
    dock.class_editor.table.setCurrentCell(row, 1)
    return dock


def review_painted(house: House) -> ReviewDock:
    dock = review_with_mask(house)
    view = dock.inspect.view
    view.layer.data_setitem((np.array([5]), np.array([5])), np.array([1], np.uint8))
    dock.correct.refresh_state()
    dock.inspect.review.go_to_next()
    return dock


def review_hidden(house: House) -> ReviewDock:
    dock = review_painted(house)
    house.wait(lambda: bool(dock.inspect.view.corrected_pixels))
    dock.inspect.view.show_corrections(False)
    return dock


def review_compared(house: House) -> ReviewDock:
    dock = review_with_mask(house)
    other = house.viewer.add_labels(
        np.asarray(dock.inspect.view.layer.data).copy(), scale=dock.inspect.view.layer.scale,
        translate=dock.inspect.view.layer.translate, name="by hand",
    )  # fmt: skip
    with house.qtbot.waitSignal(dock.inspect.compare.compared, timeout=WAIT):
        dock.inspect.compare.compare_with_layer(other)
    house.wait(lambda: not dock.inspect.compare._job.is_running)
    dock.inspect.compare.mapping_box.expand(animate=False)
    return dock


def review_with_two(house: House) -> ReviewDock:
    house.add_mask()
    house.add_mask()
    return review_dock(house)


def review_coarse(house: House) -> ReviewDock:
    house.add_mask(max_side=64)
    return review_dock(house)


def review_region(house: House) -> ReviewDock:
    dock = review_coarse(house)
    dock.correct.open_region()
    assert dock.correct.controls.done_button.isVisibleTo(dock)
    return dock


def review_region_left(house: House) -> ReviewDock:
    return review_region(house)


def review_exported(house: House) -> ReviewDock:
    from napari_plimseg._reader import MASK_KEY

    mask = np.full((100, 100), 2, np.uint8)
    house.viewer.add_labels(mask, name="exported", metadata={MASK_KEY: info_for(mask)})
    dock = review_dock(house)
    assert "Open it first" in dock.prompts.controls.accept_button.toolTip()
    return dock


def review_searching(house: House) -> ReviewDock:
    house.add_mask()
    dock = review_dock(house)
    with house.patch.context() as patch:
        patch.setattr(uncertain_regions, "find_uncertain", lambda *_, **__: _waiting(house))
        dock.inspect.review.search()
    assert dock.inspect.review._search.is_running
    return dock


def review_comparing(house: House) -> ReviewDock:
    dock = review_compared(house)
    dock.inspect.compare._job.start(lambda: _waiting(house))
    dock.inspect.compare._show_state()
    assert dock.inspect.compare.cancel_button.isVisibleTo(dock)
    return dock


def review_compare_failed(house: House) -> ReviewDock:
    dock = review_with_mask(house)
    dock.inspect.compare.compare_with_file(house.folder / "none.tif")
    house.wait(lambda: dock.banner.kind == "error" and not dock.inspect.compare._job.is_running)
    return dock


def _waiting(house: House) -> Iterator[None]:
    house.hints.gate.clear()
    assert house.hints.gate.wait(PATIENCE), "nobody opened the gate"
    yield from ()


def hinting(house: House, **mask: Any) -> ReviewDock:
    house.add_mask(**mask)
    dock = review_dock(house)
    dock.correct.choose_class(1)
    dock._folds[1].open()
    dock.prompts.choose_tool("box")
    return dock


def answered(house: House, dock: ReviewDock) -> ReviewDock:
    house.wait(lambda: not dock.prompts.is_working)
    return dock


def prompts_with_proposal(house: House) -> ReviewDock:
    house.offer_hints(hint_info(), hint_info("trained"))
    dock = hinting(house)
    dock.prompts.add_box(Region(90.0, 90.0, 120.0, 120.0))
    answered(house, dock)
    assert len(dock.prompts.state.answers) == 1
    return dock


def prompts_cut_off(house: House) -> ReviewDock:
    dock = hinting(house)
    dock.prompts.add_point(650, 480, positive=True)
    answered(house, dock)
    assert dock.prompts.controls.wider_button.isEnabled()
    return dock


def prompts_refining(house: House) -> ReviewDock:
    dock = hinting(house)
    dock.prompts.refine_region(200, 200)
    house.wait(lambda: bool(dock.prompts.state.answers) and not dock.prompts.is_working)
    assert dock.prompts.state.draft.start is not None
    return dock


def prompts_found(house: House) -> ReviewDock:
    dock = hinting(house)
    dock.inspect.view.layer.data[:] = 2
    dock.inspect.view.layer.data[20:50, 20:50] = dock.inspect.view.layer.data[150:175] = 1
    dock.prompts.find_all()
    answered(house, dock)
    assert len(dock.prompts.state.answers) == 2
    return dock


def prompts_one_by_one(house: House) -> ReviewDock:
    dock = prompts_found(house)
    dock.prompts.controls.one_by_one.setChecked(True)
    return dock


def prompts_looking(house: House) -> ReviewDock:
    dock = hinting(house)
    house.hints.gate.clear()
    dock.prompts.add_box(Region(90.0, 90.0, 120.0, 120.0))
    house.wait(lambda: "Encoding" in dock.prompts.controls.status.text())
    return dock


def prompts_failed(house: House) -> ReviewDock:
    dock = hinting(house)
    slide = dock.prompts.state.target.slide
    slide.broken = True
    dock.prompts.add_point(90, 90, positive=True)
    answered(house, dock)
    slide.broken = False
    assert dock.banner.kind == "error"
    return dock


def prompts_without_model(house: House) -> ReviewDock:
    with house.patch.context() as patch:
        offer_hints(patch, house.hints, hint_info(reason="It is not here."))
        return hinting(house)


def prompts_without_mpp(house: House) -> ReviewDock:
    dock = hinting(house, mpp=None)
    assert dock.prompts.controls.pixel_row.isVisibleTo(dock)
    dock.prompts.add_box(Region(90.0, 90.0, 120.0, 120.0))
    return answered(house, dock)


def prompts_closing(house: House) -> ReviewDock:
    dock = prompts_looking(house)
    house.viewer.window.remove_dock_widget(dock)
    return dock


def review_closing(house: House) -> ReviewDock:
    house.add_mask()
    dock = review_dock(house)
    dock.inspect.review.search()
    house.viewer.window.remove_dock_widget(dock)
    return dock


def train_dock(house: House) -> TrainDock:
    from napari_plimseg._widgets.train.dock import TrainDock

    dock = TrainDock(house.viewer)
    dock._program = PROGRAM
    dock.classes.open()
    dock.earlier_box.open()
    house.wait(lambda: not dock._look.is_running)
    return house.add(dock)


def train_with_slide(house: House) -> TrainDock:
    house.add_mask()
    return train_dock(house)


def train_ready(house: House) -> TrainDock:
    dock = train_dock(house)
    images = house.folder / "patches"
    images.mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), 40 * number, np.uint8)).save(images / f"{number}.png")
    dock.choose_folder(images)
    house.wait(lambda: not dock.state.checking)
    dock.folder_section.mpp_edit.setText("0.5")
    dock.folder_section.mpp_edit.editingFinished.emit()
    assert not dock.state.why_not("start")
    return dock


def train_wrong_folder(house: House) -> TrainDock:
    dock = train_dock(house)
    (house.folder / "empty").mkdir()
    dock.choose_folder(house.folder / "empty")
    house.wait(lambda: not dock.state.checking)
    return dock


def train_running(house: House) -> TrainDock:
    house.patch.setenv("FAKE_STEP", "0.2")
    dock = train_ready(house)
    dock.start()
    house.wait(lambda: bool(dock.process.history.losses))
    return dock


def train_stopping(house: House) -> TrainDock:
    dock = train_running(house)
    dock.stop()
    return dock


def _ended(house: House, dock: TrainDock) -> TrainDock:
    house.wait(lambda: not dock.process.state.is_alive and not dock._look.is_running)
    house.wait(lambda: not dock.keeper._timer.isActive() and not dock._look.is_running)
    return dock


def train_stopped(house: House) -> TrainDock:
    return _ended(house, train_stopping(house))


def train_failed(house: House) -> TrainDock:
    dock = train_ready(house)
    with house.patch.context() as patch:
        patch.setenv("FAKE_TRAINING", "refuses")
        dock.start()
    return _ended(house, dock)


def train_finished(house: House) -> TrainDock:
    (info,) = models.list_models()
    other = dataclasses.replace(info, name="other", title="Another model")
    house.patch.setattr(models, "list_models", lambda: [info, other])
    house.patch.setenv("FAKE_STEP", "0.01")
    house.add_slide()
    dock = train_ready(house)
    dock.start()
    _ended(house, dock)
    dock.process.listed_as = "color"
    dock.outcome.list_models()
    house.wait(lambda: dock.outcome.has("color"))
    dock.refresh_state()
    return dock


def train_closing(house: House) -> TrainDock:
    dock = train_running(house)
    house.viewer.window.remove_dock_widget(dock)
    return dock


def models_dock(house: House, remote: FakeRemote | None = None) -> ModelsDock:
    from napari_plimseg._widgets.model_manager.dock import ModelsDock
    from napari_plimseg.models.encoders.cards import CONFIG_FILE
    from napari_plimseg.models.library import ModelLibrary, models_folder

    if not (models_folder() / "glands.safetensors").exists():
        own(models_folder() / "glands.safetensors")
    files = {CONFIG_FILE: CONFIG, WEIGHT_FILES[1]: WEIGHTS}
    dock = ModelsDock(house.viewer, ModelLibrary(remote or FakeRemote(files)))
    house.patch.setattr(dock, "ask", lambda *_: True)
    return house.add(dock)


def models_listed(house: House, key: str = "bundled") -> ModelsDock:
    dock = models_dock(house)
    house.wait(lambda: not dock._job.is_running)
    assert dock.select(key)
    return dock


def models_own(house: House) -> ModelsDock:
    from napari_plimseg._widgets.docks import open_main_dock

    open_main_dock(house.viewer)
    return models_listed(house, "glands")


def models_downloading(house: House) -> ModelsDock:
    from napari_plimseg.models.encoders.cards import CONFIG_FILE

    remote = FakeRemote({CONFIG_FILE: CONFIG, WEIGHT_FILES[1]: WEIGHTS})
    gate, read = threading.Event(), remote.read
    house.stack.callback(gate.set)

    def slow(file: Any, start: int) -> Iterator[bytes]:
        for i, chunk in enumerate(read(file, start)):
            if i >= 300:
                gate.wait(0.2)
            yield chunk

    house.patch.setattr("napari_plimseg.models.downloads._REPORT_BYTES", 1000)
    house.patch.setattr(remote, "read", slow)
    dock = models_dock(house, remote)
    house.wait(lambda: not dock._job.is_running)
    dock.select(QUILT)
    dock.download()
    house.wait(lambda: dock.bar.value() > 200)
    return dock


def models_downloaded(house: House) -> ModelsDock:
    dock = models_listed(house, QUILT)
    dock.download()
    house.wait(lambda: not dock._job.is_running)
    return dock


def models_offline(house: House) -> ModelsDock:
    remote = FakeRemote({})
    remote.offline = True
    dock = models_dock(house, remote)
    house.wait(lambda: not dock._job.is_running)
    dock.select(QUILT)
    dock.download()
    house.wait(lambda: dock.banner.kind == "error" and not dock._job.is_running)
    return dock


def models_closing(house: House) -> ModelsDock:
    dock = models_downloading(house)
    house.viewer.window.remove_dock_widget(dock)
    return dock


def batch_dock(house: House) -> BatchDock:
    from napari_plimseg._widgets.batch.dock import BatchDock

    remember("batch_folder", str(house.folder / "results"))
    remember("batch_formats", ["csv"])
    dock = BatchDock(house.viewer)
    dock.settings.open()
    house.wait(lambda: dock._cohort is not None)
    house.stack.callback(dock._cohort.close)
    return house.add(dock)


def batch_with_slides(house: House, mpp: float | None = 1.0) -> BatchDock:
    dock = batch_dock(house)
    for number in range(2):
        path = house.folder / f"s{number}.png"
        Image.fromarray(fakes.tissue_pixels(1000 + 4 * number, 1000)).save(path)
    dock.add(sorted(house.folder.glob("*.png")))
    house.wait(lambda: not dock._look_job.is_running)
    dock.table.selectAll()
    if mpp is not None:
        dock.mpp_edit.setText(str(mpp))
        dock.mpp_edit.editingFinished.emit()
    return dock


def batch_without_mpp(house: House) -> BatchDock:
    return batch_with_slides(house, None)


def batch_running(house: House) -> BatchDock:
    dock = batch_with_slides(house)
    house.close_gate()
    dock.start()
    house.wait(lambda: dock._cohort.items[0].tiles_done >= 1)
    return dock


def batch_without_model(house: House) -> BatchDock:
    with house.patch.context() as patch:
        patch.setattr(models, "list_models", list)
        return batch_with_slides(house)


def batch_while_a_mask_is_made(house: House) -> BatchDock:
    dock = batch_with_slides(house)
    house.stack.enter_context(ENGINE.held_by("the main dock"))
    dock.refresh_state()
    return dock


def batch_stopping(house: House) -> BatchDock:
    dock = batch_running(house)
    dock.stop()
    return dock


def batch_failed(house: House) -> BatchDock:
    dock = batch_with_slides(house)
    for path in house.folder.glob("*.png"):
        path.write_bytes(b"broken")
    dock.start()
    house.wait(lambda: not dock.is_running)
    return dock


def batch_finished(house: House) -> BatchDock:
    dock = batch_with_slides(house)
    dock.start()
    house.wait(lambda: not dock.is_running)
    dock.table.select(house.folder / "s0.png")
    house.patch.setattr(dock, "open_result", lambda: None)  # opens the main dock; tested elsewhere
    return dock


def batch_closing(house: House) -> BatchDock:
    dock = batch_running(house)
    house.viewer.window.remove_dock_widget(dock)
    return dock


def gallery(house: House, classes: tuple[str, ...] = ("tumour", "stroma")) -> QWidget:
    from napari_plimseg._widgets.train.tag_gallery import TagGallery
    from napari_plimseg.training_runs.tag_table import TagTable

    images = house.folder / "images"
    images.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 40, 3), 40 * number, np.uint8)).save(images / f"{number}.png")
    window = TagGallery(TagTable(images, list(classes)))
    window.show()
    return window


def gallery_without_classes(house: House) -> QWidget:
    return gallery(house, ())


def help_panel(house: House) -> QWidget:
    from napari_plimseg._widgets.common.help import HelpPanel

    panel = HelpPanel(house.add(QWidget()), lambda: ("It can't be read.", None, "cpu"))
    panel.show_help()
    return panel


FIRST = {
    review_first_class: "class_down",
    review_second_class: "class_up",
    review_class_to_delete: "class_delete",
    review_region_left: "CorrectControls.discard_button",
    prompts_with_proposal: "PromptControls.model",
    prompts_cut_off: "PromptControls.wider_button",
    prompts_found: "PromptControls.accept_button",
    prompts_one_by_one: "PromptControls.discard_button",
    main_with_cam: "CamPanel.hide_button",
}
"""What is pressed first in a state: other presses would end it."""

STATES: dict[str, tuple[Callable[[House], QWidget], ...]] = {
    "main": (
        main_dock, main_without_model, main_with_slide, main_without_mpp, main_while_a_batch_runs,
        main_running, main_stopping, main_failed, main_finished, main_with_cam, main_edited,
        main_closing,
    ),
    "review": (
        review_dock, review_with_mask, review_first_class, review_second_class,
        review_class_to_delete, review_painted, review_hidden, review_coarse, review_region,
        review_exported, review_with_two, review_searching, review_compared, review_comparing,
        review_compare_failed, review_region_left, prompts_with_proposal, prompts_cut_off,
        prompts_found, prompts_refining, prompts_one_by_one, prompts_looking, prompts_failed,
        prompts_without_model, prompts_without_mpp, prompts_closing, review_closing,
    ),
    "train": (
        train_dock, train_with_slide, train_wrong_folder, train_ready, train_running,
        train_stopping, train_stopped, train_failed, train_finished, train_closing,
    ),
    "models": (
        models_dock, models_listed, models_own, models_downloading, models_downloaded,
        models_offline, models_closing,
    ),
    "batch": (
        batch_dock, batch_without_model, batch_without_mpp, batch_with_slides,
        batch_while_a_mask_is_made, batch_running, batch_stopping,
        batch_failed, batch_finished, batch_closing,
    ),
    "windows": (gallery, gallery_without_classes, help_panel),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATES)
def test_everything_can_be_pressed_in_every_state(
    kind: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils.notifications import ErrorNotification, notification_manager

    notification_manager.records.clear()
    problems: list[str] = []
    found: set[str] = set()
    pressed: set[str] = set()
    for reach in STATES[kind]:
        dock = reach(house)
        problems += [f"{reach.__name__}: {what}" for what in missing_words(dock)]
        found |= {label(dock, control) for control in controls(dock)}
        pressed |= press_all(dock, FIRST.get(reach, ""))
        house.qtbot.wait(60)
        house.clear(dock)
    records = notification_manager.records
    problems += [f"raised: {r}" for r in records if isinstance(r, ErrorNotification)]
    problems += [f"never enabled: {name}" for name in sorted(found - pressed)]
    assert not problems, "\n".join(problems)


def test_what_is_wrong_is_found(qtbot: Any) -> None:
    dock = QWidget()
    qtbot.addWidget(dock)
    silent, dead, fine = (QPushButton(text, dock) for text in ("silent", "dead", "fine"))
    dead.setToolTip(TOOLTIPS["undo"])  # says what it does, not why it can't be used
    dead.setEnabled(False)
    fine.setToolTip(TOOLTIPS["redo"])
    assert [wrong.split(":")[0] for wrong in missing_words(dock)] == ["no tooltip", "no reason"]
    assert press_all(dock) == {label(dock, silent), label(dock, fine)}
    with qtbot.captureExceptions() as raised:
        fine.clicked.connect(lambda: 1 / 0)
        press_all(dock)
    assert [kind for kind, *_ in raised] == [ZeroDivisionError]
