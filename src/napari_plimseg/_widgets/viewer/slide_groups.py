"""Which layers belong to which slide, so that a slide is shown with its own layers only."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._reader import MASK_KEY, SLIDE_KEY
from napari_plimseg._widgets.viewer.camera import get_camera, show_world_box
from napari_plimseg._widgets.viewer.mask_layer import VIEW_KEY, mask_view_of
from napari_plimseg._widgets.viewer.napari_private import unwrapped
from napari_plimseg.slides import Slide

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer
    from napari.viewer import Viewer


OWNER_KEY = "plimseg_owner"
"""Key of a layer's metadata that holds the `Slide` to which the layer belongs."""


def slide_of(layer: Layer | None) -> Slide | None:
    """Return the slide that a layer shows, or None."""
    slide = None if layer is None else layer.metadata.get(SLIDE_KEY)
    return slide if isinstance(slide, Slide) else None


def owner_of(layer: Layer, slides: list[Slide]) -> Slide | None:
    """Return the slide that a layer shows or belongs to; None for layers of other programs.

    Parameters
    ----------
    layer : napari.layers.Layer
    slides : list of Slide
        The open ones: an exported mask that was opened belongs to the one of its name and size.
    """
    view = mask_view_of(layer)
    if VIEW_KEY in layer.metadata and not hasattr(layer.metadata[VIEW_KEY], "layer"):
        return None  # a mask being added: that napari selects it must not show its slide
    owner = slide_of(layer) or layer.metadata.get(OWNER_KEY) or (view and view.slide)
    if isinstance(owner, Slide):
        return owner
    info = layer.metadata.get(MASK_KEY)
    if info is None:
        return None
    return next((s for s in slides if (s.path.name, s.shape) == _place(info)), None)


def _place(info: object) -> tuple[str, tuple[int, int]]:
    return getattr(info, "slide_name", ""), getattr(info, "slide_shape", (0, 0))


class RemovedLayers:
    """Reports layers that are removed from a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
    on_removed : callable
        Called with the layer.
    """

    def __init__(self, viewer: Viewer, on_removed: Callable[[Layer], None]) -> None:
        self._events = viewer.layers.events
        self._on_removed = on_removed
        self._events.removed.connect(self._removed)

    def disconnect(self) -> None:
        """Stop following the viewer."""
        self._events.removed.disconnect(self._removed)

    def _removed(self, event: Any) -> None:
        self._on_removed(unwrapped(event.value))


class SlideGroups:
    """Shows the layers of one slide and hides those of the others.

    What was visible of a slide when it was hidden is visible again when it is shown.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self._seen_viewer = weakref.ref(unwrapped(viewer))  # the groups live as long as it does
        self._hidden: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._shown: Slide | None = None
        self._units: weakref.WeakKeyDictionary[Layer, Any] = weakref.WeakKeyDictionary()

    @property
    def _viewer(self) -> Viewer:
        viewer = self._seen_viewer()
        assert viewer is not None  # noqa: S101 - its docks ask
        return viewer

    @property
    def shown(self) -> Slide | None:
        """The slide shown last; None before the first."""
        return self._shown

    def show(self, slide: Slide | None) -> bool:
        """Show a slide with its own layers only; return whether another one was shown before."""
        changed = slide is not self._shown
        before, self._shown = self._shown, slide
        if slide is None:
            return changed
        layers = [*self._viewer.layers]
        slides = [s for s in map(slide_of, layers) if s is not None]
        owned = [(layer, owner_of(layer, slides)) for layer in layers]
        for layer, owner in owned:
            if owner is slide:
                if layer in self._units:
                    layer.units = self._units.pop(layer)
                if layer in self._hidden:
                    self._hidden.discard(layer)
                    layer.visible = True
            elif owner is not None and layer.visible:
                self._hidden.add(layer)
                layer.visible = False
        self._set_units(slide, owned)
        return changed and before is not None

    def hide_others(self) -> None:
        """Hide new layers of slides that are not shown; the selection stays with those shown."""
        self.show(self._shown)

    def _set_units(self, slide: Slide, owned: list[tuple[Layer, Slide | None]]) -> None:
        """Give hidden layers the unit of the slide shown.

        napari shows no unit at all while one layer is in micrometers and another one in pixels.
        """
        unit = "pixel" if slide.mpp is None else "micrometer"
        for layer, owner in owned:
            elsewhere = owner is not None and owner is not slide and not layer.visible
            if elsewhere and {str(each) for each in layer.units} != {unit}:
                self._units.setdefault(layer, layer.units)
                layer.units = (unit,) * layer.ndim

    @property
    def world_per_pixel(self) -> float:
        """World length of a pixel of the screen."""
        return float(1 / get_camera(self._viewer).zoom)


def is_centered_on(viewer: Viewer, layer: Layer) -> bool:
    """Whether the middle of the window is that of a slide, as after fitting it."""
    middle = np.asarray(layer.extent.world, float)[:, -2:].mean(0)
    pixel = np.abs(np.asarray(layer.scale, float)[-2:])
    center = np.asarray(get_camera(viewer).center, float)[-2:]
    return bool((np.abs(center - middle) <= pixel).all())


def fit_slide(viewer: Viewer, layer: Layer) -> None:
    """Show all of a slide in the window."""
    low, high = np.asarray(layer.extent.world, float)[:, -2:]  # (2,), (2,)
    height, width = high - low
    window = unwrapped(viewer)
    show_world_box(window, low[0], low[1], height, width, at_least=1e-9, margin=_FIT_MARGIN)


_by_viewer: dict[int, SlideGroups] = {}


def slide_groups(viewer: Viewer) -> SlideGroups:
    """Return the groups of a viewer, which all docks share, also one that is opened again.

    A dock with groups of its own would not know what another one has hidden.
    """
    viewer = unwrapped(viewer)
    found = _by_viewer.get(id(viewer))
    if found is None:
        found = _by_viewer[id(viewer)] = SlideGroups(viewer)
        weakref.finalize(viewer, _by_viewer.pop, id(viewer), None)
    return found


_FIT_MARGIN = 0.025
