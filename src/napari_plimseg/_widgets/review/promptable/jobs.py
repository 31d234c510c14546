"""The work behind *Smart select*: answering drafts, searching the view, making edits. No Qt.

Modules that need torch are imported in the thread that uses them, so that the dock opens quickly.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg import models
from napari_plimseg._widgets.review.messages import MOVE_VIEW, OFF_VIEW
from napari_plimseg._widgets.review.promptable.proposals import Answer, PromptDraft, Start
from napari_plimseg.errors import ConfigError
from napari_plimseg.models import BUNDLED
from napari_plimseg.results import Edit, region_to_refine
from napari_plimseg.slides import Region
from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from napari_plimseg._widgets.review.correct import EditTarget
    from napari_plimseg.inference import EmbeddingCache, HintMask, HintSession, Proposal
    from napari_plimseg.results import MaskInfo
    from napari_plimseg.slides import Slide

    Work = Callable[[], Generator["str | Answer", None, None] | None]


LOADING = "Loading the model…"
ENCODING = "Encoding the surroundings…"
ANSWERING = "Finding the object…"


class PromptService:
    """Answers drafts, with one session per slide; its methods run in a thread.

    Parameters
    ----------
    model_name : str
        For `load_promptable_model`.
    """

    def __init__(self, model_name: str = BUNDLED) -> None:
        self.model_name = model_name
        self._cache: EmbeddingCache | None = None
        self._session: tuple[Slide, float | None, str, HintSession] | None = None
        self._lock = threading.Lock()

    def session(self, slide: Slide, pixel_size: float | None) -> HintSession:
        """Return the session of a slide; the last one is cached.

        Raises
        ------
        ModelError
            When the model can't be loaded.
        SlideError
            When the slide can't be used.
        """
        from napari_plimseg.inference import load_torch_library

        load_torch_library()
        from napari_plimseg.inference import EmbeddingCache, HintSession

        with self._lock:
            known, name = self._session, self.model_name
            if known is not None and known[0] is slide and known[1:3] == (pixel_size, name):
                return known[3]
            model = models.load_promptable_model(name)
            if self._cache is None:
                self._cache = EmbeddingCache.of_user()
            made = HintSession(slide, model, self._cache, pixel_size=pixel_size)
            self._session = slide, pixel_size, name, made
            return made

    def ask(
        self, slide: Slide, pixel_size: float | None, draft: PromptDraft
    ) -> Generator[str | Answer, None, None]:
        """Yield progress texts, then the answer.

        Raises
        ------
        PlimsegError
            When there is no answer; the message says what to do.
        """
        yield LOADING
        session = self.session(slide, pixel_size)
        began = time.perf_counter()
        hints = [draft.hint]
        known = session.is_prepared(hints, coarser=draft.coarser)
        yield ANSWERING if known else ENCODING
        if draft.start is None:
            mask = session.segment(hints, coarser=draft.coarser)
        else:
            mask = session.refine(hints[0], coarser=draft.coarser)
        yield Answer(draft, mask, (time.perf_counter() - began) * 1000, session.weights_name)

    def prepare(self, slide: Slide, pixel_size: float | None, start: Start) -> None:
        """Encode the surroundings of a region, so that its first point is answered quickly."""
        from napari_plimseg.inference import Hint

        y, x = start.place
        self.session(slide, pixel_size).prepare([Hint(((y, x, True),), mask=start.mask)])

    def preparation(self, target: EditTarget, typed_um: float, start: Start) -> Work:
        """Return the work of `prepare`."""
        slide, pixel_size = _slide_of(target), assumed_pixel_um(target, typed_um)
        return lambda: self.prepare(slide, pixel_size, start)

    def ask_each(
        self, slide: Slide, pixel_size: float | None, proposals: Sequence[Proposal]
    ) -> Generator[str | Answer, None, None]:
        """Yield the answer for each proposal's box, without empty answers."""
        yield LOADING
        session = self.session(slide, pixel_size)
        for number, proposal in enumerate(proposals, 1):
            yield f"Object {number} of {len(proposals)}… Press Esc to stop."
            began = time.perf_counter()
            draft = PromptDraft(box=proposal.box)
            mask = session.segment([draft.hint])
            if mask.mask.any():
                took = (time.perf_counter() - began) * 1000
                yield Answer(draft, mask, took, session.weights_name)

    def find_words(
        self, slide: Slide, pixel_size: float | None, view: Region, words: str
    ) -> Generator[str | Answer, None, None]:
        """Yield an object for each region of the view that matches the words."""
        from napari_plimseg.inference import propose_regions

        yield f"Searching for “{words}”…"
        yield from self.ask_each(
            slide, pixel_size, propose_regions(slide, view, words, pixel_size=pixel_size)
        )

    def find_class(
        self,
        slide: Slide,
        pixel_size: float | None,
        ids: NDArray[np.uint8],
        where: Window,
        frame: MaskInfo,
        mask_id: int,
    ) -> Generator[str | Answer, None, None]:
        """Yield an object for each region of a class in a window of a mask's frame.

        Parameters are those of `regions_of_class`, with the slide first.
        """
        from napari_plimseg.inference import regions_of_class

        yield "Reading the mask…"
        found = regions_of_class(np.array(ids), where, frame, mask_id)
        yield from self.ask_each(slide, pixel_size, found)

    def question(self, target: EditTarget, typed_um: float, draft: PromptDraft) -> Work:
        """Return the work of `ask`; for `typed_um` see `assumed_pixel_um`."""
        slide, pixel_size = _slide_of(target), assumed_pixel_um(target, typed_um)
        return lambda: self.ask(slide, pixel_size, draft)

    def search(self, target: EditTarget, typed_um: float, words: str) -> Work:
        """Return the work that finds every object in view: of words, or of the selected class.

        Raises
        ------
        ConfigError
            When neither words nor a class are given, or the mask is outside the view.
        """
        mask_id = int(target.layer.selected_label)
        if not words and target.info.classes.by_id(mask_id) is None:
            raise ConfigError(
                "there is nothing to search for", remedy="Select a class first, or type words."
            )
        slide, pixel_size = _slide_of(target), assumed_pixel_um(target, typed_um)
        where = visible_window(target)
        if words:
            view = region_of(target, where)
            return lambda: self.find_words(slide, pixel_size, view, words)
        (y, x), frame = target.origin, replace(target.info, downsample=target.downsample)
        placed = Window(where.y + y, where.x + x, where.height, where.width)
        ids = target.layer.data[where.slices]
        return lambda: self.find_class(slide, pixel_size, ids, placed, frame, mask_id)


