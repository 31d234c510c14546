"""The choice of a model, with a description of it as tooltip."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox

from napari_plimseg._widgets.common.tooltips import TOOLTIPS, plain
from napari_plimseg.errors import PlimsegError

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_plimseg.models import ModelEntry
    from napari_plimseg.results import MaskInfo
    from napari_plimseg.tissue import TissueClasses


def describe_model(info: ModelEntry) -> str:
    """Return a tooltip: description, pixel size, license, source and file size of a model."""
    lines = [
        f"<b>{escape(info.title)}</b>",
        escape(info.description),
        f"Works at {info.mpp:g} µm/px",
        f"License: {escape(info.license)}",
        f"Source: {escape(info.source)}",
    ]
    if info.size_bytes:
        lines.append(f"Size: {info.size_bytes / 1e6:.0f} MB")
    if not info.available:
        lines.append(f"<b>Can't be used: {escape(info.reason)}</b>")
    return "<br>".join(lines)


@dataclass(frozen=True)
class MadeBy:
    """By which results of a model are known without loading it.

    Parameters
    ----------
    names : tuple of str
        Of the model.
    words : tuple
        Name and prompts of each class.
    changed : float
        When its file was changed, in seconds; older results are of another model.
    """

    names: tuple[str, ...]
    words: tuple[tuple[str, tuple[str, ...]], ...]
    changed: float


class ModelChoice(QComboBox):
    """Lists the models of the library.

    Attributes
    ----------
    changed : Signal()
        The user chose another model.
    """

    changed = Signal()

    def __init__(self, chosen: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self._infos: list[ModelEntry] = []
        self._error = ""
        self._fill(chosen)
        self.activated.connect(self._on_activated)

    def _fill(self, chosen: str) -> None:
        self.clear()
        self._infos, self._error = [], ""
        try:
            from napari_plimseg.models import list_models

            self._infos = list_models()
        except PlimsegError as error:
            self._error = str(error)
        for row, info in enumerate(self._infos):
            self.addItem(info.title, info.name)
            self.setItemData(row, describe_model(info), Qt.ItemDataRole.ToolTipRole)
            item = self.model().item(row)
            item.setEnabled(info.available)
        usable = [row for row, info in enumerate(self._infos) if info.available]
        wanted = self.findData(chosen)
        self.setCurrentIndex(wanted if wanted in usable else next(iter(usable), 0))
        self.set_enabled("")

    def reload(self) -> None:
        """List the models again, keeping the choice if that model still exists."""
        enabled, before = self.isEnabled(), self.name
        why_not = "" if enabled else self.toolTip()
        self._fill(before)
        self.set_enabled(why_not)
        if self.name != before:
            self.changed.emit()

    def choose(self, name: str) -> bool:
        """Choose a model by its name in the library; return whether it can be used."""
        row = self.findData(name)
        if row < 0 or not self._infos[row].available:
            return False
        if row != self.currentIndex():
            self.setCurrentIndex(row)
            self._on_activated(row)
        return True

    @property
    def info(self) -> ModelEntry | None:
        """The chosen model, None when no model is listed."""
        row = self.currentIndex()
        return self._infos[row] if 0 <= row < len(self._infos) else None

    @property
    def name(self) -> str:
        """Name of the chosen model in the library."""
        return "" if self.info is None else self.info.name

    @property
    def problem(self) -> str:
        """Why the chosen model can't be used; empty when it can."""
        info = self.info
        if info is None:
            return self._error or "No model found. Reinstall the plugin."
        return "" if info.available else info.reason

    def made_by(self, edited: TissueClasses | None) -> MadeBy | None:
        """Return by what results of the chosen model, with its classes or others, are known."""
        info = self.info
        if info is None:
            return None
        return MadeBy(
            names=(info.name, info.title),
            words=tuple((c.name, c.prompts) for c in edited or info.default_classes),
            changed=info.path.stat().st_mtime if info.path and info.path.exists() else 0.0,
        )

    def choose_model_of(self, made: MaskInfo) -> TissueClasses | None:
        """Choose the model that made a mask; return its classes, None when it is not installed."""
        for row, info in enumerate(self._infos):
            if made.model_name in (info.name, info.title):
                self.setCurrentIndex(row)
                self.set_enabled("")
                return info.default_classes
        return None

    def set_enabled(self, why_not: str) -> None:
        """Enable the choice, or show why it is disabled."""
        self.setEnabled(not why_not)
        info = self.info
        usual = TOOLTIPS["model"] if info is None else describe_model(info)  # escaped
        self.setToolTip(plain(why_not) or usual)

    def _on_activated(self, _: int) -> None:
        self.set_enabled("")
        self.changed.emit()
