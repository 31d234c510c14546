"""The slides among the viewer's layers, and the current one."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_plimseg._reader import SLIDE_KEY, read_slides
from napari_plimseg._sample_data import MODEL_KEY, cmu_1_small_region
from napari_plimseg._widgets.viewer.slide_groups import (
    fit_slide,
    is_centered_on,
    owner_of,
    slide_groups,
    slide_of,
)
from napari_plimseg._widgets.viewer.slide_watch import watch_slides
from napari_plimseg.errors import PlimsegError
from napari_plimseg.settings import load_settings
from napari_plimseg.slides import filename_patterns

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from napari_plimseg._reader import LayerData
    from napari_plimseg.slides import Slide


class ViewerSlides:
    """Follows the slide layers of a viewer.

    The current slide is the one selected or opened last, or the one of which a mask or another
    layer was selected. It is shown with its own layers; those of other slides are hidden.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    on_changed : callable
        Called without arguments when slides are added or removed or another one becomes current.
    on_shapes : callable
        Called without arguments when shapes may have been drawn or removed.
    """

    def __init__(
        self, viewer: Viewer, on_changed: Callable[[], None], on_shapes: Callable[[], None]
    ) -> None:
        self._viewer = viewer
        self._on_changed = on_changed
        self._on_shapes = on_shapes
        self._current: Image | None = None
        self._suggested: weakref.WeakSet[Image] = weakref.WeakSet()
        events = viewer.layers.events
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        for layer in viewer.layers:
            self._watch(layer)
        self._groups = slide_groups(viewer)
        watch_slides(viewer)
        shown = [layer for layer in self.layers if slide_of(layer) is self._groups.shown]
        self._current = next(reversed(shown or self.layers), None)
        self._show_current()

    def disconnect(self) -> None:
        """Stop following the viewer."""
        events = self._viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removed.disconnect(self._on_removed)
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._on_changed = self._on_shapes = _nothing

    @property
    def layers(self) -> list[Image]:
        """The slide layers, lowest first."""
        return [layer for layer in self._viewer.layers if slide_of(layer) is not None]

    @property
    def layer(self) -> Image | None:
        """The layer of the current slide."""
        return self._current

    @property
    def slide(self) -> Slide | None:
        """The current slide."""
        return slide_of(self._current)

    @property
    def position(self) -> int | None:
        """Index of the current slide in `layers`."""
        return None if self._current is None else self.layers.index(self._current)

    def fit_again(self) -> None:
        """Fit the current slide if nobody has moved the view since it was fitted.

        napari fits a slide of its command line before the window has its size and its docks.
        """
        if self._current is not None and is_centered_on(self._viewer, self._current):
            fit_slide(self._viewer, self._current)

    @property
    def um_per_screen_pixel(self) -> float | None:
        """Micrometers per pixel of the screen, None when the slide's pixel size is unknown."""
        known = self.slide is not None and self.slide.mpp is not None
        return self._groups.world_per_pixel if known else None

    def choose(self, position: int) -> None:
        """Make another slide current and select its layer."""
        self._current = self.layers[position]
        self._viewer.layers.selection.active = self._current
        self._show_current()
        fit_slide(self._viewer, self._current)
        self._on_changed()

    def _show_current(self) -> bool:
        return self._groups.show(self.slide)

    def new_suggestion(self) -> str:
        """Return the name of the model that knows the current slide's tissue; "" for none.

        A layer suggests its model only once: afterwards the user may choose another one.
        """
        layer = self._current
        if layer is None or layer in self._suggested:
            return ""
        self._suggested.add(layer)
        return str(layer.metadata.get(MODEL_KEY, ""))

    def set_mpp(self, mpp: float) -> None:
        """Set the pixel size of the current slide and rescale its layers.

        Raises
        ------
        SlideError
            When the pixel size is out of range.
        """
        slide = self.slide
        if slide is None:
            return
        slide.mpp = mpp
        for layer in self.layers:
            if slide_of(layer) is slide:
                layer.scale = (mpp, mpp)
                layer.units = ("micrometer", "micrometer")
        self._groups.hide_others()  # in the same unit
        self._on_changed()

    def settle(self) -> None:
        """Hide a new mask of a slide that is not shown; the one shown stays selected."""
        selection = self._viewer.layers.selection
        owner = None if selection.active is None else owner_of(selection.active, [])
        self._groups.hide_others()
        if owner is not None and owner is not self.slide:
            selection.active = self._current

    def _watch(self, layer: Layer) -> None:
        from napari.layers import Shapes

        if isinstance(layer, Shapes):
            layer.events.data.connect(self._on_shapes_data)

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)
        if slide_of(event.value) is not None:
            self._current = event.value
            if self._show_current():
                fit_slide(self._viewer, event.value)
            self._on_changed()
        else:
            self._on_shapes()

    def _on_removed(self, event: Any) -> None:
        if event.value is self._current:
            self._current = next(reversed(self.layers), None)
            if self._current is not None and self._show_current():
                fit_slide(self._viewer, self._current)
            self._on_changed()
        else:
            self._on_shapes()

    def _on_active(self, event: Any) -> None:
        if event.value is None:
            return
        layers = self.layers
        slides = [slide for layer in layers if (slide := slide_of(layer)) is not None]
        owner = owner_of(event.value, slides)
        if owner in slides and owner is not self.slide:
            self._current = layers[slides.index(owner)]
            if self._show_current():
                fit_slide(self._viewer, self._current)
            self._on_changed()

    def _on_shapes_data(self, event: Any = None) -> None:
        self._on_shapes()


