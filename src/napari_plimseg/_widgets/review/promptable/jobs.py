"""What stands behind the section *Hints*: who answers what was pointed at. Without Qt.

What needs torch is loaded where it is used, in the thread: the dock opens without it.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_plimseg._widgets.review.promptable.proposals import Answer, Draft, Start
from napari_plimseg.errors import ConfigError
from napari_plimseg.models import loading
from napari_plimseg.models.library import BUNDLED
from napari_plimseg.results.editing.operations import Edit
from napari_plimseg.results.editing.refinement import region_to_refine
from napari_plimseg.slides.slide import Region
from napari_plimseg.tiling import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from napari_plimseg._widgets.review.correct.painter import EditTarget
    from napari_plimseg.inference.promptable.embedding_cache import EmbeddingCache
    from napari_plimseg.inference.promptable.geometry import HintMask
    from napari_plimseg.inference.promptable.proposals import Proposal
    from napari_plimseg.inference.promptable.session import HintSession
    from napari_plimseg.results.mask_info import MaskInfo
    from napari_plimseg.slides.slide import Slide

    Work = Callable[[], Generator["str | Answer", None, None] | None]


LOADING = "Loading the model…"
LOOKING = "Looking around the hint…"
ANSWERING = "Answering…"


class PromptService:
    """Answers drafts, with one session a slide; its generators run in a thread.

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
        """Return the session of a slide; the last one is kept.

        Raises
        ------
        ModelError
            When the model can't be loaded.
        SlideError
            When the slide can't be asked.
        """
        from napari_plimseg.inference.devices import load_torch_library

        load_torch_library()
        from napari_plimseg.inference.promptable.embedding_cache import EmbeddingCache
        from napari_plimseg.inference.promptable.session import HintSession

        with self._lock:
            known, name = self._session, self.model_name
            if known is not None and known[0] is slide and known[1:3] == (pixel_size, name):
                return known[3]
            model = loading.load_promptable_model(name)
            if self._cache is None:
                self._cache = EmbeddingCache.of_user()
            made = HintSession(slide, model, self._cache, pixel_size=pixel_size)
            self._session = slide, pixel_size, name, made
            return made

    def ask(
        self, slide: Slide, pixel_size: float | None, draft: Draft
    ) -> Generator[str | Answer, None, None]:
        """Yield what is being done, and the answer.

        Raises
        ------
        PlimsegError
            When there is no answer, with what to do.
        """
        yield LOADING
        session = self.session(slide, pixel_size)
        began = time.perf_counter()
        hints = [draft.hint]
        known = session.is_prepared(hints, coarser=draft.coarser)
        yield ANSWERING if known else LOOKING
        if draft.start is None:
            mask = session.segment(hints, coarser=draft.coarser)
        else:
            mask = session.refine(hints[0], coarser=draft.coarser)
        yield Answer(draft, mask, (time.perf_counter() - began) * 1000, session.weights_name)

    def prepare(self, slide: Slide, pixel_size: float | None, start: Start) -> None:
        """Encode the surroundings of a region, so that its first hint is answered at once."""
        from napari_plimseg.inference.promptable.geometry import Hint

        y, x = start.place
        self.session(slide, pixel_size).prepare([Hint(((y, x, True),), mask=start.mask)])

    def preparation(self, target: EditTarget, typed_um: float, start: Start) -> Work:
        """Return the work that gets ready for hints on a region."""
        slide, pixel_size = _slide_of(target), assumed_pixel_um(target, typed_um)
        return lambda: self.prepare(slide, pixel_size, start)

    def ask_each(
        self, slide: Slide, pixel_size: float | None, proposals: Sequence[Proposal]
    ) -> Generator[str | Answer, None, None]:
        """Yield the answer of each proposal's box; empty ones are left out."""
        yield LOADING
        session = self.session(slide, pixel_size)
        for number, proposal in enumerate(proposals, 1):
            yield f"Object {number} of {len(proposals)}… Escape ends the search."
            began = time.perf_counter()
            draft = Draft(box=proposal.box)
            mask = session.segment([draft.hint])
            if mask.mask.any():
                took = (time.perf_counter() - began) * 1000
                yield Answer(draft, mask, took, session.weights_name)

    def find_words(
        self, slide: Slide, pixel_size: float | None, view: Region, words: str
    ) -> Generator[str | Answer, None, None]:
        """Yield an object for each region of the view that looks like what the words say."""
        from napari_plimseg.inference.promptable.proposals import propose_regions

        yield f"Looking for “{words}”…"
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
        from napari_plimseg.inference.promptable.proposals import regions_of_class

        yield "Looking at the mask…"
        found = regions_of_class(np.array(ids), where, frame, mask_id)
        yield from self.ask_each(slide, pixel_size, found)

    def question(self, target: EditTarget, typed_um: float, draft: Draft) -> Work:
        """Return the work that answers a draft; `typed_um` as `assumed_pixel_um` takes it."""
        slide, pixel_size = _slide_of(target), assumed_pixel_um(target, typed_um)
        return lambda: self.ask(slide, pixel_size, draft)

    def search(self, target: EditTarget, typed_um: float, words: str) -> Work:
        """Return the work that finds every object in view: of words, or of the chosen class.

        Raises
        ------
        ConfigError
            When there is nothing to look for, or the window shows nothing of the mask.
        """
        mask_id = int(target.layer.selected_label)
        if not words and target.info.classes.by_id(mask_id) is None:
            raise ConfigError(
                "there is nothing to look for", remedy="Choose a class first, or type words."
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
    """Return the work that finds the region of a mask at a level-0 place, to be refined."""
    mask, background = target.layer.data, target.info.classes.background_id

    def work() -> Start:
        from napari_plimseg.inference.promptable.geometry import HintMask

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


def area_text(target: EditTarget, pixels: int) -> str:
    """Return " (0.12 mm²)" for a number of pixels of a layer; "" when their size is unknown."""
    size = target.pixel_um
    return "" if size is None else f" ({pixels * (size / 1000) ** 2:.3g} mm²)"


def accepted_words(
    target: EditTarget, pixels: int, name: str, *, is_region: bool
) -> tuple[str, str]:
    """Return the kind of message and the sentence that tell how many pixels were changed."""
    if not pixels:
        return "info", "Nothing changes: it is that class already, or protected."
    count, area = f"{pixels:,} pixels", area_text(target, pixels)
    if is_region:
        return "good", f"The region of {name} has its new outline: {count} changed{area}."
    return "good", f"{count} are now {name}{area}."


def needs_pixel_size(target: EditTarget) -> bool:
    """Whether neither the slide nor the mask knows how large a pixel is."""
    return target.slide is not None and not target.slide.mpp and not target.info.mpp


def assumed_pixel_um(target: EditTarget, typed: float) -> float | None:
    """Return micrometres per level-0 pixel where the slide does not say; 0 typed is unknown."""
    if target.slide is not None and target.slide.mpp:
        return None
    return target.info.mpp or typed or None


def level_0_of(target: EditTarget, y: float, x: float) -> tuple[float, float]:
    """Return the level-0 place of a place in a layer; napari counts from a pixel's centre."""
    top, left = target.origin
    return (y + top + 0.5) * target.downsample, (x + left + 0.5) * target.downsample


def pixel_of(target: EditTarget, y: float, x: float) -> tuple[float, float]:
    """Return the place in a layer of a level-0 place."""
    top, left = target.origin
    return y / target.downsample - top - 0.5, x / target.downsample - left - 0.5


def visible_window(target: EditTarget) -> Window:
    """Return the pixels of a layer that the window shows.

    Raises
    ------
    ConfigError
        When it shows nothing of it.
    """
    low, high = np.asarray(target.layer.corner_pixels)[:, -2:]
    low = np.maximum(low, 0)
    high = np.minimum(high + 1, target.layer.data.shape)
    height, width = (int(n) for n in high - low)
    if height < 2 or width < 2:
        raise ConfigError("the window shows nothing of the mask", remedy="Move it over the tissue.")
    return Window(int(low[0]), int(low[1]), height, width)


def region_of(target: EditTarget, where: Window) -> Region:
    """Return the level-0 pixels of a window of a layer."""
    y, x = level_0_of(target, where.y - 0.5, where.x - 0.5)
    scale = target.downsample
    return Region(y, x, where.height * scale, where.width * scale)


def pixels_inside(
    target: EditTarget, masks: Sequence[HintMask], *, around: Sequence[HintMask] = ()
) -> tuple[int, int, NDArray[np.bool_]]:
    """Return top, left and which pixels (h, w) of a layer lie in any of the objects.

    The window holds these, and the objects `around`, too.
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
    """Return the edit that gives objects a class, or a region its outline, before protections."""
    top, left, inside = pixels_inside(target, masks)
    if start is not None:
        return start.region.outlined(target.layer.data, top, left, inside)
    if not inside.any():
        return Edit.nothing()
    height, width = inside.shape
    old = np.asarray(target.layer.data[top : top + height, left : left + width])
    new = np.broadcast_to(np.uint8(mask_id), inside.shape)
    return Edit.between(top, left, old, new, inside).cropped()