def region_search(target: EditTarget, y: float, x: float) -> Callable[[], Start]:
    """Return the work that finds the region of a mask at a level-0 place, to refine it."""
    mask, background = target.layer.data, target.info.classes.background_id

    def work() -> Start:
        from napari_plimseg.inference import HintMask

        row, column = (round(v) for v in pixel_of(target, y, x))
        region = region_to_refine(
            mask, row, column, model=target.model_output, background=background
        )
        part, (top, left) = region.part, target.origin
        on_slide = HintMask(part.top + top, part.left + left, target.downsample, part.inside, 1.0)
        return Start(region, on_slide, (y, x))

    return work


def _slide_of(target: EditTarget) -> Slide:
    if target.slide is None:
        raise ConfigError("the slide of this mask is not open", remedy="Open it first.")
    return target.slide


def accepted_message(
    target: EditTarget, pixels: int, name: str, *, is_region: bool
) -> tuple[str, str]:
    """Return kind and text of the message after `pixels` of a layer were changed."""
    if not pixels:
        return "info", "No change: these pixels have that class, or are protected."
    area = target.area_text(pixels)
    if is_region:
        return "good", f"Outline of {name} updated: {area} changed."
    return "good", f"{area} set to {name}."


def needs_pixel_size(target: EditTarget) -> bool:
    """Whether the pixel size is unknown to the slide and to the mask."""
    return target.slide is not None and not target.slide.mpp and not target.info.mpp


def assumed_pixel_um(target: EditTarget, typed: float) -> float | None:
    """Return µm per level-0 pixel to use for a slide of unknown pixel size, None for others.

    Parameters
    ----------
    target : EditTarget
    typed : float
        What the user entered; 0 is unknown.
    """
    if target.slide is not None and target.slide.mpp:
        return None
    return target.info.mpp or typed or None