class ThemeColor:
    """Passes on the text color of the viewer's theme, now and whenever it changes.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    on_changed : callable
        Called with the color as "#rrggbb".
    """

    def __init__(self, viewer: Viewer, on_changed: Callable[[str], None]) -> None:
        self._viewer = viewer
        self._on_changed = on_changed
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def disconnect(self) -> None:
        """Stop following the viewer."""
        self._viewer.events.theme.disconnect(self._on_theme)

    def _on_theme(self, event: Any = None) -> None:
        from napari.utils.theme import get_theme

        self._on_changed(get_theme(self._viewer.theme).text.as_hex())


def _nothing() -> None:
    """Do nothing; replaces the callbacks of a closed dock."""


def slide_file_filter() -> str:
    """Return the filter of a file dialog that opens slides, from the table of readers."""
    return f"Slides and pictures ({' '.join(filename_patterns())});;All files (*)"


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
        The slide was added to the viewer.
    failed : Signal(str)
        The slide can't be opened; the message says why.
    folderChosen : Signal(str)
        Folder of the file chosen in the dialog.
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
        path, _ = QFileDialog.getOpenFileName(self._dock, "Open slide", start, slide_file_filter())
        if path:
            self.folderChosen.emit(str(Path(path).parent))
            self.open(path)

    def open(self, path: str) -> None:
        """Open a slide file, or select its layer if it is open already."""
        self._add_layers(lambda: read_slides(path))

    def open_sample(self) -> None:
        """Open the sample slide of the plugin."""
        self._add_layers(cmu_1_small_region)

    def _layer_of(self, slide: Slide) -> Layer | None:
        """Return the layer that shows the file of a slide already, if any."""
        wanted = slide.path.absolute()
        for layer in self._viewer.layers:
            shown = slide_of(layer)
            if shown is not None and shown.path.absolute() == wanted:
                return layer
        return None

    def _add_layers(self, read: Callable[[], list[LayerData]]) -> None:
        # not with viewer.open: napari would replace a reader's message by its own
        try:
            for data, facts, kind in read():
                slide = facts["metadata"].get(SLIDE_KEY)
                known = None if slide is None else self._layer_of(slide)
                if known is not None:
                    slide.close()
                    self._viewer.layers.selection.active = known
                elif kind == "image":
                    self._viewer.add_image(data, **facts)
                else:
                    self._viewer.add_labels(data, **facts)
        except PlimsegError as error:
            self.failed.emit(str(error))
        else:
            self.opened.emit()
