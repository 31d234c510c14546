"""The fold *Class activation map*: where a model sees a class or a typed word in the view."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_plimseg._widgets.common import (
    BackgroundJob,
    CollapsibleSection,
    Stage,
    on_destroyed,
    plain,
    run_once,
)
from napari_plimseg._widgets.generate.cam_jobs import (
    CamOffer,
    CamSources,
    CamState,
    cam_steps,
    find_cam_models,
)
from napari_plimseg._widgets.generate.cam_panel import CamPanel
from napari_plimseg._widgets.viewer import (
    OWNER_KEY,
    RemovedLayers,
    RunOn,
    add_value_layer,
    chosen_region,
    colors_of,
    fading_colormap,
    show_over,
)
from napari_plimseg.errors import PlimsegError
from napari_plimseg.inference import ENGINE, CamFrame, CamMaps, CamTile

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg._widgets.common import ClassList
    from napari_plimseg._widgets.viewer import MaskView, ViewerSlides
    from napari_plimseg.inference import RunSettings


_REDRAW_SECONDS = 0.25
_SHARE_LOW, _SHARE_HIGH = 1.0, 99.5
"""Percentiles of the cosines in view that get the first and the last color."""


class CamLayer(QObject):
    """Computes a CAM in the background and shows it as a layer, tile by tile.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject

    Attributes
    ----------
    changed : Signal()
        It began, ended, or its layer was removed.
    staged : Signal(str)
        What it is doing before the first tile.
    progressed : Signal(int, int)
        Tiles done, and of how many.
    failed : Signal(str)
        Why there is no CAM.
    """

    changed = Signal()
    staged = Signal(str)
    progressed = Signal(int, int)
    failed = Signal(str)

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._sources, self._maps = CamSources(), CamMaps()
        self.layer: Image | None = None
        self.frame: CamFrame | None = None
        self.what = ""
        self._owner: object = None
        self._mpp = 1.0
        self._mask: MaskView | None = None
        self._look: tuple[float, str] = (1.0, "magma")
        self._tissue: list[NDArray[np.float32]] = []
        self._drawn = 0.0
        self._job = BackgroundJob(self)
        self._job.yielded.connect(self._on_step)
        self._job.failed.connect(self.failed)
        self._job.finished.connect(self._on_finished)
        on_destroyed(self, RemovedLayers(viewer, self._on_removed).disconnect)

    @property
    def is_running(self) -> bool:
        """Whether a CAM is being computed."""
        return self._job.is_running

    def start(
        self,
        slides: ViewerSlides,
        mask: MaskView | None,
        state: CamState,
        settings: RunSettings,
        look: tuple[float, str],
    ) -> None:
        """Compute a CAM of what the window shows; the last one is replaced.

        Parameters
        ----------
        slides : ViewerSlides
            Has the current slide.
        mask : MaskView or None
            Its mask, which steps back.
        state : CamState
            What is to be shown.
        settings : RunSettings
            Device, and how tissue is found.
        look : tuple of float and str
            Opacity and colormap.

        Raises
        ------
        PlimsegError
            When the window shows nothing of the slide.
        """
        slide, layer = slides.slide, slides.layer
        if slide is None or layer is None:
            return
        view = chosen_region(self._viewer, layer, RunOn.VISIBLE)
        assert view is not None  # noqa: S101 - only the whole slide is None
        self._owner, self._mpp = slide, slide.mpp or 1.0
        self._mask, self._look, self.what = mask, look, state.what
        sources, maps = self._sources, self._maps
        self._job.start(
            lambda: cam_steps(
                state,
                sources,
                lambda source, target: maps.run(slide, source, target, view, settings),
            )
        )
        self.changed.emit()

    def stop(self) -> None:
        """Stop after the current tile; what is there stays."""
        self._job.stop()

    def stop_and_wait(self) -> None:
        """Stop and wait for the thread."""
        self._job.stop_and_wait()

    def hide(self) -> None:
        """Remove the layer."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)

    def set_opacity(self, opacity: float) -> None:
        """Set the layer's opacity, 0 to 1."""
        if self.layer is not None:
            self.layer.opacity = opacity

    def set_colormap(self, name: str) -> None:
        """Set the layer's colors."""
        if self.layer is not None:
            self.layer.colormap = fading_colormap(name)

    def _on_finished(self, _: bool) -> None:
        self._draw()
        self.changed.emit()

    def _on_removed(self, layer: Any) -> None:
        if layer is self.layer:
            self.layer = None
            self.stop()
            self.changed.emit()

    def _on_step(self, step: Stage | CamFrame | CamTile) -> None:
        if isinstance(step, Stage):
            self.staged.emit(step.text)
        elif isinstance(step, CamFrame):
            self._show_frame(step)
        elif self.layer is not None and self.frame is not None:
            rows, columns = step.window.slices
            self.layer.data[rows, columns] = step.values
            if step.tissue.any():
                self._tissue.append(step.values[step.tissue])
            if time.monotonic() - self._drawn > _REDRAW_SECONDS:
                self._draw()
            self.progressed.emit(step.done, self.frame.tiles)

    def _show_frame(self, frame: CamFrame) -> None:
        self.frame, self._tissue = frame, []
        old, self.layer = self.layer, None
        if old is not None and old in self._viewer.layers:
            self._viewer.layers.remove(old)
        mpp = self._mpp
        size = frame.downsample * mpp
        corner = np.array([frame.window.y, frame.window.x]) * size
        mask = self._mask
        mask = mask if mask is not None and mask.is_in(self._viewer) else None
        opacity, colormap = self._look
        self.layer = add_value_layer(
            self._viewer,
            np.full((frame.window.height, frame.window.width), frame.lowest, np.float32),
            below=None if mask is None else mask.layer,
            limits=(0.0, 1.0),
            colormap=colormap,
            name=plain(f"{self.what} · CAM"),
            opacity=opacity,
            scale=(size, size),
            translate=corner + (size - mpp) / 2,  # napari's origin is the first pixel's center
            units=("micrometer", "micrometer"),
            metadata={"plimseg_overlay": True, OWNER_KEY: self._owner},
        )
        if mask is not None:
            show_over(self._viewer, mask, self.layer)
        self.progressed.emit(0, frame.tiles)
        self.changed.emit()

    def _draw(self) -> None:
        """Draw the tiles so far, with the colors spread over their cosines.

        Probabilities keep 0 to 1.
        """
        frame, layer = self.frame, self.layer
        if frame is None or layer is None:
            return
        if frame.lowest < 0 and self._tissue:
            low, high = np.percentile(np.concatenate(self._tissue), (_SHARE_LOW, _SHARE_HIGH))
            layer.contrast_limits_range = (-1.0, 1.0)
            layer.contrast_limits = (float(low), float(max(high, low + 1e-3)))
        layer.refresh(extent=False)
        self._drawn = time.monotonic()


