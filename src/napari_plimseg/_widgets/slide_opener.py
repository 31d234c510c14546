"""Opens slides in the viewer: a file that people choose, or the sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_plimseg._reader import FILENAME_PATTERNS, read_slides
from napari_plimseg._sample_data import cmu_1_small_region
from napari_plimseg.errors import PlimsegError
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    from napari_plimseg._reader import LayerData

SLIDE_FILES = f"Slides and pictures ({' '.join(FILENAME_PATTERNS)});;All files (*)"


class SlideOpener(QObject):
    """Adds the layers of slides.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layers.
    dock : QWidget
        Parent of the dialog.

    Attributes
    ----------
    opened : Signal()
        The slide is in the viewer.
    failed : Signal(str)
        It can't be opened; the sentence says why.
    folderChosen : Signal(str)
        Where the file lies that was chosen in the dialog.
    """

    opened = Signal()
    failed = Signal(str)
    folderChosen = Signal(str)

    def __init__(self, viewer: Viewer, dock: QWidget) -> None:
        super().__init__(dock)
        self._viewer = viewer
        self._dock = dock

    def ask(self) -> None:
        """Ask for a file and open it."""
        start = load_settings().slide_folder
        path, _ = QFileDialog.getOpenFileName(self._dock, "Open slide", start, SLIDE_FILES)
        if path:
            self.folderChosen.emit(str(Path(path).parent))
            self.open(path)

    def open(self, path: str) -> None:
        """Open a slide file."""
        self._add_layers(lambda: read_slides(path))

    def open_sample(self) -> None:
        """Open the slide that comes with the plugin."""
        self._add_layers(cmu_1_small_region)

    def _add_layers(self, read: Callable[[], list[LayerData]]) -> None:
        # not through viewer.open: when a reader refuses, napari has a sentence of its own
        try:
            for data, facts, _ in read():
                self._viewer.add_image(data, **facts)
        except PlimsegError as error:
            self.failed.emit(str(error))
        else:
            self.opened.emit()
