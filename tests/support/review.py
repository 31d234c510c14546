"""The dock *PLIMSeg Review* with a slide and a mask, and a mouse over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_plimseg._widgets.review.dock import ReviewDock
from napari_plimseg._widgets.viewer.mask_layer import MaskView
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg.fingerprints import fingerprint
from napari_plimseg.results.mask_info import MaskInfo
from tests.support import widgets as fakes
from tests.support.stores import written_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Labels


WAIT = 30_000
SHAPE = (150, 200)


class Review:
    """The dock in a viewer with a slide and its mask: 1 left, 2 right, 3 (background) below."""

    def __init__(self, viewer, folder: Path, qtbot, max_side: int = 16_384) -> None:  # type: ignore[no-untyped-def]
        self.viewer, self.qtbot = unwrapped(viewer), qtbot
        self.dock = ReviewDock(viewer)
        viewer.window.add_dock_widget(self.dock, name="PLIMSeg Review", area="right")
        self.slide = fakes.ArraySlide(folder / "slide.tif", fakes.tissue_pixels(1200, 1600), 0.5)
        self.model = np.full(SHAPE, 1, np.uint8)
        self.model[:, 100:] = 2
        self.model[112:] = 3
        self.info = MaskInfo(
            slide_name="slide.tif",
            slide_fingerprint=fingerprint(self.slide.path),
            slide_shape=(1200, 1600),
            bounds=self.slide.bounds,
            mpp=0.5,
            shape=SHAPE,
            downsample=8.0,
            classes=fakes.CLASSES,
        )
        store = written_store(
            folder / "slide.plimseg", self.info, self.model, np.full(SHAPE, 200, np.uint8)
        )
        self.view = MaskView(
            viewer, self.slide, store, self.model, fakes.CLASSES,
            slide_stem="slide", max_side=max_side,
        )  # fmt: skip
        self.viewer.reset_view()
        qtbot.waitUntil(lambda: self.dock.correct.target is not None, timeout=WAIT)

    @property
    def correct(self):  # type: ignore[no-untyped-def]
        return self.dock.correct

    @property
    def layer(self) -> Labels:
        return self.correct.target.layer

    def at(self, y: float, x: float, layer: Labels | None = None) -> QPoint:
        """Return where a pixel of the layer lies on the canvas."""
        world = np.asarray((layer or self.layer).data_to_world((y, x)))[-2:]
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        canvas = self.canvas
        offset = (world - np.asarray(camera.center)[-2:]) * camera.zoom
        middle = np.array([canvas.height(), canvas.width()]) / 2
        row, column = middle + offset
        return QPoint(round(column), round(row))

    @property
    def canvas(self):  # type: ignore[no-untyped-def]
        return self.viewer.window._qt_viewer.canvas.native

    def click(self, y: float, x: float) -> None:
        place = self.at(y, x)
        self.qtbot.mouseMove(self.canvas, place)
        self.qtbot.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=place)

    def drag(self, places: Sequence[tuple[float, float]]) -> None:
        kinds = QEvent.Type
        first, *others = (self.at(y, x) for y, x in places)
        self.qtbot.mouseMove(self.canvas, first)
        self._mouse(kinds.MouseButtonPress, first)
        for place in others:
            self.qtbot.wait(15)  # vispy leaves out moves in quick succession
            self._mouse(kinds.MouseMove, place)
        self._mouse(kinds.MouseButtonRelease, others[-1])

    def _mouse(self, kind: QEvent.Type, place: QPoint) -> None:
        # the mouseMove of QTest holds no button, so it never drags
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        event = QMouseEvent(
            kind,
            QPointF(place),
            QPointF(self.canvas.mapToGlobal(place)),
            none if kind == QEvent.Type.MouseMove else left,
            none if kind == QEvent.Type.MouseButtonRelease else left,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self.canvas, event)

    def wait_done(self) -> None:
        self.qtbot.waitUntil(lambda: not self.correct.is_working, timeout=WAIT)