class CamContext(Protocol):
    """What the fold asks of its dock."""

    slides: ViewerSlides
    class_list: ClassList
    results: Any
    engine: Any

    @property
    def view(self) -> MaskView | None:
        """The mask of the current slide."""

    @property
    def settings(self) -> Any:
        """The settings of the next run."""


class CamFold(CollapsibleSection):
    """The fold itself: asks for a class or word, and shows its CAM.

    Parameters
    ----------
    viewer : napari.Viewer
    dock : CamContext
        It is asked only once it is complete.
    """

    def __init__(self, viewer: Viewer, dock: CamContext) -> None:
        self.panel = CamPanel()
        super().__init__("Class activation map (CAM)", self.panel)
        self._dock = dock
        self.cam = CamLayer(viewer, self)
        self._failure = ""
        self.panel.showRequested.connect(self.show_cam)
        self.panel.hideRequested.connect(self.cam.hide)
        self.panel.cancelRequested.connect(self.cam.stop)
        self.panel.changed.connect(self._on_choice)
        self.cam.changed.connect(self.refresh)
        self.cam.staged.connect(self._on_stage)
        self.cam.progressed.connect(self._on_progress)
        self.cam.failed.connect(self._on_failed)
        self.toggled.connect(self._on_toggled)
        self.panel.show_state("", running=False, shown=False)

    def connect_dock(self) -> None:
        """Follow the colors of the overlays of the dock."""
        results = self._dock.results
        results.opacityChanged.connect(self.cam.set_opacity)
        results.colormapChosen.connect(self.cam.set_colormap)
        self.cam.changed.connect(self._dock.engine.look)

    @property
    def state(self) -> CamState:
        """The current situation."""
        slide = self._dock.slides.slide
        return CamState(
            has_slide=slide is not None,
            mpp_known=slide is not None and slide.mpp is not None,
            what=self.panel.text,
            tissue_class=self.panel.offer.class_called(self.panel.text),
            model=self.panel.chosen_model,
            engine_owner="" if self.cam.is_running else ENGINE.owner,
        )

    def refresh(self) -> None:
        """Offer the classes of the current mask, and enable what can be used now."""
        view = self._dock.view
        classes = self._dock.class_list.classes if view is None else view.info.classes
        self.panel.show_offer(CamOffer(classes, self.panel.word))
        running, layer = self.cam.is_running, self.cam.layer
        self.panel.values.show_colors(colors_of(layer))
        why_not = self.state.why_not() if self.isExpanded() else ""
        if not running and not why_not:
            self.panel.line.setText(self._failure or self._about())
        self.panel.show_state(why_not, running=running, shown=layer is not None)

    def reload(self) -> None:
        """List the models again, in the background."""
        run_once(self, find_cam_models, self.panel.show_models, self._on_failed)

    def show_cam(self) -> None:
        """Compute the CAM of the chosen class or word for the current view."""
        state = self.state
        if state.why_not() or self.cam.is_running:
            return
        self._failure = ""
        self.panel.remember_word()
        view, look = self._dock.view, self._dock.results.overlay_choice[1:]
        try:
            settings = self._dock.settings.run_settings()
            self.cam.start(self._dock.slides, view, state, settings, look)
        except PlimsegError as error:
            self._on_failed(str(error))

    def _about(self) -> str:
        """Return what is shown, in one line; empty for nothing."""
        frame, layer = self.cam.frame, self.cam.layer
        if frame is None or layer is None:
            return ""
        what = "probability" if frame.lowest == 0 else "cosine"
        low, high = layer.contrast_limits
        text = f"{self.cam.what}: {what} {low:.2f} to {high:.2f}."
        if not frame.is_whole:
            text += " Only the middle of the view: zoom in to see all of it."
        return text

    def _on_choice(self) -> None:
        self._failure = ""
        self.refresh()

    def _on_toggled(self, is_open: bool) -> None:
        if is_open:
            self.reload()
        self.refresh()

    def _on_stage(self, text: str) -> None:
        self.panel.bar.setRange(0, 0)
        self.panel.line.setText(text)
        self.panel.line.show()

    def _on_progress(self, done: int, tiles: int) -> None:
        self.panel.bar.setRange(0, tiles)
        self.panel.bar.setValue(done)
        self.panel.line.setText(f"{done} / {tiles} tiles")

    def _on_failed(self, text: str) -> None:
        self._failure = text
        self.refresh()
