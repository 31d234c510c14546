"""The top of the dock: the slide, its size and its pixel size; and the preview of the tissue."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_plimseg._widgets.common import TOOLTIPS, FlowText, PlainLabel, run_once
from napari_plimseg._widgets.generate.history import ResultHistory
from napari_plimseg._widgets.viewer import show_tissue, slide_of
from napari_plimseg.slides import MPP_RANGE, usable_mpp
from napari_plimseg.slides.tissue_mask import tissue_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.viewer import Viewer
    from qtpy.QtGui import QShowEvent

    from napari_plimseg._widgets.viewer import ViewerSlides
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.slides import Slide, TissueMask


_LAID_OUT_MS = 100
NO_SLIDE = "No slide is open."
MPP_HINT = "Pixel size unknown. Typical: 0.25 µm/px at 40x, 0.5 at 20x."


def describe_size(slide: Slide) -> str:
    """Return the size of a slide as text: pixels, millimeters and pixel size."""
    height, width = slide.shape
    text = f"{width:,} × {height:,} px"
    if slide.mpp is not None:
        across, down = width * slide.mpp / 1000, height * slide.mpp / 1000
        text += f" · {across:.3g} × {down:.3g} mm · {slide.mpp:.4g} µm/px"
        if slide.mpp_is_given:
            text += " (entered)"
    return text


def parse_mpp(text: str) -> float | None:
    """Parse a typed pixel size, with decimal point or comma; None when it is not usable."""
    try:
        return usable_mpp(float(text.strip().replace(",", ".")))
    except ValueError:
        return None


class PixelSizeRow(QWidget):
    """A line to type the pixel size into, for slides and images that do not state it.

    Parameters
    ----------
    tooltip : str
        Key in `TOOLTIPS`.
    example : str
        Shown while the line is empty.
    unit : str
        After the line.

    Attributes
    ----------
    edited : Signal()
        The line was edited, whatever is in it now.
    typed : Signal(float)
        A usable pixel size was typed, in micrometers.
    refused : Signal(str)
        Something else was typed; the sentence says what is expected.
    """

    edited = Signal()
    typed = Signal(float)
    refused = Signal(str)

    def __init__(
        self, tooltip: str, example: str = "for example 0.25", unit: str = "µm/px"
    ) -> None:
        super().__init__()
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(example)
        self.edit.setToolTip(TOOLTIPS[tooltip])
        self.edit.editingFinished.connect(self._on_edited)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(PlainLabel("Pixel size"))
        line.addWidget(self.edit, 1)
        line.addWidget(PlainLabel(unit))

    @property
    def mpp(self) -> float | None:
        """Micrometers per pixel; None when the line holds no usable number."""
        return parse_mpp(self.edit.text())

    def _on_edited(self) -> None:
        text, mpp = self.edit.text(), self.mpp
        if mpp is not None:
            self.typed.emit(mpp)
        elif text.strip():
            low, high = MPP_RANGE
            self.refused.emit(f"'{text}' is not a pixel size between {low} and {high} µm/px.")
        self.edited.emit()


class SlideSection(QWidget):
    """Shows the slide and has the buttons that open one.

    Attributes
    ----------
    openRequested, sampleRequested : Signal()
        A button was pressed.
    slideChosen : Signal(int)
        Index in the list of slides.
    appeared : Signal()
        The section was shown for the first time, and the window has its layout.
    """

    openRequested = Signal()
    sampleRequested = Signal()
    slideChosen = Signal(int)
    appeared = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = QComboBox()
        self.combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.combo.setMinimumContentsLength(12)
        self.combo.setToolTip(TOOLTIPS["slide"])
        self.combo.activated.connect(self.slideChosen)
        self.open_button = QPushButton("Open slide…")
        self.open_button.setToolTip(TOOLTIPS["open"])
        self.open_button.clicked.connect(lambda: self.openRequested.emit())
        self.sample_button = QPushButton("Sample slide")
        self.sample_button.setToolTip(TOOLTIPS["sample"])
        self.sample_button.clicked.connect(lambda: self.sampleRequested.emit())
        self.size_label = FlowText(NO_SLIDE)
        self.notes_label = FlowText()
        self.notes_label.hide()
        self.mpp_hint = FlowText(MPP_HINT)
        self.mpp_row = PixelSizeRow("mpp")
        self.mpp_edit = self.mpp_row.edit

        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.sample_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(buttons)
        layout.addWidget(self.combo)
        self.history = ResultHistory()
        layout.addWidget(self.history)
        layout.addWidget(self.size_label)
        layout.addWidget(self.mpp_hint)
        layout.addWidget(self.mpp_row)
        layout.addWidget(self.notes_label)
        self.show_slides([], None)
        self._appearing = QTimer(self)
        self._appearing.setSingleShot(True)
        self._appearing.timeout.connect(self.appeared)
        self._has_appeared = False

    def showEvent(self, event: QShowEvent) -> None:
        """Tell when the window has its layout, once."""
        super().showEvent(event)
        if not self._has_appeared:
            self._has_appeared = True
            self._appearing.start(_LAID_OUT_MS)

    def show_slides(self, names: Sequence[str], current: int | None) -> None:
        """List the slides in the viewer."""
        self.combo.clear()
        self.combo.addItems(list(names))
        self.combo.setVisible(bool(names))
        if current is not None:
            self.combo.setCurrentIndex(current)

    def show_slide(self, slide: Slide | None) -> None:
        """Show the size and pixel size of a slide, and ask for the latter if it is unknown."""
        size = NO_SLIDE if slide is None else describe_size(slide)
        # no break between a number and its unit, only at the dots
        self.size_label.setText(size.replace(" ", "\u00a0").replace("\u00a0·\u00a0", " · "))
        asks = slide is not None and (slide.mpp is None or slide.mpp_is_given)
        self.mpp_row.setVisible(asks)
        unknown = slide is not None and slide.mpp is None
        self.mpp_hint.setVisible(unknown)
        self.mpp_edit.setStyleSheet("QLineEdit {border: 2px solid #e0a100;}" if unknown else "")
        if slide is not None and asks:
            self.mpp_edit.setText("" if slide.mpp is None else f"{slide.mpp:g}")
        notes = "" if slide is None else " ".join(slide.notes)
        self.notes_label.setText(notes)
        self.notes_label.setVisible(bool(notes))


class TissuePreview(QObject):
    """Finds the tissue in the background and adds it as a layer.

    Parameters
    ----------
    viewer : napari.Viewer
        The layer is added to it.
    slides : ViewerSlides
        Knows the current slide.
    dock : QObject
        Owner.

    Attributes
    ----------
    messageEmitted : Signal(str, str)
        Kind and text of a message for the banner.
    """

    messageEmitted = Signal(str, str)

    def __init__(self, viewer: Viewer, slides: ViewerSlides, dock: QObject) -> None:
        super().__init__(dock)
        self._viewer = viewer
        self._slides = slides

    def show(self, settings: DockSettings) -> None:
        """Find the tissue of the current slide and show it."""
        slide = self._slides.slide
        if slide is not None:
            how = settings.tissue_settings()
            run_once(
                self,
                lambda: tissue_mask(slide, how),
                functools.partial(self._on_tissue, slide),
                lambda text: self.messageEmitted.emit("error", text),
            )

    def _on_tissue(self, slide: Slide, tissue: TissueMask) -> None:
        layer = next((la for la in self._slides.layers if slide_of(la) is slide), None)
        if layer is None:
            return
        show_tissue(self._viewer, layer, tissue, f"{Path(slide.name).stem} · tissue")
        self.messageEmitted.emit("info", f"{100 * tissue.fraction:.0f} % of the slide is tissue.")
