"""The lower part of the dock after a run: overlays, areas, exports, and stored results."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QSize, Qt, QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHeaderView,
    QMessageBox,
    QPushButton,
    QSlider,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import (
    EVERYTHING,
    TOOLTIPS,
    BackgroundJob,
    PlainLabel,
    ValueBar,
    allow,
    export_files,
    export_name,
    measure_areas,
    plain,
    run_once,
    swatch,
)
from napari_plimseg._widgets.generate.jobs import Opened, find_result
from napari_plimseg._widgets.viewer import (
    COLORMAPS,
    CONFIDENCE,
    CorrectionsRow,
    colors_of,
    describe_corrections,
)
from napari_plimseg.errors import PlimsegError, StoreError
from napari_plimseg.results import FORMATS, has_labels, write_labels
from napari_plimseg.settings import load_settings, remember, remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_plimseg._widgets.common import AreaRow, Banner
    from napari_plimseg._widgets.generate.run import RunController
    from napari_plimseg._widgets.generate.state import DockState
    from napari_plimseg._widgets.viewer import MaskView, ViewerSlides
    from napari_plimseg.results import MaskInfo, MaskStore
    from napari_plimseg.slides import Slide
    from napari_plimseg.tissue import TissueClasses


def export_choices() -> list[tuple[str, str, str]]:
    """Return key, button text and tooltip of every export, and of all of them at once."""
    rows = [(key, kind.title, kind.about) for key, kind in FORMATS.items()]
    return [*rows, (EVERYTHING, "All…", TOOLTIPS["export_all"])]


_ROW_HEIGHT = 20
_BESIDE = "export_beside_slide"


class ResultsSection(QWidget):
    """Shows overlays and areas of a mask and has the buttons that export it.

    Attributes
    ----------
    overlayChosen : Signal(str)
        "" for none, "confidence", or the name of a class.
    opacityChanged : Signal(float)
        0 to 1.
    colormapChosen : Signal(str)
        Name of a napari colormap.
    exportRequested : Signal(str)
        A key of `FORMATS`, or "all".
    labelsRequested : Signal()
        The mask is to be written into the slide.
    openFolderRequested : Signal()
        The user wants to see the folder of the exported files.
    reviewRequested : Signal()
        The user wants to correct and review the mask.
    """

    overlayChosen = Signal(str)
    opacityChanged = Signal(float)
    colormapChosen = Signal(str)
    exportRequested = Signal(str)
    labelsRequested = Signal()
    openFolderRequested = Signal()
    reviewRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: TissueClasses | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._build_overlay())
        self.areas = self._build_areas()
        layout.addWidget(self.areas)
        self.corrections_row = CorrectionsRow()
        layout.addWidget(self.corrections_row)
        layout.addWidget(self._build_exports())

    def _build_overlay(self) -> QWidget:
        self.overlay = QComboBox()
        self.overlay.setToolTip(TOOLTIPS["overlay"])
        self.overlay.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.overlay.setMinimumContentsLength(10)
        self.overlay.activated.connect(
            lambda _: self.overlayChosen.emit(str(self.overlay.currentData()))
        )
        self.colormap = QComboBox()
        self.colormap.addItems(COLORMAPS)
        self.colormap.setToolTip(TOOLTIPS["colormap"])
        self.colormap.textActivated.connect(self.colormapChosen)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(70)
        self.opacity.setToolTip(TOOLTIPS["opacity"])
        self.opacity.valueChanged.connect(lambda value: self.opacityChanged.emit(value / 100))
        row = QWidget()
        grid = QGridLayout(row)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.addWidget(PlainLabel("Show probability of"), 0, 0)
        grid.addWidget(self.overlay, 0, 1)
        grid.addWidget(self.colormap, 1, 0)
        grid.addWidget(self.opacity, 1, 1)
        self.values = ValueBar()
        grid.addWidget(self.values, 2, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        return row

    def _build_areas(self) -> QTableWidget:
        table = QTableWidget(0, 3)
        table.setToolTip(TOOLTIPS["areas"])
        table.verticalHeader().hide()
        table.verticalHeader().setMinimumSectionSize(_ROW_HEIGHT)
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.setIconSize(QSize(14, 14))
        table.setShowGrid(False)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        return table

    def _build_exports(self) -> QWidget:
        self.export_buttons: dict[str, QPushButton] = {}
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        self._export_tooltips: dict[str, str] = {}
        for number, (key, text, about) in enumerate(export_choices()):
            self._export_tooltips[key] = about
            button = QPushButton(text)
            button.clicked.connect(lambda _=False, key=key: self.exportRequested.emit(key))
            self.export_buttons[key] = button
            grid.addWidget(button, number // 2, number % 2)
        self.folder_button = QPushButton("Open folder")
        self.folder_button.clicked.connect(lambda: self.openFolderRequested.emit())
        row, column = divmod(len(self.export_buttons), 2)
        grid.addWidget(self.folder_button, row, column)
        self.show_exported(False)
        self.beside = QCheckBox("Save beside the slide")
        self.beside.setToolTip(TOOLTIPS["export_beside"])
        self.beside.setChecked(bool(remembered(_BESIDE, False)))
        self.beside.toggled.connect(lambda checked: remember(_BESIDE, checked))
        grid.addWidget(self.beside, row + 1, 0, 1, 2)
        self.labels_button = QPushButton("Labels into slide…")
        self.labels_button.setToolTip(TOOLTIPS["slide_labels"])
        self.labels_button.clicked.connect(lambda: self.labelsRequested.emit())
        self.labels_button.hide()
        grid.addWidget(self.labels_button, row + 2, 0, 1, 2)
        self.review_button = QPushButton("Correct and review…")
        self.review_button.setToolTip(TOOLTIPS["open_review"])
        self.review_button.clicked.connect(lambda: self.reviewRequested.emit())
        grid.addWidget(self.review_button, row + 3, 0, 1, 2)
        return box

    @property
    def overlay_choice(self) -> tuple[str, float, str]:
        """What the overlay shows ("" for nothing), its opacity from 0 to 1, and its colormap."""
        what = str(self.overlay.currentData() or "")
        return what, self.opacity.value() / 100, self.colormap.currentText()

    def show_exported(self, exported: bool) -> None:
        """Allow opening the folder once something was exported."""
        self.folder_button.setEnabled(exported)
        why_not = "" if exported else "Nothing has been exported yet."
        self.folder_button.setToolTip(plain(why_not or TOOLTIPS["open_folder"]))

    def show_state(self, state: DockState) -> None:
        """Enable what can be used now; the tooltips of the rest say why not."""
        why_not = state.why_not("overlay")
        for widget, name in (
            (self.overlay, "overlay"),
            (self.colormap, "colormap"),
            (self.opacity, "opacity"),
        ):
            widget.setEnabled(not why_not)
            widget.setToolTip(plain(why_not or TOOLTIPS[name]))
        model = self.overlay.model()
        no_class = state.why_not("class_overlay")
        for row in range(2, self.overlay.count()):
            item = model.item(row)
            item.setEnabled(not no_class)
            item.setToolTip(plain(no_class))
        why_not = state.why_not("export")
        for key, button in self.export_buttons.items():
            button.setEnabled(not why_not)
            button.setToolTip(plain(why_not or self._export_tooltips[key]))
        self.labels_button.setVisible(state.holds_labels)
        allow(self.labels_button, why_not, "slide_labels")

    def show_classes(self, classes: TissueClasses, shown: str) -> None:
        """List what an overlay can show and select `shown`."""
        if classes != self._classes:
            self._classes = classes
            self.overlay.clear()
            self.overlay.addItem("nothing", "")
            self.overlay.addItem("confidence (of the chosen class)", CONFIDENCE)
            for tissue_class in classes:
                self.overlay.addItem(
                    swatch(tissue_class.color), tissue_class.name, tissue_class.name
                )
        self.overlay.setCurrentIndex(max(0, self.overlay.findData(shown)))
        if not shown:
            self.values.show_colors(None)

    def show_areas(self, rows: Sequence[AreaRow], unit: str) -> None:
        """Show the area of each class.

        Parameters
        ----------
        rows : sequence of AreaRow
            In the order of the table.
        unit : str
            "mm²" or "px".
        """
        table = self.areas
        table.setHorizontalHeaderLabels(["Class", f"Area, {unit}", "% of tissue"])
        table.setRowCount(len(rows))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for number, row in enumerate(rows):
            table.setItem(number, 0, QTableWidgetItem(swatch(row.color), row.name))
            for column, text in ((1, row.area), (2, row.percent)):
                item = QTableWidgetItem(text)
                item.setTextAlignment(right)
                table.setItem(number, column, item)
        height = table.horizontalHeader().sizeHint().height() + len(rows) * _ROW_HEIGHT + 4
        table.setFixedHeight(height)
        table.setVisible(bool(rows))


def loaded_text(store: MaskStore) -> str:
    """Return which result was loaded, and how much of it is there, in one sentence."""
    made = datetime.fromisoformat(store.created)
    text = f"Loaded result of {made.day} {made:%b %Y} ({store.info.model_name})"
    done = store.done_fraction
    return f"{text}." if done == 1 else f"{text}: {100 * done:.0f} % of the slide is done."


def loaded_message(result: Opened, view: MaskView) -> tuple[str, str]:
    """Return kind and text of the message about a result that was loaded."""
    parts = [loaded_text(result.store), describe_corrections(view)]
    if result.damage:
        parts.append(f"Damaged: {result.damage.sentence}. Segment again to repair it.")
    parts.append(result.store.info.unlike)
    doubtful = view.note or result.damage or result.store.info.unlike
    return "warning" if doubtful else "info", " ".join(filter(None, parts))


class StoredResults(QObject):
    """Reads results of earlier runs from the disk, in the background.

    Attributes
    ----------
    found : Signal(object, object)
        A slide and an `Opened`: its newest result.
    opened : Signal(object, object)
        A slide and an `Opened`: the one that was asked for.
    failed : Signal(str)
        Why it can't be read.
    """

    found = Signal(object, object)
    opened = Signal(object, object)
    failed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._asked_for: Slide | None = None

    def look_up(self, slide: Slide, folder: Path) -> None:
        """Look for the newest result of a slide in a folder."""
        self._asked_for = None
        on_found = functools.partial(self._on_found, slide)
        run_once(self, lambda: find_result(slide, folder), on_found, self.failed.emit)

    def open(self, slide: Slide, path: Path) -> None:
        """Read one result of a slide."""
        self._asked_for = slide
        on_opened = functools.partial(self.opened.emit, slide)
        run_once(self, lambda: Opened.read(path), on_opened, self.failed.emit)

    def _on_found(self, slide: Slide, result: Opened | None) -> None:
        # a result that the user asked for in the meantime is preferred
        if result is not None and slide is not self._asked_for:
            self.found.emit(slide, result)


_AREAS_AFTER_MS = 600


class ResultTools(QObject):
    """Keeps the overlay and the areas up to date and writes exports.

    Parameters
    ----------
    section : ResultsSection
        Shows the areas and has the buttons.
    banner : Banner
        Shows what was written, or why not.
    controller : RunController
        Has the layers of masks and overlays.
    slides : ViewerSlides
        Knows the current slide.

    Attributes
    ----------
    changed : Signal()
        An export started or ended, or another overlay is shown.
    exported : Signal(object)
        The list of paths that were written.
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
        section: ResultsSection,
        banner: Banner,
        controller: RunController,
        slides: ViewerSlides,
    ) -> None:
        super().__init__(section)
        self._section = section
        self._banner = banner
        self._controller = controller
        self._slides = slides
        self._view: MaskView | None = None
        self._watched: Any = None
        self._written: list[Path] = []
        self._areas = BackgroundJob(self)
        self._areas.yielded.connect(self._on_areas)
        self._export = BackgroundJob(self)
        self._export.yielded.connect(self._on_written)
        self._export.failed.connect(lambda text: banner.show_message("error", text))
        self._export.finished.connect(lambda _: self.changed.emit())
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AREAS_AFTER_MS)
        self._timer.timeout.connect(self._measure)
        section.overlayChosen.connect(lambda _: self._show_overlay())
        section.colormapChosen.connect(lambda _: self._show_overlay())
        section.opacityChanged.connect(self._on_opacity)
        section.exportRequested.connect(self.ask_and_export)
        section.labelsRequested.connect(self.ask_and_write_labels)
        section.openFolderRequested.connect(self.open_folder)

    @property
    def is_busy(self) -> bool:
        """Whether an export is in progress."""
        return self._export.is_running

    def show_areas_of(self, view: MaskView | None) -> None:
        """Measure the current mask, and again after each brush stroke.

        While the mask is growing, no areas are shown: those of the part that was there before would
        still stand beside "Done".
        """
        is_growing = view is not None and view.is_growing
        if view is not self._view or is_growing:
            self._section.show_areas([], "")
            self._view = view
        if view is not None and view.layer is not self._watched:
            self._watched = view.layer
            view.layer.events.paint.connect(self._on_painted)
        if view is not None and not is_growing:
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
        if self._view is not None and self._view.is_growing:
            return
        self._section.show_areas(*found)
        self.measured.emit()

    def _show_overlay(self) -> None:
        slide = self._slides.slide
        if slide is not None:
            try:
                self._controller.set_overlay(slide, *self._section.overlay_choice)
            except StoreError as error:
                self._banner.show_message("error", str(error))
            overlay = self._controller.overlay
            self._section.values.show_colors(colors_of(overlay and overlay.layer))
            self.changed.emit()

    def _on_opacity(self, opacity: float) -> None:
        if self._controller.overlay is not None:
            self._controller.overlay.layer.opacity = opacity

    def ask_and_export(self, kind: str) -> None:
        """Ask for a file or folder and export to it; `kind` is a key of `FORMATS` or "all"."""
        slide, view = self._slides.slide, self._view
        if slide is None or view is None:
            return
        if not self._may_export(view):
            return
        target = self._ask_for_target(slide, kind)
        if target is not None and self._may_replace(slide, kind, target):
            self.export(kind, target)

    def _ask_for_target(self, slide: Slide, kind: str) -> Path | None:
        """Return where to export to, None when the user cancelled."""
        beside = self._section.beside.isChecked()
        folder = slide.path.parent if beside else Path(load_settings().export_folder or "")
        if not folder.is_dir() or folder == Path():
            folder = slide.path.parent
        if kind == EVERYTHING:
            if beside:
                return folder
            title = "Export all formats to a folder"
            chosen = QFileDialog.getExistingDirectory(self._section, title, str(folder))
        else:
            start = folder / export_name(slide, kind)
            if beside:
                return start
            # the question comes after the extension was added, which may lead to another file
            chosen, _ = QFileDialog.getSaveFileName(
                self._section,
                f"Export {FORMATS[kind].title}",
                str(start),
                f"{FORMATS[kind].title} (*{FORMATS[kind].extension})",
                "",
                QFileDialog.Option.DontConfirmOverwrite,
            )
        if not chosen:
            return None
        target = Path(chosen) if kind == EVERYTHING else FORMATS[kind].named(Path(chosen))
        self.folderChosen.emit(str(target if kind == EVERYTHING else target.parent))
        return target

    def _may_replace(self, slide: Slide, kind: str, target: Path) -> bool:
        """Ask before files are replaced; refuse to replace the slide."""
        files = [target]
        if kind == EVERYTHING:
            files = [target / export_name(slide, key) for key in FORMATS]
        taken = [path for path in files if path.exists()]
        if any(path.samefile(slide.path) for path in taken):
            self._banner.show_message("error", "That file is the slide. Choose another name.")
            return False
        if not taken:
            return True
        names = ", ".join(path.name for path in taken)
        them = "it" if len(taken) == 1 else "them"
        exist = "exists" if len(taken) == 1 else "exist"
        agreed = self._agreed("Replace files", f"{names} {exist} already. Replace {them}?")
        if not agreed:
            self._banner.show_message("info", "Nothing was exported.")
        return agreed

    def _agreed(self, title: str, question: str) -> bool:
        """Ask a question that is answered with yes or no."""
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        answer = QMessageBox.question(self._section, title, plain(question), yes | no, no)
        return bool(answer == yes)

    def _may_export(self, view: MaskView) -> bool:
        """Ask before a damaged mask is exported."""
        damage = view.store.found_damage
        if not damage:
            return True
        return self._agreed(
            "Damaged mask",
            f"Damaged: {damage.sentence}. Segment again to repair it. Export it as it is? "
            "Damaged parts are written as unreadable.",
        )

    @staticmethod
    def _described(view: MaskView) -> MaskInfo:
        """Return the description of a mask for exports, with what is damaged."""
        return replace(view.info, damage=view.store.found_damage.sentence)

    def ask_and_write_labels(self) -> None:
        """Write the mask as shown now into the OME-Zarr slide, after a confirmation."""
        slide, view = self._slides.slide, self._view
        if slide is None or view is None or self.is_busy:
            return
        if not self._may_export(view):
            return
        try:
            exist = has_labels(slide.path)
        except PlimsegError as error:
            self._banner.show_message("error", str(error))
            return
        what = "Replace its labels 'plimseg'" if exist else "Write the mask as labels 'plimseg'"
        where = "" if exist else " into it"
        question = f"{slide.name}: {what}{where}? The image and other labels are not changed."
        if not self._agreed("Labels into the slide", question):
            return
        self._banner.show_message("info", f"Writing labels into {slide.name}…")
        shown, info = view.layer.data, self._described(view)
        self._export.start(
            lambda: [write_labels(slide.path, view.full_mask(shown), info, replace=exist)]
        )
        self.changed.emit()

    def export(self, kind: str, target: Path) -> None:
        """Export the mask as shown now to a file, or to a folder when `kind` is "all"."""
        slide, view = self._slides.slide, self._view
        if slide is None or view is None or self.is_busy:
            return
        self._banner.show_message("info", f"Writing {target.name}…")
        shown, info = view.layer.data, self._described(view)
        self._export.start(lambda: export_files(kind, target, slide, view.full_mask(shown), info))
        self.changed.emit()

    def _on_written(self, paths: list[Path]) -> None:
        self._written = paths
        if paths[0].parent.name == "labels":
            self._banner.show_message("good", f"Wrote labels '{paths[0].name}' into the slide.")
            self._section.show_exported(True)
            self.exported.emit(paths)
            return
        first, *others = (path.name for path in paths)
        stem = first.partition(".mask.")[0]
        also = "".join(f", {name.removeprefix(stem)}" for name in others)
        self._banner.show_message("good", f"Exported {first}{also}.")
        self._section.show_exported(True)
        self.exported.emit(paths)

    def open_folder(self) -> None:
        """Show the exported files in the system's file manager."""
        if self._written:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._written[0].parent)))
