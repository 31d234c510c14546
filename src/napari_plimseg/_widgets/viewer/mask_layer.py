"""The mask as a napari layer; only called from the main thread."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_plimseg._widgets.common import plain
from napari_plimseg._widgets.viewer.correction_recorder import CELL, CorrectionRecorder
from napari_plimseg._widgets.viewer.mask_pixels import MaskPixels
from napari_plimseg._widgets.viewer.napari_private import (
    NumberedHistory,
    SavedHistory,
    draw_part,
    history_stacks,
    unwrapped,
)
from napari_plimseg.errors import CorrectionsError, StoreError
from napari_plimseg.results import ClassChange, ClassEdits, Corrections
from napari_plimseg.tissue import NOT_COMPUTED, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from napari.layers import Image, Labels, Layer
    from napari.utils.colormaps import DirectLabelColormap
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_plimseg.results import MaskInfo, MaskStore
    from napari_plimseg.slides import Slide, TissueMask
    from napari_plimseg.tiling import Window
    from napari_plimseg.tissue import Color, TissueClasses


UNREADABLE_COLOR = (1.0, 0.0, 1.0, 1.0)


def label_colors(
    classes: TissueClasses,
    hidden: Collection[str] = (),
    opacities: Mapping[str, float] | None = None,
) -> dict[int | None, tuple[float, float, float, float]]:
    """Return red, green, blue and alpha (0 to 1) by mask id.

    Hidden classes are transparent. `opacities` gives alpha by name for the others, by default 1.
    """
    clear = (0.0, 0.0, 0.0, 0.0)
    colors: dict[int | None, tuple[float, float, float, float]] = {
        None: clear,
        NOT_COMPUTED: clear,
        UNREADABLE: UNREADABLE_COLOR,
    }
    for mask_id, tissue_class in enumerate(classes, start=1):
        red, green, blue = (c / 255 for c in tissue_class.color)
        alpha = (opacities or {}).get(tissue_class.name, 1.0)
        colors[mask_id] = clear if tissue_class.name in hidden else (red, green, blue, alpha)
    return colors


def label_colormap(
    classes: TissueClasses,
    hidden: Collection[str] = (),
    opacities: Mapping[str, float] | None = None,
) -> DirectLabelColormap:
    """Return the colormap of a mask layer."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict=label_colors(classes, hidden, opacities))


MAX_SIDE = 16_384
"""Beyond this side, napari does not tile the texture and redraws it for every brush stroke."""
MASK_OPACITY = 0.5
BEHIND = 0.2
"""Factor of a mask's opacity while a map of values is shown; outlines show its classes then."""
VIEW_KEY = "plimseg_view"
"""Key of a labels layer's metadata that holds its `MaskView`."""
CONFIDENCE = "confidence"
_recorded: weakref.WeakSet[MaskView] = weakref.WeakSet()
"""The masks whose corrections are recorded."""


def mask_title(store: MaskStore) -> str:
    """Return what tells the masks of a slide apart: model and date."""
    made = datetime.fromisoformat(store.created)
    return f"{store.info.model_name or 'mask'} · {made.day} {made:%b %Y %H:%M}"


