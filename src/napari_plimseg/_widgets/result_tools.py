"""Areas and exports of the mask that is shown, worked out in a thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog

from napari_plimseg._widgets.background_job import BackgroundJob
from napari_plimseg._widgets.exports import EVERYTHING, export_files, export_name, measure_areas
from napari_plimseg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plimseg._widgets.banner import Banner
    from napari_plimseg._widgets.exports import AreaRow
    from napari_plimseg._widgets.layer_views import MaskView
    from napari_plimseg._widgets.results_section import ResultsSection
    from napari_plimseg.slides.slide import Slide

_AREAS_AFTER_MS = 600


class ResultTools(QObject):
    """Keeps the areas up to date and writes exports.

    Parameters
    ----------
    parent : QObject
        The dock.
    section : ResultsSection
        Shows the areas and has the buttons.
    banner : Banner
        Tells what was written, or why not.
    current_slide : callable
        Returns the slide shown now.

    Attributes
    ----------
    changed : Signal()
        An export began or ended.
    exported : Signal(object)
        The list of written paths.
    measured : Signal()
        The areas are shown.
    folderChosen : Signal(str)
        The folder of the last export.
    """

    changed = Signal()
    exported = Signal(object)
    measured = Signal()
    folderChosen = Signal(str)

    def __init__(
        self,
        parent: QObject,
        section: ResultsSection,
        banner: Banner,
        current_slide: Callable[[], Slide | None],
    ) -> None:
        super().__init__(parent)
        self._section = section
        self._banner = banner
        self._current_slide = current_slide
        self._view: MaskView | None = None
        self._watched: Any = None
        self._written: list[Path] = []
        self._areas = BackgroundJob(self)
        self._areas.yielded.connect(self._on_areas)
        self._export = BackgroundJob(self)
        self._export.yielded.connect(self._on_written)
        self._export.failed.connect(lambda text: banner.tell("error", text))
        self._export.finished.connect(lambda _: self.changed.emit())
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AREAS_AFTER_MS)
        self._timer.timeout.connect(self._measure)
        section.exportRequested.connect(self.ask_and_export)
        section.openFolderRequested.connect(self.open_folder)

    @property
    def is_busy(self) -> bool:
        """Whether an export is being written."""
        return self._export.is_running

    def show_areas_of(self, view: MaskView | None, *, growing: bool) -> None:
        """Measure the mask shown now, and again after each stroke of the brush."""
        if view is not self._view:
            self._section.show_areas([], "")
            self._view = view
        if view is not None and view.layer is not self._watched:
            self._watched = view.layer
            view.layer.events.paint.connect(self._on_painted)
        if view is not None and not growing:
            self._timer.start()

    def _on_painted(self, event: Any = None) -> None:
        self._timer.start()

    def _measure(self) -> None:
        view = self._view
        if view is None:
            return
        if self._areas.is_running:
            self._timer.start()
            return
        mask, info, step = view.layer.data, view.info, view.step
        self._areas.start(lambda: measure_areas(mask, info, step))

    def _on_areas(self, found: tuple[list[AreaRow], str]) -> None:
        self._section.show_areas(*found)
        self.measured.emit()

    def ask_and_export(self, kind: str) -> None:
        """Ask where to, then export; `kind` is a key of `FORMATS` or "all"."""
        slide, view = self._current_slide(), self._view
        if slide is None or view is None:
            return
        folder = load_settings().export_folder or str(slide.path.parent)
        if kind == EVERYTHING:
            chosen = QFileDialog.getExistingDirectory(
                self._section, "Export everything into a folder", folder
            )
        else:
            chosen, _ = QFileDialog.getSaveFileName(
                self._section, "Export", str(Path(folder) / export_name(slide, kind))
            )
        if chosen:
            target = Path(chosen)
            self.folderChosen.emit(str(target if kind == EVERYTHING else target.parent))
            self.export(kind, target)

    def export(self, kind: str, target: Path) -> None:
        """Export what the mask layer shows now to a file, or to a folder when `kind` is "all"."""
        slide, view = self._current_slide(), self._view
        if slide is None or view is None or self.is_busy:
            return
        self._banner.tell("info", f"Writing {target.name}…")
        shown, info = view.layer.data, view.info
        self._export.start(lambda: export_files(kind, target, slide, view.full_mask(shown), info))
        self.changed.emit()

    def _on_written(self, paths: list[Path]) -> None:
        self._written = paths
        first, *others = (path.name for path in paths)
        stem = first.partition(".mask.")[0]
        also = "".join(f", {name.removeprefix(stem)}" for name in others)
        self._banner.tell("good", f"Exported {first}{also}.")
        self._section.show_exported(True)
        self.exported.emit(paths)

    def open_folder(self) -> None:
        """Show the exported files in the system's file manager."""
        if self._written:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._written[0].parent)))
