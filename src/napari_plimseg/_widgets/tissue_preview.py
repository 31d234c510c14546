"""Shows what would be taken for tissue, before any model runs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.background_job import run_once
from napari_plimseg._widgets.layer_views import show_tissue
from napari_plimseg._widgets.run_steps import find_tissue, tissue_settings
from napari_plimseg._widgets.viewer_slides import slide_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_plimseg._widgets.viewer_slides import ViewerSlides
    from napari_plimseg.settings import DockSettings
    from napari_plimseg.slides.slide import Slide
    from napari_plimseg.slides.tissue_mask import TissueMask


class TissuePreview(QObject):
    """Finds tissue in a thread and adds a layer with it.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer.
    slides : ViewerSlides
        Knows the slide that is shown.
    dock : QObject
        Owner.

    Attributes
    ----------
    told : Signal(str, str)
        A kind of banner and its sentence.
    """

    told = Signal(str, str)

    def __init__(self, viewer: Viewer, slides: ViewerSlides, dock: QObject) -> None:
        super().__init__(dock)
        self._viewer = viewer
        self._slides = slides

    def show(self, settings: DockSettings) -> None:
        """Look for tissue on the current slide and show it."""
        slide = self._slides.slide
        if slide is not None:
            how = tissue_settings(settings)
            run_once(
                self,
                lambda: find_tissue(slide, how),
                functools.partial(self._on_tissue, slide),
                lambda text: self.told.emit("error", text),
            )

    def _on_tissue(self, slide: Slide, tissue: TissueMask) -> None:
        layer = next((la for la in self._slides.layers if slide_of(la) is slide), None)
        if layer is None:
            return
        show_tissue(self._viewer, layer, tissue, f"{Path(slide.name).stem} · tissue")
        self.told.emit("info", f"{100 * tissue.fraction:.0f} % of the slide is tissue.")