def level_0_of(target: EditTarget, y: float, x: float) -> tuple[float, float]:
    """Return the level-0 place of a place in a layer, whose origin is the center of a pixel."""
    top, left = target.origin
    return (y + top + 0.5) * target.downsample, (x + left + 0.5) * target.downsample


def pixel_of(target: EditTarget, y: float, x: float) -> tuple[float, float]:
    """Return the place in a layer of a level-0 place; the inverse of `level_0_of`."""
    top, left = target.origin
    return y / target.downsample - top - 0.5, x / target.downsample - left - 0.5


def is_on_layer(target: EditTarget, y: float, x: float) -> bool:
    """Whether a level-0 place is on the layer."""
    inside = (
        0 <= round(place) < side
        for place, side in zip(pixel_of(target, y, x), target.layer.data.shape, strict=True)
    )
    return all(inside)


def visible_window(target: EditTarget) -> Window:
    """Return the part of a layer that is in view.

    Raises
    ------
    ConfigError
        When nothing of it is in view.
    """
    low, high = np.asarray(target.layer.corner_pixels)[:, -2:]
    low = np.maximum(low, 0)
    high = np.minimum(high + 1, target.layer.data.shape)
    height, width = (int(n) for n in high - low)
    if height < 2 or width < 2:
        raise ConfigError(OFF_VIEW, remedy=MOVE_VIEW)
    return Window(int(low[0]), int(low[1]), height, width)


def region_of(target: EditTarget, where: Window) -> Region:
    """Return the level-0 pixels of a window of a layer."""
    y, x = level_0_of(target, where.y - 0.5, where.x - 0.5)
    scale = target.downsample
    return Region(y, x, where.height * scale, where.width * scale)


def pixels_inside(
    target: EditTarget, masks: Sequence[HintMask], *, around: Sequence[HintMask] = ()
) -> tuple[int, int, NDArray[np.bool_]]:
    """Return top, left and the pixels (h, w) of a layer inside any of the objects `masks`.

    The returned window also encloses the objects `around`.
    """
    shape, scale = target.layer.data.shape, target.downsample
    windows = []
    for mask in (*masks, *around):
        box = mask.bounding_box
        if box is None:
            continue
        spans = []
        for start, length, origin, side in zip(
            (box.y, box.x), (box.height, box.width), target.origin, shape, strict=True
        ):
            first = min(side, max(0, math.floor(start / scale) - origin))
            spans.append(
                (first, max(first, min(side, math.ceil((start + length) / scale) - origin)))
            )
        windows.append((spans, mask))
    if not windows:
        return 0, 0, np.zeros((0, 0), np.bool_)
    top, left = (min(spans[axis][0] for spans, _ in windows) for axis in (0, 1))
    bottom, right = (max(spans[axis][1] for spans, _ in windows) for axis in (0, 1))
    inside = np.zeros((bottom - top, right - left), np.bool_)
    for ((y0, y1), (x0, x1)), mask in windows:
        if not any(mask is one for one in masks):
            continue
        ys, xs = (
            (np.arange(*span) + origin + 0.5) * scale
            for span, origin in zip(((y0, y1), (x0, x1)), target.origin, strict=True)
        )
        inside[y0 - top : y1 - top, x0 - left : x1 - left] |= mask.at(ys, xs)
    return top, left, inside


def edit_of(
    target: EditTarget, masks: Sequence[HintMask], mask_id: int, start: Start | None = None
) -> Edit:
    """Return the edit that sets objects to a class, or gives a region its new outline.

    Protected classes and the tissue limit are applied later, by the painter.
    """
    top, left, inside = pixels_inside(target, masks)
    if start is not None:
        return start.region.outlined(target.layer.data, top, left, inside)
    if not inside.any():
        return Edit.nothing()
    height, width = inside.shape
    old = np.asarray(target.layer.data[top : top + height, left : left + width])
    new = np.broadcast_to(np.uint8(mask_id), inside.shape)
    return Edit.between(top, left, old, new, inside).cropped()
