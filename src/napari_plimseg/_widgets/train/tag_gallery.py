"""The gallery: tagging a folder of images by keyboard. Every key press is saved at once."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QInputDialog,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, Banner, FlowText, PlainLabel
from napari_plimseg._widgets.train.pictures import (
    THUMB,
    PictureLoader,
    PictureView,
    ThumbStrip,
    Wanted,
)
from napari_plimseg.errors import PlimsegError
from napari_plimseg.training_runs import TagTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qtpy.QtGui import QCloseEvent, QImage, QKeyEvent

    from napari_plimseg.tissue import Color
    from napari_plimseg.training_runs import State


PICTURE_SIDE = 1200
_AHEAD = 4
_BUTTONS_A_ROW = 3
_MOST_KEYS = 9
HELP = (
    "1-9 tag · Space or → next · ← previous · U next untagged · = same tags as the last image · "
    "0 none of these · ? unsure · Ctrl+Z undo"
)
_TEXTS = {
    "untagged": "Not tagged yet",
    "tagged": "Tagged",
    "unsure": "Unsure: not used for training",
    "nothing": "None of the classes: not used for training",
}


class TagGallery(QDialog):
    """A window that shows one image at a time and tags it by keys or buttons.

    Parameters
    ----------
    table : TagTable
        The images and their tags.
    colors : mapping of str to color, optional
        Colors of classes that are known already.
    parent : QWidget, optional

    Attributes
    ----------
    closed : Signal()
        The window was closed; the tags are saved.
    """

    closed = Signal()

    def __init__(
        self,
        table: TagTable,
        colors: Mapping[str, Color] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.table = table
        self._colors = dict(colors or {})
        self._last_tagged: frozenset[str] = frozenset()
        self.loader = PictureLoader(self)
        self.loader.loaded.connect(self._on_loaded)
        self.setWindowTitle(f"Tag images · {table.folder.name}")
        self.setModal(False)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.banner = Banner()
        self.title = PlainLabel()
        self.title.setTextFormat(Qt.TextFormat.RichText)
        self.state_label = PlainLabel()
        self.picture = PictureView()
        self.strip = ThumbStrip(self._state_at, self._thumb_at)
        self.bar = QProgressBar()
        self.class_buttons: dict[str, QPushButton] = {}
        self._class_grid = QGridLayout()
        self.buttons = self._build_buttons()
        self._build()
        first = table.next_untagged()
        self.position = 0 if first is None else table.images.index(first)
        self._fill_classes()
        self.strip.picked.connect(self.go_to)
        self.strip.seen.connect(self._want_pictures)
        self.go_to(self.position)
        self.resize(760, 700)

    def _build(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.title, 1)
        top.addWidget(self.state_label)
        actions = QHBoxLayout()
        for button in self.buttons.values():
            actions.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        self.banner.float_over(self.picture)
        layout.addLayout(top)
        layout.addWidget(self.picture, 1)
        layout.addLayout(self._class_grid)
        layout.addLayout(actions)
        layout.addWidget(self.strip)
        layout.addWidget(self.bar)
        layout.addWidget(FlowText(HELP))

    def _build_buttons(self) -> dict[str, QPushButton]:
        slots: dict[str, tuple[str, Callable[[], None]]] = {
            "tag_back": ("◀ Back", self.back),
            "tag_next": ("Next ▶", self.forward),
            "tag_untagged": ("Next untagged", self.next_untagged),
            "tag_nothing": ("None of these", self.set_nothing),
            "tag_unsure": ("Unsure", self.toggle_unsure),
            "tag_undo": ("Undo", self.undo),
            "tag_add_class": ("Add class…", self.ask_class),
        }
        buttons = {}
        for key, (text, slot) in slots.items():
            button = QPushButton(text)
            button.setToolTip(TOOLTIPS[key])
            button.clicked.connect(slot)
            self._leave_keys(button)
            buttons[key] = button
        return buttons

    @staticmethod
    def _leave_keys(button: QPushButton) -> None:
        """Keep a button from taking the keys of the window: Space must show the next image."""
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.setAutoDefault(False)

    @property
    def current(self) -> str:
        """Name of the current image."""
        return self.table.images[self.position]

    def _fill_classes(self) -> None:
        for button in self.class_buttons.values():
            self._class_grid.removeWidget(button)
            button.deleteLater()
        self.class_buttons = {}
        for number, name in enumerate(self.table.classes):
            key = f"{number + 1}  " if number < _MOST_KEYS else ""
            button = QPushButton(key + name)
            button.setCheckable(True)
            button.setToolTip(TOOLTIPS["tag_class"])
            self._leave_keys(button)
            red, green, blue = self._colors.get(name, (60, 130, 90))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 150 else "white"
            button.setStyleSheet(
                "QPushButton {padding: 6px; text-align: left;}"
                f"QPushButton:checked {{background: rgb({red}, {green}, {blue}); color: {ink};"
                " font-weight: bold;}"
            )
            button.clicked.connect(lambda _, name=name: self.toggle(name))
            self._class_grid.addWidget(button, number // _BUTTONS_A_ROW, number % _BUTTONS_A_ROW)
            self.class_buttons[name] = button

    def go_to(self, position: int) -> None:
        """Show another image."""
        if self.table.tags(self.current) and self.table.state(self.current) == "tagged":
            self._last_tagged = self.table.tags(self.current)
        self.position = min(max(0, position), len(self.table.images) - 1)
        self._show_picture()
        self.refresh()
        self.strip.show_position(self.position, len(self.table.images))

    def forward(self) -> None:
        """Go to the next image."""
        if self.position + 1 < len(self.table.images):
            self.go_to(self.position + 1)
        else:
            self._say_end()

    def back(self) -> None:
        """Go to the previous image."""
        self.go_to(self.position - 1)

    def next_untagged(self) -> None:
        """Go to the next image without tags."""
        name = self.table.next_untagged(self.current)
        if name is None:
            self._say_end()
        else:
            self.go_to(self.table.images.index(name))

    def _say_end(self) -> None:
        left = len(self.table.images) - self.table.done
        states = [self.table.state(name) for name in self.table.images]
        tagged = states.count("tagged")
        if not left and tagged < len(states):
            text = f"All images are done; {tagged} of {len(states)} have a tag to train on."
            self.banner.show_message("good" if tagged else "warning", text)
        elif left:
            self.banner.show_message(
                "info", f"This is the last image; {left} are not tagged yet (key U)."
            )
        else:
            self.banner.show_message("good", "All images are tagged. Close this window to train.")

    def toggle(self, name: str) -> None:
        """Add a tag to the image, or remove it."""
        self._change(lambda: self.table.toggle(self.current, name))

    def toggle_unsure(self) -> None:
        """Mark the image as unsure, or not."""
        self._change(lambda: self.table.toggle_unsure(self.current))

    def set_nothing(self) -> None:
        """Mark the image as showing none of the classes."""
        self._change(lambda: self.table.set_nothing(self.current))

    def same_as_last(self) -> None:
        """Copy the tags of the last tagged image that was shown."""
        if self._last_tagged:
            self._change(lambda: self.table.set_tags(self.current, self._last_tagged))
        else:
            self.banner.show_message("info", "No tagged image was shown before this one.")

    def undo(self) -> None:
        """Undo the last change and show its image."""

        def undo_last() -> None:
            name = self.table.undo()
            if name is None:
                self.banner.show_message("info", "There is nothing to undo.")
            else:
                self.go_to(self.table.images.index(name))

        self._change(undo_last)

    def ask_class(self) -> None:
        """Ask for the name of a class and add it."""
        name, accepted = QInputDialog.getText(self, "Add class", "Name of the tissue class:")
        if accepted and name.strip():
            self.add_class(name)

    def add_class(self, name: str) -> None:
        """Add a class with the next free number key."""
        self._change(lambda: self.table.add_class(name))
        self._fill_classes()
        self.refresh()

    def _change(self, change: Callable[[], None]) -> None:
        try:
            change()
        except PlimsegError as error:
            self.banner.show_message("error", str(error))
        else:
            if self.banner.kind == "error":
                self.banner.hide()
        self.refresh()
        self.strip.update()

    def refresh(self) -> None:
        """Show the tags of the image and the progress."""
        table, name = self.table, self.current
        self.title.setText(f"<b>{escape(name)}</b>  ({self.position + 1} of {len(table.images)})")
        self.state_label.setText(_TEXTS[table.state(name)])
        counts = table.counts()
        for number, (tag, button) in enumerate(self.class_buttons.items()):
            key = f"{number + 1}  " if number < _MOST_KEYS else ""
            button.setText(f"{key}{tag}  ({counts[tag]})")
            button.setChecked(tag in table.tags(name))
        self.bar.setRange(0, len(table.images))
        self.bar.setValue(table.done)
        self.bar.setFormat(f"{table.done} of {len(table.images)} tagged")
        if not table.classes:
            self.banner.show_message("info", "Press Add class to add the tissue classes first.")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Tag the image or go to another one."""
        key, text = event.key(), event.text()
        keys = Qt.Key
        moves: dict[int, Callable[[], None]] = {
            keys.Key_Space: self.forward,
            keys.Key_Right: self.forward,
            keys.Key_Return: self.forward,
            keys.Key_Enter: self.forward,
            keys.Key_Left: self.back,
            keys.Key_Backspace: self.back,
            keys.Key_U: self.next_untagged,
            keys.Key_Home: lambda: self.go_to(0),
            keys.Key_End: lambda: self.go_to(len(self.table.images) - 1),
        }
        marks: dict[str, Callable[[], None]] = {
            "?": self.toggle_unsure, "=": self.same_as_last, "0": self.set_nothing,
        }  # fmt: skip
        if event.matches(QKeySequence.StandardKey.Undo):
            self.undo()
        elif text and text in "123456789":
            number = int(text) - 1
            if number < len(self.table.classes):
                self.toggle(self.table.classes[number])
        elif text in marks:
            marks[text]()
        elif key in moves:
            moves[key]()
        else:
            super().keyPressEvent(event)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop reading pictures and emit `closed`."""
        self.loader.stop()
        self.closed.emit()
        event.accept()  # QDialog's own handler calls `reject`, which would call `close` again

    def reject(self) -> None:
        """Close on Escape, like the close button of the window."""
        self.close()

    def changeEvent(self, event: QEvent) -> None:
        """Take the keyboard focus when the window is activated again."""
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.setFocus()
        super().changeEvent(event)

    # -- pictures

    def _state_at(self, position: int) -> State:
        return self.table.state(self.table.images[position])

    def _thumb_at(self, position: int) -> QImage | None:
        return self.loader.picture(self._wanted(position, THUMB))

    def _wanted(self, position: int, side: int = PICTURE_SIDE) -> Wanted:
        return Wanted(self.table.folder / self.table.images[position], side)

    def _want_pictures(self) -> None:
        count, here = len(self.table.images), self.position
        near = [here, *range(here + 1, here + _AHEAD), here - 1]
        large = [self._wanted(i) for i in near if 0 <= i < count]
        small = sorted(self.strip.positions, key=lambda i: abs(i - here))
        self.loader.want([*large, *(self._wanted(i, THUMB) for i in small)])

    def _show_picture(self) -> None:
        wanted = self._wanted(self.position)
        text = "This image can't be read; it will not be used for training."
        shown = text if self.loader.is_unreadable(wanted) else "Reading…"
        self.picture.show_picture(self.loader.picture(wanted), shown)

    def _on_loaded(self, wanted: Wanted) -> None:
        if wanted == self._wanted(self.position):
            self._show_picture()
        elif wanted.side == THUMB:
            self.strip.update()


_EXAMPLE = "tumour, stroma, lymphocytes"


class Tagging(QObject):
    """Opens the gallery, one at a time.

    Parameters
    ----------
    dock : QWidget
        Parent of the window and its dialogs.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message for the banner.
    tagged : Signal(object)
        The folder whose gallery was closed; it has a table of tags now.
    """

    messageEmitted = Signal(str, str)
    tagged = Signal(object)

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        self._dock = dock
        self.gallery: TagGallery | None = None

    def ask_folder(self, start: str, colors: Mapping[str, Color]) -> None:
        """Ask for a folder and, if it has none, for its classes, and open the gallery."""
        path = QFileDialog.getExistingDirectory(self._dock, "Folder of images to tag", start)
        if path:
            self.ask_classes(Path(path), colors)

    def ask_classes(self, folder: Path, colors: Mapping[str, Color]) -> None:
        """Ask for the classes of a folder that has none, and open the gallery."""
        try:
            has_classes = bool(TagTable(folder).classes)
        except PlimsegError as error:
            self.messageEmitted.emit("error", str(error))
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
        """Open the gallery; if one is open, bring it to the front instead."""
        if self.gallery is not None:
            self.gallery.raise_()
            return
        try:
            table = TagTable(folder, classes)
        except PlimsegError as error:
            self.messageEmitted.emit("error", str(error))
            return
        self.gallery = TagGallery(table, colors, self._dock)
        self.gallery.closed.connect(self._on_closed)
        self.gallery.show()
        if table.note:
            self.gallery.banner.show_message("warning", table.note)

    def _on_closed(self) -> None:
        gallery, self.gallery = self.gallery, None
        if gallery is not None and gallery.table.path.is_file():
            self.tagged.emit(gallery.table.folder)