def decimation(shape: tuple[int, int], max_side: int = MAX_SIDE) -> int:
    """Return the step between shown mask pixels that keeps each side within `max_side`."""
    return max(1, -(-max(shape) // max_side))


class MaskView:
    """A labels layer that shows a mask, while it is computed too, with corrections on top.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer.
    slide : Slide
        The slide of the mask.
    store : MaskStore
        Holds the mask as computed by the model.
    mask : ndarray of uint8, shape (h, w)
        The part of the mask that is computed already.
    classes : TissueClasses
        Gives a new mask the colors that were chosen before its run, by the model's names.
    hidden : collection of str
        Classes of the model that are transparent.
    before : MaskView, optional
        The mask shown before the run: a new mask of the same classes of a model begins with its
        edits.

    Attributes
    ----------
    layer : napari.layers.Labels
        Shows every `step`-th pixel of the mask, and can be painted on.
    pixels : MaskPixels
        The model's output and the layer's array.
    corrections : Corrections or None
        What was painted, saved beside the store; None when that is impossible, see `note`.
    recorder : CorrectionRecorder or None
        Records and saves what is painted.
    edits : ClassEdits
        What was changed about the classes, kept with the store; `edit_classes` changes it.
    info : MaskInfo
        With the classes as shown.
    is_growing : bool
        Whether a run is writing into the store.
    maps : MapsOverMask or None
        The maps of values shown over it, which it steps back for.
    grown : napari.utils.events.EventEmitter
        Emitted when a run begins or ends: what was found in the mask before is out of date.
    reclassing, reclassed : napari.utils.events.EventEmitter
        Emitted before and after the classes are edited; the second with a `ClassChange` as
        `change`.
    """

    def __init__(
        self,
        viewer: Viewer,
        slide: Slide,
        store: MaskStore,
        mask: NDArray[np.uint8],
        classes: TissueClasses,
        *,
        slide_stem: str,
        hidden: Collection[str] = (),
        before: MaskView | None = None,
        max_side: int = MAX_SIDE,
    ) -> None:
        from napari.utils.events import EventEmitter

        self.slide = slide
        self.store = store
        self.is_growing = False
        self.grown, self.reclassing, self.reclassed = (
            EventEmitter(source=self, type_name=name)
            for name in ("grown", "reclassing", "reclassed")
        )
        self.step = decimation(store.info.shape, max_side)
        self.edits, edits_problem = _edits_of(store, classes, before)
        self.info: MaskInfo = self.edits.described(store.info)
        classes = self.info.classes
        self.corrections, self._problem = _corrections_of(store, self.info)
        self._edits_problem = edits_problem
        self.recorder: CorrectionRecorder | None = None
        # what was painted on another mask in the last half second must show here, too
        commit_shared(self)
        self.pixels = MaskPixels(mask, self.step, self.corrections, self._table)
        self.hidden = self.shown_names(hidden)
        hidden = self.hidden
        self.opacities: dict[str, float] = {}
        self._shown_colors = label_colors(classes, hidden)
        self._saved_history: SavedHistory | None = None
        self._undrawn: list[tuple[slice, slice]] = []
        self.layer: Labels = unwrapped(
            viewer.add_labels(
                self.pixels.shown,
                name=plain(f"{slide_stem} · {mask_title(store)}"),
                opacity=MASK_OPACITY,
                colormap=label_colormap(classes, hidden),
                metadata={
                    "plimseg_mask_info": self.info,
                    "plimseg_store": str(store.path),
                    VIEW_KEY: self,
                },
                **self.placement(),
            )
        )
        self.layer.selected_label = 1
        self._fill_in_front: float | None = None
        self.maps: Any = None
        self._history = NumberedHistory()
        if self.corrections is not None:
            self.recorder = CorrectionRecorder(
                viewer, self.layer, self.pixels, self.corrections,
                weakref.WeakMethod(self.redraw_others),
            )  # fmt: skip
            _recorded.add(self)

    def placement(self) -> dict[str, Any]:
        """Return scale, translation and units of a layer with this mask's shown pixels."""
        size = self.info.napari_scale[0] * self.step
        level_0_pixel = self.info.mpp or 1.0
        shift = (size - level_0_pixel) / 2  # napari's origin is the center of the first pixel
        unit = "micrometer" if self.info.mpp else "pixel"
        return {"scale": (size, size), "translate": (shift, shift), "units": (unit, unit)}

    def is_in(self, viewer: Viewer) -> bool:
        """Whether the layer is still in the viewer; the user may have deleted it."""
        return self.layer in viewer.layers

    @property
    def shows_corrections(self) -> bool:
        """Whether corrections are shown, so that the mask can be painted."""
        return self.pixels.shows_corrections

    @property
    def corrected_pixels(self) -> int:
        """Number of corrected mask pixels."""
        return 0 if self.corrections is None else self.corrections.pixels

    @property
    def note(self) -> str:
        """Sentences about problems with the corrections; empty without problems."""
        note = self._problem if self.corrections is None else self.corrections.note()
        return f"{self._edits_problem} {note}".strip()

    @property
    def opacity(self) -> float:
        """Opacity, 0 to 1, that the mask has in front: when no map is shown over it."""
        in_front = self._fill_in_front
        return float(self.layer.opacity) if in_front is None else in_front

    def set_mask_opacity(self, opacity: float) -> None:
        """Set the opacity, 0 to 1, that the mask has in front."""
        if self._fill_in_front is None:
            self.layer.opacity = opacity
        else:
            self._fill_in_front = opacity
            self.layer.opacity = opacity * BEHIND

    def step_back(self, back: bool) -> None:
        """Lower the opacity for a map that is shown, or put it back."""
        if back and self._fill_in_front is None:
            self._fill_in_front = float(self.layer.opacity)
            self.layer.opacity = self._fill_in_front * BEHIND
        elif not back and self._fill_in_front is not None:
            in_front, self._fill_in_front = self._fill_in_front, None
            # what was chosen in napari's own controls meanwhile stays
            if np.isclose(self.layer.opacity, in_front * BEHIND):
                self.layer.opacity = in_front

    def set_growing(self, growing: bool) -> None:
        """Say that a run begins or ends."""
        self.is_growing = growing
        self.grown()

    def fill(self, window: Window, mask: NDArray[np.uint8]) -> None:
        """Write a finished tile into the layer's array, without drawing it yet.

        It replaces older output of the model, but never corrections.
        """
        self._fill(*shown_part(window, mask, self.step))

    def take(self, mask: NDArray[np.uint8]) -> None:
        """Show the whole mask of a store; corrections stay."""
        output = mask[:: self.step, :: self.step]
        height, width = output.shape
        for top in range(0, height, CELL):
            rows = slice(top, min(top + CELL, height))
            self._fill(rows, slice(0, width), output[rows])
        self.refresh()

    def _fill(self, rows: slice, columns: slice, block: NDArray[np.uint8]) -> None:
        if not self.pixels.is_news(rows, columns, block):
            return
        if self.recorder is not None:
            self.recorder.commit(rows, columns, unnoted=True)
        self.pixels.fill(rows, columns, block)
        self._undrawn.append((rows, columns))

    def refresh_window(self, rows: slice, columns: slice) -> None:
        """Show changed corrections in a part of the mask, in every mask of the slide.

        The part is given in mask pixels at full resolution.
        """
        rows, columns = (
            slice(part.start // self.step, -(-part.stop // self.step)) for part in (rows, columns)
        )
        self.redraw(rows, columns)
        if self.recorder is not None:
            self.redraw_others(rows, columns)

    def redraw_others(self, rows: slice, columns: slice) -> None:
        """Show the corrections of a part, in shown pixels, in the other masks of the slide."""
        for other in sharing(self):
            if other is not self:
                scale = (self.info.downsample * self.step) / (other.info.downsample * other.step)
                other.redraw(_scaled(rows, scale), _scaled(columns, scale))

    def redraw(self, rows: slice, columns: slice) -> None:
        """Show the corrections of a part, given in shown pixels."""
        rows, columns = (
            slice(max(0, part.start), min(part.stop, side))
            for part, side in zip((rows, columns), self.pixels.shown.shape, strict=True)
        )
        if self.recorder is not None and rows.start < rows.stop and columns.start < columns.stop:
            self.recorder.commit(rows, columns)
            self.pixels.redraw(rows, columns)
            self.recorder.draw(rows, columns)

    def show_corrections(self, on: bool) -> None:
        """Show the corrections, or only the model's output, which can't be painted on."""
        if self.recorder is None or on == self.pixels.shows_corrections:
            return
        if not on:
            self.recorder.commit_all()
            self._saved_history = SavedHistory(self.layer)
        self.pixels.shows_corrections = on
        self.layer.editable = on
        if on and self._saved_history is not None:
            self._saved_history.restore()
            self._saved_history = None
        self.pixels.redraw_all()
        self.refresh()

    def overlay_values(self, what: str) -> NDArray[np.uint8]:
        """Return the values of an overlay for the pixels of this layer."""
        if what == CONFIDENCE:
            return confidence_values(self.store, self.step)
        rows, columns = (slice(0, side) for side in self.info.shape)
        values = np.zeros(self.pixels.shown.shape, np.uint8)
        for i in self.edits.model_ids(what):  # a merged class is as probable as its parts together
            part = self.store.read("probabilities", rows, columns, step=self.step, channel=i - 1)
            values = np.minimum(values, 255 - part) + part
        return values

    def refresh(self) -> None:
        """Draw the whole mask."""
        self._undrawn.clear()
        self.layer.refresh(extent=False)

    def draw_filled(self) -> None:
        """Draw only the tiles that were filled since the last call."""
        parts, self._undrawn = self._undrawn, []
        for rows, columns in parts:
            if self.recorder is None:
                draw_part(self.layer, rows, columns)
            else:
                self.recorder.draw(rows, columns)

    def hide_classes(self, names: Collection[str]) -> None:
        """Hide classes as shown, by name; show the others."""
        self.hidden = frozenset(names)
        self._show_colors()

    def recolor(self, name: str, color: Color) -> str:
        """Give a class as shown another color; return why that can't be kept, empty when it is."""
        try:
            self.edit_classes(self.edits.recolored({name: color}))
        except StoreError as error:
            return str(error)
        return ""

    def set_opacity(self, name: str, opacity: float) -> None:
        """Set the opacity (0 to 1) of one class; hidden classes stay hidden."""
        self.opacities[name] = opacity
        self._show_colors()

    def edit_classes(self, edits: ClassEdits) -> bool:
        """Show edited classes, and keep them with the mask; return whether strokes were forgotten.

        Strokes can still be undone, unless one class becomes several after others were painted.

        Raises
        ------
        StoreError
            When they can't be kept; then nothing changes.
        """
        self.reclassing()
        edits.write(self.store.path)
        if self.recorder is not None:
            self.recorder.commit_all()  # in the ids of now
        change = ClassChange(self.edits.state, edits.state)
        self.edits, self._edits_problem = edits, ""
        names = change.names
        self.hidden = frozenset(names[name] for name in self.hidden if name in names)
        self.opacities = {names[n]: value for n, value in self.opacities.items() if n in names}
        self._set_info(edits.described(self.info))
        lost = change.moves_ids and self._renumber(change)
        # also where no color changed: those who show the names follow this event
        self._shown_colors = {}
        self._show_colors()
        self.reclassed(change=change)
        return lost

    def _renumber(self, change: ClassChange) -> bool:
        table, selected = change.table, int(self.layer.selected_label)
        self.pixels.use_table(self._table)
        if self.corrections is None and table is not None:
            np.copyto(self.pixels.shown, np.take(table, self.pixels.shown))
        else:
            self.pixels.redraw_all()
        saved = self._saved_history  # while corrections are hidden
        stacks = history_stacks(self.layer) if saved is None else saved.stacks
        lost = self._history.renumber(stacks or (), change.before, change.after, table)
        now = change.new_id(selected) if table is None else int(table[selected])
        self.layer.selected_label = now or 1
        self.refresh()
        return lost

    @property
    def _table(self) -> NDArray[np.uint8] | None:
        return self.edits.table if self.edits.changes_ids else None

    def shown_names(self, names: Collection[str]) -> frozenset[str]:
        """Return the classes, by name, to which classes of the model belong."""
        own = (name for name in names if name in self.edits.own.names)
        return frozenset(filter(None, map(self.edits.shown_name, own)))

    def _show_colors(self) -> None:
        classes = self.info.classes
        colors = label_colors(classes, self.hidden, self.opacities)
        if colors != self._shown_colors:
            self._shown_colors = colors
            self.layer.colormap = label_colormap(classes, self.hidden, self.opacities)

    def full_mask(self, shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the mask (h, w) at full resolution with everything painted.

        `shown` is the data of the layer. It can be called in any thread, because it only reads the
        store and the corrections.
        """
        if self.step == 1:
            return np.array(shown, np.uint8)
        # what is damaged is shown as unreadable already
        mask = self.edits.applied(self.store.read_classes(allow_damaged=True))
        if self.corrections is not None and self.shows_corrections:
            self.corrections.apply(mask)
        # what was painted in the last half second is not recorded as a correction yet
        painted = (shown != mask[:: self.step, :: self.step]) & (shown != NOT_COMPUTED)
        if painted.any():
            step = self.step
            height, width = mask.shape
            where = painted.repeat(step, 0).repeat(step, 1)[:height, :width]
            mask[where] = shown.repeat(step, 0).repeat(step, 1)[:height, :width][where]
        return mask

    def set_mpp(self, mpp: float) -> None:
        """Move the layer onto the slide after the pixel size was changed."""
        self._set_info(dataclasses.replace(self.info, mpp=mpp))
        for name, value in self.placement().items():
            setattr(self.layer, name, value)

    def _set_info(self, info: MaskInfo) -> None:
        self.info = info
        self.layer.metadata["plimseg_mask_info"] = info
        if self.corrections is not None:
            self.corrections.info = info

    def mask_pixel(self, world: NDArray[np.float64]) -> tuple[int, int] | None:
        """Return the layer pixel (row, column) at a world position, None outside."""
        row, column = np.floor(np.asarray(self.layer.world_to_data(world)) + 0.5).astype(int)
        height, width = self.layer.data.shape
        return (int(row), int(column)) if 0 <= row < height and 0 <= column < width else None


def sharing(view: MaskView) -> list[MaskView]:
    """Return all masks that share the corrections of one mask, itself included."""
    if view.corrections is None:
        return [view]
    journal = view.corrections.journal
    return [v for v in _recorded if v.corrections is not None and v.corrections.journal is journal]


def commit_shared(view: MaskView) -> list[CorrectionRecorder]:
    """Record everything painted in masks that share corrections; return their recorders."""
    recorders = [v.recorder for v in sharing(view) if v.recorder is not None]
    for recorder in recorders:
        recorder.commit_all()
    return recorders


def mask_view_of(layer: Layer | None) -> MaskView | None:
    """Return the mask that a layer shows; None for other layers and for copies of mask layers."""
    view = None if layer is None else layer.metadata.get(VIEW_KEY)
    # during the construction of a view, its layer does not exist yet
    shown = getattr(view, "layer", None) if isinstance(view, MaskView) else None
    return view if shown is not None and shown is unwrapped(layer) else None


def mask_info_of(layer: Layer | None) -> MaskInfo | None:
    """Return the description of a mask, computed or opened; None for other layers."""
    return None if layer is None else layer.metadata.get("plimseg_mask_info")


def mask_views(viewer: Viewer) -> list[MaskView]:
    """Return the masks in the viewer, lowest layer first."""
    found = (mask_view_of(layer) for layer in viewer.layers)
    return [view for view in found if view is not None]


def _corrections_of(store: MaskStore, info: MaskInfo) -> tuple[Corrections | None, str]:
    try:
        return Corrections.open(store.path.parent, info), ""
    except CorrectionsError as error:
        return None, f"{error} Until then, corrections are not saved."


def _edits_of(
    store: MaskStore, chosen: TissueClasses, before: MaskView | None
) -> tuple[ClassEdits, str]:
    """Return the edits of the classes of a mask, and what is wrong with them as a sentence."""
    own = store.info.classes
    none = ClassEdits.of(own)
    try:
        edits = store.class_edits
    except StoreError as error:
        return none, str(error)
    if edits == none:
        if before is not None and before.edits.own.names == own.names:
            edits = dataclasses.replace(before.edits, own=own)
        else:
            known = dict(zip(own.names, own.colors, strict=True))
            colors = {c.name: c.color for c in chosen if known.get(c.name, c.color) != c.color}
            edits = edits.recolored(colors) if colors else edits
        if edits != none:
            with contextlib.suppress(StoreError):  # they are shown all the same
                edits.write(store.path)
    return edits, ""


def show_tissue(viewer: Viewer, slide_layer: Image, tissue: TissueMask, name: str) -> None:
    """Show a tissue mask over its slide, in an existing layer of that name if there is one."""
    size = slide_layer.scale * tissue.downsample
    placement = {
        "scale": size,
        "translate": (size - slide_layer.scale) / 2,
        "units": slide_layer.units,
    }
    mask = tissue.mask.astype(np.uint8)
    if name in viewer.layers:
        viewer.layers[name].data = mask
        for key, value in placement.items():
            setattr(viewer.layers[name], key, value)
    else:
        owner = {"plimseg_owner": slide_layer.metadata.get("plimseg_slide")}
        viewer.add_labels(mask, name=name, opacity=0.35, metadata=owner, **placement)


def confidence_values(store: MaskStore, step: int) -> NDArray[np.uint8]:
    """Read the confidence from the store: (h, w), every `step`-th pixel; 255 = 1.

    Raises
    ------
    StoreError
        When it is damaged.
    """
    rows, columns = (slice(0, side) for side in store.info.shape)
    return store.read("confidence", rows, columns, step=step)


def shown_part(
    window: Window, values: NDArray[np.uint8], step: int
) -> tuple[slice, slice, NDArray[np.uint8]]:
    """Return rows and columns of a downsampled layer, and the tile's pixels that it shows."""
    first_row, first_column = -(-window.y // step), -(-window.x // step)
    block = values[first_row * step - window.y :: step, first_column * step - window.x :: step]
    rows = slice(first_row, first_row + block.shape[0])
    return rows, slice(first_column, first_column + block.shape[1]), block


def _scaled(part: slice, scale: float) -> slice:
    if scale == 1:
        return part
    return slice(max(0, int(part.start * scale) - 1), int(part.stop * scale) + 2)
