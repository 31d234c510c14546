"""A person at the screen: presses buttons, types, paints, waits, and takes pictures."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox, QScrollArea

from napari_plimseg._widgets.docks import open_dock
from napari_plimseg._widgets.viewer import get_camera

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari.layers import Image as ImageLayer
    from napari.layers import Labels
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QWidget

    from napari_plimseg._widgets.generate import PlimsegDock

SIZE = 1366, 768
PATIENCE_SECONDS = 900.0
_PLUGIN = "napari-plimseg"
_EXACT_COLORS, _FREQUENT_COLORS, _COLORS_APART = 112, 2000, 10


class StoryError(Exception):
    """Something did not happen as the guide tells it."""


class Screen:
    """Drives one napari window through its widgets only.

    Parameters
    ----------
    viewer : napari.Viewer
    folder : Path
        Takes the pictures.
    size : tuple of int
        Width and height of the window.
    """

    def __init__(self, viewer: Viewer, folder: Path, size: tuple[int, int] = SIZE) -> None:
        self.viewer = viewer
        self.folder = folder
        self.size = size
        viewer.window.resize(*size)

    # -- waiting

    def rest(self, seconds: float) -> None:
        """Let the program go on for some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def wait(
        self, what: str, until: Callable[[], object], within: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until something is true; raise `StoryError` when it never is."""
        end = time.monotonic() + within
        while not until():
            if time.monotonic() > end:
                raise StoryError(f"{what}: not within {within:.0f} s")
            QApplication.processEvents()
            time.sleep(0.005)

    # -- docks and controls

    def main_dock(self) -> PlimsegDock:
        """Open the dock PLIMSeg as the menu does, or bring it to the front."""
        frame, dock = self.viewer.window.add_plugin_dock_widget(_PLUGIN, "PLIMSeg")
        frame.show()
        frame.raise_()
        self.rest(0.3)
        return dock

    def dock(self, key: str) -> Any:
        """Open another dock by its button in the main dock: a key of `DOCKS`."""
        self.press(self.main_dock().header.buttons[key])
        self.rest(0.3)
        return open_dock(self.viewer, key)

    def bring_into_sight(self, widget: QWidget) -> None:
        """Scroll the dock around a control."""
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(widget)
            parent = parent.parentWidget()
        self.rest(0.05)

    def press(self, button: QAbstractButton) -> None:
        """Click a button with the mouse."""
        if not button.isEnabled():
            raise StoryError(f"'{button.text()}' can't be pressed: {button.toolTip()}")
        self.bring_into_sight(button)
        if not button.isVisible():
            raise StoryError(f"'{button.text()}' is not to be seen")
        # the text of a radio button or tick box lies on its left
        place = QPoint(min(12, button.width() // 2), button.height() // 2)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton, pos=place)
        self.rest(0.05)

    def unfold(self, section: Any) -> None:
        """Open a section by its title, and wait until it has its height."""
        if not section.isExpanded():
            self.press(section.toggleButton())
            self.rest(0.4)
        self.bring_into_sight(section)

    def type_into(self, edit: QLineEdit, text: str) -> None:
        """Replace a line by typing another one, and press Enter."""
        self.bring_into_sight(edit)
        edit.setFocus()
        edit.selectAll()
        QTest.keyClicks(edit, text)
        QTest.keyClick(edit, Qt.Key.Key_Return)
        self.rest(0.05)

    def choose(self, combo: QComboBox, row: int) -> None:
        """Choose a row of a list."""
        if row < 0 or not combo.isEnabled():
            raise StoryError(f"that can't be chosen: {combo.toolTip()}")
        self.bring_into_sight(combo)
        combo.setCurrentIndex(row)
        combo.activated.emit(row)
        combo.textActivated.emit(combo.itemText(row))
        self.rest(0.05)

    @contextlib.contextmanager
    def answering(self, dialog: type, method: str, answer: object) -> Iterator[None]:
        """Answer a modal question of Qt before it is asked."""
        with mock.patch.object(dialog, method, staticmethod(lambda *_, **__: answer)):
            yield

    @contextlib.contextmanager
    def refusing(self) -> Iterator[list[str]]:
        """Answer questions with No, and list them."""
        asked: list[str] = []

        def refuse(*arguments: Any) -> Any:
            asked.append(arguments[2])
            return QMessageBox.StandardButton.No

        with mock.patch.object(QMessageBox, "question", refuse):
            yield asked

    def keys(self, widget: QWidget, text: str) -> None:
        """Type keys, one after another."""
        for key in text:
            QTest.keyClick(widget, key)
            QApplication.processEvents()

    # -- the slide

    @property
    def canvas(self) -> QWidget:
        """The widget that shows the slide."""
        return self.viewer.window._qt_viewer.canvas.native

    @property
    def camera(self) -> Any:
        """Where the window looks."""
        return get_camera(self.viewer)

    def look_at_all(self, layer: ImageLayer, times: float = 1.0) -> None:
        """Show a whole slide, or so many times closer its middle."""
        self.viewer.reset_view()
        self.rest(0.5)
        self.look_closer(layer, times)

    def look_closer(self, layer: ImageLayer, times: float) -> None:
        """Zoom in, and wait until napari knows what is seen: that is when it has drawn it."""
        before = layer.corner_pixels.copy()
        self.camera.zoom *= times
        self.wait("it is drawn", lambda: times == 1 or (layer.corner_pixels != before).any())
        self.rest(0.3)

    def place_of(self, layer: Labels, y: float, x: float) -> QPoint:
        """Return where a pixel of a layer lies on the canvas."""
        world = np.asarray(layer.data_to_world((y, x)))[-2:]
        offset = (world - np.asarray(self.camera.center)[-2:]) * self.camera.zoom
        row, column = np.array([self.canvas.height(), self.canvas.width()]) / 2 + offset
        return QPoint(round(column), round(row))

    def click_on(self, layer: Labels, y: float, x: float) -> None:
        """Click a pixel of a layer on the canvas."""
        place = self.place_of(layer, y, x)
        if not self.canvas.rect().contains(place):
            raise StoryError("the place to click is outside the window")
        QTest.mouseMove(self.canvas, place)
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=place)
        self.rest(0.1)

    def drag_over(self, layer: Labels, pixels: Sequence[tuple[float, float]]) -> None:
        """Hold the mouse button and move over pixels of a layer."""
        kinds = QEvent.Type
        first, *others = (self.place_of(layer, y, x) for y, x in pixels)
        QTest.mouseMove(self.canvas, first)
        self._mouse(kinds.MouseButtonPress, first)
        for place in others:
            self.rest(0.02)  # vispy leaves out moves in quick succession
            self._mouse(kinds.MouseMove, place)
        self._mouse(kinds.MouseButtonRelease, others[-1])
        self.rest(0.1)

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

    # -- pictures

    def picture(self, name: str, of: QWidget | None = None) -> Path:
        """Save the window, or a window of its own, after a moment of rest."""
        self.rest(0.8)
        path = self.folder / f"{name}.png"
        if of is None:
            taken = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False))
            if taken.size != self.size:
                raise StoryError(f"the window does not fit into {self.size}: it is {taken.size}")
            corner = self.canvas.mapTo(self.canvas.window(), QPoint(0, 0))
            left, top = corner.x(), corner.y()
            slide = (left, top, left + self.canvas.width(), top + self.canvas.height())
            taken = _with_palette(taken.convert("RGB"), slide)
        else:
            of.grab().save(str(path))
            taken = Image.open(path).convert("RGB")
            taken = _with_palette(taken, (0, 0, *taken.size))
        taken.save(path, optimize=True)
        return path


def _with_palette(picture: Image.Image, slide: tuple[int, int, int, int]) -> Image.Image:
    """Return a picture of 256 colours, which takes a third of the room.

    The most frequent colours outside the rectangle `slide` (left, top, right, bottom) stay what
    they are, so that those of classes and curves can be told.
    """
    inside = np.zeros((picture.height, picture.width), np.bool_)
    inside[slide[1] : slide[3], slide[0] : slide[2]] = True
    colors, counts = np.unique(np.asarray(picture)[~inside], axis=0, return_counts=True)
    exact: list[list[int]] = []
    for color in colors[np.argsort(-counts)[:_FREQUENT_COLORS]].astype(int):
        apart = np.abs(np.array(exact) - color).max(1) if exact else np.array([255])
        if apart.min() >= _COLORS_APART and len(exact) < _EXACT_COLORS:
            exact.append(color.tolist())
    others = picture.quantize(256 - len(exact)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*np.array(exact).ravel().tolist(), *others][: 3 * 256])
    shown = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    dithered = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    shown.paste(dithered.crop(slide), slide)
    return shown
