"""The section *Judge*: show the mask, walk through what is unsure, compare, and see the areas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QKeySequence, QPainter, QPaintEvent, QPen, QShortcut
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_plimseg._widgets.common import (
    TOOLTIPS,
    BackgroundJob,
    PlainLabel,
    measure_areas,
    on_destroyed,
)
from napari_plimseg._widgets.review.inspect.comparison import ComparePanel
from napari_plimseg._widgets.review.inspect.display import ShowPanel
from napari_plimseg._widgets.review.inspect.uncertain_regions import Review, WorklistPanel
from napari_plimseg._widgets.viewer import LayerBindings, ThemeColor, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.viewer import Viewer

    from napari_plimseg._widgets.common import AreaRow
    from napari_plimseg._widgets.viewer import MaskView
    from napari_plimseg.results import ClassChange


_ROW = 22
_NAME_SHARE = 0.42
_GAP = 6


class AreaBars(QWidget):
    """Draws areas as horizontal bars in class colors, with mm² and percent.

    Text is drawn in colors of the palette, so it is readable in dark and light themes.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[AreaRow] = []
        self._unit = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_areas(self, rows: Sequence[AreaRow], unit: str) -> None:
        """Show areas, largest first, each with `unit`."""
        self.rows, self._unit = list(rows), unit
        self.setAccessibleDescription(
            "; ".join(f"{r.name} {r.area} {unit}, {r.percent} percent" for r in self.rows)
        )
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Return the size of all bars, or of one line of text when there are none."""
        return QSize(300, max(1, len(self.rows)) * _ROW)

    def minimumSizeHint(self) -> QSize:
        """Return a small width, so that the dock can be narrow."""
        return QSize(200, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bars."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        painter.setPen(text)
        middle = Qt.AlignmentFlag.AlignVCenter
        if not self.rows:
            painter.drawText(self.rect(), middle, "No tissue yet.")
            return
        metrics = painter.fontMetrics()
        numbers = [f"{row.area} {self._unit}  {row.percent} %" for row in self.rows]
        number_width = max(metrics.horizontalAdvance(number) for number in numbers)
        longest = max(metrics.horizontalAdvance(row.name) for row in self.rows) + 2
        name_width = min(longest, self.width() * _NAME_SHARE)
        bar_left = name_width + _GAP
        bar_room = max(10.0, self.width() - bar_left - number_width - 2 * _GAP)
        largest = max(float(row.percent or 0) for row in self.rows) or 1.0
        track = QColor(text)
        track.setAlpha(28)
        for i, (row, number) in enumerate(zip(self.rows, numbers, strict=True)):
            top = i * _ROW
            name = metrics.elidedText(row.name, Qt.TextElideMode.ElideRight, int(name_width))
            painter.setPen(text)
            painter.drawText(QRectF(0, top, name_width, _ROW), middle, name)
            box = QRectF(bar_left, top + 4, bar_room, _ROW - 8)
            painter.fillRect(box, track)
            length = max(2.0, bar_room * float(row.percent or 0) / largest)
            painter.setPen(QPen(QColor(128, 128, 128), 1))
            painter.setBrush(QColor(*row.color))
            painter.drawRect(QRectF(box.left(), box.top(), length, box.height()))
            painter.setPen(text)
            right = middle | Qt.AlignmentFlag.AlignRight
            painter.drawText(
                QRectF(self.width() - number_width - 1, top, number_width, _ROW), right, number
            )


_AREAS_AFTER_MS = 400


class InspectSection(QWidget):
    """Helps to find where a mask is wrong: display, uncertain regions, areas, comparison.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer with the mask.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message, see `Banner.show_message`.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        viewer = unwrapped(viewer)
        self.view: MaskView | None = None
        self.show_panel = ShowPanel(viewer)
        self.worklist = WorklistPanel()
        self.review = Review(viewer, self.worklist, self)
        self.compare = ComparePanel(viewer)
        self.areas = AreaBars()
        self.areas.setToolTip(TOOLTIPS["inspect_areas"])
        self._build()
        for part in (self.show_panel, self.review, self.compare):
            part.failed.connect(lambda text: self.messageEmitted.emit("error", text))
        self.compare.cancelled.connect(lambda text: self.messageEmitted.emit("info", text))
        self._areas_job = BackgroundJob(self)
        self._areas_job.yielded.connect(self._on_areas)
        self._areas_timer = QTimer(self)
        self._areas_timer.setSingleShot(True)
        self._areas_timer.setInterval(_AREAS_AFTER_MS)
        self._areas_timer.timeout.connect(self._measure)
        self._bindings = LayerBindings()
        self._shortcuts = [self._shortcut(key, act) for key, act in self._keys().items()]
        show_panel, bindings = self.show_panel, self._bindings
        theme = ThemeColor(viewer, self._show_theme)

        def leave() -> None:  # without `self`, which Qt has destroyed by then
            theme.disconnect()
            bindings.release()
            show_panel.close_layers()

        on_destroyed(self, leave)
        self.set_view(None)

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        self._folds = [self.show_panel.classes, self.compare.mapping_box]
        column.addWidget(_heading("Show"))
        column.addWidget(self.show_panel)
        column.addWidget(_heading("Uncertain regions"))
        column.addWidget(self.worklist)
        column.addWidget(_heading("Areas"))
        column.addWidget(self.areas)
        column.addWidget(_heading("Compare"))
        column.addWidget(self.compare)
        column.addStretch(1)

    def _keys(self) -> dict[str, Callable[[], None]]:
        return {
            "O": self.toggle_outlines,
            "N": self.review.go_to_next,
            "R": self.review.mark_reviewed,
            "Shift-R": self.review.mark_view_reviewed,
        }

    def _shortcut(self, key: str, act: Callable[[], None]) -> QShortcut:
        shortcut = QShortcut(QKeySequence(key.replace("-", "+")), self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(act)
        return shortcut

    def set_view(self, view: MaskView | None) -> None:
        """Inspect another mask; None for none."""
        changed = view is not self.view
        self.view = view
        if changed:
            self._bindings.release()
            if view is not None:
                self._bind(view)
        self.show_panel.set_view(view)
        self.review.set_view(view)
        self.compare.set_view(view)
        self.show_panel.setVisible(view is not None)
        if changed:
            self.areas.show_areas([], "")
            self._areas_timer.start()
            self._search_if_visible()

    def follow_classes(self, change: ClassChange) -> None:
        """Show the classes of the mask after they were edited."""
        self.show_panel.show_classes()
        self.review.follow_classes(change)
        self.compare.follow_classes(change)
        self._areas_timer.start()
        self._search_if_visible()

    def _bind(self, view: MaskView) -> None:
        events = view.layer.events
        for emitter in (events.paint, events.labels_update, events.set_data):
            self._bindings.connect(emitter, self._on_mask_changed)
        self._bindings.connect(view.grown, self._on_grown)
        for key, act in self._keys().items():
            self._bindings.bind_key(view.layer, key, act)

    def toggle_outlines(self) -> None:
        """Show outlines instead of the fill, or the fill again."""
        if self.view is not None:
            self.show_panel.outlines.toggle()

    def stop_and_wait(self) -> None:
        """Stop all jobs and wait for them."""
        self._areas_job.stop_and_wait()
        self.review.stop_and_wait()
        self.compare.stop_and_wait()

    def showEvent(self, event: Any) -> None:
        """Search for uncertain regions when the section is first visible."""
        super().showEvent(event)
        self._search_if_visible()

    def _search_if_visible(self) -> None:
        if self.isVisible() and self.view is not None and self.review.regions is None:
            self.review.search()

    def _on_grown(self, event: Any = None) -> None:
        self.review.forget()
        self.show_panel.renew()
        self.compare.renew()
        self._search_if_visible()

    def _show_theme(self, color: str) -> None:
        for fold in self._folds:
            fold.show_theme(QColor(color))

    def _on_mask_changed(self, event: Any = None) -> None:
        self.show_panel.mask_changed()
        if not self._areas_timer.isActive():
            self._areas_timer.start()

    def _measure(self) -> None:
        view = self.view
        if view is None:
            return
        if self._areas_job.is_running:
            self._areas_timer.start()
            return
        mask, info, step = view.layer.data, view.info, view.step
        self._areas_job.start(lambda: measure_areas(mask, info, step))

    def _on_areas(self, found: tuple[list[AreaRow], str]) -> None:
        if self.view is not None:
            self.areas.show_areas(*found)


def _heading(text: str) -> QLabel:
    label = PlainLabel(text)
    label.setStyleSheet("font-weight: bold; padding-top: 4px;")
    return label
