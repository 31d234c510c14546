"""The map in the corner of the window: a small picture of the slide, and a frame for the view."""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QObject, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QWidget

from napari_plimseg._widgets.common import TOOLTIPS, on_destroyed, run_once
from napari_plimseg._widgets.viewer.camera import CameraWatch, get_camera
from napari_plimseg._widgets.viewer.napari_private import canvas_size, canvas_widget, unwrapped
from napari_plimseg._widgets.viewer.overview import LONGEST_SIDE, Overview, is_small
from napari_plimseg._widgets.viewer.slide_groups import slide_of

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer
    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent, QPaintEvent

    from napari_plimseg.slides import Slide


_MARGIN = 10
_FRAME = QColor(255, 224, 0)
_SHADE = QColor(0, 0, 0, 70)


class OverviewMap(QWidget):
    """Shows a map of a slide; a click or a drag asks for a place.

    Attributes
    ----------
    pointed : Signal(float, float)
        World y and x.
    """

    pointed = Signal(float, float)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._picture = QPixmap()
        self.overview: Overview | None = None
        self.box = (0.0, 0.0, 0.0, 0.0)
        self.setToolTip(TOOLTIPS["overview_map"])
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.hide()

    def show_slide(self, overview: Overview, pixels: NDArray[np.uint8]) -> None:
        """Show the map of a slide and its picture (h, w, 3)."""
        pixels = np.ascontiguousarray(pixels)
        height, width = pixels.shape[:2]
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self._picture = QPixmap.fromImage(image.copy())
        self.overview = overview
        self.setFixedSize(overview.width, overview.height)

    def show_box(self, box: tuple[float, float, float, float]) -> None:
        """Show which part is in view: y, x, height and width in pixels of the map."""
        if box != self.box:
            self.box = box
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the slide, and the part in view."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawPixmap(self.rect(), self._picture)
        y, x, height, width = self.box
        inside = QRectF(x, y, width, height)
        for part in (
            QRectF(0, 0, self.width(), y),
            QRectF(0, y + height, self.width(), self.height() - y - height),
            QRectF(0, y, x, height),
            QRectF(x + width, y, self.width() - x - width, height),
        ):
            painter.fillRect(part, _SHADE)
        painter.setPen(QPen(_FRAME, 2))
        painter.drawRect(inside.adjusted(1, 1, -1, -1))
        painter.setPen(QPen(QColor(128, 128, 128), 1))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Ask for the place under the mouse."""
        self._point(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Ask for the place under the mouse while a button is held."""
        self._point(event)

    def _point(self, event: QMouseEvent) -> None:
        if self.overview is not None and event.buttons() & Qt.MouseButton.LeftButton:
            place = event.position()
            self.pointed.emit(*self.overview.place(place.y(), place.x()))


class OverviewControl(QObject):
    """Keeps the map of a viewer in its corner, on the slide shown, and in step with the view.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
        The dock.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(viewer)
        self._pictures: weakref.WeakKeyDictionary[Slide, NDArray[np.uint8]]
        self._pictures = weakref.WeakKeyDictionary()
        self._asked: weakref.WeakSet[Slide] = weakref.WeakSet()
        self._layer: Layer | None = None
        self._wanted = False
        self.map: OverviewMap | None = None
        canvas = canvas_widget(self._viewer)
        if canvas is not None:
            self.map = OverviewMap(canvas)
            self.map.pointed.connect(self._go_to)
            canvas.installEventFilter(self)
            on_destroyed(self, functools.partial(_take_away, self.map))
            on_destroyed(self.map, self._forget)
        self._watch = CameraWatch(self._viewer, self._follow)
        on_destroyed(self, self._watch.disconnect)

    def show(self, layer: Layer | None, *, wanted: bool) -> None:
        """Show the map of a slide's layer, if it is `wanted` and the slide is large."""
        self._layer, self._wanted = layer, wanted
        slide = slide_of(layer)
        if slide is None or not wanted or is_small(slide.shape):
            self._follow()
            return
        if slide not in self._asked:
            self._asked.add(slide)
            run_once(
                self,
                lambda: slide.thumbnail(2 * LONGEST_SIDE),
                functools.partial(self._on_picture, slide),
                lambda _: None,  # a slide that can't be read says so elsewhere
            )
        self._follow()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Keep the map in its corner."""
        if event.type() == QEvent.Type.Resize:
            self._follow()
        return super().eventFilter(watched, event)

    def _on_picture(self, slide: Slide, pixels: NDArray[np.uint8]) -> None:
        self._pictures[slide] = pixels
        self._follow()

    def _follow(self) -> None:
        shown, layer, slide = self.map, self._layer, slide_of(self._layer)
        if shown is None:
            return
        pixels = None if slide is None else self._pictures.get(slide)
        window = canvas_size(self._viewer)
        if layer is None or pixels is None or not self._wanted:
            shown.hide()
            return
        (top, left), (bottom, right) = np.asarray(layer.extent.world, float)[:, -2:]
        overview = Overview.of(top, left, bottom, right)
        if overview != shown.overview:
            shown.show_slide(overview, pixels)
        camera = get_camera(self._viewer)
        y, x = (float(value) for value in camera.center[-2:])
        shown.show_box(overview.box((y, x), float(camera.zoom), window))
        shown.move(window[1] - overview.width - _MARGIN, _MARGIN)
        shown.setVisible(overview.fits(window) and self._viewer.dims.ndisplay == 2)

    def _forget(self) -> None:
        self.map = None  # destroyed with the canvas, which a dock may outlive

    def _go_to(self, y: float, x: float) -> None:
        get_camera(self._viewer).center = (y, x)


def _take_away(shown: OverviewMap) -> None:
    with contextlib.suppress(RuntimeError):  # destroyed with the window
        shown.hide()
        shown.deleteLater()
