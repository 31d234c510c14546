"""Opens the gallery on a folder of images, with the classes to tag."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QWidget

from napari_plimseg._widgets.tag_gallery import TagGallery
from napari_plimseg.errors import PlimsegError
from napari_plimseg.training_runs.tag_table import TagTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_plimseg.tissue import Color

_EXAMPLE = "tumour, stroma, lymphocytes"


class Tagging(QObject):
    """One gallery at a time.

    Parameters
    ----------
    dock : QWidget
        Parent of the windows.

    Attributes
    ----------
    told : Signal(str, str)
        A kind of banner and its sentence.
    tagged : Signal(object)
        The gallery was closed; the folder has a table of tags.
    """

    told = Signal(str, str)
    tagged = Signal(object)

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        self._dock = dock
        self.gallery: TagGallery | None = None

    def ask_folder(self, start: str, colors: Mapping[str, Color]) -> None:
        """Ask for a folder, for its classes where it has none yet, and open the gallery."""
        path = QFileDialog.getExistingDirectory(self._dock, "Folder of images to tag", start)
        if path:
            self.ask_classes(Path(path), colors)

    def ask_classes(self, folder: Path, colors: Mapping[str, Color]) -> None:
        """Ask for the classes of a folder that has none yet, and open the gallery."""
        try:
            has_classes = bool(TagTable(folder).classes)
        except PlimsegError as error:
            self.told.emit("error", str(error))
            return
        names: list[str] = []
        if not has_classes:
            text, accepted = QInputDialog.getText(
                self._dock,
                "Tissue classes",
                "Names of the tissue classes, separated by commas:",
                text=", ".join(colors) or _EXAMPLE,
            )
            if not accepted:
                return
            names = [name.strip() for name in text.split(",") if name.strip()]
        self.open(folder, names, colors)

    def open(
        self,
        folder: Path,
        classes: Sequence[str] = (),
        colors: Mapping[str, Color] | None = None,
    ) -> None:
        """Open the gallery; an open one comes to the front instead."""
        if self.gallery is not None:
            self.gallery.raise_()
            return
        try:
            table = TagTable(folder, classes)
        except PlimsegError as error:
            self.told.emit("error", str(error))
            return
        self.gallery = TagGallery(table, colors, self._dock)
        self.gallery.closed.connect(self._on_closed)
        self.gallery.show()

    def _on_closed(self) -> None:
        gallery, self.gallery = self.gallery, None
        if gallery is not None and gallery.table.path.is_file():
            self.tagged.emit(gallery.table.folder)
