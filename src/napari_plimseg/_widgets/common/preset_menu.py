"""The button *Presets*: lists of tissue classes that come along, are saved, and are shared."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_plimseg._widgets.common.tooltips import TOOLTIPS, plain
from napari_plimseg.errors import PlimsegError
from napari_plimseg.files import user_data_dir
from napari_plimseg.tissue import PRESETS, TissueClasses

_FILTER = "Class presets (*.yaml *.yml)"


def presets_folder() -> Path:
    """Return the folder whose presets the menu lists; it may not exist yet."""
    return user_data_dir() / "presets"


class PresetMenu(QPushButton):
    """Loads and saves presets of classes.

    Attributes
    ----------
    presetChosen : Signal(object)
        The `TissueClasses` of a preset.
    saveRequested : Signal(str)
        Path of the file to write; answer with `save`.
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    """

    presetChosen = Signal(object)
    saveRequested = Signal(str)
    messageEmitted = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Presets", parent)
        self.setToolTip(TOOLTIPS["presets"])
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(self.list_presets)
        self.setMenu(self._menu)

    def list_presets(self) -> None:
        """List the presets that come along and those in the user's folder."""
        menu = self._menu
        menu.clear()
        for name, classes in PRESETS.items():
            menu.addAction(name).triggered.connect(
                lambda _=False, classes=classes: self.presetChosen.emit(classes)
            )
        found = sorted(presets_folder().glob("*.y*ml"))
        if found:
            menu.addSeparator()
        for path in found:
            menu.addAction(plain(path.stem).replace("&", "&&")).triggered.connect(
                lambda _=False, path=path: self.load(path)
            )
        menu.addSeparator()
        menu.addAction("Load from file…").triggered.connect(lambda: self.ask_and_load())
        menu.addAction("Save as…").triggered.connect(lambda: self.ask_and_save())

    def ask_and_load(self) -> None:
        """Ask for a preset and load it."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Load class preset", str(presets_folder()), _FILTER
        )
        if path:
            self.load(Path(path))

    def ask_and_save(self) -> None:
        """Ask for a file and request that the classes be saved there."""
        folder = presets_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path, _ = QFileDialog.getSaveFileName(
            self, "Save class preset", str(folder / "my classes.yaml"), _FILTER
        )
        if path:
            named = path if path.lower().endswith((".yaml", ".yml")) else f"{path}.yaml"
            self.saveRequested.emit(named)

    def load(self, path: Path) -> None:
        """Load a preset; a message says why that is not possible."""
        try:
            classes = TissueClasses.from_yaml(path)
        except PlimsegError as error:
            self.messageEmitted.emit("error", str(error))
        else:
            self.presetChosen.emit(classes)

    def save(self, classes: TissueClasses, path: Path) -> None:
        """Write classes to a file."""
        try:
            classes.to_yaml(path)
        except (OSError, PlimsegError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.messageEmitted.emit("error", f"{path.name} can't be written: {reason}")
        else:
            self.messageEmitted.emit("good", f"Saved {path.name}. Share the file with others.")
