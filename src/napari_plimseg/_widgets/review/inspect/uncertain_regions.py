"""The list of uncertain regions of a mask, and which of them were reviewed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QBrush
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, BackgroundJob, FlowText, plain
from napari_plimseg._widgets.review.inspect.jobs import ShownMask, find_uncertain
from napari_plimseg._widgets.review.messages import MOVE_VIEW, OFF_VIEW
from napari_plimseg._widgets.viewer import CameraWatch, canvas_size, get_camera, show_world_box
from napari_plimseg.errors import PlimsegError
from napari_plimseg.results import ReviewedRegion, ReviewLog, analysis_step, reviewed_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import ClassChange, UncertainRegion


_ROW_HEIGHT = 20
_ROWS_SHOWN = 7
_MOST_ROWS = 200
DONE, RANK, SIZE, CONFIDENCE, CLASSES = range(5)


class WorklistPanel(QWidget):
    """Shows the list of uncertain regions and the buttons to go through it.

    Attributes
    ----------
    nextRequested, reviewedRequested, viewReviewedRequested, refreshRequested : Signal()
        A button was pressed.
    rowChosen : Signal(int)
        Position in the list of the row that was clicked.
    tickClicked : Signal(int)
        Position of the row whose check mark was clicked.
    """

    nextRequested = Signal()
    reviewedRequested = Signal()
    viewReviewedRequested = Signal()
    refreshRequested = Signal()
    rowChosen = Signal(int)
    tickClicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.next_button = _button("Next uncertain region", self.nextRequested)
        self.reviewed_button = _button("Mark as reviewed", self.reviewedRequested)
        self.view_button = _button("Mark view as reviewed", self.viewReviewedRequested)
        self.refresh_button = QToolButton()
        self.refresh_button.setText("↻")
        self.refresh_button.clicked.connect(lambda: self.refreshRequested.emit())
        self.status = FlowText()
        self.table = self._build_table()
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.next_button, 1)
        first.addWidget(self.refresh_button)
        second.addWidget(self.reviewed_button, 1)
        second.addWidget(self.view_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(first)
        column.addLayout(second)
        column.addWidget(self.status)
        column.addWidget(self.table)

    def _build_table(self) -> QTableWidget:
        table = QTableWidget(0, 5)
        table.setHorizontalHeaderLabels(["", "#", "mm²", "confidence", "classes"])
        table.setToolTip(TOOLTIPS["inspect_list"])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        table.verticalHeader().setMinimumSectionSize(_ROW_HEIGHT)
        table.setShowGrid(False)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setMinimumSectionSize(20)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        for column, width in ((DONE, 20), (RANK, 30), (SIZE, 48), (CONFIDENCE, 78)):
            table.setColumnWidth(column, width)
        header.setSectionResizeMode(CLASSES, QHeaderView.ResizeMode.Stretch)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        table.cellClicked.connect(self._on_clicked)
        return table

    def show_regions(self, regions: Sequence[UncertainRegion]) -> None:
        """Show the list; reviewed rows have a check mark and are pale."""
        table = self.table
        shown = regions[:_MOST_ROWS]
        table.setRowCount(len(shown))
        in_mm2 = all(region.area_mm2 is not None for region in shown)
        table.setHorizontalHeaderItem(SIZE, QTableWidgetItem("mm²" if in_mm2 else "px"))
        pale = table.palette().windowText().color()
        pale.setAlpha(110)
        for row, region in enumerate(shown):
            area = region.area_mm2
            for column, text in (
                (DONE, "✓" if region.reviewed else ""),
                (RANK, str(region.rank)),
                (SIZE, f"{region.pixels:,}" if area is None else f"{area:.3f}"),
                (CONFIDENCE, f"{100 * region.mean_confidence:.0f} %"),
                (CLASSES, " / ".join(region.classes)),
            ):
                item = QTableWidgetItem(text)
                if region.reviewed:
                    item.setForeground(QBrush(pale))
                if column == CLASSES:
                    item.setToolTip(plain(text))
                table.setItem(row, column, item)
        table.setVisible(bool(shown))
        rows = min(max(len(shown), 1), _ROWS_SHOWN)
        table.setFixedHeight(rows * _ROW_HEIGHT + table.horizontalHeader().sizeHint().height() + 6)

    def select(self, position: int | None) -> None:
        """Select the row of the region in view."""
        if position is None or position >= self.table.rowCount():
            self.table.clearSelection()
        else:
            self.table.selectRow(position)
            self.table.scrollTo(self.table.model().index(position, RANK))

    def set_enabled(
        self, next_problem: str, reviewed_problem: str, view_problem: str, search_problem: str
    ) -> None:
        """Enable the buttons, or show why they can't be used."""
        for button, tooltip, problem in (
            (self.next_button, "inspect_next", next_problem),
            (self.reviewed_button, "inspect_reviewed", reviewed_problem),
            (self.view_button, "inspect_reviewed_view", view_problem),
            (self.refresh_button, "inspect_refresh", search_problem),
        ):
            button.setEnabled(not problem)
            button.setToolTip(plain(problem or TOOLTIPS[tooltip]))

    def _on_clicked(self, row: int, column: int) -> None:
        (self.tickClicked if column == DONE else self.rowChosen).emit(row)


