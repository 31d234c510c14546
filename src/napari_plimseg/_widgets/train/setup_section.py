"""The setup of a training: name, backbone, effort, and the estimate of its duration."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    SPACING,
    TOOLTIPS,
    BackgroundJob,
    FlowText,
    OptionsForm,
    labeled,
    plain,
)
from napari_plimseg._widgets.generate import duration
from napari_plimseg.errors import PlimsegError
from napari_plimseg.models import CARDS, EncoderName

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from napari_plimseg._widgets.train.state import TrainDockState
    from napari_plimseg.models import EncoderCard
    from napari_plimseg.settings import TrainSettings
    from napari_plimseg.training_runs import TrainingPlan


_LABEL_WIDTH = 78


class BackboneChoice(QComboBox):
    """Chooses the image encoder that the model is built on.

    Encoders whose weights the user must provide ask for the file or folder when selected.

    Attributes
    ----------
    changed : Signal()
        The user chose another one.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        for card in CARDS:
            title = card.title if card.name.is_complete else f"{card.title}…"
            self.addItem(title, str(card.name))
            row = self.count() - 1
            self.setItemData(row, _describe(card), Qt.ItemDataRole.ToolTipRole)
        self._before = 0
        self.activated.connect(self._on_activated)
        self.set_enabled("")

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return str(self.currentData())

    def show_available(self, names: Collection[str]) -> None:
        """Enable the encoders of the hub that are on this computer, disable the others."""
        for row in range(self.count()):
            if self._name(row).is_on_hub:
                self.model().item(row).setEnabled(str(self._name(row)) in names)

    def set_enabled(self, why_not: str) -> None:
        """Allow changes, or say why not."""
        self.setEnabled(not why_not)
        self.setToolTip(plain(why_not or TOOLTIPS["train_backbone"]))

    def choose_place(self, row: int, path: str) -> None:
        """Use a file or folder as the weights of the encoder in a row."""
        title = f"{self.itemText(row).rstrip('…')} ({path.rsplit('/', 1)[-1]})"
        self.addItem(title, str(self._name(row).at(path)))
        self.setCurrentIndex(self.count() - 1)

    def _name(self, row: int) -> EncoderName:
        return EncoderName.parse(str(self.itemData(row)))

    def _on_activated(self, row: int) -> None:
        name = self._name(row)
        if not name.is_complete:
            ask = QFileDialog.getExistingDirectory
            title = f"Weights of {self.itemText(row).rstrip('…')}"
            if name.form.place == "FOLDER":
                path = ask(self, title)
            else:
                path, _ = QFileDialog.getOpenFileName(self, title)
            if not path:
                self.setCurrentIndex(self._before)
                return
            self.choose_place(row, path)
        self._before = self.currentIndex()
        self.changed.emit()


def _describe(card: EncoderCard) -> str:
    lines = [
        f"<b>{escape(card.title)}</b>",
        escape(card.architecture),
        f"License: {escape(card.license)}",
        f"Source: {escape(card.origin)}",
    ]
    if card.gated:
        lines.append("Gated: accept the authors' terms before downloading.")
    if not card.name.is_complete:
        lines.append("You will be asked for its weights.")
    elif card.name.is_on_hub:
        lines.append("Available once it is on this computer (dock Models).")
    return "<br>".join(lines)


class SetupSection(QWidget):
    """Name, backbone and options of a training.

    Parameters
    ----------
    settings : TrainSettings
        The choices of the last time.

    Attributes
    ----------
    changed : Signal()
        Name, backbone or effort was changed.
    keepOnChanged : Signal(bool)
        Whether training continues after napari is closed.
    """

    changed = Signal()
    keepOnChanged = Signal(bool)

    def __init__(self, settings: TrainSettings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name_edit = QLineEdit("my tissue")
        self.name_edit.setToolTip(TOOLTIPS["train_name"])
        self.name_edit.textChanged.connect(lambda _: self.changed.emit())
        self.backbone = BackboneChoice()
        self.backbone.changed.connect(self.changed)
        self.form = OptionsForm(settings, label_width=_LABEL_WIDTH)
        self.form.changed.connect(self._on_option)
        self.cost = FlowText()
        self._plan: TrainingPlan | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        for widget in (
            labeled("Name", self.name_edit, _LABEL_WIDTH),
            labeled("Backbone", self.backbone, _LABEL_WIDTH),
            self.form,
            self.cost,
        ):
            layout.addWidget(widget)
        self.show_plan(None)

    @property
    def effort(self) -> str:
        """The chosen effort."""
        return self.form.settings.effort

    @property
    def efforts(self) -> dict[str, QWidget]:
        """The buttons that choose the effort."""
        return self.form.buttons("effort")

    def show_state(self, state: TrainDockState) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        why_not = state.why_not("setup")
        self.name_edit.setEnabled(not why_not)
        self.name_edit.setToolTip(plain(why_not or TOOLTIPS["train_name"]))
        self.backbone.set_enabled(why_not)
        # read when napari closes, so it can be changed during a training
        self.form.set_enabled(why_not, always=("keep_on",))

    def show_plan(self, plan: TrainingPlan | None, text: str = "") -> None:
        """Show the estimated cost of the training, or `text` while it is unknown."""
        self._plan = plan
        self.cost.setText(text if plan is None else plan_line(plan, self.effort))
        self.cost.setVisible(bool(self.cost.text()))

    def _on_option(self, name: str) -> None:
        if name == "keep_on":
            self.keepOnChanged.emit(self.form.settings.keep_on)
            return
        if self._plan is not None:
            self.show_plan(self._plan)
        self.changed.emit()


_PLAN_AFTER_MS = 700


class PlanEstimate(QObject):
    """Estimates the duration of a training shortly after its setup was changed.

    Parameters
    ----------
    setup : SetupSection
        Shows the estimate.
    steps : callable
        Returns a generator like `jobs.make_plan`, None when there is nothing to train; may raise
        `PlimsegError`.
    """

    def __init__(
        self, setup: SetupSection, steps: Callable[[], Generator[Any, None, None] | None]
    ) -> None:
        super().__init__(setup)
        self._setup, self._steps = setup, steps
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_plan)
        self._job.failed.connect(lambda text: setup.show_plan(None, text))
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PLAN_AFTER_MS)
        self._timer.timeout.connect(self._begin)

    def schedule(self) -> None:
        """Start an estimate unless the setup changes again within a moment."""
        self._timer.start()

    def stop(self) -> None:
        """Cancel the estimate."""
        self._timer.stop()
        self._job.stop()

    def _begin(self) -> None:
        if self._job.is_running:
            self._timer.start()
            return
        try:
            steps = self._steps()
        except PlimsegError as error:
            self._setup.show_plan(None, str(error))
            return
        if steps is not None:
            self._setup.show_plan(None, "Estimating the duration…")
            self._job.start(lambda: steps)

    def _on_plan(self, plan: TrainingPlan | None) -> None:
        if plan is not None:
            self._setup.show_plan(plan)


def plan_line(plan: TrainingPlan, effort: str) -> str:
    """Return the estimate in one line: time, memory, device, and numbers of images."""
    parts = [
        f"Roughly {duration(plan.seconds.get(effort, 0.0))}",
        f"{plan.memory_mb / 1000:.1f} GB of memory",
        plan.device,
        f"{plan.training:,} training images",
    ]
    if plan.measured:
        parts.append(f"{plan.measured:,} validation images with masks")
    return " · ".join(parts)
