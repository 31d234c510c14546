"""What can be done with a model once it is trained: use it, read its report, compare it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication

from napari_plimseg._widgets.background_job import BackgroundJob
from napari_plimseg._widgets.compare_models import ComparedModels, compare_steps
from napari_plimseg._widgets.regions import visible_region
from napari_plimseg._widgets.run_steps import Stage
from napari_plimseg._widgets.show_comparison import ComparisonLayers
from napari_plimseg._widgets.train_steps import find_models
from napari_plimseg.errors import PlimsegError
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_plimseg._widgets.train_parts import TrainParts
    from napari_plimseg._widgets.viewer_slides import ViewerSlides
    from napari_plimseg.models.library import ModelInfo
    from napari_plimseg.training_runs.process import TrainingProcess


class TrainedModel(QObject):
    """Acts on the model of the training that is shown.

    Parameters
    ----------
    dock : TrainParts
        Its result section has the buttons.
    viewer : napari.Viewer
        Gets the layers of comparisons.
    slides : ViewerSlides
        The slide to compare on.

    Attributes
    ----------
    told : Signal(str, str)
        A kind of banner and its sentence; no sentence hides the banner.
    changed : Signal()
        Something can be pressed that could not, or the other way round.
    listed : Signal(object)
        Names of the models that are on this computer.
    compared : Signal(object)
        A `ComparedModels` is shown.
    """

    told = Signal(str, str)
    changed = Signal()
    listed = Signal(object)
    compared = Signal(object)

    def __init__(self, dock: TrainParts, viewer: Viewer, slides: ViewerSlides) -> None:
        super().__init__(dock)
        self._dock = dock
        self._section = dock.result
        self._viewer = viewer
        self._slides = slides
        self._process: TrainingProcess | None = None
        self._infos: list[ModelInfo] = []
        self.layers = ComparisonLayers(viewer)
        self._compare = BackgroundJob(self)
        self._compare.yielded.connect(self._on_compared)
        self._compare.failed.connect(self._on_failed)
        self._compare.finished.connect(lambda _: self.changed.emit())
        self._list = BackgroundJob(self)
        self._list.yielded.connect(self._on_listed)
        self._list.failed.connect(lambda text: self.told.emit("error", text))
        section = self._section
        section.useRequested.connect(self.use)
        section.reportRequested.connect(self.open_report)
        section.compareRequested.connect(self.compare)
        section.shownChosen.connect(self.layers.show_only)

    @property
    def is_comparing(self) -> bool:
        """Whether two models are being compared."""
        return self._compare.is_running

    def has(self, name: str) -> bool:
        """Whether a model of that name is in the list of models."""
        return bool(name) and any(info.name == name for info in self._infos)

    def show(self, process: TrainingProcess) -> None:
        """Act on the model of another training from now on."""
        self._process = process
        self._section.show_stage("")
        self._section.show_comparison(None)

    def list_models(self) -> None:
        """Look which models there are now."""
        if not self._list.is_running:
            self._list.start(find_models)

    def _on_listed(self, infos: list[ModelInfo]) -> None:
        self._infos = infos
        own = "" if self._process is None else self._process.listed_as
        self._section.show_models(infos, own)
        self.listed.emit([info.name for info in infos if info.available])
        self.changed.emit()

    def use(self) -> None:
        """Choose the model in the dock that segments, and open that dock where there is none."""
        from napari_plimseg._widgets.main_dock import PlimsegDock

        process = self._process
        if process is None or not self.has(process.listed_as):
            return
        window = self._dock.window()
        docks = [w for w in QApplication.allWidgets() if isinstance(w, PlimsegDock)]
        mine = [dock for dock in docks if dock.window() is window]
        if not mine:
            dock = PlimsegDock(self._viewer)
            self._viewer.window.add_dock_widget(dock, name="PLIMSeg", area="right")
            mine = [dock]
        for dock in mine:
            dock.choose_model(process.listed_as)
        self.told.emit("good", f"The PLIMSeg dock uses '{process.listed_as}' now.")

    def open_report(self) -> None:
        """Open the report of the training that is shown."""
        process = self._process
        if process is not None and process.files.report.is_file():
            url = QUrl.fromLocalFile(str(process.files.report))
            if not QDesktopServices.openUrl(url):
                self.told.emit("info", f"The report is {process.files.report}")

    def compare(self) -> None:
        """Run the model and another one on what the window shows."""
        process, slide, layer = self._process, self._slides.slide, self._slides.layer
        other = self._section.other_model
        if process is None or slide is None or layer is None or not other or self.is_comparing:
            return
        try:
            region = visible_region(layer)
        except PlimsegError as error:
            self.told.emit("error", str(error))
            return
        self.told.emit("", "")
        models = (process.listed_as, other)
        self._compare.start(lambda: compare_steps(slide, region, models, load_settings()))
        self.changed.emit()

    def _on_compared(self, item: Stage | ComparedModels) -> None:
        if isinstance(item, Stage):
            self._section.show_stage(item.text)
            return
        slide = self._slides.slide
        self._section.show_comparison(item)
        if slide is not None and slide.mpp is not None:
            self.layers.show(item, slide.mpp)
        self.compared.emit(item)

    def _on_failed(self, text: str) -> None:
        self._section.show_stage("")
        self.told.emit("error", text)