def _button(text: str, signal: Signal) -> QPushButton:
    button = QPushButton(text)
    button.clicked.connect(lambda: signal.emit())
    return button


FRAME_LAYER = "uncertain region"
GROWING = "The mask is being computed. The search starts when the run ends."
_FRAME_COLOR = "#ffe000"
_FRAME_SCREEN_PIXELS = 3
_ZOOM_CHANGE = 1.2  # the frame is redrawn when its thickness changed by this factor
_CONTEXT_UM = 400.0
_CONTEXT_PIXELS = 200.0


class Review(QObject):
    """The state behind `WorklistPanel`.

    Parameters
    ----------
    viewer : napari.Viewer
        Its camera goes to regions, and a frame is drawn in it.
    panel : WorklistPanel
        Shows the list.
    parent : QObject
        Owner.

    Attributes
    ----------
    failed : Signal(str)
        The search failed, or a review mark could not be saved.
    listed : Signal()
        The list is complete.
    """

    failed = Signal(str)
    listed = Signal()

    def __init__(self, viewer: Viewer, panel: WorklistPanel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._panel = panel
        self._view: MaskView | None = None
        self.log: ReviewLog | None = None
        self.regions: list[UncertainRegion] | None = None
        self.position: int | None = None
        self.share = 0.0
        self._marks: dict[int, ReviewedRegion] = {}
        self._then_next = False
        self._count_again = False
        self._frame: Shapes | None = None
        self._camera: CameraWatch | None = None
        self._frame_zoom = 0.0
        self._search = BackgroundJob(self)
        self._search.yielded.connect(self._on_found)
        self._search.failed.connect(self.failed)
        self._search.finished.connect(lambda _: self._on_searched())
        self._count = BackgroundJob(self)
        self._count.yielded.connect(self._on_share)
        self._count.finished.connect(lambda _: self._on_counted())
        self._state = 0  # counts masks, runs and stores: what was found in an older one is wrong
        self._searched_state = 0
        self._done_share = 1.0  # of the mask, when it was searched
        panel.nextRequested.connect(self.go_to_next)
        panel.reviewedRequested.connect(self.mark_reviewed)
        panel.viewReviewedRequested.connect(self.mark_view_reviewed)
        panel.refreshRequested.connect(self.search)
        panel.rowChosen.connect(self.go_to)
        panel.tickClicked.connect(self.toggle)
        self._show()

    def set_view(self, view: MaskView | None) -> None:
        """List the regions of another mask."""
        if view is self._view:
            return
        self._view, self.log = view, None
        self._then_next = False
        self.forget()
        if view is not None:
            try:
                self.log = ReviewLog(view.store)
            except PlimsegError as error:
                self.failed.emit(str(error))
                self.log = ReviewLog(view.store)  # the damaged file has been moved aside
        self._show()

    def follow_classes(self, change: ClassChange) -> None:
        """Name the classes as now; drop the list when other pixels are tissue, or one class."""
        if change.changes_tissue:
            self.forget()
        elif self.regions is not None:
            names = change.names
            self.regions = [
                dataclasses.replace(each, classes=tuple(names.get(n, n) for n in each.classes))
                for each in self.regions
            ]
            self._show()

    def stop_and_wait(self) -> None:
        """Stop the jobs and wait for them."""
        self._search.stop_and_wait()
        self._count.stop_and_wait()

    def forget(self) -> None:
        """Drop the list, which is of another mask or of an earlier state of this one."""
        self._state += 1
        self.regions, self.position, self.share = None, None, 0.0
        self._marks.clear()
        self._drop_frame()
        self._show()

    def search(self) -> None:
        """Search for the uncertain regions of the current mask, unless a run is changing it."""
        view, log = self._view, self.log
        if view is None or log is None or view.is_growing or self._search.is_running:
            return
        shown, store, reviewed = _shown(view), view.store, log.regions
        corrected = _corrected(view)
        self._searched_state = self._state
        self._done_share = store.done_fraction
        self._search.start(lambda: find_uncertain(store, shown, reviewed, corrected))
        self._show()

    def _on_found(self, found: tuple[list[UncertainRegion], float]) -> None:
        if self._searched_state != self._state:
            return
        self.regions, self.share = found
        self._marks.clear()
        self.position = None
        self.listed.emit()
        if self._then_next:
            self._then_next = False
            self.go_to_next()

    def _on_searched(self) -> None:
        if self._searched_state != self._state:
            self.search()
        self._show()

    def go_to_next(self) -> None:
        """Go to the next region that is not reviewed; the first time, search for regions."""
        if self.regions is None:
            self._then_next = self._view is not None and not self._view.is_growing
            self.search()
            return
        start = -1 if self.position is None else self.position
        order = [*range(start + 1, len(self.regions)), *range(start + 1)]
        left = (i for i in order if not self.regions[i].reviewed)
        position = next(left, None)
        if position is None:
            self.position = None
            self._drop_frame()
            self._show()
        else:
            self.go_to(position)

    def go_to(self, position: int) -> None:
        """Go to a region of the list and draw a frame around it."""
        view = self._view
        if view is None or self.regions is None or not view.is_in(self._viewer):
            return
        self.position = position
        region = self.regions[position]
        info = view.info
        pixel = info.napari_scale[0]
        # the slide's corner is half a level-0 pixel before the origin of the world
        shift = -pixel / info.downsample / 2
        show_world_box(
            self._viewer,
            region.y * pixel + shift,
            region.x * pixel + shift,
            region.height * pixel,
            region.width * pixel,
            at_least=_CONTEXT_UM if info.mpp else _CONTEXT_PIXELS * pixel,
        )
        self._draw_frame(view, region)
        self._show()

    def mark_reviewed(self) -> None:
        """Mark the current region as reviewed, and go to the next."""
        if self.position is None or self.regions is None or self._view is None:
            return
        region = self.regions[self.position]
        if region.reviewed or self._mark(self.position):
            self.go_to_next()

    def mark_view_reviewed(self) -> None:
        """Mark the current view, and all regions inside it, as reviewed."""
        view = self._view
        if view is None or self.log is None:
            return
        box = _visible_box(self._viewer, view)
        if box is None:
            self.failed.emit(f"{OFF_VIEW.capitalize()}. {MOVE_VIEW}")
            return
        mark = ReviewedRegion.of_mask_pixels(view.store.info, *box)
        if not self._write(lambda log: log.add(mark)):
            return
        for position, region in enumerate(self.regions or ()):
            if _inside(region, box):
                self._tick(position, True)
        self._recount()
        self._show()

    def toggle(self, position: int) -> None:
        """Mark a region as reviewed, or remove its own mark (not that of a reviewed view)."""
        if self.regions is None:
            return
        if not self.regions[position].reviewed:
            self._mark(position)
        elif position in self._marks:
            mark = self._marks.pop(position)
            if self._write(lambda log: log.remove(mark)):
                self._tick(position, False)
                self._recount()
        self._show()

    def _mark(self, position: int) -> bool:
        assert self.regions is not None  # noqa: S101 - callers checked
        assert self._view is not None  # noqa: S101 - callers checked
        r = self.regions[position]
        mark = ReviewedRegion.of_mask_pixels(self._view.store.info, r.y, r.x, r.height, r.width)
        if not self._write(lambda log: log.add(mark)):
            return False
        self._marks[position] = mark
        self._tick(position, True)
        self._recount()
        return True

    def _write(self, change: Any) -> bool:
        try:
            change(self.log)
        except PlimsegError as error:
            self.failed.emit(str(error))
            return False
        return True

    def _tick(self, position: int, reviewed: bool) -> None:
        assert self.regions is not None  # noqa: S101 - callers checked
        self.regions[position] = dataclasses.replace(self.regions[position], reviewed=reviewed)

    def _recount(self) -> None:
        view, log = self._view, self.log
        if view is None or log is None:
            return
        if self._count.is_running:
            self._count_again = True
            return
        shown, reviewed = _shown(view), log.regions
        self._count.start(
            lambda: reviewed_share(shown.ids, shown.info, reviewed, mask_step=shown.step)
        )

    def _on_share(self, share: float) -> None:
        self.share = share
        self._show()

    def _on_counted(self) -> None:
        if self._count_again:
            self._count_again = False
            self._recount()

    def _show(self) -> None:
        panel, regions = self._panel, self.regions
        view = self._view
        none = "No mask yet. Generate one first." if view is None else ""
        waiting = "Searching for uncertain regions…" if self._search.is_running else ""
        if view is not None and view.is_growing:
            waiting = GROWING
        left = [r for r in regions or () if not r.reviewed]
        panel.show_regions(regions or ())
        panel.select(self.position)
        part = "" if self._done_share == 1 else f" ({100 * self._done_share:.0f} % of the slide)"
        where = " in the finished part" if part else ""
        done = ""
        if regions is not None and not left:
            done = f"All uncertain regions{where} are reviewed{part}."
        if regions is not None and not regions:
            done = f"No large uncertain region{where}{part or ' found'}."
        panel.set_enabled(
            none or waiting or done,
            none or ("" if self.position is not None else "Go to an uncertain region first."),
            none,
            none or waiting,
        )
        if none or waiting or regions is None:
            panel.status.setText("" if none else waiting)
            return
        count = done or f"{len(left)} of {len(regions)} left{where}{part}."
        panel.status.setText(f"{count} {100 * self.share:.0f} % of the tissue reviewed.")

    def _draw_frame(self, view: MaskView, region: UncertainRegion) -> None:
        if self._frame is None or self._frame not in self._viewer.layers:
            active = self._viewer.layers.selection.active
            shift = view.info.napari_translate
            self._frame = self._viewer.add_shapes(
                name=FRAME_LAYER,
                ndim=2,
                scale=view.info.napari_scale,
                translate=shift,
                units=view.placement()["units"],
                metadata={"plimseg_overlay": True},
            )
            self._viewer.layers.selection.active = active
            if self._camera is None:
                self._camera = CameraWatch(self._viewer, self._on_moved)
        frame = self._frame
        frame.editable = True
        top, left = region.y - 0.5, region.x - 0.5
        bottom, right = top + region.height, left + region.width
        frame.data = []
        frame.add_rectangles(
            np.array([[top, left], [top, right], [bottom, right], [bottom, left]]),
            edge_width=self._frame_width(frame),
            edge_color=_FRAME_COLOR,
            face_color="transparent",
        )
        frame.editable = False

    def _frame_width(self, frame: Shapes) -> float:
        self._frame_zoom = float(get_camera(self._viewer).zoom)
        return _FRAME_SCREEN_PIXELS / self._frame_zoom / float(frame.scale[-1])

    def _on_moved(self) -> None:
        frame, zoom = self._frame, float(get_camera(self._viewer).zoom)
        change = max(zoom, self._frame_zoom) / min(zoom, self._frame_zoom)
        if frame is not None and frame in self._viewer.layers and change > _ZOOM_CHANGE:
            frame.edge_width = [self._frame_width(frame)] * len(frame.data)

    def _drop_frame(self) -> None:
        if self._camera is not None:
            self._camera.disconnect()
            self._camera = None
        if self._frame is not None and self._frame in self._viewer.layers:
            self._viewer.layers.remove(self._frame)
        self._frame = None


def _corrected(view: MaskView) -> NDArray[np.uint8] | None:
    corrections = getattr(view, "corrections", None)
    if corrections is None:
        return None
    step = analysis_step(view.store.info, view.step)
    height, width = view.store.info.shape
    rows, columns = slice(0, -(-height // step)), slice(0, -(-width // step))
    found: NDArray[np.uint8] = corrections.read(rows, columns, step)
    return found


def _shown(view: MaskView) -> ShownMask:
    return ShownMask(view.layer.data, view.info, view.step)


def _visible_box(viewer: Viewer, view: MaskView) -> tuple[int, int, int, int] | None:
    """Return y, x, height, width of the current view in mask pixels; None outside the mask."""
    info = view.info
    pixel = info.napari_scale[0]
    view_camera = get_camera(viewer)
    center = np.asarray(view_camera.center[-2:], float)
    half = np.array(canvas_size(viewer)) / view_camera.zoom / 2
    corner = pixel / info.downsample / 2
    first, last = (center - half + corner) / pixel, (center + half + corner) / pixel
    top, left = np.clip(np.round(first), 0, info.shape).astype(int)
    bottom, right = np.clip(np.round(last), 0, info.shape).astype(int)
    if top >= bottom or left >= right:
        return None
    return int(top), int(left), int(bottom - top), int(right - left)


def _inside(region: UncertainRegion, box: tuple[int, int, int, int]) -> bool:
    y, x, height, width = box
    rows = region.y >= y and region.y + region.height <= y + height
    return rows and region.x >= x and region.x + region.width <= x + width
