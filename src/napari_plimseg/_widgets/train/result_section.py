"""The trained model: its scores, its use, and the comparison with another model."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg import models
from napari_plimseg._widgets.common import (
    TOOLTIPS,
    ActionButton,
    BackgroundJob,
    FlowText,
    Stage,
    plain,
    show_actions,
)
from napari_plimseg._widgets.docks import NOT_CHOSEN, open_main_dock
from napari_plimseg._widgets.train.model_comparison import (
    ComparedModels,
    ComparisonLayers,
    compare_steps,
)
from napari_plimseg._widgets.viewer import visible_region
from napari_plimseg.errors import PlimsegError
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.viewer import Viewer

    from napari_plimseg._widgets.train.state import TrainDockState
    from napari_plimseg._widgets.viewer import ViewerSlides
    from napari_plimseg.models import ModelEntry
    from napari_plimseg.training_runs import TrainingProcess


_ROW = 22


class ResultSection(QWidget):
    """Shows the result of a training and has the buttons to use it.

    Attributes
    ----------
    useRequested, reportRequested, compareRequested, cancelRequested : Signal()
        A button was pressed.
    shownChosen : Signal(int)
        0: the mask of the new model, 1: of the other one, 2: the differences.
    """

    useRequested = Signal()
    reportRequested = Signal()
    compareRequested = Signal()
    cancelRequested = Signal()
    shownChosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.scores = FlowText()
        self.scores.setTextFormat(Qt.TextFormat.RichText)
        self.use_button, self.report_button, self.compare_button, self.cancel_button = (
            ActionButton(text, control, TOOLTIPS[f"train_{control}"], signal.emit)
            for text, control, signal in (
                ("Use this model", "use", self.useRequested),
                ("Open report", "report", self.reportRequested),
                ("Compare with", "compare", self.compareRequested),
                ("Cancel", "cancel_compare", self.cancelRequested),
            )
        )
        self.other = QComboBox()
        self.other.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.other.setMinimumContentsLength(10)
        self.shown = QComboBox()
        self.shown.addItems(["Show the new model", "Show the other model", "Show differences"])
        self.shown.setToolTip(TOOLTIPS["train_shown"])
        self.shown.activated.connect(self.shownChosen)
        self.stage = FlowText()
        self.table = self._build_table()
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.use_button)
        first.addWidget(self.report_button)
        second.addWidget(self.compare_button)
        second.addWidget(self.other, 1)
        second.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.scores)
        layout.addLayout(first)
        layout.addLayout(second)
        layout.addWidget(self.stage)
        layout.addWidget(self.table)
        layout.addWidget(self.shown)
        self.stage.hide()
        self.shown.hide()
        self.table.hide()

    def _build_table(self) -> QTableWidget:
        table = QTableWidget(0, 4)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        table.setShowGrid(False)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        return table

    @property
    def other_model(self) -> str:
        """Name of the model to compare with."""
        return str(self.other.currentData() or "")

    def show_state(self, state: TrainDockState) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        show_actions(self, state)
        self.cancel_button.setVisible(state.comparing)
        if self.compare_button.isEnabled() and not self.other_model:
            self.compare_button.setEnabled(False)
            self.compare_button.setToolTip("There is no other model to compare with.")
        self.other.setToolTip(TOOLTIPS["train_other"])

    def show_scores(self, name: str, scores: dict[str, float]) -> None:
        """Show the scores of a model in percent."""
        listed = ", ".join(f"{title} {score:.1f} %" for title, score in scores.items())
        rest = listed or "no scores (validation images with expert masks are needed)"
        self.scores.setText(f"<b>{escape(name)}</b>: {escape(rest)}.")

    def show_models(self, infos: Sequence[ModelEntry], own: str) -> None:
        """List the models to compare with; the selected one stays selected."""
        chosen = self.other_model
        self.other.clear()
        titles = [info.title for info in infos]
        for info in infos:
            if info.available and info.name != own:
                text = info.title if titles.count(info.title) == 1 else info.name
                self.other.addItem(text, info.name)
        newest = [info.name for info in infos if info.available and info.name != own]
        wanted = chosen if chosen in newest else (newest[-1] if newest else "")
        self.other.setCurrentIndex(max(0, self.other.findData(wanted)))

    def show_stage(self, text: str) -> None:
        """Show what the comparison is doing."""
        self.stage.setText(text)
        self.stage.setVisible(bool(text))

    def show_comparison(self, found: ComparedModels | None) -> None:
        """Show how well two models agree; None hides the comparison."""
        self.table.setVisible(found is not None)
        self.shown.setVisible(found is not None)
        if found is None:
            return
        self.shown.setCurrentIndex(0)
        first, second = (part.title for part in found.parts)
        same = found.result.agreement.pixel_accuracy
        text = f"{first} and {second} agree on {100 * same:.0f} % of the pixels."
        if found.left_out:
            names = ", ".join(found.left_out)
            text += f" Not compared (only one has it): {names}."
        self.show_stage(text)
        self.table.setHorizontalHeaderLabels(["Class", "Overlap", "New", "Other"])
        for column, tip in enumerate(
            ("", "Intersection over union of both masks", f"Share of the compared area: {first}",
             f"Share of the compared area: {second}")
        ):  # fmt: skip
            heading = self.table.horizontalHeaderItem(column)
            if heading is not None:
                heading.setToolTip(plain(tip))
        rows = found.result.rows()
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            shares = (part / found.result.counted for part in (row.in_mask, row.in_other))
            cells = (row.name, *(f"{100 * part:.0f} %" for part in (row.iou, *shares)))
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                self.table.setItem(number, column, item)
        header = max(24, self.table.horizontalHeader().sizeHint().height())
        self.table.setFixedHeight(header + _ROW * min(len(rows), 12) + 6)


class TrainedModel(QObject):
    """Uses, reports and compares the model of the training that is shown.

    Parameters
    ----------
    section : ResultSection
        Has the buttons.
    viewer : napari.Viewer
        The layers of a comparison are added to it.
    slides : ViewerSlides
        Knows the slide to compare on.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message for the banner; an empty text hides it.
    changed : Signal()
        What can be used may have changed.
    listed : Signal(object)
        Names of the models on this computer.
    compared : Signal(object)
        The `ComparedModels` that is shown now.
    """

    messageEmitted = Signal(str, str)
    changed = Signal()
    listed = Signal(object)
    compared = Signal(object)

    def __init__(self, section: ResultSection, viewer: Viewer, slides: ViewerSlides) -> None:
        super().__init__(section)
        self._section = section
        self._viewer = viewer
        self._slides = slides
        self._process: TrainingProcess | None = None
        self._compared_on = slides.slide
        self._infos: list[ModelEntry] = []
        self.layers = ComparisonLayers(viewer)
        self._is_cancelled = False
        self._compare = BackgroundJob(self)
        self._compare.yielded.connect(self._on_compared)
        self._compare.failed.connect(self._on_failed)
        self._compare.finished.connect(self._on_finished)
        self._list = BackgroundJob(self)
        self._list.yielded.connect(self._on_listed)
        self._list.failed.connect(lambda text: self.messageEmitted.emit("error", text))
        section.useRequested.connect(self.use)
        section.reportRequested.connect(self.open_report)
        section.compareRequested.connect(self.compare)
        section.cancelRequested.connect(self.cancel)
        section.shownChosen.connect(self.layers.show_only)

    @property
    def is_comparing(self) -> bool:
        """Whether two models are being compared."""
        return self._compare.is_running

    def has(self, name: str) -> bool:
        """Whether a model of this name is in the library."""
        return bool(name) and any(info.name == name for info in self._infos)

    def show(self, process: TrainingProcess) -> None:
        """Switch to the model of another training."""
        self._process = process
        self._section.show_stage("")
        self._section.show_comparison(None)

    def list_models(self) -> None:
        """List the models on this computer again."""
        if not self._list.is_running:
            self._list.start(models.list_models)

    def _on_listed(self, infos: list[ModelEntry]) -> None:
        self._infos = infos
        own = "" if self._process is None else self._process.listed_as
        self._section.show_models(infos, own)
        self.listed.emit([info.name for info in infos if info.available])
        self.changed.emit()

    def use(self) -> None:
        """Choose the model in the main dock, which is opened if needed."""
        process = self._process
        if process is None or not self.has(process.listed_as):
            return
        if open_main_dock(self._viewer).choose_model(process.listed_as):
            self.messageEmitted.emit(
                "good", f"Model '{process.listed_as}' is selected in the PLIMSeg dock."
            )
        else:
            name = process.listed_as
            self.messageEmitted.emit("warning", NOT_CHOSEN.format(name=name))

    def open_report(self) -> None:
        """Open the report of the training that is shown."""
        process = self._process
        if process is not None and process.files.report.is_file():
            url = QUrl.fromLocalFile(str(process.files.report))
            if not QDesktopServices.openUrl(url):
                self.messageEmitted.emit("info", f"The report is {process.files.report}")

    def compare(self) -> None:
        """Run the model and the other one on the current view."""
        process, slide, layer = self._process, self._slides.slide, self._slides.layer
        other = self._section.other_model
        if process is None or slide is None or layer is None or not other or self.is_comparing:
            return
        try:
            region = visible_region(layer)
        except PlimsegError as error:
            self.messageEmitted.emit("error", str(error))
            return
        self.messageEmitted.emit("", "")
        self._is_cancelled = False
        self._compared_on = slide
        models = (process.listed_as, other)
        self._compare.start(lambda: compare_steps(slide, region, models, load_settings()))
        self.changed.emit()

    def cancel(self) -> None:
        """Stop the comparison after the current tiles."""
        self._is_cancelled = True
        self._compare.stop()
        self._section.show_stage("Stopping the comparison…")

    def _on_finished(self, _: bool) -> None:
        if self._is_cancelled:
            self._section.show_stage("Comparison cancelled.")
        self.changed.emit()

    def _on_compared(self, item: Stage | ComparedModels) -> None:
        if self._is_cancelled:
            return
        if isinstance(item, Stage):
            self._section.show_stage(item.text)
            return
        self._section.show_comparison(item)
        if self._compared_on is not None:
            self.layers.show(item, self._compared_on)
        self.compared.emit(item)

    def _on_failed(self, text: str) -> None:
        self._section.show_stage("")
        self.messageEmitted.emit("error", text)
